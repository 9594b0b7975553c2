"""Recurrent SAC against RNNs that are run by hand along each window, without batches, masks or scans."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import replayed
from gymnasium import spaces
from replayed import NUM_ENVS, STEP
from tiny import tiny

import purerl
from purerl import rollout
from purerl.algos import recurrent_sac
from purerl.config import ConfigError

MUTANTS = {
    "the RNN state outlives an episode": (
        "algos/windows.py",
        "jax.tree.map(lambda leaf: jnp.where(ended, 0.0, leaf), carry), (x, after)",
        "Carry(after, jnp.where(ended, 0.0, carry.action)), (x, after)",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the previous action is that of another episode": (
        "algos/windows.py",
        "jax.tree.map(lambda leaf: jnp.where(ended, 0.0, leaf), carry), (x, after)",
        "Carry(jnp.where(ended, 0.0, after), carry.action), (x, after)",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the RNN state outlives a time limit": (
        "algos/windows.py",
        "(row.terminated | row.truncated)[:, None]",
        "row.terminated[:, None]",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the RNN state outlives a death": (
        "algos/windows.py",
        "(row.terminated | row.truncated)[:, None]",
        "row.truncated[:, None]",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the target starts from the next episode's RNN state": (
        "algos/windows.py",
        "jnp.where(ended, 0.0, leaf), carry), (x, after)",
        "jnp.where(ended, 0.0, leaf), carry), (x, jnp.where(ended, 0.0, after))",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the target skips the action": (
        "algos/windows.py",
        "obs, vector(action))",
        "obs, 0 * vector(action))",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the target forgets obs": (
        "algos/windows.py",
        'core.apply(params["core"], after, obs,',
        'core.apply(params["core"], 0 * after, obs,',
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the burn-in passes gradients on": (
        "algos/windows.py",
        "jax.lax.stop_gradient(carry)",
        "carry",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the burn-in is skipped": (
        "algos/windows.py",
        "jax.lax.scan(step, jax.lax.stop_gradient(carry), rows)",
        "jax.lax.scan(step, jax.tree.map(jnp.zeros_like, carry), rows)",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "losses forget the mask": (
        "algos/windows.py",
        "rows, weight, discount = flat(jax.tree.map(lambda leaf: leaf[burn_in:], part))",
        "rows, weight, discount = flat(jax.tree.map(lambda leaf: leaf[burn_in:], part))\n"
        "    weight = jnp.ones_like(weight)",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the mean counts rows outside": (
        "algos/windows.py",
        ".sum(-1) / weight.sum()",
        ".mean(-1)",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "a time limit is a death": (
        "replay/sequences.py",
        "jnp.where(rows.terminated, 0.0,",
        "jnp.where(rows.terminated | rows.truncated, 0.0,",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the targets are those of the learning critics": (
        "algos/recurrent_sac.py",
        'q.apply(learner.target["q"], rows, True',
        'q.apply(learner.params["q"], rows, True',
        "test_an_update_is_the_plain_one[{}]",
    ),
    "the actor climbs the larger critic": (
        "algos/recurrent_sac.py",
        "batch.rows, False, action)).min(0)",
        "batch.rows, False, action)).max(0)",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "one key for both noises": (
        "algos/recurrent_sac.py",
        "key_critic, key_actor = jax.random.split(key)",
        "key_critic = key_actor = key",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "a temperature that is never learned": (
        "algos/recurrent_sac.py",
        'learner = descend(learner, "log_alpha", adam, gradient)',
        "pass",
        "test_an_update_is_the_plain_one[{}]",
    ),
    "a fixed temperature of 1": (
        "algos/recurrent_sac.py",
        "jnp.float32(cfg.ent_coef)",
        "jnp.float32(1.0)",
        "test_an_update_is_the_plain_one[{'discrete': True, 'ent_coef': 0.4}]",
    ),
    "an index is a number": (
        "spaces.py",
        "jax.nn.one_hot(action, int(space.n), dtype=jnp.float32)",
        "jnp.broadcast_to(action[..., None].astype(jnp.float32), (*action.shape, int(space.n)))",
        "test_an_update_is_the_plain_one[{'discrete': True, 'ent_coef': 0.4}]",
    ),
    "acting forgets the previous action": (
        "algos/recurrent_sac.py",
        "windows.Carry(rnn, as_vector(space, action))",
        "windows.Carry(rnn, 0 * as_vector(space, action))",
        "test_acting_is_a_pass_through_each_episode_alone",
    ),
    "evaluation draws": (
        "algos/recurrent_sac.py",
        "policy.explore(outputs, key, noise) if explore",
        "policy.explore(outputs, key, noise) if True",
        "test_acting_is_a_pass_through_each_episode_alone",
    ),
    "a core without the previous action": (
        "network_trial.py",
        'if "q" in chosen else ()',
        "if False else ()",
        "test_networks_of_the_user_are_tried",
    ),
    "critics of all actions are given one": (
        "network_trial.py",
        "() if isinstance(spec.action_space, CHOICES) else (action,)",
        "(action,)",
        "test_networks_of_the_user_are_tried",
    ),
    "windows longer than the buffer": (
        "algos/recurrent_sac.py",
        "if rows > held:",
        "if rows > 2 * held:",
        "test_what_it_does_not_support_is_refused",
    ),
}
KEY, BURN_IN, LENGTH, BATCH, HELD = jax.random.key(0), 2, 3, 6, 6
CAPACITY = HELD * NUM_ENVS
FIELDS = replayed.FIELDS | {
    "hidden_sizes": (5,),
    "rnn_size": 4,
    "batch_size": BATCH,
    "burn_in": BURN_IN,
    "sequence_length": LENGTH,
    "updates_per_step": 1,
}
ACTIONS = 3
"""Of the discrete space."""
ENDS = np.array([0, 0, 1, 0, 2, 0, 3])
"""Ends of rows in turn: 1 terminated, 2 truncated, 3 both."""


def history(discrete):
    """Return steps of the environments, as `replayed` invents them but for their ends."""
    steps = []
    for time in range(10):
        ends = ENDS[(time * NUM_ENVS + np.arange(NUM_ENVS)[None]) % len(ENDS)]
        step = replayed.transition(time)._replace(terminated=ends % 2 == 1, truncated=ends >= 2)
        indices = np.random.default_rng(time + 100).integers(0, ACTIONS, (1, NUM_ENVS)).astype(np.int32)
        steps.append(step._replace(action=indices) if discrete else step)
    return steps


# One step of the RNN, and heads, of single rows


def layers(tree, x):
    """Return relu layers and a linear one of `x`."""
    names = sorted(tree)
    for name in names:
        x = x @ tree[name]["kernel"] + tree[name]["bias"]
        x = x if name == names[-1] else jnp.maximum(x, 0)
    return x


def remember(params, h, obs, previous):
    """Return the RNN state after `obs` (Cho et al. 2014, with the reset gate of cuDNN)."""
    tree = params["core"]["params"]
    cell, first = tree["GRUCell_0"], tree["encoder"]["Dense_0"]
    x = jnp.maximum(jnp.concatenate([obs, previous]) @ first["kernel"] + first["bias"], 0)
    see = lambda gate: x @ cell[f"i{gate}"]["kernel"] + cell[f"i{gate}"]["bias"]
    recall = lambda gate: h @ cell[f"h{gate}"]["kernel"]
    reset, keep = (1 / (1 + jnp.exp(-see(gate) - recall(gate))) for gate in "rz")
    new = jnp.tanh(see("n") + reset * (recall("n") + cell["hn"]["bias"]))
    return (1 - keep) * new + keep * h


def head(params, h, *more):
    tree = params["head"]["params"]
    return layers(tree.get("torso", tree), jnp.concatenate([h, *more]))


def vector(action, discrete):
    return jnp.float32(np.arange(ACTIONS) == action) if discrete else jnp.asarray(action)


def walk(params, window, discrete, ahead):
    """Return the RNN states at `obs`, or `ahead` at `next_obs`, of the rows that are learned from."""
    found, h, previous = [], None, None
    for t, row in enumerate(window):
        if t == BURN_IN and h is not None:
            h = jax.lax.stop_gradient(h)
        if row is None:
            continue
        if h is None:
            h, previous = jnp.zeros(4), jnp.zeros(ACTIONS if discrete else 2)
        after = remember(params, h, row.obs, previous)
        action = vector(row.action, discrete)
        if t >= BURN_IN:
            found.append(remember(params, after, row.next_obs, action) if ahead else after)
        h, previous = (None, None) if row.terminated or row.truncated else (after, action)
    return found


class Plain:
    """The losses of a batch, row by row."""

    def __init__(self, cfg, windows, discrete):
        self.cfg, self.windows, self.discrete = cfg, windows, discrete
        places = [(t, b) for b, w in enumerate(windows) for t in range(LENGTH) if w[BURN_IN + t] is not None]
        self.rows = [windows[b][BURN_IN + t] for t, b in places]
        self.places = [t * BATCH + b for t, b in places]
        assert len(self.rows) < LENGTH * BATCH, "no window reaches the head"

    def states(self, params, ahead=False):
        return [h for window in self.windows for h in walk(params, window, self.discrete, ahead)]

    def drawn(self, params, states, key):
        """Return `(action, probability, log-probability)` of each row over which the expectation goes."""
        outputs, found = [head(params, h) for h in states], []
        noise = jax.random.normal(key, (1, LENGTH * BATCH, 2))[0]
        for out, place in zip(outputs, self.places, strict=True):
            if self.discrete:
                log_prob = out - jnp.log(jnp.exp(out).sum())
                found.append((None, jnp.exp(log_prob), log_prob))
                continue
            mean, log_std = out[:2], out[2:]
            action = jnp.tanh(mean + jnp.exp(log_std) * noise[place])
            normal = -(noise[place] ** 2) / 2 - log_std - np.log(2 * np.pi) / 2
            log_prob = (normal - jnp.log(1 - action**2)).sum()
            found.append((action, jnp.ones(1), log_prob[None]))
        return found

    def outputs(self, params, states, actions):
        """Return the outputs of a critic: of an action, or of all of a discrete space."""
        more = [() if self.discrete else (action,) for action in actions]
        return [head(params, h, *rest) for h, rest in zip(states, more, strict=True)]

    @property
    def atoms(self):
        return jnp.linspace(self.cfg.v_min, self.cfg.v_max, self.cfg.num_atoms)

    def number(self, out):
        """Return the value(s) that a critic's output stands for."""
        return (jnp.exp(out) / jnp.exp(out).sum() @ self.atoms)[None] if self.categorical else out

    @property
    def categorical(self):
        return self.cfg.critic == "categorical"

    def targets(self, params, target, alpha, key):
        ahead, found = self.drawn(params["pi"], self.states(params["pi"], ahead=True), key), []
        actions = [action for action, *_ in ahead]
        outs = [self.outputs(one, self.states(one, ahead=True), actions) for one in target]
        for row, (_, probability, log_prob), first, second in zip(self.rows, ahead, *outs, strict=True):
            gamma = 0.0 if row.terminated else self.cfg.gamma
            if self.categorical:
                smaller = first if self.number(first) <= self.number(second) else second
                found.append(self.projected(smaller, row.reward, gamma, alpha * log_prob[0]))
            else:
                soft = probability @ (jnp.minimum(first, second) - alpha * log_prob)
                found.append(row.reward + gamma * soft)
        return found

    def projected(self, out, reward, gamma, bonus):
        """Return the distribution of `reward + gamma (z - bonus)` on the atoms z."""
        z, chances, probs = (
            np.asarray(self.atoms, float),
            np.zeros(self.cfg.num_atoms),
            np.asarray(out, float),
        )
        probs = np.exp(probs) / np.exp(probs).sum()
        for value, chance in zip(z, probs, strict=True):
            at = (np.clip(reward + gamma * (value - bonus), z[0], z[-1]) - z[0]) / (z[1] - z[0])
            low = min(int(at), len(z) - 2)
            chances[low] += chance * (low + 1 - at)
            chances[low + 1] += chance * (at - low)
        return chances

    def critic_loss(self, critics, targets):
        loss, values = 0.0, []
        for one in critics:
            outs = self.outputs(one, self.states(one), [row.action for row in self.rows])
            for row, out, target in zip(self.rows, outs, targets, strict=True):
                values.append(self.number(out)[row.action if self.discrete else 0])
                if self.categorical:
                    loss -= target @ (out - jnp.log(jnp.exp(out).sum()))
                else:
                    loss += (values[-1] - target) ** 2 / 2
        loss = loss / len(self.rows)
        return loss, {"q/loss": loss, "q/mean": sum(values) / len(values)}

    def actor_loss(self, pi, critics, alpha, key):
        drawn = self.drawn(pi, self.states(pi), key)
        outs = [self.outputs(one, self.states(one), [action for action, *_ in drawn]) for one in critics]
        loss, entropy = 0.0, 0.0
        for (_, probability, log_prob), *both in zip(drawn, *outs, strict=True):
            smaller = jnp.minimum(*map(self.number, both))
            loss += probability @ (alpha * log_prob - smaller) / len(self.rows)
            entropy -= probability @ log_prob / len(self.rows)
        return loss, {"pi/loss": loss, "pi/entropy": entropy}


