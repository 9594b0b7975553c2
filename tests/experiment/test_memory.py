"""The memory plan: exact where it says so, and a refusal before and after compilation."""

import re

import jax
import lab
import pytest
from lab import fail, go
from tiny import tiny

import purerl
from purerl import ConfigError
from purerl.experiment import runner
from purerl.experiment.memory import make_plan, refuse_if_too_large, tree_bytes
from purerl.experiment.population import Population
from purerl.health import split_replay
from purerl.machine import format_bytes
from purerl.members import make_members
from purerl.train import make_driver

MUTANTS = {
    "one member counted": (
        "experiment/memory.py",
        "parts = {name: (members.size * size",
        "parts = {name: (members.seeds * size",
        "test_the_plan_is_the_size_of_the_arrays",
    ),
}
GB, MB = 10**9, 10**6


def plan_of(cfg, seeds=1, sweep=None):
    return make_plan(make_driver(cfg), make_members(cfg, seeds, sweep))


def sizes(plan):
    return {name: size for name, (size, _) in plan.parts.items()}


@pytest.mark.parametrize("case", ["sac-1", "sweep"])
def test_the_plan_is_the_size_of_the_arrays(case, whole):
    """Replay buffer, parameters and environments, to the byte."""
    state, case = whole(case).state, lab.CASES[case]
    learned, replay = split_replay(state.algo)
    found = sizes(plan_of(case.config(), case.seeds, case.sweep))
    assert found.get("replay", 0) == tree_bytes(replay)
    assert found["parameters"] == 3 * tree_bytes(learned)
    assert found["environments"] == 2 * tree_bytes((state.env, state.carry))
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(replay))
    assert arrays == tree_bytes(replay) and (arrays > 0) == (case.algo == "sac")


def test_replay_and_rollout_by_hand():
    """Ant has 105 observations and 8 actions; cartpole 4 observations, and tallies of 13 bytes."""
    replay = sizes(plan_of(purerl.make_config("sac", env="ant"), 8))["replay"]
    assert 8e6 * (2 * 105 * 4 + 8 * 4 + 4 + 1) <= replay <= 8e6 * (2 * 105 * 4 + 8 * 4 + 4 + 2) + 1000
    cfg = purerl.make_config("ppo", env="cartpole", num_envs=64, num_steps=32)
    assert sizes(plan_of(cfg))["rollout"] == 64 * 32 * (2 * 4 * 4 + 4 + 4 + 4 + 2 + 13)
    assert "replay" not in sizes(plan_of(cfg))
    text = plan_of(cfg, 3).describe()
    assert text.startswith("memory: ") and "for 3 seeds: " in text and "\n" not in text


def advised(error):
    """Return the fields that the error advises to lower."""
    return re.search(r"[Ll]ower ([\w ]+?)(,|\.|$)", str(error)).group(1).split(" or ")


def test_keys_have_the_bytes_of_their_generator():
    sizes = [tree_bytes(jax.random.key(0, impl=impl)) for impl in ("threefry2x32", "rbg", "unsafe_rbg")]
    assert sizes == [8, 16, 16]


@pytest.mark.parametrize(
    ("algo", "fields", "field"),
    [
        ("sac", dict(env="pendulum", buffer_size=10**7, total_timesteps=10**7), "buffer_size"),
        ("ppo", dict(env="cartpole", num_envs=2**10, num_steps=2**13), "num_steps"),
        ("ppo", dict(env="cartpole", hidden_sizes=(65_536, 65_536)), "hidden_sizes"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_before_compilation(algo, fields, field, monkeypatch):
    """The largest part names its field; every advice can be followed until the run is accepted."""
    monkeypatch.setattr(runner, "available_bytes", lambda devices: 100 * MB)
    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    with pytest.raises(ConfigError) as caught:
        purerl.run(purerl.make_config(algo, **fields), 2, progress=False)
    error = caught.value
    assert error.field == field and error.value == fields[field] and "100 MB" in str(error)
    assert advised(error)[0] == field and "\n" not in str(error)
    for name in advised(error):
        plan, value = None, fields[name]
        while plan is None or plan.total > 100 * MB:
            value = tuple(width // 2 for width in value) if isinstance(value, tuple) else value // 2
            plan = plan_of(purerl.make_config(algo, **fields | {name: value}), 2)
        refuse_if_too_large(plan, 100 * MB)


def test_fewer_members_are_advised():
    """As many as fit, each being one of a sweep's."""
    cfg = tiny("sac", buffer_size=20_000, total_timesteps=20_000)
    plan, sweep = plan_of(cfg, 4, {"gamma": [0.9, 0.99]}), {"gamma": [0.9]}
    each = plan.total // 8
    with pytest.raises(ConfigError, match="train at most 3 members") as caught:
        refuse_if_too_large(plan, 4 * each - 1)
    assert "2 settings x 4 seeds" in str(caught.value)
    refuse_if_too_large(plan_of(cfg, 3, sweep), 4 * each - 1)
    refuse_if_too_large(plan, plan.total)
    refuse_if_too_large(plan, None)
    with pytest.raises(ConfigError):
        refuse_if_too_large(plan, plan.total - 1)
    with pytest.raises(ConfigError) as caught:
        refuse_if_too_large(plan_of(cfg), each // 2)
    assert "members" not in str(caught.value)


def test_programs_that_do_not_fit_are_refused_before_a_step(whole, tmp_path, monkeypatch):
    """XLA says what its programs need once they are compiled."""
    whole("sac-1")
    population = lab.population_of("sac-1")
    needed = max(
        usage.temp_size_in_bytes + usage.output_size_in_bytes - usage.alias_size_in_bytes
        for usage in (population._warmup.memory_analysis(), population._chunk.memory_analysis())
    )
    assert population.bytes >= needed > 0
    answers = iter([10 * GB, population.bytes - 1])
    monkeypatch.setattr(runner, "available_bytes", lambda devices: next(answers))
    monkeypatch.setattr(Population, "advance", fail)
    with pytest.raises(ConfigError, match=f"programs need {format_bytes(population.bytes)} beside") as caught:
        go("sac-1", tmp_path)
    assert caught.value.field == "buffer_size"
