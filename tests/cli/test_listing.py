"""`purerl list`: what has a name."""

import json

import pytest
from tiny import tiny

import purerl
from purerl import registry
from purerl.cli.main import command
from purerl.presets import preset_names

MUTANTS = {
    "any word will do": (
        "cli/listing.py",
        "if all(word.lower()",
        "if any(word.lower()",
        "test_words_are_searched",
    ),
    "names alone are searched": (
        "cli/listing.py",
        '" ".join(line).lower()',
        "line[0].lower()",
        "test_words_are_searched",
    ),
    "a damaged run ends the list": (
        "cli/listing.py",
        "except (ConfigError, DamagedFile, OSError) as error:",
        "except KeyError as error:",
        "test_runs_are_listed",
    ),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def listed(capsys, *words):
    assert command(["list", *words]) == 0
    return capsys.readouterr().out


def test_everything_with_a_name_is_listed(capsys):
    """With a line of its own, not empty."""
    text = listed(capsys)
    for name in [*registry.ALGORITHMS, *registry.ENVIRONMENTS, *preset_names(), "gym:ID"]:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) > 2
    assert [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")] == [
        "algorithms:",
        "environments:",
        "presets:",
    ]


def test_words_are_searched(capsys):
    """In names and descriptions, each of them."""
    names = [line.split()[0] for line in listed(capsys, "environments", "pole", "RAIL").splitlines()[1:]]
    assert names == ["inverted_pendulum"]
    assert command(["list", "halfcheetah_"]) == 2
    assert "Did you mean half_cheetah?" in capsys.readouterr().err


def test_runs_are_listed(tmp_path, capsys):
    """Below a directory at any depth; one that is damaged is said to be."""
    assert "no run in runs" in listed(capsys, "runs")
    purerl.run(tiny("a2c", eval_interval=0), 2, tmp_path / "runs" / "deep" / "one", progress=False)
    (tmp_path / "runs" / "two").mkdir()
    (tmp_path / "runs" / "two" / "run.json").write_text("{")
    text = listed(capsys, "runs")
    assert "runs/deep/one  a2c on cartpole, 2 members, return " in text and "cannot be read: " in text
    assert "two" not in listed(capsys, "runs", "a2c") and "one" in listed(
        capsys, "runs", "--data-dir", "runs/deep"
    )


@pytest.mark.parametrize("words", [["--dat", "x"], ["runs", "-q"], ["--data-dir"]])
def test_an_unknown_option_is_refused(words, capsys):
    assert command(["list", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_own_names_are_listed(capsys, monkeypatch):
    monkeypatch.setitem(registry.OWN_ENVIRONMENTS, "mine", lambda: None)
    monkeypatch.setitem(registry.OWN_ENVIRONMENTS, "yours", "my_module:make")
    text = listed(capsys, "environments", "registered")
    assert "mine   registered by this process" in text and "yours  registered as my_module:make" in text
    assert json.dumps(text)
