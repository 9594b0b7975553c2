"""Films of trained policies: frames, formats, and whole files."""

import imageio.v2 as imageio
import jax
import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl import evaluate as inside
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.train import evaluation_key
from purerl.workbench import episodes
from purerl.workbench.video import record_video

MUTANTS = {
    "the film goes on after the end": (
        "workbench/episodes.py",
        "shown = int(np.asarray(alive).sum())",
        "shown = length",
        "test_a_film_ends_with_its_episode",
    ),
    "the first member": (
        "workbench/episodes.py",
        "state, member, task",
        "state, 0, task",
        "test_the_member_is_chosen",
    ),
    "no exploration": (
        "workbench/episodes.py",
        "networks, explore=stochastic)",
        "networks)",
        "test_the_member_is_chosen",
    ),
    "the last reward is missed": (
        "workbench/episodes.py",
        "yield Frame(None, time + 1, total)",
        "yield Frame(None, time + 1, total - float(reward[0]))",
        "test_an_environment_of_gymnasium_is_filmed",
    ),
    "a picture of another step": (
        "workbench/episodes.py",
        "pictures(i - i % block)[i % block]",
        "pictures(i - i % block)[0]",
        "test_frames_are_those_of_their_steps",
    ),
    "half a film stays": (
        "workbench/video.py",
        "        temporary.unlink(missing_ok=True)\n    return",
        "        pass\n    return",
        "test_a_film_is_whole_or_not_there",
    ),
    "the oldest frame of a stack": (
        "envs/adapters/from_gymnasium.py",
        "newest = self._obs[0, -1]",
        "newest = self._obs[0, 0]",
        "test_the_frames_of_an_atari_game_are_its_picture",
    ),
    "a film of a blank screen": (
        "envs/adapters/from_gymnasium.py",
        "return np.asarray(frames[0], np.uint8)",
        "return np.zeros_like(frames[0])",
        "test_an_environment_of_gymnasium_is_filmed",
    ),
}
SIZE = {"width": 64, "height": 48}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    purerl.run(tiny("a2c", "cartpole", env_kwargs={"max_episode_steps": 40}), 3, path, progress=False)
    return path


def own_return(run_dir, member, explore=False, steps=40):
    """Return of the first episode by a plain loop, and its steps."""
    cfg, state = purerl.load(run_dir)
    env = purerl.make_env(cfg.env, **cfg.env_kwargs)
    policy = purerl.make_policy(cfg, state, member, explore=explore)
    key_reset, key_steps = inside.keys_of(evaluation_key(jax.random.key(0), np.int32(0), explore))
    obs, env_state = env.reset(key_reset)
    total, carry, act = 0.0, policy.init(1), jax.jit(policy.act)
    for time in range(steps):
        key_act, key_env = inside.keys_at(key_steps, time)
        action, carry = act(carry, obs[None], key_act)
        obs, env_state, reward, terminated, truncated, _ = env.step(key_env, env_state, action[0])
        total += float(reward)
        if terminated or truncated:
            break
    return total, time + 1


def test_a_film_ends_with_its_episode(run_dir, tmp_path):
    """A frame for the start and for each step; the return is that of a plain loop."""
    film = record_video(run_dir, tmp_path / "film.gif", member=1, **SIZE)
    total, steps = own_return(run_dir, 1)
    assert (film.frames, film.returns) == (steps + 1, [total]) and steps < 40
    frames = imageio.mimread(tmp_path / "film.gif")
    assert len(frames) <= steps + 1 and frames[0].shape[:2] == (48, 64)  # GIF joins equal frames


def test_frames_are_those_of_their_steps(run_dir):
    """Drawn one by one or many at a time."""
    asked = dict(member=1, max_steps=6, best=False, itr=None, stochastic=False, camera=None, env=None)
    players = [
        episodes.make_player(run_dir, **asked, width=200, height=150, networks=None, block=block)
        for block in (1, 4, 100)
    ]
    shown = [[(f.draw(), f.step, f.total) for f in player.episode(0, 0, False)] for player in players]
    assert [(step, total) for _, step, total in shown[0]] == [(i, float(i)) for i in range(len(shown[0]))]
    for others in shown[1:]:
        for (picture, *rest), (same, *expected) in zip(others, shown[0], strict=True):
            np.testing.assert_array_equal(picture, same)
            assert rest == expected
    assert len({picture.tobytes() for picture, *_ in shown[0]}) > 3


