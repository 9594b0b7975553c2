"""Learning curves from logs of purerl and of Spinning Up: settings, axes, gaps, and damaged files."""

import csv
import json
import os

import numpy as np
import pytest
from tiny import tiny

import purerl
from purerl.config import ConfigError
from purerl.experiment.logs import MemberLog
from purerl.files import DamagedFile
from purerl.workbench import member_logs
from purerl.workbench.curves import diverged, make_curve, summarise
from purerl.workbench.member_logs import find_settings, read_log, repeated_seeds, separate


def spinning_up(path, exp_name="vpg", seed=0, returns=(1.0, 2.0, 4.0), test=None, steps=4000, **fields):
    """Write a directory as Spinning Up's EpochLogger does."""
    path.mkdir(parents=True)
    config = {
        "exp_name": exp_name,
        "seed": seed,
        "env_fn": f"<function <lambda> at 0x7f{seed:010x}>",
    } | fields
    logger = {"<spinup.utils.logx.EpochLogger object at 0x7f3a1>": {"output_dir": str(path)}}
    config |= {"logger": logger, "logger_kwargs": {"exp_name": exp_name, "output_dir": str(path)}}
    text = json.dumps(config, separators=(",", ":\t"), indent=4, sort_keys=True)
    (path / "config.json").write_text(text)
    names = ["Epoch", "AverageEpRet", *(["AverageTestEpRet"] if test else []), "TotalEnvInteracts", "Time"]
    lines = ["\t".join(names)]
    for i, value in enumerate(returns):
        row = [i, np.float32(value), *([test[i]] if test else []), (i + 1) * steps, 0.5 * i]
        lines.append("\t".join(map(str, row)))
    (path / "progress.txt").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The directory of a tiny run of ours, with two values of the learning rate and two seeds."""
    path = tmp_path_factory.mktemp("own") / "run"
    run = purerl.run(tiny("ppo"), 2, path, sweep={"learning_rate": [0.01, 0.03]}, progress=False)
    return path, run


def test_curves_of_a_run_are_its_metrics(own):
    path, run = own
    low, high = find_settings([path])
    assert low.label.endswith("learning_rate=0.01") and high.label.endswith("learning_rate=0.03")
    for setting, rows in ((low, slice(0, 2)), (high, slice(2, 4))):
        named = [("eval/return", "eval/return", "AverageTestEpRet"), ("Entropy", "pi/entropy", "Entropy")]
        for name, metric, column in named:
            curve = make_curve(setting, y=name)
            assert curve.column == column
            there = np.isfinite(run.metrics[metric][rows][0])
            np.testing.assert_allclose(curve.y, run.metrics[metric][rows][:, there], rtol=1e-5)
            np.testing.assert_array_equal(curve.x, run.steps[there])
    assert make_curve(low).column == "AverageTestEpRet"
    np.testing.assert_array_equal(make_curve(low, x="step").x, make_curve(low).x)
    with pytest.raises(ConfigError, match=r"y = 'q'.*progress.txt.*AverageEpRet"):
        make_curve(low, y="q")


def test_spinning_up_reads_our_logs(own):
    """As a tab-separated table with its names, and `exp_name` in config.json, below any directory."""
    found = [root for root, _, files in os.walk(own[0]) if "progress.txt" in files]
    assert len(found) == 4
    for root in found:
        with open(os.path.join(root, "progress.txt"), newline="") as file:
            header, *rows = csv.reader(file, delimiter="\t")
        assert {"Epoch", "AverageEpRet", "AverageTestEpRet", "TotalEnvInteracts", "Time"} <= {*header}
        assert rows and {len(row) for row in rows} == {len(header)}
        assert all(float(cell or "nan") is not None for row in rows for cell in row)
        with open(os.path.join(root, "config.json")) as file:
            assert json.load(file)["exp_name"] == "ppo-cartpole"


def test_directories_of_spinning_up(tmp_path):
    """Members of an `exp_name` are one setting, whatever addresses in memory their files hold."""
    for seed in range(3):
        spinning_up(tmp_path / "data" / "vpg" / f"vpg_s{seed}", seed=seed, returns=(seed, 2.0, 4.0))
    spinning_up(tmp_path / "data" / "sac" / "sac_s0", "sac", test=(7.0, 8.0, 9.0))
    sac, vpg = find_settings([tmp_path / "data"])
    assert (sac.label, vpg.label, len(vpg.logs)) == ("sac", "vpg", 3)
    curve = make_curve(vpg)
    np.testing.assert_array_equal(curve.x, [4000, 8000, 12000])
    np.testing.assert_array_equal(curve.y, [[0, 2, 4], [1, 2, 4], [2, 2, 4]])
    assert (curve.column, make_curve(sac).column) == ("AverageEpRet", "AverageTestEpRet")
    np.testing.assert_array_equal(make_curve(sac).y, [[7, 8, 9]])
    np.testing.assert_array_equal(make_curve(vpg, x="Time", y="Epoch").x, [0, 0.5, 1])


def test_settings_are_named_by_their_differences(tmp_path):
    for i, (lr, sizes) in enumerate([(1e-2, [8]), (1e-5, [8]), (1e-2, [8]), (1e-2, [16, 16])]):
        spinning_up(tmp_path / f"s{i}", "ppo", seed=i, lr=lr, sizes=sizes, gamma=0.99)
    labels = {setting.label: len(setting.logs) for setting in find_settings([tmp_path])}
    names = ["ppo lr=1e-05 sizes=[8]", "ppo lr=0.01 sizes=[16, 16]", "ppo lr=0.01 sizes=[8]"]
    assert labels == dict(zip(names, [1, 1, 2], strict=True))
    assert next(iter(labels)) == names[0]  # numbers in their order
    singles = separate(find_settings([tmp_path], legend=["all"]))
    assert [single.label for single in singles] == [f"all seed {i}" for i in range(4)]


def test_a_directory_may_be_given_by_its_beginning(tmp_path, monkeypatch):
    for name in ("ppo-a", "ppo-b", "sac-ppo", "ppo"):
        spinning_up(tmp_path / name / "s0", name)
    names = lambda *args, **options: {setting.label for setting in find_settings(*args, **options)}
    assert names([tmp_path / "ppo-"]) == {"ppo-a", "ppo-b"}
    assert names([tmp_path / "ppo"]) == {"ppo"}  # a directory is itself, not the beginning of others
    monkeypatch.chdir(tmp_path)
    assert names(["pp"]) == {"ppo", "ppo-a", "ppo-b"}
    assert names([tmp_path], select=["ppo", "-a"]) == {"ppo-a"}
    assert names([tmp_path], exclude=["-a", "sac"]) == {"ppo", "ppo-b"}


def test_a_member_counts_once(tmp_path):
    spinning_up(tmp_path / "a" / "s0")
    spinning_up(tmp_path / "a" / "s1", seed=1)
    (setting,) = find_settings([tmp_path / "a", tmp_path, tmp_path / "a" / "s0"])
    assert len(setting.logs) == 2 and repeated_seeds(setting) == []
    spinning_up(tmp_path / "b" / "s1", seed=1)
    (setting,) = find_settings([tmp_path])
    assert repeated_seeds(setting) == ["1"]


def test_labels_are_one_for_each_directory(tmp_path):
    for name in ("a", "b", "c"):
        spinning_up(tmp_path / name / "s0")
    dirs = [tmp_path / name for name in "abc"]
    settings = find_settings(dirs, legend=["x", "y", "x"])
    assert [(setting.label, len(setting.logs)) for setting in settings] == [("x", 2), ("y", 1)]
    with pytest.raises(
        ConfigError, match=r"legend = \['x', 'y'\]: expected 3 labels, one for each of .*a, .*b"
    ):
        find_settings(dirs, legend=["x", "y"])
    assert find_settings(dirs, legend=["x\n\x1b[31m"] * 3)[0].label == r"x\n\x1b[31m"


def test_members_with_other_axes_are_interpolated(tmp_path):
    """Onto all points that lie within every member's axis."""
    spinning_up(tmp_path / "s0", returns=(0.0, 10.0, 20.0), steps=1000)
    spinning_up(tmp_path / "s1", returns=(5.0, 15.0), steps=1500, seed=1)
    curve = make_curve(*find_settings([tmp_path]))
    np.testing.assert_array_equal(curve.x, [1500, 2000, 3000])
    np.testing.assert_allclose(curve.y, [[5, 10, 20], [5, 5 + 10 / 3, 15]])
    assert curve.longest == 3000


