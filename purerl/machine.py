"""Memory that the machine can still give, and sizes in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax


def available_bytes(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup"), devices: int = 1
) -> int | None:
    """Return the bytes that JAX can still have on its default device, or as many like it; None if unknown."""
    device: Any = jax.config.jax_default_device or jax.local_devices()[0]  # type: ignore[attr-defined]
    device = jax.local_devices(backend=device)[0] if isinstance(device, str) else device
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        free = stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
        return None if free is None else free * devices
    return min(_host_bytes(proc, cgroups), default=None)


def _host_bytes(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield what the system can give without swapping, and what every control group leaves."""
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    for line in _lines(proc / "self" / "cgroup"):
        group = cgroups / line.rsplit(":", 1)[-1].strip("/")
        for path in {group, cgroups, *group.parents} - {*cgroups.parents}:  # a container may be its own root
            limit, used = _lines(path / "memory.max"), _lines(path / "memory.current")
            if limit and used and limit[0] != "max":
                stat = dict(line.split() for line in _lines(path / "memory.stat"))
                yield max(0, int(limit[0]) - int(used[0]) + int(stat.get("inactive_file", 0)))


def _lines(path: Path) -> list[str]:
    """Return the lines of a file, none if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def format_bytes(size: float) -> str:
    """Return `size` in decimal units: "7.0 GB" is 7,000,000,000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.1f} {unit}" if 0 < size < 9.95 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