def test_the_member_is_chosen(run_dir, tmp_path):
    """And its exploration, and the longest part of an episode."""
    cases = [(member, explore) for member in range(3) for explore in (False, True)]
    films = [
        record_video(run_dir, tmp_path / "a.gif", member=i, stochastic=s, **SIZE).returns for i, s in cases
    ]
    assert films == [[own_return(run_dir, i, s)[0]] for i, s in cases]
    assert len({total for (total,) in films[::2]}) > 1 and films[::2] != films[1::2]
    film = record_video(run_dir, tmp_path / "b.gif", max_steps=3, episodes=2, **SIZE)
    assert film.frames == 8 and film.returns == [3.0, 3.0]


@pytest.mark.filterwarnings("ignore:os.fork", "ignore:unclosed file:ResourceWarning")  # of the reader
def test_an_mp4_has_its_frames_and_its_speed(run_dir, tmp_path):
    film = record_video(run_dir, tmp_path / "film.mp4", fps=20, max_steps=9, **SIZE)
    with imageio.get_reader(film.path) as reader:
        assert reader.get_meta_data()["fps"] == 20 and reader.get_meta_data()["size"] == (64, 48)
        frames = np.stack([*reader.iter_data()])
    assert len(frames) == film.frames == 10 and frames.std() > 5


def test_an_environment_of_gymnasium_is_filmed(tmp_path):
    """By its own pictures."""
    cfg = tiny("a2c", "gym:CartPole-v1", env_kwargs={"max_episode_steps": 9})
    purerl.run(cfg, 1, tmp_path / "run", progress=False)
    film = record_video(tmp_path / "run", tmp_path / "film.gif", max_steps=5)
    frames = imageio.mimread(film.path)
    assert film.frames == 5 and frames[0].shape[:2] == (400, 600) and np.std(frames[0]) > 5
    assert film.returns == [5.0]


def test_the_frames_of_an_atari_game_are_its_picture():
    """The newest of the stacked ones, in grey."""
    vector = purerl.make_env("gym:ALE/Pong-v5").make_vector(1, True)
    try:
        obs = vector.reset([0])
        for _ in range(40):
            obs = vector.step(np.array([2]))[0]
        picture = vector.picture()
    finally:
        vector.close()
    assert picture.shape == (84, 84, 3) and picture.std() > 5 and (obs[0, 0] != obs[0, -1]).any()
    for channel in range(3):
        np.testing.assert_array_equal(picture[..., channel], obs[0, -1])


def test_a_film_is_whole_or_not_there(run_dir, tmp_path, monkeypatch):
    (tmp_path / "film.gif").write_bytes(b"before")

    def broken(*args):
        yield episodes.Frame(lambda: np.zeros((48, 64, 3), np.uint8), 0, 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(episodes.Player, "episode", broken)
    with pytest.raises(KeyboardInterrupt):
        record_video(run_dir, tmp_path / "film.gif", **SIZE)
    assert (tmp_path / "film.gif").read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"path": "film.avi"}, "a file that ends in .mp4 or .gif"),
        ({"path": "/no/such/film.gif"}, "a directory that exists"),
        ({"member": 3}, "member = 3"),
        ({"fps": 0}, "fps = 0"),
        ({"width": 5000}, "width = 5000"),
        ({"camera": "front"}, "camera"),
    ],
)
def test_mistakes_are_refused(run_dir, options, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=part):
        record_video(run_dir, **({"path": "film.gif"} | options))
    assert not list(tmp_path.iterdir())


def test_the_command_says_where_the_film_is(run_dir, tmp_path, capsys):
    words = [
        "play",
        str(run_dir),
        "--out",
        str(tmp_path / "a.gif"),
        "--max-steps",
        "3",
        "--compilation-cache",
        "none",
    ]
    assert command(words) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.gif'}: 4 frames, return 3.0\n"
    assert command(["play", str(run_dir), "--fsp", "3"]) == 2
    assert "Did you mean fps?" in capsys.readouterr().err
