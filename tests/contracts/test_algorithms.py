"""One battery for every algorithm: those of the registry, and three that only try the contract.

Each case is tiny, and its programs are compiled once: the chunk of each registry algorithm's first case
as users compile it, since there bits are compared.
"""

import collections
import dataclasses
import itertools
import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from gymnasium import spaces
from throwaways.ddpg_ou import DDPGConfig
from throwaways.td3 import TD3Config

import purerl
from purerl import registry
from purerl.config import Config, ConfigError, from_dict, leaves
from purerl.health import split_replay
from purerl.make import spec_of
from purerl.metrics import summarise
from purerl.types import Transition

SEEDS = 4
CAPACITY = 22
"""Of the replay memory: a size that no other axis has, and fewer rows than the run makes."""
SMALL = {
    "num_envs": 2,
    "num_steps": 4,
    "num_epochs": 2,
    "num_minibatches": 2,
    "total_timesteps": 40,
    "log_interval": 16,
    "eval_interval": 16,
    "eval_episodes": 3,
    "learning_rate": 0.03,
    "value_learning_rate": 0.03,
    "learning_starts": 8,
    "batch_size": 4,
    "buffer_size": CAPACITY,
    "hidden_sizes": (8,),
    "rnn_size": 8,
}
"""Fields of the tiny runs, for the algorithms that have them."""
ENVIRONMENTS = {  # both kinds of ends within a few steps, and returns that tell seeds apart
    "cartpole": {"angle_limit": 0.05, "max_episode_steps": 7},
    "pendulum": {"max_episode_steps": 5},
}
LAMBDA = {"value_lambda": 0.8}
SWITCHED_ON = {
    "sac": {"target_entropy": -1.0},
    "a2c": LAMBDA | {"shared_torso": True},
    "ppo": LAMBDA
    | {"normalize_reward": True, "recompute_advantages": True, "early_stop_kl": 0.05, "value_clip_eps": 0.1},
    "recurrent_ppo": LAMBDA,
    "trpo": LAMBDA | {"layer_norm": True, "target_kl": 0.2},  # so far that the search turns back
}
"""Switches and optional real fields that are off by default."""
ONLY_CONTINUOUS = {"init_log_std"}
"""Leaves that mean nothing to a policy over indices."""
VARIANTS = {
    "sac-fixed_temperature": ("sac-pendulum", {"ent_coef": 0.2, "target_entropy": None}),
    "ppo-penalty": ("ppo-pendulum", {"clip_eps": None, "kl_penalty_target": 0.05, "early_stop_kl": None}),
}
"""Cases whose leaves another case cannot have, as (case, other fields)."""
THROWAWAYS = (DDPGConfig, TD3Config)
CONFIGS = (*map(registry.config_class, registry.ALGORITHMS), *THROWAWAYS)


def tiny(cls: type[Config], env: str, **fields: Any) -> Config:
    known = {field.name for field in dataclasses.fields(cls)}
    values = {name: value for name, value in SMALL.items() if name in known}
    values |= SWITCHED_ON.get(cls.algo, {}) | {"env": env, "env_kwargs": ENVIRONMENTS[env]} | fields
    return from_dict(cls, values)


def suits(cfg: Config) -> bool:
    env = purerl.make_env(cfg.env)
    try:
        registry.algorithm_module(cfg).validate(cfg, spec_of(env))
    except ConfigError as error:
        assert error.field == "env", error
        return False
    return True


def cases() -> dict[str, Config]:
    """Registry algorithms on every environment that suits them, throw-aways on the first."""
    found: dict[str, Config] = {}
    for cls in CONFIGS:
        fit = [cfg for env in ENVIRONMENTS if suits(cfg := tiny(cls, env))]
        assert fit, f"{cls.algo} suits none of {', '.join(ENVIRONMENTS)}"
        kept = fit if cls.algo in registry.ALGORITHMS else fit[:1]
        found |= {f"{cfg.algo}-{cfg.env}": cfg for cfg in kept}
    return found


