"""MuJoCo in JAX (MJX): the default engine on an accelerator; its physics vmaps, parameters included.

docs/mujoco.md lists the differences from C MuJoCo. All numbers are float32.

This module, `mjx_tracing.py` and `mjx_corrections.py` alone use MJX's private functions. RK4 loops over one
`forward`, which MJX unrolls four times.
"""

# MJX's own modules have no public names for what is needed here, and pyright cannot see into mujoco's.
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.config import ConfigError, did_you_mean
from purerl.envs.mujoco.engine import mjx_support
from purerl.envs.mujoco.engine.mjx_tracing import import_mjx, tracing
from purerl.envs.mujoco.engine.physics import MAX_VALUE, Engine, EngineError, Physics, field_shapes
from purerl.envs.mujoco.engine.plan import usable_cpus
from purerl.types import Array

NEWTON_ITERATIONS = 100
"""MuJoCo's default, for models that ask for the PGS solver, which MJX does not have."""
STATE = ("time", "qpos", "qvel", "act", "qacc_warmstart")
"""The fields that carry a simulation from step to step; the others are derived."""
START = ("time", "act", "ctrl", "mocap_pos", "mocap_quat")
"""The fields that a keyframe sets, besides the positions and velocities that a task draws."""
RESET_SHARE = 32
"""A reset places 1/32 of the simulations at a time, because each costs the same, needed or not."""
FEW_CPUS = 4
"""With fewer, XLA's threads can deadlock in MJX's batched factorisations."""

Values = dict[str, Array]


