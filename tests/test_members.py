"""Members of a run: settings and seeds, their names, keys and values; and sweeps that are refused."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl import ConfigError
from purerl.config import leaves
from purerl.members import MAX_MEMBERS, Members, make_members

MUTANTS = {
    "keys by member": (
        "members.py",
        "np.tile(self.indices, len(self.settings))",
        "np.arange(self.size)",
        "test_settings_share_the_keys_of_their_seeds",
    ),
    "keys from seed 0": (
        "members.py",
        "np.tile(self.indices, len(self.settings))",
        "np.tile(np.arange(self.seeds), len(self.settings))",
        "test_settings_share_the_keys_of_their_seeds",
    ),
    "values by seed": (
        "members.py",
        "np.repeat(values, self.seeds)",
        "np.tile(values, self.seeds)",
        "test_hyper_is_batched_only_where_members_differ",
    ),
    "always batched": (
        "members.py",
        "agree = (values == values[0]).all()",
        "agree = False",
        "test_hyper_is_batched_only_where_members_differ",
    ),
}
PPO = tiny("ppo", "cartpole")
SWEEP = {"learning_rate": [1e-4, 1e-3], "gamma": [0.9, 0.99]}


def test_product_and_zip():
    """The last field varies fastest in a product; a zip takes one value of each."""
    product = make_members(PPO, 2, SWEEP)
    pairs = [(s["learning_rate"], s["gamma"]) for s in product.settings]
    assert pairs == [(1e-4, 0.9), (1e-4, 0.99), (1e-3, 0.9), (1e-3, 0.99)] and product.size == 8
    zipped = make_members(PPO, 3, SWEEP, "zip")
    assert [(s["learning_rate"], s["gamma"]) for s in zipped.settings] == [(1e-4, 0.9), (1e-3, 0.99)]
    assert product.describe() == "4 settings x 2 seeds" and make_members(PPO, 1).describe() == "1 seed"


def test_names_and_facts_are_in_the_order_of_members():
    members = make_members(PPO, 2, {"gamma": np.float32([0.5, 0.75])})
    assert members.names == ["gamma=0.5_seed0", "gamma=0.5_seed1", "gamma=0.75_seed0", "gamma=0.75_seed1"]
    assert members.facts[2] == {"seed_index": 0, "gamma": 0.75}
    assert json.loads(json.dumps(members.facts)) == members.facts
    assert make_members(PPO, 2).names == ["seed0", "seed1"]
    later = make_members(PPO, 2, {"gamma": [0.5]}, first_seed=8)
    assert later.names == ["gamma=0.5_seed8", "gamma=0.5_seed9"]
    assert [facts["seed_index"] for facts in later.facts] == [8, 9]


def test_names_fit_a_directory():
    """Settings are numbered where their values would make the name too long."""
    values = {name: 0.123456789012345 for name in leaves(PPO) if name not in ("learning_rate", "gamma")}
    settings = tuple(values | {f"x{i}": 0.1234567890123456 for i in range(9)} | {"y": y} for y in (0.0, 1.0))
    assert Members(1, settings).names == ["setting0_seed0", "setting1_seed0"]


def test_settings_share_the_keys_of_their_seeds():
    """Settings are compared on the same random numbers; a seed's key depends on no other seed."""
    data = lambda members: np.asarray(jax.random.key_data(members.keys(PPO)))
    swept, plain, more = (data(m) for m in (make_members(PPO, 3, SWEEP), Members(3), Members(9)))
    later = data(make_members(PPO, 4, SWEEP, first_seed=5))
    assert (later == np.tile(more[5:], (4, 1))).all()
    assert (swept == np.tile(plain, (4, 1))).all() and (more[:3] == plain).all()
    assert (plain == jax.random.key_data(jax.random.split(jax.random.key(PPO.seed), 3))).all()
    assert len(np.unique(more, axis=0)) == 9


def test_a_later_seed_by_itself_is_the_one_of_a_run_with_all(tmp_path):
    """To rounding, in the directory of its index; and it is resumed as such."""
    together = purerl.run(PPO, 3, progress=False)
    alone = purerl.run(PPO, 1, tmp_path / "run", first_seed=2, progress=False)
    assert alone.members == together.members[2:]
    for name, values in alone.metrics.items():
        np.testing.assert_allclose(values[0], together.metrics[name][2], rtol=2e-3, atol=2e-3, err_msg=name)
    assert [path.name for path in (tmp_path / "run").glob("*seed*")] == ["seed2"]
    again = purerl.run(PPO, 1, tmp_path / "run", first_seed=2, resume=True, progress=False)
    assert again.members == alone.members


