"""Distance of MJX from C MuJoCo, one small model for each feature of MuJoCo's XML reference.

    NPROC=8 python benchmarks/features.py --out benchmarks/results/features.json

Each model of `mjcf_features.py` becomes an environment on either engine. MJX refuses it by name, or both
engines simulate 40 steps from four starts with the same random actions: from the reference pose at rest, and
from three poses near it, in motion. A model on MJX must agree to `TOLERANCE`, and on C must move otherwise
than the model beside it, which lacks the feature: else nothing would have been compared. The exit code is 1
where a model does neither. docs/mujoco.md has the table.

    NPROC=8 python benchmarks/features.py --features connect weld
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import mujoco
import numpy as np
from mjcf_features import FEATURES, INERT, mjcf

import purerl
from purerl.envs.mujoco.engine import mjx_support

STEPS = 40
STARTS = 4
TOLERANCE = 1e-3
"""Largest difference of positions, velocities or sensors over all steps and starts, in units of the largest
value of the same quantity."""

Numbers = dict[str, np.ndarray]
Row = dict[str, Any]


def compare(name: str) -> Row:
    """Return the feature's row of the table.

    `group`, `feature`, and either `refused`, the parts that MJX does not simulate, or `difference`, of MJX
    from C, and `effect`, of the feature on C, both in units of `TOLERANCE`.
    """
    group, beside, parts = _find(name)
    row: Row = {"group": group, "feature": name}
    if refused := refusal(name):
        return row | {"refused": refused}
    ours, theirs = (simulate(mjcf(parts), engine, name) for engine in ("mujoco", "mjx"))
    without = simulate(mjcf(beside), "mujoco", name)
    digits = lambda value: float(f"{value:.2g}")
    return row | {"difference": digits(_difference(ours, theirs)), "effect": digits(_effect(ours, without))}


def refusal(name: str) -> str:
    """Return the parts of the feature's model that MJX refuses; "" if it takes the model."""
    return ", ".join(mjx_support.missing(mujoco.MjModel.from_xml_string(mjcf(_find(name)[2]))))


def simulate(xml: str, engine: str, name: str) -> Numbers:
    """Return positions, velocities and sensors, each `[STARTS, STEPS, ...]`."""
    model = mujoco.MjModel.from_xml_string(xml)
    env = _make_env(xml, engine, name)
    qpos, qvel = _starts(model)
    low, high = model.actuator_ctrlrange.T * (2 if "clampctrl" in name else 1)
    actions = np.random.RandomState(1).uniform(low, high, (STARTS, STEPS, model.nu))

    def run(start):
        qpos, qvel, actions = start
        _, state = env.reset(jax.random.key(0), {"qpos": qpos, "qvel": qvel})

        def step(state, action):
            _, state, *_, info = env.step(jax.random.key(0), state, action)
            sensors = state.physics.fields.get("sensordata", jnp.zeros(0))
            return state, (state.physics.qpos, state.physics.qvel, sensors, info["diverged"])

        return jax.lax.scan(step, state, actions)[1]

    starts = jax.tree.map(np.float32, (qpos, qvel, actions))
    *numbers, diverged = jax.tree.map(np.asarray, jax.jit(lambda starts: jax.lax.map(run, starts))(starts))
    if diverged.any():
        raise RuntimeError(f"the simulation of {name!r} diverges on engine {engine}: a bad example")
    return dict(zip(("qpos", "qvel", "sensordata"), numbers, strict=True))


def _find(name: str) -> tuple[str, dict[str, str], dict[str, str]]:
    for group, features in FEATURES.items():
        if name in features:
            parts = features[name]
            return (group, *parts) if isinstance(parts, tuple) else (group, {}, parts)
    raise KeyError(name)


def _make_env(xml: str, engine: str, name: str) -> Any:
    model = mujoco.MjModel.from_xml_string(xml)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        path.write_text(xml)
        return purerl.mujoco_env(
            name,
            path,
            lambda params, physics, action: 0.0,
            start="home" if model.nkey else lambda params, key: (params["qpos"], params["qvel"]),
            reset_noise_scale=0.0,
            fields=("sensordata",) if model.nsensordata else (),
            params={"qpos": np.zeros(model.nq), "qvel": np.zeros(model.nv)},
            engine=engine,
        )


def _starts(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return `STARTS` positions and velocities: at rest, then turned by some degrees and falling."""
    random = np.random.RandomState(0)
    turn, qvel = 0.1 * random.normal(size=(STARTS, model.nv)), 0.5 * random.normal(size=(STARTS, model.nv))
    for first in model.jnt_dofadr[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]:
        turn[:, first : first + 3] *= 0.05  # places: bodies in contact stay so
        qvel[:, first + 2] = -abs(qvel[:, first + 2])
    turn[0] = qvel[0] = 0
    qpos = np.repeat(model.qpos0[None], STARTS, 0)
    for place, by in zip(qpos, turn, strict=True):
        mujoco.mj_integratePos(model, place, by, 1)
    return qpos, qvel


def _difference(ours: Numbers, theirs: Numbers) -> float:
    differences = [0.0]
    for name, value in ours.items():
        if value.size:
            differences.append(np.abs(value - theirs[name]).max() / max(np.abs(value).max(), 1e-6))
    return max(differences)


def _effect(ours: Numbers, without: Numbers) -> float:
    """Return what a feature changes on C: 1 for other coordinates; for a sensor its range."""
    if ours["qpos"].shape != without["qpos"].shape:
        return 1.0
    sensors = ours["sensordata"]
    if sensors.size and sensors.shape != without["sensordata"].shape:
        return float(np.ptp(sensors, (0, 1)).max() / max(np.abs(sensors).max(), 1e-6))
    return _difference(ours, without)


def faults(row: Row) -> list[str]:
    """Return what a row shows that may not be."""
    if "refused" in row:
        return []
    if not row["difference"] <= TOLERANCE:
        return [f"{row['feature']}: MJX is {row['difference']} from C, at most {TOLERANCE}, or refused"]
    if row["feature"] not in INERT and not row["effect"] > 10 * row["difference"]:
        return [f"{row['feature']}: the feature changes C by {row['effect']} only"]
    return []


def table(rows: list[Row]) -> str:
    """Return the table of docs/mujoco.md."""
    lines = ["| group | MJX | features | largest difference |", "|---|---|---|---|"]
    for group in FEATURES:
        agree = [row for row in rows if row["group"] == group and "refused" not in row]
        refused = [row["feature"] for row in rows if row["group"] == group and "refused" in row]
        if agree:
            far = max(agree, key=lambda row: row["difference"])
            names = ", ".join(row["feature"] for row in agree)
            lines.append(f"| {group} | as C | {names} | {far['difference']:.0e} ({far['feature']}) |")
        if refused:
            lines.append(f"| {group} | refused | {', '.join(refused)} | |")
    return "\n".join(lines)


def main() -> None:
    """Compare the features that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name for features in FEATURES.values() for name in features]
    parser.add_argument("--features", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    args = parser.parse_args()
    rows = []
    for name in args.features:
        rows.append(compare(name))
        print(json.dumps(rows[-1]), flush=True)
    found = [fault for row in rows for fault in faults(row)]
    print("\n".join(found), flush=True)
    if args.out:
        whole = {
            "command": "NPROC=8 python benchmarks/features.py",
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine.describe(),
            "tolerance": TOLERANCE,
            "results": rows,
        }
        args.out.write_text(json.dumps(whole, indent=2) + "\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
