"""Fixtures of the environments' tests."""

import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """MuJoCo appends to MUJOCO_LOG.TXT in the working directory: let that be a scratch folder."""
    monkeypatch.chdir(tmp_path)
