"""MJX's refusals, decided without MJX; tests/benchmarks/test_features.py has one model for each feature."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

import functools
import types

import jax
import mujoco
import numpy as np
import pytest

import purerl
from purerl.envs.mujoco.engine import mjx_support

MJCF = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 1"/>
    <body pos="0 0 0.5">
      <joint name="arm" axis="0 1 0"/>
      <geom size="0.1"/>
    </body>
  </worldbody>
  <actuator><motor joint="arm" ctrlrange="-1 1" {motor}/></actuator>
</mujoco>
"""
CONE = '<asset><mesh name="cone" vertex="0 0 0  0.1 0 0  0 0.1 0  0 0 0.1"/></asset><worldbody>'
PLAIN, DELAYED = MJCF.format(motor=""), MJCF.format(motor='delay="0.01" nsample="4"')


@pytest.mark.parametrize("place", ["mjModel", "mjOption"])
def test_a_field_in_no_list_is_refused_unless_it_is_zero(place):
    plain = mujoco.MjModel.from_xml_string(PLAIN)
    names = [name for name in dir(plain) if not name.startswith("_")]
    model = types.SimpleNamespace(**{name: getattr(plain, name) for name in names})
    option = {name: getattr(plain.opt, name) for name in dir(plain.opt) if not name.startswith("_")}
    model.opt = types.SimpleNamespace(**option)
    model.geom_stickiness = np.zeros(2)
    mjx_support.check(model)
    if place == "mjModel":
        model.geom_stickiness[1] = 1
    else:
        model.opt.stickiness = 1.0
    with pytest.raises(purerl.ConfigError, match=rf"does not simulate: {place}\.\w*stickiness"):
        mjx_support.check(model)


def test_an_environment_is_refused_when_it_is_made(tmp_path):
    path = tmp_path / "robot.xml"
    path.write_text(DELAYED)
    with pytest.raises(purerl.ConfigError, match="the delay of an actuator"):
        purerl.mujoco_env("robot", path, lambda params, physics, action: 0.0, engine="mjx")


def test_on_an_accelerator_auto_takes_the_engine_that_simulates_the_whole_model(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    physics = {}
    for name, text in dict(plain=PLAIN, delayed=DELAYED).items():
        path = tmp_path / f"{name}.xml"
        path.write_text(text)
        env = purerl.mujoco_env(name, path, lambda params, physics, action: 0.0)
        physics[name] = jax.eval_shape(env.reset, jax.random.key(0))[1].physics
    assert isinstance(physics["plain"].row, dict) and not isinstance(physics["delayed"].row, dict)
    (record,) = [record for record in caplog.records if "engine auto" in record.message]
    assert "takes mujoco for this model" in record.message and "the delay of an actuator" in record.message


def test_contacts_that_mjx_approximates_need_permission(tmp_path):
    path = tmp_path / "robot.xml"
    path.write_text(
        PLAIN.replace('<geom size="0.1"/>', '<geom type="mesh" mesh="cone"/>').replace("<worldbody>", CONE)
    )
    make = functools.partial(purerl.mujoco_env, "robot", path, lambda params, physics, action: 0.0)
    message = r"exact contacts of plane and mesh\. contacts='approximate' accepts other contacts\."
    with pytest.raises(purerl.ConfigError, match=message):
        make(engine="mjx")
    make(engine="mjx", contacts="approximate")
    with pytest.raises(purerl.ConfigError, match=r"contacts = 'aproximate'.*Did you mean approximate\?"):
        make(contacts="aproximate")


def test_a_field_that_mjx_does_not_compute_is_refused(tmp_path):
    path = tmp_path / "robot.xml"
    path.write_text(PLAIN)
    make = functools.partial(purerl.mujoco_env, "robot", path, lambda params, physics, action: 0.0)
    make(engine="mjx", fields=("cfrc_ext", "actuator_force"))
    with pytest.raises(purerl.ConfigError, match="fields = 'energy': expected a field that MJX computes"):
        make(engine="mjx", fields=("energy",))


MUTANTS = {
    "MJX takes contacts that it approximates": (
        "envs/mujoco/engine/mjx_support.py",
        'if contacts == "exact" else []',
        'if contacts == "none" else []',
        "test_contacts_that_mjx_approximates_need_permission",
    ),
    "auto takes MJX for every model": (
        "envs/mujoco/options.py",
        'chosen = "mujoco"\n            logger',
        "logger",
        "test_on_an_accelerator_auto_takes_the_engine_that_simulates_the_whole_model",
    ),
    "MJX takes every model": (
        "envs/mujoco/engine/mjx.py",
        "    mjx_support.check(model, contacts)\n",
        "",
        "test_an_environment_is_refused_when_it_is_made",
    ),
    "a field in no list is accepted": (
        "envs/mujoco/engine/mjx_support.py",
        'yield f"mjModel.{name}"',
        "pass",
        "test_a_field_in_no_list_is_refused_unless_it_is_zero[mjModel]",
    ),
}
