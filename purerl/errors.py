"""Errors about values, with a hint at the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from purerl.field_aliases import ALIASES
from purerl.shown import shorten, shown


class ConfigError(ValueError):
    """Error about one value: "`field` = value: expected `allowed`. `hint`"

    `allowed` completes the word "expected": a noun phrase such as "a whole number, at least 1". The message
    is one printable line for every name and value, since both may be untrusted: other characters are
    escaped, and long text is cut.
    """

    def __init__(self, field: str, value: Any, allowed: str, hint: str = ""):
        self.field, self.value = field, value
        what = f"expected {allowed.rstrip('.')}. {hint}".rstrip()
        message = f"{shorten(field)} = {shorten(shown(value))}: {what}"
        printed = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        super().__init__("".join(printed))


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return a sentence that names the nearest of `allowed`, or an empty string if none is near."""
    allowed = list(allowed)
    plain = name.replace("-", "_").lower()
    near = [ALIASES[plain]] if ALIASES.get(plain) in allowed else difflib.get_close_matches(plain, allowed, 1)
    return f"Did you mean {near[0]}?" if near else ""