CASES = cases()


def is_first(cfg: Config) -> bool:
    return cfg is next(other for other in CASES.values() if other.algo == cfg.algo)


def seed_keys(*seeds: int) -> jax.Array:
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))(jnp.array(seeds))


def is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def plain(leaf) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def lane(tree, i):
    """Seed i of `tree`, in numpy: an eager JAX operation would compile for every shape."""
    return jax.tree.map(lambda leaf: plain(leaf)[i], tree)


def on_device(tree, like):
    """`tree`, as `lane` or `plain` make it, in arrays and keys again, as in `like`."""
    wrap = lambda leaf, like: jax.random.wrap_key_data(leaf) if is_key(like) else leaf
    return jax.tree.map(lambda leaf, like: wrap(jnp.asarray(leaf), like), tree, like)


def same_bits(a, b) -> bool:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(plain(x).tobytes() == plain(y).tobytes() for x, y in pairs)


def assert_close(a, b, rtol=2e-4, atol=2e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(plain(x), plain(y), rtol, atol, err_msg=jax.tree_util.keystr(path))


def changed_floats(tree, change, where=lambda path: True):
    """`tree` with `change` applied to the float leaves whose path satisfies `where`."""

    def one(path, leaf):
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(change(plain(leaf))) if is_float and where(jax.tree_util.keystr(path)) else leaf

    return jax.tree.map_with_path(one, tree)


class Trained(NamedTuple):
    start: Any
    """After the warm-up."""
    states: list
    """After each row."""
    tallies: list


class Lab:
    """A case's few programs, for `SEEDS` seeds side by side with every leaf of the config batched."""

    def __init__(self, cfg: Config):
        """Trains all rows once, with the defaults."""
        self.cfg, self.driver, self.algo = cfg, purerl.make_driver(cfg), purerl.make_algorithm(cfg)
        self.schedule = self.driver.schedule
        self.traces: collections.Counter[str] = collections.Counter()

        def chunk(state, step, hyper):
            self.traces["chunk"] += 1
            return self.driver.chunk(state, step, hyper, self.schedule.iterations)

        self.plain_chunk = lambda *args: self.driver.chunk(*args, self.schedule.iterations)
        self.init = jax.jit(jax.vmap(self.driver.init))
        self.plain_warmup = lambda state, hyper: self.driver.warmup(
            state, jnp.int32(0), hyper, self.schedule.warmup_steps // self.schedule.iteration_steps
        )
        self.warmup = jax.jit(jax.vmap(self.plain_warmup))
        as_users_do = cfg.algo in registry.ALGORITHMS and is_first(cfg)
        options = AS_USERS_DO if as_users_do else None
        self.chunk = jax.jit(
            jax.vmap(chunk, in_axes=(0, None, 0)), donate_argnums=0, compiler_options=options
        )
        self.copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))
        self.evaluate = jax.jit(jax.vmap(self.driver.evaluate, in_axes=(0, None, 0)))
        self.keys = seed_keys(0, 1, 2, 3)
        self.baseline = self.run(self.keys)
        last = self.baseline.states[-1]
        self.single = on_device(lane(last, 0), last)
        self.transition = jax.jit(self.make_transition)(jax.random.key(1))

    def hyper(self, **changes):
        defaults = {name: np.full(SEEDS, value) for name, value in leaves(self.cfg).items()}
        return {name: jnp.asarray(value, jnp.float32) for name, value in (defaults | changes).items()}

    def start(self, keys, hyper):
        state = self.init(keys, hyper)
        return self.warmup(state, hyper)[0] if self.schedule.warmup_steps else state

    def step(self, row):
        return jnp.int32(self.schedule.warmup_steps + row * self.schedule.row_steps)

    def row(self, state, row, hyper=None):
        return self.chunk(self.copy(state), self.step(row), self.hyper() if hyper is None else hyper)

    def run(self, keys, hyper=None) -> Trained:
        hyper = self.hyper() if hyper is None else hyper
        start = state = self.start(keys, hyper)
        states, tallies = [], []
        for row in range(self.schedule.rows):
            state, tally = self.row(state, row, hyper)
            states.append(state)
            tallies.append(tally)
        return Trained(start, states, tallies)

    def make_transition(self, key) -> Transition:
        """A rollout `[T, N]` of noise, with the extras that this algorithm's `act` makes."""
        space, action = self.driver.env.observation_space, self.driver.env.action_space
        lead = self.algo.num_steps, self.algo.num_envs
        keys = jax.random.split(key, 6)
        obs, next_obs = (jax.random.normal(k, (*lead, *space.shape)) for k in keys[:2])
        shapes = jax.eval_shape(self.act(True), self.single.algo, self.carry(), obs[0], key)[2]
        noise = lambda leaf: -jnp.abs(jax.random.normal(keys[2], lead + leaf.shape[1:]))
        extras = jax.tree.map(noise, shapes)
        if isinstance(action, spaces.Discrete):
            actions = jax.random.randint(keys[3], lead, 0, int(action.n))
        else:
            actions = jax.random.uniform(keys[3], (*lead, *action.shape), minval=-1.0)
        ends = jax.random.bernoulli(keys[4], 0.3, (2, *lead))
        return Transition(obs, actions, jax.random.normal(keys[5], lead), next_obs, *ends, extras)

    def carry(self):
        return self.algo.init_carry(self.algo.num_envs)

    def act(self, explore):
        return partial(self.algo.act, step=jnp.int32(0), explore=explore)


