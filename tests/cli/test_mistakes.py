"""Mistakes: each is refused in one paragraph that helps, at once, with nothing compiled or written."""

import json
import math
import os
import random
import shlex
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import purerl
import purerl.experiment.run  # the imports are no part of the time measured
from purerl.config import ConfigError
from purerl.experiment import cli, config_file

REPOSITORY = Path(__file__).parents[2]
SECONDS = 5.0
"""For one refusal, which takes some hundredths of one: machines are noisy."""

# (what is typed, field, value as shown, words of what is allowed, words of the hint at the end)
MISTAKES = [
    # Names
    ("--algo sacc", "algo", "'sacc'", "known are a2c, ppo, recurrent_ppo, sac", "Did you mean sac?"),
    ("--algo os:system", "algo", "'os:system'", "known are a2c, ppo, recurrent_ppo, sac", ""),
    ("--algo", "algo", "''", "a non-empty string", ""),
    ("--env antt", "env", "'antt'", "known are acrobot, ant, asterix", "Did you mean ant?"),
    ("--env HalfCheetah-v5", "env", "'HalfCheetah-v5'", "known are ac", "Did you mean half_cheetah?"),
    ("--env LunarLander-v3", "env", "'LunarLander-v3'", "known are ac", "Did you mean gym:LunarLander-v3?"),
    ("--env gym:LunarLander", "env", "'gym:LunarLander'", "has no such", "Did you mean gym:LunarLander-v3?"),
    ("--env module:attr", "env", "'module:attr'", "stand behind brax:, gym:, gymnax:, playground:", ""),
    ("--env gym:module:attr", "env", "'gym:module:attr'", "may not name a module to import", "leave it out."),
    ("--env ../../x", "env", "'../../x'", "known are ac", ""),
    ("--env ant cartpole", "env", "'ant cartpole'", "known are ac", "Did you mean cartpole?"),
    ("--engine mujco", "engine", "'mujco'", "one of auto, mujoco, mjx", "Did you mean mujoco?"),
    ("--activation rellu", "activation", "'rellu'", "one of relu, tanh", "Did you mean relu?"),
    ("--lr 3e-4", "--lr", "'3e-4'", "ppo has no such option", "Did you mean learning_rate?"),
    ("--learning-rat 1", "--learning-rat", "'1'", "no such option", "Did you mean learning_rate?"),
    ("--Gamma=0.9", "--Gamma", "'0.9'", "no such option", "Did you mean gamma?"),
    ("--steps 5", "--steps", "'5'", "no such option", "Did you mean total_timesteps?"),
    ("--num-seeds 5", "--num-seeds", "'5'", "no such option", "Did you mean seeds?"),
    ("--algo sac --num-steps 9", "--num-steps", "'9'", "sac has no such", "num_steps belongs to a2c, ppo,"),
    (
        "--algo sac --clip-ratio 1",
        "--clip-ratio",
        "'1'",
        "sac has no such",
        "clip_eps belongs to ppo, ",
    ),
    ("--buffer-size 10", "--buffer-size", "'10'", "ppo has no such option", "buffer_size belongs to sac."),
    ("--no-such --seed 1", "--no-such", "''", "ppo has no such option", "See --help."),
    ("--no-gamma", "--no-gamma", "''", "ppo has no such option", "Did you mean gamma?"),
    ("-gamma 0.9", "-gamma", "'0.9'", "ppo has no such option", "Did you mean gamma?"),
    ("-x 3", "-x", "'3'", "ppo has no such option", "See --help."),
    ("--tyro-print-completion bash", "--tyro-print-completion", "'bash'", "no such option", "See --help."),
    ("sac ant", "argument", "'sac'", "comes after the name of its option", "Did you mean --algo sac?"),
    ("gamma=0.5", "argument", "'gamma=0.5'", "after the name of its option", "Did you mean --gamma=0.5?"),
    ("3", "argument", "'3'", "comes after the name of its option, as in --env ant", ""),
    (["--one\ntwo", "3"], r"--one\ntwo", "'3'", "ppo has no such option", "See --help."),
    # Values
    ("--gamma abc", "gamma", "'abc'", "a finite number, at least 0, at most 1", ""),
    ("--gamma", "gamma", "''", "a finite number, at least 0, at most 1", ""),
    ("--gamma 0.9 0.8", "gamma", "'0.9 0.8'", "a finite number, at least 0, at most 1", ""),
    ("--gamma 1.5", "gamma", "1.5", "a finite number, at least 0, at most 1", ""),
    ("--gamma -0.1", "gamma", "-0.1", "a finite number, at least 0, at most 1", ""),
    ("--gamma nan", "gamma", "nan", "a finite number, at least 0, at most 1", ""),
    ("--learning-rate 0", "learning_rate", "0.0", "a finite number, above 0", ""),
    ("--learning-rate 1e400", "learning_rate", "inf", "a finite number, above 0", ""),
    ("--learning-rate None", "learning_rate", "'None'", "a finite number, above 0", ""),
    ("--algo sac --ent-coef auto", "ent_coef", "'auto'", "at least 0, or None to switch it off", ""),
    ("--algo sac --tau 0", "tau", "0.0", "a finite number, above 0, at most 1", ""),
    ("--num-envs 2.5", "num_envs", "'2.5'", "a whole number, at least 1, at most 1,048,576", ""),
    ("--num-envs 0", "num_envs", "0", "a whole number, at least 1", ""),
    ("--num-envs 1e7", "num_envs", "10000000", "a whole number, at least 1, at most 1,048,576", ""),
    ("--total-timesteps 1e30", "total_timesteps", "'1e30'", "at most 2,000,000,000", ""),
    (f"--total-timesteps 1{'0' * 5000}", "total_timesteps", f"'1{'0' * 75}...", "at most 2,000,000,000", ""),
    ("--log-interval 2e9", "log_interval", "2000000000", "at most 100,000,000", ""),
    ("--seed -1", "seed", "-1", "a whole number, at least 0, at most 4,294,967,295", ""),
    ("--seeds eight", "seeds", "'eight'", "a whole number, at least 1, at most 65,536", ""),
    ("--seeds --quiet", "seeds", "''", "a whole number, at least 1", ""),
    ("--seeds 8 --seeds=0", "seeds", "0", "a whole number, at least 1", ""),
    ("--hidden-sizes 64,64", "hidden_sizes", "'64,64'", "whole numbers, at least 1", "Write 64 64 on"),
    ("--hidden-sizes", "hidden_sizes", "''", "a tuple of at most 32 whole numbers", "Write 64 64 on"),
    ("--hidden-sizes 64 wide", "hidden_sizes", "'64 wide'", "whole numbers", "and [64, 64] in a file."),
    ("--hidden-sizes 64 0", "hidden_sizes", "(64, 0)", "at least 1, at most 65,536", ""),
    ("--hidden-sizes 1e9", "hidden_sizes", "(1000000000,)", "at least 1, at most 65,536", ""),
    ("--hidden-sizes" + 33 * " 8", "hidden_sizes", "(8, 8, 8", "a tuple of at most 32 whole numbers", ""),
    ("--anneal-lr maybe", "anneal_lr", "'maybe'", "True or False", ""),
    ("--no-anneal-lr 3", "anneal_lr", "'False 3'", "True or False", ""),
    ("--quiet=", "quiet", "''", "True or False", ""),
    ("--stop-at-return high", "stop_at_return", "'high'", "a finite number, or None", ""),
    ("--logdir=", "logdir", "''", "a non-empty string", ""),
    (["--env", "\x1b[31mred\x07"], "env", r"'\x1b[31mred\x07'", "known are acrobot", ""),
    (["--env", "x" * 5000], "env", "'" + "x" * 76 + "...", "known are acrobot", ""),
    # What does not fit together
    ("--num-minibatches 7", "num_minibatches", "7", "num_envs * num_steps = 8 * 256 = 2,048", ""),
    ("--num-steps 1e7 --num-minibatches 1", "num_steps", "10000000", "must be at most 33,554,432", ""),
    ("--engine mjx", "engine", "'mjx'", "cartpole is pure JAX and takes only auto", ""),
    ("--algo sac --env cartpole", "env", "'cartpole'", "Discrete(2)", "Use ppo for discrete actions."),
    (
        "--algo sac --env pendulum --learning-starts 500 --total-timesteps 500",
        *("learning_starts", "500", "below total_timesteps = 500", ""),
    ),
    (
        "--algo sac --env pendulum --batch-size 101 --buffer-size 100",
        *("batch_size", "101", "at most buffer_size = 100", ""),
    ),
    # The environment's own options
    ("--env-kwargs gravity=9.81", "env_kwargs", "'gravity=9.81'", "it must be JSON", ""),
    ("--env-kwargs [1]", "env_kwargs", "'[1]'", "a mapping from names to values", ""),
    ("""--env-kwargs '{"tau": 1, "tau": 2}'""", "env_kwargs", "", "'tau' is there twice", ""),
    ("""--env-kwargs '{"env": "ant"}'""", "env_kwargs", "{'env': 'ant'}", "env is a field of its own", ""),
    ("""--env-kwargs '{"gravty": 1}'""", "gravty", "1", "options of cartpole are", "Did you mean gravity?"),
    ("""--env-kwargs '{"__class__": 1}'""", "__class__", "1", "the options of cartpole are gravity", ""),
    ("""--env-kwargs '{"gravity": "9.8"}'""", "gravity", "'9.8'", "a finite number", ""),
    ("""--env-kwargs '{"gravity": NaN}'""", "gravity", "nan", "a finite number", ""),
    ("""--env-kwargs '{"max_episode_steps": 0}'""", "max_episode_steps", "0", "at least 1", ""),
    (
        """--env ant --env-kwargs '{"helthy_reward": 1}'""",
        *("helthy_reward", "1", "the task's arguments are", "Did you mean healthy_reward?"),
    ),
    ("""--env ant --env-kwargs '{"healthy_reward": 1e39}'""", "healthy_reward", "1e+39", "finite number", ""),
    ("""--env ant --env-kwargs '{"healthy_z_range": 1}'""", "healthy_z_range", "1", "a pair", ""),
    ("""--env ant --env-kwargs '{"frame_skip": 1001}'""", "frame_skip", "1001", "at most 1,000", ""),
    ("""--env ant --env-kwargs '{"main_body": "head"}'""", "main_body", "'head'", "front_left_leg", ""),
    (
        """--env ant --env-kwargs '{"xml_file": "antt.xml"}'""",
        *("xml_file", "'antt.xml'", "no such file", "Did you mean ant.xml?"),
    ),
    ("""--env ant --env-kwargs '{"xml_file": "lr.json"}'""", "xml_file", "'lr.json'", "cannot be read", ""),
    # Files; FILES says what they hold
    ("--config nowhere.json", "config", "'nowhere.json'", "No such file", ""),
    ("--config=", "config", "''", "a non-empty string", ""),
    ("--config notes.txt", "config", "'notes.txt'", "must end in .json, .toml, .yaml, .yml", ""),
    ("--config list.json", "config", "'list.json'", "a mapping from names to values", ""),
    ("--config algo.toml", "algo", "3", "known are a2c, ppo, recurrent_ppo, sac", ""),
    ("--config lr.json", "lr", "1", "ppo has no such option", "Did you mean learning_rate?"),
    ("--algo sac --config steps.yaml", "num_steps", "8", "sac has no such", "num_steps belongs to a2c, ppo,"),
    ("--config seeds.yaml", "seeds", "3", "ppo has no such option", "option of the command line."),
    ("--config sizes.yaml", "hidden_sizes", "(64, '64')", "at most 32 whole numbers", ""),
    ("--config gamma.toml", "gamma", "inf", "a finite number, at least 0, at most 1", ""),
]
FILES = {
    "notes.txt": "gamma: 1",
    "list.json": "[1]",
    "algo.toml": "algo = 3",
    "lr.json": '{"lr": 1}',
    "steps.yaml": "num_steps: 8",
    "seeds.yaml": "seeds: 3",
    "sizes.yaml": "hidden_sizes: [64, '64']",
    "gamma.toml": "gamma = inf",
}


