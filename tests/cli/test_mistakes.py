"""Mistakes in options and files: one helpful line each, at once, with nothing compiled or written."""

import random
import shlex
import time

import pytest

from purerl.cli.configure import RunOptions, names, parse
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.registry import config_class

MUTANTS = {
    "abbreviations": ("cli/options.py", "abbrev=False", "abbrev=True", "test_a_mistake_is_one_line"),
}
SECONDS = 5.0
"""Limit of processor time for one refusal; the slowest takes about one."""
BETWEEN = "a finite number, at least 0, at most 1"
KNOWN = "an option of ppo"
BEFORE = "the name of an option before each value, as in --env ant"

# (words, the field and the value that the message names, parts of the rest)
MISTAKES = [
    # Names
    ("--algo sacc", "algo = 'sacc'", "one of a2c, ddpg, dqn, ", "Did you mean sac?"),
    ("--env HalfCheetah-v5", "env = 'HalfCheetah-v5'", "one of acrobot, ant, ", "Did you mean half_cheetah?"),
    ("--env LunarLander-v3", "env = 'LunarLander-v3'", "Did you mean gym:LunarLander-v3?"),
    ("--env module:attr", "env = 'module:attr'", "brax:, gym:, gymnax:, playground:"),
    ("--env gym:module:attr", "env = 'gym:module:attr'", "import"),
    ("--engine mujco", "engine = 'mujco'", "one of auto, mujoco, mjx", "Did you mean mujoco?"),
    ("--preset ppo-hoper", "preset = 'ppo-hoper'", "one of ppo_mujoco, ", "Did you mean ppo-hopper?"),
    ("--preset ppo-hopper --algo sac", "preset = 'ppo-hopper'", "a preset of sac. This one is of ppo."),
    ("--algo sac --learning-rat 1", "--learning-rat = '1'", "of sac", "Did you mean learning_rate?"),
    ("--algo sac --num-steps 9", "--num-steps = '9'", "an option of sac. num_steps belongs to a2c, ppo,"),
    ("--lr 3e-4", "--lr = '3e-4'", KNOWN, "Did you mean learning_rate?"),
    ("--no-such --seed 1", "--no-such = ''", KNOWN, "See --help."),
    ("-gamma 0.9", "-gamma = '0.9'", KNOWN, "Did you mean gamma?"),
    ("sac ant", "argument = 'sac'", BEFORE, "Did you mean --algo sac?"),
    ("gamma=0.5", "argument = 'gamma=0.5'", BEFORE, "Did you mean --gamma=0.5?"),
    (["--one\ntwo", "3"], r"--one\ntwo = '3'", KNOWN, "See --help."),
    (["--env", "\x1b[31mred\x07"], r"env = '\x1b[31mred\x07'", "one of acrobot, "),
    (["--env", "x" * 5000], "env = '" + "x" * 76 + "...", "one of acrobot, "),
    # Values
    ("--gamma abc", "gamma = 'abc'", BETWEEN),
    ("--gamma 1.5", "gamma = 1.5", BETWEEN),
    ("--gamma nan", "gamma = nan", BETWEEN),
    ("--num-envs 2.5", "num_envs = '2.5'", "a whole number, at least 1, at most 1,048,576"),
    ("--total-timesteps 1e30", "total_timesteps = '1e30'", "at most 2,000,000,000"),
    (f"--total-timesteps 1{'0' * 5000}", f"total_timesteps = '1{'0' * 75}...", "at most 2,000,000,000"),
    ("--seeds 8 --seeds=0", "seeds = 0", "a whole number, at least 1"),
    ("--hidden-sizes 64 wide", "hidden_sizes = '64 wide'", "whole numbers", "and [64, 64] in a file."),
    ("--hidden-sizes" + 33 * " 8", "hidden_sizes = (8, 8, 8", "a tuple of at most 32 whole numbers"),
    ("--anneal-lr maybe", "anneal_lr = 'maybe'", "True or False"),
    ("--quiet=", "quiet = ''", "True or False"),
    # Fields that do not fit together
    ("--num-minibatches 7", "num_minibatches = 7", "8 * 256"),
    ("--engine mjx", "engine = 'mjx'", "cartpole", "auto"),
    ("--algo td3 --env cartpole", "env = 'cartpole'", "Discrete(2)", "Use dqn"),
    ("--algo sac --env pendulum --total-timesteps 500", "learning_starts = ", "total_timesteps = 500"),
    # Keyword arguments of the environment
    ("--env-kwargs gravity=9.81", "env_kwargs = 'gravity=9.81'", "a mapping in JSON"),
    ("""--env-kwargs '{"tau": 1, "tau": 2}'""", "env_kwargs = ", "two values of 'tau'"),
    ("""--env-kwargs '{"env": "ant"}'""", "env_kwargs = {'env': 'ant'}", "field"),
    ("""--env-kwargs '{"gravty": 1}'""", "gravty = 1", "cartpole", "Did you mean gravity?"),
    ("""--env-kwargs '{"gravity": "9.8"}'""", "gravity = '9.8'", "a finite number"),
]
# (file name, contents, part of the message)
DAMAGED = [
    ("x.yaml", "env: !!python/object/apply:os.system ['touch harm']", "could not determine a constructor"),
    ("x.yaml", "<<: {gamma: 0.5}", "no string in line 1;"),
    ("x.yaml", "gamma: 0.9\nseed: 1\ngamma: 0.8", "two values of 'gamma'"),
    ("x.json", '{"env_kwargs": {"tau": 1, "tau": 2}}', "two values of 'tau'"),
    ("x.yaml", "seed: !!int ''", "file with a mapping"),
    ("x.yaml", "gamma: .nan", f"gamma = nan: expected {BETWEEN}"),
    ("x.json", f'{{"seed": {"9" * 5000}}}', "5000 digits"),
    ("x.yaml", f"seed: 0x{'f' * 9000}", "seed = <int that cannot be shown>: expected a whole number"),
    ("x.json", '{"a":' * 5000, "at most 16 levels of nested values"),
    ("x.yaml", "[" * 9000, "at most 16 levels of nested values"),
    ("x.toml", "a." * 9000 + "a = 1", "a line with more than 100 dots"),
    ("x.json", b'{"env": "\xff"}', "can't decode byte 0xff"),
    ("x.json", '{"env": "\\ud800"}', r"env = '\ud800': expected "),
    ("x.json", '{"\\ud800\\n\\u001b[2J": 1}', r"\ud800\n\x1b[2J = 1: expected "),
    ("x.toml", "env = 2020-01-01", "env = datetime.date(2020, 1, 1): expected "),
    ("x.json", " " * 2**20 + " {}", "more than 32,768 bytes"),
    ("x.yaml", "", "no mapping"),
    ("x.toml", "gamma: 1", "file with a mapping"),
    ("x.txt", "gamma: 1", "a file that ends in .json, .toml, .yaml, .yml"),
    ("x.json", '{"lr": 1}', "lr = 1: expected an option of ppo. Did you mean learning_rate?"),
    ("x.yaml", "seeds: 3", "seeds is an option of the command line only."),
    ("x.yaml", "hidden_sizes: [64, '64']", "hidden_sizes = (64, '64'): expected a tuple of at most 32"),
]


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys, compiled, no_collection):
    """`refusal(argv)`: the one line that the mistake in `argv` gets, without its line end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unchanged")  # so commands leave JAX's setting alone

    def refuse(argv):
        compiled.clear()
        before, began = list(tmp_path.iterdir()), time.process_time()
        code = command(["train", *argv])
        assert time.process_time() - began < SECONDS
        assert (code, compiled, list(tmp_path.iterdir())) == (2, [], before)
        captured = capsys.readouterr()
        line = captured.err.removesuffix("\n")
        assert captured.out == "" and line.startswith("error: ") and line.endswith((".", "?"))
        assert line.isprintable() and len(line) < 1200 and ": expected " in line
        return line

    return refuse


@pytest.mark.parametrize("mistake", MISTAKES, ids=[ascii(mistake[0])[:40] for mistake in MISTAKES])
def test_a_mistake_is_one_line(refusal, mistake):
    """It names the field, the value, the allowed values and the nearest name; exit code 2."""
    typed, start, *parts = mistake
    line = refusal(shlex.split(typed) if isinstance(typed, str) else typed)
    rest = line.partition(": expected ")[2]
    assert line.startswith(f"error: {start}") and all(part in rest for part in parts), line
    assert ("Did you mean" in line) == any("Did you mean" in part for part in parts), line


@pytest.mark.parametrize(
    ("name", "content", "words"), DAMAGED, ids=[f"{name} {content[:20]!a}" for name, content, _ in DAMAGED]
)
def test_damaged_files_are_refused(refusal, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in refusal(["--config", str(tmp_path / name)])


WORDS = "0 -1 1e6 nan abc None True sac ant {} [1] 64,64 -- - -x --5 = --= 1_0 __class__ --lr --no- -5x -h="
ODD_WORDS = ("", "\x1b[31m", "a\nb", "\udcff", "9" * 5000, '{"g": {"a": [1]}}', "-- a", "--seeds 1", "@x")
PIECES = "a gamma env : - , ' { } [ ] & * ! !!int !!set ? | > << 3e-4 0x 1:30 ~ yes = # ."
ODD_PIECES = (" ", "\n", '"', "\t", ": ", "- ", "&a ", "*a", "%", "\ufeff", "\0", "[[x]]", "2020-01-01")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 9))])
@pytest.mark.parametrize("source", ["words", "files"])
def test_random_text_is_read_or_refused(source, seed, tmp_path):
    """A configuration, or a ConfigError of one printable line; nothing else."""
    draw, outcomes = random.Random(seed), set()
    options = [f"--{name}" for name in names(RunOptions, config_class("ppo"), config_class("sac"))]
    for _ in range(200):
        argv = [
            draw.choice(draw.choice([WORDS.split(), ODD_WORDS, options])) for _ in range(draw.randrange(6))
        ]
        if source == "files":
            path = tmp_path / f"x{draw.choice(['.json', '.yaml', '.toml'])}"
            path.write_text("".join(draw.choices([*PIECES.split(), *ODD_PIECES], k=draw.randrange(12))))
            argv = ["--config", str(path)]
        try:
            parse(argv)
            outcomes.add("parsed")
        except ConfigError as error:
            outcomes.add("refused")
            assert str(error).isprintable() and ": expected " in str(error), argv
    assert outcomes == {"parsed", "refused"}
