"""The benchmark of throughput runs, its arithmetic is what it says, and its parts do the whole's work."""

import importlib
import json
import statistics
from pathlib import Path

import chex
import jax
import pytest

import purerl

TINY = purerl.make_config(
    "ppo", env="cartpole", num_steps=16, num_epochs=2, num_minibatches=4, log_interval=128, hidden_sizes=(8,)
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The JSON of a short run on two seeds, and what it ran: compiled once for all tests."""
    out, benches = tmp_path_factory.mktemp("throughput") / "out.json", []
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        throughput = importlib.import_module("throughput")
        bench = throughput.Bench
        patch.setattr(throughput, "Bench", lambda *args: benches.append(bench(*args)) or benches[-1])
        patch.setattr(throughput, "config_of", lambda case: TINY)
        jax.config.update("jax_disable_most_optimizations", True)  # nothing here depends on the speed
        try:
            throughput.main(f"--cases ppo-cartpole --seeds 2 --turns 2 --seconds 0.01 --out {out}".split())
        finally:
            jax.config.update("jax_disable_most_optimizations", False)
    return json.loads(out.read_text()), benches[0]


def test_the_overhead_is_the_whole_over_its_parts(measured):
    """Recomputed from the seconds in the JSON, turn by turn."""
    report, _ = measured
    assert report["command"].startswith("python benchmarks/throughput.py --cases ppo-cartpole --seeds 2")
    (entry,) = report["entries"]
    parts = entry["parts"]
    turns = [parts[part]["seconds_of_turns"] for part in ("whole", "rollout", "update")]
    overheads = [whole / (rollout + update) for whole, rollout, update in zip(*turns, strict=True)]
    assert entry["overhead_of_turns"] == pytest.approx(overheads, abs=1e-3) and len(overheads) == 2
    assert entry["overhead"] == pytest.approx(statistics.median(overheads), abs=1e-3)
    assert entry["environment_steps_per_iteration"] == 2 * 8 * 16 and entry["iterations_per_call"] == 1
    for part in parts.values():
        rate = entry["environment_steps_per_iteration"] / part["seconds_per_iteration"]
        assert part["steps_per_second"] == pytest.approx(rate, rel=1e-3) and part["compile_seconds"] > 0
    assert purerl.make_config(**entry["config"]) == TINY


def test_the_parts_do_the_work_of_the_whole(measured):
    """From the same state, one rollout and one update end where one iteration of the whole ends."""
    _, bench = measured
    bench.copy_state()
    bench.rollout()
    bench.update()
    bench.whole()
    parts, whole = (bench.learned, *bench.sims["rollout"]), (bench.state.algo, *bench.state[1:3])
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-6)
