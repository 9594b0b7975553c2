"""Learning runs whose protocols are fixed in protocols.py, before they run; every seed is reported.

    python benchmarks/learning.py sac-half_cheetah-100k

writes `benchmarks/results/learning/NAME.json`: the protocol, each seed's evaluations, and the bar, reached or
not. Where a task defines success, its rate counts too.

    python benchmarks/learning.py --queue [NAME ...]
    python benchmarks/learning.py --status
    python benchmarks/learning.py --table

The first runs the named protocols, or all, that have no record yet, one after the other, at the lowest
priority. It may be stopped at any time, by Ctrl-C, SIGTERM, SIGKILL or a crash: the same command goes on from
the last checkpoint. Small networks leave half of two cores idle: two queues of different names, each with a
`--folder` and, by `taskset`, a core of its own, do 1.2 times as much (SAC on half_cheetah). Logs and
checkpoints are in `runs/learning-queue`, and are removed once a record is written. A run that fails is marked
with its error, and skipped until `--retry` is given. With `--by-seed` seeds are trained one after the other,
and each has a record as soon as it is done: for a machine that is there for hours, and not for days.
`--status` prints what is done, under way and left, `--table` the last evaluations of the on-policy family.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import learning_queue
import machine
import records
from protocols import PROTOCOLS, config_of

import purerl
from purerl.errors import did_you_mean


def main() -> int:
    """Run the protocol named on the command line, or work on the queue, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", type=protocol_name, nargs="*", metavar="NAME", help="protocol to run")
    parser.add_argument("--table", action="store_true", help="print what was recorded, and run nothing")
    parser.add_argument("--queue", action="store_true", help="run what has no record: NAMEs or all")
    parser.add_argument("--retry", action="store_true", help="with --queue: those that have failed, too")
    parser.add_argument("--keep", action="store_true", help="with --queue: keep logs and checkpoints")
    parser.add_argument("--by-seed", action="store_true", help="with --queue: one seed after the other")
    parser.add_argument("--status", action="store_true", help="print the state of the queue")
    parser.add_argument("--folder", type=Path, default=learning_queue.FOLDER, help="of the queue")
    parser.add_argument("--logdir", help="with NAME: keep the run's logs here")
    arguments = parser.parse_args()
    if (arguments.retry or arguments.keep or arguments.by_seed) and not arguments.queue:
        parser.error("--retry, --keep and --by-seed belong to --queue")
    run_now = bool(arguments.names) and not arguments.queue
    if run_now + arguments.queue + arguments.status + arguments.table > 1:
        parser.error("NAME, --queue, --status and --table exclude each other")
    if run_now and len(arguments.names) > 1:
        parser.error("one NAME at a time, or several with --queue")
    if arguments.logdir and not run_now:
        parser.error("--logdir belongs to NAME")
    if arguments.queue:
        return work_on_the_queue(arguments)
    if arguments.status:
        print(learning_queue.status(PROTOCOLS, arguments.folder))
    elif run_now:
        run(arguments.names[0], arguments.logdir)
    else:
        print(records.table(PROTOCOLS))
    return 0


def protocol_name(text: str) -> str:
    """Return `text` if a protocol has this name."""
    if text not in PROTOCOLS:
        raise argparse.ArgumentTypeError(f"no protocol {text!r}. {did_you_mean(text, PROTOCOLS)}".rstrip())
    return text


def run(name: str, logdir: str | None) -> None:
    """Run one protocol to its end, and write and print its record."""
    protocol = PROTOCOLS[name]
    cfg, facts = config_of(protocol), {"revision": records.revision(), "machine": machine.describe()}
    record = records.make_record(name, protocol, cfg, purerl.run(cfg, protocol.seeds, logdir), facts)
    records.write_json(records.RESULTS / f"{name}.json", record)
    print(json.dumps(record, indent=1))


def work_on_the_queue(arguments: argparse.Namespace) -> int:
    """Return the exit code: 1 if a run has failed, 2 if another process works, 128 plus a signal's number."""
    chosen = {name: PROTOCOLS[name] for name in arguments.names or PROTOCOLS}
    try:
        options = {name: getattr(arguments, name) for name in ("retry", "keep", "by_seed")}
        failed = learning_queue.work(chosen, arguments.folder, **options)
    except learning_queue.Busy as busy:
        print(busy, file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"{stop}\nThe same command goes on from here.", file=sys.stderr)
        return 128 + getattr(stop, "signum", 2)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
