"""Frames that are stored once, in runs: settings, memory, divergence, checkpoints, the compiled program."""

import dataclasses
import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_USERS_DO
from framed import GAMMA, Case, buffer_of, by_time, check, row_of, stream
from gymnasium import spaces
from tiny import CAPACITY, assert_close, lane, same_bits, tiny

import purerl
from purerl import health, registry
from purerl.algos import off_policy
from purerl.algos.off_policy import State
from purerl.experiment import checkpoint, store
from purerl.experiment.memory import tree_bytes
from purerl.experiment.untrusted import read_manifest
from purerl.replay import frames, n_step, ring
from purerl.types import EnvSpec, TrainState

MUTANTS = {
    "the place of frames is not kept": (
        "health.py",
        '("rows", "priority", "frames")',
        '("rows", "priority", "frames", "newest")',
        "test_a_diverged_member_keeps_its_rows",
    ),
    "no room for the steps of a diverged member": (
        "replay/frames.py",
        "stack.num_frames + most > slots // n",
        "stack.num_frames > slots // n",
        "test_a_diverged_member_keeps_its_rows",
    ),
    "frames are stored up to the rows": (
        "experiment/store.py",
        "checkpoint.Prefix(replay.frames.data, written)",
        "checkpoint.Prefix(replay.frames.data, min(used, slots))",
        "test_a_checkpoint_has_every_frame",
    ),
    "all frames are stored": (
        "experiment/store.py",
        "checkpoint.Prefix(replay.frames.data, written)",
        "checkpoint.Prefix(replay.frames.data, slots)",
        "test_a_checkpoint_has_every_frame",
    ),
    "rows are stored up to those in use": (
        "experiment/store.py",
        "used if written < slots else slots",
        "used",
        "test_a_checkpoint_has_every_frame",
    ),
    "an earlier lap is forgotten": (
        "replay/frames.py",
        "jnp.maximum(state.frames.used, used)",
        "used",
        "test_a_checkpoint_has_every_frame",
    ),
    "a quarter for the resets": (
        "replay/frames.py",
        "SLACK = 1 / 16",
        "SLACK = 1 / 4",
        "test_a_hundred_thousand_pictures",
    ),
    "the last axis before the first": (
        "replay/frames.py",
        "axes[0]) if axes",
        "axes[-1]) if axes",
        "test_stacks_are_on_the_first_or_the_last_axis",
    ),
    "any number of frames": (
        "algos/off_policy.py",
        "if cfg.frame_stack and not frames.stack_of(shape, cfg.frame_stack):",
        "if False:",
        "test_stacks_are_on_the_first_or_the_last_axis",
    ),
    "rollouts may be longer": (
        "replay/frames.py",
        "chex.assert_scalar_non_negative(places - 4 * k * steps)",
        "pass",
        "test_a_rollout_longer_than_planned_is_refused",
    ),
    "rows are read before they are written": (
        "replay/frames.py",
        "    state = store(state, transition._replace(obs=newest[0::2], next_obs=newest[1::2]))\n"
        "    return _without_the_oldest(state, stack, 2 * k * steps)",
        "    state = _without_the_oldest(state, stack, 2 * k * steps)\n"
        "    return store(state, transition._replace(obs=newest[0::2], next_obs=newest[1::2]))",
        "test_the_program_never_copies_the_frames",
    ),
    "frames are selected from": (
        "replay/frames.py",
        "data = data.at[_slots(newest, k, n, len(data))].set(stacks)",
        "data = jnp.where(state.size >= 0, data.at[_slots(newest, k, n, len(data))].set(stacks), data)",
        "test_the_program_never_copies_the_frames",
    ),
    "observations stay slots": (
        "replay/n_step.py",
        "return whole(state, rows), discount[0]",
        "return rows, discount[0]",
        "test_sac_learns_the_same",
    ),
}


def test_a_diverged_member_keeps_its_rows():
    """Its buffer takes no more steps; the frames of those that are taken all the same lie beyond its own."""
    case = Case(2, 1, 4, length=1)
    new, buffer = stream(case), buffer_of(case)
    write, keep = jax.jit(buffer.add), jax.jit(health.with_learned)
    replay = buffer.init()
    for step in range(20):
        replay = write(replay, lane(new, step))
    broken = {"b": jnp.full(2, jnp.nan)}
    state = TrainState(State(broken, replay), (), (), (), jnp.int32(-1))
    for step in range(20, 30):
        state = keep(state, State(broken, write(state.algo.replay, lane(new, step))))
    after, old = state.algo.replay, by_time(new)
    assert (after.head, after.size) == (replay.head, replay.size)
    whole = partial(frames.whole, stack=case.stack, num_envs=case.envs)
    for time in range(20 - int(after.size) // case.envs, 20):
        slots = time * case.envs % case.capacity + jnp.arange(case.envs)
        found = n_step.read(after, slots, case.envs, 1, GAMMA, whole)
        check(*jax.tree.map(np.asarray, found), old, time, 1)


@pytest.mark.parametrize("length", [1, 40])
def test_a_checkpoint_has_every_frame(length, tmp_path):
    """At any moment, before and after frames run out; of the rest no byte."""
    case = Case(2, 1, 3, axis=2, length=length)
    both, buffer = [stream(case, seed) for seed in (0, 1)], buffer_of(case)
    write = jax.jit(jax.vmap(buffer.add))
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), buffer.init())
    env, sizes = SimpleNamespace(episode_length=jnp.zeros((2, case.envs))), []
    for step in range(20):
        state = write(
            state, jax.tree.map(lambda *leaves, step=step: jnp.stack([x[step] for x in leaves]), *both)
        )
        train = TrainState(State({}, state), env, (), (), jnp.int32([-1, -1]))
        snapshot = SimpleNamespace(arrays={}, state=train)
        arrays = store.stored(snapshot)["state"].algo
        checkpoint.save(tmp_path, arrays, {"step": step, "rows": 0})
        sizes.append(checkpoint.size_of(arrays))
        found = checkpoint.load(read_manifest(checkpoint.newest_first(tmp_path)[0]), train.algo)
        assert same_bits(found, train.algo)
    assert sizes[0] < sizes[-1] / 3


