"""Facts about the process that trains: versions, device, flags, and the revision of the user's repository."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import purerl

PACKAGES = ("jax", "jaxlib", "flax", "optax", "distrax", "gymnasium", "mujoco", "numpy")
FLAGS = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL")
"""Environment variables that change numbers or speed."""
MOST_BYTES = 2**20


def provenance() -> dict[str, Any]:
    """Return the facts, as plain values; those that are unknown are None or missing."""
    device = jax.devices()[0]
    versions = {"purerl": purerl.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    config: Any = jax.config
    revision = None
    with suppress(OSError):  # the working directory is gone
        revision = git_revision(Path.cwd())
    return {
        "versions": versions,
        "device": f"{device.platform}: {device.device_kind}",
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "matmul_precision": config.jax_default_matmul_precision,
        "git_revision": revision,
    }


def git_revision(place: Path) -> str | None:
    """Return the commit that is checked out in the repository around `place`; None without one.

    Git's own files are read, and no program is run.
    """
    for folder in (place, *place.parents):
        with suppress(OSError, UnicodeDecodeError):
            git = folder / ".git"
            if git.is_file():  # of a worktree or a submodule
                git = folder / _text(git).removeprefix("gitdir:").strip()
            head = _text(git / "HEAD").strip()
            if not head.startswith("ref:"):
                return _commit(head)
            name = head.removeprefix("ref:").strip()
            common = git / _text(git / "commondir").strip() if (git / "commondir").is_file() else git
            for base in (git, common):
                if ".." not in name and (base / name).is_file():
                    return _commit(_text(base / name).strip())
            for line in _text(common / "packed-refs").splitlines():
                if line.endswith(f" {name}"):
                    return _commit(line.split()[0])
    return None


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_BYTES).decode("utf-8")


def _commit(text: str) -> str | None:
    return text if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) else None
