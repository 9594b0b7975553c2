"""How much memory the machine can still give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax


def available_bytes(
    device: Any = None, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that JAX can still have on `device`, or on its default device; None if nobody says.

    On a host: what the system has free, less where a control group or `ulimit -v` allows less.
    """
    device = device or jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None or isinstance(device, str):
        device = jax.local_devices(backend=device)[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    known = [*_system_bytes(proc), *_cgroup_bytes(proc, cgroups), *_address_bytes(proc)]
    return max(0, min(known)) if known else None


def _system_bytes(proc: Path) -> Iterator[int]:
    """What the system can give without swapping, or all that it has."""
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
            return
    try:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has it
        return


def _cgroup_bytes(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each control group that this process is in can still give, by version 2 or 1 of the interface."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = cgroups / controllers
            inside = root / path.strip("/")
            names = ("memory.max", "memory.current", "inactive_file")
            if controllers:
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            # A container may see its own group as the root, and still be told its path outside.
            for group in {root, inside, *inside.parents} - {*root.parents}:
                yield from _group_bytes(group, *names)


def _group_bytes(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    """The limit of one control group, less what it uses; its file cache can be had back."""
    values = [line for name in (limit, usage) for line in _lines(group / name)]
    if len(values) == 2 and values[0] != "max":
        stat = dict(line.split() for line in _lines(group / "memory.stat"))
        yield int(values[0]) - int(values[1]) + int(stat.get(reclaimable, 0))


def _address_bytes(proc: Path) -> Iterator[int]:
    """What the limit on this process's address space leaves."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    for line in _lines(proc / "self" / "statm"):
        if limit != resource.RLIM_INFINITY:
            yield limit - int(line.split()[0]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    """The lines of a file, none if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