@pytest.fixture(scope="module", params=CASES)
def lab(request):
    return Lab(CASES[request.param])


def only_first_case(lab):
    """Skip what costs a compilation of its own and does not depend on the environment."""
    if not is_first(lab.cfg):
        pytest.skip("tried on this algorithm's first environment")


def test_every_algorithm_of_the_registry_has_a_case():
    assert {cfg.algo for cfg in CASES.values()} >= set(registry.ALGORITHMS)


# Shapes and types


def avals(tree):
    """The structure, and what jit looks at in each leaf."""
    kinds = [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), kinds


def test_act_keeps_the_carry_and_gives_actions_of_the_space(lab):
    env, num_envs = lab.driver.env, lab.algo.num_envs
    space, obs_space = env.action_space, env.observation_space
    obs = jax.ShapeDtypeStruct((num_envs, *obs_space.shape), obs_space.dtype)
    for explore in (True, False):
        args = lab.single.algo, lab.carry(), obs, lab.keys[0]
        action, carry, extras = jax.eval_shape(lab.act(explore), *args)
        assert action.shape == (num_envs, *space.shape)
        assert action.dtype == (jnp.int32 if isinstance(space, spaces.Discrete) else jnp.float32)
        assert avals(carry) == avals(lab.carry())
        assert all(leaf.shape[0] == num_envs for leaf in jax.tree.leaves((carry, extras)))
    assert not any(leaf.any() for leaf in jax.tree.leaves(lab.carry())), "zeros mean fresh"


def test_observe_and_update_keep_the_state_as_it_is(lab):
    state, transition = jax.eval_shape(lab.algo.init, lab.keys[0]), lab.transition
    updated, metrics = jax.eval_shape(lab.algo.update, state, transition, lab.keys[0], jnp.int32(8))
    observed = jax.eval_shape(lab.algo.observe, state, transition)
    warm = jax.eval_shape(lab.algo.observe, state, transition._replace(extras=()))
    assert avals(updated) == avals(observed) == avals(warm) == avals(state)
    assert metrics and all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in metrics.values())
    assert not any(weak_type for _, _, weak_type in avals(state)[1])


# Randomness


def test_the_same_keys_give_the_same_bits(lab):
    assert same_bits(lab.run(lab.keys), lab.baseline)


