"""The comparison of two revisions: how leaves are matched, and what makes it fail."""

from types import SimpleNamespace

import numpy as np
import pytest
import same_numbers
from flax import serialization

ONES = {"['pi']": np.ones((2, 3), np.float32), "['v']": np.full(2, 4, np.float32)}


def changed(by: float) -> same_numbers.Parameters:
    return ONES | {"['v']": ONES["['v']"] + np.float32([0, by])}


@pytest.mark.parametrize(("by", "expected"), [(0, 0), (0.5, 0.5 / 4.5), (-1, 0.25), (np.nan, np.inf)])
def test_difference_is_relative_to_the_leaf(by, expected):
    assert same_numbers.difference(ONES, changed(by)) == expected


def test_zero_is_only_for_equal_bits():
    assert 0 < same_numbers.difference({"a": np.float32([0.0])}, {"a": np.float32([-0.0])}) < 1e-20


def test_renamed_leaves_are_matched_in_order():
    renamed = {f"['actor']{name}": leaf for name, leaf in changed(0.5).items()}
    assert same_numbers.difference(ONES, dict(reversed(renamed.items()))) == 0.5 / 4.5


@pytest.mark.parametrize("other", [{"['pi']": ONES["['pi']"]}, ONES | {"['v']": np.ones(3, np.float32)}])
def test_other_leaves_are_not_comparable(other):
    with pytest.raises(ValueError, match=r"\['v'\] has shape"):
        same_numbers.difference(ONES, other)


@pytest.mark.parametrize("wrapped", [True, False])
def test_parameters_are_found_in_states_of_both_forms(wrapped):
    held = SimpleNamespace(params={"pi": {"kernel": np.ones(2)}}, opt_state=np.zeros(2))
    state = SimpleNamespace(algo=SimpleNamespace(learner=held) if wrapped else held)
    assert list(same_numbers.parameters_of(state)) == ["['pi']['kernel']"]


def test_rows_and_verdict(monkeypatch, capsys, tmp_path):
    """Cases that differ by rounding, that differ, and whose training fails."""
    gaps = {"equal-x": 0, "close-x": 1e-5, "far-x": 1e-3}

    def output(script, checkout, _, case, __, out):
        if case not in gaps:
            raise RuntimeError("ValueError: no luck")
        parameters = changed(gaps[case] if checkout == "there" else 0)
        with open(out, "wb") as file:
            file.write(serialization.msgpack_serialize(parameters))

    monkeypatch.setattr(same_numbers.revisions, "output", output)
    agree = {
        case: same_numbers.compare([case], {"a": "here", "b": "there"}, tmp_path) for case in (*gaps, "bad-x")
    }
    assert agree == {"equal-x": True, "close-x": True, "far-x": False, "bad-x": False}
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split()[-1] == "bit-equal" and "largest relative difference 2.50e-06" in rows[1]
    assert rows[3].endswith("failed: ValueError: no luck")
    assert not same_numbers.compare(["bad-x", "equal-x"], {"a": "here", "b": "there"}, tmp_path)
    assert "bit-equal" in capsys.readouterr().out


def test_every_algorithm_has_a_small_case_and_half_cheetah():
    cases = same_numbers.known_cases()
    assert {"ppo-cartpole", "ppo-half_cheetah", "sac-pendulum", "sac-half_cheetah"} <= set(cases)
    assert len(cases) == len(set(cases)) and "sac-cartpole" not in cases