def test_a_curve_ends_with_its_shortest_member(tmp_path):
    spinning_up(tmp_path / "s0", returns=range(6))
    spinning_up(tmp_path / "s1", returns=range(4), seed=1)
    curve = make_curve(*find_settings([tmp_path]))
    assert (curve.x[-1], curve.longest) == (16_000, 24_000)
    spinning_up(tmp_path / "s2", returns=[1.0], steps=100_000, seed=2)
    with pytest.raises(ConfigError, match="x = 'TotalEnvInteracts': expected a part of the axis"):
        make_curve(*find_settings([tmp_path]))


def test_long_curves_have_fewer_points(tmp_path):
    spinning_up(tmp_path / "s0", returns=range(2000), steps=10)
    curve = make_curve(*find_settings([tmp_path]))
    assert curve.x.shape == (500,) and (curve.x[0], curve.x[-1]) == (10, 20_000)
    np.testing.assert_allclose(curve.y[0], curve.x / 10 - 1)


@pytest.mark.parametrize("smooth", [1, 2, 3, 5, 50])
def test_smoothing_is_that_of_spinning_up(smooth, tmp_path):
    """A centred window, shorter at the ends, and twice as wide as the curve the mean of all rows."""
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    spinning_up(tmp_path / "s0", returns=values)
    curve = make_curve(*find_settings([tmp_path]), smooth=smooth)
    before, after = smooth // 2, (smooth - 1) // 2
    expected = [values[max(0, i - before) : i + after + 1].mean() for i in range(len(values))]
    np.testing.assert_allclose(curve.y[0], expected)


