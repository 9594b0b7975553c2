"""Sweeps of static and real-valued fields: parts, resuming, and the table at the end."""

import json
import shlex

import numpy as np
import pytest
from tiny import tiny

from purerl.cli import main
from purerl.cli import sweep as cli
from purerl.cli.configure import parse
from purerl.config import ConfigError
from purerl.experiment import sweep
from purerl.experiment.logs import final_return
from purerl.experiment.signals import Interrupted
from purerl.experiment.sweep import Sweep, grid_of, make_sweep, read_sweep, run_sweep, write_sweep
from purerl.files import DamagedFile
from purerl.members import Members, make_members
from purerl.workbench.sweep_table import Result, command_of, describe, results_of

MUTANTS = {
    "a part that is done trains again": (
        "experiment/sweep.py",
        "(part for part in sweep.parts if part.name not in sweep.done)",
        "(part for part in sweep.parts if sweep.done != {p.name for p in sweep.parts})",
        "test_a_sweep_goes_on_where_it_was_stopped",
    ),
    "done is not written": (
        "experiment/sweep.py",
        "        write_sweep(path, sweep)\n    return diverged",
        "    return diverged",
        "test_a_sweep_goes_on_where_it_was_stopped",
    ),
    "a part begins again": (
        "experiment/sweep.py",
        'resume=(place / "run.json").exists()',
        "resume=False",
        "test_a_sweep_goes_on_where_it_was_stopped",
    ),
    "settings are lost in a division": (
        "experiment/sweep.py",
        "settings=members.settings[i : i + step]",
        "settings=members.settings[i : i + 1]",
        "test_members_that_do_not_fit_are_divided",
    ),
    "seeds of a part begin at the first": (
        "experiment/sweep.py",
        "members.first_seed + i)",
        "members.first_seed)",
        "test_members_that_do_not_fit_are_divided",
    ),
    "memory is not planned": (
        "experiment/sweep.py",
        "max(1, int(members.size * available / max(needed, 1)))",
        "members.size",
        "test_the_memory_of_a_part_is_planned",
    ),
    "a part outside of the sweep": (
        "experiment/sweep.py",
        'or name in (".", "..")',
        "",
        "test_an_untrusted_sweep_is_refused",
    ),
    "the worst is best": (
        "workbench/sweep_table.py",
        "key=lambda result: -result.mean",
        "key=lambda result: result.mean",
        "test_a_sweep_goes_on_where_it_was_stopped",
    ),
    "a diverged member has a return": (
        "experiment/logs.py",
        "if values and not diverged else",
        "if values else",
        "test_final_returns",
    ),
    "the first rows count": (
        "experiment/logs.py",
        "rows[-max(1, round(LAST * len(rows))) :]",
        "rows",
        "test_final_returns",
    ),
    "a sweep is written over": (
        "experiment/sweep.py",
        'if is_sweep(path) or (path / "run.json").exists():',
        "if False:",
        "test_a_sweep_from_the_command_line",
    ),
}


def test_a_grid_of_static_fields():
    """Each combination has a name of the values that differ, which can be a directory's."""
    cfgs = grid_of(tiny("a2c"), {"hidden_sizes": [(8,), (4, 4)], "activation": ["tanh", "relu"]})
    assert list(cfgs) == [
        "hidden_sizes=8_activation=tanh",
        "hidden_sizes=8_activation=relu",
        "hidden_sizes=4x4_activation=tanh",
        "hidden_sizes=4x4_activation=relu",
    ]
    assert [cfg.hidden_sizes for cfg in cfgs.values()] == [(8,), (8,), (4, 4), (4, 4)]
    assert grid_of(tiny("a2c"), {}) == {"": tiny("a2c")}
    with pytest.raises(ConfigError, match="differ from each other"):
        grid_of(tiny("a2c"), {"num_envs": [2, 2]})


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (6, [((0.1, 0.2, 0.3), 2, 5)]),
        (5, [((0.1, 0.2), 2, 5), ((0.3,), 2, 5)]),
        (2, [((0.1,), 2, 5), ((0.2,), 2, 5), ((0.3,), 2, 5)]),
        (1, [((g,), 1, first) for g in (0.1, 0.2, 0.3) for first in (5, 6)]),
    ],
)
def test_members_that_do_not_fit_are_divided(most, expected):
    """By settings, and where one does not fit, by seeds; no member is lost or doubled."""
    members = Members(2, tuple({"gamma": g} for g in (0.1, 0.2, 0.3)), 5)
    pieces = list(sweep._divide(members, most))
    found = [(tuple(s["gamma"] for s in piece.settings), piece.seeds, piece.first_seed) for piece in pieces]
    assert found == expected
    assert sorted(str(fact) for piece in pieces for fact in piece.facts) == sorted(map(str, members.facts))


