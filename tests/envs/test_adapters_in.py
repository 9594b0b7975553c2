"""Other libraries' environments as purerl's, by tiny ones with the interfaces of gymnax, brax and Playground.

What the libraries themselves do is in tests/adapters, which needs them installed.
"""

import copy
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.from_brax import from_brax, from_playground, make_brax, make_playground
from purerl.envs.adapters.from_gymnax import from_gymnax, make_gymnax

KEY = jax.random.key(0)
STEP_KEYS = jax.random.split(jax.random.key(1), 8)
START = int(jax.random.randint(KEY, (), 0, 2))


def struct(cls, eq=True):
    """A frozen dataclass that is a pytree, as flax makes them."""
    cls = dataclass(frozen=True, eq=eq)(cls)
    return jax.tree_util.register_dataclass(cls, list(cls.__dataclass_fields__), [])


def play(env, actions, params=None):
    """Rows of play `[R, T, ...]`, whatever ends: `(obs at the start, obs, reward, terminated, truncated)`."""

    def step(params, state, draw):
        obs, state, reward, terminated, truncated, _ = env.step(*draw[:1], state, draw[1], params)
        return state, (obs, reward, terminated, truncated)

    def run(actions, params):
        obs, state = env.reset(KEY, params)
        return obs, jax.lax.scan(partial(step, params), state, (STEP_KEYS[: len(actions)], actions))[1]

    first, rows = jax.jit(jax.vmap(run))(jnp.asarray(actions), params)
    return np.asarray(first), *map(np.asarray, rows)


# gymnax


@struct
class Walk:
    """A step to the right or the left; `over` is what MinAtar's games remember, their limit included."""

    place: Any
    over: Any
    time: Any


@struct
class WalkParams:
    goal: Any = 3.0
    max_steps_in_episode: Any = 6


class OldWalk:
    """As gymnax 0.x has them: one `done`, and numbers of any type."""

    name = "Walk-v0"
    default_params = WalkParams()

    def observation_space(self, params):
        return SimpleNamespace(
            low=jnp.array([-3.4028235e38, 0]), high=3.4028235e38, shape=(2,), dtype=jnp.float32
        )

    def action_space(self, params):
        return SimpleNamespace(n=2, shape=(), dtype=np.int64)

    def reset_env(self, key, params):
        state = Walk(jax.random.randint(key, (), 0, 2), False, 0)  # an integer, until the first step
        return self.observe(state, params), state

    def observe(self, state, params):
        return jnp.array([state.place, state.time / params.max_steps_in_episode])

    def move(self, key, state, action):
        noise = 0.1 * jax.random.uniform(key)
        return replace(
            state, place=state.place + jnp.where(action == 1, 1.0, -1.0) + noise, time=state.time + 1
        )

    def is_terminal(self, state, params):
        return state.over | (state.place > params.goal) | (state.time >= params.max_steps_in_episode)

    def step_env(self, key, state, action, params):
        state = self.move(key, state, action)
        done = self.is_terminal(state, params)
        return self.observe(state, params), replace(state, over=done), 1, done, {"discount": 1.0 - done}

    def step(self, key, state, action, params):
        """Resets itself, so that nothing of it may be seen."""
        _, _, reward, done, info = self.step_env(key, state, action, params)
        return *self.reset_env(key, params), reward, done, info


class NewWalk(OldWalk):
    """As gymnax 1.x has them: `step_env` tells of the task, `is_truncated` of the clock."""

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def step_env(self, key, state, action, params):
        state = self.move(key, state, action)
        return self.observe(state, params), state, 1.0, state.place > params.goal, {"discount": 1}

    def step(self, key, state, action, params):
        _, after, reward, terminated, info = self.step_env(key, state, action, params)
        return *self.reset_env(key, params), reward, terminated, self.is_truncated(after, params), info


WALKS = {"0.x": OldWalk, "1.x": NewWalk}
RIGHT, LEFT = 1, 0


@pytest.fixture(params=WALKS)
def walk(request):
    return WALKS[request.param]()


