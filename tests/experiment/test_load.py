"""What a run leaves for those who come later: its newest state, and each seed's best policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.experiment.loop import Loop
from purerl.health import split_replay

PPO = dict(env="cartpole", total_timesteps=4_096, num_envs=4, num_steps=32, num_minibatches=4, num_epochs=3)
PPO |= dict(log_interval=128, eval_interval=256, eval_episodes=2, hidden_sizes=(8,), learning_rate=0.1)


@pytest.fixture(scope="module")
def cfg():
    return purerl.make_config("ppo", **PPO)


@pytest.fixture(scope="module")
def seen(cfg, tmp_path_factory):
    """A run whose policy gets better and worse, with a copy of its learners after every row."""
    kept, live = [], []
    finish_row = Loop._finish_row

    def spy(loop, snapshot):
        kept.append((snapshot.step, jax.device_get(split_replay(snapshot.state.algo)[0])))
        live.append(len(jax.live_arrays()))
        return finish_row(loop, snapshot)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_finish_row", spy)
        run = purerl.run(cfg, seeds=3, logdir=tmp_path_factory.mktemp("runs") / "one", progress=False)
    return run, dict(kept), live


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_newest_state_comes_back_whole(cfg, seen):
    """Every leaf, keys included, as the run returned it, and the configuration with it."""
    run, _, _ = seen
    loaded, state = purerl.load(run.logdir)
    assert loaded == cfg and jax.tree.structure(state) == jax.tree.structure(run.state)
    data = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    same(jax.tree.map(data, state), jax.tree.map(data, run.state))


def test_the_best_policy_has_the_normaliser_of_its_own_evaluation(seen):
    """An old policy with today's normaliser is another policy (a famous library saved it so)."""
    run, kept, _ = seen
    _, state = purerl.load(run.logdir, best=True)
    best_steps = run.steps[np.nanargmax(run.metrics["eval/return"], axis=1)]
    for seed, step in enumerate(best_steps.tolist()):
        lane = lambda tree, seed=seed: jax.tree.map(lambda leaf: np.asarray(leaf[seed]), tree)
        same(lane(state.algo), lane(kept[step]))
    earlier = best_steps < run.steps[-1]
    assert earlier.any(), "here the last evaluation should not be the best one of every seed"
    newest = kept[int(run.steps[-1])].normalizer.obs.count
    assert (np.asarray(state.algo.normalizer.obs.count) < newest)[earlier].all()


def test_the_best_policy_acts_as_it_did(cfg, seen):
    """A best state has neither memory nor environments, and `make_policy` needs neither."""
    run, kept, _ = seen
    _, state = purerl.load(run.logdir, best=True)
    assert jax.tree.leaves((state.env, state.carry)) == []
    step = int(run.steps[np.nanargmax(run.metrics["eval/return"][1])])
    then = run.state._replace(algo=jax.tree.map(jnp.asarray, kept[step]))
    obs = 3 * jax.random.normal(jax.random.key(5), (64, 4))
    now, before = (
        purerl.make_policy(cfg, which, member=1).act((), obs, jax.random.key(0))[0] for which in (state, then)
    )
    np.testing.assert_array_equal(now, before)


def test_a_run_keeps_no_more_arrays_the_longer_it_goes_on(seen):
    """Metrics leave the device row by row, and no state outlives its piece."""
    _, _, live = seen
    assert len(live) == 32 and live[-1] == live[4]


def test_what_is_not_there_is_said(cfg, tmp_path):
    """No run, no checkpoint, no evaluation: three different answers."""
    with pytest.raises(purerl.ConfigError, match="must be the directory of a run"):
        purerl.load(tmp_path / "nothing")
    silent = purerl.make_config("ppo", **PPO | {"eval_interval": 0, "total_timesteps": 128})
    purerl.run(silent, logdir=tmp_path / "silent", progress=False)
    with pytest.raises(purerl.CheckpointError, match="did not evaluate"):
        purerl.load(tmp_path / "silent", best=True)
