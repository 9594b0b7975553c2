"""Every MuJoCo task against Gymnasium's: bits of the C library's numbers, the rest within a tolerance.

The quick tests compare 140 steps of each task at its defaults; the slow ones compare recordings of 1,215
steps under default and unusual arguments.
"""

import functools
import hashlib
import importlib
import inspect
import re
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from recorded import (
    IDS,
    MODULES,
    TASKS,
    assert_same,
    assert_same_obs,
    bits_of,
    blank,
    description,
    follow,
    make_gym,
    record,
    vmapped_step,
)
from scipy import stats

from purerl.config import ConfigError
from purerl.envs.mujoco.options import ASSETS

slow = pytest.mark.slow
FOLDER = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
LONG = {"max_episode_steps": 300}
"""For at least three episodes in 1,000 steps, where the task's own time limit is 1,000."""
PLAIN, THROWN, BEYOND, FAR = slice(1000), slice(1000, 1200), slice(1200, 1205), slice(1205, 1215)
"""Parts of a recording: random actions; much speed; actions beyond their range; a start far away."""
MOVING = ["ant", "half_cheetah", "hopper", "humanoid", "swimmer", "walker2d"]
ENDING = ["ant", "hopper", "humanoid", "inverted_double_pendulum", "inverted_pendulum", "walker2d"]
TOUCHING = ["ant", "humanoid", "humanoid_standup"]
HEALTH = dict(healthy_reward=0.4, terminate_when_unhealthy=False)
SPEED = dict(forward_reward_weight=0.7, ctrl_cost_weight=0.3)
BLIND = dict(
    exclude_current_positions_from_observation=False,
    include_cinert_in_observation=False,
    include_cvel_in_observation=False,
    include_qfrc_actuator_in_observation=False,
    include_cfrc_ext_in_observation=False,
)
SEEN = dict(exclude_current_positions_from_observation=False)
REACH = dict(reward_dist_weight=0.7, reward_control_weight=0.3)
UNUSUAL = {
    "ant": SPEED
    | HEALTH
    | SEEN
    | dict(
        contact_cost_weight=2e-3,
        main_body="aux_1",
        healthy_z_range=(0.4, 0.8),
        contact_force_range=(-0.5, 0.7),
        include_cfrc_ext_in_observation=False,
    ),
    "half_cheetah": SPEED | SEEN,
    "hopper": SPEED
    | HEALTH
    | SEEN
    | dict(healthy_state_range=(-9.0, 12.0), healthy_z_range=(0.5, 1.24), healthy_angle_range=(-0.02, 0.4)),
    "humanoid": SPEED
    | HEALTH
    | BLIND
    | dict(contact_cost_weight=3e-5, contact_cost_range=(0.1, 8.0), healthy_z_range=(0.5, 1.35)),
    "humanoid_standup": BLIND
    | dict(uph_cost_weight=3.0, ctrl_cost_weight=0.3, impact_cost_weight=3e-5, impact_cost_range=(0.1, 8.0)),
    "inverted_double_pendulum": dict(healthy_reward=0.4),
    "inverted_pendulum": {},
    "pusher": REACH | dict(reward_near_weight=0.2),
    "reacher": REACH,
    "swimmer": SPEED | SEEN,
    "walker2d": SPEED | HEALTH | SEEN | dict(healthy_z_range=(0.5, 1.24), healthy_angle_range=(-0.02, 0.4)),
}
"""Every argument of a task, at a value that changes the results."""
FRAME_SKIP, MAX_EPISODE_STEPS, NOISE = 3, 70, {"reset_noise_scale": 0.05}
IDLE = {("humanoid_standup", "uph_cost_weight")}
"""Arguments without effect, as in Gymnasium."""