def test_a_gymnax_environment_keeps_the_contract(walk):
    """Types, spaces, both flags, no reset in a step, `params` that vmap: all that `check_env` tries."""
    env = from_gymnax(walk)
    purerl.check_env(env)
    assert (env.name, env.max_episode_steps, env.default_params) == ("Walk-v0", 6, WalkParams())
    assert env.action_space == spaces.Discrete(2)
    low, high = np.array([-np.inf, 0], np.float32), np.full(2, np.inf, np.float32)
    assert env.observation_space == spaces.Box(low, high)


ENDS = {
    "time is up": ([LEFT] * 6, START + 3.0, [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]),
    "the goal": ([RIGHT] * 6, START + 3.4, [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]),
    "both at once": ([LEFT, *[RIGHT] * 5], START + 3.6, [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]),
}


def test_a_done_of_gymnax_is_taken_apart(walk):
    """A time limit is no death, also where the environment notes down its own `done`."""
    actions, goals, *ends = map(np.array, zip(*ENDS.values(), strict=True))
    params = WalkParams(jnp.array(goals), jnp.full(3, 6))
    first, obs, reward, *flags = play(from_gymnax(walk), actions, params)
    np.testing.assert_array_equal(flags, np.array(ends, bool))
    assert (reward == 1).all() and (first[:, 0] == START).all()
    place = first[:, :1] + np.cumsum(np.where(actions, 1.0, -1.0) + noise(6), 1)
    np.testing.assert_allclose(obs[..., 0], place, rtol=1e-5)  # to the last, from before any reset
    np.testing.assert_allclose(obs[..., 1], np.tile(np.arange(1, 7) / 6, (3, 1)), rtol=1e-6)


def noise(steps):
    return np.array([0.1 * float(jax.random.uniform(key)) for key in STEP_KEYS[:steps]])


def test_a_time_limit_can_be_given(walk):
    """By argument, and per step by `params`; these shorten an episode and do not prolong it."""
    env = from_gymnax(walk, max_episode_steps=4)
    assert (env.max_episode_steps, env.default_params.max_steps_in_episode) == (4, 4)
    whole = from_gymnax(walk, WalkParams(max_steps_in_episode=6.0), max_episode_steps=4).default_params
    assert type(whole.max_steps_in_episode) is float  # some observation spaces are built of it
    params = WalkParams(jnp.full(3, 3.0), jnp.array([4, 2, 6]))
    *_, terminated, truncated = play(env, [[LEFT] * 4] * 3, params)
    assert truncated.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    assert not terminated[[0, 2]].any() and not terminated[1, :2].any()
    *_, truncated = play(env, [[LEFT] * 4])
    assert truncated.tolist() == [[0, 0, 0, 1]]


def test_gymnax_environments_without_a_limit_need_one(walk):
    class Goal(NamedTuple):
        goal: float = 3.0

    walk.observe = lambda state, params: jnp.array([state.place, 0.0])
    walk.is_terminal = lambda state, params: state.place > params.goal
    walk.is_truncated = lambda state, params: jnp.array(False)
    with pytest.raises(ConfigError, match=r"max_episode_steps = None .* no max_steps_in_episode"):
        from_gymnax(walk, Goal())
    env = from_gymnax(walk, Goal(START + 2.4), max_episode_steps=3)
    *_, terminated, truncated = play(env, [[LEFT] * 3, [RIGHT] * 3])
    assert terminated.tolist() == [[0, 0, 0], [0, 0, 1]] and truncated.tolist() == [[0, 0, 1]] * 2


def test_discrete_observations_become_one_hot():
    walk = NewWalk()
    walk.observation_space = lambda params: SimpleNamespace(n=jnp.int32(9))
    walk.observe = lambda state, params: (state.place + 4).astype(int)
    env = from_gymnax(walk)
    assert env.observation_space == spaces.Box(0, 1, (9,), np.float32)
    first, obs, *_ = play(env, [[LEFT, LEFT]])
    assert first.dtype == np.float32 and obs.sum(-1).tolist() == [[1, 1]]
    assert obs.argmax(-1).tolist() == [[first.argmax() - 1, first.argmax() - 2]]


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_boxes_of_actions_are_boxes(shape):
    """A single number has one axis in purerl, and in the library what it has there."""
    walk, seen = NewWalk(), []
    walk.action_space = lambda params: SimpleNamespace(
        low=-2.0, high=np.float32(1), shape=shape, dtype=jnp.float32
    )
    walk.move = lambda key, state, action: (
        seen.append(action.shape) or NewWalk.move(walk, key, state, action.sum() > 0)
    )
    env = from_gymnax(walk)
    assert env.action_space == spaces.Box(-2, 1, shape or (1,), np.float32)
    play(env, np.ones((1, 1, *(shape or (1,))), np.float32))
    assert set(seen) == {shape}


