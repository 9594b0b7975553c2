"""A queue of learning runs: one after the other, at the lowest priority, each going on where it was stopped.

Its folder holds, for each protocol without a record:

    NAME/run/            the run's own directory: logs and checkpoints, as `purerl.run` leaves them
    NAME/sessions.json   when, where and at which revision it was started or continued
    NAME/failed.json     the error that ended it, if one did
    kept/NAME/           the same after the record was written, with `keep`
    lock                 held by the process that works on the queue

With `by_seed` each seed is a run of its own, in NAME/seed0/, NAME/seed1/ and so on, and its record is kept in
`seeds/`, beside the other records, until the last one makes the record of the protocol.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import jax
import machine
import records
from protocols import Protocol, config_of

import purerl

FOLDER = Path(__file__).parents[1] / "runs" / "learning-queue"
"""Ignored by git."""


class Busy(RuntimeError):
    """Another process works on the queue."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the queue; it dies with the process. Raises Busy if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        if not _try_lock(file, fcntl.LOCK_EX):
            raise Busy(_holder(folder) or f"another process works on the queue in {folder}")
        file.truncate(0)
        file.write(f"process {os.getpid()} works on the queue in {folder}")
        file.flush()
        yield


def _holder(folder: Path) -> str | None:
    """Return the lock's text if a process holds it."""
    with suppress(FileNotFoundError), (folder / "lock").open(encoding="utf-8") as file:
        return None if _try_lock(file, fcntl.LOCK_SH) else file.read()
    return None


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def work(
    protocols: Mapping[str, Protocol],
    folder: Path = FOLDER,
    results: Path = records.RESULTS,
    *,
    retry: bool = False,
    keep: bool = False,
    by_seed: bool = False,
) -> list[str]:
    """Run every protocol without a record, in order, and return the names of those that failed.

    A run that a signal ends leaves its checkpoint, and KeyboardInterrupt goes through: the next call goes on
    with it. One that fails is marked with its error, and the queue goes on.

    Args:
        protocols: by name.
        folder: of the queue.
        results: directory of the records.
        retry: continue those that have failed before, too.
        keep: keep the directories of finished runs, in `kept`.
        by_seed: train one seed after the other, and keep what each has given.

    Raises:
        Busy: if another process works on the queue.
    """
    failed = []
    with locked(folder):
        _lower_priority()
        for name, protocol in protocols.items():
            place, mark = folder / name, folder / name / "failed.json"
            if (results / f"{name}.json").exists():
                _put_away(place, folder / "kept" / name if keep else None)
                continue
            if mark.exists() and not retry:
                print(f"{name}: failed before ({_error_of(mark)}); --retry tries it again", flush=True)
                failed.append(name)
                continue
            mark.unlink(missing_ok=True)
            try:
                if by_seed:
                    record = _run_by_seed(name, protocol, place, results)
                else:
                    record = _run(name, protocol, place, range(protocol.seeds))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                report = {"error": text, "traceback": traceback.format_exc(), "date": _now()}
                records.write_json(mark, report)
                print(f"{name}: failed: {text}", flush=True)
                failed.append(name)
            else:
                records.write_json(results / f"{name}.json", record)
                for part in parts_of(name, protocol, results):
                    part.unlink(missing_ok=True)
                _put_away(place, folder / "kept" / name if keep else None)
            jax.clear_caches()  # or the programs of all runs so far stay in memory
    return failed


def parts_of(name: str, protocol: Protocol, results: Path) -> list[Path]:
    """Return where the records of the seeds are, until all are there."""
    return [results / "seeds" / f"{name}-seed{i}.json" for i in range(protocol.seeds)]


def _run_by_seed(name: str, protocol: Protocol, place: Path, results: Path) -> dict[str, Any]:
    """Train the seeds that have no record yet, one after the other, and return the record of all."""
    for i, part in enumerate(parts_of(name, protocol, results)):
        if not part.exists():
            records.write_json(part, _run(name, protocol, place / f"seed{i}", range(i, i + 1)))
    parts = [json.loads(part.read_text("utf-8")) for part in parts_of(name, protocol, results)]
    return records.join(protocol, config_of(protocol), parts)


