"""Plain tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Return a line for each row: its first cell aligned left, the others right, columns two spaces apart."""
    rows = list(rows)
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([indent + f"{row[0]:<{first}}", *map(str.rjust, row[1:], widths)]) for row in rows]