def test_bytes_stay_bytes():
    walk = NewWalk()
    walk.observation_space = lambda params: SimpleNamespace(low=0, high=255, shape=(2,), dtype=jnp.uint8)
    walk.observe = lambda state, params: jnp.stack([state.place, state.time]).astype(jnp.uint8)
    env = from_gymnax(walk)
    assert env.observation_space == spaces.Box(0, 255, (2,), np.uint8)
    assert play(env, [[RIGHT]])[1].dtype == np.uint8


def wrapped(walk):
    class Wrapper:
        def __getattr__(self, name):
            return getattr(walk, name)

    return Wrapper()


def changed(**attributes):
    walk = NewWalk()
    walk.observe = lambda state, params: jnp.zeros(2)
    vars(walk).update(attributes)
    return walk


def changed_state(**fields):
    return changed(move=lambda key, state, action: replace(state, **fields))


@pytest.mark.parametrize(
    ("walk", "says"),
    [
        (wrapped(NewWalk()), "no reset_env of its own: pass the gymnax environment inside its wrappers"),
        (changed(step=lambda *_: (1, 2, 3, 4)), "step returns 4 values"),
        (
            changed(action_space=lambda _: SimpleNamespace(spaces={})),
            "actions are .* indices or a box of floats",
        ),
        (
            changed(action_space=lambda _: SimpleNamespace(low=0, high=3, shape=(2,), dtype=np.int32)),
            "actions are .* indices or a box of floats",
        ),
        (changed(observation_space=lambda _: SimpleNamespace(spaces={})), "observations are .* one array"),
        (changed(observe=lambda state, params: {"place": state.place}), "observations are .* one array"),
        (changed_state(over=jnp.zeros(2)), r"changes the structure or the shape of its state: \.over"),
        (changed_state(over=None), r"the shape of its state: \.over"),
        (changed_state(over=[]), r"the shape of its state: \.over"),
    ],
    ids=["wrapped", "values", "actions", "integers", "space", "observation", "shape", "none", "structure"],
)
def test_what_is_no_gymnax_environment_is_refused(walk, says):
    with pytest.raises(ConfigError, match=says):
        from_gymnax(walk)


# brax and Playground


@partial(struct, eq=False)
class Physics:
    """Like some of the libraries' own, it cannot be compared."""

    q: Any
    clock: Any


@struct
class State:
    physics: Any
    obs: Any
    reward: Any
    done: Any
    metrics: dict = field(default_factory=dict)
    info: dict = field(default_factory=dict)


class Slide:
    """Moves by its action and a little chance, whose key it keeps; writes into what it is given."""

    action_size = 2

    def __init__(self, observe=lambda q: q):
        self.observe, self.resets = observe, []

    def reset(self, key):
        assert key.dtype == jnp.uint32, "the old kind"
        q = jax.random.uniform(key, (2,))
        jax.debug.callback(lambda _: self.resets.append(1), q)
        zero = jnp.zeros(())
        return State(Physics(q, 0), self.observe(q), zero, zero, {"q": zero}, {"key": key})

    def step(self, state, action):
        key, key_noise = jax.random.split(state.info["key"])
        state.info["key"] = key
        q = state.physics.q + action + 0.1 * jax.random.uniform(key_noise, (2,))
        state.metrics.update(q=q[0])
        physics = Physics(q, state.physics.clock + 1)
        # Not even a float, let alone an array.
        done = jnp.where(q[0] > 3.0, 1.0, 0.0) if state.physics.q.ndim else 0.0
        return replace(state, physics=physics, obs=self.observe(q), reward=q.sum(), done=done)


STILL, FAR = np.zeros(2, np.float32), np.array([3.5, 0], np.float32)


def test_a_brax_environment_keeps_the_contract():
    """Also where it writes into the dicts of the State that it is given."""
    env = from_brax(Slide(), max_episode_steps=5)
    purerl.check_env(env)
    assert (env.name, env.max_episode_steps, env.default_params) == ("Slide", 5, ())
    assert env.action_space == spaces.Box(-1, 1, (2,), np.float32)
    assert env.observation_space == spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert from_brax(Slide()).max_episode_steps == 1000


