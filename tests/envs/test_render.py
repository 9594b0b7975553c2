"""Pictures against Gymnasium's own, from states with any leading axes."""

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import purerl
from purerl.envs.functional import functional_env
from purerl.envs.mujoco import opengl
from purerl.envs.mujoco.options import load_model

ROOT = Path(__file__).parents[2]
GYMNASIUM = {"half_cheetah": "HalfCheetah-v5", "hopper": "Hopper-v5"}
SMALL = dict(width=48, height=32)


@pytest.fixture(scope="module", autouse=True)
def _something_can_draw():
    try:
        opengl._thread.run(lambda canvases: opengl._open(load_model("hopper.xml"))[0].free())
    except opengl.RenderError as error:
        pytest.skip(f"no OpenGL here: {error}")


@pytest.fixture(scope="module", params=GYMNASIUM)
def task(request):
    """An environment, three of its states in motion, and its name in Gymnasium."""
    env = purerl.make_env(request.param)

    def record(state, key):
        action = jax.random.uniform(key, env.action_space.shape, minval=-1.0)
        state = env.step(key, state, action)[1]
        return state, state

    first = jax.jit(lambda key: env.reset(key)[1])(jax.random.key(0))
    states = jax.lax.scan(record, first, jax.random.split(jax.random.key(1), 12))[1]
    return SimpleNamespace(
        env=env, states=jax.tree.map(lambda leaf: leaf[::4], states), name=GYMNASIUM[request.param]
    )


def row(states, i):
    return jax.tree.map(lambda leaf: leaf[i], states)


def on_mjx(states):
    physics = states.physics
    return states._replace(physics=physics._replace(row={"time": states.time}))


# The pictures


