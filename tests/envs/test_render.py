"""Pictures of MuJoCo tasks against Gymnasium's, from states with any leading axes."""

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
from pages import run_page

import purerl
from purerl.envs.mujoco import opengl
from purerl.envs.mujoco.options import load_model

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
GYMNASIUM = {"half_cheetah": "HalfCheetah-v5", "hopper": "Hopper-v5"}
SMALL = dict(width=48, height=32)


@pytest.fixture(scope="module", autouse=True)
def _drawing_works():
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


@pytest.mark.parametrize("camera", [None, "track"])
def test_frames_equal_gymnasiums(task, camera, monkeypatch):
    """On every pixel: the same geoms, from the same viewpoint, by the same driver."""
    size = dict(width=200, height=120)
    frames = task.env.render(task.states, camera=camera, **size)
    task.env.render(task.states, width=32, height=32)
    backend = opengl._context_class().__module__.split(".")[1]
    monkeypatch.setenv("MUJOCO_GL", backend)  # of Gymnasium
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
        np.testing.assert_array_equal(theirs.render(), expected)  # its context is intact
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


def test_states_of_mjx_look_the_same(task):
    """Rounded to float32, so a pixel on an edge may differ."""
    on_c = task.env.render(task.states, **SMALL).astype(int)
    frames = task.env.render(on_mjx(task.states), **SMALL)
    assert frames.shape == on_c.shape
    for i in range(3):
        difference = np.abs(frames[i] - on_c).mean((1, 2, 3))
        assert difference[i] < 0.1 * np.delete(difference, i).min(), difference
    single = task.env.render(on_mjx(row(task.states, 1)), **SMALL)
    np.testing.assert_array_equal(single, frames[1])


def test_cameras_by_name_number_and_fields(task):
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


def test_any_thread_may_draw(task):
    state, frames = row(task.states, 0), []
    ask = lambda: frames.append(task.env.render(state, **SMALL))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = task.env.render(state, **SMALL)
    assert len(frames) == 4 and all((frame == expected).all() for frame in frames)


def test_the_oldest_canvas_is_freed(task, monkeypatch):
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


def test_pictures_leave_no_files(task):
    before = set(Path.cwd().iterdir())
    task.env.render(task.states, **SMALL)
    assert set(Path.cwd().iterdir()) == before


def test_a_tasks_own_camera(tmp_path):
    (tmp_path / "bar.xml").write_text(
        "<mujoco><worldbody><body><joint name='j'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='j' ctrlrange='0 1'/></actuator></mujoco>"
    )
    env = purerl.mujoco_env("bar", tmp_path / "bar.xml", lambda *_: 0.0, camera={"distance": 5.0})
    state = env.reset(jax.random.key(0))[1]
    far, near = env.render(state, **SMALL), env.render(state, camera={"distance": 3.0}, **SMALL)
    assert (far > 0).mean() < (near > 0).mean()


def test_a_process_that_draws_ends_silently():
    """Contexts are freed before EGL ends, and PyOpenGL is not imported before a picture."""
    code = """if True:
        import sys, jax, purerl
        from purerl.envs.mujoco import opengl
        assert "OpenGL" not in sys.modules and not opengl._thread.thread
        env = purerl.make_env("hopper")
        state = env.reset(jax.random.key(0))[1]
        assert env.render(state, width=32, height=32).std() > 10
    """
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    clean |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr and "Error" not in done.stderr


def test_the_example_in_the_docs_draws():
    """Runs the code on the page."""
    frames = run_page(ROOT / "docs" / "rendering.md")["frames"]
    assert (frames[0] != frames[-1]).any()
    assert Path("last.png").exists()
