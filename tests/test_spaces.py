"""Several choices at once, and observations of several parts, from the environment to a policy that acts."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from tiny import assert_close, same_bits, tiny

import purerl
from purerl.config import ConfigError
from purerl.envs.adapters.from_gymnasium import from_gymnasium
from purerl.envs.wrappers import (
    flatten_observation,
    map_observation,
    rescale_observation,
    stack_frames,
)
from purerl.health import split_replay
from purerl.types import EnvFunctions
from purerl.workbench.export import code, export_policy

MUTANTS = {
    "an image is forgotten": (
        "pixels.py",
        "(parts[name] for name in sorted(parts))]",
        "(parts[name] for name in sorted(parts) if name not in self.images)]",
        "test_choices_are_learned_from_all_parts[ppo-MultiDiscrete]",
    ),
    "a vector is forgotten": (
        "pixels.py",
        "(parts[name] for name in sorted(parts))]",
        "(parts[name] for name in sorted(parts) if name in self.images)]",
        "test_choices_are_learned_from_all_parts[ppo-MultiDiscrete]",
    ),
    "one choice alone is learned": (
        "distributions.py",
        "return _total(part.log_prob(value[..., i]) for i, part in enumerate(self._parts))",
        "return self._parts[0].log_prob(value[..., 0])",
        "test_choices_are_learned_from_all_parts[trpo-MultiDiscrete]",
    ),
    "parts in another order": (
        "pixels.py",
        "(parts[name] for name in sorted(parts))]",
        "(parts[name] for name in sorted(parts, reverse=True))]",
        "test_a_dict_of_vectors_is_its_flattened_box[sac]",
    ),
    "the copies' own starts are added twice": (
        "make.py",
        "actions = MultiDiscrete(actions.nvec)",
        "pass",
        "test_an_environment_of_gymnasium",
    ),
    "only the first part is contained": (
        "rollout.py",
        "for part in jax.tree.leaves(next_obs):",
        "for part in jax.tree.leaves(next_obs)[:1]:",
        "test_a_part_that_breaks_down_reaches_nobody",
    ),
    "the rows of a batch are the parts of an observation": (
        "spaces.py",
        "return jax.tree.leaves(obs)[0].shape[0]",
        "return len(obs)",
        "test_a_replay_buffer_of_parts_is_saved_and_resumed",
    ),
    "a part out of bounds passes": (
        "envs/check/behaviour.py",
        "for name, facts in parts.items():",
        "for name, facts in list(parts.items())[:1]:",
        "test_check_env_looks_at_every_part",
    ),
}
SIZE = 6


def keypad(action_space):
    """One step: the image and the vector each say what a part of the action has to be; a reward for each."""
    space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8), "touch": spaces.Box(-1, 1, (3,))}
    )

    def observe(state):
        camera = jnp.zeros((SIZE, SIZE, 1), jnp.uint8).at[2, 1 + 3 * state[0], 0].set(255)
        return {"camera": camera, "touch": 2 * jax.nn.one_hot(state[1], 3) - 1}

    def reset(key, params=None, needed=True):
        left, touch = jax.random.split(key)
        state = jax.random.randint(left, (), 0, 2), jax.random.randint(touch, (), 0, 3)
        return observe(state), state

    def step(key, state, action, params=None):
        if isinstance(action_space, spaces.MultiDiscrete):
            right = (action[0] == state[0]) + 1.0 * (action[1] == state[1])
        elif isinstance(action_space, spaces.MultiBinary):
            right = (action[0] == state[0]) + 1.0 * (action[1] == (state[1] == 2))
        elif isinstance(action_space, spaces.Discrete):
            right = 2.0 * (action == 3 * state[0] + state[1])
        else:
            right = 2.0 - jnp.abs(action[0] - (state[0] - 0.5)) - jnp.abs(action[1] - 0.5 * (state[1] - 1))
        ended = jnp.bool_(True)
        return observe(state), state, jnp.float32(right), ended, ended & False, {}

    return EnvFunctions("keypad", reset, step, space, action_space, 1)


ACTIONS = {
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(2),
    "Discrete": spaces.Discrete(6),
    "Box": spaces.Box(-1, 1, (2,)),
}
ON_POLICY = {"num_envs": 64, "num_steps": 8, "log_interval": 4096, "hidden_sizes": (32,), "eval_interval": 0}
ON_POLICY |= {"total_timesteps": 24_576, "normalize_reward": False, "gae_lambda": 0.0}
STEPS = {
    "ppo": {"learning_rate": 3e-3, "num_epochs": 4, "num_minibatches": 4, "anneal_lr": False},
    "recurrent_ppo": {"learning_rate": 3e-3, "num_epochs": 4, "num_minibatches": 4, "rnn_size": 16},
    "trpo": {"target_kl": 0.03, "num_epochs": 4, "num_minibatches": 4},
}


@pytest.mark.parametrize(
    ("algo", "actions"),
    [
        ("ppo", "MultiDiscrete"),
        ("ppo", "MultiBinary"),
        ("trpo", "MultiDiscrete"),
        pytest.param("recurrent_ppo", "MultiDiscrete", marks=pytest.mark.slow),
    ],
)
def test_choices_are_learned_from_all_parts(algo, actions):
    """Without one of the parts, or one of the choices, the mean reward is at most 1.67."""
    cfg = purerl.make_config(algo, **ON_POLICY | STEPS[algo])
    metrics = jax.jit(purerl.make_train(cfg, env=keypad(ACTIONS[actions])))(jax.random.key(0)).metrics
    assert metrics["episode/return"][-1] > 1.85, metrics["episode/return"]


OFF_POLICY = {"total_timesteps": 4_000, "learning_starts": 400, "batch_size": 64, "log_interval": 500}
OFF_POLICY |= {"num_envs": 1, "hidden_sizes": (32,), "eval_interval": 4_000, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("algo", "actions"), [("dqn", "Discrete"), pytest.param("sac", "Box", marks=pytest.mark.slow)]
)
def test_off_policy_methods_learn_from_all_parts(algo, actions):
    """Without one of the parts the mean reward is at most 1 (Discrete) and 1.67 (Box)."""
    more = {"epsilon_fraction": 0.5} if algo == "dqn" else {}
    cfg = purerl.make_config(algo, **OFF_POLICY | more | {"tau": 0.05, "eval_episodes": 50})
    metrics = jax.jit(purerl.make_train(cfg, env=keypad(ACTIONS[actions])))(jax.random.key(0)).metrics
    assert metrics["eval/return"][-1] > 1.75, metrics["eval/return"]


def divided(env):
    """The same environment with its first observation and the others as two parts."""
    low, high = env.observation_space.low, env.observation_space.high
    space = spaces.Dict({"a": spaces.Box(low[:1], high[:1]), "b": spaces.Box(low[1:], high[1:])})
    return map_observation(env, lambda obs: {"b": obs[1:], "a": obs[:1]}, space)


@pytest.mark.parametrize("algo", ["ppo", "sac", "dqn", pytest.param("recurrent_ppo", marks=pytest.mark.slow)])
def test_a_dict_of_vectors_is_its_flattened_box(algo):
    """The same parameters, normaliser included, since parts go side by side in the order of their names."""
    cfg = tiny(algo)
    env = divided(purerl.make_env(cfg.env, **cfg.env_kwargs))
    outs = [
        jax.jit(purerl.make_train(cfg, env=one))(jax.random.key(1)) for one in (env, flatten_observation(env))
    ]
    learned = [split_replay(out.state.algo)[0] for out in outs]
    if hasattr(learned[0], "normalizer"):
        parts = learned[0].normalizer.obs
        count, *moments = zip(*(parts["a"], parts["b"]), strict=True)
        joined = type(parts["a"])(count[0], *map(jnp.concatenate, moments))
        learned[0] = learned[0]._replace(normalizer=learned[0].normalizer._replace(obs=joined))
    assert_close(*learned, rtol=1e-4, atol=1e-5)


class Panel(gymnasium.Env):
    """Dict observations of every kind, and choices that do not start at 0."""

    observation_space = spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8),
            "mode": spaces.Discrete(3, start=1),
            "arm": spaces.Box(-np.inf, np.inf, (2,), np.float64),
        }
    )
    action_space = spaces.MultiDiscrete([2, 3], start=[10, -1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        return self.look(), float(action[0] == 11), False, self.time == 4, {}

    def look(self):
        camera = np.full((SIZE, SIZE, 1), self.time, np.uint8)
        return {"camera": camera, "mode": np.int64(1 + self.time % 3), "arm": np.array([self.time, 0.5])}


def test_an_environment_of_gymnasium(tmp_path):
    """Images stay, an index becomes one-hot, and actions are its own: from a run to an evaluation."""
    env = from_gymnasium(Panel)
    vector = env.make_vector(2, False)
    obs = vector.reset([0, 1])
    assert {name: (part.shape, part.dtype) for name, part in obs.items()} == {
        "camera": ((2, SIZE, SIZE, 1), np.uint8),
        "mode": ((2, 3), np.float32),
        "arm": ((2, 2), np.float32),
    }
    assert obs["mode"].tolist() == [[1, 0, 0]] * 2
    vector.close()
    cfg = tiny("ppo")
    run = purerl.run(cfg, 2, tmp_path / "run", env=env, progress=False)
    assert np.isfinite(run.metrics["eval/return"][:, -1]).all()
    played = purerl.evaluate_run(tmp_path / "run", 3, env=env)
    assert (played.lengths == 4).all()
    cfg, state = purerl.load(tmp_path / "run", env=env)
    policy = purerl.make_policy(cfg, state, 0, env)
    action, _ = policy.act(policy.init(2), obs, jax.random.key(0))
    assert action.shape == (2, 2)
    for wrong, words in (
        ({"camera": obs["camera"]}, "a mapping with the parts arm, camera, mode"),
        (obs | {"mode": obs["mode"][0]}, r"obs\['mode'\] = float32\[3\]: expected a row of shape"),
        (obs | {"mode": obs["mode"][:1]}, r"obs\['mode'\]"),
    ):
        with pytest.raises(ConfigError, match=words):
            policy.act(policy.init(2), wrong, jax.random.key(0))
    with pytest.raises(ConfigError, match="stablehlo or safetensors"):
        export_policy(tmp_path / "run", path=tmp_path / "policy.py", env=env)
    export_policy(tmp_path / "run", "stablehlo", tmp_path / "policy.stablehlo", env=env)
    exported = jax.export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes()))
    again, _ = exported.call((), {name: jnp.asarray(part) for name, part in obs.items()})
    np.testing.assert_array_equal(again, action)


def test_a_policy_of_several_choices_leaves():
    """As NumPy code, in the units of the environment."""
    env = keypad(ACTIONS["MultiDiscrete"])
    flat = flatten_observation(env)
    cfg = tiny("ppo", pi_init_scale=3.0)
    state = jax.jit(purerl.make_train(cfg, env=flat))(jax.random.key(0)).state
    policy, module = purerl.make_policy(cfg, state, env=flat), {}
    exec(code(policy, flat, "Keypad."), module)
    obs = np.asarray(jax.vmap(flat.reset)(jax.random.split(jax.random.key(1), 20))[0])
    actions = policy.act(policy.init(20), jnp.asarray(obs), jax.random.key(0))[0]
    assert len(np.unique(actions, axis=0)) > 1
    np.testing.assert_array_equal([module["act"](row)[0] for row in obs], actions)


def test_a_part_that_breaks_down_reaches_nobody():
    env = keypad(ACTIONS["Box"])

    def step(key, state, action, params=None):
        obs, *rest = env.step(key, state, action, params)
        return obs | {"touch": obs["touch"] * jnp.where(action[0] > 0, jnp.nan, 1)}, *rest

    cfg = tiny("ppo")
    out = jax.jit(purerl.make_train(cfg, env=env._replace(step=step)))(jax.random.key(0))
    assert out.state.diverged_at == -1 and out.metrics["episode/diverged"].sum() > 0
    assert np.isfinite(out.state.algo.normalizer.obs["touch"].mean).all()


def test_check_env_looks_at_every_part():
    env = keypad(ACTIONS["MultiDiscrete"])
    purerl.check_env(env)
    purerl.check_env(keypad(ACTIONS["MultiBinary"]))

    for change, words in (
        (lambda obs: {"camera": obs["camera"]}, "a dict with camera, touch"),
        (lambda obs: obs["touch"], "a dict with camera, touch"),
        (lambda obs: obs | {"camera": obs["camera"] / 255.0}, r"obs\['camera'\]: expected uint8"),
        (lambda obs: obs | {"touch": obs["touch"][:2]}, r"obs\['touch'\]: expected shape \(3,\)"),
        (
            lambda obs: obs | {"touch": 2 * obs["touch"]},
            r"obs\['touch'\]\[0\]: expected a number in \[-1, 1\]",
        ),
    ):
        with pytest.raises(purerl.EnvError, match=words):
            purerl.check_env(map_observation(env, change, env.observation_space))


@pytest.mark.parametrize("actions", ["MultiDiscrete", "MultiBinary"])
@pytest.mark.parametrize("algo", ["sac", "td3", "dqn", "pqn"])
def test_other_algorithms_say_which_to_take(algo, actions):
    with pytest.raises(ConfigError, match="Use ppo, a2c, trpo or vpg"):
        purerl.make_train(tiny(algo), env=keypad(ACTIONS[actions]))


def test_what_a_dict_cannot_be_given_to():
    env = keypad(ACTIONS["Discrete"])
    with pytest.raises(ConfigError, match="frame_stack = 1: expected 0, since observations are a Dict"):
        purerl.make_train(tiny("dqn", frame_stack=1), env=env)
    for wrap in (lambda env: stack_frames(env, 2), rescale_observation):
        with pytest.raises(ConfigError, match="flatten_observation puts them into one"):
            wrap(env)
    with pytest.raises(ConfigError, match="observations in a Box"):
        purerl.to_gymnasium(env)


def test_networks_of_the_users_see_the_parts():
    """A network that takes the dict is welcome; the trial names the parts where one does not."""
    env, cfg = keypad(ACTIONS["MultiDiscrete"]), tiny("ppo")
    init = lambda key, obs: {"w": jnp.zeros((3, 5)) + 0 * obs["camera"].sum()}
    own = init, lambda params, obs: obs["touch"] @ params["w"]
    jax.eval_shape(purerl.make_train(cfg, env=env, networks={"pi": own}), jax.random.key(0))
    bad = lambda key, obs: {"w": jnp.zeros((3, 5))}, lambda params, obs: obs @ params["w"]
    with pytest.raises(ConfigError, match=r"'camera': uint8\[1, 6, 6, 1\], 'touch': float32\[1, 3\]"):
        purerl.make_train(cfg, env=env, networks={"pi": bad})


def test_recurrent_methods_see_images():
    """Their heads read features, not pixels: also of a single image."""
    env = keypad(ACTIONS["Box"])
    space = env.observation_space["camera"]
    camera = map_observation(env, lambda obs: obs["camera"], space)
    for algo in ("recurrent_sac", "recurrent_ppo"):
        out = jax.eval_shape(purerl.make_train(tiny(algo), env=camera), jax.random.key(0))
        kernels = jax.tree.leaves(out.state.algo.learner.params)
        assert any(leaf.shape == (3 * 3, 16) for leaf in kernels)  # of the convolution


def test_a_replay_buffer_of_parts_is_saved_and_resumed(tmp_path):
    """With the bits of a run that was never stopped; and IQN draws its fractions for rows, not parts."""
    env = keypad(ACTIONS["Discrete"])
    cfg = tiny("dqn", critic="implicit", num_envs=3, checkpoint_interval=16)
    whole = purerl.run(cfg, 2, tmp_path / "whole", env=env, progress=False)
    with pytest.raises(KeyboardInterrupt):
        stop = lambda row: (_ for _ in ()).throw(KeyboardInterrupt)
        purerl.run(cfg, 2, tmp_path / "stopped", env=env, progress=False, sinks=[stop])
    resumed = purerl.run(cfg, 2, tmp_path / "stopped", env=env, progress=False, resume=True)
    assert same_bits(whole.state, resumed.state)
