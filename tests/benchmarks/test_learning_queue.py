"""The queue of learning runs, with a stand-in for `purerl.run`; and the protocols and records themselves."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import learning
import learning_queue
import numpy as np
import protocols
import pytest
import records
from protocols import ABLATION, EFFICIENT, LARGER_STEPS, OFF_POLICY, PROTOCOLS, QUEUED, VALUE_BASED, Protocol

import purerl
from purerl.config import ConfigError, to_dict
from purerl.make import env_of, spec_of, validate

FIELDS = {"total_timesteps": 400, "eval_interval": 100, "eval_stochastic": True}
RECORDED = sorted(path.stem for path in records.RESULTS.glob("*.json") if path.stem in PROTOCOLS)


def protocol(**changes):
    return Protocol("ppo", "cartpole", 2, FIELDS, 30.0, last=2, read_at=(200, 400))._replace(**changes)


def finished_run(scale=(1.0, 2.0), stochastic=-1.0):
    """A run of 2 seeds: evaluations 10, 20, 30, 40 times `scale`, each a little after a multiple of 100."""
    steps = np.array([60, 120, 180, 240, 300, 360, 420])
    at = {120: 10.0, 240: 20.0, 300: 30.0, 420: 40.0}
    returns = np.array([[at.get(int(step), np.nan) * factor for step in steps] for factor in scale])
    return SimpleNamespace(
        metrics={
            "eval/return": returns,
            "eval_stochastic/return": returns * stochastic,
            "episode/return": np.zeros((2, 7)),
        },
        steps=steps,
        diverged_at=np.array([-1, -1]),
        compile_seconds=1.0,
        run_seconds=2.0,
        state=None,
        members=[{"seed_index": i} for i in range(2)],
    )


def of_seed(run, i):
    """Seed `i` of a finished run, as if it had run by itself."""
    metrics = {name: values[i : i + 1] for name, values in run.metrics.items()}
    one = {"metrics": metrics, "diverged_at": run.diverged_at[i : i + 1], "members": run.members[i : i + 1]}
    return SimpleNamespace(**(vars(run) | one))


class Runs:
    """A stand-in for `purerl.run`: keeps its calls, and does what `acts` says by the name of the protocol."""

    def __init__(self, folder):
        self.folder, self.calls, self.acts = folder, [], {}

    def __call__(self, cfg, seeds, logdir, *, first_seed, resume=False):
        name = str(logdir.parent.relative_to(self.folder))
        if logdir.exists() and not resume:
            raise ConfigError("logdir", str(logdir), "it already holds a run")
        self.calls.append((name, resume))
        (logdir / "seed0").mkdir(parents=True, exist_ok=True)
        for act in self.acts.pop(name, []):
            act()
        run = finished_run()
        return of_seed(run, first_seed) if seeds == 1 else run


def fail(error):
    def act():
        raise error

    return act


@pytest.fixture
def runs(monkeypatch, tmp_path):
    runs = Runs(tmp_path / "queue")
    monkeypatch.setitem(vars(purerl), "run", runs)
    monkeypatch.setattr(os, "nice", lambda change: change)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))  # else records differ by it
    return runs


@pytest.fixture
def work(runs, tmp_path):
    """Work on a queue of the named protocols."""

    def work(*names, **options):
        named = {name: protocol() for name in names}
        return learning_queue.work(named, tmp_path / "queue", tmp_path / "results", **options)

    return work


def test_protocols_without_record_run_in_order(work, runs, tmp_path):
    records.write_json(tmp_path / "results" / "b.json", {"kept": 1})
    assert work("c", "b", "a") == []
    assert runs.calls == [("c", False), ("a", False)]
    assert json.loads((tmp_path / "results" / "b.json").read_text()) == {"kept": 1}
    for name in "ca":
        record = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        assert record["command"] == f"python benchmarks/learning.py {name}"
        assert purerl.make_config(**record["config"]) == protocols.config_of(protocol())
        assert record["peak_bytes"] > 2**20 and len(record["sessions"]) == 1
        assert not (tmp_path / "queue" / name).exists()


def test_failed_run_is_marked_and_the_queue_goes_on(work, runs, tmp_path):
    runs.acts["a"] = [fail(ValueError("no luck"))]
    assert work("a", "b") == ["a"]
    assert runs.calls == [("a", False), ("b", False)]
    mark = json.loads((tmp_path / "queue" / "a" / "failed.json").read_text())
    assert mark["error"] == "ValueError: no luck" and "Traceback" in mark["traceback"]
    assert work("a", "b") == ["a"] and len(runs.calls) == 2
    assert work("a", "b", retry=True) == []
    assert runs.calls[2:] == [("a", True)] and (tmp_path / "results" / "a.json").exists()


def test_failed_run_that_is_tried_again_and_stopped_goes_on(work, runs):
    runs.acts["a"] = [fail(ValueError("no luck"))]
    work("a")
    runs.acts["a"] = [fail(KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        work("a", retry=True)
    assert work("a") == [] and runs.calls[1:] == [("a", True)] * 2


def test_stopped_run_is_resumed(work, runs, tmp_path):
    runs.acts["a"] = [fail(KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        work("a", "b")
    assert not (tmp_path / "results").exists() and not (tmp_path / "queue" / "a" / "failed.json").exists()
    assert work("a", "b") == []
    assert runs.calls == [("a", False), ("a", True), ("b", False)]
    assert len(json.loads((tmp_path / "results" / "a.json").read_text())["sessions"]) == 2


def test_by_seed_each_is_recorded_as_it_is_done_and_all_make_the_record(work, runs, tmp_path):
    """A queue that is stopped at the second seed goes on with it, even where the first one's run is lost."""
    runs.acts["a/seed1"] = [fail(KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        work("a", by_seed=True)
    results = tmp_path / "results"
    assert [path.name for path in results.rglob("*.json")] == ["a-seed0.json"]
    text = learning_queue.status({"a": protocol()}, tmp_path / "queue", results)
    assert "under way  1 of 2 seeds recorded; step 0 of 400" in text
    shutil.rmtree(tmp_path / "queue" / "a" / "seed0")
    assert work("a", by_seed=True) == []
    assert runs.calls == [("a/seed0", False), ("a/seed1", False), ("a/seed1", True)]
    assert [path.name for path in results.rglob("*.json")] == ["a.json"]
    assert not (tmp_path / "queue" / "a").exists()


def test_record_of_seeds_by_themselves_is_that_of_all_at_once(work, tmp_path):
    judged = {name: protocol(bar=52) for name in "ab"}
    for name, by_seed in (("a", False), ("b", True)):
        learning_queue.work({name: judged[name]}, tmp_path / "queue", tmp_path / "results", by_seed=by_seed)
    together, apart = (json.loads((tmp_path / "results" / f"{name}.json").read_text()) for name in "ab")
    assert together.keys() == apart.keys() and len(apart["sessions"]) == 2 and apart["passed"]
    assert (apart["compile_seconds"], apart["run_seconds"]) == (2.0, 4.0)
    assert apart["steps_per_second"] == together["steps_per_second"] / 2 == 210.0
    costs = {"command", "compile_seconds", "run_seconds", "steps_per_second", "sessions", "peak_bytes"}
    assert {n: v for n, v in apart.items() if n not in costs} == {
        n: v for n, v in together.items() if n not in costs
    }


def test_other_config_errors_fail_without_resume(work, runs):
    runs.acts["a"] = [fail(ConfigError("gamma", 2, "at most 1"))]
    assert work("a") == ["a"] and runs.calls == [("a", False)]


def test_keep_moves_the_run_away(work, tmp_path):
    work("a", keep=True)
    assert (tmp_path / "queue" / "kept" / "a" / "run" / "seed0").is_dir()
    work("a")
    assert (tmp_path / "queue" / "kept" / "a").is_dir()


def test_folder_of_a_recorded_run_is_removed(work, runs, tmp_path):
    """As when the process ends between the record and the removal."""
    (tmp_path / "queue" / "a" / "run").mkdir(parents=True)
    records.write_json(tmp_path / "results" / "a.json", {})
    assert work("a") == [] and runs.calls == []
    assert not (tmp_path / "queue" / "a").exists()


def test_queue_runs_at_the_lowest_priority(work, runs, monkeypatch):
    changes = []
    monkeypatch.setattr(os, "nice", changes.append)
    runs.acts["a"] = [lambda: changes.append("run")]
    work("a")
    assert changes == [19, "run"]


def test_second_queue_is_refused(work, runs, tmp_path):
    with (
        learning_queue.locked(tmp_path / "queue"),
        pytest.raises(learning_queue.Busy, match=f"process {os.getpid()} "),
    ):
        work("a")
    assert runs.calls == []
    assert work("a") == []


def test_status_tells_done_failed_under_way_and_left(work, runs, tmp_path):
    names, queue = ("done", "failed", "going", "left"), tmp_path / "queue"
    runs.acts["failed"] = [fail(ValueError("no luck"))]
    work("done", "failed")
    records.write_json(queue / "going" / "sessions.json", [])
    for seed, value in ((10, 3.0), (2, 250.0), (0, None)):
        log = queue / "going" / "run" / f"seed{seed}" / "metrics.jsonl"
        log.parent.mkdir(parents=True)
        rows = [
            {"step": 100, "eval/return": value and value + 1, "eval_stochastic/return": 8.0},
            {"step": 150, "eval/return": value, "eval_stochastic/return": 7.0},
            {"step": 200, "eval/return": None, "eval_stochastic/return": None},
        ]
        log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 30')
    named = {name: protocol() for name in names}
    text = learning_queue.status(named, queue, tmp_path / "results")
    first, *lines, last = text.splitlines()
    assert first == "no process works on the queue"
    assert [line.split()[0] for line in lines] == list(names)
    done, failed, going, left = (line[38:] for line in lines)
    assert done.startswith("done") and done.endswith("passed 35.0, 70.0")
    assert failed.startswith("failed") and failed.endswith("ValueError: no luck")
    assert going.startswith("under way") and "step 200 of 400" in going
    assert "eval -, 250, 3.0; eval_stochastic 7.0, 7.0, 7.0" in going
    assert left == "left" and last == "1 done, 1 under way, 1 failed, 1 left"
    with learning_queue.locked(queue):
        text = learning_queue.status(named, queue, tmp_path / "results")
    assert text.startswith(f"process {os.getpid()} works")


def test_record_reads_the_last_evaluations_up_to_each_step():
    """Evaluations at 120, 240, 300 and 420 are those of 100, 200, 300 and 400."""
    bar = protocol()
    record = records.make_record("x", bar, protocols.config_of(bar), finished_run(), {})
    assert record["steps"] == [120, 240, 300, 420]
    assert record["eval_return"] == [[10, 20, 30, 40], [20, 40, 60, 80]]
    assert record["eval_stochastic_return"][0] == [-10, -20, -30, -40]
    assert record["values"]["eval"] == {"200": [15, 30], "400": [35, 70]}
    assert record["values"]["eval_stochastic"] == {"200": [-15, -30], "400": [-35, -70]}
    assert record["final_returns"] == [35, 70] and record["first_step_at_bar"] == [300, 240]


@pytest.mark.parametrize(
    ("bar", "bar_at", "passed"),
    [
        (52, None, True),
        (53, None, False),
        (52, 400, True),
        (22, 200, True),
        (23, 200, False),
        (None, None, None),
    ],
)
def test_bar_is_for_the_mean_over_seeds(bar, bar_at, passed):
    judged = protocol(bar=bar, bar_at=bar_at)
    record = records.make_record("x", judged, protocols.config_of(judged), finished_run(), {})
    assert record["passed"] is passed


def test_diverged_seed_is_null_and_misses_the_bar(tmp_path):
    bar = protocol(bar=1.0)
    record = records.make_record("x", bar, protocols.config_of(bar), finished_run((np.nan, 2.0)), {})
    records.write_json(tmp_path / "x.json", record)
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["eval_return"] == [[None] * 4, [20, 40, 60, 80]]
    assert record["values"]["eval"]["400"] == [None, 70] and record["passed"] is False


def test_json_is_whole_or_as_before(monkeypatch, tmp_path):
    path = tmp_path / "x.json"
    records.write_json(path, {"old": 1})
    with pytest.raises(ValueError):
        records.write_json(path, {"new": float("nan")})
    monkeypatch.setattr(Path, "replace", lambda *paths: fail(OSError("no power"))())
    with pytest.raises(OSError, match="no power"):
        records.write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        *[
            ("--retry", 2),
            ("--by-seed", 2),
            ("--keep --status", 2),
            ("--queue --status", 2),
            ("--logdir x", 2),
        ],
        *[("unknown", 2), ("sac-pendulum-20k ppo-cartpole-150k", 2), ("sac-pendulum-20k --status", 2)],
        *[("--queue sac-pendulum-20k unknown", 2), ("--queue sac-pendulum-20k --logdir x", 2)],
    ],
)
def test_command_refuses_options_that_do_not_fit(monkeypatch, words, code):
    monkeypatch.setattr(sys, "argv", ["learning.py", *words.split()])
    with pytest.raises(SystemExit) as end:
        learning.main()
    assert end.value.code == code


