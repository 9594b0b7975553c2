"""Policies as ONNX models: the same actions by the runtime and by ONNX's reference, without purerl."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_export import CASES, expected, python, random_policy

from purerl.config import ConfigError
from purerl.evaluate import Policy
from purerl.make import make_env
from purerl.workbench import export, onnx_policy
from purerl.workbench.any_rows import ROWS, for_any_rows
from purerl.workbench.straight_line import straight_line

MUTANTS = {
    "lengths of two rows": (
        "workbench/any_rows.py",
        "return one if one == other else -(one // two)",
        "return one",
        "test_the_runtime_acts_as_the_policy[iqn]",
    ),
    "the first row is all rows": (
        "workbench/any_rows.py",
        "if not all(equal):",
        "if False:",
        "test_rows_that_are_not_alike_are_refused",
    ),
    "a slice ends after two rows": (
        "workbench/onnx_policy.py",
        "END if n < 0 else int(n)",
        "2 if n < 0 else int(n)",
        "test_the_runtime_acts_as_the_policy[ppo on images]",
    ),
    "the carry stays": (
        "workbench/onnx_policy.py",
        'dict(zip(_names("action", "next_carry", len(program.outputs)), program.outputs, strict=True))',
        'dict(zip(_names("action", "next_carry", len(program.outputs)), '
        "[program.outputs[0], *program.inputs[1:]], strict=True))",
        "test_the_runtime_acts_as_the_policy[recurrent_sac]",
    ),
    "the wrong side of a where": (
        "workbench/onnx_policy.py",
        '"Where", x, inputs[2], inputs[1]',
        '"Where", x, inputs[1], inputs[2]',
        "test_every_step_has_its_word",
    ),
    "log1p is the logarithm of a rounded number": (
        "workbench/onnx_policy.py",
        'graph.add("Where", tiny, x, graph.add("Mul", x, ratio))',
        'graph.add("Log", u)',
        "test_small_numbers_stay_exact",
    ),
    "a constant joins with one row": (
        "workbench/onnx_policy.py",
        "name if isinstance(value, Ref) else graph.expand(name, value.shape, wanted)",
        "name",
        "test_every_step_has_its_word",
    ),
    "no metadata": (
        "workbench/onnx_graph.py",
        "helper.set_model_props(made, dict(metadata))",
        "pass",
        "test_the_file_says_what_it_is",
    ),
    "models are not checked": (
        "workbench/onnx_graph.py",
        "self._onnx.checker.check_model(made, full_check=True)",
        "pass",
        "test_a_model_is_checked",
    ),
}
COUNT = 1000
"""Observations; by the reference, which is slow, the first of them."""
FEW = 12
PLAY = """
import sys
for name in ("jax", "flax", "purerl"):
    sys.modules[name] = None  # an import of it fails
