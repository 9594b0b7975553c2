"""ExperimentGrid: variants, their names, and runs of algorithms and functions."""

import pytest
from tiny import tiny_fields

from purerl import ExperimentGrid
from purerl.config import ConfigError

MUTANTS = {
    "one value is named": (
        "workbench/grid.py",
        "len(values) > 1 or in_name",
        "True",
        "test_names_are_those_of_spinning_up",
    ),
    "False is named": (
        "workbench/grid.py",
        "[short] if value else []",
        "[short]",
        "test_names_are_those_of_spinning_up",
    ),
    "seeds are named": (
        "workbench/grid.py",
        'key == "seed" or not',
        "not",
        "test_names_are_those_of_spinning_up",
    ),
    "the first key varies fastest": (
        "workbench/grid.py",
        "for row in rows]",
        "for row in sorted(rows, key=lambda row: str(row[::-1]))]",
        "test_variants_are_every_combination",
    ),
}


def test_variants_are_every_combination():
    """The last key varies fastest; a key with a colon is an entry of a dict."""
    grid = ExperimentGrid("a")
    grid.add("env", "x")
    grid.add("ac_kwargs:hidden_sizes", [(32,), (64, 64)])
    grid.add("ac_kwargs:act", "tanh")
    grid.add("seed", [0, 10])
    assert grid.variants() == [
        {"env": "x", "ac_kwargs": {"hidden_sizes": sizes, "act": "tanh"}, "seed": seed}
        for sizes in ((32,), (64, 64))
        for seed in (0, 10)
    ]


def test_names_are_those_of_spinning_up(capsys):
    """Keys with several values or asked for, shortened; bools where they are True; never the seed."""
    grid = ExperimentGrid("ppo-bench")
    grid.add("env_name", "CartPole-v0", "", True)
    grid.add("seed", [0, 10])
    grid.add("epochs", 10)
    grid.add("ac_kwargs:hidden_sizes", [(32,), (64, 64)], "hid")
    grid.add("pi_lr", [1e-3, 3e-4])
    grid.add("norm_obs", [True, False])
    names = [grid.variant_name(variant) for variant in grid.variants()]
    assert names[:4] == [
        "ppo-bench_cartpole-v0_hid32_pi0.001_nor",
        "ppo-bench_cartpole-v0_hid32_pi0.001",
        "ppo-bench_cartpole-v0_hid32_pi0.0003_nor",
        "ppo-bench_cartpole-v0_hid32_pi0.0003",
    ]
    assert names[4] == "ppo-bench_cartpole-v0_hid64-64_pi0.001_nor" and len(set(names)) == 8
    grid.print()
    assert "16 variants" in capsys.readouterr().out


def test_a_function_is_called_with_every_variant(tmp_path):
    """With a directory and a name for its logger, if it takes them."""
    grid = ExperimentGrid("mine")
    grid.add("x", [1, 2])
    grid.add("seed", [0, 10])
    calls = grid.run(lambda x, seed, logger_kwargs: (x, seed, logger_kwargs), data_dir=tmp_path)
    assert calls[1] == (
        1,
        10,
        {"output_dir": str(tmp_path / "mine_x1" / "mine_x1_s10"), "exp_name": "mine_x1"},
    )
    assert grid.run(lambda x, seed: x * seed, data_dir=tmp_path) == [0, 10, 0, 20]


def test_an_algorithm_is_one_sweep(tmp_path):
    """Real-valued fields are members of one program; other ones are programs of their own."""
    fields = tiny_fields("a2c", eval_interval=0)
    grid = ExperimentGrid("bench")
    for name, value in fields.items():
        if name not in ("learning_rate", "hidden_sizes", "env"):
            grid.add(name, value)
    grid.add("env_name", fields["env"])
    grid.add("learning_rate", [1e-3, 1e-2])
    grid.add("hidden_sizes", [(4,), (8,)])
    results = grid.run("a2c", data_dir=tmp_path, seeds=2, progress=False)
    assert len(results) == 4 and all(result.returns.shape == (2,) for result in results)
    assert sorted(path.name for path in (tmp_path / "bench").iterdir()) == [
        "hidden_sizes=4",
        "hidden_sizes=8",
        "sweep.json",
    ]
    with pytest.raises(ConfigError, match="purerl resume"):
        grid.run("a2c", data_dir=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("key", "values", "part"),
    [
        ("x", 1, "does not have yet"),
        ("", 1, "does not have yet"),
        (3, 1, "does not have yet"),
        ("y", [], "at least one"),
    ],
)
def test_what_cannot_be_added_is_refused(key, values, part):
    grid = ExperimentGrid()
    grid.add("x", [1, 2])
    with pytest.raises(ConfigError, match=part):
        grid.add(key, values)


def test_a_field_that_an_algorithm_does_not_have_is_refused(tmp_path):
    grid = ExperimentGrid()
    grid.add("learning_rat", [1, 2])
    with pytest.raises(ConfigError, match=r"Did you mean learning_rate\?"):
        grid.run("ppo", data_dir=tmp_path)
    grid = ExperimentGrid()
    grid.add("env_kwargs:max_episode_steps", [5, 6])
    with pytest.raises(ConfigError, match="give dicts as values of the whole field"):
        grid.run("ppo", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())
