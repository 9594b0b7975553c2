"""Every feature of MuJoCo's XML reference: equal on both engines within a tolerance, or refused by name."""

import json
from pathlib import Path

import features
import pytest
from mjcf_features import FEATURES

ROOT = Path(__file__).parents[2]
NAMES = [name for group in FEATURES.values() for name in group]


@pytest.fixture(scope="module")
def record():
    return json.loads((ROOT / "benchmarks" / "results" / "features.json").read_text())


@pytest.fixture(scope="module")
def rows(record):
    return {row["feature"]: row for row in record["results"]}


def test_the_record_is_of_these_features_and_has_no_third_outcome(record, rows):
    assert list(rows) == NAMES and len(record["results"]) == len(NAMES) > 250
    assert record["tolerance"] == features.TOLERANCE
    for row in record["results"]:
        assert ("refused" in row) != ("difference" in row)
        assert not features.faults(row)


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_is_refused_as_recorded(name, rows):
    assert features.refusal(name) == rows[name].get("refused", "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (dict(feature="weld", difference=2e-3, effect=1.0), "at most 0.001, or refused"),
        (dict(feature="weld", difference=float("nan"), effect=1.0), "at most 0.001, or refused"),
        (dict(feature="weld", difference=1e-6, effect=1e-6), "changes C by 1e-06 only"),
    ],
)
def test_a_third_outcome_is_a_fault(row, message):
    (fault,) = features.faults(row)
    assert message in fault


def test_the_page_has_the_table(record):
    page = (ROOT / "docs" / "mujoco.md").read_text()
    assert features.table(record["results"]) in page


MUTANTS = {
    "the margin of a mesh is forgotten": (
        "envs/mujoco/engine/mjx_contacts.py",
        'elif margin and {one, two} & {"MESH", "HFIELD"}:',
        "elif False:",
        "test_a_feature_is_refused_as_recorded[margin of a mesh]",
    ),
    "a limit has one side": (
        "envs/mujoco/engine/mjx_support.py",
        "< 2 * margin",
        "< 0 * margin",
        "test_a_feature_is_refused_as_recorded[limit with both sides in its margin]",
    ),
    "a sensor of accelerations needs no constraints": (
        "envs/mujoco/engine/mjx_support.py",
        "mjSTAGE_ACC).any() and not _constrained(model)",
        "mjSTAGE_ACC).any() and False",
        "test_a_feature_is_refused_as_recorded[sensor of accelerations without constraints]",
    ),
    "every type of sensor agrees": (
        "envs/mujoco/engine/mjx_support.py",
        "for value in sorted(given - known):",
        "for value in ():",
        "test_a_feature_is_refused_as_recorded[insidesite]",
    ),
}
