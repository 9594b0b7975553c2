"""The benchmark of throughput: it runs, its arithmetic, its parts against the whole, stand-ins as peers."""

import dataclasses
import importlib
import json
import statistics
from pathlib import Path

import chex
import jax
import pytest

import purerl

TINY = purerl.make_config(
    "ppo",
    env="cartpole",
    total_timesteps=1280,
    num_steps=16,
    num_epochs=2,
    num_minibatches=4,
    log_interval=128,
    hidden_sizes=(8,),
)


@pytest.fixture(scope="module")
def throughput():
    """The benchmark's module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        yield importlib.import_module("throughput")


def stand_in(folder: Path) -> Path:
    """Return an interpreter whose rate is the number of steps that it gets, with lines of its own."""
    path = folder / "python"
    path.write_text(
        '#!/bin/sh\necho hello\necho \'answer {"it": "1.0"}\'\n'
        "while read -r steps; do echo training; echo answer $steps; done\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def measured(throughput, tmp_path_factory):
    """The JSON of a short run on two seeds, and what it ran: compiled once for all tests."""
    folder, benches = tmp_path_factory.mktemp("throughput"), []
    words = "--cases ppo-cartpole --seeds 2 --turns 2 --seconds 0.01"
    words += f" --purejaxrl-python {stand_in(folder)} --out {folder / 'out.json'}"
    with pytest.MonkeyPatch.context() as patch:
        bench, fields = throughput.Bench, lambda library, cfg, seeds: {}
        patch.setattr(throughput, "Bench", lambda *args: benches.append(bench(*args)) or benches[-1])
        patch.setattr(throughput, "config_of", lambda case: TINY)
        for module in (throughput, importlib.import_module("peers")):
            patch.setattr(module, "matching_fields", fields)
        throughput.main(words.split())
    return json.loads((folder / "out.json").read_text()), benches[0]


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


def test_a_program_of_a_whole_run_is_set_against_one(throughput, measured, monkeypatch):
    """Not against calls of one row each; with a rate of every turn."""
    (entry,) = measured[0]["entries"]
    peer, seen = entry["peers"]["purejaxrl"], []
    rates = zip(peer["our_steps_per_second_of_turns"], peer["steps_per_second_of_turns"], strict=True)
    ratios = [ours / theirs for ours, theirs in rates]
    assert len(ratios) == 2 and peer["ours_over_it"] == pytest.approx(statistics.median(ratios), rel=1e-2)
    rows = [2 * 8 * 16 / each for each in entry["parts"]["whole"]["seconds_of_turns"]]
    assert peer["our_steps_per_second_of_turns"] != pytest.approx(rows, rel=1e-4)
    clock = iter([0.0, 2.0])
    runs = throughput.WholeRuns(TINY, seeds=2)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(runs, "train", seen.append)
    assert runs.measure(2 * 1280 + 1) == 2 * 2 * 1280 / 2.0
    first, second = seen
    assert first.shape == (2,) and not (first == second).any()  # fresh keys


def test_a_whole_run_is_that_of_make_train(throughput, monkeypatch):
    """From the same key; without its evaluations, which the peers do not make."""
    out, runs = [], throughput.WholeRuns(TINY, seeds=1)
    train = runs.train
    monkeypatch.setattr(runs, "train", lambda keys: out.append((keys, train(keys))))
    runs.run()
    ((keys, got),) = out
    want = jax.jit(purerl.make_train(dataclasses.replace(TINY, eval_interval=0)))(keys[0])
    got = jax.tree.map(lambda leaf: leaf[0], got.metrics)
    chex.assert_trees_all_close(got, want.metrics, rtol=1e-3, atol=1e-6)
    assert not [name for name in got if name.startswith("eval")]


@pytest.mark.parametrize(("seconds", "iterations"), [(0.0, 1), (60.0, 8)])
def test_a_short_call_gets_more_iterations(throughput, monkeypatch, seconds, iterations):
    """Up to those of a row of metrics."""
    monkeypatch.setattr(throughput, "PIECE", 1)
    monkeypatch.setattr(throughput, "CALL", seconds)
    bench = throughput.Bench(dataclasses.replace(TINY, log_interval=8 * 128), seeds=1)
    assert bench.iterations == iterations and bench.call_steps == iterations * 128
    before = bench.step
    bench.whole()
    assert bench.step - before == bench.call_steps


def test_settings_are_what_they_are_named_after(throughput):
    """The sizes of the compared libraries' own PPO; other cases keep our defaults."""
    small, pure, *_ = (throughput.config_of(case) for case in throughput.SETTINGS)
    assert (small.env, small.num_envs, small.num_steps, small.num_epochs) == ("half_cheetah", 1, 2048, 10)
    assert small.num_steps // small.num_minibatches == 64 and small.hidden_sizes == (64, 64)
    assert (pure.env, pure.num_envs, pure.num_steps, pure.total_timesteps) == ("cartpole", 4, 128, 500_000)
    assert pure.value_clip_eps == pure.clip_eps == 0.2 and not pure.normalize_obs
    default = purerl.make_config("ppo", env="half_cheetah", total_timesteps=throughput.TOTAL_TIMESTEPS)
    assert throughput.config_of("ppo-half_cheetah") == default
    assert throughput.config_of("ppo-half_cheetah-mjx").engine == "mjx"


