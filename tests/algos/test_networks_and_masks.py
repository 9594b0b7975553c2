"""What the options of an actor and a critic change in their networks, and observations that hide a part."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import workbench as wb
from gymnasium import spaces
from tiny import tiny
from workbench import KEY

import purerl
from purerl.algos.actor_critic import make_actor_critic
from purerl.config import ConfigError
from purerl.envs.wrappers import mask_observation
from purerl.make import spec_of
from purerl.networks import LOG_STD_RANGE


def model_of(env, **fields):
    """`(model, first parameters)` of PPO's networks."""
    cfg = purerl.make_config("ppo", env=env, hidden_sizes=(6, 5), **fields)
    model = make_actor_critic(cfg, spec_of(purerl.make_env(env)))
    model = model._replace(outputs=jax.jit(model.outputs), value=jax.jit(model.value))
    return model, jax.jit(model.init)(KEY)


OBS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def normed(tree, x):
    """A network whose hidden layers are normalised before the nonlinearity."""
    *hidden, last = wb.layers(tree)
    for i, layer in enumerate(hidden):
        x = x @ layer["kernel"] + layer["bias"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        norm = tree["params"]["torso"][f"LayerNorm_{i}"]
        x = np.tanh(x * norm["scale"] + norm["bias"])
    return x @ last["kernel"] + last["bias"]


def test_the_networks_are_the_plain_ones():
    model, params = model_of("pendulum", pi_init_scale=1.0, init_log_std=-0.5)
    mean, log_std = model.outputs(params, OBS)
    expected = wb.outputs(wb.double(params), OBS)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_std, expected[1], rtol=1e-6)
    np.testing.assert_allclose(model.value(params, OBS), wb.values(wb.double(params), OBS), rtol=1e-4)


