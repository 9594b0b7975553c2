"""purerl's environments as `gymnasium.vector.VectorEnv`, beside Gymnasium's own of single ones."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium_walk import ROWS, make, play, same

from purerl.config import ConfigError
from purerl.envs.adapters.to_gymnasium.env import to_gymnasium
from purerl.envs.adapters.to_gymnasium.io import Actions
from purerl.envs.adapters.to_gymnasium.vector import to_gymnasium_vector

MODES = {mode.name.lower(): mode for mode in AutoresetMode}


@pytest.fixture
def walk():
    return make("walk")


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("walk", mode) for mode in MODES),
        ("cartpole", "same_step"),
        pytest.param("half_cheetah", "same_step", marks=pytest.mark.slow),
    ],
)
def test_rows_equal_single_environments(name, mode):
    """Many episodes as in SyncVectorEnv, infos included, after every form of reset."""
    env = make(name)
    ours = to_gymnasium_vector(env, ROWS, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: to_gymnasium(env)] * ROWS, autoreset_mode=MODES[mode])
    for part in ("num_envs", "observation_space", "action_space", "single_observation_space"):
        assert getattr(ours, part) == getattr(theirs, part)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"] is MODES[mode]
    every = np.ones(ROWS, bool)
    some, own = np.arange(ROWS) % 2 == 0, [None, 11, 5, 5, 2**40]
    waiting, ends = ~every, 0
    resets = [(7, every), (None, every), (own, every), (100, some), (None, ~some), (own, some)]
    for seed, mask in resets if name == "walk" else resets[:1]:  # compiles less
        results = [envs.reset(seed=seed, options={"reset_mask": mask}) for envs in (ours, theirs)]
        same(*results)
        waiting = waiting & ~mask
        steps = {"walk": 80, "cartpole": 300, "half_cheetah": 60}[name]
        for one, two in zip(play(ours, steps, waiting), play(theirs, steps, waiting), strict=True):
            same(one, two)
            ends += (one[2] | one[3]).sum() if len(one) == 5 else 0
        waiting = one[2] | one[3]
    assert ends > {"walk": 300, "cartpole": 100, "half_cheetah": 20}[name]


def test_a_reset_changes_no_other_row(walk):
    """By a mask or automatically: the others wait in a reset, and go on in a step."""
    many, alone = to_gymnasium_vector(walk, ROWS), [to_gymnasium(walk) for _ in range(ROWS)]
    obs, _ = many.reset(seed=0)
    for row, one in enumerate(alone):
        one.reset(seed=row)
    rows, mask = np.array([0, 2, 3, 4]), np.arange(ROWS) == 1
    for _ in range(3):
        actions = (obs[:, 0] < 0).astype(int)  # back to the middle
        obs, *_ = many.step(actions)
        before = obs.copy()
        obs[:] = 99  # arrays belong to the caller
        obs, _ = many.reset(options={"reset_mask": mask})
        np.testing.assert_array_equal(obs[rows], before[rows])
        assert obs[1, 1] == 0
        for row in rows:
            same(alone[row].step(actions[row])[0], obs[row])
    clock, ends = obs[:, 1], 0
    for obs, _, terminated, truncated, _ in play(many, 60):
        ended = terminated | truncated
        np.testing.assert_array_equal(obs[:, 1], np.where(ended, 0, clock + 1))
        clock, ends = obs[:, 1], ends + (ended.any() and not ended.all())
    assert ends > 20


def test_row_seeds(walk):
    """s, s + 1, ... or a list with one each; None goes on; a seed never given can be looked up."""
    many = to_gymnasium_vector(walk, ROWS)
    first, _ = many.reset(seed=5)
    assert many.np_random_seed == 5
    same(many.reset(seed=[7, 5, 2**40, 5, 5])[0][[1, 3]], first[[0, 0]])
    same(many.reset(seed=np.int64(5))[0], first)
    on = [many.reset()[0] for _ in range(2)]
    assert (first != on[0]).any() and (on[0] != on[1]).any()
    fresh = to_gymnasium_vector(walk, ROWS)
    start, _ = fresh.reset()
    same(many.reset(seed=fresh.np_random_seed)[0], start)
    assert len({to_gymnasium_vector(walk, ROWS).reset()[0].tobytes() for _ in range(4)}) > 1


def test_next_step_resets_once(walk):
    """The step after an end: reward 0, no flags, no info of that row, and the clock at 0."""
    many = to_gymnasium_vector(walk, ROWS, autoreset_mode="next_step")
    many.reset(seed=0)
    ended, seen = np.zeros(ROWS, bool), 0
    for obs, reward, terminated, truncated, infos in play(many, 60):
        seen += ended.sum()
        assert not reward[ended].any() and not (terminated | truncated)[ended].any()
        assert (obs[ended, 1] == 0).all() and (obs[~ended, 1] > 0).all()
        assert ended.all() or (infos["_time"] == ~ended).all()
        ended = terminated | truncated
    assert seen > 20


def test_invalid_actions_name_their_row(walk):
    many = to_gymnasium_vector(walk, ROWS)
    many.reset(seed=0)
    for actions in ([0, 1, 2, 1, 0], [0, 0, -1, 0, 1], np.array([0, 0, 2**40, 0, 0])):
        with pytest.raises(ConfigError, match=r"row 2 .* from 0 to 1") as error:
            many.step(np.array(actions))
        assert (error.value.field, error.value.value) == ("action", actions[2])
    good = np.array([0, 1, 1, 0, 1])
    for actions in (good[:4], good[:, None], good > 0, good.astype(float), 1, [0, [1]]):
        with pytest.raises(ConfigError, match=r"integers of shape \(5,\) from 0 to 1, got"):
            many.step(actions)
    assert (many.step(good)[0][:, 1] == 1).all()
    read = Actions(spaces.Box(np.float32([-2, 0]), np.float32([2, 1])), (3,)).read
    for row, bad in (
        (2, [[0, 0], [2, 1], [2, np.nan]]),
        (0, [[0, -0.01], [2, 1], [2, 1]]),
        (1, [[2, 1], [3, 1], [9, 9]]),
    ):
        with pytest.raises(ConfigError, match=f"row {row} "):
            read(np.array(bad), np.ones(3, bool))
        read(np.array(bad), np.arange(3) < row)  # the others are ignored


@pytest.mark.parametrize(
    ("field", "arguments", "reset"),
    [
        ("num_envs", {"num_envs": 0}, {}),
        ("num_envs", {"num_envs": 2.0}, {}),
        ("autoreset_mode", {"autoreset_mode": "samestep"}, {}),
        ("autoreset_mode", {"autoreset_mode": None}, {}),
        ("env", {"env": "cartpole"}, {}),
        ("seed", {}, {"seed": -1}),
        ("seed", {}, {"seed": True}),
        ("seed", {}, {"seed": 1.5}),
        ("seed", {}, {"seed": [1]}),
        ("seed", {}, {"seed": [1, "2"]}),
        ("seed", {}, {"seed": [1, -2]}),
        ("options", {}, {"options": {"reset_masks": np.ones(2, bool)}}),
        ("reset_mask", {}, {"options": {"reset_mask": np.zeros(2, bool)}}),
        ("reset_mask", {}, {"options": {"reset_mask": np.ones(3, bool)}}),
        ("reset_mask", {}, {"options": {"reset_mask": np.ones(2)}}),
    ],
)
def test_invalid_arguments_name_their_field(field, arguments, reset, walk):
    with pytest.raises(ConfigError) as error:
        to_gymnasium_vector(**{"env": walk, "num_envs": 2} | arguments).reset(**reset)
    assert error.value.field == field


def test_reset_needed(walk):
    """Before the first step, before a part is reset, and after an end if disabled."""
    many, still = to_gymnasium_vector(walk, ROWS, autoreset_mode="disabled"), np.zeros(ROWS, int)
    with pytest.raises(ResetNeeded, match="before"):
        many.step(still)
    with pytest.raises(ResetNeeded, match="part"):
        many.reset(options={"reset_mask": np.arange(ROWS) > 0})
    many.reset(seed=0)
    ended = np.zeros(ROWS, bool)
    while not ended.any():
        _, _, terminated, truncated, _ = many.step(still)
        ended = terminated | truncated
    terminated[:] = truncated[:] = False  # arrays belong to the caller
    assert not ended.all()
    for mask in (None, ~ended):
        if mask is not None:
            many.reset(options={"reset_mask": mask})
        with pytest.raises(ResetNeeded, match=str(np.flatnonzero(ended)[0])):
            many.step(still)
    many.reset(options={"reset_mask": ended})
    many.step(still)