class Adam:
    """Networks and Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), changed in place."""

    def __init__(self, learner, learning_rate, tau):
        self.params, self.target = dict(learner.params), learner.target["q"]
        self.moments = {name: state[0][:3] for name, state in learner.opt_state.items()}
        self.learning_rate, self.tau = learning_rate, tau

    def descend(self, name, gradient):
        count, mu, nu = self.moments[name]
        mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mu, gradient)
        nu = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, nu, gradient)
        count = int(count) + 1
        self.moments[name] = count, mu, nu
        scales = 1 - 0.9**count, 1 - 0.999**count
        rate = lambda m, v: self.learning_rate * (m / scales[0]) / (jnp.sqrt(v / scales[1]) + 1e-8)
        self.params[name] = jax.tree.map(lambda p, m, v: p - rate(m, v), self.params[name], mu, nu)

    def follow(self):
        mix = lambda old, new: (1 - self.tau) * old + self.tau * new
        self.target = jax.tree.map(mix, self.target, self.params["q"])


def updated(**fields):
    """Return `(config, state before, state after, metrics)` of the last update of a short history."""
    discrete = fields.pop("discrete", False)
    cfg = tiny("recurrent_sac", "pendulum", **(FIELDS | fields))
    spec = replayed.SPEC._replace(action_space=spaces.Discrete(ACTIONS)) if discrete else replayed.SPEC
    purerl.make.validate(cfg, spec)
    algo = recurrent_sac.make(cfg, spec)
    observe, update, steps = jax.jit(algo.observe), jax.jit(algo.update), history(discrete)
    state = jax.jit(algo.init)(jax.random.key(1))
    for step in steps[:-3]:
        state = observe(state, step)
    for i, step in enumerate(steps[-3:-1]):  # so that Adam's moments are those of several steps
        state, _ = update(state, step, jax.random.key(i), jnp.int32(0))
    return cfg, state, *update(state, steps[-1], KEY, jnp.int32(STEP))