def test_exit_codes_of_the_queue(monkeypatch, tmp_path):
    def code_after(work):
        monkeypatch.setattr(learning_queue, "work", work)
        monkeypatch.setattr(sys, "argv", ["learning.py", "--queue", "--folder", str(tmp_path)])
        return learning.main()

    stopped = KeyboardInterrupt("saved")
    stopped.signum = signal.SIGTERM
    assert code_after(lambda *args, **options: []) == 0
    assert code_after(lambda *args, **options: ["a"]) == 1
    assert code_after(lambda *args, **options: fail(learning_queue.Busy("other"))()) == 2
    assert code_after(lambda *args, **options: fail(stopped)()) == 143


def test_queue_of_named_protocols_takes_these_in_their_order(monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr(learning_queue, "work", lambda protocols, *args, **options: taken.append(protocols))
    for names in (["sac-pendulum-20k", "ppo-cartpole-150k"], []):
        monkeypatch.setattr(sys, "argv", ["learning.py", "--queue", *names, "--folder", str(tmp_path)])
        learning.main()
    assert list(taken[0]) == ["sac-pendulum-20k", "ppo-cartpole-150k"]
    assert taken[1] == protocols.PROTOCOLS


def test_unknown_protocol_is_answered_with_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["learning.py", "sac-pendulum-2k"])
    with pytest.raises(SystemExit):
        learning.main()
    assert "no protocol 'sac-pendulum-2k'. Did you mean sac-pendulum-20k?" in capsys.readouterr().err