def test_rows_without_a_value_are_left_out(tmp_path):
    """Such as those between evaluations."""
    log = MemberLog(tmp_path / "seed0", {"exp_name": "sac"})
    for i in range(4):
        log.write({"step": 10 * i, "episode/return": 1.0 * i, "eval/return": 5.0 * i if i % 2 else np.nan})
    log.close()
    curve = make_curve(*find_settings([tmp_path]), smooth=3)
    np.testing.assert_array_equal(curve.x, [10, 30])
    np.testing.assert_array_equal(curve.y, [[10, 10]])
    log = MemberLog(tmp_path / "seed1", {"exp_name": "vpg"})
    log.write({"step": 10, "episode/return": 2.0, "eval/return": np.nan})
    log.close()
    curve = make_curve(find_settings([tmp_path])[1])
    assert (curve.column, curve.y.tolist()) == ("AverageEpRet", [[2.0]])
    with pytest.raises(ConfigError, match=r"expected a column with values; it is blank in .*seed1"):
        make_curve(find_settings([tmp_path])[1], y="eval/return")


def test_a_diverged_member_is_left_out_of_the_curve(tmp_path):
    for seed in range(2):
        log = MemberLog(tmp_path / f"seed{seed}", {"exp_name": "sac", "seed": 0, "seed_index": seed})
        for i in range(3):
            bad = bool(seed) and i > 0
            log.write({"step": i, "episode/return": np.nan if bad else 1.0, "seed/diverged": float(bad)})
        log.close()
    (setting,) = find_settings([tmp_path])
    assert [diverged(log) for log in setting.logs] == [False, True]
    assert make_curve(setting).y.tolist() == [[1, 1, 1]]
    with pytest.raises(ConfigError, match="at least one member that has not diverged"):
        make_curve(setting._replace(logs=setting.logs[1:]))


def test_estimators(tmp_path):
    for seed, level in enumerate([0.0, 1.0, 2.0, 5.0, 100.0]):
        spinning_up(tmp_path / f"s{seed}", seed=seed, returns=[level, level + 1])
    curve = make_curve(*find_settings([tmp_path]))
    for name, value in {"mean": 21.6, "iqm": 8 / 3, "median": 2.0}.items():
        line = summarise(curve, name)
        np.testing.assert_allclose(line.y, [value, value + 1])
        np.testing.assert_allclose(
            line.high - line.high[0], [0, 1], atol=1e-12
        )  # the same members at each point
        assert (line.low < line.y).all() and (line.y < line.high).all() and line.members == 5
    with pytest.raises(ConfigError, match="est = 'max': expected one of mean, iqm, median"):
        summarise(curve, "max")