def drawn_windows(key, discrete):
    """Return lists of rows, with None where there is none of that environment."""
    index, steps = np.asarray(jax.random.bits(key, (BATCH,), jnp.uint32)) % CAPACITY, history(discrete)
    held = range(len(steps) - HELD, len(steps))
    slots = {(time * NUM_ENVS + n) % CAPACITY: (time, n) for time in held for n in range(NUM_ENVS)}
    found = []
    for time, n in (slots[i] for i in index.tolist()):
        times = range(time - BURN_IN, time + LENGTH)
        found.append([jax.tree.map(lambda x, n=n: x[0, n], steps[t]) if t in held else None for t in times])
    assert any(window[0] is None for window in found) and any(window[-1] is None for window in found)
    met = {(bool(r.terminated), bool(r.truncated)) for w in found for r in w[BURN_IN:-1] if r is not None}
    assert len(met) == 4
    return found


CASES = [{}, {"discrete": True, "ent_coef": 0.4}]
SLOW = [{"discrete": True}, {"critic": "categorical", "v_min": -2.0, "v_max": 3.0, "num_atoms": 6}]


@pytest.mark.parametrize(
    "fields", [*CASES, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)], ids=str
)
def test_an_update_is_the_plain_one(fields):
    discrete = fields.get("discrete", False)
    cfg, before, after, metrics = updated(**fields)
    learner = Adam(before.learner, cfg.learning_rate, cfg.tau)
    key_sample, key_step = jax.random.split(jax.random.fold_in(KEY, 0))
    key_critic, key_actor = jax.random.split(key_step)
    plain, params = Plain(cfg, drawn_windows(key_sample, discrete), discrete), learner.params
    alpha = jnp.exp(params["log_alpha"]) if cfg.ent_coef is None else cfg.ent_coef
    targets = plain.targets(params, learner.target, alpha, key_critic)
    gradient, report = jax.grad(plain.critic_loss, has_aux=True)(params["q"], targets)
    learner.descend("q", gradient)
    args = params["pi"], learner.params["q"], alpha, key_actor
    gradient, more = jax.grad(plain.actor_loss, has_aux=True)(*args)
    learner.descend("pi", gradient)
    if cfg.ent_coef is None:
        learner.descend("log_alpha", more["pi/entropy"] - (np.log(ACTIONS) / 2 if discrete else -2.0))
    learner.follow()
    expected_metrics = report | more | {"pi/alpha": alpha}
    assert set(after.learner.params) == set(learner.params)
    for name, expected in (learner.params | {"target": learner.target}).items():
        found = after.learner.target["q"] if name == "target" else after.learner.params[name]
        old = before.learner.target["q"] if name == "target" else before.learner.params[name]
        for x, y, z in zip(*map(jax.tree.leaves, (found, expected, old)), strict=True):
            np.testing.assert_allclose(x, y, 1e-5, 1e-5, err_msg=name)
            assert np.abs(x - z).max() > 1e-4, f"{name} hardly moved"
    assert {*metrics} == {*expected_metrics}
    for name, value in metrics.items():
        np.testing.assert_allclose(value, expected_metrics[name], 1e-4, 1e-5, err_msg=name)


