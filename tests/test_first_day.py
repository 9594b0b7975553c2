"""Mistakes of a first day in Python: one sentence each, at once, with nothing compiled."""

import dataclasses
import functools
import importlib
import re
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import clock
from gymnasium import spaces, wrappers
from gymnasium.vector import SyncVectorEnv
from tiny import environments_of, tiny

import purerl
from purerl import registry
from purerl.config import ConfigError, replace
from purerl.make import spec_of
from purerl.python_envs import outline
from purerl.spaces import check_spaces

SECONDS = 1.0
"""Limit of processor time for one refusal, after imports."""
PPO, SAC, PAIR = tiny("ppo", "cartpole"), tiny("sac", "pendulum"), tiny("ppo", "pendulum")
CLOCK = clock()
KEY = jax.random.key(0)


def like(cfg, env=None, networks=None, members=0):
    """Return a state of `cfg` of zeros, of `members` stacked or of one."""
    driver = purerl.make_driver(cfg, env, networks)
    state = jax.eval_shape(driver.init, KEY, {})
    lead = (members,) if members else ()
    keys = np.zeros((*lead, 1)) if members else KEY
    blank = lambda leaf: np.zeros((*lead, *leaf.shape), leaf.dtype)
    return jax.tree.map(blank, state._replace(key=()))._replace(key=keys)


class MeanOnly(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return nn.Dense(1)(obs)


class Column(nn.Module):
    """A critic that keeps the last axis."""

    @nn.compact
    def __call__(self, obs, *more):
        return nn.Dense(1)(jnp.concatenate([obs, *more], -1))


class Averaging(nn.Module):
    """Logits by statistics in a collection of their own."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=True)(obs))


def beside(**leaves):
    """Return a policy of cartpole whose params have further leaves."""
    init = lambda key, obs: {"w": jnp.zeros((4, 2))} | {k: v(key) for k, v in leaves.items()}
    return {"pi": (init, lambda params, obs: obs @ params["w"])}


def linear(out):
    """Return a plain pair that has `out` outputs."""
    return lambda key, obs: jnp.zeros((obs.shape[1], out)), lambda params, obs: obs @ params


def linen(module):
    return module.init, module.apply


def in_spaces(observation_space=CLOCK.observation_space, action_space=CLOCK.action_space):
    return CLOCK._replace(observation_space=observation_space, action_space=action_space)


def returning(reset=None, step=None):
    """Return the clock with other results."""
    change = {}
    if reset:
        change["reset"] = lambda *args, **options: reset(CLOCK.reset(*args, **options))
    if step:
        change["step"] = lambda *args: step(CLOCK.step(*args))
    return CLOCK._replace(**change)


def later(out):
    """Return the results of a step with a time of another type."""
    return out[0], out[1]._replace(time=out[1].time + 0.5), *out[2:]


class Gym(gymnasium.Env):
    """Gymnasium's interface, kept but for the class attribute that a mistake replaces."""

    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    started = np.zeros(2, np.float32), {}
    moved = np.zeros(2, np.float32), 1.0, False, False, {}

    def reset(self, *, seed=None, options=None):
        return self.started

    def step(self, action):
        return self.moved


class NoOptions(Gym):
    def reset(self, seed=None):
        return self.started


class OldGym(Gym):
    def reset(self):
        return np.zeros(2)


def gym(**attributes):
    return lambda: purerl.from_gymnasium(type("Mine", (Gym,), attributes))


def wrapped(*kinds):
    """Return a call that gives the environment in wrappers of `kinds`, the first innermost."""
    return lambda: purerl.from_gymnasium(lambda: functools.reduce(lambda env, kind: kind(env), kinds, Gym()))


def moved(obs=Gym.moved[0], reward=1.0, terminated=False):
    return obs, reward, terminated, False, {}


def act(obs, cfg=PAIR, carry=(), env=None):
    policy = purerl.make_policy(cfg, like(cfg), env=env)
    return policy.act(carry, obs, KEY)


def vmapped(**hyper):
    """Call what `train` calls first with `hyper`, under `vmap`."""
    return jax.vmap(lambda hyper: replace(PPO, hyper) and 0.0)(hyper)


def train(key=KEY, hyper=None):
    return purerl.make_train(PPO)(key, hyper)


class PointTask:
    """An environment without a step."""

    name, observation_space, action_space = "point", spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2,))
    max_episode_steps, reset = 9, CLOCK.reset


