"""The benchmark beside flashbax: it runs, its ratios are those of turns, and its page has its numbers."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "results" / "replay_speed.json"


@pytest.fixture
def replay_speed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import replay_speed

    return replay_speed


@pytest.mark.parametrize("prioritised", [False, True])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_program_carries_its_buffer_on(replay_speed, monkeypatch, prioritised, seeds):
    """It is full before the first measurement, and each call goes on from the last."""
    monkeypatch.setitem(replay_speed.CASES, "tiny", (prioritised, seeds, 300))
    monkeypatch.setattr(replay_speed, "ITERATIONS", 7 * seeds)
    program = replay_speed.Program("purerl", "tiny")
    (state, (rows, index, weight)) = program.carry
    heads = [state.head.ravel().tolist()]
    assert (state.size == 300).all()
    assert index.shape == weight.shape == rows["reward"].shape == (256,) if seeds == 1 else (2, 256)
    assert all(seconds > 0 for seconds in program.seconds())
    heads.append(program.carry[0].head.ravel().tolist())
    assert heads == [[7] * seeds, [14] * seeds]


def test_ratios_are_medians_over_turns(replay_speed, monkeypatch):
    """Above 1 where purerl is faster."""
    micro = {"purerl": [[2, 1], [4, 1], [8, 1]], "other": [[3, 3], [8, 2], [9, 4]]}

    class Child:
        versions = None

        def __init__(self, python, library, case, weighted):
            self.left = [(1e-6 * wall, 1e-6 * cpu) for wall, cpu in micro[library]]

        def seconds(self):
            return self.left.pop(0)

        def close(self):
            assert not self.left

    monkeypatch.setattr(replay_speed, "Child", Child)
    entry = replay_speed.measure("uniform, 1 seed", 3, dict.fromkeys(micro, sys.executable))
    assert entry["microseconds"] == {"purerl": 4.0, "other": 8.0}
    assert entry["over_purerl"] == {"other": 1.5} and entry["over_purerl_in_cpu_seconds"] == {"other": 3.0}


def test_the_page_has_the_numbers_of_the_record():
    text = (ROOT / "docs" / "replay.md").read_text("utf-8")
    record = json.loads(RECORD.read_text("utf-8"))
    assert record["command"] in text
    for entry in record["results"]:
        times, ratios = entry["microseconds"], entry["over_purerl"]
        cells = [f"{times[name]:,.0f} ({ratio:.2f})" for name, ratio in ratios.items()]
        assert f"| {' | '.join([entry['case'], format(times['purerl'], ',.0f'), *cells])} |\n" in text