def test_a_hundred_thousand_pictures():
    """One frame a row, where two stacks of four have eight."""
    row, capacity = row_of((84, 84, 4)), 100_000
    once = jax.eval_shape(lambda: frames.init(row, capacity, frames.Stack(4, 2), num_envs=1))
    assert once.frames.data.shape == (106_262, 84, 84)
    assert tree_bytes(once) <= 84 * 84 * capacity * (1 + 1 / 16) + 30 * capacity
    assert tree_bytes(jax.eval_shape(lambda: ring.init(row, capacity))) > 8 * 84 * 84 * capacity


def test_stacks_are_on_the_first_or_the_last_axis():
    known = {((84, 84, 4), 4): 2, ((4, 84, 84), 4): 0, ((4, 10, 10, 4), 4): 0, ((4, 17), 4): 0, ((9,), 1): 0}
    assert {key: frames.stack_of(*key).axis for key in known} == known
    assert all(frames.stack_of(*key) is None for key in [((4,), 4), ((84, 4, 84), 4), ((), 2)])
    box = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    spec = EnvSpec("pictures", box, spaces.Discrete(2))
    off_policy.validate(tiny("sac", frame_stack=4), spec, discrete=True)
    message = r"frame_stack = 3: expected 0, 1, or .* first or last axis of observations, got \[84, 84, 4\]"
    with pytest.raises(purerl.ConfigError, match=message):
        off_policy.validate(tiny("sac", frame_stack=3), spec, discrete=True)


def test_a_rollout_longer_than_planned_is_refused():
    """Its frames could be more than there is room for."""
    case = Case(1, 8, 4, rows=16)
    buffer = buffer_of(case._replace(steps=1))
    with pytest.raises(AssertionError):
        buffer.add(buffer.init(), lane(stream(case), 0))


@pytest.mark.parametrize("members", [None, 8])
def test_the_program_never_copies_the_frames(members):
    """Of storing, sampling and updating in a scan, with the optimisations that users get."""
    case = Case(3, 1, 4, shape=(5, 5), axis=2, rows=23)  # sizes that no other axis has
    buffer = buffer_of(case, prioritised=True, n_step=3, batch_size=6)

    def loop(state, new, key):
        def step(state, new):
            state = buffer.add(state, new)
            batch = buffer.sample(state, key, jnp.int32(0))
            return buffer.update(state, batch.index, batch.rows.reward), batch

        return jax.lax.scan(step, state, new)

    lead = lambda leaf: jnp.zeros((2, 1, case.envs, *leaf.shape), leaf.dtype)
    state, new, key = buffer.init(), jax.tree.map(lead, row_of((5, 5, 4))), jax.random.key(0)
    if members:
        several = lambda leaf: jnp.repeat(leaf[None], members, 0)
        loop, (state, new, key) = jax.vmap(loop), jax.tree.map(several, (state, new, key))
    compiling = jax.jit(loop, donate_argnums=0, compiler_options=AS_USERS_DO).lower(state, new, key)
    program, writes = compiling.compile().as_text(), {"scatter", "dynamic-update-slice"}
    for slots in (case.capacity, state.frames.data.shape[-3]):
        shape = rf"\w+\[(?:{members},)?{slots}[\d,]*\]"
        found = set(re.findall(rf"= {shape}\S* ([\w-]+)\(", program))
        assert found & writes, "the buffer was not found"
        assert found <= writes | {"parameter", "get-tuple-element", "fusion", "bitcast"}


def test_sac_learns_the_same():
    """From the same pictures, stored once or eight times."""
    case, cfg, learners = Case(2, 1, 4, shape=(3, 3), length=40), tiny("sac", "cartpole"), []
    spec = EnvSpec("pictures", spaces.Box(0, 255, (4, 3, 3), np.uint8), spaces.Discrete(3))
    new = stream(case)._replace(action=np.ones((len(stream(case).reward), 1, 2), np.int32), extras=())
    for frame_stack in (0, 4):
        chosen = dataclasses.replace(cfg, frame_stack=frame_stack)
        algo = registry.algorithm_module(cfg).make(chosen, spec)
        update, state = jax.jit(algo.update), jax.jit(algo.init)(jax.random.key(0))
        for step in range(30):
            state, _ = update(state, lane(new, step), jax.random.key(step), jnp.int32(2 * step))
        learners.append(state.learner)
    assert state.replay.frames and state.replay.size == CAPACITY
    assert_close(*learners)