def test_a_step_of_brax_changes_no_state():
    """Twice the same step from the same state is the same, outside of any trace too."""
    env = from_brax(Slide())
    _, state = env.reset(KEY)
    before = copy.deepcopy(jax.tree.map(np.asarray, state))
    twice = [env.step(KEY, state, STILL)[0] for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, state))


def test_the_clock_of_brax_is_ours():
    """Time is up, the task is done, and both at once."""
    slide = Slide()
    actions = np.stack([[STILL] * 4, [STILL, FAR, STILL, STILL], [STILL, STILL, STILL, FAR]])
    first, obs, reward, *flags = play(from_brax(slide, max_episode_steps=4), actions)
    assert flags[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]]
    assert flags[1].tolist() == [[0, 0, 0, 1]] * 3
    state = slide.reset(jax.random.key_data(KEY))
    np.testing.assert_allclose(first[0], state.obs)
    for action, seen, earned in zip(actions[2], obs[2], reward[2], strict=True):
        state = slide.step(state, action)
        np.testing.assert_allclose(seen, state.obs, rtol=1e-6)
        np.testing.assert_allclose(earned, state.reward, rtol=1e-6)


def test_brax_is_reset_where_it_is_needed_only():
    """Of 64 environments a step resets two at a time; every start is a fresh draw."""
    slide = Slide()
    env, keys = from_brax(slide), jax.random.split(KEY, 64)
    reset = jax.jit(jax.vmap(env.reset, (0, None, 0)))
    for needed, runs in ((np.arange(64) < 3, 4), (np.zeros(64, bool), 0), (np.ones(64, bool), 64)):
        slide.resets.clear()
        obs, state = jax.block_until_ready(reset(keys, None, needed))
        jax.effects_barrier()
        assert len(slide.resets) == runs
        expected = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
        np.testing.assert_allclose(obs[needed], expected[needed], rtol=1e-6)
        assert not np.asarray(state.time).any() and len(np.unique(obs[needed], axis=0)) == needed.sum()


def test_one_part_of_an_observation_is_seen():
    def observe(q):
        return {"state": q, "privileged_state": jnp.append(q, 7.0), "pixels": jnp.full((2, 2), 9, jnp.uint8)}

    assert from_brax(Slide(observe)).observation_space.shape == (2,)
    assert play(from_brax(Slide(observe), obs_key="privileged_state"), [[STILL]])[1][0, 0, 2] == 7
    pixels = from_brax(Slide(observe), obs_key="pixels")
    assert pixels.observation_space == spaces.Box(0, 255, (2, 2), np.uint8)
    with pytest.raises(ConfigError, match=r"obs_key = 'stat' .* Did you mean state"):
        from_brax(Slide(observe), obs_key="stat")


class AutoResetWrapper:
    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        return getattr(self.env, name)


class Outer(AutoResetWrapper):
    pass


class Batch(Slide):
    def reset(self, key):
        return jax.vmap(super().reset)(jax.random.split(key, 3))


class NoState(Slide):
    def reset(self, key):
        return SimpleNamespace(obs=jnp.zeros(2))


@pytest.mark.parametrize("adapt", [from_brax, partial(from_playground, max_episode_steps=3)])
@pytest.mark.parametrize(
    ("env", "says"),
    [
        (AutoResetWrapper(Slide()), "it is in a AutoResetWrapper"),
        (Outer(Slide()), "it is in a AutoResetWrapper"),
        (
            type("Mine", (), {"env": None, "__init__": lambda self: vars(self).update(env=Outer(Slide()))})(),
            "AutoReset",
        ),
        (Batch(), r"shapes \(3,\) and \(3,\)"),
    ],
    ids=["wrapper", "subclass", "inside", "batch"],
)
def test_what_resets_or_batches_itself_is_refused(adapt, env, says):
    with pytest.raises(ConfigError, match=says):
        adapt(env)


