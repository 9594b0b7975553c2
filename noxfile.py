"""Checks that need an environment of their own. `nox` runs all, `nox -s gymnax1` one, `nox -l` lists them.

    python -m nox -s gymnax1 -- -k CartPole

What follows `--` goes to pytest. CI is .ci/run and needs none of these.
"""

import nox

nox.needs_version = ">=2025.10"
nox.options.reuse_existing_virtualenvs = True
LIBRARIES = {
    "gymnax0": ("tests/adapters/test_gymnax.py", "gymnax==0.0.9"),
    # gymnax excludes the newest JAX and Gymnasium; naming them saves the resolver a search.
    "gymnax1": ("tests/adapters/test_gymnax.py", "gymnax==1.0.1", "jax<0.12", "gymnasium<1.4"),
    "brax": ("tests/adapters/test_brax.py", "brax==0.14.2"),
    "playground": ("tests/adapters/test_playground.py", "playground==0.2.0"),
}
"""Session -> the file that it runs, and what that needs beside purerl."""
PAGE = "tests/test_pages.py::test_the_python_of_a_page_runs_in_order[docs/environments.md]"
"""The page whose code makes environments of these libraries."""


@nox.session
def tests(session: nox.Session) -> None:
    """The test command of README.md."""
    session.install("-c", "constraints/pins.txt", "-e", ".[compiler,dev]")
    arguments = session.posargs or ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"]
    session.run("python", "-m", "pytest", *arguments)


def adapter(session: nox.Session) -> None:
    """Another library's environments through purerl, compared with the library's own results."""
    file, *packages = LIBRARIES[session.name]
    session.install("-e", ".", "pytest>=9,<10", *packages)
    env = {"NPROC": "8", "PIP_CONSTRAINT": None}  # MJX under `vmap` hangs with few XLA threads
    session.run("python", "-m", "pytest", "-m", "", file, PAGE, *session.posargs, env=env)


for name in LIBRARIES:
    nox.session(adapter, name=name)
