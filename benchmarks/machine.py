"""The machine and the versions of a measurement, for the JSON beside every number."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from pathlib import Path


def describe() -> dict[str, object]:
    """Return processor, cores, load and versions."""
    packages = ("purerl", "jax", "jaxlib", "flax", "optax", "distrax", "gymnasium", "mujoco", "numpy")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
    }


def out_file(text: str) -> Path:
    """The path in an option `--out`, `~` expanded. Raises where it could not be written later."""
    path = Path(os.path.expanduser(text))
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is no directory")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