def reads_noise(task):
    return "reset_noise_scale" in MODULES[task].Params._fields


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """(task, unusual) -> arguments for both constructors; the unusual file has a shorter time step."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def get(task, unusual):
        if not unusual:
            return LONG if gymnasium.spec(IDS[task]).max_episode_steps == 1000 else {}
        name = MODULES[task].Options().xml_file
        shorter = lambda found: f'timestep="{0.8 * float(found[1]):.6g}"'
        text, times = re.subn(r'timestep="([\d.]+)"', shorter, (ASSETS / name).read_text())
        assert times == 1
        (folder / name).write_text(text)
        all_of_them = dict(xml_file=str(folder / name), frame_skip=FRAME_SKIP) | UNUSUAL[task]
        all_of_them |= {"max_episode_steps": MAX_EPISODE_STEPS} | (NOISE if reads_noise(task) else {})
        return all_of_them

    return get


@pytest.fixture(scope="module")
def recorded(arguments):
    """(task, unusual) -> Gymnasium's recording."""

    @functools.cache
    def get(task, unusual=False):
        kwargs = arguments(task, unusual)
        parts = [
            record(task, 1000, **kwargs),
            record(task, 200, speed=5.0, **kwargs),
            record(task, 5, scale=1e3, **kwargs),
            record(task, 10, far=1e6 * (task in MOVING), **kwargs),
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    return get


@pytest.fixture(scope="module")
def stepped(arguments, recorded):
    """(task, unusual) -> the environment, its step over whole recordings, and the result."""

    @functools.cache
    def get(task, unusual=False):
        env = MODULES[task].make(**arguments(task, unusual))
        step = vmapped_step(env)
        return env, step, step(env.default_params, recorded(task, unusual))

    return get


def part(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@pytest.fixture(scope="module")
def brief():
    """task -> the environment, 140 of Gymnasium's steps, the last 20 fast, and the same steps here."""

    @functools.cache
    def get(task):
        env, limit = MODULES[task].make(max_episode_steps=50), dict(max_episode_steps=50)
        gym = [record(task, 120, **limit), record(task, 20, speed=10.0, **limit)]
        gym = jax.tree.map(lambda *leaves: np.concatenate(leaves), *gym)
        return env, gym, vmapped_step(env)(env.default_params, gym)

    return get


@pytest.mark.parametrize("task", TASKS)
def test_steps_match_gymnasium(task, brief):
    _, gym, result = brief(task)
    assert (gym["terminated"] | gym["truncated"]).sum() >= 2
    assert_same(task, result, gym)


@pytest.mark.parametrize("task", TASKS)
def test_resets_match_gymnasium(task, brief):
    """The state that a reset draws, set in Gymnasium, gives the same bits and the same observation."""
    env, theirs, tracked = brief(task)[0], make_gym(task).unwrapped, description(task).tracked
    obs, state = jax.tree.map(np.asarray, jax.jit(env.reset)(jax.random.key(3)))
    mujoco.mj_resetData(theirs.model, theirs.data)
    theirs.set_state(np.float64(state.physics.qpos), np.float64(state.physics.qvel))
    row, fields = bits_of(theirs, tracked)
    np.testing.assert_array_equal(state.physics.row, row)
    np.testing.assert_array_equal(state.physics.tracked, fields)
    assert_same_obs(task, obs, theirs._get_obs(), theirs.data.qpos)
    assert not state.time.any() and not state.physics.diverged.any()


@slow
def test_recordings_reach_every_case(recorded):
    for task in TASKS:
        gym = part(recorded(task), PLAIN)
        ends = (gym["terminated"] | gym["truncated"]).sum()
        assert ends >= 3, task
        assert (gym["terminated"].sum() >= 9) == (task in ENDING), task
        if task in TOUCHING:
            assert (np.abs(gym["cfrc_ext"]).max((1, 2)) > 1).sum() > 50, task
        if task in ("hopper", "walker2d", "inverted_double_pendulum"):
            assert (np.abs(recorded(task)["qvel"][THROWN]) > 10).sum() > 5, "velocities to be clipped"
    force = recorded("inverted_double_pendulum")["obs"][THROWN, 8]
    assert (np.abs(force) == 10).any() and (force != 0).sum() > 5, "the cart at the end of its rail"
    place = recorded("pusher")["obs"][THROWN, 17:20]
    assert len(np.unique(place, axis=0)) > 100, "the cylinder moves"


@slow
@pytest.mark.parametrize("task", TASKS)
def test_a_thousand_steps_match_gymnasium(task, arguments, recorded):
    """In a row, only the starts of the episodes being Gymnasium's."""
    gym = part(recorded(task), PLAIN)
    assert_same(task, follow(MODULES[task].make(**arguments(task, False)), gym), gym)


@slow
@pytest.mark.parametrize("rows", [PLAIN, THROWN], ids=["plain", "thrown"])
@pytest.mark.parametrize("unusual", [False, True], ids=["default", "unusual"])
@pytest.mark.parametrize("task", TASKS)
def test_steps_from_all_states_match_gymnasium(task, unusual, rows, recorded, stepped):
    """Under every argument that Gymnasium's constructor takes."""
    gym, (_, _, result) = recorded(task, unusual), stepped(task, unusual)
    assert_same(task, part(result, rows), part(gym, rows))
    if "cfrc_ext" in result[1].physics.fields:
        contact = np.asarray(result[1].physics.fields["cfrc_ext"])
        np.testing.assert_array_equal(contact, gym["cfrc_ext"].astype(np.float32))


@slow
@pytest.mark.parametrize("task", MOVING)
def test_velocity_is_exact_far_from_the_origin(task, recorded, stepped):
    gym = part(recorded(task), FAR)
    assert (np.abs(gym["info"]["x_position"]) > 9e5).all()
    assert_same(task, part(stepped(task)[2], FAR), gym)


@slow
@pytest.mark.parametrize("task", TASKS)
def test_actions_beyond_their_range_have_their_cost(task, recorded, stepped):
    gym = part(recorded(task), BEYOND)
    assert (np.abs(gym["action"]) > 10).any()
    assert_same(task, part(stepped(task)[2], BEYOND), gym)


@slow
@pytest.mark.parametrize("task", TASKS)
def test_every_unusual_argument_matters(task, arguments, recorded, stepped):
    """Each one left at its default changes a result, by more than two programs may differ."""
    gym, kwargs, (env, step, result) = (get(task, True) for get in (recorded, arguments, stepped))
    module = MODULES[task]
    defaults = module.Options()._asdict() | module.Params()._asdict()
    assert set(kwargs) == {*defaults, "max_episode_steps"}
    for name in set(defaults) - {"reset_noise_scale"}:
        other = module.make(**{key: value for key, value in kwargs.items() if key != name})
        if name in module.Params._fields:
            seen = step(other.default_params, gym)
        elif other.observation_space != env.observation_space:
            continue
        else:
            seen = vmapped_step(other)(other.default_params, gym)
        pairs = zip(*map(jax.tree.leaves, (result, seen)), strict=True)
        same = [np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs]
        assert all(same) == ((task, name) in IDLE), name


@pytest.mark.parametrize("task", TASKS)
def test_arguments_are_gymnasiums(task):
    entry = gymnasium.envs.registration.load_env_creator(gymnasium.spec(IDS[task]).entry_point)
    theirs = {
        name: parameter.default
        for name, parameter in inspect.signature(entry.__init__).parameters.items()
        if name not in ("self", "kwargs", "default_camera_config")
    }
    assert MODULES[task].Options()._asdict() | MODULES[task].Params()._asdict() == theirs


@pytest.mark.parametrize("task", TASKS)
def test_the_camera_is_gymnasiums(task):
    theirs = importlib.import_module(gymnasium.spec(IDS[task]).entry_point.split(":")[0])
    config = getattr(theirs, "DEFAULT_CAMERA_CONFIG", {})
    plain = {name: tuple(value) if np.ndim(value) else value for name, value in config.items()}
    assert dict(description(task).camera) == plain


@pytest.mark.parametrize("task", TASKS)
def test_spaces_and_time_limit(task):
    env, theirs = MODULES[task].make(), make_gym(task)
    assert env.action_space == theirs.action_space
    assert env.observation_space.shape == theirs.observation_space.shape
    assert env.observation_space.dtype == np.float32
    assert env.name == task
    assert env.max_episode_steps == theirs.spec.max_episode_steps


ENDS = [
    ("ant", "qpos", 2, (0.2, 1.0), True),
    ("hopper", "qpos", 1, (0.7, None), False),
    ("hopper", "qpos", 2, (-0.2, 0.2), False),
    ("hopper", "qpos", 3, (-100.0, 100.0), False),
    ("hopper", "qpos", 5, (-100.0, 100.0), False),
    ("hopper", "qvel", 0, (-100.0, 100.0), False),
    ("hopper", "qvel", 5, (-100.0, 100.0), False),
    ("humanoid", "qpos", 2, (1.0, 2.0), False),
    ("inverted_double_pendulum", "site_xpos", (0, 2), (1.0, None), False),
    ("inverted_pendulum", "qpos", 1, (-0.2, 0.2), True),
    ("walker2d", "qpos", 1, (0.8, 2.0), False),
    ("walker2d", "qpos", 2, (-1.0, 1.0), False),
]
"""Ends of episodes: task, number, its least and its largest value, and True if these are healthy."""


@slow
@pytest.mark.parametrize(("task", "name", "index", "bounds", "included"), ENDS)
def test_bounds_of_health(task, name, index, bounds, included):
    """At the bound, and at the next float32 on either side."""
    ours, theirs = description(task), make_gym(task).unwrapped
    physics = blank(MODULES[task].make()).physics._replace(qpos=np.float32(ours.model.qpos0))

    def ends(value):
        if name == "site_xpos":
            at = physics._replace(fields=physics.fields | {name: physics.fields[name].at[index].set(value)})
        else:
            at = physics._replace(**{name: jnp.asarray(getattr(physics, name)).at[index].set(value)})
        return bool(ours.reward_and_termination(ours.params, at, jnp.zeros(ours.model.nu))[1])

    for bound, outwards in zip(bounds, (-np.inf, np.inf), strict=True):
        if bound is None:
            continue
        steps = [np.nextafter(np.float32(bound), np.float32(way)) for way in (-outwards, outwards)]
        assert [ends(value) for value in (steps[0], bound, steps[1])] == [False, not included, True]
        if hasattr(theirs, "is_healthy"):
            mujoco.mj_resetData(theirs.model, theirs.data)
            getattr(theirs.data, name)[index] = bound
            assert theirs.is_healthy == included


@slow
@pytest.mark.parametrize("task", TASKS)
def test_many_resets_match_gymnasium(task, recorded, stepped):
    gym, (env, step, _) = recorded(task), stepped(task)
    keys = jax.random.split(jax.random.key(3), len(gym["time"]))
    reset = jax.jit(jax.vmap(env.reset))
    used = step(env.default_params, gym)[1].physics.fields  # the simulations that are reset next
    assert task not in TOUCHING or np.any(used["cfrc_ext"]), "contact, to be forgotten"
    obs, state = jax.tree.map(np.asarray, reset(keys))
    theirs, tracked = make_gym(task).unwrapped, description(task).tracked
    for i in range(0, len(keys), 20):
        mujoco.mj_resetData(theirs.model, theirs.data)
        theirs.set_state(np.float64(state.physics.qpos[i]), np.float64(state.physics.qvel[i]))
        row, fields = bits_of(theirs, tracked)
        np.testing.assert_array_equal(state.physics.row[i], row)
        np.testing.assert_array_equal(state.physics.tracked[i], fields)
        assert_same_obs(task, obs[i], theirs._get_obs(), theirs.data.qpos)
    assert not state.time.any() and not state.physics.diverged.any()
    assert not any(change.any() for change in state.physics.change.values())
    assert len(np.unique(obs, axis=0)) == len(keys)


@slow
@pytest.mark.parametrize("task", TASKS)
def test_resets_have_gymnasiums_distribution(task):
    """Each number of the state by itself, and their correlations."""
    noise = {"reset_noise_scale": 0.2} if reads_noise(task) else {}
    env, gym_env = MODULES[task].make(**noise), make_gym(task, **noise).unwrapped
    state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1000))[1]
    ours = np.hstack([state.physics.qpos, state.physics.qvel])
    theirs = np.empty((1000, ours.shape[1]))
    for i in range(1000):
        gym_env.reset(seed=i if i == 0 else None)
        theirs[i] = np.concatenate([gym_env.data.qpos, gym_env.data.qvel])
    drawn = np.ptp(theirs, axis=0) > 0
    np.testing.assert_array_equal(ours[:, ~drawn], np.float32(theirs[:, ~drawn]))
    assert drawn.sum() == {"reacher": 6, "pusher": 9}.get(task, ours.shape[1])
    ours, theirs = ours[:, drawn], theirs[:, drawn]
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(a, b, method="asymp").pvalue > 1e-4
    assert np.abs(np.corrcoef(ours.T) - np.corrcoef(theirs.T)).max() < 0.2
    if noise:
        assert np.abs(state.physics.qpos - description(task).model.qpos0).max() <= 0.2 + 1e-6


