"""Parts of a run that the user's code makes: what a record says of them, and what is asked for again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from purerl.config import Config, ConfigError
from purerl.registry import ALGORITHMS, OWN_ALGORITHMS, OWN_ENVIRONMENTS, algorithms, config_class
from purerl.shown import shorten


def own_parts(cls: type[Config], env: Any, networks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parts of a run that the user's code makes, for its record: names only, never imported.

    Args:
        cls: the class of the configuration.
        env: an environment that was passed as an object, or None.
        networks: the user's networks, or None.

    Raises:
        ConfigError: if a config class of the user has the `algo` of another class.
    """
    known = cls.algo in algorithms()
    own: dict[str, Any] = {}
    if known and config_class(cls.algo) is not cls:
        what = (
            f"an id of its own, since {cls.__name__} is another class than {config_class(cls.algo).__name__}"
        )
        raise ConfigError(f"{cls.__name__}.algo", cls.algo, what)
    if cls.algo not in ALGORITHMS:
        own["algorithm"] = f"{cls.__module__}:{cls.__qualname__}"
    if env is not None:
        own["env"] = env.name
    return own | ({"networks": sorted(networks)} if networks else {})


def check_algorithm(record: dict[str, Any]) -> None:
    """Raise ConfigError if the run's algorithm is the user's, and this process has not registered it."""
    algo, place = record["config"].get("algo"), record.get("own", {}).get("algorithm")
    if place and algo not in OWN_ALGORITHMS:
        what = "an algorithm that this process knows"
        cls = place.rpartition(":")[2]
        hint = (
            f"This run was trained by an algorithm of your own, {shorten(place)!r}: register it before, by "
        )
        raise ConfigError("algo", algo, what, hint + f"purerl.register_algorithm({algo!r}, {shorten(cls)}).")


def check_given(record: dict[str, Any], env: Any, networks: Mapping[str, Any] | None) -> None:
    """Raise ConfigError if an environment or networks of the user that a run was trained with are missing."""
    own = record.get("own", {})
    name, needed = own.get("env"), own.get("networks", [])
    if name is not None and env is None and name not in OWN_ENVIRONMENTS:
        name = shorten(name)
        hint = (
            f"This run was trained on an environment of your own, {name!r}: pass it as env=, or register it "
        )
        raise ConfigError(
            "env", None, "an environment", hint + f"before, by purerl.register_env({name!r}, ...)."
        )
    missing = [str(name) for name in needed if name not in (networks or {})]
    if missing:
        names = shorten(", ".join(missing))
        hint = f"This run was trained with networks of your own, {names}: pass them as networks=."
        raise ConfigError("networks", networks, "a mapping with all of them", hint)