@pytest.fixture(scope="module")
def compiled():
    """A list that grows with every compilation by XLA."""
    events = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x + 12345)(jnp.zeros(()))
    assert events, "the listener hears nothing"
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys, compiled):
    """`refusal(argv)`: the one line that the mistake in `argv` gets, without its line end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "as it is")  # commands leave JAX's setting alone then
    for name, content in FILES.items():
        Path(name).write_text(content)

    def refuse(argv):
        before = sorted(tmp_path.rglob("*"))
        compiled.clear()
        began = time.monotonic()
        code = cli.train(argv)
        assert time.monotonic() - began < SECONDS
        assert (code, compiled, sorted(tmp_path.rglob("*"))) == (2, [], before)
        captured = capsys.readouterr()
        line = captured.err.removesuffix("\n")
        assert captured.out == "" and line.startswith("error: ") and line.endswith((".", "?"))
        assert line.isprintable() and len(line) < 1200
        return line

    return refuse


def test_there_are_sixty_and_they_differ():
    typed = [words if isinstance(words, str) else shlex.join(words) for words, *_ in MISTAKES]
    assert len(set(typed)) == len(typed) >= 60


@pytest.mark.parametrize(
    ("typed", "field", "value", "allowed", "hint"),
    MISTAKES,
    ids=[(words if isinstance(words, str) else ascii(words))[:40] for words, *_ in MISTAKES],
)
def test_a_mistake_is_one_paragraph(refusal, typed, field, value, allowed, hint):
    """It names the field, its value, what is allowed and the nearest name there is; exit code 2."""
    line = refusal(shlex.split(typed) if isinstance(typed, str) else typed)
    assert line.startswith(f"error: {field} = {value}")
    rest = line.partition(" is not allowed: ")[2]
    assert allowed in rest.partition(hint or "\0")[0], line
    assert hint in rest and ("Did you mean" in line) == ("Did you mean" in hint), line


@pytest.mark.parametrize(
    ("typed", "call"),
    [
        ("--gamma 1.5", lambda: purerl.make_config("ppo", gamma=1.5)),
        ("--hidden-sizes 64 0", lambda: purerl.make_config("ppo", hidden_sizes=[64, 0])),
        ("--algo sacc", lambda: purerl.make_config("sacc")),
        ("--env antt", lambda: purerl.make_env("antt")),
        ("--env antt", lambda: purerl.run(purerl.make_config("ppo", env="antt"))),
        ("--engine mjx", lambda: purerl.make_env("cartpole", engine="mjx")),
        ("--env-kwargs '{\"gravty\": 1}'", lambda: purerl.make_env("cartpole", gravty=1)),
        ("--num-minibatches 7", lambda: purerl.make_train(purerl.make_config("ppo", num_minibatches=7))),
        (
            "--algo sac --env cartpole",
            lambda: purerl.make_algorithm(purerl.make_config("sac", env="cartpole")),
        ),
        ("--seeds 0", lambda: purerl.run(purerl.make_config("ppo"), seeds=0)),
        ("--seeds 65537", lambda: purerl.run(purerl.make_config("ppo"), seeds=65_537)),
        (
            "--stop-at-return nan",
            lambda: purerl.run(purerl.make_config("ppo"), stop_at_return=math.nan),
        ),
    ],
)
def test_python_says_the_same(refusal, typed, call):
    """As an exception, which is a ValueError."""
    with pytest.raises(ConfigError) as caught:
        call()
    assert f"error: {caught.value}" == refusal(shlex.split(typed))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n"
for old, new in zip("abcdefghijk", "bcdefghijkl", strict=True):
    BOMB += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"

# (file name, contents, words of the refusal)
STRANGE = [
    ("x.yaml", "env: !!python/object/apply:os.system ['touch harm']", "could not determine a constructor"),
    ("x.yaml", "env: !!python/name:os.system", "could not determine a constructor"),
    ("x.yaml", "a: &a {b: 1}\nc: {<<: *a}", "a YAML alias (*name) is not allowed"),
    ("x.yaml", "a: &a [*a]", "a YAML alias (*name) is not allowed"),
    ("x.yaml", BOMB, "a YAML alias (*name) is not allowed"),
    ("x.yaml", "<<: {gamma: 0.5}", "line 1: a name must be a string"),
    ("x.yaml", "gamma: 0.9\nseed: 1\ngamma: 0.8", "'gamma' is there twice"),
    ("x.json", '{"gamma": 0.9, "gamma": 0.8}', "'gamma' is there twice"),
    ("x.json", '{"env_kwargs": {"tau": 1, "tau": 2}}', "'tau' is there twice"),
    ("x.toml", "gamma = 0.9\ngamma = 0.8", "Cannot overwrite a value"),
    ("x.yaml", "1: 2", "line 1: a name must be a string"),
    ("x.yaml", "gamma: 1\non: 2", "line 2: a name must be a string"),
    ("x.yaml", "? [a, b]\n: 2", "line 1: a name must be a string"),
    ("x.yaml", "env_kwargs: {2.5: 1}", "line 1: a name must be a string"),
    ("x.yaml", "seed: !!int ''", "cannot be read"),
    ("x.yaml", "gamma: .nan", "gamma = nan is not allowed: a finite number"),
    ("x.json", '{"gamma": NaN}', "gamma = nan is not allowed: a finite number"),
    ("x.json", '{"gamma": -Infinity}', "gamma = -inf is not allowed: a finite number"),
    ("x.json", f'{{"seed": {"9" * 5000}}}', "5000 digits"),
    ("x.yaml", f"seed: {'9' * 5000}", "5000 digits"),
    ("x.toml", f"seed = {'9' * 5000}", "5000 digits"),
    ("x.yaml", f"seed: 0x{'f' * 9000}", "seed = <int that cannot be shown> is not allowed: a whole number"),
    ("x.json", '{"a":' * 5000, "nested deeper than 16 levels"),
    ("x.json", '{"a":' * 17 + "1" + "}" * 17, "nested deeper than 16 levels"),
    ("x.yaml", "[" * 9000, "nested deeper than 16 levels"),
    ("x.toml", "a = " + "[" * 9000, "nested deeper than 16 levels"),
    ("x.toml", "a." * 9000 + "a = 1", "a line has more than 100 dots"),
    ("x.json", b'{"env": "\xff"}', "can't decode byte 0xff"),
    ("x.json", '{"env": "ant"}'.encode("utf-16"), "can't decode byte 0xff"),
    ("x.json", '{"env": "\\ud800"}', r"env = '\ud800' is not allowed"),
    ("x.json", '{"\\ud800\\n\\u001b[2J": 1}', r"\ud800\n\x1b[2J = 1 is not allowed"),
    ("x.json", '{"__class__": 1}', "__class__ = 1 is not allowed"),
    ("x.yaml", "_target_: os.system", "_target_ = 'os.system' is not allowed"),
    ("x.yaml", "env: os:system", "env = 'os:system' is not allowed: ids of other libraries"),
    ("x.toml", "env = 2020-01-01", "env = datetime.date(2020, 1, 1) is not allowed"),
    ("x.json", " " * 2**20 + " {}", "more than 32,768 bytes"),
    ("x.json", "", "cannot be read"),
    ("x.yaml", "", "a mapping from names to values"),
    ("x.toml", "gamma: 1", "cannot be read"),
]


@pytest.mark.parametrize(
    ("name", "content", "words"), STRANGE, ids=[f"{name} {content[:20]!a}" for name, content, _ in STRANGE]
)
def test_a_file_from_a_stranger_does_no_harm(refusal, name, content, words):
    """It is refused in words, soon; nothing of it runs, nor takes much memory."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    tracemalloc.start()
    try:
        assert words in refusal(["--config", name])
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_only_a_regular_file_is_opened(refusal):
    """A pipe would wait for ever and a device never end; a link to a file is a file."""
    os.mkfifo("pipe.yaml")
    os.mkdir("folder.yaml")
    Path("device.yaml").symlink_to("/dev/zero")
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("link.json").symlink_to("lr.json")
    for name in ("pipe.yaml", "folder.yaml", "device.yaml"):
        assert "is no regular file" in refusal(["--config", name])
    assert "cannot be read" in refusal(["--config", "loop.yaml"])
    assert "learning_rate" in refusal(["--config", "link.json"])


