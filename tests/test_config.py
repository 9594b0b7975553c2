"""Configurations: what cannot work is refused before anything is compiled, in words that help."""

import dataclasses
import json
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

import purerl
from purerl import registry
from purerl.cast import cast
from purerl.cli.configure import RunOptions, names
from purerl.cli.main import command
from purerl.cli.options import field_docs
from purerl.config import (
    ConfigError,
    Rule,
    freeze,
    from_dict,
    leaves,
    replace,
    to_dict,
    validate,
)
from purerl.field_aliases import ALIASES
from purerl.make import make_algorithm, make_config, make_env
from purerl.train import make_driver
from purerl.types import HostEnv

CLASSES = [registry.config_class(algo) for algo in registry.ALGORITHMS]
nan, inf = float("nan"), float("inf")

# (algorithm, field, value, words of the message beside the field's name and the value)
BAD_VALUES = [
    ("ppo", "learning_rate", nan, "a finite number, above 0"),
    ("ppo", "learning_rate", inf, "a finite number"),
    ("ppo", "learning_rate", 0, "above 0"),
    ("ppo", "learning_rate", -3e-4, "above 0"),
    ("ppo", "learning_rate", "1e-3", "a finite number"),
    ("ppo", "learning_rate", True, "a finite number"),
    ("ppo", "learning_rate", None, "a finite number"),
    ("ppo", "learning_rate", [1e-3], "a finite number"),
    ("ppo", "learning_rate", 10**400, "a finite number"),
    ("ppo", "learning_rate", 1j, "a finite number"),
    ("ppo", "learning_rate", np.array([1e-3]), "a finite number"),
    ("ppo", "learning_rate", jax.random.key(0), "a finite number"),
    ("ppo", "learning_rate", {"a": 1}, "a finite number"),
    ("ppo", "gamma", 1.01, "at least 0, at most 1"),
    ("ppo", "gamma", -0.1, "at least 0, at most 1"),
    ("ppo", "gae_lambda", np.float32(nan), "at most 1"),
    ("ppo", "clip_eps", 0.0, "above 0"),
    ("ppo", "ent_coef", -0.01, "at least 0"),
    ("ppo", "max_grad_norm", -1, "or None to switch it off"),
    ("ppo", "num_epochs", 2.0, "a whole number, at least 1"),
    ("ppo", "num_epochs", True, "a whole number"),
    ("ppo", "num_envs", 0, "at least 1"),
    ("ppo", "num_steps", -8, "at least 1"),
    ("ppo", "num_minibatches", "4", "a whole number"),
    ("ppo", "total_timesteps", 10**30, "at most 2,000,000,000"),
    ("ppo", "total_timesteps", 1e6, "a whole number"),
    ("ppo", "seed", -1, "at least 0"),
    ("ppo", "seed", None, "a whole number"),
    ("ppo", "seed", jax.random.key(0), "a whole number"),
    ("ppo", "seed", np.float32(1), "a whole number"),
    ("ppo", "log_interval", 2 * 10**8, "at least 1, at most 100,000,000"),
    ("ppo", "anneal_lr", 1, "True or False"),
    ("ppo", "anneal_lr", "yes", "True or False"),
    ("ppo", "activation", "tanhh", "one of relu, tanh, silu, gelu. Did you mean tanh?"),
    ("ppo", "activation", 3, "one of relu"),
    ("ppo", "hidden_sizes", [64.0, 64.0], "a tuple of at most 32 whole numbers, at least 1"),
    ("ppo", "hidden_sizes", [8] * 33, "a tuple of at most 32 whole numbers"),
    ("ppo", "hidden_sizes", [10**30], "at most 65,536"),
    ("ppo", "hidden_sizes", [64, -1], "at least 1"),
    ("ppo", "hidden_sizes", [64, True], "whole numbers"),
    ("ppo", "hidden_sizes", [nan], "whole numbers"),
    ("ppo", "hidden_sizes", np.array([[64]]), "whole numbers"),
    ("ppo", "hidden_sizes", 64, "a tuple of at most 32 whole numbers"),
    ("ppo", "hidden_sizes", [64, 0], "at least 1"),
    ("ppo", "hidden_sizes", "64", "whole numbers, at least 1, at most 65,536. Write 64 64 on a command line"),
    ("ppo", "env", "", "a non-empty string"),
    ("ppo", "env", 3, "a non-empty string"),
    ("ppo", "engine", "mujco", "one of auto, mujoco, mjx. Did you mean mujoco?"),
    ("ppo", "env_kwargs", 3, "a mapping from names to values"),
    ("sac", "log_interval", 2 * 10**8, "at least 1, at most 100,000,000"),
    ("sac", "tau", 0.0, "above 0, at most 1"),
    ("sac", "tau", 1.5, "above 0, at most 1"),
    ("sac", "ent_coef", "auto", "or None to switch it off"),
    ("sac", "batch_size", 0, "at least 1"),
]


