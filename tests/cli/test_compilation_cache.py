"""The persistent compilation cache: what one process compiled, the next one need not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from purerl.experiment import cache

REPOSITORY = Path(__file__).parents[2]
COUNT = """
import json, sys
import jax
hits = {"compiled": 0, "found": 0}
def count(event, **_):
    hits["found"] += event == "/jax/compilation_cache/cache_hits"
    hits["compiled"] += event == "/jax/compilation_cache/cache_misses"
jax.monitoring.register_event_listener(count)
from purerl.experiment import cli
assert cli.train(sys.argv[1:]) == 0
print(json.dumps(hits))
"""
TINY = "--algo sac --env half_cheetah --total-timesteps 60 --learning-starts 40 --log-interval 20"
TINY += " --eval-interval 0 --hidden-sizes 8 --batch-size 4 --quiet"


@pytest.fixture
def settings():
    """Leave JAX's own settings as they were."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield lambda: getattr(jax.config, names[0])
    for name, value in before.items():
        jax.config.update(name, value)


def start(tmp_path: Path, run: str, *options: str) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    if not options:
        options = ("--compilation-cache", str(tmp_path / "cache"))
    arguments = [*TINY.split(), "--logdir", str(tmp_path / run), *options]
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_second_process_compiles_nothing(tmp_path):
    """No program may hold an address, a counter or anything else of its process, the engine included."""
    first = start(tmp_path, "one")
    assert first["compiled"] >= 4
    files = {path.name for path in (tmp_path / "cache").iterdir() if "atime" not in path.name}
    second = start(tmp_path, "two")
    assert second["compiled"] == 0 and second["found"] >= 4
    assert {path.name for path in (tmp_path / "cache").iterdir() if "atime" not in path.name} == files


def test_it_can_be_switched_off_and_be_elsewhere(tmp_path, monkeypatch, settings):
    """`none` keeps nothing; a user's own JAX_COMPILATION_CACHE_DIR is respected; a folder is taken."""
    before = settings()
    cache.use_compilation_cache("none")
    assert settings() == before
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "theirs"))
    cache.use_compilation_cache("auto")
    assert settings() == before
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.use_compilation_cache("auto")
    assert Path(settings()).parent == tmp_path / "purerl" / "xla"
    cache.use_compilation_cache(str(tmp_path / "ours"))
    assert settings() == str(tmp_path / "ours")


def test_each_kind_of_processor_has_its_own(monkeypatch):
    """Code for one processor can be illegal on another that shares the home directory."""
    here = cache._default()
    assert here == cache._default()
    monkeypatch.setattr(cache, "_processor", lambda: "another")
    assert cache._default() != here
