"""DQN: an update is the plain one, row by row, for every switch; exploration; copies for the target."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from tiny import tiny

import purerl
from purerl.algos import dqn, epsilon_greedy, off_policy
from purerl.config import ConfigError
from purerl.replay.buffer import make_buffer
from purerl.types import EnvSpec, Transition

SPEC = EnvSpec("invented", spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Discrete(4))
NUM_ENVS, UPDATES, HISTORY = 3, 2, 10
STEP, KEY = NUM_ENVS * HISTORY, jax.random.key(5)
FIELDS = {
    "num_envs": NUM_ENVS,
    "buffer_size": 18,
    "total_timesteps": 60,
    "batch_size": 6,
    "updates_per_step": UPDATES,
    "hidden_sizes": (7, 6),
    "learning_rate": 0.01,
    "adam_eps": 1e-3,
    "gamma": 0.9,
    "target_period": 3,
}
RAINBOW = {"double": True, "dueling": True, "noisy": True, "prioritised": True, "n_step": 3}
ATOMS = {"critic": "categorical", "num_atoms": 7, "v_min": -2.0, "v_max": 3.0}
IMPLICIT = {"critic": "implicit", "num_quantiles": 5}
CASES = {
    "plain": {},
    "square": {"loss": "square"},
    "clipped": {"max_grad_norm": 0.01},
    "soft": {"tau": 0.3, "target_period": 1},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "noisy": {"noisy": True},
    "layer_norm": {"layer_norm": True},
    "munchausen": {"munchausen": True, "munchausen_tau": 0.3, "munchausen_clip": 0.5},
    "categorical": ATOMS,
    "quantile": {"critic": "quantile", "num_quantiles": 5, "huber_delta": 0.3},
    "huber": {"huber_delta": 0.3},
    "implicit": IMPLICIT,
    "rainbow": RAINBOW | ATOMS,
    "implicit-all": RAINBOW | IMPLICIT,
    "munchausen-categorical": ATOMS | {"munchausen": True, "munchausen_tau": 0.3},
    "munchausen-implicit": {
        "critic": "implicit",
        "num_quantiles": 5,
        "munchausen": True,
        "munchausen_tau": 0.5,
    },
}


def made(**fields):
    """Return `(config, algorithm, network)`."""
    cfg = tiny("dqn", "cartpole", **(FIELDS | fields))
    dqn.validate(cfg, SPEC)
    return cfg, dqn.make(cfg, SPEC), dqn.default_networks(cfg, SPEC)["q"]


def transition(seed):
    """Return one step `[1, N]` of the environments, whose episodes end often and in both ways."""
    noise, lead = np.random.default_rng(seed), (1, NUM_ENVS)
    obs, next_obs = noise.normal(size=(2, *lead, 3)).astype(np.float32)
    action = noise.integers(0, 4, lead).astype(np.int32)
    kind = (seed * NUM_ENVS + np.arange(NUM_ENVS)[None]) % 4
    return Transition(obs, action, noise.normal(size=lead).astype(np.float32), next_obs, kind == 1, kind >= 2)


def after_history(algo):
    """Return a state with a full buffer, a target network of its own and moments of several steps."""
    observe, update = jax.jit(algo.observe), jax.jit(algo.update)
    state = jax.jit(algo.init)(jax.random.key(1))
    for seed in range(HISTORY - 2):
        state = observe(state, transition(seed))
    for i in range(2):
        state, _ = update(state, transition(HISTORY - 2 + i), jax.random.key(i), jnp.int32(0))
    other = jax.jit(algo.init)(jax.random.key(2)).learner.target  # it often has another best action
    return state._replace(learner=state.learner._replace(target=other))


class Plain:
    """The update once more: rows one by one, and Adam by its formulas in float64."""

    def __init__(self, cfg, q, learner):
        self.cfg, self.q = cfg, q
        self.params, self.target = learner.params["q"], learner.target["q"]
        adam = next(
            part for part in jax.tree.leaves(learner.opt_state["q"], is_leaf=is_adam) if is_adam(part)
        )
        self.count, self.moments = int(adam.count), (adam.mu, adam.nu)

    def out(self, params, obs, at, noise):
        """Return the outputs `[K, M]` of one row."""
        inputs = (obs[None],) if at is None else (obs[None], at[None])
        out = self.q.apply(params, *inputs, **({"noise": noise} if self.cfg.noisy else {}))[0]
        return out[:, None] if out.ndim == 1 else out

    def mean(self, out):
        """Return the action values `[K]` of outputs `[K, M]`."""
        if self.cfg.critic == "scalar":
            return out[:, 0]
        if self.cfg.critic == "categorical":
            weights = jnp.exp(out - out.max(1, keepdims=True))
            return (weights / weights.sum(1, keepdims=True)) @ jnp.asarray(self.atoms(), jnp.float32)
        return out.mean(1)

    def atoms(self):
        return np.linspace(self.cfg.v_min, self.cfg.v_max, self.cfg.num_atoms)

    def policy(self, out):
        """Return `pi [K]` and `tau log pi [K]` of the Munchausen policy."""
        tau = self.cfg.munchausen_tau
        scores = np.asarray(self.mean(out), np.float64) / tau
        shifted = scores - scores.max()
        log_prob = shifted - np.log(np.exp(shifted).sum())
        return np.exp(log_prob), tau * log_prob

    def target_of(self, row, discount, at, at_next, keys):
        """Return what the outputs of the action should be: a number, probabilities or quantiles."""
        cfg, reward = self.cfg, float(row.reward)
        ahead = self.out(self.target, row.next_obs, at_next, keys[3])
        if cfg.munchausen:
            _, now = self.policy(self.out(self.target, row.obs, at, keys[4]))
            most = 1.0 if cfg.munchausen_clip is None else cfg.munchausen_clip
            reward += 0.9 * float(np.clip(now[row.action], -most, 0.0))
            chance, less = self.policy(ahead)
        else:
            chooser = self.out(self.params, row.next_obs, at_next, keys[5]) if cfg.double else ahead
            chance, less = np.eye(4)[int(np.argmax(self.mean(chooser)))], np.zeros(4)
        ahead = np.asarray(ahead, np.float64)
        if cfg.critic == "scalar":
            return reward + discount * (chance * (ahead[:, 0] - less)).sum()
        if cfg.critic != "categorical":
            return reward + discount * (chance[:, None] * (ahead - less[:, None])).sum(0)
        atoms, mass = self.atoms(), np.zeros(cfg.num_atoms)
        width = atoms[1] - atoms[0]
        for k in range(4):
            probs = np.exp(ahead[k] - ahead[k].max())
            for atom, prob in zip(atoms, probs / probs.sum(), strict=True):
                moved = np.clip(reward + discount * (atom - less[k]), atoms[0], atoms[-1])
                place = (moved - atoms[0]) / width
                below = min(int(place), cfg.num_atoms - 2)
                mass[below] += chance[k] * prob * (1 - (place - below))
                mass[below + 1] += chance[k] * prob * (place - below)
        return mass

    def loss_of(self, out, target, at):
        """Return `(loss, td error)` of one row's outputs `[M]`."""
        delta = 1.0 if self.cfg.huber_delta is None else self.cfg.huber_delta
        huber = lambda e: jnp.where(jnp.abs(e) <= delta, e**2 / 2, delta * (jnp.abs(e) - delta / 2))
        if self.cfg.critic == "scalar":
            error = out[0] - target
            return (error**2 / 2 if self.cfg.loss == "square" else huber(error)), jnp.abs(error)
        if self.cfg.critic == "categorical":
            loss = -(target * (out - jax.nn.logsumexp(out))).sum()
            return loss, loss
        size, loss = len(out), 0.0
        at = (np.arange(size) + 0.5) / size if at is None else at
        for i in range(size):
            for y in target:
                error = y - out[i]
                loss += jnp.where(error < 0, 1 - at[i], at[i]) * huber(error) / delta / size
        return loss, loss

    def step(self, batch, key):
        """Take a gradient step, and return its metrics and TD errors."""
        keys, size = jax.random.split(key, 6), len(batch.weight)
        at = at_next = [None] * size
        if self.cfg.critic == "implicit":
            at, at_next = (jax.random.uniform(k, (size, self.cfg.num_quantiles)) for k in keys[:2])
        rows = [jax.tree.map(lambda leaf, b=b: leaf[b], batch.rows) for b in range(size)]
        targets = [
            self.target_of(row, float(discount), *at_b, keys)
            for row, discount, *at_b in zip(rows, batch.discount, at, at_next, strict=True)
        ]

        def loss(params):
            pairs = zip(rows, at, strict=True)
            outs = [self.out(params, row.obs, at_b, keys[2])[row.action] for row, at_b in pairs]
            found = [self.loss_of(*one) for one in zip(outs, targets, at, strict=True)]
            total = sum(w * one for w, (one, _) in zip(batch.weight, found, strict=True)) / size
            value = sum(self.mean(out[None])[0] for out in outs) / size
            return total, ([error for _, error in found], {"q/loss": total, "q/mean": value})

        gradient, (errors, metrics) = jax.grad(loss, has_aux=True)(self.params)
        self.descend(gradient)
        return metrics, jnp.stack(errors)

    def descend(self, gradient):
        cfg = self.cfg
        gradient = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), gradient)
        norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        if cfg.max_grad_norm is not None and norm > cfg.max_grad_norm:
            gradient = jax.tree.map(lambda leaf: leaf * cfg.max_grad_norm / norm, gradient)
        self.count += 1
        first, second = self.moments
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
        self.moments = first, second

        def moved(leaf, m, v):
            m, v = m / (1 - 0.9**self.count), v / (1 - 0.999**self.count)
            return jnp.float32(leaf - cfg.learning_rate * m / (np.sqrt(v) + cfg.adam_eps))

        self.params = jax.tree.map(moved, self.params, first, second)

    def follow(self):
        tau = self.cfg.tau
        self.target = jax.tree.map(lambda new, old: tau * new + (1 - tau) * old, self.params, self.target)


