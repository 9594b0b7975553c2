"""Members spread over devices: the same run to rounding, each device with its share."""

import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny import assert_close, same_bits, tiny

import purerl
from purerl.cli.main import main
from purerl.config import ConfigError
from purerl.devices import choose_devices
from purerl.experiment import runner
from purerl.experiment.record import read_record
from purerl.experiment.sweep import read_sweep

MUTANTS = {
    "all on one device": (
        "devices.py",
        "    if devices == 1:\n        return function",
        "    if devices >= 1:\n        return function",
        "test_members_over_devices_are_those_on_one",
    ),
    "uneven shares": ("devices.py", "if members % n == 0", "if members", "test_the_most_devices_that_divide"),
    "a run of PBT over devices": (
        "devices.py",
        "if devices > 1 and together",
        "if False",
        "test_what_is_on_one_device_is_refused",
    ),
    "more than there are": (
        "devices.py",
        "if devices > there",
        "if False",
        "test_wrong_devices_are_refused",
    ),
    "values that are not divided": (
        "programs.py",
        "args = jax.tree.map(first, in_axes, args, is_leaf=lambda axis: axis is None)",
        "args = [first(0, arg) if axis == 0 else arg for arg, axis in zip(args, in_axes)]",
        "test_members_over_devices_are_those_on_one",
    ),
    "a resumed run forgets its devices": (
        "experiment/runner.py",
        'else old["devices"] if old else 1',
        "else 1",
        "test_a_run_resumes_on_its_devices_or_on_others[None]",
    ),
    "a sweep forgets its devices": (
        "experiment/sweep.py",
        'values.get("devices", 1)',
        "1",
        "test_a_sweep_over_devices",
    ),
    "a CPU that stays one device": (
        "devices.py",
        'jax.config.update("jax_num_cpu_devices", devices)',
        "pass",
        "test_a_cpu_becomes_as_many_devices",
    ),
}
FIELDS = {"total_timesteps": 64, "log_interval": 16, "eval_interval": 32}


def devices_of(tree):
    return {device.id for leaf in jax.tree.leaves(tree) for device in leaf.devices()}


@pytest.mark.parametrize(("algo", "seeds"), [("ppo", 2), ("sac", 1)])
def test_members_over_devices_are_those_on_one(algo, seeds):
    """Two step sizes, one on each device."""
    cfg, rates = tiny(algo, **FIELDS), {"learning_rate": [1e-4, 1e-3]}
    one, two = (purerl.run(cfg, seeds, sweep=rates, devices=n, progress=False) for n in (1, 2))
    assert devices_of(one.state) == {0} and devices_of(two.state) == {0, 1}
    assert [shard.data.shape for shard in two.state.key.addressable_shards] == [(seeds,), (seeds,)]
    assert_close(one.state, two.state)
    for name, values in one.metrics.items():
        np.testing.assert_allclose(values, two.metrics[name], 2e-4, 2e-5, err_msg=name)
    assert one.members == two.members


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return a config, a folder without its newest checkpoint, and the result of its run on two devices."""
    cfg = tiny("sac", checkpoint_interval=32, **FIELDS)
    folder = tmp_path_factory.mktemp("devices") / "run"
    whole = purerl.run(cfg, 2, folder, devices=2, progress=False)
    shutil.rmtree(max((folder / "checkpoints").iterdir()))
    return cfg, folder, whole


@pytest.mark.parametrize("devices", [None, 1, 2])
def test_a_run_resumes_on_its_devices_or_on_others(stopped, devices, tmp_path):
    """On as many, by default, it has the bits of the run that went on; on others it differs by rounding."""
    cfg, folder, whole = stopped
    shutil.copytree(folder, tmp_path / "run")
    again = purerl.run(cfg, 2, tmp_path / "run", devices=devices, resume=True, progress=False)
    assert devices_of(again.state) == set(range(devices or 2))
    assert read_record(tmp_path / "run")["devices"] == (devices or 2)
    assert_close(again.state, whole.state)
    assert devices == 1 or same_bits(again.state, whole.state)


def test_the_most_devices_that_divide():
    assert len(jax.local_devices()) == 2
    assert [choose_devices(2, members) for members in (1, 4, 5, 6)] == [1, 2, 1, 2]
    assert [choose_devices("all", members) for members in (3, 8)] == [1, 2]
    assert choose_devices("all", 8, "with PBT") == choose_devices(1, 8, "with PBT") == 1


def test_fewer_devices_than_wanted_are_said(capfd):
    purerl.run(tiny("ppo", **FIELDS), 3, devices=2)
    assert "devices: 1, the most of 2 that divide 3 members" in capfd.readouterr().err


@pytest.mark.parametrize("wrong", [0, 3, 1.5, "two", True])
def test_wrong_devices_are_refused(wrong):
    with pytest.raises(ConfigError, match="devices"):
        purerl.run(tiny("ppo", **FIELDS), 6, devices=wrong)


def test_what_is_on_one_device_is_refused():
    small = {"total_timesteps": 64, "learning_starts": 8, "log_interval": 16, "eval_interval": 0}
    with pytest.raises(ConfigError, match="1 for an environment that steps in Python"):
        purerl.run(purerl.make_config("dqn", env="gym:CartPole-v1", **small), 2, devices=2)
    pbt = purerl.PBT({"learning_rate": purerl.Range(1e-4, 1e-2)}, interval=32)
    cfg = tiny("ppo", **FIELDS)
    with pytest.raises(ConfigError, match="1 with PBT, whose members go on from each other"):
        purerl.run(cfg, 2, sweep={"learning_rate": [1e-4, 1e-3]}, pbt=pbt, devices=2)


def test_a_sweep_over_devices(tmp_path, monkeypatch):
    """Each part on as many as divide it; the sweep remembers them."""
    used = []
    real = runner.choose_devices
    monkeypatch.setattr(runner, "choose_devices", lambda *args: used.append(real(*args)) or used[-1])
    small = "--algo ppo --env cartpole --total-timesteps 64 --num-envs 2 --num-steps 8 --num-minibatches 1"
    words = [*small.split(), "--hidden-sizes", "4", "--quiet", "--compilation-cache", "none"]
    words += ["--learning-rate", "1e-4", "1e-3", "--devices", "2", "--logdir", str(tmp_path / "sweep")]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["sweep", *words])
    assert used == [2] and read_sweep(tmp_path / "sweep").devices == 2


def test_a_cpu_becomes_as_many_devices():
    """Where JAX has not begun, `run` asks for them."""
    code = (
        "import purerl; cfg = purerl.make_config('ppo', total_timesteps=64, num_envs=2, num_steps=8, "
        "num_minibatches=1, log_interval=16, eval_interval=0, hidden_sizes=(4,))\n"
        "print(len(purerl.run(cfg, 3, devices=3, progress=False).state.key.devices()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, timeout=120)
    assert done.stdout == b"3\n"