PLACED = {
    "reacher": (slice(2, 4), (-0.2, -0.2), (0.2, 0.2), lambda distance: distance < 0.2),
    "pusher": (slice(7, 9), (-0.3, -0.2), (0.0, 0.2), lambda distance: distance > 0.17),
}
"""Place of the target or the cylinder in qpos, the corners of its rectangle, its allowed distance."""


@pytest.mark.parametrize("task", PLACED)
def test_places_are_uniform(task):
    """Compared with draws by rejection, by area and angle."""
    where, low, high, good = PLACED[task]
    ours = description(task)
    draw = jax.jit(jax.vmap(lambda key: ours.draw(ours.params, key)[0][where]))
    place = np.asarray(draw(jax.random.split(jax.random.key(1), 5000)))
    tried = np.random.default_rng(0).uniform(low, high, (50_000, 2))
    theirs = tried[good(np.linalg.norm(tried, axis=1))]
    area_and_angle = lambda xy: (np.square(xy).sum(1), np.arctan2(*xy.T))
    for a, b in zip(area_and_angle(place), area_and_angle(theirs), strict=True):
        assert stats.ks_2samp(a, b, method="asymp").pvalue > 1e-3
    assert (place >= np.float32(low)).all() and (place <= np.float32(high)).all()
    assert good(np.linalg.norm(place, axis=1)).all()


@pytest.mark.parametrize("task", TASKS)
def test_assets_are_gymnasiums_models(task, capfd):
    def image(path):
        model = mujoco.MjModel.from_xml_path(str(path))
        buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
        return hashlib.sha256(buffer).hexdigest()

    name = MODULES[task].Options().xml_file
    ours = image(ASSETS / name)
    assert capfd.readouterr() == ("", ""), "loading a model must print nothing"
    assert not Path("MUJOCO_LOG.TXT").exists()
    assert ours == image(FOLDER / name)


@pytest.mark.parametrize("task", PLACED)
def test_a_model_without_the_bodies_is_refused(task):
    with pytest.raises(
        ConfigError, match=r"xml_file.* = 'ant.xml'.* with body '(fingertip|tips_arm)'.*torso"
    ):
        MODULES[task].make(xml_file="ant.xml")