def test_different_keys_give_different_parameters_actions_and_returns(lab):
    last = lab.baseline.states[-1]
    returns = np.stack([tallies["episode/return"].mean for tallies in lab.baseline.tallies], axis=1)
    lived = np.concatenate([returns, plain(last.env.obs).reshape(SEEDS, -1)], axis=1)
    first = jax.tree.leaves_with_path(lab.baseline.start.algo)  # training soon tells all seeds apart
    kernels = [plain(leaf) for path, leaf in first if "kernel" in jax.tree_util.keystr(path)]
    assert kernels
    act = jax.jit(jax.vmap(lab.act(True), in_axes=(0, None, None, 0)))
    obs = jnp.zeros((32, *lab.driver.env.observation_space.shape))
    carry = lab.algo.init_carry(32)
    untrained = lab.baseline.start.algo  # training may have made up its mind
    same_state = jax.tree.map(lambda leaf: jnp.asarray(plain(leaf)[[0] * SEEDS]), untrained)
    actions, noises = (plain(act(s, carry, obs, lab.keys)[0]) for s in (last.algo, same_state))
    for i, j in itertools.combinations(range(SEEDS), 2):
        assert all((kernel[i] != kernel[j]).any() or not kernel.any() for kernel in kernels)
        assert (actions[i] != actions[j]).any() and (noises[i] != noises[j]).any()
        assert (lived[i] != lived[j]).any()


def test_the_same_state_meets_other_noise_at_another_step(lab):
    (first, _), (second, _) = (lab.row(lab.baseline.start, row) for row in range(2))
    assert (plain(first.env.obs) != plain(second.env.obs)).any(axis=(1, 2)).all()


def test_the_deterministic_policy_ignores_the_key(lab):
    act = jax.jit(jax.vmap(lab.act(False), in_axes=(None, None, None, 0)))
    obs = jax.random.normal(jax.random.key(3), (32, *lab.driver.env.observation_space.shape))
    actions = act(lab.single.algo, lab.algo.init_carry(32), obs, lab.keys)[0]
    assert (actions == actions[0]).all()


def test_no_key_is_used_twice(lab):
    state, transition, carry, key = lab.single, lab.transition, lab.carry(), jax.random.key(2)
    step, now = lab.step(0), jnp.int32(8)
    functions = {
        "init": lambda state, key: lab.algo.init(key),
        "act": lambda state, key: lab.act(True)(state.algo, carry, transition.obs[0], key),
        "update": lambda state, key: lab.algo.update(state.algo, transition, key, now),
        "chunk": lambda state, key: lab.plain_chunk(state, step, {}),
        "evaluate": lambda state, key: lab.driver.evaluate(state, step, {}),
    }
    if lab.schedule.warmup_steps:
        functions["warmup"] = lambda state, key: lab.plain_warmup(state, {})
    with jax.debug_key_reuse(True):
        for function in functions.values():
            jax.jit(function).lower(state, key)


# One program, whatever runs it


def test_update_without_jit_agrees(lab):
    only_first_case(lab)
    args = lab.single.algo, lab.transition, jax.random.key(2), jnp.int32(16)
    compiled = jax.jit(lab.algo.update)(*args)
    assert_close(lab.algo.update(*args), compiled)


@pytest.fixture(scope="module")
def whole(lab):
    """`make_train` of seeds 0 and 1, each alone in the one-program form."""
    only_first_case(lab)
    train = jax.jit(purerl.make_train(lab.cfg), compiler_options=AS_USERS_DO)
    return [train(lab.keys[i]) for i in range(2)]


def test_a_seed_alone_in_one_program_agrees_with_the_chunks_of_many(lab, whole):
    first_row = 1 if lab.schedule.warmup_steps else 0
    for i, out in enumerate(whole):
        assert_close(out.state, lane(lab.baseline.states[-1], i))
        for row, tallies in enumerate(lab.baseline.tallies):
            expected = summarise(lane(tallies, i), np.int32(-1))
            assert_close({name: out.metrics[name][first_row + row] for name in expected}, expected)


