"""The speed of two revisions: calls in pairs, and an end that is reported."""

import subprocess
import sys

import pytest
import same_speed


@pytest.fixture
def serving(monkeypatch):
    """`serving(here, there)`: two servers that say `ready`, and then the values of these expressions."""

    def serve(here, there):
        def start(script, checkout, *arguments):
            answers = {"here": here, "there": there}[checkout]
            code = f"print('ready', flush=True)\nfor i, _ in enumerate(open(0)): print({answers}, flush=True)"
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)

        monkeypatch.setattr(same_speed.revisions, "start", start)
        return same_speed.compare("ppo-cartpole", 8, 5, {"here": "here", "there": "there"})

    return serve


def test_ratios_are_of_pairs_and_of_the_fastest_calls(serving):
    """Above 1 where this checkout is faster."""
    row = serving("[2, 4, 8, 4, 2][i]", "[3, 6, 4, 6, 3][i]")
    assert (row["median ratio"], row["ratio of fastest"]) == (1.5, 1.5)
    assert row["seconds"] == {"here": [2, 4, 8, 4, 2], "there": [3, 6, 4, 6, 3]}
    assert serving("2 + i", "1")["median ratio"] == 0.25


def test_a_server_that_ends_is_an_error(serving):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        serving("1", "1 / (1 - i)")
