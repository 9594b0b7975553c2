"""Arguments of `render`, and the choice of an OpenGL backend: checked before anything is drawn."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from gymnasium import spaces

import purerl
from purerl.envs.functional import functional_env
from purerl.envs.mujoco import opengl
from purerl.envs.mujoco.options import load_model


@pytest.fixture(autouse=True)
def nothing_is_drawn(monkeypatch):
    monkeypatch.setattr(opengl, "_open", lambda model: pytest.fail("OpenGL was opened"))


@pytest.fixture(scope="module")
def env():
    return purerl.make_env("hopper")


@pytest.fixture(scope="module")
def states(env):
    """Three states of zeros."""
    shapes = jax.eval_shape(env.reset, jax.random.key(0))[1]
    return jax.tree.map(lambda leaf: jnp.zeros((3, *leaf.shape), leaf.dtype), shapes)


BAD = {
    "width of 0": (dict(width=0), "width", "at most 4,096"),
    "height of 1.5": (dict(height=1.5), "height", "a positive integer"),
    "width of 5000": (dict(width=5000), "width", "at most 4,096"),
    "height of True": (dict(height=True), "height", "a positive integer"),
    "misspelt camera": (dict(camera="trak"), "camera", "0 ('track'). Did you mean track?"),
    "empty camera": (dict(camera=""), "camera", "0 ('track')"),
    "unknown number": (dict(camera=1), "camera", "one of 0 ('track')"),
    "negative number": (dict(camera=-1), "camera", "one of 0 ('track')"),
    "float camera": (dict(camera=1.0), "camera", "one of 0 ('track')"),
    "misspelt field": (dict(camera={"distanc": 1}), "camera", "Did you mean distance?"),
    "negative distance": (dict(camera={"distance": -1}), "camera distance", "a positive finite number"),
    "infinite angle": (dict(camera={"azimuth": float("inf")}), "camera azimuth", "a finite number"),
    "point of two": (dict(camera={"lookat": (1, 2)}), "camera lookat", "three finite numbers"),
    "point of text": (dict(camera={"lookat": "here"}), "camera lookat", "three finite numbers"),
    "unknown body": (dict(camera={"trackbodyid": 99}), "camera trackbodyid", "at most"),
    "tracking nothing": (dict(camera={"type": 1}), "camera type", "trackbodyid as well"),
    "fixed nowhere": (dict(camera={"type": 2}), "camera type", "fixedcamid as well"),
    "user type": (dict(camera={"type": 3}), "camera type", "0 (free)"),
    "field without effect": (dict(camera={"orthographic": True}), "camera", "one of the fields type"),
}


@pytest.mark.parametrize(("kwargs", "field", "words"), BAD.values(), ids=BAD)
def test_bad_arguments_raise(kwargs, field, words, env, states):
    with pytest.raises(purerl.ConfigError) as error:
        env.render(states, **kwargs)
    assert error.value.field == field and words in str(error.value)


def test_other_states_raise(env, states):
    physics = states.physics
    other = lambda **fields: states._replace(physics=physics._replace(**fields))
    for wrong, field, words in (
        (np.zeros(3), "states", "from its reset and step"),
        (other(row=physics.row[:, :-2]), "row of states", "uint32[..., "),
        (other(row=physics.row.astype(np.float32)), "row of states", "'float32"),
        (other(row={}, qpos=physics.qpos[:, 1:]), "qpos of states", "float32[..., 6]"),
        (other(row={}, qvel=physics.qvel[0]), "qvel of states", "the leading axes (3,) of qpos"),
    ):
        with pytest.raises(purerl.ConfigError) as error:
            env.render(wrong)
        assert error.value.field == field and words in str(error.value)
    with pytest.raises(purerl.ConfigError, match="outside jit"):
        jax.jit(env.render)(states)


def test_a_tasks_own_camera_is_checked_at_once(tmp_path):
    (tmp_path / "bar.xml").write_text(
        "<mujoco><worldbody><body><joint name='j'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='j' ctrlrange='0 1'/></actuator></mujoco>"
    )
    make = lambda camera: purerl.mujoco_env("bar", tmp_path / "bar.xml", lambda *_: 0.0, camera=camera)
    with pytest.raises(purerl.ConfigError, match="'zoom'"):
        make({"zoom": 2})
    env = make({"distance": 5.0})
    state = env.reset(jax.random.key(0))[1]
    with pytest.raises(purerl.ConfigError, match="it has no camera"):
        env.render(state, camera="track")


def test_render_may_be_none():
    space = spaces.Box(0, 1)
    same = dict(observation_space=space, action_space=space)
    env = functional_env("dark", reset=None, step=None, **same, max_episode_steps=1, default_params=())
    assert env.render is None


@pytest.fixture
def backends(monkeypatch):
    """Pretend that a machine with Linux has some of the libraries, and perhaps a screen."""
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(opengl.sys, "platform", "linux")

    def pretend(*libraries, **environment):
        monkeypatch.setattr(opengl, "find_library", lambda name: name in libraries or None)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    class Fake:
        pass

    for module in ("egl", "osmesa"):
        fake = type(mujoco)(f"mujoco.{module}")
        fake.GLContext = type(module, (Fake,), {})
        monkeypatch.setitem(opengl.sys.modules, f"mujoco.{module}", fake)
    monkeypatch.setattr(mujoco, "GLContext", type("own", (Fake,), {}), raising=False)
    return pretend


@pytest.mark.parametrize(
    ("libraries", "environment", "chosen"),
    [
        (("EGL", "OSMesa"), {}, "egl"),
        (("EGL",), {"DISPLAY": ":0"}, "egl"),
        (("OSMesa",), {}, "osmesa"),
        ((), {"DISPLAY": ":0"}, "own"),
        ((), {"WAYLAND_DISPLAY": "wayland-0"}, "own"),
        (("EGL",), {"MUJOCO_GL": "osmesa"}, "own"),
    ],
)
def test_choice_of_the_backend(libraries, environment, chosen, backends):
    """EGL, else OSMesa, else a screen; MuJoCo has followed MUJOCO_GL itself."""
    backends(*libraries, **environment)
    assert opengl._context_class().__name__ == chosen


def test_a_machine_that_cannot_draw(backends, monkeypatch):
    backends()
    with pytest.raises(opengl.RenderError, match=r"neither EGL nor OSMesa is installed.*libegl1.*libosmesa6"):
        opengl._context_class()
    backends(MUJOCO_GL="off")
    monkeypatch.delattr(mujoco, "GLContext")
    with pytest.raises(opengl.RenderError, match="MUJOCO_GL=off switches drawing off: unset it"):
        opengl._context_class()


def test_a_driver_that_fails_is_one_sentence(backends, monkeypatch):
    monkeypatch.undo()

    def fail(width, height):
        raise ZeroDivisionError("no\ndevice.")

    monkeypatch.setattr(opengl, "_context_class", lambda: fail)
    with pytest.raises(opengl.RenderError) as error:
        opengl._open(load_model("hopper.xml"))
    assert "can be made: ZeroDivisionError: no device. Install EGL" in str(error.value)
    assert "\n" not in str(error.value)