def test_evaluation_changes_nothing_else(lab, whole):
    if lab.cfg.algo not in registry.ALGORITHMS:
        pytest.skip("costs a compilation of its own")
    silent = dataclasses.replace(lab.cfg, eval_interval=0)
    train = jax.jit(purerl.make_train(silent), compiler_options=AS_USERS_DO)
    out = train(lab.keys[0])
    assert same_bits(out.state, whole[0].state)
    assert not any(name.startswith("eval/") for name in out.metrics)
    assert np.isfinite(whole[0].metrics["eval/return"][-1])


def test_evaluation_depends_on_nothing_but_its_arguments(lab):
    state, hyper = lab.baseline.states[0], lab.hyper()
    before = lab.copy(state)
    first, again = (lab.evaluate(state, lab.step(1), hyper) for _ in range(2))
    later = lab.evaluate(state, lab.step(2), hyper)
    assert same_bits(state, before) and same_bits(first, again)
    if lab.cfg.env == "pendulum":
        assert (first["eval/return"].mean != later["eval/return"].mean).all()


def test_steps_are_counted_as_they_are_made(lab, whole):
    schedule, out = lab.schedule, whole[0]
    warm, per_row = schedule.warmup_steps, schedule.row_steps
    assert schedule.total_steps >= lab.cfg.total_timesteps > schedule.total_steps - per_row
    assert warm == lab.algo.warmup_steps and warm % schedule.iteration_steps == 0
    steps = [warm] * bool(warm) + [warm + per_row * (i + 1) for i in range(schedule.rows)]
    assert list(out.metrics["step"]) == steps and steps[-1] == schedule.total_steps
    finished = np.nan_to_num(out.metrics["episode/count"] * out.metrics["episode/length"]).sum()
    assert finished + out.state.env.episode_length.sum() == schedule.total_steps


def test_a_saved_state_goes_on_as_if_never_stopped(lab):
    state = lab.baseline.states[0]
    saved = jax.tree.map(plain, state)
    restored = on_device(saved, state)
    for row in range(1, lab.schedule.rows):
        restored, tallies = lab.row(restored, row)
    assert same_bits((restored, tallies), (lab.baseline.states[-1], lab.baseline.tallies[-1]))


# Seeds side by side


def test_neighbours_do_not_change_a_seed(lab):
    base = lab.baseline
    for seeds in ((0, 7, 8, 9), (2, 0, 3, 1)):
        other = lab.run(seed_keys(*seeds))
        for i, seed in enumerate(seeds):
            if seed < SEEDS:
                assert same_bits(lane(other, i), lane(base, seed))


def test_a_neighbour_of_nans_does_not_change_a_seed(lab):
    sick = 1
    start = lab.baseline.start
    rows = np.arange(SEEDS) == sick
    poison = lambda leaf: np.where(rows.reshape(-1, *[1] * (leaf.ndim - 1)), np.float32(np.nan), leaf)
    state = start._replace(algo=changed_floats(start.algo, poison))
    for row in range(lab.schedule.rows):
        state, tallies = lab.row(state, row)
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(lane(state.algo, sick)))
    first_chunk = int(lab.step(1))
    assert state.diverged_at.tolist() == [first_chunk if i == sick else -1 for i in range(SEEDS)]
    assert not any(tally.count[sick] for tally in tallies.values()), "its later rows are blank"
    for i in {*range(SEEDS)} - {sick}:
        well = lane((state, tallies), i)
        assert same_bits(well, lane((lab.baseline.states[-1], lab.baseline.tallies[-1]), i))


