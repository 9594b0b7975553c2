"""This checkout beside a clone of another revision: training in either, by what both have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def clone(revision: str, folder: Path) -> Path:
    """Return `folder` with a clone of this repository at `revision`."""
    git = ("git", "-C", str(ROOT))
    commit = subprocess.run(
        [*git, "rev-parse", "--verify", f"{revision}^{{commit}}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(
        [*git, "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder)], check=True
    )
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit], check=True)
    return folder


def start(script: str, checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `script` on the purerl of `checkout`, with pipes to all that it reads and writes."""
    command = [sys.executable, str(Path(script).resolve()), *arguments]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, cwd=checkout, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def output(script: str, checkout: Path, *arguments: str) -> str:
    """Run `script` as `start` does, and return its output. Raises RuntimeError with its last words."""
    with start(script, checkout, *arguments) as process:
        out, errors = process.communicate()
    if process.returncode:
        raise RuntimeError((errors.strip().splitlines() or ["?"])[-1])
    return out


def training(cfg: Any, seeds: int, iterations: int) -> tuple[Any, Callable[[Any], Any]]:
    """Return a state of `seeds` members, `[S, ...]`, after the warm-up, and what trains it on.

    A call is one compiled program of `iterations` iterations, as `purerl.run` has it, and donates its state.
    """
    import jax
    import jax.numpy as jnp

    import purerl
    from purerl.config import leaves
    from purerl.train import make_driver

    assert Path(purerl.__file__).is_relative_to(Path.cwd()), f"purerl was imported from {purerl.__file__}"
    driver = make_driver(cfg)
    hyper = {name: jnp.float32(value) for name, value in leaves(cfg).items()}

    def over_seeds(function: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
        if seeds > 1:
            return jax.vmap(function, in_axes)
        alone = lambda first, *rest: function(jax.tree.map(lambda leaf: leaf[0], first), *rest)
        return lambda *args: jax.tree.map(lambda leaf: leaf[None], alone(*args))

    def program(function: Callable[..., Any], count: int) -> Callable[..., Any]:
        one = lambda state, step, hyper: function(state, step, hyper, count)[0]
        return jax.jit(over_seeds(one, (0, None, None)), donate_argnums=0)

    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(cfg.seed), i))(jnp.arange(seeds))
    state = jax.jit(over_seeds(driver.init, (0, None)))(keys, hyper)
    warmup_steps = driver.schedule.warmup_steps
    if warmup_steps:
        warmup = program(driver.warmup, warmup_steps // driver.schedule.iteration_steps)
        state = warmup(state, jnp.int32(0), hyper)
    chunk = program(driver.chunk, iterations)
    return state, lambda state: chunk(state, jnp.int32(warmup_steps), hyper)
