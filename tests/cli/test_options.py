"""The grammar of the command line: each notation of a value, and the help text."""

import json
import re

import pytest
from flax.core import FrozenDict

from purerl import registry
from purerl.cli.configure import RunOptions, names, parse
from purerl.cli.options import field_docs
from purerl.config import to_dict

MUTANTS = {
    "-1 is an option": ("cli/options.py", "SHIELD + word", "word", "test_values_in_any_notation"),
    "1e6 is real": ("cast.py", "isinstance(number, float)", "value is number", "test_values_in_any_notation"),
}


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--total-timesteps 1e6", "total_timesteps", 1_000_000),
        ("--total_timesteps=1_000_000", "total_timesteps", 1_000_000),
        ("--num-envs 8.0", "num_envs", 8),
        ("--hidden-sizes 1e2 64", "hidden_sizes", (100, 64)),
        ("--hidden-sizes 64,64", "hidden_sizes", (64, 64)),
        ("--gamma 1", "gamma", 1.0),
        ("--learning-rate .5e-3", "learning_rate", 5e-4),
        ("--init-log-std -1", "init_log_std", -1.0),
        ("--init-log-std -1e-1", "init_log_std", -0.1),
        ("--init-log-std=-.5", "init_log_std", -0.5),
        ("--max-grad-norm None", "max_grad_norm", None),
        ("--anneal-lr", "anneal_lr", True),
        ("--anneal-lr false", "anneal_lr", False),
        ("--no-anneal-lr", "anneal_lr", False),
        ("--no_anneal_lr --anneal_lr True", "anneal_lr", True),
        ("--seed 1 --gamma 0.5 --seed 2", "seed", 2),
        ("--hidden-sizes 8 8 --hidden-sizes 9", "hidden_sizes", (9,)),
        ('--env-kwargs {"g":9.81,"name":"--x"}', "env_kwargs", {"g": 9.81, "name": "--x"}),
    ],
)
def test_values_in_any_notation(words, field, value):
    """Numbers, switches and lists in each of their forms; the last value of a repeated option counts."""
    got = getattr(parse(words.split())[1], field)
    assert got == value and type(got) in (type(value), FrozenDict)


def test_options_of_the_run_and_the_algorithm():
    words = "--algo sac --env pendulum --seeds 4 --gamma 0.5 --stop-at-return -5 --no-quiet"
    options, cfg = parse(words.split())
    assert options == RunOptions("sac", seeds=4, stop_at_return=-5.0)
    assert (cfg.algo, cfg.env, cfg.gamma) == ("sac", "pendulum", 0.5)


@pytest.mark.parametrize("algo", registry.ALGORITHMS)
def test_every_field_round_trips_through_text(algo):
    """Each value of a Config, written as the option of its field, is read as the same value."""
    cfg = registry.config_class(algo)()
    words = []
    for name, value in to_dict(cfg).items():
        values = value if isinstance(value, list) else [json.dumps(value) if value == {} else value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    assert parse(words)[1] == cfg


def test_help_lists_every_option_with_its_default(tmp_path, capsys):
    """In 80 columns, those of the run before those of the algorithm; a file's values are defaults."""
    path = tmp_path / "config.yaml"
    path.write_text("algo: sac\ngamma: 0.875\nhidden_sizes: [8, 9]\nenv_kwargs: {g: 1}\n")
    for flag in ("--help-all", "--help-all --help"):
        with pytest.raises(SystemExit) as caught:
            parse(["--config", str(path), *flag.split(), "--no-such"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        flags = re.findall(r"^  --([\w-]+)", text, re.M)
        assert flags == [name.replace("_", "-") for name in names(RunOptions, registry.config_class("sac"))]
        line = " ".join(text.split())
        for shown in ("0.875", "8 9", '{"g": 1}', "sac"):
            assert f"(default: {shown})" in line
        assert "Root seed;" in line


def test_every_option_is_explained():
    """By the docstring of its field, of the class itself before that of a base."""
    assert all(field_docs(RunOptions)[name].endswith(".") for name in names(RunOptions))
    docs = field_docs(registry.config_class("a2c"))
    assert docs["gae_lambda"] == "Lambda of the advantages; 1 for n-step returns."