def test_queue_begins_with_the_off_policy_family_and_four_algorithms_on_six_tasks():
    tasks = ("inverted_pendulum", "reacher", "pusher", "ant", "humanoid", "humanoid_standup")
    names = [f"{algo}-{task}-1m" for task in tasks for algo in ("trpo", "ppo", "a2c", "vpg")]
    assert list(QUEUED) == names
    before = list(PROTOCOLS)[: list(PROTOCOLS).index(names[0])]
    assert {*before} == {*OFF_POLICY, *EFFICIENT, *LARGER_STEPS, *ABLATION, *VALUE_BASED}
    assert list(PROTOCOLS)[len(before) : len(before) + 24] == names


@pytest.mark.parametrize("name", QUEUED)
def test_queued_protocol_suits_its_task(name):
    queued = QUEUED[name]
    cfg = protocols.config_of(queued)
    assert f"{cfg.algo}-{cfg.env}-1m" == name
    assert (queued.seeds, cfg.total_timesteps, queued.read_at) == (10, 1_000_000, (500_000, 1_000_000))
    assert cfg.eval_stochastic and 0 < cfg.checkpoint_interval <= 50_000 and queued.last == 10
    assert (queued.bar is None) == (not queued.published)
    assert queued.bar is None or (queued.bar_at, queued.bar) == queued.published[-1][:2]
    validate(cfg, spec_of(env_of(cfg)))