@pytest.mark.parametrize("env", ["pendulum", pytest.param("cartpole", marks=pytest.mark.slow)])
def test_acting_is_a_pass_through_each_episode_alone(env):
    """Every episode starts from zeros, and its actions are those of the RNN run over its own rows."""
    cfg = tiny("recurrent_sac", env, **{"hidden_sizes": (5,), "rnn_size": 4, "num_envs": 3})
    driver, discrete = purerl.make_driver(cfg), env == "cartpole"
    state = jax.jit(driver.init)(jax.random.key(0), {})
    learned = state.algo._replace(replay=())
    policy = lambda carry, obs, key: driver.algo.act(learned, carry, obs, key, 0, explore=False)
    unroll = jax.jit(
        lambda: rollout.unroll(driver.env, policy, state.env, state.carry, jax.random.key(1), 16)
    )
    rows = jax.tree.map(np.asarray, unroll()[2])
    params, ends = learned.learner.params["pi"], 0
    for n in range(3):
        h = previous = None
        for t in range(16):
            if h is None:
                h, previous = jnp.zeros(4), jnp.zeros(2 if discrete else 1)
            h = remember(params, h, rows.obs[t, n], previous)
            out, action = head(params, h), rows.action[t, n]
            expected = np.argmax(out) if discrete else np.tanh(out[:1])
            np.testing.assert_allclose(action, expected, 1e-4, 1e-5)
            previous = jnp.float32(np.arange(2) == action) if discrete else action
            if rows.terminated[t, n] or rows.truncated[t, n]:
                h, ends = None, ends + 1
    assert ends > 3


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_networks_of_the_user_are_tried(env):
    """With the inputs that they get: the previous action as a vector, features in the place of `obs`."""
    cfg = tiny("recurrent_sac", env)
    spec = purerl.make.spec_of(purerl.make_env(env))
    defaults, size = recurrent_sac.default_networks(cfg, spec), 2 if env == "cartpole" else 1

    def core(params, carry, obs, previous):
        assert previous.shape == (len(obs), size) and previous.dtype == jnp.float32
        return carry, jnp.concatenate([carry, obs, previous], -1)

    def head(name):
        def apply(params, x, *action):
            assert x.shape[1] == 8 + spec.observation_space.shape[0] + size
            assert len(action) == (name == "q" and env == "pendulum")
            return defaults[name].apply(params, x, *action)

        return defaults[name].init, apply

    mine = {"core": (lambda key, carry, obs, previous: {}, core), "pi": head("pi"), "q": head("q")}
    algo = purerl.make_algorithm(cfg, networks=mine)
    jax.eval_shape(algo.init, jax.random.key(0))
    narrow = {"core": (lambda *inputs: {}, lambda params, carry, *rest: (carry[:, :3], carry))}
    with pytest.raises(ConfigError, match=re.escape("expected (carry [B, 8], features [B, H])")):
        purerl.make_algorithm(cfg, networks=narrow)


REFUSED = [
    ({"n_step": 2}, "n_step = 2: expected 1"),
    ({"prioritised": True}, "prioritised = True: expected False"),
    ({"norm": "batch"}, "norm = 'batch': expected none or layer"),
    ({"sequence_length": 10, "burn_in": 2}, "sequence_length = 10: expected with burn_in at most 11"),
    (
        {"total_timesteps": 20, "burn_in": 4, "sequence_length": 7},
        "at most 10, the steps of an environment in the replay buffer, got 11",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=str)
def test_what_it_does_not_support_is_refused(fields, message):
    cfg = tiny("recurrent_sac", "pendulum", **fields)
    with pytest.raises(ConfigError, match=re.escape(message)):
        purerl.make_algorithm(cfg)
    fits = dataclasses.replace(cfg, n_step=1, prioritised=False, norm="layer", sequence_length=6)
    purerl.make_algorithm(fits)
