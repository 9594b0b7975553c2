"""Every algorithm, and environments of every kind, under each of JAX's global switches.

Each is tried in a process of its own, `switches.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiling import FLAGS

HERE = Path(__file__).parent
TRACED = {
    "explicit ranks": {"JAX_NUMPY_RANK_PROMOTION": "raise"},
    "rbg": {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    "unsafe_rbg": {"JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg"},
    "two devices": {"XLA_FLAGS": FLAGS + " --xla_force_host_platform_device_count=2"},
}
"""Switches under which a program that is traced is sure to run, or has other random numbers."""
RUN = {
    "64 bits": {"JAX_ENABLE_X64": "1"},
}
LIMIT = 300
"""Seconds."""
pytestmark = pytest.mark.slow


def go(environment, *out):
    """Run `switches.py` with these environment variables."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"XLA_FLAGS": FLAGS, "PYTHONPATH": paths} | environment
    command = [sys.executable, str(HERE / "switches.py"), *map(str, out)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("switch", TRACED)
def test_everything_works(switch):
    go(TRACED[switch])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The numbers without a switch."""
    out = tmp_path_factory.mktemp("plain") / "numbers.npz"
    go({}, out)
    return np.load(out)


@pytest.mark.parametrize("switch", RUN)
def test_everything_learns_the_same(switch, plain, tmp_path):
    """To rounding."""
    go(RUN[switch], tmp_path / "numbers.npz")
    found = np.load(tmp_path / "numbers.npz")
    assert sorted(found) == sorted(plain) and len(plain) > 100
    for name in plain:
        assert found[name].dtype == plain[name].dtype, name
        np.testing.assert_allclose(found[name], plain[name], rtol=2e-3, atol=2e-4, err_msg=name)