def test_playground_says_itself_how_long_an_episode_is():
    slide = Slide()
    with pytest.raises(ConfigError, match="no episode_length"):
        from_playground(slide)
    slide._config = SimpleNamespace(episode_length=3)
    *_, terminated, truncated = play(from_playground(slide), [[STILL] * 3])
    assert truncated.tolist() == [[False, False, True]] and not terminated.any()
    assert from_playground(slide, max_episode_steps=8, name="slide").max_episode_steps == 8


# By id


class Config(dict):
    """What Playground's entries are in."""


def library(name, **contents):
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def load(env, config_overrides):
    slide = Slide()
    slide._config = SimpleNamespace(**{"episode_length": 50, "impl": "warp", "noise": 0.0} | config_overrides)
    if set(vars(slide._config)) - {"episode_length", "impl", "noise"}:
        raise KeyError("no such entry")
    return slide


class ScaledWalk(OldWalk):
    def __init__(self, scale: float = 1.0):
        self.scale = scale


@pytest.fixture
def libraries(monkeypatch):
    def make(env, **kwargs):
        walk = ScaledWalk(**kwargs)
        return walk, walk.default_params

    envs = library("brax.envs", _envs={"slide": Slide}, get_environment=lambda env, **kwargs: Slide(**kwargs))
    registry = SimpleNamespace(
        ALL_ENVS=("SlideFar",), load=load, get_default_config=lambda _: {"impl": "warp", "episode_length": 50}
    )
    modules = {
        "gymnax": library("gymnax", make=make, registered_envs=["Walk-v0"]),
        "brax": library("brax", envs=envs),
        "brax.envs": envs,
        "mujoco_playground": library("mujoco_playground", registry=registry),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


MAKERS = {
    "gymnax": (make_gymnax, "Walk-v0", "gymnax", "gymnax"),
    "brax": (make_brax, "slide", "brax", "brax"),
    "playground": (make_playground, "SlideFar", "mujoco_playground", "playground"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_id_makes_an_environment(name, libraries):
    make, env, *_ = MAKERS[name]
    made = make(env, engine="auto", max_episode_steps=7)
    assert (made.name, made.max_episode_steps) == (f"{name}:{env}", 7)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("arguments", "field", "says"),
    [
        (dict(env=lambda known: known[:-1]), "env", "Did you mean {name}:{known}"),
        (dict(env=lambda known: f"os:{known}"), "env", "without a module or a path"),
        (dict(env=lambda known: f"../{known}"), "env", "without a module or a path"),
        (dict(env=lambda known: ""), "env", "without a module or a path"),
        (dict(env=lambda known: 3), "env", "without a module or a path"),
        (dict(engine="mujoco"), "engine", "takes only auto"),
        (dict(max_episode_steps=0), "max_episode_steps", "at least 1"),
        (dict(nosuch=1), "env", "cannot be made with these options"),
    ],
    ids=["near", "module", "path", "empty", "number", "engine", "limit", "option"],
)
def test_a_wrong_id_or_option_is_told(name, arguments, field, says, libraries):
    make, known, *_ = MAKERS[name]
    arguments = {"env": lambda known: known} | arguments
    with pytest.raises(ConfigError, match=says.format(name=name, known=known)) as caught:
        make(arguments.pop("env")(known), **arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("name", MAKERS)
def test_a_library_that_is_not_there_is_named(name, monkeypatch):
    make, env, module, package = MAKERS[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"env = '{name}:{env}' .* pip install {package}"):
        make(env)


def test_gymnax_options_are_parameters_or_arguments(libraries):
    env = make_gymnax("Walk-v0", goal=5.0, scale=2.0)
    assert env.default_params == WalkParams(goal=5.0)
    with pytest.raises(ConfigError, match="goal = 'far'"):
        make_gymnax("Walk-v0", goal="far")


def test_playground_runs_where_jax_runs(libraries, monkeypatch):
    """Unless told otherwise; and a task's own idea of its length goes with ours."""
    seen = []
    registry = sys.modules["mujoco_playground"].registry
    monkeypatch.setattr(
        registry,
        "load",
        lambda env, config_overrides: seen.append(config_overrides) or load(env, config_overrides),
    )
    assert make_playground("SlideFar").max_episode_steps == 50
    make_playground("SlideFar", impl="warp", noise=0.5, max_episode_steps=9)
    assert seen == [{"impl": "jax"}, {"impl": "warp", "noise": 0.5, "episode_length": 9}]
