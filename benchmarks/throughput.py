"""Speed of training, and the cost of the loop beyond the work in it.

    python benchmarks/throughput.py --cases sac-half_cheetah ppo-half_cheetah ppo-cartpole --seeds 1 8

For each case, `algo-env[-engine]` or a key of SETTINGS, and number of seeds, four programs are compiled,
for all seeds at once and with the state donated, as `purerl.run` does it:

- *whole*: `Driver.chunk`, that is rollouts and updates, metrics and the guard against divergence.
- *rollout*: as many rollouts of the trained policy, which stays as it is. Their transitions are results
  of the program, one after the other in a stack, so none is optimised away. Writing a transition is
  therefore in this part, and once more into the stack: one copy more than in the whole.
- *update*: as many updates on the stack that the last *rollout* returned, one rollout each, so no two
  updates see the same transitions and nothing moves out of the loop. Writing into the replay buffer, and
  the metrics, are in this part, and so is reading a rollout out of the stack, which the whole spares.
- *environment*: as *rollout*, with uniform actions instead of a policy. Other actions may cost the
  physics more or less, so rollout less environment is the policy's cost only roughly.

Each of the two extra copies takes some 0.03 us a transition of half_cheetah on two cores: together 0.2 % of
PPO's time there and less elsewhere, by which the overhead comes out too small.

overhead = whole / (rollout + update), of seconds in the same turn; the median over the turns counts. A
turn calls the programs one after the other, again and again, until the whole has taken `--seconds`: so a
change in the machine's load meets all of them. `foreign_load` is the share of all cores that other
programs had meanwhile. The same ratio is given of each part's fastest call and of processor time, which a
busy machine disturbs less.

Tracing and compiling are timed apart. All starts after the warm-up and two calls of the whole. Other
libraries' training takes turns beside ours, where an interpreter that has them is given and they can do as
many seeds; see peers.py. A peer that is one program of a whole run is set against `make_train`, which is one
too, both from fresh keys and with their warm-up; any other against the whole above. The comparisons of PPO:

    python benchmarks/throughput.py --cases ppo-half_cheetah-2048x1 --seeds 1 --sbx-python PY --sb3-python PY
    python benchmarks/throughput.py --cases ppo-cartpole-purejaxrl --seeds 1 8 --purejaxrl-python PY

Those of DQN and PQN:

    python benchmarks/throughput.py --cases dqn-cartpole-cleanrl --seeds 1 --cleanrl-python PY --sb3-python PY
    python benchmarks/throughput.py --cases dqn-cartpole-purejaxrl --seeds 1 8 --purejaxrl-python PY
    python benchmarks/throughput.py --cases pqn-breakout-purejaxql --seeds 1 4 --purejaxql-python PY
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import machine
from peers import LIBRARIES, WHOLE_RUNS, Peer, matching_fields

from purerl import registry, rollout
from purerl.config import Config, ConfigError, replace, to_dict
from purerl.devices import choose_devices, divide_the_cpu, over_devices
from purerl.health import split_replay
from purerl.make import env_of, make_config, spec_of, validate
from purerl.members import make_members
from purerl.programs import over_members
from purerl.train import make_driver, make_train, streams
from purerl.types import Algorithm, Key, PyTree

ENVIRONMENTS = ("cartpole", "half_cheetah")
"""Tasks of every registered algorithm that suits them, unless cases are named."""
Turns = list[list["Seconds"]]
"""One list per turn, with an entry per call."""
PARTS = ("whole", "rollout", "update", "environment")
TOTAL_TIMESTEPS = 100_000
"""It bounds the replay buffer; the programs may run on for longer. SETTINGS may have another."""
CLEANRL_DQN: dict[str, Any] = {
    "total_timesteps": 50_000,
    "hidden_sizes": (120, 84),
    "loss": "square",
    "epsilon_fraction": 0.5,
    "buffer_size": 10_000,
    "learning_starts": 10_000,
    "updates_per_step": 0.1,
    "target_period": 50,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo-half_cheetah-2048x1": {"num_envs": 1, "num_steps": 2048, "num_epochs": 10, "num_minibatches": 32},
    "ppo-cartpole-purejaxrl": {
        "total_timesteps": 500_000,
        "num_envs": 4,
        "num_steps": 128,
        "num_epochs": 4,
        "num_minibatches": 4,
        "learning_rate": 2.5e-4,
        "ent_coef": 0.01,
        "value_clip_eps": 0.2,
        "normalize_obs": False,
    },
    "dqn-cartpole-cleanrl": CLEANRL_DQN,
    "dqn-cartpole-purejaxrl": CLEANRL_DQN
    | {"total_timesteps": 500_000, "num_envs": 10, "updates_per_step": 1},
    "pqn-breakout-purejaxql": {
        "total_timesteps": 102_400,
        "num_envs": 128,
        "num_steps": 32,
        "num_minibatches": 32,
    },
}
"""Cases whose fields are not our defaults.