def test_the_largest_file_there_may_be_is_read_soon(tmp_path):
    """YAML's reader is the slowest."""
    path = tmp_path / "x.yaml"
    path.write_text("env_kwargs: {xs: [" + "1," * (config_file.LARGEST // 2 - 12) + "1]}")
    began = time.monotonic()
    assert len(config_file.read_config(path)["env_kwargs"]["xs"]) > 10_000
    assert time.monotonic() - began < SECONDS


WORDS = "0 -1 1e6 nan abc None True sac ant {} [1] 64,64 -- - -x --5 = --= 1_0 __class__ --lr --no- -5x"
ODD_WORDS = ("", "\x1b[31m", "a\nb", "\udcff", "9" * 5000, '{"g": {"a": [1]}}', "--tyro-write-completion")
PIECES = "a gamma env : - , ' { } [ ] & * ! !!int !!set ? | > << 3e-4 0x 1:30 ~ yes = # ."
ODD_PIECES = (" ", "\n", '"', "\t", ": ", "- ", "&a ", "*a", "%", "\ufeff", "\0", "[[x]]", "2020-01-01")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_typed_is_parsed_or_refused(seed, tmp_path, monkeypatch):
    """On the command line and in a file: a configuration or a ConfigError of one line, nothing else."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(seed)
    names = [field for algo in ("ppo", "sac") for field in vars(purerl.make_config(algo))]
    options = [f"--{name}" for name in [*names, *vars(cli.RunOptions())]]
    outcomes = set()
    for _ in range(50):
        suffix = draw.choice([".json", ".yaml", ".toml"])
        path = Path(f"x{suffix}")
        path.write_text("".join(draw.choices([*PIECES.split(), *ODD_PIECES], k=draw.randrange(12))))
        words = [
            draw.choice(draw.choice([WORDS.split(), ODD_WORDS, options])) for _ in range(draw.randrange(6))
        ]
        for argv in (words, ["--config", str(path)]):
            try:
                cli.parse(argv)
                outcomes.add("parsed")
            except ConfigError as error:
                outcomes.add("refused")
                assert str(error).isprintable() and " is not allowed: " in str(error), argv
    assert outcomes == {"parsed", "refused"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--env", "antt"], "env = 'antt' is not allowed: known are acrobot"),
        ([b"--env=\xff\x1b"], r"env = '\udcff\x1b' is not allowed: known are acrobot"),
        (["--algo", "sac", "--env", "cartpole"], "Use ppo for discrete actions."),
    ],
    ids=["parsing", "bytes", "running"],
)
def test_the_script_itself(argv, words, tmp_path):
    """In a process of its own, in the plainest locale."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *argv]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_mapping_is_shown_as_it_was_given(refusal):
    """Not as the hashable one that a Config makes of it."""
    kwargs = {"engine": "mjx", "deep": {"a": [1]}}
    assert f"env_kwargs = {kwargs} is not allowed" in refusal(["--env-kwargs", json.dumps(kwargs)])