def as_shown(value):
    """What a message makes of a value: 80 characters, on one line, of how Python writes it."""
    text = repr(dict(value) if isinstance(value, FrozenDict) else value).replace("\n", "\\n")
    return text if len(text) <= 80 else text[:77] + "..."


def refused(field, value, *words):
    """A context that expects a ConfigError about `field`, with its value and these words."""
    parts = [re.escape(part) for part in (f"{field} = {as_shown(value)}: expected ", *words)]
    return pytest.raises(ConfigError, match="(?s)" + ".*".join(parts))


@pytest.mark.parametrize(("algo", "field", "value", "words"), BAD_VALUES)
def test_a_bad_value_is_refused(algo, field, value, words):
    """With the field, the value as given and what is allowed, instead of an error from XLA."""
    with refused(field, freeze(value), words) as caught:
        make_config(algo, **{field: value})
    assert (caught.value.field, isinstance(caught.value, ValueError)) == (field, True)


def test_an_argument_without_a_field_has_a_rule_too():
    """`validate` takes the rule alone, as for the number of seeds."""
    validate("seeds", 3, Rule("count", 1))
    for value in (0, 2.0, None):
        with refused("seeds", value, "a whole number, at least 1."):
            validate("seeds", value, Rule("count", 1))
    validate("seeds", 3, Rule("count", 1))
    with refused("seeds", 0, "a whole number, at least 1"):
        validate("seeds", 0, Rule("count", 1))


class Shy:
    """Has no words for itself."""

    def __repr__(self):
        raise RuntimeError


def nested(depth):
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("gamma", 10**5000, "gamma = <int that cannot be shown>: expected less."),
        ("gamma", nested(900), "gamma = [[[["),
        ("gamma", Shy(), "gamma = <Shy that cannot be shown>: expected less."),
        ("gamma", np.eye(2), r"gamma = array([[1., 0.],\n       [0., 1.]]): expected less."),
        ("gamma", "\x1b[31m\n\ud800", r"gamma = '\x1b[31m\n\ud800': expected less."),
        ("a\nb\x1b\u202e\ud800", 1, r"a\nb\x1b\u202e\ud800 = 1: expected less."),
        ("n" * 100, 1, f"{'n' * 77}... = 1: expected less."),
        ("gamma", "x" * 79, f"gamma = '{'x' * 76}...: expected less."),
        ("gamma", "x" * 78, f"gamma = '{'x' * 78}': expected less."),
        ("gamma", freeze({"a": {"b": [1]}}), "gamma = {'a': {'b': [1]}}: expected less."),
    ],
    ids=range(10),
)
def test_a_message_is_one_line_whatever_was_given(field, value, message):
    """No line ends, no terminal controls, no megabytes; and one full stop, whatever the reason ends in."""
    for allowed in ("less", "less."):
        error = ConfigError(field, value, allowed)
        assert str(error).startswith(message) and str(error).isprintable() and len(str(error)) < 300
        assert str(error).endswith("expected less.")
        assert error.field is field and error.value is value
    assert str(ConfigError("a", 1, "less", "Try 0.")) == "a = 1: expected less. Try 0."


@pytest.mark.parametrize(
    ("algo", "field", "hint"),
    [
        ("ppo", "steps", "total_timesteps"),  # though seed is nearer
        ("ppo", "epochs", "num_epochs"),
        ("ppo", "layers", "hidden_sizes"),
        ("ppo", "lr", "learning_rate"),
        ("ppo", "clip_ratio", "clip_eps"),
        ("ppo", "n_envs", "num_envs"),
        ("ppo", "learning_rat", "learning_rate"),
        ("ppo", "Learning-Rate", "learning_rate"),
        ("ppo", "hiden_sizes", "hidden_sizes"),
        ("sac", "polyak", "tau"),
        ("sac", "replay_size", "buffer_size"),
    ],
)
def test_an_unknown_field_names_the_nearest(algo, field, hint):
    """Also where another library calls it something else."""
    with refused(field, 1, f"a field of {algo.upper()}Config: one of env", f"Did you mean {hint}?"):
        make_config(algo, **{field: 1})