def _run(name: str, protocol: Protocol, place: Path, seeds: range) -> dict[str, Any]:
    """Begin the run of some seeds in `place` or go on with it, to its end, and return its record."""
    cfg, sessions = config_of(protocol), _read(place / "sessions.json", [])
    title = name if len(seeds) == protocol.seeds else f"{name}, seed {seeds.start}"
    session = {"date": _now(), "revision": records.revision(), "machine": machine.describe()}
    records.write_json(place / "sessions.json", [*sessions, session])
    print(f"{title}: {'continued' if sessions else 'started'} {session['date']}", flush=True)
    began = time.monotonic()
    _forget_peak()
    try:
        run = purerl.run(cfg, len(seeds), place / "run", first_seed=seeds.start)
    except purerl.ConfigError as error:
        if error.field != "logdir":
            raise
        # There is a run already.
        run = purerl.run(cfg, len(seeds), place / "run", first_seed=seeds.start, resume=True)
    peak = _peak_bytes()
    facts = {
        "machine": session["machine"],
        "sessions": _read(place / "sessions.json", []),
        "peak_bytes": peak,
    }
    record = records.make_record(name, protocol, cfg, run, facts)
    print(
        f"{title}: done, {record['run_seconds']:,.0f} s of training in {len(facts['sessions'])} session(s), "
        f"{time.monotonic() - began:,.0f} s this time, {peak / 2**20:,.0f} MiB at most",
        flush=True,
    )
    return record


def status(protocols: Mapping[str, Protocol], folder: Path = FOLDER, results: Path = records.RESULTS) -> str:
    """Return what is done, under way, failed and left, one line for each protocol."""
    lines = [_holder(folder) or "no process works on the queue"]
    counts: dict[str, int] = dict.fromkeys(("done", "under way", "failed", "left"), 0)
    for name, protocol in protocols.items():
        state, detail = state_of(name, protocol, folder, results)
        counts[state] += 1
        lines.append(f"{name:38}{state:11}{detail}".rstrip())
    return "\n".join([*lines, ", ".join(f"{count} {state}" for state, count in counts.items())])


def state_of(name: str, protocol: Protocol, folder: Path, results: Path) -> tuple[str, str]:
    """Return the state of a protocol, one of done, under way, failed and left, and its numbers in words."""
    if record := _read(results / f"{name}.json", None):
        passed = {True: "passed", False: "missed", None: "no bar"}[
            record.get("passed", record.get("every_seed_passed"))
        ]
        finals = ", ".join(map(_short, record.get("final_returns", [])))
        return "done", f"{record.get('date', '')} {passed} {finals}"
    if (mark := folder / name / "failed.json").exists():
        return "failed", _error_of(mark)
    recorded = [part for part in parts_of(name, protocol, results) if part.exists()]
    if not recorded and not any((folder / name).rglob("sessions.json")):
        return "left", ""
    step, returns = 0, dict[str, list[Any]](eval=[], eval_stochastic=[])
    for log in sorted((folder / name).rglob("metrics.jsonl"), key=_seed_of):
        rows = list(_rows(log))
        step = max([step, *(row["step"] for row in rows)])
        for kind, of_seeds in returns.items():
            known = [row[f"{kind}/return"] for row in rows if row.get(f"{kind}/return") is not None]
            of_seeds.append(known[-1] if known else None)
    total = config_of(protocol).total_timesteps
    shown = (f"{kind} {', '.join(map(_short, values))}" for kind, values in returns.items() if any(values))
    seeds = [f"{len(recorded)} of {protocol.seeds} seeds recorded"] if recorded else []
    return "under way", "; ".join([*seeds, f"step {step:,.0f} of {total:,}", *shown])


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole rows of a log that may be written at this moment."""
    for line in path.read_text("utf-8").splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _seed_of(log: Path) -> int:
    return int(log.parent.name.removeprefix("seed"))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:,.{0 if abs(value) >= 100 else 1}f}"


def _error_of(mark: Path) -> str:
    return str(_read(mark, {}).get("error", "unknown"))


def _read(path: Path, missing: Any) -> Any:
    return json.loads(path.read_text("utf-8")) if path.exists() else missing


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _put_away(place: Path, to: Path | None) -> None:
    """Remove the folder of a recorded run, or move it to `to`."""
    if not place.exists():
        return
    if to is None:
        shutil.rmtree(place)
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        place.rename(to)


def _lower_priority() -> None:
    with suppress(OSError):
        os.nice(19)


def _forget_peak() -> None:
    """Let the peak of memory start again, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    """Return the most memory held since `_forget_peak`, or since the process began."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
