"""Whole runs in one program, updates without jit, and the compiled program around a replay buffer."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import SEEDS, Lab
from cases import FIRST, RUNS
from compiling import AS_USERS_DO
from tiny import CAPACITY, assert_close, lane

import purerl
from purerl.metrics import summarise

slow = pytest.mark.slow


@pytest.fixture(scope="module", params=[pytest.param(RUNS[name], id=name) for name in FIRST])
def lab(request):
    return Lab(request.param)


@pytest.fixture(scope="module")
def whole(lab):
    """`make_train` of members 0 and 1, each alone in one program."""
    train = jax.jit(purerl.make_train(lab.cfg), compiler_options=AS_USERS_DO)
    return [train(lab.keys[i]) for i in range(2)]


@slow
def test_a_member_alone_agrees_with_chunks_of_many(lab, whole):
    first_row = 1 if lab.schedule.warmup_steps else 0
    for i, out in enumerate(whole):
        assert_close(out.state, lane(lab.baseline.states[-1], i))
        for row, tallies in enumerate(lab.baseline.tallies):
            expected = dict(summarise(lane(tallies, i), np.int32(-1)))
            assert_close({name: out.metrics[name][first_row + row] for name in expected}, expected)


@slow
def test_a_run_without_evaluation_is_the_same(lab, whole):
    silent = dataclasses.replace(lab.cfg, eval_interval=0)
    out = jax.jit(purerl.make_train(silent), compiler_options=AS_USERS_DO)(lab.keys[0])
    assert_close(out.state, whole[0].state)
    assert not any(name.startswith("eval/") for name in out.metrics)
    assert np.isfinite(whole[0].metrics["eval/return"][-1])


@slow
def test_rows_are_at_the_schedules_steps(lab, whole):
    schedule, out = lab.schedule, whole[0]
    warm, per_row = schedule.warmup_steps, schedule.row_steps
    steps = [warm] * bool(warm) + [warm + per_row * (i + 1) for i in range(schedule.rows)]
    assert list(out.metrics["step"]) == steps and steps[-1] == schedule.total_steps
    finished = np.nan_to_num(out.metrics["episode/count"] * out.metrics["episode/length"]).sum()
    assert finished + out.state.env.episode_length.sum() == schedule.total_steps


@slow
def test_update_without_jit_agrees(lab):
    args = lab.single.algo, lab.transition, jax.random.key(2), jnp.int32(16)
    compiled = jax.jit(lab.algo.update)(*args)
    assert_close(lab.algo.update(*args), compiled)


@slow
@pytest.mark.parametrize("form", ["alone", "side by side"])
def test_only_the_write_touches_the_whole_buffer(lab, form):
    if not hasattr(lab.cfg, "buffer_size"):
        pytest.skip("has no replay buffer")
    chunk, args = lab.plain_chunk, (lab.single, lab.step(0), {})
    if form == "side by side":
        chunk, args = jax.vmap(chunk, in_axes=(0, None, 0)), (lab.baseline.start, lab.step(0), lab.hyper())
    program = jax.jit(chunk, donate_argnums=0, compiler_options=AS_USERS_DO).lower(*args).compile()
    shape = rf"\w+\[(?:{SEEDS},)?{CAPACITY}[\d,]*\]"
    found = set(re.findall(rf"= {shape}\S* ([\w-]+)\(", program.as_text()))
    writes, names = (
        {"scatter", "dynamic-update-slice"},
        {"parameter", "get-tuple-element", "fusion", "bitcast"},
    )
    assert found & writes, "the buffer was not found"
    assert found <= writes | names, "the whole buffer is copied or selected at every step"