def test_a_line_that_is_not_ended_is_left_out(tmp_path):
    path = spinning_up(tmp_path / "s0")
    with (path / "progress.txt").open("a") as file:
        file.write("3\t8.0\t16")  # the process writes or died here
    assert len(read_log(path).columns["Epoch"]) == 3
    with (path / "progress.txt").open("a") as file:
        file.write("000\t1.5\n")
    assert read_log(path).columns["TotalEnvInteracts"].tolist() == [4000, 8000, 12000, 16000]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("progress.txt", "Epoch\tA\n0\t1\n1\n", r"progress.txt, line 3: 1 values in 2 columns"),
        ("progress.txt", "Epoch\tA\n0\t1\n1\t2\t3\n", r"progress.txt, line 3: 3 values in 2 columns"),
        ("progress.txt", "Epoch\tA\n0\tone\n", r"progress.txt, line 2: .*'one'"),
        ("progress.txt", "Epoch\tA\n0\t\x1b[2Jone\n", r"progress.txt, line 2: .*x1b"),
        ("progress.txt", b"\xff\xfe\x00\n\x00\x01\n", r"progress.txt, line 2: "),
        ("progress.txt", "A\tA\n0\t1\n", r"progress.txt, line 1: .*repeated"),
        ("progress.txt", "A\t\n0\t1\n", r"progress.txt, line 1: .*empty"),
        ("progress.txt", "A\tB\n" + "0\t1\n" * 100, r"progress.txt has more than 300 bytes"),
        ("config.json", '{"exp_name": ', r"config.json is not a JSON object"),
        ("config.json", "[1]", r"config.json is not a JSON object"),
        ("config.json", "[" * 100_000, r"config.json is not a JSON object"),
    ],
)
def test_a_damaged_file_is_named(name, content, message, tmp_path, monkeypatch):
    path = spinning_up(tmp_path / "s0")
    monkeypatch.setattr(member_logs, "LOG_LIMIT", 300)
    (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedFile, match=message) as error:
        find_settings([tmp_path])
    assert str(error.value).isprintable()


def test_links_and_pipes_are_not_read(tmp_path):
    path, other = spinning_up(tmp_path / "s0"), spinning_up(tmp_path / "s1")
    for name in ("config.json", "progress.txt"):
        for make in (lambda file: file.symlink_to(other / file.name), os.mkfifo):
            (path / name).unlink()
            make(path / name)
            with pytest.raises(DamagedFile, match=name):
                find_settings([path])
        (path / name).unlink()
        (path / name).write_text((other / name).read_text())


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"logdir = '.*: expected runs, with a progress.txt"):
        find_settings([tmp_path / "nothing"])
    path = spinning_up(tmp_path / "s0")
    with pytest.raises(ConfigError, match="that --select and --exclude leave over"):
        find_settings([tmp_path], select=["s1"])
    (setting,) = find_settings([tmp_path])
    with pytest.raises(ConfigError, match=r"y = 'averageepretu'.*Did you mean AverageEpRet"):
        make_curve(setting, y="averageepretu")
    with pytest.raises(ConfigError, match=r"x = 'Steps': expected a column of .*s0/progress.txt"):
        make_curve(setting, x="Steps")
    (path / "progress.txt").write_text("Epoch\tAverageEpRet\tTotalEnvInteracts\n0\t1\t5\n1\t1\t4\n")
    with pytest.raises(ConfigError, match="a column that never falls"):
        make_curve(*find_settings([tmp_path]))
    for text in ("", "Epoch\n"):
        (path / "progress.txt").write_text(text)
        with pytest.raises(ConfigError, match="at least one row"):
            make_curve(*find_settings([tmp_path]))