def test_purejaxrl_is_asked_for_its_own_config(throughput):
    """Every entry of the `config` at the end of its `ppo.py`, except that it prints nothing."""
    cfg = throughput.config_of("ppo-cartpole-purejaxrl")
    assert throughput.matching_fields("purejaxrl", cfg, 8) == {
        "LR": 2.5e-4,
        "NUM_ENVS": 4,
        "NUM_STEPS": 128,
        "TOTAL_TIMESTEPS": 500_000,
        "UPDATE_EPOCHS": 4,
        "NUM_MINIBATCHES": 4,
        "GAMMA": 0.99,
        "GAE_LAMBDA": 0.95,
        "CLIP_EPS": 0.2,
        "ENT_COEF": 0.01,
        "VF_COEF": 0.5,
        "MAX_GRAD_NORM": 0.5,
        "ACTIVATION": "tanh",
        "ENV_NAME": "CartPole-v1",
        "ANNEAL_LR": True,
        "DEBUG": False,
    }


def test_value_based_peers_are_asked_for_their_own_settings(throughput):
    """The `config` of purejaxrl's `dqn.py`, the options of CleanRL's, purejaxql's file for MinAtar."""
    fields = throughput.matching_fields("purejaxrl", throughput.config_of("dqn-cartpole-purejaxrl"), 8)
    own = {"NUM_ENVS": 10, "BUFFER_SIZE": 10_000, "BUFFER_BATCH_SIZE": 128, "TOTAL_TIMESTEPS": 500_000}
    own |= {"EPSILON_START": 1.0, "EPSILON_FINISH": 0.05, "EPSILON_ANNEAL_TIME": 250_000}
    own |= {"TARGET_UPDATE_INTERVAL": 500, "LR": 2.5e-4, "LEARNING_STARTS": 10_000, "TRAINING_INTERVAL": 10}
    assert fields == own | {"GAMMA": 0.99, "TAU": 1.0, "ENV_NAME": "CartPole-v1", "WANDB_MODE": "disabled"}
    cfg = throughput.config_of("dqn-cartpole-cleanrl")
    own = {"learning_rate": 2.5e-4, "buffer_size": 10_000, "gamma": 0.99, "tau": 1.0, "batch_size": 128}
    own |= {"target_network_frequency": 500, "learning_starts": 10_000, "train_frequency": 10}
    assert throughput.matching_fields("cleanrl", cfg) == own
    assert (cfg.loss, cfg.epsilon_fraction, cfg.total_timesteps) == ("square", 0.5, 50_000)
    fields = throughput.matching_fields("sb3", cfg)
    assert (fields["train_freq"], fields["target_update_interval"]) == (10, 500)
    fields = throughput.matching_fields("purejaxql", throughput.config_of("pqn-breakout-purejaxql"), 4)
    own = {"NUM_ENVS": 128, "NUM_STEPS": 32, "NUM_MINIBATCHES": 32, "NUM_EPOCHS": 2, "LR": 5e-4}
    own |= {"MAX_GRAD_NORM": 10, "LR_LINEAR_DECAY": True, "GAMMA": 0.99, "LAMBDA": 0.65}
    assert fields == fields | own | {"EPS_START": 1, "EPS_FINISH": 0.05, "EPS_DECAY": 0.1}


def test_only_peers_that_can_do_the_work_take_part(throughput):
    """purejaxrl: cartpole with its networks; the others: one seed."""

    def peers(cfg, seeds):
        return [name for name in throughput.LIBRARIES if throughput.matching_fields(name, cfg, seeds)]

    cartpole = throughput.config_of("ppo-cartpole-purejaxrl")
    assert peers(cartpole, 1) == ["sbx", "sb3", "purejaxrl"] and peers(cartpole, 8) == ["purejaxrl"]
    assert peers(TINY, 1) == ["sbx", "sb3"]
    cheetah = throughput.config_of("ppo-half_cheetah-2048x1")
    assert peers(cheetah, 1) == ["sbx", "sb3"] and peers(cheetah, 8) == []
    assert peers(throughput.config_of("dqn-cartpole-cleanrl"), 1) == ["sb3", "cleanrl"]
    assert peers(throughput.config_of("dqn-cartpole-purejaxrl"), 8) == ["purejaxrl"]
    assert peers(throughput.config_of("pqn-breakout-purejaxql"), 4) == ["purejaxql"]
    fields = throughput.matching_fields("sb3", cheetah)
    assert (fields["n_steps"], fields["batch_size"], fields["n_epochs"]) == (2048, 64, 10)


def test_a_peer_gets_its_steps_and_answers_with_its_rate(throughput, tmp_path):
    """A stand-in whose rate is the number of steps that it gets, and which prints lines of its own."""
    cfg = throughput.config_of("ppo-cartpole-purejaxrl")
    pythons = {"sbx": "/not/there", "purejaxrl": str(stand_in(tmp_path))}
    started = throughput.start_peers(cfg, 8, pythons)
    assert list(started) == ["purejaxrl"]
    peer, steps = started["purejaxrl"]
    assert steps == 200 and peer.measure(700) == 700.0 and peer.versions == {"it": "1.0"}
    peer.close()
    entry = throughput.of_peer([100.0, 200.0, 50.0], [150.0, 200.0, 200.0], peer)
    assert entry["ours_over_it"] == 1.5 and entry["steps_per_second"] == 100.0
    assert entry["our_steps_per_second"] == 200.0
