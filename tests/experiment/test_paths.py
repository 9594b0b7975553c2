"""Paths of users: `~` is the home directory, in Python and on a command line."""

import jax
import pytest
from lab import go, step_of

import purerl
from purerl.cli import compilation_cache, configure
from purerl.config import ConfigError
from purerl.user_paths import user_path

MUTANTS = {
    "a directory named ~": (
        "user_paths.py",
        ".expanduser()",
        "",
        "test_a_run_is_in_the_home_directory",
    ),
    "load reads ~": (
        "experiment/loading.py",
        'user_path("run_dir", run_dir)\n    for name',
        '__import__("pathlib").Path(run_dir)\n    for name',
        "test_a_run_is_in_the_home_directory",
    ),
    "--config reads ~": (
        "cli/configure.py",
        'user_path("config", options.config)',
        "__import__('pathlib').Path(options.config)",
        "test_a_command_reads_from_the_home_directory",
    ),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home directory; the working directory is in it."""
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path
    assert not list((tmp_path / "work").iterdir())


def test_a_run_is_in_the_home_directory(home, finished):
    """To load and to resume; a new one is begun there."""
    finished("sac-1").rename(home / "one")
    assert purerl.load("~/one")[0].algo == "sac"
    assert go("sac-1", "~/one", resume=True).logdir == home / "one" and step_of(home / "one") >= 520


def test_a_command_reads_from_the_home_directory(home, monkeypatch):
    (home / "mine.json").write_text('{"gamma": 0.5}')
    assert configure.parse(["--config", "~/mine.json"])[1].gamma == 0.5
    read, changes = [], {}
    record = {"seeds": 1, "first_seed": 0, "config": {"algo": "ppo"}}
    monkeypatch.setattr(configure, "read_record", lambda path: read.append(path) or record)
    configure.parse(["--resume", "~/one"])
    monkeypatch.setattr(jax.config, "update", changes.__setitem__)
    compilation_cache.use_compilation_cache("~/cache")
    assert read == [home / "one"] and changes["jax_compilation_cache_dir"] == str(home / "cache")


@pytest.mark.parametrize("path", ["~no-such-user/x", "~a\0b/x", 3])
def test_a_path_without_a_place_is_an_error(path):
    for field, use in {
        "run_dir": lambda: purerl.load(path),
        "logdir": lambda: purerl.run(purerl.make_config("ppo"), logdir=path),
        "config": lambda: user_path("config", path),
    }.items():
        with pytest.raises(ConfigError, match="expected the path of a file or directory") as caught:
            use()
        assert caught.value.field == field and str(caught.value).isprintable()