def test_the_memory_of_a_part_is_planned():
    """As many members as fit are in a part, and one that does not is left for `run` to refuse."""
    cfg = tiny("sac", buffer_size=10_000, total_timesteps=10_000, log_interval=1_000)
    whole = make_sweep({"": cfg}, {"gamma": [0.8, 0.9]}, seeds=2)
    assert [part.name for part in whole.parts] == [""]
    size = sweep._most(cfg, make_members(cfg, 1), None)
    assert size == 1
    one = sweep.make_plan(sweep.driver_on(cfg, sweep.env_for(cfg, None), None), make_members(cfg, 1)).total
    halves = make_sweep({"": cfg}, {"gamma": [0.8, 0.9]}, seeds=2, available=int(2.5 * one))
    assert [(part.name, part.members.size) for part in halves.parts] == [("part0", 2), ("part1", 2)]
    assert len(make_sweep({"": cfg}, {}, available=one // 2).parts) == 1


def test_what_is_wrong_is_refused_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(sweep, "run", lambda *args, **options: pytest.fail("trained"))
    cfgs = grid_of(tiny("ppo"), {"num_minibatches": [2, 3]})
    with pytest.raises(ConfigError, match="num_minibatches = 3"):
        make_sweep(cfgs, {})
    with pytest.raises(ConfigError, match=r"sweep\[gama\]|gama"):
        make_sweep({"": tiny("ppo")}, {"gama": [0.9]})
    with pytest.raises(ConfigError, match=r"gamma = 2\.0"):
        make_sweep({"": tiny("ppo")}, {"gamma": [0.9, 2.0]})


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """Parts that are done are left alone, the one that was stopped resumes, and results are the same."""
    cfgs = grid_of(tiny("a2c", eval_interval=0), {"hidden_sizes": [(4,), (8,)]})
    made = make_sweep(cfgs, {"learning_rate": [1e-3, 1e-2]}, seeds=2)
    for name in ("whole", "stopped"):
        write_sweep(tmp_path / name, made)
    assert run_sweep(tmp_path / "whole", made, progress=False) is False
    calls, run = [], sweep.run

    def stopped(cfg, seeds, logdir, **options):
        calls.append((logdir.name, options["resume"]))
        if len(calls) == 2:  # as a signal does, after the run has begun
            logdir.mkdir(parents=True)
            run(cfg, seeds, logdir, **options)
            raise Interrupted(15, "SIGTERM: saved")
        return run(cfg, seeds, logdir, **options)

    monkeypatch.setattr(sweep, "run", stopped)
    with pytest.raises(Interrupted):
        run_sweep(tmp_path / "stopped", made, progress=False)
    assert read_sweep(tmp_path / "stopped").done == {"hidden_sizes=4"}
    assert run_sweep(tmp_path / "stopped", read_sweep(tmp_path / "stopped"), progress=False) is False
    assert calls == [("hidden_sizes=4", False), ("hidden_sizes=8", False), ("hidden_sizes=8", True)]
    tables = [results_of(tmp_path / name, read_sweep(tmp_path / name)) for name in ("whole", "stopped")]
    assert str(tables[0]) == str(tables[1]) and len(tables[0]) == 4
    means = [result.mean for result in tables[0]]
    assert means == sorted(means, reverse=True) and means[0] > means[-1]


CARTPOLE = "--env cartpole --total-timesteps 512 --num-envs 2 --num-steps 16 --log-interval 128 --quiet"
CARTPOLE += " --eval-interval 0 --compilation-cache none"


def test_a_sweep_from_the_command_line(tmp_path, capsys):
    """One program for real-valued fields, in the sweep's own directory; then the table, best first."""
    words = f"sweep --algo ppo {CARTPOLE} --hidden-sizes 8,8 --learning-rate 1e-3 3e-2 --gamma 0.9 0.99"
    argv = [*words.split(), "--seeds", "2", "--logdir", str(tmp_path / "s")]
    assert main.command(argv) == 0
    table = capsys.readouterr().out
    assert (tmp_path / "s" / "run.json").exists() and (tmp_path / "s" / "sweep.json").exists()
    assert len(list((tmp_path / "s").glob("learning_rate=*seed*"))) == 8
    rows = [line.split() for line in table.splitlines()[2:6]]
    means = [float(row[2]) for row in rows]
    assert means == sorted(means, reverse=True) and {tuple(row[:2]) for row in rows} == {
        (lr, g) for lr in ("0.001", "0.03") for g in ("0.9", "0.99")
    }
    assert "--first-seed 2" in table and "--hidden-sizes 8,8" in table
    assert main.command(argv) == 2
    assert "purerl resume" in capsys.readouterr().err
    assert main.command(["resume", str(tmp_path / "s"), "--quiet", "--compilation-cache", "none"]) == 0
    assert capsys.readouterr().out == table


def test_programs_of_static_values_and_algorithms():
    """Names of directories tell them apart; every field may have several values."""
    words = "--algo ppo a2c --env cartpole acrobot --hidden-sizes 64,64 32 --gamma 0.9 0.99 --seeds 3"
    options, cfgs, values = cli.parse(words.split())
    assert (options.seeds, values) == (3, {"gamma": [0.9, 0.99]})
    assert len(cfgs) == 8 and "algo=a2c_env=acrobot_hidden_sizes=64x64" in cfgs
    cfg = cfgs["algo=a2c_env=acrobot_hidden_sizes=64x64"]
    assert (cfg.algo, cfg.env, cfg.hidden_sizes) == ("a2c", "acrobot", (64, 64))
    switches = cli.parse(["--algo", "dqn", "--double", "True", "False", "--dueling"])[1]
    assert {(cfg.double, cfg.dueling) for cfg in switches.values()} == {(True, True), (False, True)}
    assert cli.parse(["--algo", "ppo", "--max-grad-norm", "None", "0.5"])[1].keys() == {
        "max_grad_norm=None",
        "max_grad_norm=0.5",
    }


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--gamma 0.9 1.5", "gamma = 1.5: expected a finite number"),
        ("--gama 0.9 0.99", "Did you mean gamma?"),
        ("--seeds 2 3", "seeds = '2 3': expected one value"),
        ("--resume x", "Use: purerl resume SWEEP"),
        ("--algo sac dqn --env cartpole --tau 0.1 0.2 --ent-coef 1 2", "--ent-coef"),
        ("--hidden-sizes 8 a", "hidden_sizes = 'a'"),
        ("--gamma 0.9 0.9", "differ from each other"),
        ("--num-envs 2 2", "differ from each other"),
    ],
)
def test_mistakes_in_a_sweep_are_one_line(words, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.command(["sweep", *words.split(), "--compilation-cache", "none"]) == 2
    text = capsys.readouterr().err
    assert part in text and text.count("\n") == 1 and not list(tmp_path.iterdir())


def rows_of(*returns, diverged=0.0, name="episode/return"):
    return [{"step": i, name: value, "seed/diverged": diverged} for i, value in enumerate(returns)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (rows_of(*range(20)), 18.5),
        (rows_of(1.0, 2.0), 2.0),
        (rows_of(1.0, None), 1.0),
        (rows_of(None, None), np.nan),
        (rows_of(1.0, 2.0, diverged=1.0), np.nan),
        (rows_of(1.0, 2.0) + rows_of(3.0, name="eval/return"), 3.0),
        ([], np.nan),
    ],
)
def test_final_returns(rows, expected, tmp_path):
    """The mean of the last tenth of the rows, of evaluations if there are any; NaN for a diverged member."""
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.testing.assert_equal(final_return(log), expected)


