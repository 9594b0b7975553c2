"""A first afternoon with purerl, as one script: its commands, what they print, and the pictures they make.

    python scripts/tour.py                  # writes docs/tour.md and docs/pictures/tour-*
    python scripts/tour.py --short --out D  # the same with little training, into the directory D

Every command runs in a process of its own, in a directory that is removed at the end. The sweep is killed as
it trains, and goes on afterwards.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLAY_ALONE = """\
import sys
for name in ("jax", "flax", "purerl"):
    sys.modules[name] = None  # importing one of them would fail
import gymnasium
from policy import act
env, returns = gymnasium.make("CartPole-v1"), []
for seed in range(20):
    obs, carry, total, over = env.reset(seed=seed)[0], None, 0, False
    while not over:
        action, carry = act(obs, carry)
        obs, reward, terminated, truncated, _ = env.step(int(action))
        total, over = total + reward, terminated or truncated
    returns.append(total)
print("mean return of 20 episodes in Gymnasium:", sum(returns) / 20)
"""


class Tour:
    """The commands so far, and the page that they make."""

    def __init__(self, place: Path, short: bool):
        self.place, self.short, self.lines = place, short, [HEAD]

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.lines += [text, ""]

    def command(self, words: str, *, kill_once: str | None = None, shown: bool = True) -> str:
        """Run a command, and add it with its output; with `kill_once` kill it when this file is there."""
        argv = [sys.executable, "-m", *shlex.split(words)] if words.startswith("purerl") else None
        argv = argv or [sys.executable, *shlex.split(words)[1:]]
        env = os.environ | {"PYTHONPATH": f"{ROOT}", "COLUMNS": "80"}
        began = time.monotonic()
        pipe, merged = subprocess.PIPE, subprocess.STDOUT
        with subprocess.Popen(
            argv, cwd=self.place, env=env, stdout=pipe, stderr=merged, text=True
        ) as process:
            if kill_once:
                while process.poll() is None and not list(self.place.glob(kill_once)):
                    time.sleep(0.05)
                process.send_signal(signal.SIGKILL)
            out = process.communicate(timeout=3600)[0]
        if process.returncode != (-signal.SIGKILL if kill_once else 0):
            raise SystemExit(f"{words} ended with {process.returncode}:\n{out}")
        lines = [line for line in out.splitlines() if not line.startswith(("memory:", "disk:"))]
        if len(lines) > 24:
            lines = [*lines[:4], "...", *lines[-16:]]
        if shown:
            fence = "```bash" if words.startswith("purerl") else "```"
            self.lines += [fence, words, "```", "", *(["```text", *lines, "```", ""] if lines else [])]
        print(f"{time.monotonic() - began:6.1f} s  {words}", flush=True)
        return out


HEAD = """\
# A first afternoon

Made by `python scripts/tour.py`, which runs every command below in a process of its own. The output is what
they print where there is no terminal; on one, a live view takes the place of the lines of progress.
"""


def main() -> None:
    """Take the tour, and write its page and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="train for as little as shows every step")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="directory of the page and pictures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tour-") as scratch:
        tour = Tour(Path(scratch), arguments.short)
        take(tour)
        pictures = arguments.out / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        for picture in sorted(tour.place.glob("tour-*")):
            shutil.copy(picture, pictures / picture.name)
        page = "\n".join(tour.lines).replace(scratch, "~").rstrip()
        (arguments.out / "tour.md").write_text(page + "\n", encoding="utf-8")


def take(tour: Tour) -> None:
    """Run all commands of the tour."""
    steps, more = ("3000", "4000") if tour.short else ("100000", "100000")
    every = " --eval-interval 1000" if tour.short else " --eval-interval 5000"
    tour.say("## Two algorithms on two tasks, four seeds each")
    for env in ("cartpole", "acrobot"):
        for algo in ("ppo", "a2c"):
            options = f"--algo {algo} --env {env} --seeds 4 --total-timesteps {steps}{every}"
            quiet = "" if (algo, env) == ("ppo", "cartpole") else " --quiet"
            tour.command(f"purerl train {options} --logdir runs/{algo}-{env}{quiet}")
    tour.command("purerl list runs")
    for env in ("cartpole", "acrobot"):
        tour.command(f"purerl plot runs/ppo-{env} runs/a2c-{env} --legend PPO A2C --out tour-{env}.png")
        tour.say(f"![Learning curves on {env}](pictures/tour-{env}.png)")
    tour.say("## A sweep in one program, killed and resumed")
    tour.say("Three step sizes x two discounts x four seeds are 24 members of one program. It is killed here")
    options = (
        f"--algo ppo --env cartpole --total-timesteps {more} --eval-interval 0 --checkpoint-interval 1000"
    )
    values = "--learning-rate 1e-4 3e-4 1e-3 --gamma 0.98 0.99 --seeds 4 --logdir runs/sweep"
    tour.command(f"purerl sweep {options} {values}", kill_once="runs/sweep/checkpoints/step-*/manifest.json")
    tour.say("by SIGKILL, once its first checkpoint is there, and goes on from it:")
    tour.command("purerl resume runs/sweep")
    tour.say("## The best policy")
    first = tour.command("purerl eval runs/sweep --episodes 50")
    again = tour.command("purerl eval runs/sweep --episodes 50", shown=False)
    if first != again:
        raise SystemExit("two evaluations differ")
    tour.say("Once more, in another fresh process, the command prints the same numbers.")
    rows = [line.split() for line in first.splitlines() if re.match(r"\s+\S+seed\d+\s", line)]
    best = max(range(len(rows)), key=lambda i: float(rows[i][1].replace(",", "")))
    length = 40 if tour.short else 200
    film = f"--out tour-film.gif --max-steps {length} --width 300 --height 200"
    tour.command(f"purerl play runs/sweep --member {best} {film}")
    tour.say("![The best policy](pictures/tour-film.gif)")
    tour.say("## Away from purerl")
    tour.command(f"purerl export runs/sweep --member {best} --out policy.py")
    (tour.place / "play_alone.py").write_text(PLAY_ALONE)
    tour.command("python policy.py")
    tour.say("`play_alone.py` has Gymnasium and `policy.py` alone; JAX and purerl cannot be imported:")
    tour.lines += ["```", *PLAY_ALONE.splitlines(), "```", ""]
    tour.command("python play_alone.py")
    tour.command("purerl report runs/ppo-cartpole runs/a2c-cartpole --out report.html")


if __name__ == "__main__":
    main()
