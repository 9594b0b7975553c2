"""Logger and EpochLogger: Spinning Up's methods, and its files."""

import json

import jax
import numpy as np
import pytest

from purerl import EpochLogger, Logger
from purerl.config import ConfigError

MUTANTS = {
    "stored values stay": (
        "workbench/logger.py",
        "        self._stored.pop(key, None)\n",
        "",
        "test_an_epoch_in_the_format_of_spinning_up",
    ),
    "std of a sample": (
        "workbench/logger.py",
        "float(values.std())",
        "float(values.std(ddof=1))",
        "test_an_epoch_in_the_format_of_spinning_up",
    ),
    "a log is written over": (
        "workbench/logger.py",
        "if table.exists():",
        "if False:",
        "test_what_cannot_be_logged_is_refused",
    ),
    "columns change": (
        "workbench/logger.py",
        "if self._columns and key not in self._columns:",
        "if False:",
        "test_what_cannot_be_logged_is_refused",
    ),
}


def test_an_epoch_in_the_format_of_spinning_up(tmp_path, capsys):
    """Tab-separated, a header and a row an epoch; statistics of what was stored since the last one."""
    logger = EpochLogger(tmp_path / "run", exp_name="mine")
    for epoch, returns in enumerate(([1.0, 2.0], [4.0], [])):
        for value in returns:
            logger.store(EpRet=value, VVals=np.array([value, -value]))
        logger.log_tabular("Epoch", epoch)
        logger.log_tabular("EpRet", with_min_and_max=True)
        logger.log_tabular("VVals", average_only=True)
        logger.log_tabular("Time", np.float32(0.5))
        logger.dump_tabular()
    logger.close()
    assert (tmp_path / "run" / "progress.txt").read_text().splitlines() == [
        "Epoch\tAverageEpRet\tStdEpRet\tMaxEpRet\tMinEpRet\tAverageVVals\tTime",
        "0\t1.5\t0.5\t2.0\t1.0\t0.0\t0.5",
        "1\t4.0\t0.0\t4.0\t4.0\t0.0\t0.5",
        "2\t\t\t\t\t\t0.5",
    ]
    assert "AverageEpRet  1.5\n" in capsys.readouterr().out


def test_a_row_is_on_disk_once_it_is_dumped(tmp_path):
    logger = Logger(tmp_path, quiet=True)
    logger.log_tabular("Epoch", 0)
    logger.dump_tabular()
    assert (tmp_path / "progress.txt").read_text() == "Epoch\n0\n"
    logger.close()


def test_a_column_without_a_value_stays_blank(tmp_path, capsys):
    logger = Logger(tmp_path, quiet=True)
    logger.log("not shown")
    for row in ({"a": 1, "b": 2}, {"b": 3}):
        for key, value in row.items():
            logger.log_tabular(key, value)
        logger.dump_tabular()
    logger.close()
    assert (tmp_path / "progress.txt").read_text() == "a\tb\n1\t2\n\t3\n" and not capsys.readouterr().out


def test_a_config_is_what_json_can_hold(tmp_path):
    logger = Logger(tmp_path, exp_name="mine", quiet=True)
    logger.save_config(
        {"lr": np.float32(0.5), "sizes": (64, 64), "nested": {"f": len}, "on": True, "no": None}
    )
    logger.close()
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "exp_name": "mine",
        "lr": 0.5,
        "sizes": [64, 64],
        "nested": {"f": "<built-in function len>"},
        "on": True,
        "no": None,
    }


def test_a_state_is_saved_by_the_paths_of_its_arrays(tmp_path):
    logger = Logger(tmp_path, quiet=True)
    state = {"params": {"w": np.arange(3.0)}, "key": jax.random.key(3), "step": 4}
    assert logger.save_state(state).name == "state.npz" and logger.save_state(state, 7).name == "state7.npz"
    logger.close()
    with np.load(tmp_path / "state7.npz") as saved:
        np.testing.assert_array_equal(saved["params.w"], np.arange(3.0))
        np.testing.assert_array_equal(saved["key"], jax.random.key_data(state["key"]))
        assert saved["step"] == 4
    with pytest.raises(ConfigError, match="a pytree of arrays"):
        logger.save_state({"f": len})


def test_what_cannot_be_logged_is_refused(tmp_path):
    logger = Logger(tmp_path, quiet=True)
    logger.log_tabular("a", 1)
    with pytest.raises(ConfigError, match="key = 'a': expected a column that this row does not have yet"):
        logger.log_tabular("a", 2)
    with pytest.raises(ConfigError, match="without tabs"):
        logger.log_tabular("a\tb", 2)
    logger.dump_tabular()
    with pytest.raises(ConfigError, match="key = 'b': expected one of the columns of the first row: a"):
        logger.log_tabular("b", 2)
    logger.close()
    with pytest.raises(ConfigError, match=r"a directory without progress\.txt"):
        Logger(tmp_path, quiet=True)


def test_a_directory_by_date(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = Logger(exp_name="mine", quiet=True)
    logger.close()
    assert logger.output_dir.parent.name == "runs" and logger.output_dir.name.startswith("mine-20")