@pytest.mark.parametrize("name", OFF_POLICY | EFFICIENT)
def test_off_policy_protocol_suits_its_task(name):
    protocol = (OFF_POLICY | EFFICIENT)[name]
    cfg = protocols.config_of(protocol)
    assert f"{protocol.preset or cfg.algo}-{cfg.env}-300k" == name
    assert (protocol.seeds, cfg.total_timesteps, cfg.num_envs, cfg.updates_per_step) == (3, 300_000, 1, 1)
    assert protocol.bar_at == 300_000
    of = 1_000_000 if protocol.preset else 300_000
    assert (of, protocol.bar) == protocol.published[-1][:2]
    validate(cfg, spec_of(env_of(cfg)))


@pytest.mark.parametrize("name", VALUE_BASED)
def test_value_based_protocol_is_what_it_is_named_after(name):
    """5 seeds of a task that suits, with the parts in the name and no other."""
    cfg = protocols.config_of(VALUE_BASED[name])
    steps = cfg.total_timesteps
    length = f"{steps // 1_000_000}m" if steps >= 1_000_000 else f"{steps // 1_000}k"
    task = {"gym:LunarLander-v3": "gym-lunar_lander"}.get(cfg.env, cfg.env)
    assert VALUE_BASED[name].seeds == 5 and name.endswith(f"-{task}-{length}")
    switches = ("double", "dueling", "prioritised", "noisy", "munchausen")
    six = {"double", "dueling", "prioritised", "noisy", "n_step", "c51"}
    part = name.removesuffix(f"-{task}-{length}")
    if cfg.algo == "dqn":
        on = {switch for switch in switches if getattr(cfg, switch)} | (
            {"n_step"} if cfg.n_step > 1 else set()
        )
        on |= {{"categorical": "c51", "quantile": "qr_dqn", "implicit": "iqn"}.get(cfg.critic)} - {None}
        assert on == (
            six - {part.removeprefix("rainbow-without-")} if "rainbow" in part else {part} - {"dqn"}
        )
    validate(cfg, spec_of(env_of(cfg)))


