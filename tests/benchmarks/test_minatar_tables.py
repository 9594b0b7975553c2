"""Tables and figure of MinAtar: what they make of records, and that the page has them."""

import json
import re

import minatar_tables as tables
import pytest
from protocols import PARTS

RECORDS = {
    "dqn-breakout-2m": [10.0, 12.0],
    "n_step-breakout-2m": [14.0, 14.0],
    "n_step-asterix-2m": [1.0, 2.0],
    "rainbow-without-noisy-breakout-2m": [20.0, 22.0],
    "pqn-freeway-10m": [60.0, 60.0],
}


@pytest.fixture
def results(tmp_path):
    for name, returns in RECORDS.items():
        last = [None, None] if "freeway" in name else [8.0, 9.0]  # no episode ended in the last row
        record = {"final_returns": returns, "last_episode_return": last}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    return tmp_path


def test_a_row_for_each_game_and_algorithm_that_is_recorded(results):
    _, _, dqn, pqn = tables.games_table(results).splitlines()
    assert dqn.startswith(
        "| breakout | DQN | 2M | 11.0 (10.0 to 12.0) | 10.0, 12.0 | 8.5 | 10 after 5M, 7.4 "
    )
    assert "| freeway | PQN | 10M | 60.0 (60.0 to 60.0) | 60.0, 60.0 | - | - |" in pqn


def test_a_row_for_each_part_that_is_recorded(results):
    lines = tables.parts_table(results).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[0] for row in rows[2:]] == ["DQN", "DQN, 3-step returns", "Rainbow without noisy networks"]
    assert [row[2:] for row in rows[2:]] == [
        ["11.0 (10.0 to 12.0)", ""],
        ["14.0 (14.0 to 14.0)", "1.5 (1.0 to 2.0)"],
        ["21.0 (20.0 to 22.0)", ""],
    ]
    breakout, asterix = tables.figure(results).axes
    assert [line.get_xdata()[0] for line in breakout.lines] == [11, 14, 21, 11]  # the last is the line of DQN
    assert [line.get_xdata()[0] for line in asterix.lines] == [1.5]


def test_every_part_has_a_name_and_a_protocol():
    assert {"dqn", *tables.LABELS} == set(PARTS) and set(tables.WITHOUT) <= set(tables.LABELS)


def test_the_page_has_what_is_recorded(results):
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.games_table() in page and tables.parts_table() in page and tables.with_tables(page) == page
    other = tables.with_tables(page, results)
    assert tables.games_table(results) in other and tables.parts_table(results) in other
    assert tables.games_table() not in other and tables.with_tables(other) == page


def test_the_picture_has_the_rows_that_are_recorded():
    picture = tables.PICTURE.read_text()
    texts = set(re.findall("<!-- (.*?) -->", picture))
    labels = {label for _, _, label, _ in tables.ablations()}
    assert {text for text in texts if text.startswith(("DQN", "Rainbow"))} == labels