def is_adam(part):
    return hasattr(part, "mu")


def assert_close(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_update_is_the_plain_one(case):
    cfg, algo, q = made(**CASES[case])
    before = after_history(algo)
    after, metrics = jax.jit(algo.update)(before, transition(HISTORY), KEY, jnp.int32(STEP))
    plain, memory = Plain(cfg, q, before.learner), make_buffer(cfg, off_policy.row(SPEC), 18)
    replay, reports = memory.add(before.replay, transition(HISTORY)), []
    for count in range(UPDATES):
        key_sample, key_step = jax.random.split(jax.random.fold_in(KEY, count))
        batch = memory.sample(replay, key_sample, jnp.int32(STEP))
        report, errors = plain.step(batch, key_step)
        replay = memory.update(replay, batch.index, errors)
        reports.append(report)
        if (HISTORY * UPDATES + count + 1) % cfg.target_period == 0:
            plain.follow()
    assert_close(after.learner.params["q"], plain.params)
    assert_close(after.learner.target["q"], plain.target)
    assert_close(after.replay.priority, replay.priority)
    assert set(metrics) == {"q/loss", "q/mean"}
    for name, value in metrics.items():
        np.testing.assert_allclose(value, np.mean([report[name] for report in reports]), 1e-4, 1e-5)
    pairs = zip(*(jax.tree.leaves(state.learner.params["q"]) for state in (after, before)), strict=True)
    assert min(float(jnp.abs(new - old).max()) for new, old in pairs) > 1e-5


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_target_is_the_network_of_the_last_multiple(num_envs):
    """To the bit, and counted in gradient steps, whatever the number of environments."""
    cfg = tiny(
        "dqn", "cartpole", **(FIELDS | {"num_envs": num_envs, "buffer_size": 16, "updates_per_step": 1})
    )
    algo = dqn.make(cfg, SPEC)
    update, state, online = jax.jit(algo.update), algo.init(jax.random.key(0)), []
    for i in range(8):
        step = jax.tree.map(lambda leaf: np.resize(leaf, (1, num_envs, *leaf.shape[2:])), transition(i))
        state, _ = update(state, step, jax.random.key(i), jnp.int32(i * num_envs))
        online.append(state.learner.params["q"])
        last = (i + 1) // 3 * 3
        if last:
            expected, found = online[last - 1], state.learner.target["q"]
            jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_epsilon_falls_linearly_and_stays():
    cfg = SimpleNamespace(epsilon_start=0.9, epsilon_end=0.1, epsilon_fraction=0.5, total_timesteps=200)
    found = [float(epsilon_greedy.epsilon(cfg, jnp.int32(step))) for step in (0, 25, 50, 100, 150, 10**9)]
    np.testing.assert_allclose(found, [0.9, 0.7, 0.5, 0.1, 0.1, 0.1], rtol=1e-6)


def test_uniform_actions_come_with_the_chance_of_the_step():
    """The greedy action, or one of all four, itself included; each row on its own."""
    _, algo, q = made(epsilon_end=0.2, epsilon_fraction=0.5)
    state, obs = after_history(algo), np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    best = np.asarray(q.apply(state.learner.params["q"], obs).argmax(-1))
    act = jax.jit(algo.act, static_argnames="explore")
    for step, chance in ((0, 1.0), (15, 0.6), (60, 0.2)):
        action, _, _ = act(state, (), obs, jax.random.key(step), jnp.int32(step), explore=True)
        assert action.dtype == jnp.int32
        assert np.mean(action != best) == pytest.approx(0.75 * chance, abs=0.015)
        other = np.bincount((np.asarray(action) - best) % 4, minlength=4)[1:]
        assert other.std() < 0.1 * other.mean()
    greedy, _, _ = act(state, (), obs, jax.random.key(0), jnp.int32(0), explore=False)
    np.testing.assert_array_equal(greedy, best)


def test_noise_is_fresh_at_every_step_and_off_at_evaluation():
    _, algo, q = made(noisy=True)
    state, obs = after_history(algo), np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    act = jax.jit(algo.act, static_argnames="explore")
    first, again = (act(state, (), obs, jax.random.key(i), jnp.int32(0), explore=True)[0] for i in range(2))
    assert (np.asarray(first) != np.asarray(again)).any()
    one, other = (act(state, (), obs, jax.random.key(i), jnp.int32(0), explore=False)[0] for i in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, q.apply(state.learner.params["q"], obs).argmax(-1))


def test_noise_is_all_that_explores():
    """No uniform action at step 0, where epsilon would be 1."""
    _, algo, q = made(noisy=True)
    state = after_history(algo)
    params = jax.tree.map_with_path(
        lambda path, leaf: leaf * 0 if path[-1].key.endswith("noise") else leaf, state.learner.params["q"]
    )
    state = state._replace(learner=state.learner._replace(params={"q": params}))
    obs = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    found, _, _ = algo.act(state, (), obs, KEY, jnp.int32(0), explore=True)
    np.testing.assert_array_equal(found, q.apply(params, obs).argmax(-1))


def test_implicit_quantiles_act_by_evenly_spaced_fractions():
    _, algo, q = made(critic="implicit", num_quantiles=4)
    state, obs = after_history(algo), np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    at = np.tile(np.float32([0.125, 0.375, 0.625, 0.875]), (50, 1))
    best = np.asarray(q.apply(state.learner.params["q"], obs, at)).mean(-1).argmax(-1)
    found, _, _ = algo.act(state, (), obs, KEY, jnp.int32(0), explore=False)
    np.testing.assert_array_equal(found, best)


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"noisy": True, "epsilon_end": 0.1}, "epsilon_end", "None: with noisy = True"),
        ({"munchausen": True, "double": True}, "double", "False: with munchausen = True"),
        ({"munchausen_tau": 0.1}, "munchausen_tau", "None: with munchausen = False"),
        ({"num_atoms": 11}, "num_atoms", "51: with critic = scalar"),
        ({"num_quantiles": 11}, "num_quantiles", "32: with critic = scalar"),
        ({"critic": "categorical", "huber_delta": 2.0}, "huber_delta", "None: with critic = categorical"),
        ({"critic": "categorical", "v_max": -10.0}, "v_min", "below v_max = -10.0"),
        ({"critic": "quantile", "v_max": 3.0}, "v_max", "None: with critic = quantile"),
        ({"critic": "implicit", "loss": "square"}, "loss", "huber: with critic = implicit"),
        ({"loss": "square", "huber_delta": 2.0}, "huber_delta", "None: with loss = square"),
        ({"critic": "quantiles"}, "critic", "Did you mean quantile?"),
        ({"env": "pendulum"}, "env", "Use sac for continuous actions"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, field, allowed):
    with pytest.raises(ConfigError) as error:
        purerl.make_algorithm(tiny("dqn", fields.pop("env", "cartpole"), **fields))
    assert error.value.field == field and allowed in str(error.value)


