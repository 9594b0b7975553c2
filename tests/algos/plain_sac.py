"""An update of SAC with its switches, plainly: loops and formulas in float64, and the same draws."""

from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from plain_networks import Learner, Net, double, ensemble, flat, forward, member
from plain_replay import KEYS, UPDATES, Memory, Play, Rows


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


class Squashed:
    """Actions `[B, A]` of a squashed normal policy, and their log-density `[B, 1]`."""

    def __init__(self, pi: Net, obs: np.ndarray, key: jax.Array, batch: bool):
        out, self.back, self.statistics = forward(pi, obs, batch=batch)
        mean, unbounded = np.split(out, 2, axis=-1)
        log_std, self.inside = np.clip(unbounded, -20, 2), np.abs(unbounded + 9) < 11
        self.noise, self.std = double(jax.random.normal(key, (1, *mean.shape))[0]), np.exp(log_std)
        self.action = np.tanh(mean + self.std * self.noise)
        normal = -(self.noise**2) / 2 - log_std - np.log(2 * np.pi) / 2
        self.log_prob = (normal - np.log1p(-(self.action**2))).sum(-1, keepdims=True)
        self.probability = np.ones_like(self.log_prob)
        self.inputs = (obs, self.action)

    def gradient(self, alpha: float, of_action: np.ndarray) -> Net:
        """Return the gradient of the mean of `alpha log_prob - Q(action)`, with that of Q given."""
        of_u = -of_action * (1 - self.action**2) + alpha * 2 * self.action
        of_log_std = (of_u * self.std * self.noise - alpha) * self.inside
        return self.back(np.concatenate([of_u, of_log_std], -1) / len(of_u))[0]


class Softmax:
    """Probabilities `[B, K]` of all actions and their logarithms."""

    def __init__(self, pi: Net, obs: np.ndarray, key: jax.Array, batch: bool):
        out, self.back, self.statistics = forward(pi, obs, batch=batch)
        self.log_prob = log_softmax(out)
        self.probability, self.inputs = np.exp(self.log_prob), (obs,)

    def gradient(self, alpha: float, value: np.ndarray) -> Net:
        """Return the gradient of the mean of `sum_k p_k (alpha log p_k - value_k)`."""
        cost = alpha * self.log_prob - value
        advantage = cost - (self.probability * cost).sum(-1, keepdims=True)
        return self.back(self.probability * advantage / len(cost))[0]