- `ppo-half_cheetah-2048x1`: the sizes of Stable-Baselines3's and SBX's own PPO, minibatches of 64. Ours
  normalises observations besides; theirs do not.
- `ppo-cartpole-purejaxrl`: the `config` of purejaxrl's `ppo.py`. What it does not name is our default too.
- `dqn-cartpole-cleanrl`: the options of CleanRL's `dqn_jax.py`, for 50,000 steps.
- `dqn-cartpole-purejaxrl`: the `config` of purejaxrl's `dqn.py`, 10 environments and as many gradient steps.
- `pqn-breakout-purejaxql`: the authors' settings for MinAtar, of a short run, since theirs is timed whole.
"""
PIECE, CALL = 100, 0.5
"""Iterations of one call, summed over seeds, and the seconds that a call should take, so that what it costs
by itself is lost in it: one that takes less gets more iterations. No call is longer than a row of metrics."""


class Seconds(NamedTuple):
    """Duration of one iteration."""

    wall: float
    cpu: float
    """Processor time of all cores together."""


class Compiled(NamedTuple):
    """A program and what it took to make it."""

    call: Callable[..., Any]
    trace_seconds: float
    """Tracing and lowering."""
    compile_seconds: float


def compiled(function: Callable[..., Any], donate: Sequence[int], *args: PyTree) -> Compiled:
    """`function` for arguments like `args`, which may be shapes, the ones at `donate` given away."""
    began = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=donate).trace(*args).lower()
    traced = time.perf_counter()
    program = lowered.compile()
    return Compiled(program, traced - began, time.perf_counter() - traced)


class Bench:
    """One case with some seeds: its four programs, and the states that they carry on."""

    def __init__(self, cfg: Config, seeds: int, devices: int | str = 1):
        """Compile the whole, then train through the warm-up and a few calls. The parts: see `split`."""
        self.cfg, self.seeds, self.driver = cfg, seeds, make_driver(cfg)
        self.devices = choose_devices(devices, seeds)
        self.schedule = schedule = self.driver.schedule
        self.iterations = min(schedule.iterations, max(1, PIECE // seeds))
        members = make_members(cfg, seeds)
        self.hyper, keys = members.hyper(cfg), members.keys(cfg)
        self.programs: dict[str, Compiled] = {}
        init = jax.jit(self._over_seeds(self.driver.init, (0, None)))
        step, self.state = jnp.int32(0), init(keys, self.hyper)
        self._compile_whole()
        if schedule.warmup_steps:
            warmup = self._loop(self.driver.warmup, schedule.warmup_steps // schedule.iteration_steps)
            self.state, _ = jax.jit(warmup, donate_argnums=0)(self.state, step, self.hyper)
        self.step = schedule.warmup_steps
        self.whole()
        began = time.perf_counter()
        self.whole()
        longer = int(self.iterations * CALL / (time.perf_counter() - began))
        if self.iterations < min(longer, schedule.iterations):
            self.iterations = min(longer, schedule.iterations)
            self._compile_whole()
            self.whole()

    def _compile_whole(self) -> None:
        chunk = self._loop(self.driver.chunk, self.iterations)
        self.programs["whole"] = compiled(chunk, (0,), self.state, jnp.int32(0), self.hyper)

    def _loop(self, loop: Callable[..., Any], iterations: int) -> Callable[..., Any]:
        fixed = lambda state, step, hyper: loop(state, step, hyper, iterations)
        return self._over_seeds(fixed, (0, None, None))

    def _over_seeds(self, function: Callable[..., Any], in_axes: tuple[Any, ...]) -> Callable[..., Any]:
        share = over_members(function, in_axes, self.seeds // self.devices)
        return over_devices(share, in_axes, self.devices)

    @property
    def call_steps(self) -> int:
        """Environment steps of one call of a program, summed over seeds."""
        return self.seeds * self.iterations * self.schedule.iteration_steps

    def split(self) -> None:
        """Compile the parts, and run each once."""
        self.copy_state()
        step = jnp.int32(self.step)

        def per_seed(function: Callable[..., Any], *args: PyTree) -> Compiled:
            in_axes = (0,) * len(args) + (None, None)
            return compiled(self._over_seeds(function, in_axes), (0,), *args, step, self.hyper)

        for name, sim in self.sims.items():
            rollouts = partial(self._rollouts, explores=name == "rollout")
            self.programs[name] = per_seed(rollouts, sim, self.policy, self.keys)
        self.rollout()
        self.environment()
        self.programs["update"] = per_seed(self._updates, self.learned, self.transitions, self.keys)
        self.update()

    def copy_state(self) -> None:
        """Let the parts go on from where the whole stands."""
        copy = partial(jax.tree.map, jnp.copy)
        self.keys = copy(self.state.key)
        self.learned, self.policy = copy(self.state.algo), copy(split_replay(self.state.algo)[0])
        self.sims = {name: copy((self.state.env, self.state.carry)) for name in ("rollout", "environment")}

    def _algorithm(self, hyper) -> Algorithm:
        """As the driver makes it inside the trace."""
        module = registry.algorithm_module(self.cfg)
        return module.make(replace(self.cfg, hyper), spec_of(self.driver.env), None)

    def _rollouts(self, sim, policy_state, root: Key, step, hyper, *, explores: bool):
        """`iterations` rollouts of one seed: the environments, and all transitions and episodes."""
        algo, env = self._algorithm(hyper), self.driver.env

        def uniform(carry, obs, key):
            return rollout.uniform_action(env.action_space, key, algo.num_envs), carry, ()

        policy = partial(algo.act, policy_state, step=step, explore=True) if explores else uniform

        def iteration(loop, i):
            key, _ = self._iteration_keys(root, step, i)
            sim, carry = loop
            sim, carry, transitions, episodes = rollout.unroll(env, policy, sim, carry, key, algo.num_steps)
            return (sim, carry), (transitions, episodes)

        return jax.lax.scan(iteration, sim, jnp.arange(self.iterations))

    def _updates(self, learned, transitions, root: Key, step, hyper):
        """`iterations` updates of one seed, each on its own rollout: the state, and all reports."""
        algo = self._algorithm(hyper)

        def iteration(learned, inputs):
            i, transitions = inputs
            _, key = self._iteration_keys(root, step, i)
            return algo.update(learned, transitions, key, step + i * self.schedule.iteration_steps)

        return jax.lax.scan(iteration, learned, (jnp.arange(self.iterations), transitions))

    def _iteration_keys(self, root: Key, step, i) -> Key:
        now = step + i * self.schedule.iteration_steps
        return jax.random.split(jax.random.fold_in(streams(root).train, now))

    def whole(self) -> None:
        """One call of the training loop."""
        args = self.state, jnp.int32(self.step), self.hyper
        self.state, _ = jax.block_until_ready(self.programs["whole"].call(*args))
        self.step += self.iterations * self.schedule.iteration_steps

    def rollout(self) -> None:
        """As many rollouts, and no update."""
        self.transitions = self._roll("rollout")

    def environment(self) -> None:
        """As many rollouts with uniform actions."""
        self._roll("environment")

    def _roll(self, name: str) -> PyTree:
        args = self.sims[name], self.policy, self.keys, jnp.int32(self.step), self.hyper
        self.sims[name], (transitions, _) = jax.block_until_ready(self.programs[name].call(*args))
        return transitions

    def update(self) -> None:
        """As many updates on the last rollouts."""
        args = self.learned, self.transitions, self.keys, jnp.int32(self.step), self.hyper
        self.learned, _ = jax.block_until_ready(self.programs["update"].call(*args))

    def turn(self, calls: int) -> dict[str, list[Seconds]]:
        """Return the duration of an iteration in each of `calls` calls of each part, taken in turns."""
        seconds: dict[str, list[Seconds]] = {part: [] for part in PARTS}
        for _ in range(calls):
            for part in PARTS:
                wall, cpu = time.perf_counter(), time.process_time()
                getattr(self, part)()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                seconds[part].append(Seconds(wall / self.iterations, cpu / self.iterations))
        return seconds


class WholeRuns:
    """One case as a user of `make_train` runs it, without evaluations: measured as a `Peer` is."""

    def __init__(self, cfg: Config, seeds: int, devices: int | str = 1):
        """Compile it, and run it once."""
        cfg = dataclasses.replace(cfg, eval_interval=0)
        train, devices = make_train(cfg), choose_devices(devices, seeds)
        self.train = jax.jit(over_devices(over_members(train, (0,), seeds // devices), (0,), devices))
        self.seeds, self.done = seeds, 0
        self.steps = seeds * make_driver(cfg).schedule.total_steps
        self.run()

    def run(self) -> None:
        """A run from fresh keys."""
        jax.block_until_ready(self.train(jax.random.split(jax.random.key(self.done), self.seeds)))
        self.done += 1

    def measure(self, steps: int) -> float:
        """Environment steps per second, summed over seeds, of as many runs as have at least `steps`."""
        runs, began = -(-steps // self.steps), time.perf_counter()
        for _ in range(runs):
            self.run()
        return runs * self.steps / (time.perf_counter() - began)


class Turn(NamedTuple):
    """One turn of everything that is compared."""

    parts: dict[str, list[Seconds]]
    foreign_load: float | None
    peers: dict[str, float]
    """Environment steps per second."""
    whole_runs: float | None
    """Those of our whole runs; None where no peer is one."""


def measure(
    name: str, seeds: int, turns: int, seconds: float, pythons: dict[str, str], devices: int = 1
) -> dict[str, Any]:
    """The entry of one case and number of seeds; `pythons` are the interpreters of the peers to run."""
    before, cfg = os.getloadavg(), config_of(name)
    bench = Bench(cfg, seeds, devices)
    bench.split()
    calls = max(1, round(seconds / bench.iterations / bench.turn(1)["whole"][0].wall))
    peers = start_peers(cfg, seeds, pythons)
    programs = [library for library in peers if (library, cfg.algo) in WHOLE_RUNS]
    runs = WholeRuns(cfg, seeds, devices) if programs else None

    def turn() -> Turn:
        parts, foreign_load = with_foreign_load(partial(bench.turn, calls))
        own = runs and runs.measure(1)
        rates = {library: peer.measure(n) for library, (peer, n) in peers.items()}
        return Turn(parts, foreign_load, rates, own)

    taken = [turn() for _ in range(turns)]
    for peer, _ in peers.values():
        peer.close()
    steps = seeds * bench.schedule.iteration_steps
    turns_of = {part: [turn.parts[part] for turn in taken] for part in PARTS}
    rates = [steps / mean(row) for row in turns_of["whole"]]
    whole_runs = [turn.whole_runs for turn in taken if turn.whole_runs]
    return {
        "case": name,
        "seeds": seeds,
        "devices": bench.devices,
        **overheads_of(turns_of),
        "foreign_load_of_turns": [turn.foreign_load for turn in taken],
        "parts": {part: of_part(turns_of[part], steps, bench.programs[part]) for part in PARTS},
        "peers": {
            library: of_peer(
                [turn.peers[library] for turn in taken], whole_runs if library in programs else rates, peer
            )
            for library, (peer, _) in peers.items()
        },
        "environment_steps_per_iteration": steps,
        "iterations_per_call": bench.iterations,
        "calls_per_turn": calls,
        "diverged_seeds": int((bench.state.diverged_at >= 0).sum()),
        "load_average": [rounded(before), rounded(os.getloadavg())],
        "config": to_dict(cfg),
    }


def overheads_of(turns_of: dict[str, Turns]) -> dict[str, Any]:
    """The overhead by wall clock, its turns, and what a busy machine disturbs less."""

    def ratio(measure: Callable[[Turns], float]) -> float:
        whole, rollout, update = (measure(turns_of[part]) for part in ("whole", "rollout", "update"))
        return round(whole / (rollout + update), 4)

    by_turn = [ratio(lambda turns, i=i: mean(turns[i])) for i in range(len(turns_of["whole"]))]
    return {
        "overhead": round(statistics.median(by_turn), 4),
        "overhead_of_turns": by_turn,
        "overhead_of_fastest_calls": ratio(fastest),
        "overhead_of_cpu_seconds": ratio(cpu_median),
    }


def of_part(turns: Turns, steps: int, program: Compiled) -> dict[str, Any]:
    """Return the record of a part whose iteration makes `steps` environment steps."""
    means = [mean(row) for row in turns]
    median = statistics.median(means)
    return {
        "steps_per_second": significant(steps / median),
        "seconds_per_iteration": significant(median),
        "seconds_of_turns": [significant(value) for value in means],
        "seconds_of_fastest_call": significant(fastest(turns)),
        "cpu_seconds_per_iteration": significant(cpu_median(turns)),
        "trace_and_lower_seconds": round(program.trace_seconds, 2),
        "compile_seconds": round(program.compile_seconds, 2),
    }


def mean(turn: list[Seconds]) -> float:
    """Return the mean of the wall clock over the calls of a turn."""
    return statistics.mean(seconds.wall for seconds in turn)


def fastest(turns: Turns) -> float:
    """The shortest wall clock of any call."""
    return min(seconds.wall for turn in turns for seconds in turn)


def cpu_median(turns: Turns) -> float:
    """Processor time, the median over the turns."""
    return statistics.median(statistics.mean(seconds.cpu for seconds in turn) for turn in turns)


def of_peer(rates: list[float], ours: list[float], peer: Peer) -> dict[str, Any]:
    """Return the record of a peer: `rates` are its steps per second, `ours` those that it is set against."""
    ratios = [mine / theirs for mine, theirs in zip(ours, rates, strict=True)]
    return {
        "steps_per_second": significant(statistics.median(rates)),
        "ours_over_it": round(statistics.median(ratios), 3),
        "our_steps_per_second": significant(statistics.median(ours)),
        "steps_per_second_of_turns": [significant(rate) for rate in rates],
        "our_steps_per_second_of_turns": [significant(rate) for rate in ours],
        "fields": peer.fields,
        "versions": peer.versions,
    }


def start_peers(cfg: Config, seeds: int, pythons: dict[str, str]) -> dict[str, tuple[Peer, int]]:
    """The peers that can do the work of `cfg`, each with the steps that take it about a second."""
    peers = {
        library: Peer(library, python, cfg, seeds)
        for library, python in pythons.items()
        if matching_fields(library, cfg, seeds) is not None
    }
    return {library: (peer, round(peer.measure(200))) for library, peer in peers.items()}


def with_foreign_load(function: Callable[[], Any]) -> tuple[Any, float | None]:
    """The result, and the share of all cores that other programs had meanwhile; None if unknown."""
    wall, busy, own = time.perf_counter(), busy_seconds(), time.process_time()
    result = function()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    if busy is None:
        return result, None
    foreign = (busy_seconds() or 0.0) - busy - own
    return result, round(max(0.0, foreign) / wall / (os.cpu_count() or 1), 3)


def busy_seconds() -> float | None:
    """Seconds that all cores together have worked since the machine started; None where that is unknown."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return None
    idle, waiting = 3, 4
    return (sum(ticks) - ticks[idle] - ticks[waiting]) / os.sysconf("SC_CLK_TCK")