def test_ablation_crosses_width_normalisation_and_critic_on_tuning_seeds():
    assert len(ABLATION) == 24
    configs = [protocols.config_of(protocol) for protocol in ABLATION.values()]
    assert len({(cfg.env, cfg.hidden_sizes, cfg.norm, cfg.critic) for cfg in configs}) == 24
    assert {cfg.seed for cfg in configs}.isdisjoint(
        protocols.config_of(protocol).seed for protocol in (OFF_POLICY | EFFICIENT).values()
    )


def test_larger_steps_are_the_ablation_of_width_256_with_another_step_size():
    assert len(LARGER_STEPS) == 6
    for name, protocol in LARGER_STEPS.items():
        cfg = protocols.config_of(protocol)
        of = protocols.config_of(ABLATION[name.removesuffix("-1e-3")])
        assert cfg == purerl.config.replace(of, {"learning_rate": 1e-3})
        assert cfg.hidden_sizes == (256, 256)


@pytest.mark.parametrize("name", RECORDED)
def test_record_holds_the_settings_of_today(name):
    """Fields that are younger than a record have their defaults; when a run is saved changes no result."""
    record = json.loads((records.RESULTS / f"{name}.json").read_text())
    assert record["protocol"]["seeds"] == PROTOCOLS[name].seeds
    if "config" not in record:  # the oldest have none
        return
    cfg = protocols.config_of(PROTOCOLS[name])
    today, recorded = json.loads(json.dumps(to_dict(cfg))), record["config"]
    recorded["checkpoint_interval"] = today["checkpoint_interval"]
    defaults = json.loads(json.dumps(to_dict(purerl.make_config(cfg.algo))))
    assert recorded == {field: today[field] for field in recorded}
    assert {n: v for n, v in today.items() if n not in recorded} == {
        n: v for n, v in defaults.items() if n not in recorded
    }
