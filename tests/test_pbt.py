"""Population-based training: who goes on from whom, and how fields change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny

from purerl.config import ConfigError
from purerl.pbt import PBT, check_pbt, exploit_and_explore, from_plain, inherited, to_plain
from purerl.search_space import Range

MUTANTS = {
    "the best are replaced": (
        "pbt.py",
        "order = jnp.argsort(score)",
        "order = jnp.argsort(-score)",
        "test_the_last_go_on_from_the_first",
    ),
    "fields are not copied": (
        "pbt.py",
        "copied = hyper[name][parent]",
        "copied = hyper[name]",
        "test_a_copy_has_the_fields_of_its_parent",
    ),
    "all members explore": (
        "pbt.py",
        "jnp.where(replaced, explored, copied)",
        "explored",
        "test_a_copy_has_the_fields_of_its_parent",
    ),
    "a diverged member is first": (
        "pbt.py",
        "jnp.isnan(score) | (diverged_at >= 0)",
        "jnp.isnan(score)",
        "test_a_diverged_member_goes_on_from_a_healthy_one",
    ),
    "a copy stays diverged": (
        "pbt.py",
        "hyper, take(diverged_at), carry",
        "hyper, diverged_at, carry",
        "test_a_diverged_member_goes_on_from_a_healthy_one",
    ),
    "steps are linear": (
        "pbt.py",
        "place = jnp.log(value) if ends.log else value",
        "place = value",
        "test_changes_are_steps_within_the_range",
    ),
    "ranges have no ends": (
        "pbt.py",
        "jnp.clip(jnp.exp(place) if ends.log else place, ends.low, ends.high)",
        "jnp.asarray(jnp.exp(place) if ends.log else place)",
        "test_changes_are_steps_within_the_range",
    ),
    "the carry of a replaced member stays": (
        "pbt.py",
        "_where(replaced, jnp.zeros_like(leaf), leaf)",
        "leaf",
        "test_a_replaced_member_has_a_fresh_carry",
    ),
    "a copy has no return of its parent": (
        "pbt.py",
        "return np.where(goes_on, score[",
        "return np.where(False, score[",
        "test_a_replaced_member_has_the_return_of_its_parent",
    ),
    "evaluations may be rarer than rounds": (
        "pbt.py",
        "if cfg.eval_interval > pbt.interval:",
        "if False:",
        "test_what_does_not_fit_is_refused",
    ),
    "equal members are replaced": (
        "pbt.py",
        "better = score[drawn] > score[worst]",
        "better = score[drawn] >= score[worst]",
        "test_equal_members_stay",
    ),
}
LOG, LINEAR = Range(1e-4, 1e-1, True), Range(0.5, 1.0)
NEVER = {"resample": 0.0}


@functools.cache
def program(**settings):
    pbt = PBT({"a": LOG, "b": LINEAR}, 10, **settings)
    return jax.jit(jax.vmap(functools.partial(exploit_and_explore, pbt), (None, None, None, None, None, 0)))


def play(score, seeds=1, *, hyper=None, diverged=None, **settings):
    """Return the fields before, and the round for each of `seeds` keys, `[seeds, S]`."""
    size = len(score)
    values = {"a": np.geomspace(1e-4, 1e-1, size), "b": np.linspace(0.5, 1, size), "c": np.float32(3)}
    hyper = {name: jnp.asarray(value, jnp.float32) for name, value in (hyper or values).items()}
    learned = {"w": jnp.arange(size * 2.0).reshape(size, 2), "n": jnp.arange(size)}
    diverged = jnp.asarray([-1] * size if diverged is None else diverged, jnp.int32)
    keys = jax.random.split(jax.random.key(0), seeds)
    carry = {"rnn": jnp.full((size, 3), jnp.nan), "steps": jnp.arange(1, size + 1)}
    found = program(**settings)(learned, hyper, diverged, carry, jnp.asarray(score, jnp.float32), keys)
    np.testing.assert_array_equal(found.learned["w"], learned["w"][found.parent])
    np.testing.assert_array_equal(found.learned["n"], found.parent)
    assert (found.hyper["c"] == 3).all() and found.hyper["c"].shape == (seeds,)
    return hyper, jax.tree.map(np.asarray, found)


def test_the_last_go_on_from_the_first():
    """A quarter from a quarter, at random, each one somewhere; the others stay."""
    _, found = play([5.0, 1, 7, 0, 6, 2, 4, 3], 30)
    assert (np.delete(found.parent, [1, 3], axis=1) == [0, 2, 4, 5, 6, 7]).all()
    assert {tuple(row) for row in found.parent[:, [1, 3]].tolist()} == {(2, 2), (2, 4), (4, 2), (4, 4)}


@pytest.mark.parametrize(
    ("fraction", "size", "replaced"), [(0.25, 2, 1), (0.01, 8, 1), (0.5, 8, 4), (0.5, 5, 2)]
)
def test_the_share_that_is_replaced(fraction, size, replaced):
    """At least one, at most half."""
    _, found = play(np.arange(size), fraction=fraction)
    assert (found.parent != np.arange(size)).sum() == replaced


def test_a_copy_has_the_fields_of_its_parent():
    """Changed by a step; the members that stay keep theirs, to the bit."""
    hyper, found = play([0.0, 1, 2, 3], fraction=0.25, **NEVER)
    assert found.parent.tolist() == [[3, 1, 2, 3]]
    for name in "ab":
        np.testing.assert_array_equal(found.hyper[name][0, 1:], hyper[name][1:])
        assert found.hyper[name][0, 0] != hyper[name][0]
    assert found.hyper["a"][0, 0] in (pytest.approx(1e-1), pytest.approx(1e-1 * 10**-0.3))


def test_changes_are_steps_within_the_range():
    """A tenth of the range, in the logarithm where it is, both ways; ends hold."""
    start = {"a": np.full(4, 1e-2), "b": np.full(4, 0.9), "c": 3}
    found = play([0.0, 1, 2, 3], 40, hyper=start, **NEVER)[1].hyper
    a, b = (np.unique(np.round(found[name][:, 0], 6)) for name in "ab")
    np.testing.assert_allclose(a, [1e-2 * 10**-0.3, 1e-2 * 10**0.3], rtol=1e-3)
    np.testing.assert_allclose(b, [0.85, 0.95], rtol=1e-5)
    ends = {"a": np.full(4, 1e-1), "b": np.full(4, 0.5), "c": 3}
    found = play([0.0, 1, 2, 3], 40, hyper=ends, **NEVER)[1].hyper
    np.testing.assert_allclose(np.unique(found["a"][:, 0].round(6)), [1e-1 * 10**-0.3, 0.1], rtol=1e-4)
    np.testing.assert_allclose(np.unique(found["b"][:, 0].round(6)), [0.5, 0.55], rtol=1e-5)


def test_fields_are_drawn_again():
    """With its probability, evenly over the range in its own measure."""
    place = np.log10(play([0.0, 1], 400, resample=1.0)[1].hyper["a"][:, 0])
    counts = np.histogram(place, np.linspace(-4, -1, 5))[0]
    assert counts.sum() >= 398 and counts.min() > 70
    kept = play([0.0, 1], 400, resample=0.25)[1].hyper["b"][:, 0]
    again = (~np.isclose(kept[:, None], [0.95, 1.0]).any(axis=1)).mean()
    assert 0.18 < again < 0.32


def test_a_diverged_member_goes_on_from_a_healthy_one():
    """It counts as the last, and is healthy afterwards; so does one without a return."""
    _, found = play([9.0, 1, 2, 3], diverged=[40, -1, -1, -1])
    assert found.parent.tolist() == [[3, 1, 2, 3]] and found.diverged_at.tolist() == [[-1] * 4]
    _, found = play([np.nan, 1, 2, 3])
    assert found.parent.tolist() == [[3, 1, 2, 3]]


def test_a_replaced_member_has_a_fresh_carry():
    """Zeros: the RNN state of another network means nothing, and that of one that diverged is not finite."""
    _, found = play([0.0, 1, 2, 3])
    assert found.parent.tolist() == [[3, 1, 2, 3]] and (found.carry["rnn"][0, 0] == 0).all()
    assert np.isnan(found.carry["rnn"][0, 1:]).all() and found.carry["steps"].tolist() == [[0, 2, 3, 4]]


def test_a_replaced_member_has_the_return_of_its_parent():
    score, parent = np.array([1.0, np.nan, 3, 2], np.float32), np.array([2, 3, np.nan, np.nan], np.float32)
    assert inherited(score, parent).tolist() == [3, 2, 3, 2]
    assert inherited(score, np.full(4, np.nan)).tolist()[::2] == [1, 3]


def test_equal_members_stay():
    """Also where no member has a return yet."""
    for score in ([1.0] * 4, [np.nan] * 4):
        assert play(score)[1].parent.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("change", "members", "part"),
    [
        ({"space": {}}, 8, "space = {}: expected at least one"),
        ({"space": {"gama": LINEAR}}, 8, "Did you mean gamma?"),
        ({"space": {"gamma": Range(0.5, 1.5)}}, 8, "gamma = 1.5"),
        ({"space": {"gamma": (0.5, 0.6)}}, 8, "a Range with low below high"),
        ({"space": {"gamma": Range(0.6, 0.5)}}, 8, "a Range with low below high"),
        ({"interval": 0}, 8, "interval = 0"),
        ({"fraction": 0.6}, 8, "fraction = 0.6"),
        ({"step": 0}, 8, "step = 0"),
        ({"resample": 2}, 8, "resample = 2"),
        ({"interval": 100}, 8, "at least eval_interval = 101"),
        ({}, 1, "members = 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, members, part):
    with pytest.raises(ConfigError) as error:
        check_pbt(PBT({"gamma": LINEAR}, 101)._replace(**change), tiny("ppo", eval_interval=101), members)
    assert part in str(error.value)


def test_settings_are_written_and_read():
    pbt = PBT({"a": LOG, "b": LINEAR}, 10, 0.3, 0.2, 0.1)
    assert from_plain(to_plain(pbt)) == pbt
    with pytest.raises((TypeError, ValueError)):
        from_plain(to_plain(pbt) | {"more": 1})
