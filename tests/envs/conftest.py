"""Fixtures of the environments' tests."""

import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Run in a scratch folder: MuJoCo appends to MUJOCO_LOG.TXT in the working directory."""
    monkeypatch.chdir(tmp_path)
