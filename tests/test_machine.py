"""Memory that the machine can still give, and sizes in words."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from purerl.experiment.memory import tree_bytes
from purerl.machine import available_bytes, format_bytes

GB, MB = 10**9, 10**6


@pytest.fixture
def machine(tmp_path):
    """Return `available_bytes` of a host with 10 GB free, of which more files can be written."""

    def read(**files):
        for name, text in ({"proc/meminfo": "MemFree: 1 kB\nMemAvailable: 10000000 kB\n"} | files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return available_bytes(tmp_path / "proc", tmp_path / "cgroup")

    return read


@pytest.mark.parametrize("where", ["", "a/", "a/b/"])
def test_available_in_a_control_group(where, machine):
    """The group itself, one above it, or the root that a container sees; never less than 0."""
    stat = "anon 7\ninactive_file 500000000\nactive_file 3\n"
    limits = {"memory.max": "4000000000\n", "memory.current": "1500000000\n", "memory.stat": stat}
    assert machine() == 10_240_000_000
    group = {"proc/self/cgroup": "12:cpu:/\n0::/a/b\n"}
    assert machine(**group, **{f"cgroup/{where}{name}": text for name, text in limits.items()}) == 3 * GB
    assert machine(**{f"cgroup/{where}memory.max": "1000\n"}) == 0
    assert machine(**{f"cgroup/{where}memory.max": "max\n"}) == 10_240_000_000


def test_available_here_and_without_proc(tmp_path):
    assert 100 * MB < available_bytes() < 10**15
    assert available_bytes(tmp_path, tmp_path) is None


def test_available_on_several_accelerators(monkeypatch):
    gpu = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 10 * GB, "bytes_in_use": GB})
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu, gpu])
    assert [available_bytes(devices=n) for n in (1, 2)] == [9 * GB, 18 * GB]


def test_sizes_are_decimal():
    sizes = [0, 999, 1_000, 9_990, 999_900, 58_400_000, 7_020_000_000, 12_345e12]
    texts = ["0 B", "999 B", "1.0 kB", "10 kB", "1.0 MB", "58 MB", "7.0 GB", "12,345.0 TB"]
    assert [format_bytes(size) for size in sizes] == texts
    assert tree_bytes((jax.random.split(jax.random.key(0), 3), jnp.zeros((2, 5)))) == 24 + 40
