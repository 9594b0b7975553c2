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
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import revisions
from flax import serialization

SEEDS, UPDATES, TOTAL_TIMESTEPS = 8, 20, 100_000
TOLERANCE = 1e-5
TASKS = ("cartpole", "pendulum", "half_cheetah")
"""Every algorithm trains on the first that suits it, and on the last."""
Parameters = dict[str, np.ndarray]


def train(case: str) -> Parameters:
    """Return the parameters `[S, ...]` of `case` by path, trained as `purerl.run` trains them."""
    import purerl

    algo, _, env = case.partition("-")
    cfg = purerl.make_config(algo, env=env, total_timesteps=TOTAL_TIMESTEPS)
    state, advance = revisions.training(cfg, SEEDS, UPDATES)
    before = parameters_of(state)
    state = advance(state)
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

    cases = []
    for algo in sorted(registry.ALGORITHMS):
        envs, usual = [env for env in TASKS if suits(algo, env)], purerl.make_config(algo).env
        small = usual if usual in envs else envs[0]
        cases += [f"{algo}-{env}" for env in dict.fromkeys((small, envs[-1]))]
    return cases


def compare(cases: list[str], checkouts: dict[str, Path], folder: Path) -> bool:
    """Train and print one row per case. Returns True if all agree within the tolerance."""
    agree = True
    for case in cases:
        began, parameters = time.monotonic(), []
        try:
            for name, checkout in checkouts.items():
                revisions.output(__file__, checkout, "--train", case, "--out", str(folder / name))
                parameters.append(serialization.msgpack_restore((folder / name).read_bytes()))
            gap = difference(*parameters)
            verdict = f"largest relative difference {gap:.2e}" if gap else "bit-equal"
        except RuntimeError as error:
            gap, verdict = float("inf"), f"failed: {error}"
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
            there = revisions.clone(arguments.against, Path(place) / "there-checkout")
            checkouts = {"here": revisions.ROOT, "there": there}
            known = {
                name: json.loads(revisions.output(__file__, path, "--list"))
                for name, path in checkouts.items()
            }
            both = [case for case in known["here"] if case in known["there"]]
            for case in sorted({*known["here"], *known["there"]} - set(both)):
                print(f"{case:28}only {'here' if case in known['here'] else 'there'}")
            sys.exit(not compare(arguments.cases or both, checkouts, Path(place)))


if __name__ == "__main__":
    main()
