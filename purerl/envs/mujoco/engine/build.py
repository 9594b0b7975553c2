"""The native engine's shared library: compiled at first use, cached, loaded.

The only module outside `purerl.experiment` that writes to disk. The library's name in the cache is a hash of
its sources, flags and versions, so it is never stale; an atomic rename puts it there, so two processes may
build at once.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from purerl.envs.mujoco.engine.physics import EngineError
from purerl.user_paths import user_cache

FOLDER = Path(__file__).parent
SOURCES = ("native.cc", "native_batch.h", "native_plan.h")
"""The first one is compiled; it includes the others."""
FLAGS = ("-O2", "-std=c++17", "-shared", "-fPIC")

ADVICE = """\
The native MuJoCo engine is compiled once, at first use, and {problem}.
It needs a C++17 compiler; any of these installs one:
  Debian, Ubuntu   apt-get install g++
  macOS            xcode-select --install
  conda            conda install cxx-compiler
  pip              pip install ziglang
To use a particular compiler, name it in the environment variable CXX."""


@functools.cache
def load_library() -> ctypes.CDLL:
    """Return the native engine, compiled if the cache lacks it. Raises EngineError."""
    load_mujoco()
    path = _library_path()
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # a damaged file in the cache
            path.unlink(missing_ok=True)
    path = _build(path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(ADVICE.format(problem=f"the result does not load: {error}")) from error


def load_mujoco() -> ctypes.CDLL:
    """Return this process's libmujoco, its symbols global for libraries linked to nothing.

    Raises EngineError if there is none.
    """
    import mujoco

    folder = Path(mujoco.__file__).parent
    names = sorted([*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib")])
    if not names:
        raise EngineError(f"no libmujoco in {folder}: reinstall the mujoco package")
    return ctypes.CDLL(str(names[0]), mode=ctypes.RTLD_GLOBAL)


def _library_path() -> Path:
    import mujoco

    ingredients = (
        *((FOLDER / name).read_text() for name in SOURCES),
        mujoco.__version__,
        importlib.metadata.version("jaxlib"),
        os.environ.get("CXX", ""),
        *_flags(),
        platform.platform(),
        platform.machine(),
    )
    key = hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:32]
    return Path(user_cache() or os.devnull, "purerl", "native", f"{key}.so")


def _flags() -> tuple[str, ...]:
    return (*FLAGS, "-undefined", "dynamic_lookup") if sys.platform == "darwin" else FLAGS


def _compiler() -> list[str]:
    """Return the compiler's command. Raises EngineError if there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise EngineError(ADVICE.format(problem="no C++ compiler was found"))


def _build(path: Path) -> Path:
    """Compile to `path`, or into a private folder if that cannot be written; return the file."""
    import jax
    import mujoco

    compiler = _compiler()
    folder = _writable(path.parent)
    handle, temporary = tempfile.mkstemp(suffix=".so", dir=folder)
    os.close(handle)
    includes = (Path(mujoco.__file__).parent / "include", jax.ffi.include_dir())
    command = [*compiler, *_flags(), *(f"-I{include}" for include in includes)]
    logging.getLogger(__name__).warning("compiling the native MuJoCo engine (once, some seconds) ...")
    try:
        _compile([*command, str(FOLDER / SOURCES[0]), "-o", temporary])
        os.replace(temporary, folder / path.name)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return folder / path.name


def _compile(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise EngineError(ADVICE.format(problem=f"{command[0]} does not run: {error}")) from error
    except subprocess.CalledProcessError as error:
        last_lines = "\n".join(error.stderr.strip().splitlines()[-15:])
        problem = f"{' '.join(command)} failed:\n\n{last_lines}\n"
        raise EngineError(ADVICE.format(problem=problem)) from error


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="purerl-native-"))
