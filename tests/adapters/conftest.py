"""Tests that need other libraries, each in an environment of its own, which noxfile.py makes."""

import importlib.util
import warnings

import pytest

LIBRARIES = {"test_brax.py": "brax", "test_gymnax.py": "gymnax", "test_playground.py": "mujoco_playground"}
"""File -> the library it imports. If that is not installed, nothing is collected."""

collect_ignore = [file for file, name in LIBRARIES.items() if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items):
    """Ignore warnings, which other libraries cause."""
    for item in items:
        if item.path.name in LIBRARIES:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="module", autouse=True)
def quiet_imports():
    """Ignore warnings of first imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