MUTANTS = {
    "double is not": (
        "algos/dqn.py",
        "outputs(params, rows.next_obs, at_next, noise[3]) if cfg.double",
        "outputs(target, rows.next_obs, at_next, noise[3]) if cfg.double",
        "test_an_update_is_the_plain_one[double]",
    ),
    "the online network has the value": (
        "algos/dqn.py",
        "next_out = outputs(target, rows.next_obs",
        "next_out = outputs(params, rows.next_obs",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "one noise for both networks": (
        "algos/dqn.py",
        "next_out = outputs(target, rows.next_obs, at_next, noise[1])",
        "next_out = outputs(target, rows.next_obs, at_next, noise[0])",
        "test_an_update_is_the_plain_one[noisy]",
    ),
    "the same fractions twice": (
        "algos/dqn.py",
        "next_out = outputs(target, rows.next_obs, at_next",
        "next_out = outputs(target, rows.next_obs, at",
        "test_an_update_is_the_plain_one[implicit]",
    ),
    "a bonus without a limit": (
        "algos/dqn.py",
        "jnp.clip(of_action(log_prob, rows.action), -most, 0.0)",
        "of_action(log_prob, rows.action)",
        "test_an_update_is_the_plain_one[munchausen]",
    ),
    "no entropy": (
        "algos/dqn.py",
        "jnp.exp(penalty / tau), penalty)",
        "jnp.exp(penalty / tau), 0.0 * penalty)",
        "test_an_update_is_the_plain_one[munchausen-categorical]",
    ),
    "weights are ignored": (
        "algos/dqn.py",
        "(batch.weight * error).mean()",
        "error.mean()",
        "test_an_update_is_the_plain_one[rainbow]",
    ),
    "gradients without a limit": (
        "algos/dqn.py",
        "optax.chain(clip_gradient(cfg), ",
        "optax.chain(",
        "test_an_update_is_the_plain_one[clipped]",
    ),
    "Adam's own epsilon": (
        "algos/dqn.py",
        ", eps=cfg.adam_eps",
        "",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "the target moves at every step": (
        "algos/dqn.py",
        "every(cfg.target_period, index",
        "every(1, index",
        "test_the_target_is_the_network_of_the_last_multiple[4]",
    ),
    "noise at evaluation": (
        "algos/dqn.py",
        "key if explore else None",
        "key",
        "test_noise_is_fresh_at_every_step_and_off_at_evaluation",
    ),
    "no noise": (
        "algos/dqn.py",
        "key if explore else None",
        "None",
        "test_noise_is_fresh_at_every_step_and_off_at_evaluation",
    ),
    "epsilon beside noise": (
        "algos/dqn.py",
        "if explore and not cfg.noisy:",
        "if explore:",
        "test_noise_is_all_that_explores",
    ),
    "epsilon at evaluation": (
        "algos/dqn.py",
        "if explore and not cfg.noisy:",
        "if not cfg.noisy:",
        "test_uniform_actions_come_with_the_chance_of_the_step",
    ),
    "epsilon goes on falling": (
        "algos/epsilon_greedy.py",
        ", 0.0, 1.0)",
        ", 0.0, 9.0)",
        "test_epsilon_falls_linearly_and_stays",
    ),
    "one chance for all rows": (
        "algos/epsilon_greedy.py",
        "chance < epsilon",
        "chance[0] < epsilon",
        "test_uniform_actions_come_with_the_chance_of_the_step",
    ),
    "any action but the first": (
        "algos/epsilon_greedy.py",
        "(share * actions)",
        "(share * (actions - 1) + 1)",
        "test_uniform_actions_come_with_the_chance_of_the_step",
    ),
    "one number for chance and action": (
        "algos/epsilon_greedy.py",
        "(share * actions)",
        "(chance * actions)",
        "test_uniform_actions_come_with_the_chance_of_the_step",
    ),
    "quantiles at the ends": (
        "algos/return_models.py",
        "+ 0.5) / size",
        "+ 1.0) / size",
        "test_implicit_quantiles_act_by_evenly_spaced_fractions",
    ),
    "drawn fractions are taken as even": (
        "algos/return_models.py",
        "if drawn is None else drawn",
        "if drawn is not None or drawn is None else drawn",
        "test_an_update_is_the_plain_one[implicit]",
    ),
    "a square where it grows linearly": (
        "algos/return_models.py",
        "square if delta is None else optax.huber_loss(error, delta=delta)",
        "square",
        "test_an_update_is_the_plain_one[plain]",
    ),
    "quantiles without their side": (
        "ops/distributional.py",
        "(error < 0).astype(jnp.float32))",
        "0.0)",
        "test_an_update_is_the_plain_one[quantile]",
    ),
}