def test_hidden_layers_are_normalised_where_layer_norm_is_on():
    model, params = model_of("pendulum", pi_init_scale=1.0, layer_norm=True)
    change = lambda leaf: leaf + 0.1 * jnp.arange(leaf.size).reshape(leaf.shape)
    params = jax.tree.map(change, params)  # so that scales and offsets show
    mean, _ = model.outputs(params, OBS)
    pi, v = (wb.double(params[name]) for name in ("pi", "v"))
    np.testing.assert_allclose(mean, normed(pi, OBS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.value(params, OBS), normed(v, OBS)[:, 0], rtol=1e-4, atol=1e-5)
    assert np.abs(normed(pi, OBS) - wb.mlp(pi, OBS)).max() > 0.1


def test_a_spread_that_depends_on_the_state():
    model, params = model_of("pendulum", state_dependent_std=True, init_log_std=-1.0, pi_init_scale=1.0)
    assert "log_std" not in params["pi"]["params"]
    both = wb.mlp(wb.double(params["pi"]), OBS)
    mean, log_std = model.outputs(params, OBS)
    np.testing.assert_allclose(mean, both[:, :1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(log_std, -1.0 + both[:, 1:], rtol=1e-4, atol=1e-6)
    assert np.ptp(log_std) > 0.1
    huge = jax.tree.map(lambda leaf: 1e4 * leaf, params)
    far = np.asarray(model.outputs(huge, OBS)[1])
    assert {*far.ravel().tolist()} == {*LOG_STD_RANGE} == {-20.0, 2.0}


@pytest.mark.parametrize("state_dependent_std", [False, True])
def test_the_first_policy_has_the_configured_scales(state_dependent_std):
    fields = {"state_dependent_std": state_dependent_std, "init_log_std": -0.7, "pi_init_scale": 1e-3}
    model, params = model_of("pendulum", **fields)
    mean, log_std = model.outputs(params, OBS)
    np.testing.assert_allclose(log_std, -0.7, atol=0.01)
    assert np.abs(mean).max() < 0.01
    kernel = wb.layers(params["pi"])[-1]["kernel"]
    np.testing.assert_allclose(np.linalg.svd(kernel, compute_uv=False), 1e-3, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.svd(wb.layers(params["v"])[-1]["kernel"])[1], 1.0, rtol=1e-4)
    hidden = wb.layers(params["v"])[0]["kernel"]
    np.testing.assert_allclose(np.linalg.svd(hidden, compute_uv=False), np.sqrt(2), rtol=1e-4)


def test_a_shared_torso_is_all_hidden_layers_once():
    model, params = model_of("pendulum", shared_torso=True, pi_init_scale=1.0)
    assert set(params) == {"torso", "pi", "v"}
    sizes = {name: [layer["kernel"].shape for layer in wb.layers(params[name])] for name in params}
    assert sizes == {"torso": [(3, 6), (6, 5)], "pi": [(5, 1)], "v": [(5, 1)]}
    expected = wb.outputs(wb.double(params), OBS)
    np.testing.assert_allclose(model.outputs(params, OBS)[0], expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.value(params, OBS), wb.values(wb.double(params), OBS), rtol=1e-4)


def test_a_shared_torso_can_be_normalised_too():
    _, params = model_of("pendulum", shared_torso=True, layer_norm=True)
    assert {name for name in params["torso"]["params"] if name.startswith("Layer")} == {
        "LayerNorm_0",
        "LayerNorm_1",
    }


# Networks of the user's own in SAC, by what its critics are


def linear(width=None):
    """Return a pair of functions with outputs `[B, width]`, or `[B]`."""
    init = lambda key, *inputs: jnp.zeros((sum(x.shape[1] for x in inputs), *([width] if width else [])))
    return init, lambda params, *inputs: jnp.concatenate(inputs, -1) @ params


def policy(width):
    init, apply = linear(2 * width)
    return init, lambda params, obs: tuple(jnp.split(apply(params, obs), 2, -1))


SAC = {
    "batch": ("pendulum", {"norm": "batch"}, {"pi": policy(1), "q": linear()}),
    "batch, one network": ("pendulum", {"norm": "batch"}, {"q": linear()}),
    "categorical": ("pendulum", {"critic": "categorical", "num_atoms": 7}, {"q": linear(7)}),
    "categorical, batch": (
        "pendulum",
        {"critic": "categorical", "num_atoms": 7, "norm": "batch"},
        {"pi": policy(1), "q": linear(7)},
    ),
    "discrete": ("cartpole", {}, {"pi": linear(2), "q": linear(2)}),
    "discrete, batch": ("cartpole", {"norm": "batch"}, {"pi": linear(2)}),
}


@pytest.mark.parametrize("case", SAC)
def test_own_networks_have_the_shapes_of_the_critic(case):
    """The training that they are given to can be traced, with two members."""
    env, fields, networks = SAC[case]
    train = purerl.make_train(tiny("sac", env, **fields), networks=networks)
    jax.eval_shape(jax.vmap(train), jax.random.split(KEY, 2))


@pytest.mark.parametrize(
    ("case", "width", "message"),
    [
        ("batch", 1, "values [B] for float32[1, 3], float32[1, 1]"),
        ("categorical", 6, "logits of the atoms [B, 7] for float32[1, 3], float32[1, 1]"),
        ("categorical", None, "logits of the atoms [B, 7]"),
        ("discrete", 3, "values of all actions [B, 2] for float32[1, 4]"),
        ("discrete", None, "values of all actions [B, 2]"),
    ],
)
def test_own_critics_of_other_shapes_are_refused(case, width, message):
    env, fields, _ = SAC[case]
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        purerl.make_train(tiny("sac", env, **fields), networks={"q": linear(width)})
    assert error.value.field == "output of networks['q']"


# Masks


def both_rolled(masked, plain):
    """Return observations `[11, O]` of a reset and ten steps with the same keys, and all else, of both."""

    @jax.jit
    def roll(key):
        actions = 0 if isinstance(plain.action_space, spaces.Discrete) else jnp.zeros(1)

        def one(env):
            obs, state = env.reset(key)

            def step(state, key):
                obs, state, reward, *flags, _ = env.step(key, state, actions)
                return state, (obs, state, reward, flags)

            _, (rows, *rest) = jax.lax.scan(step, state, jax.random.split(key, 10))
            return jnp.concatenate([obs[None], rows]), rest

        return one(masked), one(plain)

    return roll(KEY)


@pytest.mark.parametrize(
    "name, keep", [("cartpole", [True, False, True, False]), ("pendulum", [True, True, False])]
)
def test_velocities_read_0_and_nothing_else_changes(name, keep):
    masked, plain = (purerl.make_env(name, mask_velocity=mask) for mask in (True, False))
    (seen, rest), (all_of_it, other) = both_rolled(masked, plain)
    assert seen.shape == all_of_it.shape
    assert (np.asarray(seen)[:, ~np.array(keep)] == 0).all()
    np.testing.assert_allclose(seen, np.where(keep, all_of_it, 0), rtol=1e-6)
    assert (np.abs(all_of_it).max(0) > 0).all(), "there was nothing to hide"
    wb.assert_close(rest, other, rtol=1e-6, atol=0)
    low, high = masked.observation_space.low, masked.observation_space.high
    assert (low == np.where(keep, plain.observation_space.low, 0)).all()
    assert (high == np.where(keep, plain.observation_space.high, 0)).all()
    assert masked.observation_space.dtype == np.float32
    assert all(masked.observation_space.contains(np.asarray(row)) for row in seen)
    assert masked.action_space == plain.action_space
    assert masked.max_episode_steps == plain.max_episode_steps and masked.render == plain.render
    assert masked.default_params == plain.default_params


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_velocities_show_by_default(name):
    usual, plain = purerl.make_env(name), purerl.make_env(name, mask_velocity=False)
    assert usual.observation_space == plain.observation_space
    assert (np.abs(usual.observation_space.high) > 0).all()


@pytest.mark.parametrize("keep", [[True, True], [True] * 5, [[True] * 4], True])
def test_a_mask_of_the_wrong_length_is_refused(keep):
    with pytest.raises(ValueError, match=r"keep: expected shape \(4,\) of observations, got"):
        mask_observation(purerl.make_env("cartpole"), keep)


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
@pytest.mark.parametrize("value", [1, "yes", None, 0.0])
def test_mask_velocity_is_a_switch(name, value):
    with pytest.raises(ConfigError) as error:
        purerl.make_env(name, mask_velocity=value)
    assert error.value.field == "mask_velocity"


def test_other_tasks_have_no_mask():
    with pytest.raises(ConfigError):
        purerl.make_env("hopper", mask_velocity=True)


MUTANTS = {
    "mask: shows all at a reset": (
        "envs/wrappers.py",
        "return function(obs), state\n",
        "return obs, state\n",
        "test_velocities_read_0_and_nothing_else_changes",
    ),
    "mask: shows all in a step": (
        "envs/wrappers.py",
        "return function(obs), *rest\n",
        "return obs, *rest\n",
        "test_velocities_read_0_and_nothing_else_changes",
    ),
    "mask: bounds as they were": (
        "envs/wrappers.py",
        "np.where(shown, bound, 0.0)",
        "np.where(True, bound, 0.0)",
        "test_velocities_read_0_and_nothing_else_changes",
    ),
    "mask: of any length": (
        "envs/wrappers.py",
        "if shown.shape != space.shape:",
        "if False:",
        "test_a_mask_of_the_wrong_length_is_refused",
    ),
    "layer norm: behind the nonlinearity": (
        "layers.py",
        "ACTIVATIONS[self.activation](nn.LayerNorm()(x) if self.layer_norm else x)",
        "(nn.LayerNorm() if self.layer_norm else lambda x: x)(ACTIVATIONS[self.activation](x))",
        "test_hidden_layers_are_normalised_where_layer_norm_is_on",
    ),
    "own networks: critics of discrete actions take some": (
        "network_trial.py",
        "() if isinstance(spec.action_space, CHOICES) else (action,)",
        "(action,)",
        "test_own_networks_have_the_shapes_of_the_critic",
    ),
    "own networks: statistics of the default ones": (
        "network_trial.py",
        "if not ours and network.settle is None:",
        "if True:",
        "test_own_networks_have_the_shapes_of_the_critic",
    ),
    "own networks: any critic has one value": (
        "network_trial.py",
        "if len(expected.shape) == 1:",
        'if name in ("v", "q"):',
        "test_own_critics_of_other_shapes_are_refused",
    ),
    "spread: without limits": (
        "networks.py",
        "jnp.clip(self.init_log_std + log_std, *self.log_std_range)",
        "self.init_log_std + log_std",
        "test_a_spread_that_depends_on_the_state",
    ),
}