def projected(probs: np.ndarray, places: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Return the distribution over `atoms [M]` of masses `probs [K]` at `places [K]`, one after the other."""
    found, last = np.zeros(len(atoms)), len(atoms) - 1
    for mass, place in zip(probs, places, strict=True):
        b = min(max((place - atoms[0]) / (atoms[-1] - atoms[0]) * last, 0), last)
        below, above = int(np.floor(b)), int(np.ceil(b))
        if below == above:
            found[below] += mass
        else:
            found[below] += mass * (above - b)
            found[above] += mass * (b - below)
    return found


class Plain:
    """Learner and replay buffer before an update, which takes it."""

    def __init__(self, play: Play, update: int = UPDATES - 1):
        self.play, self.cfg, self.update = play, play.cfg, update
        self.learner = Learner(play.state(update).learner, play.cfg.learning_rate, play.cfg.tau)
        self.memory, self.metrics = Memory(play, update), []
        ends = (-5.0, 5.0) if self.cfg.v_min is None else (self.cfg.v_min, self.cfg.v_max)
        self.atoms = np.linspace(*ends, self.cfg.num_atoms)
        self.categorical, self.batch = self.cfg.critic == "categorical", self.cfg.norm == "batch"
        self.discrete = isinstance(play.space, spaces.Discrete)
        self.policy = Softmax if self.discrete else Squashed
        kinds = {"none": set(), "layer": {"LayerNorm"}, "batch": {"BatchNorm"}}[self.cfg.norm]
        for net in (self.learner.params[name] for name in ("pi", "q")):
            assert {path.split("/")[-2].split("_")[0] for path in net} == {"Dense"} | kinds
        rollout = self.cfg.num_envs * play.algo.num_steps
        first = play.steps[update] // rollout * play.num_updates
        for i in range(play.num_updates):
            key_sample, key_step = jax.random.split(jax.random.fold_in(KEYS[update], i))
            self.step(self.memory.draw(key_sample), key_step, first + i)

    @property
    def alpha(self) -> float:
        if self.cfg.ent_coef is not None:
            return self.cfg.ent_coef
        return float(np.exp(self.learner.params["log_alpha"][""]))

    def aim(self) -> float:
        if self.cfg.target_entropy is not None:
            return self.cfg.target_entropy
        usual = np.log(self.play.space.n) / 2 if self.discrete else -self.play.space.shape[0]
        factor = self.cfg.target_entropy_factor
        return usual if factor is None else factor * usual

    def step(self, rows: Rows, key: jax.Array, index: int) -> None:
        key_critic, key_actor = jax.random.split(key)
        self.metrics.append({"pi/alpha": self.alpha} | self.fit(rows, key_critic))
        if (index + 1) % self.cfg.actor_every == 0:
            self.metrics[-1] |= self.improve(rows.obs, key_actor)
        self.learner.follow()

    # Critics

    def fit(self, rows: Rows, key: jax.Array) -> dict[str, float]:
        """Take a step of both critics."""
        ahead = self.policy(self.learner.params["pi"], rows.next_obs, key, batch=False)
        now = (rows.obs,) if self.discrete else (rows.obs, rows.action)
        outs, backs, statistics, next_outs = [], [], [], []
        for i in range(2):
            net, target = (member(nets["q"], i) for nets in (self.learner.params, self.learner.target))
            if self.batch:  # both batches in one pass, and the gradient of the first half
                both = [np.concatenate(pair) for pair in zip(now, ahead.inputs, strict=True)]
                out, back, moved = forward(net, *both, batch=True)
                next_outs.append(forward(target, *both, batch=True)[0][len(rows.obs) :])
                outs.append(out[: len(rows.obs)])
                backs.append(lambda g, back=back: back(np.concatenate([g, np.zeros_like(g)]))[0])
            else:
                out, back, moved = forward(net, *now)
                next_outs.append(forward(target, *ahead.inputs)[0])
                outs.append(out)
                backs.append(lambda g, back=back: back(g)[0])
            statistics.append(moved)
        target = self.target(rows, ahead, next_outs)
        losses, gradients = zip(*(self.loss(out, target, rows) for out in outs), strict=True)
        weights, size = rows.weight[:, None], len(rows.obs)
        gradient = [back(weights * g / size) for back, g in zip(backs, gradients, strict=True)]
        self.learner.descend("q", ensemble(gradient), ensemble(statistics))
        error = losses if self.categorical else [np.sqrt(2 * loss) for loss in losses]
        self.memory.give_back(rows.index, np.max(error, 0))
        values = [self.value(self.taken(out, rows)) for out in outs]
        return {"q/loss": (rows.weight * losses).mean(-1).sum(), "q/mean": np.mean(values)}

    def target(self, rows: Rows, ahead: Any, outs: list[np.ndarray]) -> np.ndarray:
        """Return targets `[B]`, or distributions `[B, atoms]`."""
        bonus = -self.alpha * ahead.log_prob
        if not self.categorical:
            value = (ahead.probability * (np.minimum(*outs) + bonus)).sum(-1)
            return rows.reward + rows.discount * value
        means = [self.value(out) for out in outs]
        found = []
        for b in range(len(rows.reward)):
            out = outs[0][b] if means[0][b] < means[1][b] else outs[1][b]
            places = rows.reward[b] + rows.discount[b] * (self.atoms + bonus[b])
            found.append(projected(np.exp(log_softmax(out)), places, self.atoms))
        return np.array(found)

    def taken(self, out: np.ndarray, rows: Rows) -> np.ndarray:
        """Return the outputs for the stored actions, `[B, 1]` or `[B, atoms]`."""
        return np.take_along_axis(out, rows.action[:, None], -1) if self.discrete else out

    def value(self, out: np.ndarray) -> np.ndarray:
        """Return action values `[B]`."""
        return np.exp(log_softmax(out)) @ self.atoms if self.categorical else out[:, 0]

    def loss(self, out: np.ndarray, target: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss of each row, and its gradient with respect to `out`."""
        if self.categorical:
            return -(target * log_softmax(out)).sum(-1), np.exp(log_softmax(out)) - target
        error, gradient = self.taken(out, rows)[:, 0] - target, np.zeros_like(out)
        gradient[np.arange(len(out)), rows.action if self.discrete else 0] = error
        return error**2 / 2, gradient

    # The actor

    def improve(self, obs: np.ndarray, key: jax.Array) -> dict[str, float]:
        """Take a step of the actor and of the temperature."""
        now = self.policy(self.learner.params["pi"], obs, key, batch=self.batch)
        alpha, entropy = self.alpha, -(now.probability * now.log_prob).sum(-1).mean()
        critics = [forward(member(self.learner.params["q"], i), *now.inputs) for i in range(2)]
        if self.discrete:
            value = np.minimum(*(out for out, *_ in critics))
            gradient = now.gradient(alpha, value)
        else:
            values = [self.value(out) for out, *_ in critics]
            value, first = np.minimum(*values)[:, None], values[0] < values[1]
            assert 0 < first.sum() < len(first)
            slopes = [self.ascent(out, back)[:, obs.shape[1] :] for out, back, _ in critics]
            gradient = now.gradient(alpha, np.where(first[:, None], *slopes))
        loss = (now.probability * (alpha * now.log_prob - value)).sum(-1).mean()
        self.learner.descend("pi", gradient, now.statistics)
        if self.cfg.ent_coef is None:
            self.learner.descend("log_alpha", {"": double(entropy - self.aim())}, {})
        return {"pi/loss": loss, "pi/entropy": entropy}

    def ascent(self, out: np.ndarray, back: Any) -> np.ndarray:
        """Return the gradient of the value with respect to a critic's inputs."""
        if not self.categorical:
            return back(np.ones_like(out))[1]
        probs = np.exp(log_softmax(out))
        return back(probs * (self.atoms - self.value(out)[:, None]))[1]

    # The comparison

    def check(self) -> None:
        """Raise AssertionError unless the state after the update, and its metrics, are these."""
        before, after = (self.play.state(self.update + i) for i in range(2))
        for kind in ("params", "target"):
            found, plain = getattr(after.learner, kind), getattr(self.learner, kind)
            assert set(found) == set(plain)
            for name, net in found.items():
                assert set(flat(net)) == set(plain[name])
                for path, leaf in flat(net).items():
                    where = f"{kind} {name} {path}"
                    np.testing.assert_allclose(leaf, plain[name][path], 1e-5, 1e-5, err_msg=where)
                    if "batch_stats" in path:
                        continue
                    moved = np.abs(leaf - flat(getattr(before.learner, kind)[name])[path]).max()
                    due = name == "q" or any("pi/loss" in step for step in self.metrics)
                    assert moved > 1e-5 if due else moved == 0, f"{where} moved by {moved}"
        for name, value in self.play.metrics(self.update).items():
            known = [step[name] for step in self.metrics if name in step]
            expected = np.mean(known) if known else np.nan
            np.testing.assert_allclose(value, expected, 1e-4, 1e-5, err_msg=name)
        assert {*self.play.metrics(self.update)} == {"pi/alpha", "pi/loss", "pi/entropy", "q/loss", "q/mean"}
        if self.cfg.prioritised:
            level = after.replay.priority.levels[0]
            found = double(level).reshape(-1)[: self.memory.capacity]
            np.testing.assert_allclose(found, self.memory.priority, 1e-5, 1e-6)
            np.testing.assert_allclose(after.replay.priority.largest, self.memory.largest, 1e-5)