def significant(value: float) -> float:
    """`value` to six digits."""
    return float(f"{value:.6g}")


def rounded(loads: Sequence[float]) -> list[float]:
    """Load averages, as `machine.describe` has them."""
    return [round(load, 2) for load in loads]


def config_of(case: str) -> Config:
    """The config of `algo-env[-engine]` or of a key of SETTINGS. Raises ConfigError."""
    algo, env, *engine = case.split("-")
    fields = SETTINGS[case] if case in SETTINGS else {"engine": engine[0]} if engine else {}
    cfg = make_config(algo, **{"env": env, "total_timesteps": TOTAL_TIMESTEPS} | fields)
    validate(cfg, spec_of(env_of(cfg)))
    return cfg


def suiting_cases() -> list[str]:
    """Every registered algorithm on each environment that it can learn."""
    cases = []
    for case in (f"{algo}-{env}" for algo in registry.ALGORITHMS for env in ENVIRONMENTS):
        try:
            config_of(case)
        except ConfigError as error:
            print(f"{case} is left out: {error}", file=sys.stderr)
        else:
            cases.append(case)
    return cases


def table(entries: list[dict[str, Any]]) -> str:
    """The entries for the eye: steps per second, summed over seeds."""
    lines = [f"{'case':<24}{'seeds':>6}" + "".join(f"{part:>13}" for part in PARTS) + "  overhead  compile s"]
    for entry in entries:
        parts = entry["parts"].values()
        rates = "".join(f"{part['steps_per_second']:>13,.0f}" for part in parts)
        seconds = sum(part["compile_seconds"] + part["trace_and_lower_seconds"] for part in parts)
        lines.append(
            f"{entry['case']:<24}{entry['seeds']:>6}{rates}{entry['overhead']:>10.3f}{seconds:>11.1f}"
        )
        for library, peer in entry["peers"].items():
            ours, times = peer["our_steps_per_second"], peer["ours_over_it"]
            lines.append(
                f"{library:>30}{peer['steps_per_second']:>13,.0f}  (ours {ours:,.0f}: {times:.2f} times)"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", help="see above; every algorithm by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--devices", type=int, default=1, help="over which several seeds are spread")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of the whole in each turn, about")
    for library in LIBRARIES:
        parser.add_argument(f"--{library}-python", help=f"an interpreter that has {library}")
    parser.add_argument("--out", type=machine.out_file, help="a JSON file; the terminal without it")
    arguments = parser.parse_args(argv)
    divide_the_cpu(arguments.devices)
    pythons = {library: getattr(arguments, f"{library}_python") for library in LIBRARIES}
    pythons = {library: python for library, python in pythons.items() if python}
    cases = arguments.cases or suiting_cases()
    report: dict[str, Any] = {
        "command": f"python benchmarks/throughput.py --cases {' '.join(cases)}"
        f" --seeds {' '.join(map(str, arguments.seeds))}"
        + f" --devices {arguments.devices}" * (arguments.devices > 1)
        + f" --turns {arguments.turns}"
        + f" --seconds {arguments.seconds:g}"
        + "".join(f" --{library}-python PYTHON_WITH_{library.upper()}" for library in pythons),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "entries": [],
    }
    for case in cases:
        for seeds in arguments.seeds:
            entry = measure(case, seeds, arguments.turns, arguments.seconds, pythons, arguments.devices)
            report["entries"].append(entry)
            print(table([entry]), flush=True)
            if arguments.out:  # after every entry: an interrupt loses one
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    if not arguments.out:
        print(json.dumps(report, indent=1))
    print(table(report["entries"]))


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)  # what is timed is compiling, not loading
    main()
