"""Pictures of the classic tasks against Gymnasium's, from states with any leading axes."""

import os
import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.config import ConfigError
from purerl.envs.wrappers import sticky_actions

GYMNASIUM = {
    "acrobot": "Acrobot-v1",
    "cartpole": "CartPole-v1",
    "mountain_car": "MountainCar-v0",
    "mountain_car_continuous": "MountainCarContinuous-v0",
    "pendulum": "Pendulum-v1",
}
ROWS = {
    "acrobot": [[0.1, -0.05, 0.0, 1.0], [2.5, 1.0, 3.0, -2.0], [-1.0, 3.0, 0.0, 0.0]],
    "cartpole": [[0.0, 1.0, 0.05, 0.0], [2.3, 0.0, -0.2, 1.0], [-1.7, 0.5, 0.15, 2.0]],
    "mountain_car": [[-0.5, 0.0], [0.5, 0.07], [-1.2, -0.03]],
    "mountain_car_continuous": [[-0.45, 0.0], [0.6, 0.01], [-1.1, 0.05]],
    "pendulum": [[0.1, 0.0], [3.0, 8.0], [-14.0, -1.0]],
}
KEY = jax.random.key(0)
each_task = pytest.mark.parametrize("name", GYMNASIUM)


def states_of(name, rows=None):
    """Return a batched State of rows of numbers."""
    rows = np.float32(ROWS[name] if rows is None else rows)
    kind = type(jax.eval_shape(purerl.make_env(name).reset, KEY)[1])
    return kind(*jnp.moveaxis(jnp.asarray(rows), -1, 0), jnp.zeros(rows.shape[:-1], jnp.int32))


@pytest.fixture
def oracle(monkeypatch):
    """Return Gymnasium's pictures of rows; Gymnasium needs a display of its own for them."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def pictures(name, rows=None, **attributes):
        env = gymnasium.make(GYMNASIUM[name], render_mode="rgb_array").unwrapped
        env.reset(seed=0)
        for field, value in attributes.items():
            assert hasattr(env, field)
            setattr(env, field, value)
        frames = []
        for row in ROWS[name] if rows is None else rows:
            env.state = np.float32(row).astype(np.float64)
            frames.append(env.render())
        return np.array(frames)

    return pictures


@each_task
def test_frames_equal_gymnasiums(name, oracle):
    """Pixel for pixel at Gymnasium's size, and different for different states."""
    frames = purerl.make_env(name).render(states_of(name))
    assert frames.dtype == np.uint8 and not (frames[0] == frames[1]).all()
    np.testing.assert_array_equal(frames, oracle(name))


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("acrobot", {"length_1": 0.6}, {"LINK_LENGTH_1": 0.6}),
        ("cartpole", {"half_length": 0.8, "position_limit": 3.0}, {"length": 0.8, "x_threshold": 3.0}),
        ("mountain_car", {"goal_position": 0.2}, {"goal_position": 0.2}),
        ("mountain_car_continuous", {"goal_position": 0.2}, {"goal_position": 0.2}),
    ],
)
def test_parameters_of_make_show(name, ours, theirs, oracle):
    frames = purerl.make_env(name, **ours).render(states_of(name))
    np.testing.assert_array_equal(frames, oracle(name, **theirs))
    assert not (frames == oracle(name)).all()


@each_task
def test_states_have_any_leading_axes(name):
    """`[T, N]` of a rollout, or one state, also of wrapped environments; time does not show."""
    env = purerl.make_env(name)
    flat = env.render(states_of(name))
    rows = np.float32(ROWS[name])[[[0, 1], [2, 0]]]
    np.testing.assert_array_equal(env.render(states_of(name, rows)), flat[[[0, 1], [2, 0]]])
    alone = states_of(name, ROWS[name][1])._replace(time=jnp.int32(9))
    np.testing.assert_array_equal(env.render(alone), flat[1])
    np.testing.assert_array_equal(purerl.make_env(name, mask_velocity=True).render(alone), flat[1])
    assert env.render(states_of(name, rows[:0])).shape == (0, 2, *flat.shape[1:])


def test_sticky_actions_do_not_hide_the_state():
    env = purerl.make_env("mountain_car")
    sticky = sticky_actions(env, 0.5)
    state = sticky.reset(KEY)[1]
    np.testing.assert_array_equal(sticky.render(state), env.render(state.inner))


@each_task
def test_other_sizes_are_scaled(name):
    """Half as wide and as high: means of four pixels, to within the rounding of the scaling."""
    env, states = purerl.make_env(name), states_of(name)
    whole = env.render(states).astype(float)
    height, width = np.array(whole.shape[1:3]) // 2
    half = env.render(states, width=int(width), height=np.int64(height))
    assert half.dtype == np.uint8 and half.shape == (3, height, width, 3)
    means = whole.reshape(3, height, 2, width, 2, 3).mean((2, 4))
    assert np.abs(half - means).max() <= 3 and np.abs(half - means).mean() < 0.5
    assert env.render(states, width=100).shape == (3, 2 * height, 100, 3)
    assert env.render(states, height=100).shape == (3, 100, 2 * width, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, "at least 1, at most 4,096"),
        ({"height": 4097}, "at most 4,096"),
        ({"width": 2.0}, "a whole number"),
        ({"height": True}, "a whole number"),
        ({"width": "big"}, "a whole number"),
        ({"camera": "track"}, "None"),
        ({"camera": 0}, "one view only"),
    ],
)
def test_options_are_checked(options, words):
    (field,) = options
    with pytest.raises(ConfigError) as error:
        purerl.make_env("cartpole").render(states_of("cartpole"), **options)
    assert error.value.field == field and words in str(error.value)


@pytest.mark.parametrize(
    "states",
    [
        states_of("acrobot"),
        jnp.zeros((3, 4)),
        tuple(states_of("cartpole")),
        states_of("cartpole")._replace(x=jnp.zeros(2)),
        states_of("cartpole", [[np.nan, 0, 0, 0]]),
    ],
    ids=["another task's", "an array", "a tuple", "axes that differ", "not a number"],
)
def test_other_states_raise(states):
    with pytest.raises(ConfigError) as error:
        purerl.make_env("cartpole").render(states)
    assert error.value.field == "states"


def test_traced_states_raise():
    with pytest.raises(ConfigError, match="drawn outside jit"):
        jax.jit(purerl.make_env("cartpole").render)(states_of("cartpole"))


def test_without_pygame_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = purerl.make_env("pendulum")
    with pytest.raises(ConfigError, match=r'pip install "purerl\[render\]"') as error:
        env.render(states_of("pendulum"))
    assert error.value.field == "render"


QUIET = """
import sys, jax, purerl
envs = [purerl.make_env(name) for name in sys.argv[1:]]
states = [env.reset(jax.random.key(0))[1] for env in envs]
assert "pygame" not in sys.modules, "imported before a picture"
for env, state in zip(envs, states):
    env.render(state)
import pygame
assert not pygame.display.get_init()
"""


def test_pictures_need_no_screen_and_print_nothing():
    """In a process without a display; pygame is imported for a picture only."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", QUIET, *GYMNASIUM], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