def make_engine(
    model: Any,
    frame_skip: int,
    fields: Sequence[str] = (),
    tracked: Sequence[str] = (),
    impl: str = "jax",
    keyframe: int = -1,
    contacts: str = "exact",
) -> Engine:
    """Return the engine for one model; nothing is built before its first use.

    Args:
        model: a `mujoco.MjModel`; later changes to it have no effect here.
        frame_skip: physics steps per environment step.
        fields: names of derived mjData arrays, reported in `Physics.fields`.
        tracked: names of mjData arrays whose change is reported in `Physics.change`.
        impl: MJX's implementation.
        keyframe: number of the keyframe at which resets begin; -1 is the model's own initial state.
        contacts: "exact" refuses models with contacts that MJX only approximates.

    Raises ValueError for an unknown field and ConfigError for a model that MJX does not simulate.
    """
    mjx_support.check(model, contacts)
    model = copy.copy(model)
    shapes = field_shapes(model, [*fields, *(name for name in tracked if name not in fields)])
    _check_fields(shapes)
    build = functools.cache(lambda: _build(model, impl, keyframe))
    init_qpos = np.asarray(model.qpos0, np.float32)

    def step(physics: Physics, ctrl: Array, overrides: Values) -> Physics:
        if ctrl.shape != (model.nu,):
            raise ValueError(f"expected an action of shape ({model.nu},), got {ctrl.shape}; vmap adds axes")
        ctrl = jnp.asarray(ctrl, jnp.float32)
        ctrl_is_bad = ~(jnp.abs(ctrl) <= MAX_VALUE).all()
        ctrl = jnp.where(ctrl_is_bad, 0.0, ctrl)  # as MuJoCo does
        state = {"qpos": physics.qpos, "qvel": physics.qvel, **physics.row}
        with tracing():
            mx, data = build()
            mx = _override(mx, overrides)
            state, seen = _advance(mx, data.replace(ctrl=ctrl), frame_skip, state, shapes)
        return pack(state, seen, physics.tracked, ctrl_is_bad)

    def reset(needed: Array, qpos: Array, qvel: Array, overrides: Values) -> Physics:
        del needed
        with tracing():
            mx, data = build()
            mx = _override(mx, overrides)
            start = dict(qpos=jnp.asarray(qpos, jnp.float32), qvel=jnp.asarray(qvel, jnp.float32))
            data = _forward().forward(mx, data.replace(**start))
            # As in Gymnasium, quaternions are as drawn, and contact forces are 0 in a reset.
            data = data.replace(**start)
            state, seen = _state(data), _look(mx, data, shapes, False)
        return pack(state, seen, {name: seen[name] for name in tracked}, jnp.bool_(False))

    def pack(state: Values, seen: Values, before: Values, failed: Array) -> Physics:
        bad = [~(jnp.abs(leaf) <= MAX_VALUE).all() for leaf in jax.tree.leaves((state, seen))]
        diverged = failed | jnp.stack(bad).any()
        blank = {name: jnp.zeros_like(value) for name, value in state.items()} | {"qpos": init_qpos}
        mask = lambda value, other: jnp.where(diverged, other, value)
        state = {name: mask(value, blank[name]) for name, value in state.items()}
        seen = {name: mask(value, jnp.zeros_like(value)) for name, value in seen.items()}
        now = {name: seen[name] for name in tracked}
        change = {name: mask(now[name] - before[name], jnp.zeros_like(now[name])) for name in tracked}
        qpos, qvel = state.pop("qpos"), state.pop("qvel")
        return Physics(qpos, qvel, {name: seen[name] for name in fields}, change, state, now, diverged)

    sizes = dict(time=(), qpos=(model.nq,), qvel=(model.nv,), act=(model.na,), qacc_warmstart=(model.nv,))
    start = _nothing(sizes), _nothing(shapes), _nothing({name: shapes[name] for name in tracked})
    shape = jax.eval_shape(pack, *start, jnp.bool_(False))
    return Engine(step, reset, shape, lambda num_sims: -(-num_sims // RESET_SHARE))


def _advance(mx: Any, data: Any, frame_skip: int, state: Values, shapes: dict) -> tuple[Values, Values]:
    """Take `frame_skip` physics steps from `state`; return it and the reported fields."""
    substep = _runge_kutta if mx.opt.integrator == _integrator().RK4 else _single_stage

    def body(i, loop):
        look = lambda data, now: _look(mx, data, shapes, (i == frame_skip - 1) & now)
        state, seen = substep(mx, data.replace(**loop[0]), look)
        return state, {name: state.get(name, value) for name, value in seen.items()}

    return jax.lax.fori_loop(0, frame_skip, body, (state, _nothing(shapes)))


def _single_stage(mx: Any, data: Any, look: Callable) -> tuple[Values, Values]:
    """Take a physics step of an integrator that evaluates the forces once."""
    data = _forward().step(mx, data)
    return _state(data), look(data, True)


def _runge_kutta(mx: Any, start: Any, look: Callable) -> tuple[Values, Values]:
    """Take a physics step by the classic fourth-order Runge-Kutta scheme.

    With the state X and its rate of change F(X): X_i = X_0 + a_i h F(X_{i-1}) for four stages, and
    X = X_0 + h sum_i b_i F(X_i). As in MuJoCo, the reported fields are those of the last stage, and sensors
    those of the first.
    """
    forward, h = _forward(), mx.opt.timestep
    a, b = np.array([0, 3, 3, 6], np.float32) / 6, np.array([1, 2, 2, 1], np.float32) / 6

    def stage(loop, numbers):
        warmstart, rate, total = loop
        a, b, is_first, is_last = numbers
        qvel, qacc, act_dot = jax.tree.map(lambda k: a * k, rate)
        integrate = lambda *args: forward._integrate_pos(*args, dt=h)
        qpos = forward.scan.flat(mx, integrate, "jqv", "q", mx.jnt_type, start.qpos, qvel)
        here = start.replace(
            time=start.time + a * h,
            qpos=jnp.where(is_first, start.qpos, qpos),  # a step by 0 would normalize quaternions
            qvel=start.qvel + h * qacc,
            act=start.act + h * act_dot,
            qacc_warmstart=warmstart,
        )
        here = forward.forward(mx, here)
        rate = here.qvel, here.qacc, here.act_dot
        total = jax.tree.map(lambda sum, k: sum + b * k, total, rate)
        return (here.qacc_warmstart, rate, total), look(here, is_last)

    zero = jax.tree.map(jnp.zeros_like, (start.qvel, start.qvel, start.act_dot))
    tableau = a, b, np.arange(4) == 0, np.arange(4) == 3
    loop, seen = jax.lax.scan(stage, (start.qacc_warmstart, zero, zero), tableau)
    _, rate, (qvel, qacc, act_dot) = loop
    end = forward._advance(mx, start.replace(qacc=rate[1]), act_dot, qacc, qvel)
    return _state(end), {name: stages[0 if name == "sensordata" else -1] for name, stages in seen.items()}


def _look(mx: Any, data: Any, shapes: dict, now: Array | bool) -> Values:
    """Return the fields named in `shapes`; contact forces, which are costly, only where `now`, else 0."""
    values = {name: _get(data, name).reshape(shape) for name, shape in shapes.items()}
    if "cfrc_ext" in shapes:
        from mujoco.mjx._src import smooth

        compute = lambda data: _get(smooth.rne_postconstraint(mx, data), "cfrc_ext")
        zeros = jnp.zeros(shapes["cfrc_ext"])
        values["cfrc_ext"] = zeros if now is False else jax.lax.cond(now, compute, lambda _: zeros, data)
    return values


def _check_fields(names: Iterable[str]) -> None:
    """Raise ConfigError for a field of mjData that MJX does not compute."""
    import_mjx()
    from mujoco.mjx._src.types import Data, DataJAX

    known = {*Data.__dataclass_fields__, *DataJAX.__dataclass_fields__}
    for name in names:
        if name not in known:
            raise ConfigError("fields", name, "a field that MJX computes; engine='mujoco' has them all")


def _get(data: Any, name: str) -> Array:
    """Return a field of mjData from MJX's public or private part."""
    return getattr(data if name in data.__dataclass_fields__ else data._impl, name)


def _state(data: Any) -> Values:
    return {name: getattr(data, name) for name in STATE}


def _nothing(shapes: dict[str, tuple[int, ...]]) -> Values:
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def _build(model: Any, impl: str, keyframe: int) -> tuple[Any, Any]:
    """Return MJX's model and its data as after mj_resetDataKeyframe."""
    import mujoco

    mjx = import_mjx()
    if jax.default_backend() == "cpu" and usable_cpus() < FEW_CPUS and "NPROC" not in os.environ:
        text = "MJX on a CPU with few cores can deadlock; set NPROC=8 before JAX starts"
        logging.getLogger(__name__).warning(text)
    diagnostics = mujoco.mjtEnableBit.mjENBL_ENERGY | mujoco.mjtEnableBit.mjENBL_FWDINV
    model.opt.enableflags &= ~diagnostics  # which MJX refuses
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        model.opt.iterations = max(model.opt.iterations, NEWTON_ITERATIONS)
    start = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, start, keyframe)
    try:
        with jax.ensure_compile_time_eval():
            mx, data = mjx.put_model(model, impl=impl), mjx.make_data(model, impl=impl)
            return mx, data.replace(**{name: jnp.float32(getattr(start, name)) for name in START})
    except (NotImplementedError, ValueError) as error:
        raise EngineError(f"MJX cannot simulate this model: {error}. Use engine='mujoco'.") from error


def _override(mx: Any, overrides: Values) -> Any:
    """Return `mx` with fields replaced. Raises ConfigError for an unknown name or a wrong shape."""
    for name, value in overrides.items():
        place, field = (mx.opt, name[4:]) if name.startswith("opt_") else (mx, name)
        stands: Any = vars(place).get(field)
        if not _is_floats(stands):
            known = [name for name, leaf in vars(mx).items() if _is_floats(leaf)]
            known += [f"opt_{name}" for name, leaf in vars(mx.opt).items() if _is_floats(leaf)]
            allowed = "an array of numbers of MJX's model"
            raise ConfigError("model", name, allowed, did_you_mean(name, known))
        if np.shape(value) != stands.shape:
            raise ConfigError(f"model {name}", np.shape(value), f"the shape {stands.shape}")
        mx = mx.tree_replace({name.replace("opt_", "opt.", 1) if place is mx.opt else name: value})
    return mx


def _is_floats(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32


def _forward() -> Any:
    from mujoco.mjx._src import forward

    return forward


def _integrator() -> Any:
    from mujoco.mjx._src.types import IntegratorType

    return IntegratorType