from pathlib import Path
import numpy as np
by, place, few = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
for path in place.glob("*.onnx"):
    obs = np.load(path.with_suffix(".npy"))
    if by == "onnxruntime":
        import onnxruntime
        runner = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {i.name: i.shape for i in runner.get_inputs()}
    else:
        from onnx.reference import ReferenceEvaluator
        runner, obs = ReferenceEvaluator(str(path)), obs[:few]
        shape = lambda i: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
        inputs = {i.name: shape(i) for i in runner.proto_.graph.input}
    assert all(shape[0] == "rows" for shape in inputs.values())
    assert inputs.pop("obs")[1:] == list(obs.shape[1:])
    zeros = lambda rows: {name: np.zeros((rows, *shape[1:]), np.float32) for name, shape in inputs.items()}
    actions, *carry = runner.run(None, {"obs": obs, **zeros(len(obs))})  # all at once
    if inputs:  # or one after the other
        steps, carry = [], zeros(1).values()
        for row in obs:
            action, *carry = runner.run(None, {"obs": row[None], **dict(zip(inputs, carry))})
            steps.append(action[0])
        assert np.allclose(steps[0], actions[0], atol=1e-5)
        actions = np.stack(steps)
    np.save(place / f"{path.stem}.{by}.npy", actions)
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return a function of a case and a runner: its actions, and those of JAX."""
    place, wanted, done = tmp_path_factory.mktemp("onnx"), {}, set()
    for i, case in enumerate(CASES):
        env, policy = random_policy(case)
        obs, wanted[case] = expected(env, policy, COUNT)
        np.save(place / f"{i}.npy", obs)
        (place / f"{i}.onnx").write_bytes(export.onnx_model(policy, env, "A test.", "{}"))

    def play(case, by):
        if by not in done:
            python("-W", "default", "-c", PLAY, by, str(place), str(FEW))
            done.add(by)
        return np.load(place / f"{[*CASES].index(case)}.{by}.npy"), wanted[case]

    return play


def assert_same(found, wanted):
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="onnxruntime is not installed")
@pytest.mark.parametrize("case", CASES)
def test_the_runtime_acts_as_the_policy(case, played):
    """On 1,000 observations, in one call or, with a carry, one after the other."""
    found, wanted = played(case, "onnxruntime")
    assert len(found) == COUNT
    assert_same(found, wanted)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_acts_as_the_policy(case, played):
    found, wanted = played(case, "reference")
    assert_same(found, wanted[:FEW])


def run(function, obs, to="onnx"):
    """Return what the model of `function`, of one array, gives for `obs`."""
    from onnx import load_from_string
    from onnx.reference import ReferenceEvaluator

    shapes = [jax.ShapeDtypeStruct((rows, *obs.shape[1:]), obs.dtype) for rows in ROWS]
    program = for_any_rows(*(straight_line(function, shape) for shape in shapes), to=to)
    made = load_from_string(onnx_policy.model(program, "A test.", {}))
    return ReferenceEvaluator(made).run(None, {"obs": obs})[0]


def test_every_step_has_its_word():
    """Every kind of step that is translated, beside JAX, for a number of rows that was not traced."""

    def function(x):
        y = jnp.where(x > 0, x, -x) + jnp.sign(x) * jnp.square(jnp.sin(x)) / (1 + jnp.exp(-x))
        z = jnp.concatenate([y, jnp.cos(x)[:, ::2], jnp.log1p(jnp.abs(x)), jax.nn.sigmoid(x)], axis=1)
        a, b = jnp.split(z, [3], axis=1)
        a = jnp.clip(a, -1, 1) @ jnp.ones((3, 2)) + jax.lax.rsqrt(b.max(axis=1, keepdims=True) + 9)
        c = jnp.einsum("bi,bi->b", x, x)[:, None] ** 3 - jnp.minimum(b.min(1, keepdims=True), 0.5)
        d = jnp.transpose(z.reshape(x.shape[0], -1, 1), (0, 2, 1)).sum((1, 2))[:, None]
        flag = ((x >= 0) & (x != 2) | (x < -5)).any(1, keepdims=True) ^ ~(x <= 1).all(1, keepdims=True)
        e = jnp.floor(x.sum(1, keepdims=True)) + jnp.sqrt(jnp.abs(c)) + jnp.tanh(d) + flag.astype(jnp.float32)
        f = jnp.exp2(x[:, :1]) + jnp.expm1(x[:, 1:2]) + jnp.isfinite(1 / x[:, :1]) + jnp.tan(x[:, :1] / 9)
        g = jax.lax.rem(x, jnp.full_like(x, 0.7)) + jnp.abs(x) ** 1.5 + jnp.ceil(x) + jnp.log(jnp.abs(x))
        g = g.prod(1, keepdims=True) + jnp.outer(x[:, 0], jnp.arange(3.0)).sum(1, keepdims=True)
        best = jnp.argmax(z, 1)[:, None] - jnp.argmin(z, 1)[:, None]
        whole = (best & 3 | 4) ^ 1
        constant = jnp.broadcast_to(jnp.arange(2.0), (x.shape[0], 2))
        return jnp.concatenate([a, c, d, e, f, g, best, whole, constant], axis=1, dtype=jnp.float32)

    obs = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32) * 3
    np.testing.assert_allclose(run(function, obs), jax.jit(function)(obs), rtol=1e-5, atol=1e-5)


def test_small_numbers_stay_exact():
    obs = np.float32([[1e-9, -1e-7, 1e-4, 0, 0.3]])
    for function in (jnp.log1p, jnp.expm1):
        np.testing.assert_allclose(run(function, obs), function(obs), rtol=1e-6)


def test_a_constant_action_has_all_rows():
    obs = np.zeros((7, 2), np.float32)
    assert run(lambda x: jnp.broadcast_to(jnp.arange(3.0), (x.shape[0], 3)), obs).tolist() == [[0, 1, 2]] * 7


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + jnp.arange(float(x.shape[0]))[:, None],
        lambda x: x / x.shape[0],
        lambda x: x if x.shape[0] == 2 else -x,
        lambda x: x @ jnp.ones((3, x.shape[0])),
        lambda x: x[: x.shape[0] - 1],
    ],
    ids=["number", "mean", "branch", "product", "all but one"],
)
def test_rows_that_are_not_alike_are_refused(function):
    with pytest.raises(ConfigError, match="to = 'onnx': expected a policy"):
        run(function, np.zeros((3, 3), np.float32))


def test_an_untranslated_step_is_named():
    with pytest.raises(ConfigError, match="to = 'onnx': expected a policy without cumsum, which is not tr"):
        run(lambda x: jax.lax.cumsum(x, 1), np.zeros((3, 3), np.float32))


def pendulum():
    return make_env("pendulum"), Policy(lambda n: (), lambda carry, obs, key: (jnp.tanh(obs[:, :1]), carry))


def test_the_file_says_what_it_is():
    import onnx

    import purerl

    env, policy = pendulum()
    made = onnx.load_from_string(export.onnx_model(policy, env, "A policy.", '{"algo": "mine"}'))
    assert {prop.key: prop.value for prop in made.metadata_props} == {
        "about": "A policy.",
        "purerl": purerl.__version__,
        "config": '{"algo": "mine"}',
    }
    assert (made.producer_name, made.doc_string, made.opset_import[0].version) == ("purerl", "A policy.", 18)
    assert [value.name for value in (*made.graph.input, *made.graph.output)] == ["obs", "action"]


def test_a_model_is_checked(monkeypatch):
    from onnx import checker

    monkeypatch.setattr("purerl.workbench.onnx_policy.UNARY", {"tanh": "Tamh"})
    with pytest.raises(checker.ValidationError, match="Tamh"):
        export.onnx_model(*reversed(pendulum()), "A test.", "{}")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"none of onnx. Try pip install .purerl\[export\]"):
        export.onnx_model(*reversed(pendulum()), "A test.", "{}")