def test_hyper_is_batched_only_where_members_differ():
    """Plain seeds, and swept fields of one value, cost nothing."""
    plain = make_members(PPO, 3).hyper(PPO)
    assert plain.keys() == leaves(PPO).keys() and all(value.shape == () for value in plain.values())
    assert {name: float(value) for name, value in plain.items()} == pytest.approx(leaves(PPO))
    swept = make_members(PPO, 3, {"gamma": [0.9, 0.99], "clip_eps": [0.3]}).hyper(PPO)
    np.testing.assert_array_equal(swept["gamma"], np.float32([0.9] * 3 + [0.99] * 3))
    assert swept["clip_eps"].shape == () and float(swept["clip_eps"]) == np.float32(0.3)
    assert {name for name, value in swept.items() if value.ndim} == {"gamma"}


def test_configs_hold_the_values_of_each_setting():
    rates = [cfg.learning_rate for cfg in make_members(PPO, 2, SWEEP).configs(PPO)]
    assert rates == [1e-4, 1e-4, 1e-3, 1e-3]


BAD = {
    "unknown field": ({"learning_rat": [1e-3]}, {}, "learning_rat", "learning_rate"),
    "static field": ({"num_envs": [2, 4]}, {}, "num_envs", "real-valued"),
    "switched off": ({"early_stop_kl": [0.1]}, {}, "early_stop_kl", "real-valued"),
    "out of range": ({"gamma": [0.9, 1.5]}, {}, "gamma", "at most 1"),
    "negative": ({"learning_rate": [-1e-3]}, {}, "learning_rate", "0"),
    "NaN": ({"gamma": [math.nan]}, {}, "gamma", "number"),
    "text": ({"gamma": ["0.9"]}, {}, "gamma", "number"),
    "bool": ({"gamma": [True]}, {}, "gamma", "number"),
    "None": ({"gamma": [None]}, {}, "gamma", "number"),
    "one number": ({"gamma": 0.9}, {}, "sweep[gamma]", "list of numbers"),
    "a word": ({"gamma": "0.9"}, {}, "sweep[gamma]", "list of numbers"),
    "two axes": ({"gamma": np.ones((2, 2)) / 2}, {}, "sweep[gamma]", "list of numbers"),
    "empty": ({"gamma": []}, {}, "sweep[gamma]", "at least one value"),
    "a list": ([("gamma", [0.9])], {}, "sweep", "mapping"),
    "twice": ({"gamma": [0.9, 0.9]}, {}, "sweep", "differ"),
    "twice in float32": ({"gamma": [0.9, 0.9 + 1e-12]}, {}, "sweep", "differ"),
    "unequal zip": ({"gamma": [0.9], "ent_coef": [0.0, 0.1]}, {"combine": "zip"}, "sweep", "ent_coef has 2"),
    "unknown combine": ({"gamma": [0.9]}, {"combine": "grid"}, "combine", "product, zip"),
    "no seeds": ({}, {"seeds": 0}, "seeds", "at least 1"),
    "half a seed": ({}, {"seeds": 1.5}, "seeds", "a whole number"),
    "a seed of True": ({}, {"seeds": True}, "seeds", "a whole number"),
    "a seed before 0": ({}, {"first_seed": -1}, "first_seed", "at least 0"),
    "a seed out of int32": ({}, {"first_seed": 2**31}, "first_seed", "1,073,741,824"),
    "too many": ({"gamma": [0.9, 0.99]}, {"seeds": MAX_MEMBERS}, "seeds", "65,536"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sweep_names_its_field_before_compilation(name, monkeypatch, tmp_path):
    sweep, options, field, word = BAD[name]
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *args: pytest.fail("compiled"))
    with pytest.raises(ConfigError) as caught:
        purerl.run(
            PPO, **{"seeds": 1, "logdir": tmp_path / "run", "sweep": sweep, "progress": False} | options
        )
    assert caught.value.field == field and word in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_ragged_sweep_is_a_config_error():
    with pytest.raises(ConfigError, match="expected a list of numbers"):
        make_members(PPO, 1, {"gamma": [[0.5], [0.5, 0.6]]})


def test_values_may_be_arrays_of_any_library():
    for values in ((0.5, 0.75), np.float64([0.5, 0.75]), jnp.array([0.5, 0.75])):
        members = make_members(PPO, 1, {"gamma": values})
        assert members.settings == ({"gamma": 0.5}, {"gamma": 0.75})
        assert all(type(setting["gamma"]) is float for setting in members.settings)