@pytest.mark.parametrize(
    ("algo", "field"),
    [("sac", "clip_eps"), ("sac", "num_minibatches"), ("ppo", "buffer_size"), ("ppo", "zzz")],
)
def test_another_algorithms_field_is_refused(algo, field):
    """An option that does nothing here is not swallowed, and the fields there are get listed."""
    with refused(field, 1, "one of env, engine, env_kwargs"):
        make_config(algo, **{field: 1})


@pytest.mark.parametrize(("algo", "hint"), [("poo", "ppo"), ("SAC", "sac"), ("os:system", None), (3, None)])
def test_an_unknown_algorithm_is_refused(algo, hint):
    """And nothing is imported for a name that looks like a module."""
    with refused(
        "algo",
        algo,
        "a2c, ddpg, dqn, ppo, pqn, recurrent_ppo, recurrent_sac, sac, td3, trpo, vpg",
        f"Did you mean {hint}?" if hint else "",
    ):
        make_config(algo)


@pytest.mark.parametrize(("env", "hint"), [("cartpol", "cartpole"), (3, None)])
def test_an_unknown_environment_is_refused(env, hint):
    """With the list of those there are."""
    with refused("env", env, "acrobot, ant, asterix", f"Did you mean {hint}?" if hint else ""):
        make_env(env)


@pytest.mark.parametrize(
    ("env", "kwargs", "field", "words"),
    [
        ("cartpole", {"gravty": 9.8}, "gravty", "Did you mean gravity?"),
        ("cartpole", {"gravity": "9.8"}, "gravity", "a finite number"),
        ("cartpole", {"gravity": nan}, "gravity", "a finite number"),
        ("cartpole", {"gravity": inf}, "gravity", "a finite number"),
        ("pendulum", {"length": True}, "length", "a finite number"),
        ("pendulum", {"gravity": 9.8}, "gravity", "one of the options of pendulum: g, mass"),
        ("cartpole", {"max_episode_steps": 0}, "max_episode_steps", "at least 1"),
        ("cartpole", {"max_episode_step": 9}, "max_episode_step", "Did you mean max_episode_steps?"),
        ("cartpole", {"gravity": 10**400}, "gravity", "a finite number"),
        ("ant", {"helthy_reward": 1}, "helthy_reward", "Did you mean healthy_reward?"),
        ("ant", {"healthy_reward": 10**400}, "healthy_reward", "a finite number"),
        ("ant", {"healthy_reward": 1e39}, "healthy_reward", "a finite number"),
        ("ant", {"healthy_z_range": (0, 10**400)}, "healthy_z_range", "a pair (low, high)"),
        ("ant", {"healthy_z_range": (0, nan)}, "healthy_z_range", "a pair (low, high)"),
        ("ant", {"reset_noise_scale": inf}, "reset_noise_scale", "a finite number, at least 0"),
        ("ant", {"reset_noise_scale": -1}, "reset_noise_scale", "a finite number, at least 0"),
        ("ant", {"frame_skip": 10**30}, "frame_skip", "at most 1,000"),
        ("ant", {"main_body": 10**30}, "main_body", "at least 0, at most 1,000,000"),
        ("ant", {"xml_file": "x" * 5000}, "xml_file", "an MJCF file; this one cannot be read"),
        ("ant", {"xml_file": "~nobody-of-that-name/x"}, "xml_file", "an MJCF file; this one cannot be read"),
        ("ant", {"xml_file": __file__}, "xml_file", "cannot be read: XML"),
        ("pendulum", {"max_episode_steps": 20.0}, "max_episode_steps", "a whole number"),
        ("cartpole", {"engine": "mjx"}, "engine", "auto, because"),
        ("pendulum", {"engine": "mujoco"}, "engine", "auto, because"),
    ],
)
def test_environment_options_are_checked(env, kwargs, field, words):
    """A misspelt reward weight must not leave the default in place."""
    with refused(field, kwargs[field], words):
        make_env(env, **kwargs)


