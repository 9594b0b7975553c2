"""These need other libraries, each in an environment of its own: noxfile.py makes them and runs these."""

import importlib.util
import warnings

import pytest

LIBRARIES = {"test_brax.py": "brax", "test_gymnax.py": "gymnax", "test_playground.py": "mujoco_playground"}
"""file -> what it imports. Where that is not installed, nothing is collected."""

collect_ignore = [file for file, name in LIBRARIES.items() if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items):
    """What other libraries warn of is not ours to mend, and so no error here."""
    for item in items:
        if item.path.name in LIBRARIES:
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="module", autouse=True)
def quiet_imports():
    """The first import of a library is when most of its warnings come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
