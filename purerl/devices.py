"""Devices over which the members of a run are spread: each trains its share, and none waits for another."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, PartitionSpec

from purerl.config import ConfigError, Rule, validate

MAX_DEVICES = 256


def divide_the_cpu(devices: int | str) -> None:
    """Let the CPU be so many devices, if JAX has not begun and nothing else says how many."""
    elsewhere = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if isinstance(devices, int) and 1 < devices <= MAX_DEVICES and not elsewhere:
        try:
            if jax.config.jax_num_cpu_devices < devices:  # type: ignore[attr-defined]
                jax.config.update("jax_num_cpu_devices", devices)
        except RuntimeError:  # JAX has begun
            pass


def choose_devices(devices: int | str, members: int, together: str = "") -> int:
    """Return how many of JAX's local devices a run uses: the most of `devices` that divide its members.

    `devices` is a number or "all"; `together` says what keeps the members on one device.

    Raises:
        ConfigError: for more devices than there are, or several where one is all that a run can use.
    """
    there = len(jax.local_devices())
    if devices == "all":
        most = 1 if together else there
    elif isinstance(devices, str):
        raise ConfigError("devices", devices, "a number, or all")
    else:
        validate("devices", devices, Rule("count", 1, MAX_DEVICES))
        most = devices
        if devices > 1 and together:
            raise ConfigError("devices", devices, f"1 {together}")
        if devices > there:
            what = f"at most {there}, the number of devices that JAX has"
            hint = f'On a CPU: jax.config.update("jax_num_cpu_devices", {devices}) before JAX is first used.'
            raise ConfigError("devices", devices, what, hint)
    return max(n for n in range(1, most + 1) if members % n == 0)


def over_devices(function: Callable[..., Any], in_axes: tuple[Any, ...], devices: int) -> Callable[..., Any]:
    """Let each of the devices apply a function of members to its share of them.

    `in_axes` are those of `jax.vmap`: 0 for what has the members' axis `S`, None for what all share. All
    results have it.
    """
    if devices == 1:
        return function
    chosen, kind = jax.local_devices()[:devices], (AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("members",), axis_types=kind, devices=chosen)
    share = lambda axis: PartitionSpec() if axis is None else PartitionSpec("members")
    shares = jax.tree.map(share, in_axes, is_leaf=lambda axis: axis is None)
    return jax.shard_map(function, mesh=mesh, in_specs=shares, out_specs=share(0), check_vma=False)