@pytest.mark.parametrize(
    ("algo", "fields", "field", "words"),
    [
        ("ppo", {"env": "cartpol"}, "env", "Did you mean cartpole?"),
        ("ppo", {"env": "cartpole", "engine": "mjx"}, "engine", "auto, because"),
        ("ppo", {"env_kwargs": {"gravty": 1.0}}, "gravty", "Did you mean gravity?"),
        ("ppo", {"num_envs": 3, "num_steps": 5, "num_minibatches": 4}, "num_minibatches", "3 * 5 = 15"),
        ("td3", {"env": "cartpole"}, "env", "continuous actions"),
        (
            "sac",
            {"env": "pendulum", "learning_starts": 500, "total_timesteps": 500},
            "learning_starts",
            "= 500",
        ),
        (
            "sac",
            {"env": "pendulum", "batch_size": 9, "buffer_size": 8},
            "batch_size",
            "at most buffer_size = 8",
        ),
        (
            "ppo",
            {"num_steps": 2**23, "num_minibatches": 1},
            "num_steps",
            "at most 33,554,432, got 67,108,864",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(algo, fields, field, words):
    """Fields that are fine alone, before anything is traced."""
    cfg = make_config(algo, **fields)
    for build in (make_algorithm, make_driver, purerl.make_train):
        with refused(field, fields.get("env_kwargs", fields).get(field), words):
            build(cfg)


@pytest.mark.parametrize(
    "build",
    [
        lambda: make_config(["ppo"]),
        lambda: make_env(["ant"]),
        lambda: make_config("ppo", learning_rate=[1e-3, [1e-4]]),
        lambda: make_algorithm(make_config("ppo", env_kwargs={"engine": "mjx"})),
        lambda: make_algorithm(make_config("ppo", env_kwargs={"env": "ant"})),
    ],
    ids=["list for algo", "list for env", "ragged list", "engine in env_kwargs", "env in env_kwargs"],
)
def test_what_python_itself_would_refuse(build):
    """Unhashable names, ragged lists and doubled arguments get our message, not Python's."""
    with pytest.raises(ConfigError):
        build()


@pytest.mark.parametrize(
    ("typed", "call"),
    [
        ("--gamma 1.5", lambda: make_config("ppo", gamma=1.5)),
        ("--env antt", lambda: make_env("antt")),
        ("--env-kwargs '{\"gravty\": 1}'", lambda: make_env("cartpole", gravty=1)),
        ("--num-minibatches 7", lambda: purerl.make_train(make_config("ppo", num_minibatches=7))),
        ("--algo td3 --env cartpole", lambda: make_algorithm(make_config("td3", env="cartpole"))),
        ("--seeds 65537", lambda: purerl.run(make_config("ppo"), seeds=65_537)),
        ("--preset ppo-hoper", lambda: purerl.from_preset("ppo-hoper")),
    ],
)
def test_the_command_line_gives_the_same_error(typed, call, capsys):
    with pytest.raises(ConfigError) as caught:
        call()
    assert command(["train", *shlex.split(typed), "--compilation-cache", "none"]) == 2
    assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_no_program_can_contain_a_python_environment():
    """The error names the function that trains on it."""
    cfg = make_config("ppo", env="gym:CartPole-v1")
    for build in (purerl.make_train, make_driver):
        with refused("env", "gym:CartPole-v1", "purerl.run"):
            build(cfg)
    assert isinstance(make_env("gym:CartPole-v1"), HostEnv)
    assert make_algorithm(cfg).num_envs == 8


@pytest.mark.parametrize("cls", CLASSES)
def test_the_checks_run_on_a_config_made_by_hand(cls):
    """The constructor checks nothing, so the entry points do."""
    with refused("gamma", 2.0, "at most 1"):
        make_algorithm(cls(env="pendulum", gamma=2.0))


@pytest.mark.parametrize(
    "value", [1e-3, 1, np.float32(1e-3), np.float64(1e-3), np.array(1e-3), jnp.float32(1e-3)], ids=repr
)
def test_a_real_number_of_any_make_is_allowed(value):
    """And leaves a config that can still be hashed, written and read."""
    cfg = make_config("ppo", learning_rate=value)
    assert cfg.learning_rate == value
    assert isinstance(hash(cfg), int)
    assert make_config(**json.loads(json.dumps(to_dict(cfg)))) == cfg


@pytest.mark.parametrize("cls", CLASSES)
def test_json_round_trip(cls):
    """Through text and back nothing changes, also tuples, None, and nested options."""
    fields = dict(
        env="ant",
        env_kwargs={"weight": 0.1, "range": [0.2, 1.0], "deep": {"flag": True}},
        seed=np.int64(7),
        gamma=0.1 + 0.2,
        hidden_sizes=[32, 16],
    )
    for cfg in (from_dict(cls, {}), from_dict(cls, fields)):
        text = json.dumps(to_dict(cfg), allow_nan=False)
        assert json.loads(text)["algo"] == cls.algo
        assert make_config(**json.loads(text)) == cfg


@pytest.mark.parametrize("cls", CLASSES)
def test_configs_are_frozen_and_hashable(cls):
    """A config is a static argument of jit, so equal ones are equal keys, and nobody edits one."""
    make = lambda: from_dict(cls, {"env_kwargs": {"a": [1, {"b": 2}]}, "hidden_sizes": [8, 8]})
    assert make() == make() and hash(make()) == hash(make())
    assert hash(make()) != hash(from_dict(cls, {}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().seed = 1
    with pytest.raises((TypeError, ValueError)):
        make().env_kwargs["a"] = 3


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_has_a_rule_and_says_what_it_is(cls):
    """Each field states what it allows and, in one docstring, what it means; its default is legal."""
    docs = field_docs(cls)
    for field in dataclasses.fields(cls):
        assert docs[field.name].endswith("."), field.name
        assert isinstance(field.metadata["rule"], Rule), field.name
    assert cls.__doc__ and from_dict(cls, {}) == cls()


def test_every_alias_leads_to_a_field_or_an_option():
    known = {*names(RunOptions, *CLASSES)}
    assert {"learning_rate", "gamma"} <= set(ALIASES.values()) <= known and not set(ALIASES) & known


def test_leaves_are_the_numbers_that_are_switched_on():
    """What may be vmapped: no shape, no switch, and no number that is None."""
    cfg = make_config("ppo", gamma=0.5, max_grad_norm=None)
    names = {"learning_rate", "gamma", "gae_lambda", "clip_eps", "ent_coef", "vf_coef"}
    names |= {"init_log_std", "pi_init_scale"}
    assert set(leaves(cfg)) == names and leaves(cfg)["gamma"] == 0.5
    assert set(leaves(make_config("ppo"))) == names | {"max_grad_norm"}
    assert {"ent_coef", "target_entropy"}.isdisjoint(leaves(make_config("sac")))
    assert "ent_coef" in leaves(make_config("sac", ent_coef=0.0))


@pytest.mark.parametrize(
    ("algo", "name", "value", "hint"),
    [
        ("ppo", "num_envs", 4, ""),
        ("ppo", "hidden_sizes", (8,), ""),
        ("ppo", "anneal_lr", False, ""),
        ("ppo", "lr", 1e-3, "Did you mean learning_rate?"),
        ("sac", "ent_coef", 0.1, ""),
    ],
)
def test_hyper_takes_only_leaves(algo, name, value, hint):
    """A static field, or one that is switched off, cannot be swept within one program."""
    with refused(
        name,
        value,
        "a real-valued field: one of clip_eps" if algo == "ppo" else "a real-valued field: one of gamma",
        hint,
    ):
        replace(make_config(algo), {name: value})


def test_hyper_may_be_traced():
    """One program for many values of a leaf."""
    cfg = make_config("ppo")
    f = jax.jit(lambda gamma: replace(cfg, {"gamma": gamma}).gamma * 2)
    assert [f(x).item() for x in (0.5, 0.25)] == [1.0, 0.5] and f._cache_size() == 1


MUTANTS = {
    "an error does not name the value": (
        "errors.py",
        "{shorten(field)} = {shorten(shown(value))}: {what}",
        "{shorten(field)}: {what}",
        "test_a_bad_value_is_refused",
    ),
    "long values are not cut": (
        "shown.py",
        "text if len(text) <= limit else",
        "text if True else",
        "test_a_message_is_one_line_whatever_was_given",
    ),
    "an unknown field names no alias": (
        "errors.py",
        "if ALIASES.get(plain) in allowed else",
        "if False else",
        "test_an_unknown_field_names_the_nearest",
    ),
    "a rule without a field is not checked": (
        "config.py",
        "    if wrong:",
        "    if False:",
        "test_an_argument_without_a_field_has_a_rule_too",
    ),
    "hyper takes static fields": (
        "config.py",
        "        if name not in allowed:\n",
        "        if False:\n",
        "test_hyper_takes_only_leaves",
    ),
}


def test_cast_leaves_other_values_alone():
    values = {"gamma": 0.5, "hidden_sizes": [8], "env": "3", "seed": True, "unknown": "1"}
    assert cast(registry.config_class("ppo"), values) == values
