"""Population-based training beside random search: the parts of the script, and what its records say."""

import json
from pathlib import Path

import numpy as np
import pytest
import search
from tiny import tiny_fields

from purerl.make import env_of, spec_of, validate
from purerl.search_space import check_space

MUTANTS = {
    "both sides are random searches": (
        "experiment/runner.py",
        "pbt = _pbt_of(pbt, old, cfg, members)",
        "pbt = None",
        "test_both_sides_start_alike_and_only_one_has_rounds",
    ),
}
FIELDS = tiny_fields("a2c", "cartpole", total_timesteps=96, eval_interval=32, log_interval=32)
TINY = search.Protocol(
    "a2c",
    "cartpole",
    {name: value for name, value in FIELDS.items() if name not in ("env", "algo", "seed")},
    {"learning_rate": search.Range(1e-4, 1e-1, True), "gamma": search.Range(0.9, 0.999)},
    32,
    2,
    5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The record of the tiny protocol after its first repeat."""
    path = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FRESH", 2)
        search.run("tiny", TINY._replace(repeats=1), path)
    return path


def test_both_sides_start_alike_and_only_one_has_rounds(folder):
    record = json.loads((folder / "tiny.json").read_text())
    (one,) = record["repeats"]
    random, pbt = (np.array(one[arm]["eval_return"]) for arm in search.ARMS)
    assert one["equal_before_the_first_round"] and (random[:, 0] == pbt[:, 0]).all()
    assert random.shape == pbt.shape == (16, 3) and (random != pbt).any()
    assert one["random"]["steps"] == one["pbt"]["steps"] == [32, 64, 96]
    assert one["random"]["steps_in_all"] == one["pbt"]["steps_in_all"] == 16 * 96
    assert sum(parent is not None for row in one["pbt"]["parent"] for parent in row) > 1
    assert "parent" not in one["random"] and len(one["random"]["fresh_return"]) == 16
    assert one["first_settings"] == search.settings_of(TINY, 0) != search.settings_of(TINY, 1)
    assert record["comparison"] == search.compare(record) and record["protocol"]["root"] == 5


def test_a_run_goes_on_with_the_repeats_that_it_lacks(folder, tmp_path, monkeypatch):
    (tmp_path / "tiny.json").write_text((folder / "tiny.json").read_text())
    first = json.loads((tmp_path / "tiny.json").read_text())["repeats"]
    asked = []
    monkeypatch.setattr(search, "repeat_of", lambda protocol, repeat: asked.append(repeat) or first[0])
    assert search.run("tiny", TINY, tmp_path)["repeats"] == [*first, *first] and asked == [1]


def test_measures_are_those_of_the_chosen_member():
    """The first of equal ones; a member without a return is never the best."""
    arm = {"eval_return": [[None, None], [1, 4], [3, 4], [5, 2]], "fresh_return": [9, 3, 1, 7]}
    fixed = {"chosen": 3, "mean": 5, "soon": 4.5, "bias": 1}
    assert search.measure(arm) == fixed | {"lead": pytest.approx(4 - 10 / 3 - (3 - 5))}


def test_a_side_is_better_by_the_paired_difference():
    arm = lambda value: {"eval_return": [[value, value]], "fresh_return": [value]}
    repeats = [{"random": arm(i), "pbt": arm(i + step)} for i, step in enumerate((1.0, 2.0, 0.0))]
    found = search.compare({"repeats": repeats})["chosen"]
    assert found["random"] == 1 and found["pbt"] == 2 and found["difference"] == 1
    assert found["interval"] == [0, 2] and found["pbt_higher_equal_lower"] == [2, 1, 0]


def test_a_member_that_diverged_keeps_its_last_return():
    returns = np.array([[np.nan, 1, np.nan, np.nan], [np.nan, np.nan, 2, 3]])
    wanted = [[np.nan, 1, 1, 1], [np.nan, np.nan, 2, 3]]
    np.testing.assert_array_equal(search.forward_filled(returns), wanted)


@pytest.mark.parametrize("name", search.PROTOCOLS)
def test_a_protocol_is_a_run_that_can_be_trained(name):
    protocol = search.PROTOCOLS[name]
    cfg = search.config_of(protocol, 0)
    validate(cfg, spec_of(env_of(cfg)))
    check_space(protocol.space, cfg)
    assert cfg.eval_interval == protocol.interval and set(search.settings_of(protocol, 0)) == {
        *protocol.space
    }


@pytest.mark.parametrize("name", search.PROTOCOLS)
def test_a_record_is_of_its_protocol(name):
    record, protocol = search.read()[name], search.PROTOCOLS[name]
    assert record["comparison"] == search.compare(record) and len(record["repeats"]) == protocol.repeats
    assert record["protocol"]["space"] == json.loads(json.dumps(search.to_plain(protocol.space)))
    assert record["protocol"]["root"] == protocol.root
    for i, one in enumerate(record["repeats"]):
        assert one["equal_before_the_first_round"] and not one["revision"]["modified"]
        assert one["first_settings"] == search.settings_of(protocol, i)
        assert one["random"]["steps_in_all"] == one["pbt"]["steps_in_all"]


def test_the_page_has_the_table():
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    assert search.table(search.read()) in page


def test_table_and_figure(folder, tmp_path):
    record = {"tiny": json.loads((folder / "tiny.json").read_text())}
    lines = search.table(record).splitlines()
    assert len(lines) == 2 + len(search.MEASURES) + len(search.AFTERWARDS) and lines[2].startswith(
        "| tiny | best member, fresh"
    )
    assert len(search.figure(record).axes) == 1 and len(search.lines_of(record["tiny"])) == 4