ENV = "an environment, such as purerl.make_env('cartpole')"
VMAP = "jax.vmap(train, in_axes=(None, 0))(key, hyper)"
PI = "(mean [B, 1], log_std [B, 1]) for float32[1, 3]"
MISTAKES = {
    # Arguments: (call, start of the message, parts of the rest)
    "make_train of a name": (
        lambda: purerl.make_train("ppo"),
        "cfg = 'ppo'",
        'purerl.make_config("ppo", env',
    ),
    "run of a name": (lambda: purerl.run("sac"), "cfg = 'sac'", "a config, such as"),
    "a config class": (
        lambda: purerl.make_train(type(PPO)),
        "cfg = <class",
        "purerl.make_config('ppo', ...)",
    ),
    "fields in place of a config": (lambda: purerl.make_train({"env": "ant"}), "cfg = {", "make_config(algo"),
    "what load returns": (
        lambda: purerl.make_policy((PPO, like(PPO)), like(PPO)),
        "cfg = (",
        "cfg, state = purerl.load(run_dir)",
    ),
    "config and state swapped": (
        lambda: purerl.make_policy(like(PPO), PPO),
        "cfg = TrainState(...)",
        "The config comes first",
    ),
    "a result in place of its state": (
        lambda: purerl.make_policy(PPO, purerl.TrainOutput(like(PPO), {})),
        "state = TrainOutput(...)",
        "give result.state",
    ),
    "the state of another algorithm": (
        lambda: purerl.make_policy(PAIR, like(SAC)),
        "state = State",
        "a state of ppo, got one of purerl.algos.off_policy",
    ),
    "the state of another environment": (
        lambda: purerl.make_policy(PAIR, like(PAIR, CLOCK)),
        "state.learner.params['pi']",
        "Give cfg, env and networks as in training.",
    ),
    "no member": (lambda: purerl.make_policy(PPO, like(PPO, members=2)), "member = None", "0 to 1"),
    "a member as text": (
        lambda: purerl.make_policy(PPO, like(PPO, members=2), "0"),
        "member = '0'",
        "0 to 1",
    ),
    "an environment in make_config": (
        lambda: purerl.make_config("ppo", env=CLOCK),
        "env = EnvFunctions(...)",
        "a non-empty string. Pass the environment itself as env to make_train, make_policy or run.",
    ),
    "an unknown algorithm": (lambda: purerl.make_config("pp0"), "algo = 'pp0'", "Did you mean ppo?"),
    "an unknown field": (lambda: purerl.make_config("ppo", lr=1), "lr = 1", "Did you mean learning_rate?"),
    # Environments
    "an environment's name": (
        lambda: purerl.make_train(PPO, env="cartpole"),
        "env = 'cartpole'",
        ENV,
        "purerl.make_config(\"ppo\", env='cartpole')",
    ),
    "an environment of Gymnasium": (
        lambda: purerl.make_train(PPO, env=gymnasium.make("CartPole-v1")),
        "env = <TimeLimit>",
        "purerl.from_gymnasium(lambda: MyEnv())",
    ),
    "a class of Gymnasium": (lambda: purerl.run(PPO, env=Gym), "env = <class Gym>", "from_gymnasium(lambda:"),
    "a class": (lambda: purerl.make_train(PPO, env=PointTask), "env = <class PointTask>", "PointTask()"),
    "a function": (lambda: purerl.make_train(PPO, env=clock), "env = <function>", "call it"),
    "no step": (
        lambda: purerl.make_train(PPO, env=PointTask()),
        "env = <PointTask>",
        "has no step",
        "check_env",
    ),
    "an environment in Python": (
        lambda: purerl.make_train(PPO, env=purerl.make_env("gym:CartPole-v1")),
        "env = 'gym:CartPole-v1'",
        "purerl.run",
    ),
    "four results of a step": (
        lambda: purerl.make_train(PPO, env=returning(step=lambda out: out[:4])),
        "results of clock's step = 4 values",
        "6 results, (obs, state, reward, terminated, truncated, info)",
    ),
    "no state from a reset": (
        lambda: purerl.make_train(PPO, env=returning(reset=lambda out: out[0])),
        "results of clock's reset = ",
        "2 results, (obs, state)",
    ),
    "observations of another shape": (
        lambda: purerl.make_train(PPO, env=returning(reset=lambda out: (out[0][:2], out[1]))),
        "obs of clock's reset = float32[2]",
        "an array of shape (3,), as in observation_space",
    ),
    "a reward per entry": (
        lambda: purerl.make_train(PPO, env=returning(step=lambda out: (*out[:2], out[0], *out[3:]))),
        "reward of clock's step = float32[3]",
        "one number",
    ),
    "a state that changes its type": (
        lambda: purerl.make_train(PPO, env=returning(step=later)),
        "state.time of clock's step = float32[]",
        "int32[], as from reset",
    ),
    "a number as a flag": (
        lambda: purerl.make_train(PPO, env=returning(step=lambda out: (*out[:3], out[2], *out[4:]))),
        "terminated of clock's step = float32[]",
        "one bool",
    ),
    "a condition in Python": (
        lambda: purerl.make_train(PPO, env=returning(step=lambda out: bool(out[2] > 0) and out)),
        "step of clock = a function",
        "TracerBoolConversionError. Use jnp instead of np, and jnp.where instead of if.",
    ),
    # Networks
    "networks in a list": (
        lambda: purerl.make_train(PAIR, networks=[linear(2)]),
        "networks = <list>",
        "a mapping from names",
    ),
    "a module in place of a pair": (
        lambda: purerl.make_train(PAIR, networks={"pi": MeanOnly()}),
        "networks['pi'] = <MeanOnly>",
        "a pair of functions (init, apply). Of a flax module, give (module.init, module.apply).",
    ),
    "an unknown network": (
        lambda: purerl.make_train(PAIR, networks={"vf": linear(1)}),
        "networks = 'vf'",
        "one of pi, v. Did you mean v?",
    ),
    "a policy without log_std": (
        lambda: purerl.make_train(PAIR, networks={"pi": linen(MeanOnly())}),
        "output of networks['pi'] = float32[1, 1]",
        PI,
    ),
    "the same of plain functions": (
        lambda: purerl.make_algorithm(SAC, networks={"pi": linear(2)}),
        "output of networks['pi'] = float32[1, 2]",
        PI,
    ),
    "too many logits": (
        lambda: purerl.make_train(PPO, networks={"pi": linear(3)}),
        "output of networks['pi'] = float32[1, 3]",
        "logits [B, 2] for float32[1, 4]",
    ),
    "values in a column": (
        lambda: purerl.make_train(PAIR, networks={"v": linen(Column())}),
        "output of networks['v'] = float32[1, 1]",
        "values [B] for float32[1, 3]",
    ),
    "action values in a column": (
        lambda: purerl.make_train(SAC, networks={"q": linen(Column())}),
        "output of networks['q'] = float32[1, 1]",
        "values [B] for float32[1, 3], float32[1, 1]",
    ),
    "a network of another width": (
        lambda: purerl.make_train(
            PAIR, networks={"v": (lambda key, obs: jnp.zeros(4), lambda p, obs: obs @ p)}
        ),
        "networks['v'] = apply",
        "can be called as apply(params, float32[1, 3]), got TypeError",
    ),
    "a squeeze": (
        lambda: purerl.make_train(
            PAIR, networks={"v": (lambda key, obs: jnp.zeros((3, 1)), lambda p, obs: (obs @ p).squeeze())}
        ),
        "output of networks['v'] = float32[]",
        "values [B]",
    ),
    "a fixed batch": (
        lambda: purerl.make_train(
            PAIR, networks={"v": (lambda key, obs: jnp.zeros(3), lambda p, obs: (obs @ p)[:1])}
        ),
        "output of networks['v'] = float32[1]",
        "values [B] for float32[3, 3]",
    ),
    "a narrow core": (
        lambda: purerl.make_train(
            tiny("recurrent_ppo", "pendulum"),
            networks={"core": (lambda key, h, obs: (), lambda p, h, obs: (h[:, :3], h))},
        ),
        "output of networks['core'] = (float32[1, 3], float32[1, 8])",
        "(carry [B, 8], features [B, H]), with rnn_size = 8",
    ),
    "batch statistics": (
        lambda: purerl.make_train(PPO, networks={"pi": linen(Averaging())}),
        "init of networks['pi'] = batch_stats, params",
        "the collection params alone",
    ),
    "batch statistics of a function": (
        lambda: purerl.make_train(
            PPO, networks={"pi": (lambda key, obs: Averaging().init(key, obs), Averaging().apply)}
        ),
        "init of networks['pi'] = batch_stats, params",
        "the collection params alone",
    ),
    "a whole number among the parameters": (
        lambda: purerl.make_train(PPO, networks=beside(steps=lambda key: jnp.int32(3))),
        "params['steps'] of networks['pi'] = int32[]",
        "floats, since an optimiser trains every leaf. Keep other values in the functions.",
    ),
    "a switch among the parameters": (
        lambda: purerl.make_train(PPO, networks=beside(on=lambda key: True)),
        "params['on'] of networks['pi'] = bool[]",
        "floats",
    ),
    "a key among the parameters": (
        lambda: purerl.make_train(PPO, networks=beside(rng=lambda key: key)),
        "params['rng'] of networks['pi'] = key<fry>[]",
        "floats",
    ),
    # Keys and hyperparameters
    "a seed in place of a key": (lambda: train(0), "key = 0", "jax.random.key(0)"),
    "an old key": (lambda: train(np.zeros(2, np.uint32)), "key = uint32[2]", "jax.random.key(0)"),
    "a number as a field": (lambda: train(hyper={1: 0.5}), "1 = 0.5", "a real-valued field"),
    "hyper as a list": (lambda: train(hyper=[1e-3]), "hyper = [0.001]", "a mapping"),
    "a value against its rule": (lambda: train(hyper={"gamma": 1.5}), "gamma = 1.5", "at most 1"),
    "one of many against it": (
        lambda: vmapped(clip_eps=np.float32([0.2, -1.0, 0.1])),
        "clip_eps = -1.0",
        "a finite number, above 0",
    ),
    "NaN among many": (lambda: vmapped(gamma=np.float32([0.2, np.nan])), "gamma = nan", "at most 1"),
    "switches": (lambda: vmapped(gamma=np.array([True, False])), "gamma = bool[]", "a finite number"),
    "a typing error": (
        lambda: vmapped(lerning_rate=np.ones(2)),
        "lerning_rate = float32[]",
        "Did you mean learning_rate?",
    ),
    "many values without vmap": (lambda: train(hyper={"gamma": np.ones(9)}), "gamma = float64[9]", VMAP),
    "a list without vmap": (lambda: train(hyper={"gamma": [0.9, 0.99]}), "gamma = [0.9, 0.99]", VMAP),
    "a vector inside jit": (
        lambda: jax.jit(lambda gamma: replace(PPO, {"gamma": gamma}).gamma)(np.ones(2)),
        "gamma = float32[2]",
        VMAP,
    ),
    # A run
    "seeds as text": (lambda: purerl.run(PPO, seeds="8"), "seeds = '8'", "a whole number"),
    "a list of seeds": (lambda: purerl.run(PPO, seeds=[0, 1]), "seeds = [0, 1]", "a whole number"),
    "a directory for seeds": (lambda: purerl.run(PPO, "runs/x"), "seeds = 'runs/x'", "a whole number"),
    "logdir": (lambda: purerl.run(PPO, logdir=5), "logdir = 5", "the path of a file or directory"),
    "a path to resume": (
        lambda: purerl.run(PPO, resume="runs/x"),
        "resume = 'runs/x'",
        "True or False",
        "logdir",
    ),
    "a sweep of whole numbers": (
        lambda: purerl.run(PPO, sweep={"num_envs": [4, 8]}),
        "num_envs = 4",
        "a real-valued field",
    ),
    "a sweep of a typing error": (
        lambda: purerl.run(PPO, sweep={"gama": [0.9]}),
        "gama = 0.9",
        "Did you mean gamma?",
    ),
    "a sweep of nothing": (lambda: purerl.run(PPO, sweep={"gamma": []}), "sweep[gamma] = []", "at least one"),
    "a sweep of one number": (lambda: purerl.run(PPO, sweep={"gamma": 0.9}), "sweep[gamma] = 0.9", "a list"),
    "a run to load that is none": (lambda: purerl.load("nowhere"), "run_dir = 'nowhere'", "a run"),
    "a number to load": (lambda: purerl.load(5), "run_dir = 5", "the path of a file or directory"),
    "which policy": (lambda: purerl.load("nowhere", best="yes"), "best = 'yes'", "True or False"),
    # Policies
    "one observation": (
        lambda: act(np.zeros(3)),
        "obs = float64[3]",
        "a row of shape (3,) per environment, [N, 3]. For one observation: ",
        "act(carry, obs[None], key)",
    ),
    "observations of another environment": (lambda: act(np.zeros((1, 4))), "obs = float64[1, 4]", "[N, 3]"),
    "a carry of other environments": (
        lambda: act(np.zeros((2, 3)), tiny("recurrent_ppo", "pendulum"), np.zeros((1, 8))),
        "carry = float64[1, 8]",
        "as init(2) gives it",
    ),
    # Gymnasium
    "an instance": (lambda: purerl.from_gymnasium(Gym()), "make_one = ", "a function that makes one copy"),
    "an id": (lambda: purerl.from_gymnasium("CartPole-v1"), "make_one = 'CartPole-v1'", "makes one copy"),
    "a function of nothing": (lambda: purerl.from_gymnasium(lambda: None), "make_one = ", "returns NoneType"),
    "None as reward": (gym(moved=moved(reward=None)), "reward of Mine's step = None", "a finite number"),
    "NaN as reward": (gym(moved=moved(reward=np.nan)), "reward of Mine's step = nan", "a finite number"),
    "text as reward": (gym(moved=moved(reward="1")), "reward of Mine's step = '1'", "a finite number"),
    "an array as reward": (
        gym(moved=moved(reward=np.array([1.0]))),
        "reward of Mine's step = array([1.])",
        "a finite number, and no array of one",
    ),
    "an array as a flag": (
        gym(moved=moved(terminated=np.array([False]))),
        "terminated of Mine's step = array([False])",
        "True or False, and no array of one",
    ),
    "rewards": (gym(moved=moved(reward=[1, 2])), "reward of Mine's step = [1, 2]", "a finite number"),
    "None as a flag": (
        gym(moved=moved(terminated=None)),
        "terminated of Mine's step = None",
        "True or False",
    ),
    "an observation too long": (
        gym(moved=moved(np.zeros(3))),
        "obs of Mine's step = float64[3]",
        "float32[2]",
    ),
    "an observation of objects": (gym(moved=moved(None)), "obs of Mine's step = object[]", "float32[2]"),
    "four values": (gym(moved=moved()[1:]), "results of step of Mine = 4 values", "Gym's old `done`"),
    "no spaces": (gym(action_space=None), "env = 'Mine'", "an environment with action_space"),
    "None as info": (gym(moved=(*moved()[:4], None)), "info of step of Mine = None", "a dict"),
    "no info": (gym(started=Gym.started[0]), "results of reset of Mine = one ndarray", "(obs, info)"),
    "a reset without a seed": (
        lambda: purerl.from_gymnasium(OldGym),
        "reset of OldGym = a function",
        "reset(*, seed=None, options=None)",
    ),
    "a reset without options": (
        lambda: purerl.from_gymnasium(NoOptions),
        "reset of NoOptions = a function",
        "reset(*, seed=None, options=None)",
        "'options'",
    ),
    "observations normalised by a wrapper": (
        wrapped(wrappers.NormalizeObservation, wrappers.FlattenObservation),
        "env = 'Gym'",
        "no wrapper NormalizeObservation, whose statistics are not saved",
        "Set normalize_obs of an on-policy algorithm",
    ),
    "rewards normalised by a wrapper": (
        wrapped(wrappers.NormalizeReward, wrappers.OrderEnforcing),
        "env = 'Gym'",
        "no wrapper NormalizeReward",
        "Set normalize_reward of",
    ),
    "a normalised vector": (
        wrapped(lambda env: SyncVectorEnv([lambda: env]), wrappers.vector.NormalizeObservation),
        "env = ",
        "no wrapper NormalizeObservation",
        "Set normalize_obs",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import what the first call of any session imports."""
    jax.eval_shape(purerl.make_driver(SAC).init, KEY, {})
    gymnasium.make("CartPole-v1")
    purerl.make_algorithm(PAIR)


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(mistake, compiled, no_collection, tmp_path, monkeypatch):
    """It names the argument, its value and what was expected; nothing is compiled or written."""
    call, start, *parts = mistake
    monkeypatch.chdir(tmp_path)
    compiled.clear()
    began = time.process_time()
    with warnings.catch_warnings(), pytest.raises(ConfigError) as error:
        warnings.simplefilter("ignore")
        call()
    assert time.process_time() - began < SECONDS
    message = str(error.value)
    assert compiled == [] and list(tmp_path.iterdir()) == []
    head, _, rest = message.partition(": expected ")
    assert head.startswith(start) and all(part in rest for part in parts), message
    assert (
        message.isprintable() and len(message) < 700 and "Tracer(" not in message and "Tracer<" not in message
    )
    assert ("Did you mean" in message) == any("Did you mean" in part for part in parts), message


# Spaces

BOX, ACTIONS = spaces.Box(-1, 1, (2,)), "env = 'clock'"
INF = np.float32([np.inf, np.inf])
SPACES = {
    "Dict of a Dict": (in_spaces(spaces.Dict({"a": spaces.Dict({"b": BOX})})), "is flat, got a Dict in 'a'"),
    "Dict of an index": (in_spaces(spaces.Dict({"a": spaces.Discrete(3)})), "a Dict of Boxes", "one_hot"),
    "Dict of nothing": (in_spaces(spaces.Dict({})), "at least one part"),
    "Tuple": (in_spaces(spaces.Tuple([BOX])), "Box observation space", "Concatenate its parts"),
    "Discrete": (in_spaces(spaces.Discrete(3)), "Box observation space", "one_hot"),
    "MultiBinary": (in_spaces(spaces.MultiBinary(3)), "Box observation space", "float32"),
    "none of Gymnasium's": (in_spaces(SimpleNamespace()), "got a types.SimpleNamespace"),
    "whole numbers": (in_spaces(spaces.Box(0, 9, (2,), np.int32)), "observations of float32, or uint8"),
    "no numbers": (in_spaces(spaces.Box(0, 1, (0,))), "at least one number in an observation"),
    "action: Dict": (in_spaces(action_space=spaces.Dict({"a": BOX})), "MultiBinary or flat Box action"),
    "action: MultiDiscrete": (
        in_spaces(action_space=spaces.MultiDiscrete([[2, 3]])),
        "a flat MultiDiscrete",
    ),
    "action: MultiBinary": (in_spaces(action_space=spaces.MultiBinary((2, 3))), "a flat MultiBinary"),
    "action: start": (in_spaces(action_space=spaces.Discrete(3, start=1)), "starts at 0"),
    "action: starts": (
        in_spaces(action_space=spaces.MultiDiscrete([2, 3], start=[0, 1])),
        "MultiDiscrete action space that starts at 0",
    ),
    "action: two axes": (
        in_spaces(action_space=spaces.Box(-1, 1, (2, 3))),
        "of one axis, got Box(-1.0, 1.0, (2,",
    ),
    "action: no axis": (in_spaces(action_space=spaces.Box(-1, 1, ())), "of one axis"),
    "action: no numbers": (
        in_spaces(action_space=spaces.Box(-1, 1, (0,))),
        "at least one number in an action",
    ),
    "action: whole numbers": (
        in_spaces(action_space=spaces.Box(0, 3, (2,), np.int64)),
        "action space of floats",
    ),
    "action: a point": (
        in_spaces(action_space=spaces.Box(np.float32([-1, 0]), np.float32([1, 0]))),
        "low is below its high",
    ),
    "action: half a bound": (
        in_spaces(action_space=spaces.Box(np.float32([0, 0]), INF)),
        "bounded on every side",
    ),
    "action: one bound of two": (
        in_spaces(action_space=spaces.Box(np.float32([-1, -np.inf]), np.float32([1, np.inf]))),
        "bounded on every side",
    ),
    "action: too wide": (in_spaces(action_space=spaces.Box(-3e38, 3e38, (2,))), "float32 can hold"),
}


@pytest.mark.parametrize("algo", ["ppo", "sac"])
@pytest.mark.parametrize("case", SPACES.values(), ids=SPACES)
def test_spaces_are_refused_by_every_algorithm_alike(algo, case, compiled):
    env, *parts = case
    compiled.clear()
    with pytest.raises(ConfigError) as error:
        purerl.make_train(PPO if algo == "ppo" else SAC, env=env)
    assert error.value.field == "env" and all(part in str(error.value) for part in parts), error.value
    assert compiled == []


@pytest.mark.parametrize(
    "params",
    [
        {"w": jnp.zeros((4, 2), jnp.bfloat16), "scale": 1.0, "empty": ()},
        {"params": {"w": jnp.zeros((4, 2))}, "log_std": jnp.zeros(2)},  # no module's, so no collections
        {"batch_stats": jnp.zeros((4, 2))},
    ],
    ids=str,
)
def test_parameters_of_plain_functions_have_any_names(params):
    """And any floats, also Python's."""
    networks = {"pi": (lambda key, obs: params, lambda params, obs: jnp.zeros((len(obs), 2)))}
    purerl.make_train(PPO, networks=networks)


def test_bounds_nan():
    low = np.float32([np.nan, 0])
    space = spaces.Box(np.zeros(2, np.float32), np.ones(2, np.float32))
    space.low = low
    for spec in (spec_of(in_spaces(space)), spec_of(in_spaces(action_space=space))):
        with pytest.raises(ConfigError, match="env = 'clock'"):
            check_spaces(spec)


def test_what_is_right_passes():
    """NumPy's scalars, unbounded actions, hidden entries, a vector of hyperparameters under vmap."""
    for env in (
        in_spaces(action_space=spaces.Box(-np.inf, np.inf, (2,))),
        in_spaces(spaces.Box(0, 0, (3,)), spaces.Box(-1, 1, (2,), np.float64)),
    ):
        purerl.make_train(PPO, env=env)
    assert vmapped(clip_eps=np.float32([0.1, 0.2])).shape == (2,)
    assert purerl.make_config("ppo", gamma=np.float32(0.5), num_envs=np.int64(4)).num_envs == 4
    policy = purerl.make_policy(PPO, like(PPO, members=2), member=np.int64(1))
    assert jax.eval_shape(policy.act, (), np.zeros((5, 4)), KEY)[0].shape == (5,)


@pytest.mark.parametrize("reward", [1, True, np.float64(1), np.array(1.0), jnp.float32(1)], ids=repr)
def test_one_number_of_any_library_is_a_reward(reward):
    """A flag too, and a normalising wrapper whose statistics are frozen."""
    frozen = lambda: wrappers.NormalizeObservation(
        type("Mine", (Gym,), {"moved": moved(reward=reward, terminated=np.array(False))})()
    )

    def make_one():
        env = frozen()
        env.update_running_mean = False
        return env

    vector = purerl.from_gymnasium(make_one).make_vector(2, False)
    vector.reset([0, 1])
    assert vector.step(np.zeros(2, int))[1].tolist() == [1.0, 1.0]
    vector.close()


# Networks

PAGE = (Path(__file__).parents[1] / "docs" / "networks.md").read_text("utf-8")
PROGRAMS = re.findall(r"(?<!dependency -->)\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", PROGRAMS, ids=range(len(PROGRAMS)))
def test_networks_of_the_page_pass_their_trial(code, tmp_path, monkeypatch):
    """The training that they are given to can be traced."""
    (tmp_path / "page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "page", raising=False)
    importlib.invalidate_caches()
    jax.eval_shape(importlib.import_module("page").train, KEY)


def test_the_page_has_every_network_of_every_algorithm():
    """With the names that `networks` takes, and no others."""
    rows = re.findall(r"^\| (`.*?) \| `(\w+)` \|", PAGE, re.MULTILINE)
    found = {(algo, name) for algos, name in rows for algo in re.findall(r"`(\w+)`", algos)}
    found.discard(("shared_torso", "torso"))
    expected = set()
    for algo in registry.ALGORITHMS:
        for fields in ({}, {"shared_torso": True}):
            known = {field.name for field in dataclasses.fields(registry.config_class(algo))}
            if known >= set(fields):
                env = environments_of(registry.config_class(algo))[-1]
                cfg, spec = tiny(algo, env, **fields), spec_of(purerl.make_env(env))
                expected |= {
                    (algo, name) for name in registry.algorithm_module(cfg).default_networks(cfg, spec)
                }
    assert found == expected - {("recurrent_ppo", "pi"), ("recurrent_ppo", "v")}


# Parameters


def test_replaced_default_params_are_used():
    """Without them a pole falls under no gravity as under ours."""
    env = purerl.make_env("cartpole")
    heavy = env._replace(default_params=env.default_params._replace(gravity=98.0))

    def velocity(env):
        step = purerl.make_driver(PPO, env).env.step
        return jax.jit(lambda state: step(KEY, state, 0)[0][3])(env.reset(KEY)[1])

    expected = env.step(KEY, env.reset(KEY)[1], 0, heavy.default_params)[0][3]
    np.testing.assert_allclose(velocity(heavy), expected, rtol=1e-4)
    assert velocity(env) != velocity(heavy)


def test_an_index_of_gymnasium_may_start_anywhere():
    """A policy of such an environment acts in its units."""
    env = purerl.from_gymnasium(type("Mine", (Gym,), {"action_space": spaces.Discrete(2, start=5)}))
    state = like(PPO, outline(env))
    action, _ = jax.jit(purerl.make_policy(PPO, state, env=env).act)((), np.zeros((3, 2)), KEY)
    assert {*action.tolist()} <= {5, 6}


MUTANTS = {
    "an array of one is a number": (
        "envs/adapters/gymnasium_trial.py",
        "array.ndim == 0 and",
        "array.size == 1 and",
        "test_a_mistake_is_one_sentence[an array as reward]",
    ),
    "no array is a number": (
        "envs/adapters/gymnasium_trial.py",
        "array.ndim == 0 and",
        "not hasattr(value, 'ndim') and",
        "test_one_number_of_any_library_is_a_reward",
    ),
    "a reset needs no options": (
        "envs/adapters/gymnasium_trial.py",
        "env.reset(**arguments)",
        "env.reset(seed=0)",
        "test_a_mistake_is_one_sentence[a reset without options]",
    ),
    "normalising wrappers train": (
        "envs/adapters/from_gymnasium.py",
        "        refuse_running_statistics(env)\n",
        "",
        "test_a_mistake_is_one_sentence[rewards normalised by a wrapper]",
    ),
    "normalising wrappers train inside another": (
        "envs/adapters/gymnasium_trial.py",
        "        wrapper = wrapper.env\n",
        "        break\n",
        "test_a_mistake_is_one_sentence[observations normalised by a wrapper]",
    ),
    "frozen statistics are refused": (
        "envs/adapters/gymnasium_trial.py",
        " and wrapper.update_running_mean",
        "",
        "test_one_number_of_any_library_is_a_reward",
    ),
    "batch statistics are trained": (
        "network_trial.py",
        "    if others:",
        "    if False:",
        "test_a_mistake_is_one_sentence[batch statistics]",
    ),
    "collections of a function are trained": (
        "network_trial.py",
        'else key in STATES and "params" in names',
        "else False",
        "test_a_mistake_is_one_sentence[batch statistics of a function]",
    ),
    "names of a function's parameters are collections": (
        "network_trial.py",
        '(key != "params" if of_flax else key in STATES and "params" in names)',
        'key != "params"',
        "test_parameters_of_plain_functions_have_any_names",
    ),
    "whole numbers are parameters": (
        "network_trial.py",
        "if not jnp.issubdtype(leaf.dtype, jnp.floating):",
        "if False:",
        "test_a_mistake_is_one_sentence[a whole number among the parameters]",
    ),
    "a mean alone will do": (
        "network_trial.py",
        "            if not _alike(out, expected):",
        "            if False:",
        "test_a_mistake_is_one_sentence",
    ),
    "networks are tried on one observation only": (
        "network_trial.py",
        "BATCHES = (1, 3)",
        "BATCHES = (1,)",
        "test_a_mistake_is_one_sentence",
    ),
    "values of vmap are unknown": (
        "config.py",
        'inner = getattr(inner, "val", None)',
        "inner = None",
        "test_a_mistake_is_one_sentence",
    ),
    "only the least of many values is checked": (
        "config.py",
        "return [lanes.min().item(), lanes.max().item()]",
        "return [lanes.max().item()]",
        "test_a_mistake_is_one_sentence",
    ),
    "an observation needs no axis": (
        "evaluate.py",
        "    if shape[1:] != box.shape or not shape:",
        "    if False:",
        "test_a_mistake_is_one_sentence",
    ),
    "replaced parameters are not used": (
        "make.py",
        "return env if isinstance(env, HostEnv) else with_default_params(env)",
        "return env",
        "test_replaced_default_params_are_used",
    ),
    "half a bound is enough": (
        "spaces.py",
        "    if not np.isfinite(width).all():",
        "    if False:",
        "test_spaces_are_refused_by_every_algorithm_alike",
    ),
    "a Gymnasium environment is not tried": (
        "envs/adapters/from_gymnasium.py",
        "        try_env(unflattened(env), called)\n",
        "",
        "test_a_mistake_is_one_sentence",
    ),
    "a policy counts from 0": (
        "rollout.py",
        "return action + to_rank(first, action.ndim) if first.any() else action",
        "return action",
        "test_an_index_of_gymnasium_may_start_anywhere",
    ),
    "the state of another environment": (
        "make.py",
        "    check_fits(state.algo, jax.eval_shape(algo.init, key), cfg.algo)\n",
        "",
        "test_a_mistake_is_one_sentence",
    ),
}