def test_a_damaged_log_is_named(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n{"step"')
    with pytest.raises(DamagedFile, match="not a row of metrics"):
        final_return(log)


def test_the_table_says_what_is_known():
    """A setting with a member that diverged is last; sensitivity is over all other values."""
    cfg = tiny("ppo")
    made = [
        Result({"gamma": 0.9, "activation": "relu"}, cfg, np.array([10.0, 20.0])),
        Result({"gamma": 0.99, "activation": "relu"}, cfg, np.array([5.0, 5.0])),
        Result({"gamma": 0.9, "activation": "tanh"}, cfg, np.array([40.0, np.nan])),
    ]
    text = describe(made, 2)
    assert "15.0  10.0 to 20.0" in text and "1, 1 without a return" in text
    assert made[2].mean == -np.inf
    sensitivity = [line.split() for line in text.splitlines() if "gamma" in line or "activation" in line][1:]
    assert ["gamma", "0.9", "23.3"] in sensitivity
    assert "chosen on these seeds" in text and "--first-seed 2 --seeds 5" in text


def test_the_command_of_a_setting_is_that_setting():
    cfg = tiny("ppo", env_kwargs={"max_episode_steps": 7}, gamma=0.97, hidden_sizes=(8, 4), anneal_lr=True)
    words = shlex.split(command_of(cfg, 3, 5))
    options, same = parse(words[2:])
    assert (options.first_seed, options.seeds, same) == (3, 5, cfg)


@pytest.mark.parametrize(
    "change",
    [
        {"parts": []},
        {"parts": 3},
        {"done": ["other"]},
        {"stop_at_return": "1"},
        {"devices": 2**16},
        {"devices": "two"},
        {"name": ".."},
        {"name": "a/b"},
        {"name": 3},
        {"seeds": 0},
        {"settings": [{"gamma": 3.0}]},
        {"config": {"algo": "no"}},
    ],
    ids=str,
)
def test_an_untrusted_sweep_is_refused(change, tmp_path):
    """Sealed as a sweep is, with one entry that none has."""
    write_sweep(tmp_path, Sweep(make_sweep({"a": tiny("a2c"), "b": tiny("ppo")}, {}).parts))
    values = sweep.read_sealed(tmp_path / "sweep.json")
    for name, value in change.items():
        if name in values:
            values[name] = value
        else:
            values["parts"][0][name] = value
    sweep.write_sealed(tmp_path / "sweep.json", values)
    with pytest.raises(ConfigError):
        read_sweep(tmp_path)