MUTANTS = {
    "the return of training is the performance": (
        "workbench/curves.py",
        "return TEST_RETURN if any",
        "return TRAINING_RETURN if any",
        "test_directories_of_spinning_up",
    ),
    "a blank column of evaluations is the performance": (
        "workbench/curves.py",
        "any(np.isfinite(values).any() for values in tested)",
        "any(True for values in tested)",
        "test_rows_without_a_value_are_left_out",
    ),
    "rows without a value are zero": (
        "workbench/curves.py",
        "there = np.isfinite(across) & np.isfinite(up)",
        "there, up = np.isfinite(across), np.nan_to_num(up)",
        "test_rows_without_a_value_are_left_out",
    ),
    "the ends of a smoothed curve are pulled to zero": (
        "workbench/curves.py",
        "/ np.convolve(np.ones(len(up)), window)[rows]",
        "/ width",
        "test_smoothing_is_that_of_spinning_up",
    ),
    "a window ends at the row": (
        "workbench/curves.py",
        "slice((width - 1) // 2, (width - 1) // 2 + len(up))",
        "slice(len(up))",
        "test_smoothing_is_that_of_spinning_up",
    ),
    "a window is no wider than the curve": (
        "workbench/curves.py",
        "min(smooth, 2 * len(up) - 1)",
        "min(smooth, len(up))",
        "test_smoothing_is_that_of_spinning_up[50]",
    ),
    "members are taken row by row": (
        "workbench/curves.py",
        "np.interp(grid, *line)",
        "line[1][-len(grid) :]",
        "test_members_with_other_axes_are_interpolated",
    ),
    "a curve goes on with fewer members": (
        "workbench/curves.py",
        "grid[(grid >= low) & (grid <= high)]",
        "grid[grid >= low]",
        "test_a_curve_ends_with_its_shortest_member",
    ),
    "a diverged member stays": (
        "workbench/curves.py",
        "bool(flags[-1] > 0)",
        "bool(flags[0] > 0)",
        "test_a_diverged_member_is_left_out_of_the_curve",
    ),
    "the median is the mean": (
        "workbench/curves.py",
        '"median": run_median',
        '"median": mean',
        "test_estimators",
    ),
    "a directory is also a beginning": (
        "workbench/member_logs.py",
        "    if path.is_dir():\n        return [path]\n",
        "",
        "test_a_directory_may_be_given_by_its_beginning",
    ),
    "a beginning may stand anywhere": (
        "workbench/member_logs.py",
        "p.name.startswith(path.name)",
        "path.name in p.name",
        "test_a_directory_may_be_given_by_its_beginning",
    ),
    "one text to select is enough": (
        "workbench/member_logs.py",
        "return all(text in path for text in select)",
        "return any(text in path for text in select or [''])",
        "test_a_directory_may_be_given_by_its_beginning",
    ),
    "a member counts for every directory": (
        "workbench/member_logs.py",
        "seen |= {os.path.realpath(path) for path in paths}",
        "pass",
        "test_a_member_counts_once",
    ),
    "seeds are settings": (
        "workbench/member_logs.py",
        '{"seed", "first_seed"',
        '{"first_seed"',
        "test_directories_of_spinning_up",
    ),
    "addresses in memory are settings": (
        "workbench/member_logs.py",
        'return "" if " at 0x" in text else text',
        "return text",
        "test_directories_of_spinning_up",
    ),
    "values are ordered as text": (
        "workbench/member_logs.py",
        'return [(0, value, "") if real(value) else (1, 0.0, str(value)) for value in values]',
        "return [(1, 0.0, f'{value}') for value in values]",
        "test_settings_are_named_by_their_differences",
    ),
    "a line that is being written counts": (
        "workbench/member_logs.py",
        '*lines, _ = _read(file, LOG_LIMIT).split("\\n")',
        'lines = _read(file, LOG_LIMIT).split("\\n")',
        "test_a_line_that_is_not_ended_is_left_out",
    ),
    "columns that are missing are forgiven": (
        "workbench/member_logs.py",
        "if len(cells) != len(names):",
        "if len(cells) > len(names):",
        "test_a_damaged_file_is_named",
    ),
    "a large log is read as a whole": (
        "workbench/member_logs.py",
        "if len(content) > limit:",
        "if len(content) > limit + 1:",
        "test_a_damaged_file_is_named",
    ),
    "links are followed": (
        "workbench/member_logs.py",
        "with open_regular(path) as file:",
        'with path.open("rb") as file:',
        "test_links_and_pipes_are_not_read",
    ),
}
