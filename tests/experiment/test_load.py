"""The state and the best policies of a run, read back."""

import shutil

import forged
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lab import CASES, go
from tiny import lane, plain, same_bits

import purerl
from purerl.experiment.loop import Loop
from purerl.health import split_replay

CASE = "sweep"


@pytest.fixture(scope="module")
def seen(whole, tmp_path_factory):
    """A run whose policy gets better and worse, with a copy of what was learned by every row."""
    whole(CASE)
    kept, finish_row = {}, Loop._finish_row

    def spy(loop, snapshot):
        kept[snapshot.step] = jax.tree.map(plain, split_replay(snapshot.state.algo)[0])
        return finish_row(loop, snapshot)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_finish_row", spy)
        run = go(CASE, tmp_path_factory.mktemp("runs") / "one")
    return run, kept


def test_the_best_policy_has_the_normaliser_of_its_evaluation(seen):
    """A policy with the normaliser of another time is another policy."""
    run, kept = seen
    loaded, state = purerl.load(run.logdir)
    assert loaded == CASES[CASE].config() and same_bits(state, run.state)
    _, state = purerl.load(run.logdir, best=True)
    assert jax.tree.leaves((state.env, state.carry)) == []
    best_steps = run.steps[np.nanargmax(run.metrics["eval/return"], axis=1)]
    for member, step in enumerate(best_steps.tolist()):
        assert same_bits(lane(state.algo, member), lane(kept[step], member))
    earlier = best_steps < run.steps[-1]
    assert earlier.any(), "here the last evaluation should not be the best one of every member"
    newest = kept[int(run.steps[-1])].normalizer.obs.count
    assert (np.asarray(state.algo.normalizer.obs.count) < newest)[earlier].all()


def test_the_best_policy_acts_as_it_did(seen):
    """`make_policy` needs neither a replay buffer nor environments."""
    run, kept = seen
    cfg, state = purerl.load(run.logdir, best=True)
    step = int(run.steps[np.nanargmax(run.metrics["eval/return"][1])])
    then = run.state._replace(algo=jax.tree.map(jnp.asarray, kept[step]))
    obs = 3 * jax.random.normal(jax.random.key(5), (64, 4))
    now, before = (
        purerl.make_policy(cfg, which, member=1).act((), obs, jax.random.key(0))[0] for which in (state, then)
    )
    np.testing.assert_array_equal(now, before)


def test_what_is_missing_is_named(halfway):
    """No evaluation yet, none at all, no checkpoint: three errors."""
    path = halfway("sac-1")
    assert purerl.load(path)[1].key.shape == (1,)
    with pytest.raises(purerl.CheckpointError, match="has not evaluated"):
        purerl.load(path, best=True)
    forged.reseal(path / "run.json", lambda old: old | {"config": old["config"] | {"eval_interval": 0}})
    with pytest.raises(purerl.CheckpointError, match="did not evaluate"):
        purerl.load(path, best=True)
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(purerl.CheckpointError, match="has no checkpoint yet"):
        purerl.load(path)
