"""What the records of MinAtar say, as tables and a figure; `learning.py` trains, and this trains nothing.

    python benchmarks/minatar_tables.py
    python benchmarks/minatar_tables.py --write

The first prints the tables; the second puts them, and the figure, where docs/algos/dqn.md has them.

A return is that of the greedy policy: the mean of the last five evaluations, of 10 episodes each, over 5
seeds, with a 95% bootstrap interval of that mean. In training is the mean return of the episodes that ended
in the last row of the log, with the random actions of that time. Published ones are of training too, at more
steps, and read off figures.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from protocols import GAMES, MINATAR, WITHOUT
from records import RESULTS

from purerl.workbench import stats
from purerl.workbench.plot import intervals_figure, outputs, save

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "algos" / "dqn.md", DOCS / "pictures" / "minatar.svg"
ALGORITHMS = {"dqn": "DQN", "rainbow": "Rainbow", "pqn": "PQN"}
LABELS = {
    "double": "double",
    "dueling": "dueling",
    "prioritised": "prioritised replay",
    "n_step": "3-step returns",
    "noisy": "noisy networks",
    "munchausen": "Munchausen",
    "c51": "C51",
    "qr_dqn": "QR-DQN",
    "iqn": "IQN",
}
"""The parts in words, of which some are added to DQN, and some taken from Rainbow."""


def record_of(name: str, results: Path) -> dict[str, np.ndarray] | None:
    """Return the returns of each seed of a protocol, `[seeds]` each; None if it is not recorded whole."""
    path = results / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return {key: np.array(record[key], float) for key in ("final_returns", "last_episode_return")}


def interval_text(returns: np.ndarray) -> str:
    """Return the mean over seeds and its interval: `12.3 (10.1 to 14.0)`."""
    low, high = stats.bootstrap_interval(returns[:, None], stats.mean)
    return f"{returns.mean():.1f} ({low:.1f} to {high:.1f})"


def games_table(results: Path = RESULTS) -> str:
    """Return a row for each game and algorithm, with published returns beside them."""
    lines = [
        "| game | algorithm | steps | return | each seed | in training | published | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, protocol in MINATAR.items():
        if (record := record_of(name, results)) is None:
            continue
        returns, training = record["final_returns"], record["last_episode_return"]
        training = training[np.isfinite(training)]
        cells = (
            protocol.env,
            ALGORITHMS[name.split("-")[0]],
            f"{protocol.fields['total_timesteps'] // 1_000_000}M",
            interval_text(returns),
            ", ".join(f"{value:.1f}" for value in returns),
            f"{training.mean():.1f}" if training.size else "-",
            ", ".join(f"{value:g} after {at // 1_000_000}M" for at, value, _ in protocol.published) or "-",
            f"`python benchmarks/learning.py {name}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ablations(results: Path = RESULTS) -> Iterator[tuple[str, str, str, np.ndarray]]:
    """Yield game, protocol, label and returns of every recorded part, added to DQN or taken from Rainbow."""
    parts = {"dqn": "DQN"} | {name: f"DQN, {label}" for name, label in LABELS.items()}
    without = {f"rainbow-without-{name}": f"Rainbow without {LABELS[name]}" for name in WITHOUT}
    for name, label in (parts | {"rainbow": "Rainbow"} | without).items():
        for game in GAMES[:2]:
            if record := record_of(f"{name}-{game}-2m", results):
                yield game, name, label, record["final_returns"]


def parts_table(results: Path = RESULTS) -> str:
    """Return a row for each part, with a column for each of the two games."""
    rows: dict[str, dict[str, str]] = {}
    for game, name, label, returns in ablations(results):
        rows.setdefault(f"{label} | `{name}-GAME-2m`", {})[game] = interval_text(returns)
    lines = [f"| algorithm | protocol | {' | '.join(GAMES[:2])} |", "|---|---|---|---|"]
    for row, cells in rows.items():
        lines.append(f"| {row} | {' | '.join(cells.get(game, '') for game in GAMES[:2])} |")
    return "\n".join(lines)


def figure(results: Path = RESULTS) -> Any:
    """Return the means and intervals of the same rows, a panel for each game."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for game, _, label, returns in ablations(results):
        panels.setdefault(game, {})[label] = returns[:, None]
    return intervals_figure(panels, "return after 2M steps", "Mean of 5 seeds, 95% intervals", "DQN")


def with_tables(page: str, results: Path = RESULTS) -> str:
    """Return the text of the page with the tables that follow the comments `games` and `parts` made anew."""
    for name, table in (("games", games_table(results)), ("parts", parts_table(results))):
        page = re.sub(rf"(?<=<!-- {name} -->\n)(\|.*\n)*", f"{table}\n", page)
    return page


def main() -> int:
    """Print or write what is recorded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write into docs, and print nothing")
    if not parser.parse_args().write:
        print(games_table(), parts_table(), sep="\n\n")
        return 0
    save(figure(), outputs(PICTURE))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
