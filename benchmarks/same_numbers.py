"""Compare the numbers of two revisions: the parameters after a short training, leaf by leaf.

    python benchmarks/same_numbers.py --against REV

trains every algorithm on a small task and on half_cheetah, 8 seeds and 20 updates, once in this checkout and
once in a clone of REV, each in a process of its own. A row of the table says that all parameters are equal to
the bit, or gives the largest difference over the largest magnitude of its leaf. The exit code is 1 where that
is above 1e-5 or a training failed. Two programs may differ in the last bit, and training magnifies it.

    python benchmarks/same_numbers.py --against HEAD~3 --cases ppo-cartpole sac-half_cheetah
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from flax import serialization

ROOT = Path(__file__).resolve().parents[1]
SEEDS, UPDATES, TOTAL_TIMESTEPS = 8, 20, 100_000
TOLERANCE = 1e-5
TASKS = ("cartpole", "pendulum", "half_cheetah")
"""Every algorithm trains on the first that suits it, and on the last."""
Parameters = dict[str, np.ndarray]


def train(case: str) -> Parameters:
    """Return the parameters `[S, ...]` of `case` by path, trained as `purerl.run` trains them."""
    import jax
    import jax.numpy as jnp

    import purerl
    from purerl.config import leaves
    from purerl.train import make_driver

    assert Path(purerl.__file__).is_relative_to(Path.cwd()), f"purerl was imported from {purerl.__file__}"
    algo, _, env = case.partition("-")
    cfg = purerl.make_config(algo, env=env, total_timesteps=TOTAL_TIMESTEPS)
    driver = make_driver(cfg)
    hyper = {name: jnp.float32(value) for name, value in leaves(cfg).items()}
    warmup = driver.schedule.warmup_steps

    def mapped(function, iterations: int):
        one = lambda state, step, hyper: function(state, step, hyper, iterations)
        return jax.jit(jax.vmap(one, in_axes=(0, None, None)), donate_argnums=0)

    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(cfg.seed), i))(jnp.arange(SEEDS))
    state = jax.jit(jax.vmap(driver.init, in_axes=(0, None)))(keys, hyper)
    before = parameters_of(state)
    if warmup:
        state, _ = mapped(driver.warmup, warmup // driver.schedule.iteration_steps)(
            state, jnp.int32(0), hyper
        )
    state, _ = mapped(driver.chunk, UPDATES)(state, jnp.int32(warmup), hyper)
    after = parameters_of(state)
    if all(np.array_equal(after[name], before[name]) for name in after):
        raise RuntimeError(f"{case} learned nothing in {UPDATES} updates")
    return after


def parameters_of(state) -> Parameters:
    """Return the parameters in a `TrainState`, copied, by path within the algorithm's `params`."""
    import jax

    params = getattr(state.algo, "learner", state.algo).params
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in jax.tree.leaves_with_path(params)}


def difference(ours: Parameters, theirs: Parameters) -> float:
    """Return the largest difference of a leaf, relative to its largest magnitude; 0 for equal bits.

    Leaves are matched by path, or in the order of their paths where names have changed. Raises ValueError
    where numbers or shapes of leaves differ.
    """
    if set(ours) != set(theirs) and len(ours) == len(theirs):
        theirs = dict(zip(sorted(ours), (theirs[name] for name in sorted(theirs)), strict=True))
    for name in sorted({*ours, *theirs}):
        here, there = ours.get(name), theirs.get(name)
        if here is None or there is None or (here.shape, here.dtype) != (there.shape, there.dtype):
            shapes = [leaf if leaf is None else leaf.shape for leaf in (here, there)]
            raise ValueError(f"{name} has shape {shapes[0]} here and {shapes[1]} there")
    return max(map(_relative, ours.values(), (theirs[name] for name in ours)))


def _relative(here: np.ndarray, there: np.ndarray) -> float:
    if here.tobytes() == there.tobytes():
        return 0.0
    gap = float(np.abs(here.astype(np.float64) - there).max() / max(np.abs(there).max(), 1e-30))
    return max(gap, 1e-30) if np.isfinite(gap) else float("inf")  # 0 is only for equal bits


def in_checkout(checkout: Path, *arguments: str) -> str:
    """Run this script on the purerl of `checkout`, and return its output. Raises CalledProcessError."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    return subprocess.run(
        command, env=environment, cwd=checkout, check=True, capture_output=True, text=True
    ).stdout


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


def known_cases() -> list[str]:
    """Return `algo-env` of every algorithm of the imported purerl, on a small task and on half_cheetah."""
    import purerl
    from purerl import registry

    def suits(algo: str, env: str) -> bool:
        try:
            purerl.make_algorithm(purerl.make_config(algo, env=env, total_timesteps=TOTAL_TIMESTEPS))
        except purerl.ConfigError:
            return False
        return True

    fitting = {algo: [env for env in TASKS if suits(algo, env)] for algo in sorted(registry.ALGORITHMS)}
    return [f"{algo}-{env}" for algo, envs in fitting.items() for env in dict.fromkeys((envs[0], envs[-1]))]


def compare(cases: list[str], checkouts: dict[str, Path], folder: Path) -> bool:
    """Train and print one row per case. Returns True if all agree within the tolerance."""
    agree = True
    for case in cases:
        began, parameters = time.monotonic(), []
        try:
            for name, checkout in checkouts.items():
                in_checkout(checkout, "--train", case, "--out", str(folder / name))
                parameters.append(serialization.msgpack_restore((folder / name).read_bytes()))
            gap = difference(*parameters)
            verdict = f"largest relative difference {gap:.2e}" if gap else "bit-equal"
        except subprocess.CalledProcessError as error:
            gap, verdict = float("inf"), f"failed: {(error.stderr.strip().splitlines() or ['?'])[-1]}"
        except ValueError as error:
            gap, verdict = float("inf"), f"not comparable: {error}"
        agree &= gap <= TOLERANCE
        leaves = f"{len(parameters[0])} leaves" if parameters else "-"
        seconds = f"{time.monotonic() - began:.0f} s"
        print(f"{case:28}{leaves:12}{seconds:8}{verdict}", flush=True)
    return agree


def main() -> None:
    """Compare, or do the part of one process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REV", help="the revision to compare with")
    parser.add_argument(
        "--cases", nargs="+", metavar="ALGO-ENV", help="all that both revisions have if left out"
    )
    parser.add_argument("--list", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps(known_cases()))
    elif arguments.train:
        arguments.out.write_bytes(serialization.msgpack_serialize(train(arguments.train)))
    elif arguments.against is None:
        parser.error("--against REV is missing")
    else:
        with tempfile.TemporaryDirectory() as place:
            checkouts = {"here": ROOT, "there": clone(arguments.against, Path(place) / "there-checkout")}
            known = {name: json.loads(in_checkout(path, "--list")) for name, path in checkouts.items()}
            both = [case for case in known["here"] if case in known["there"]]
            for case in sorted({*known["here"], *known["there"]} - set(both)):
                print(f"{case:28}only {'here' if case in known['here'] else 'there'}")
            sys.exit(not compare(arguments.cases or both, checkouts, Path(place)))


if __name__ == "__main__":
    main()
