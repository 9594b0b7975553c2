"""Preconditions of a run on JAX and on the system, which are met or refused before anything is made."""

from __future__ import annotations

import os
import resource

import jax

from purerl.errors import ConfigError
from purerl.members import Members
from purerl.shown import shorten

MEMBER_FILES = 2
"""Files of `logs.MemberLog`, open as long as the run."""
SPARE_FILES = 32
"""Files that a run opens for a while, and those of environments, roughly."""


def check_jax() -> None:
    """Raise ConfigError where JAX cannot compile, or does not find the platform that it is set to use."""
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        what = "False, since a run is compiled before its first step"
        raise ConfigError("jax_disable_jit", True, what, "purerl.make_train trains without compilation.")
    platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, for "cuda"
        if not platforms:
            raise
        what = "platforms that JAX finds on this machine, such as cpu"
        what += f"; it reports: {shorten(str(error), 200)}" if str(error) else ""
        raise ConfigError("JAX_PLATFORMS", platforms, what, "Unset, it lets JAX choose.") from error


def allow_files(members: Members) -> None:
    """Raise the soft limit on open files to what the logs of all members need, or raise ConfigError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/dev/fd")) + MEMBER_FILES * members.size + SPARE_FILES
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError) as error:
        what = f"a run whose logs fit the {max(soft, hard):,} files that this process may have open; "
        what += f"it needs {needed:,} for {members.describe()}"
        hint = f"Raise the limit, as by `ulimit -n {needed}`, or train fewer members in one run."
        raise ConfigError("seeds", members.seeds, what, hint) from error