def test_a_seed_that_diverges_falls_back_to_what_it_knew(lab):
    """One infinite learning rate: that seed keeps the chunk's start for good, healthy again or not."""
    sick, known = 2, lab.baseline.states[0]
    rate = "learning_rate" if "learning_rate" in leaves(lab.cfg) else "value_learning_rate"
    rates = np.full(SEEDS, leaves(lab.cfg)[rate])
    rates[sick] = np.inf
    state, tallies = lab.row(known, 1, lab.hyper(**{rate: rates}))
    before, after = (split_replay(lane(s.algo, sick))[0] for s in (known, state))
    assert same_bits(after, before)
    assert state.diverged_at.tolist() == [int(lab.step(2)) if i == sick else -1 for i in range(SEEDS)]
    assert tallies["episode/return"].count[sick] > 0, "the row in which it happened is shown"
    later, _ = lab.row(state, 2)
    assert same_bits(split_replay(lane(later.algo, sick))[0], before)
    assert (later.diverged_at == state.diverged_at).all()


# Hyperparameters


def without_effect(lab) -> list[str]:
    """Leaves of the config whose change leaves every bit of a seed's training as it was."""
    discrete = isinstance(lab.driver.env.action_space, spaces.Discrete)
    useless, names = [], sorted(set(leaves(lab.cfg)) - (ONLY_CONTINUOUS if discrete else set()))
    for three in (names[i : i + SEEDS - 1] for i in range(0, len(names), SEEDS - 1)):
        values = {name: np.full(SEEDS, leaves(lab.cfg)[name]) for name in three}
        for i, name in enumerate(three):
            values[name][i + 1] = 0.1 * values[name][0] or 0.5
        trained = lab.run(seed_keys(0, 0, 0, 0), lab.hyper(**values))
        state = trained.states[-1]
        useless += [name for i, name in enumerate(three) if same_bits(lane(state, i + 1), lane(state, 0))]
        for i in range(len(three) + 1, SEEDS):
            assert same_bits(lane(trained, i), lane(trained, 0))
    return useless


def test_every_leaf_has_an_effect(lab):
    assert leaves(lab.cfg).keys() >= {"gamma"}
    assert without_effect(lab) == []


@pytest.mark.parametrize("name", VARIANTS)
def test_every_leaf_of_a_variant_has_an_effect(name):
    case, fields = VARIANTS[name]
    variant = Lab(dataclasses.replace(CASES[case], **fields))
    assert without_effect(variant) == []


def test_every_optional_leaf_is_tried():
    tried = collections.defaultdict(set)
    variants = [dataclasses.replace(CASES[case], **fields) for case, fields in VARIANTS.values()]
    for cfg in [*CASES.values(), *variants]:
        tried[type(cfg)] |= set(leaves(cfg))
    for cls, names in tried.items():
        assert names == {f.name for f in dataclasses.fields(cls) if f.metadata["rule"].kind == "real"}


def test_other_values_do_not_trace_again(lab):
    hyper = lab.hyper(**{name: np.linspace(0.4, 0.6, SEEDS) for name in leaves(lab.cfg)})
    state, _ = lab.row(lab.baseline.start, 0, hyper)
    state, _ = lab.row(state, 1, lab.hyper())
    assert lab.traces["chunk"] == 1 and lab.chunk._cache_size() == 1


def test_a_fresh_state_names_no_array_twice(lab):
    variables = jax.make_jaxpr(lab.algo.init)(lab.keys[0]).jaxpr.outvars
    assert len(set(map(id, variables))) == len(variables)


def test_the_state_can_be_donated(lab):
    state = lab.init(lab.keys, lab.hyper())
    if lab.schedule.warmup_steps:
        state, _ = lab.warmup(state, lab.hyper())
    once, _ = lab.chunk(state, lab.step(0), lab.hyper())
    kernel = jax.tree.leaves(state.algo)[0]
    twice, _ = lab.chunk(once, lab.step(1), lab.hyper())
    assert kernel.is_deleted()
    assert same_bits(twice, lab.baseline.states[1])


# Robustness


