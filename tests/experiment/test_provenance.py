"""Facts about the process that trains, in each member's config.json."""

import json
import subprocess

import jax
import pytest
from tiny import tiny

import purerl
from purerl.cli.configure import parse
from purerl.experiment.provenance import git_revision, provenance

MUTANTS = {
    "packed references are missed": (
        "experiment/provenance.py",
        'if line.endswith(f" {name}"):',
        "if False:",
        "test_the_commit_is_that_of_git[packed]",
    ),
    "any text is a commit": (
        "experiment/provenance.py",
        'return text if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) else None',
        "return text",
        "test_what_is_no_repository_has_no_commit",
    ),
    "config.json is no config": (
        "config_file.py",
        '"matmul_precision", "git_revision"',
        '"git_revision"',
        "test_a_config_json_says_how_it_was_made",
    ),
}


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    (folder / "below").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


@pytest.mark.parametrize("how", ["loose", "packed", "detached", "worktree", "below"])
def test_the_commit_is_that_of_git(how, repository, tmp_path):
    """Of a branch whose reference is a file or packed, of none, of a worktree, and from a folder below."""
    commit, place = git(repository, "rev-parse", "HEAD"), repository
    if how == "packed":
        git(repository, "pack-refs", "--all")
        assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    if how == "detached":
        git(repository, "checkout", "-q", "--detach")
    if how == "worktree":
        place = tmp_path / "other"
        git(repository, "worktree", "add", "-q", "-b", "topic", str(place))
        git(place, "commit", "-q", "--allow-empty", "-m", "second")
        commit = git(place, "rev-parse", "HEAD")
    assert git_revision(place / "below" if how == "below" else place) == commit


def test_what_is_no_repository_has_no_commit(tmp_path):
    assert git_revision(tmp_path) is None
    (tmp_path / ".git").mkdir()
    for head in ("", "ref: refs/heads/none", "not a commit", "ref: ../../../etc/passwd"):
        (tmp_path / ".git" / "HEAD").write_text(head)
        assert git_revision(tmp_path) is None
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert git_revision(tmp_path) is None


def test_a_config_json_says_how_it_was_made(tmp_path, monkeypatch, repository):
    """Versions, device, flags, precision and commit; and it can be given back as --config."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv("JAX_DEFAULT_PRNG_IMPL", "threefry2x32")
    cfg = tiny("a2c", total_timesteps=16)
    purerl.run(cfg, 1, tmp_path / "run", progress=False)
    path = tmp_path / "run" / "seed0" / "config.json"
    found = json.loads(path.read_text())
    assert found | provenance() == found and found["git_revision"] == git(repository, "rev-parse", "HEAD")
    assert found["versions"]["jax"] == jax.__version__ and found["device"].startswith("cpu")
    assert found["flags"]["JAX_DEFAULT_PRNG_IMPL"] == "threefry2x32" and "matmul_precision" in found
    assert parse(["--config", str(path)])[1] == cfg
