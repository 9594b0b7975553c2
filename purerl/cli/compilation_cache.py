"""JAX's persistent compilation cache, with which a command's second start compiles nothing."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

from purerl.user_paths import user_cache, user_path


def use_compilation_cache(where: str = "auto") -> None:
    """Keep compiled programs in a directory, and look for them there.

    Args:
        where: a directory; "auto" for one of this kind of machine in the user's cache directory,
            unless JAX_COMPILATION_CACHE_DIR names one; "none" for no cache.
    """
    if where == "none" or (where == "auto" and os.environ.get("JAX_COMPILATION_CACHE_DIR")):
        return
    path = _default() if where == "auto" else user_path("compilation_cache", where)
    if path is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _default() -> Path | None:
    """Return the directory for this kind of processor: code for one can be illegal on another."""
    cache, kind = user_cache(), hashlib.sha256(_processor().encode()).hexdigest()[:16]
    return cache / "purerl" / "xla" / kind if cache else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kind = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join(sorted(kind))