def test_saturated_networks_give_finite_losses(lab):
    start = lab.baseline.start
    algo = changed_floats(start.algo, lambda leaf: leaf * np.float32(1e3), lambda path: "params" in path)
    state = start._replace(algo=algo)
    for row in range(lab.schedule.rows):
        state, tallies = lab.row(state, row)
        for name, tally in tallies.items():
            if not name.startswith("episode/"):
                assert (tally.count >= 1).all() and np.isfinite(tally.mean).all(), name
    for path, leaf in jax.tree.leaves_with_path(state.algo):
        assert np.isfinite(plain(leaf)).all(), jax.tree_util.keystr(path)


# The programs themselves


def equations(jaxpr):
    """Every equation of `jaxpr`, those of its inner programs included."""
    inner = lambda value: hasattr(getattr(value, "jaxpr", value), "eqns")
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=inner):
            if inner(value):
                yield from equations(getattr(value, "jaxpr", value))


@pytest.fixture(scope="module")
def chunk_equations(lab):
    chunk = jax.vmap(lab.plain_chunk, in_axes=(0, None, 0))
    return list(equations(jax.make_jaxpr(chunk)(lab.baseline.start, lab.step(0), lab.hyper()).jaxpr))


def memory_ops(text: str) -> set[str]:
    """What the compiled program `text` makes arrays of the replay memory's size with."""
    shape = rf"\w+\[(?:{SEEDS},)?{CAPACITY}[\d,]*\]"
    return set(re.findall(rf"= {shape}\S* ([\w-]+)\(", text))


@pytest.mark.parametrize("form", ["alone", "side by side"])
def test_only_the_write_touches_the_whole_memory(lab, form):
    if not hasattr(lab.cfg, "buffer_size") or lab.cfg.algo not in registry.ALGORITHMS:
        pytest.skip("has no replay memory of its own")
    chunk, args = lab.plain_chunk, (lab.single, lab.step(0), {})
    if form == "side by side":
        chunk, args = jax.vmap(chunk, in_axes=(0, None, 0)), (lab.baseline.start, lab.step(0), lab.hyper())
    program = jax.jit(chunk, donate_argnums=0, compiler_options=AS_USERS_DO).lower(*args).compile()
    found = memory_ops(program.as_text())
    writes, names = (
        {"scatter", "dynamic-update-slice"},
        {"parameter", "get-tuple-element", "fusion", "bitcast"},
    )
    assert found & writes, "the memory was not found"
    assert found <= writes | names, "the whole memory is copied or selected at every step"


def test_no_branch_returns_the_replay_memory(lab, chunk_equations):
    for equation in chunk_equations:
        if equation.primitive.name == "cond":
            assert not any(CAPACITY in variable.aval.shape for variable in equation.outvars), equation


def test_the_delayed_update_stays_a_branch(lab, chunk_equations):
    if not hasattr(lab.cfg, "policy_delay"):
        pytest.skip("has no delayed update")
    branches = [equation for equation in chunk_equations if equation.primitive.name == "cond"]
    kernels = [e for e in branches if any(len(v.aval.shape) >= 3 for v in e.outvars)]
    assert len(kernels) == 1
    assert kernels[0].invars[0].aval.shape == ()


def test_no_lapack_and_no_fft_in_any_program(lab):
    hyper, start = lab.hyper(), lab.baseline.start
    chunk = jax.jit(jax.vmap(lab.plain_chunk, in_axes=(0, None, 0)))
    programs = {
        "init": lab.init.lower(lab.keys, hyper),
        "chunk": chunk.lower(start, lab.step(0), hyper),
        "evaluate": lab.evaluate.lower(start, lab.step(0), hyper),
    }
    if lab.schedule.warmup_steps:
        programs["warmup"] = lab.warmup.lower(start, hyper)
    for name, program in programs.items():
        text = program.as_text()
        found = re.findall(r"lapack_\w+|blas_\w+|stablehlo\.(?:fft|cholesky|triangular_solve)", text)
        assert not found, (name, found)
        assert not re.findall(r"custom_call @(?!Sharding)\w+", text), name