@pytest.mark.parametrize("camera", [None, "track"])
def test_frames_are_gymnasiums_to_the_bit(task, camera, monkeypatch):
    """On every pixel: the same geoms, from the same place, by the same driver."""
    backends = opengl._backends()
    monkeypatch.setenv("MUJOCO_GL", backends[0])
    size = dict(width=200, height=120)
    frames = task.env.render(task.states, camera=camera, **size)
    assert frames.shape == (3, 120, 200, 3) and frames.dtype == np.uint8
    options = {} if camera is None else {"camera_name": camera}
    for i in range(2):
        theirs = gymnasium.make(task.name, render_mode="rgb_array", **size, **options)
        theirs.reset(seed=0)
        model, data = theirs.unwrapped.model, theirs.unwrapped.data
        exact = np.asarray(task.states.physics.row[i]).view(np.float64)
        mujoco.mj_setState(model, data, exact, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        expected = theirs.render()
        assert expected.std() > 20
        np.testing.assert_array_equal(frames[i], expected)
        task.env.render(task.states, width=32, height=32)
        np.testing.assert_array_equal(theirs.render(), expected)  # its context is as it was
        theirs.close()


def test_states_may_have_any_leading_axes(task):
    before = jax.tree.map(np.array, task.states)
    frames = task.env.render(task.states, **SMALL)
    for i in range(3):
        np.testing.assert_array_equal(task.env.render(row(task.states, i), **SMALL), frames[i])
        assert (frames[i] != frames[i - 1]).any()
    grid = jax.tree.map(lambda leaf: jnp.stack([leaf[::-1], leaf]), task.states)
    again = task.env.render(grid, **SMALL)
    assert again.shape == (2, 3, 32, 48, 3)
    np.testing.assert_array_equal(again, [frames[::-1], frames])
    none = jax.tree.map(lambda leaf: leaf[:0], task.states)
    assert task.env.render(none, **SMALL).shape == (0, 32, 48, 3)
    jax.tree.map(np.testing.assert_array_equal, task.states, before)


def test_pictures_have_the_size_asked_for(task):
    state = row(task.states, 0)
    assert task.env.render(state).shape == (480, 480, 3)
    for height in (32, 20):
        frame = task.env.render(state, width=32, height=height)
        assert frame.shape == (height, 32, 3) and frame.std() > 20


def test_states_of_mjx_are_drawn_alike(task):
    """Rounded to float32, so a pixel on an edge may differ."""
    on_c = task.env.render(task.states, **SMALL).astype(int)
    frames = task.env.render(on_mjx(task.states), **SMALL)
    assert frames.shape == on_c.shape
    for i in range(3):
        difference = np.abs(frames[i] - on_c).mean((1, 2, 3))
        assert difference[i] < 0.1 * np.delete(difference, i).min(), difference
    single = task.env.render(on_mjx(row(task.states, 1)), **SMALL)
    np.testing.assert_array_equal(single, frames[1])


def test_a_camera_is_a_name_a_number_or_fields(task):
    state = row(task.states, 0)
    see = lambda camera: task.env.render(state, camera=camera, **SMALL)
    named = see("track")
    np.testing.assert_array_equal(see(np.int64(0)), named)
    np.testing.assert_array_equal(see({"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": 0}), named)
    near, far = see({"distance": 3}), see({"distance": 30.0, "lookat": (0, 0, 0.5)})
    tracking = {"type": 1, "trackbodyid": 1, "elevation": np.float32(-10)}
    frames = [named, near, far, see(tracking), see(tracking | {"azimuth": 45})]
    for i, frame in enumerate(frames):
        assert (frame != frames[i - 1]).any()


def test_any_thread_may_ask(task):
    state, frames = row(task.states, 0), []
    ask = lambda: frames.append(task.env.render(state, **SMALL))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = task.env.render(state, **SMALL)
    assert len(frames) == 4 and all((frame == expected).all() for frame in frames)


def test_canvases_are_kept_and_the_oldest_freed(task, monkeypatch):
    keys = lambda: opengl._thread.run(dict)
    monkeypatch.setattr(opengl, "MAX_CANVASES", 2)
    state = row(task.states, 0)
    see = lambda width: task.env.render(state, width=width, height=16)
    opengl._thread.close()
    assert not keys()
    see(16), see(17)
    kept = keys()
    see(16), see(18)
    assert [key[1] for key in keys()] == [16, 18]
    assert all(keys()[key] is canvas for key, canvas in kept.items() if key[1] == 16)
    see(17)
    atexit.unregister(opengl._thread.close)
    atexit.register(opengl._thread.close)


def test_pictures_leave_no_file_behind(task):
    before = set(Path.cwd().iterdir())
    task.env.render(task.states, **SMALL)
    assert set(Path.cwd().iterdir()) == before


# Mistakes

BAD = {
    "no width": (dict(width=0), "width = 0 .* at most 4,096"),
    "half a pixel": (dict(height=1.5), r"height = 1.5 "),
    "a wide wall": (dict(width=5000), "width = 5000"),
    "a flag": (dict(height=True), "height = True"),
    "camera's name": (dict(camera="trak"), r"camera = 'trak' .*0 \('track'\).* Did you mean track\?"),
    "no name": (dict(camera=""), "camera = ''"),
    "camera's number": (dict(camera=1), r"camera = 1 .* cameras are 0 \('track'\)"),
    "camera below 0": (dict(camera=-1), "camera = -1"),
    "camera of another kind": (dict(camera=1.0), "camera = 1.0"),
    "field": (dict(camera={"distanc": 1}), "camera = 'distanc' .* Did you mean distance"),
    "distance": (dict(camera={"distance": -1}), "camera distance = -1 .* positive"),
    "endless": (dict(camera={"azimuth": float("inf")}), "camera azimuth = inf .* finite number"),
    "point": (dict(camera={"lookat": (1, 2)}), r"camera lookat = \(1, 2\) .* three"),
    "no point": (dict(camera={"lookat": "here"}), "camera lookat = 'here'"),
    "body": (dict(camera={"trackbodyid": 99}), "camera trackbodyid = 99 .* at most"),
    "tracks nobody": (dict(camera={"type": 1}), "camera type = 1 .* trackbodyid"),
    "fixed nowhere": (dict(camera={"type": 2}), "camera type = 2 .* fixedcamid"),
    "user's type": (dict(camera={"type": 3}), "camera type = 3"),
    "without effect": (dict(camera={"orthographic": True}), "camera = 'orthographic' .* that count are"),
}


@pytest.mark.parametrize("kwargs, message", BAD.values(), ids=BAD)
def test_what_cannot_be_drawn_is_told(kwargs, message, task):
    with pytest.raises(purerl.ConfigError, match=message):
        task.env.render(row(task.states, 0), **kwargs)


def test_what_is_no_state_is_told(task):
    render, physics = task.env.render, task.states.physics
    other = lambda **fields: task.states._replace(physics=physics._replace(**fields))
    for states, message in (
        (np.zeros(3), "states = 'ndarray' .* reset and step"),
        (other(row=physics.row[:, :-2]), r"row of states = 'uint32\[3, \d+\]' .* uint32\[\.\.\., \d+\]"),
        (other(row=physics.row.astype(np.float32)), "row of states = 'float32"),
        (other(row={}, qpos=physics.qpos[:, 1:]), "qpos of states"),
        (other(row={}, qvel=physics.qvel[0]), "qvel of states = .* same"),
    ):
        with pytest.raises(purerl.ConfigError, match=message):
            render(states)
    with pytest.raises(purerl.ConfigError, match="outside jit"):
        jax.jit(render)(task.states)


def test_a_tasks_own_camera_is_checked_at_once(tmp_path):
    (tmp_path / "bar.xml").write_text(
        "<mujoco><worldbody><body><joint name='j'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='j' ctrlrange='0 1'/></actuator></mujoco>"
    )
    make = lambda camera: purerl.mujoco_env("bar", tmp_path / "bar.xml", lambda *_: 0.0, camera=camera)
    with pytest.raises(purerl.ConfigError, match="camera = 'zoom'"):
        make({"zoom": 2})
    env = make({"distance": 5.0})
    state = env.reset(jax.random.key(0))[1]
    far, near = env.render(state, **SMALL), env.render(state, camera={"distance": 3.0}, **SMALL)
    assert (far > 0).mean() < (near > 0).mean()
    with pytest.raises(purerl.ConfigError, match="has no camera"):
        env.render(state, camera="track")


def test_an_environment_need_not_draw():
    space = gymnasium.spaces.Box(0, 1)
    spaces = dict(observation_space=space, action_space=space)
    env = functional_env("dark", reset=None, step=None, **spaces, max_episode_steps=1, default_params=())
    assert env.render is None


# The machine


def test_what_mujoco_gl_says_is_heard(task, monkeypatch):
    fresh = lambda: task.env.render(row(task.states, 0), width=19, height=19)
    opengl._thread.close()
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(purerl.ConfigError, match=r"MUJOCO_GL = 'nonsense' .* or unset"):
        fresh()
    monkeypatch.setenv("MUJOCO_GL", "off")
    with pytest.raises(opengl.RenderError, match=r"MUJOCO_GL=off .* unset it"):
        fresh()
    monkeypatch.setattr(opengl, "BACKENDS", {})
    monkeypatch.setattr(opengl, "_open_with", lambda backend, model: 1 / 0)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(opengl.RenderError) as caught:
        fresh()
    for part in ("glfw     ZeroDivisionError", "libegl1", "libosmesa6"):
        assert part in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="EGL and OSMesa are Linux's")
def test_a_backend_that_fails_leaves_room_for_the_next():
    """In a process of its own, for PyOpenGL settles on a backend when it is imported."""
    code = """if True:
        import sys, jax, purerl
        from purerl.envs.mujoco import opengl
        assert "OpenGL" not in sys.modules and not opengl._thread.thread
        env = purerl.make_env("hopper")
        state = env.reset(jax.random.key(0))[1]
        opengl.BACKENDS["Linux"] = ("osmesa", "egl")
        sys.modules["OpenGL.osmesa"] = None
        assert env.render(state, width=32, height=32).std() > 10
    """
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    clean |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr and "Error" not in done.stderr  # nor while it ends


def test_the_example_in_the_docs_draws():
    """The code on the page is run as it stands."""
    page = (ROOT / "docs" / "rendering.md").read_text()
    names = {}
    exec(page.split("<!-- example -->\n```python\n")[1].split("```")[0], names)
    frames = names["frames"]
    assert frames.shape == (names["STEPS"], 240, 320, 3)
    assert (frames[0] != frames[-1]).any()
    assert Path("last.png").exists()
