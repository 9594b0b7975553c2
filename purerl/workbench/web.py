"""A trained agent alive in a web page: one folder of plain files, which works offline."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import purerl
from purerl.config import Config, ConfigError, Rule, validate
from purerl.experiment.atomic import sync_directory, write_whole
from purerl.experiment.loading import kept_policies, load
from purerl.experiment.record import members_of, read_record
from purerl.make import env_for, make_policy
from purerl.types import Env, HostEnv, TrainState
from purerl.user_paths import user_path
from purerl.workbench import web_tasks
from purerl.workbench.javascript_task import translated
from purerl.workbench.policy_code import code

PAGE = Path(__file__).with_name("web_page")
COMMON = ("page.css", "runner.js", "page.js")
OWN = re.compile(r"[\w-]+\.(html|css|js|txt)|policies/\d+\.js")
"""Files of an export."""
MAX_POLICIES = 25
"""Policies in a page: the first and the last of those kept along the run, and evenly between."""


class Shown(NamedTuple):
    """A policy in the page."""

    label: str
    cfg: Config
    state: TrainState


@jax.transfer_guard("allow")
def export_web(
    run_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    member: int = 0,
    best: bool = False,
    itr: int | None = None,
    env: Env | HostEnv | None = None,
    networks: Mapping[str, Any] | None = None,
    mujoco_js: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Path:
    """Write a web page in which a member's deterministic policy acts live, and return its folder.

    The task is translated from its JAX equations; MuJoCo tasks need the npm package `@mujoco/mujoco`, which
    is copied into the folder. Where the run kept policies on its way, a slider goes through them.

    Args:
        run_dir: the `logdir` of `purerl.run`.
        folder: to write; `web` by default. It is new, empty, or an earlier export, which is replaced.
        member: index of the member.
        best: begin with the policy of the best evaluation, in place of the newest.
        itr: begin with the policy of this epoch, which the run has kept.
        env: the task, if the run was given one.
        networks: those the run was trained with, if not the algorithm's own.
        mujoco_js: folder of the npm package; None searches the working directory, those above it, and npm's
            global packages.
        title: heading of the page; by default the names of algorithm and task.

    Raises:
        ConfigError: for an argument that is not allowed, a task that cannot be drawn or translated, or a
            missing package.
        CheckpointError: if there is no checkpoint that can be read.
    """
    validate("title", title, Rule("text", optional=True))
    place = _free(user_path("folder", "web" if folder is None else folder))
    shown, first = _policies(run_dir, best, itr, env, networks)
    cfg = shown[first].cfg
    task = web_tasks.drawn(env_for(cfg, env))
    policies = [make_policy(one.cfg, one.state, member, task, networks) for one in shown]
    task_code = translated(task)
    kind, facts, files = web_tasks.facts_of(task, task_code, mujoco_js)
    name = members_of(read_record(user_path("run_dir", run_dir), "run_dir")).names[member]
    words = lambda name: name.replace("_", " ")
    heading = title or f"{words(task.name).capitalize()}, trained by {words(cfg.algo).upper()}"
    about = f"{cfg.algo} on {task.name} ({name}), exported by purerl {purerl.__version__}"
    for i, policy in enumerate(policies):
        files[f"policies/{i}.js"] = _policy(policy, task, f"Policy of {about}.", i)
    files["task.js"] = _script(f"// {task.name}, translated from its equations in JAX.", task_code.script)
    files |= {file: _page(file) for file in (*COMMON, *web_tasks.SCRIPTS[kind]) if file not in files}
    listed = [{"file": f"policies/{i}.js", "label": one.label} for i, one in enumerate(shown)]
    facts |= {"policies": listed, "first": first}
    scripts = [*web_tasks.SCRIPTS[kind], "task.js", "runner.js", "page.js"]
    files["index.html"] = _index(heading, about, kind, facts, scripts)
    _write(place, files)
    return place


def _policies(
    run_dir: str | os.PathLike[str],
    best: bool,
    itr: int | None,
    env: Env | HostEnv | None,
    networks: Mapping[str, Any] | None,
) -> tuple[list[Shown], int]:
    """Return policies of a run in the order of training, and the place of the one to begin with."""
    read = lambda **which: load(run_dir, policy_only=True, env=env, networks=networks, **which)
    along = kept_policies(run_dir)
    if len(along) > MAX_POLICIES:
        places = np.linspace(0, len(along) - 1, MAX_POLICIES).round().astype(int)
        along = [one for i, one in enumerate(along) if i in places or one.epoch == itr]
    label = lambda step: f"after {step:,} steps" if step else "untrained"
    shown = [Shown(label(one.step), *read(itr=one.epoch)) for one in along]
    if best or not shown:
        shown.append(Shown("best" if best else "newest", *read(best=best, itr=itr)))
    epochs = [one.epoch for one in along]
    if itr is not None and itr not in epochs:
        read(itr=itr)  # which names those that are kept
    return shown, len(shown) - 1 if itr is None or best else epochs.index(itr)


def _policy(policy: Any, task: Env | HostEnv, about: str, number: int) -> str:
    """Return a policy as a script; the module that `export_policy` writes, in a function of its own."""
    module = code(policy, task, about, "javascript").replace("\nexport ", "\n")
    begin = f"((globalThis.purerl ??= {{}}).policies ??= {{}})[{number}] = (() => {{\n"
    return f"{begin}{module}return {{ act, START }};\n}})();\n"


def _script(about: str, body: str) -> str:
    """Return a task as a script."""
    begin = f"{about}\n(globalThis.purerl ??= {{}}).task = (() => {{\n"
    return f"{begin}{body}return {{ reset, step }};\n}})();\n"


def _page(name: str) -> str:
    """Return a file of the page: a script's names are its own."""
    text = (PAGE / name).read_text("utf-8")
    return f"{{\n{text}}}\n" if name.endswith(".js") else text


def _index(title: str, about: str, kind: str, facts: Mapping[str, Any], scripts: Sequence[str]) -> str:
    """Return the page; text of a run may be untrusted and is escaped."""
    more = " 'unsafe-eval'" if "mujoco.js" in scripts else ""  # MuJoCo's bindings make functions of text
    policy = f"default-src 'none'; script-src 'self' file:{more}; "
    policy += "style-src 'self' file: 'unsafe-inline'; img-src data:"
    values = {
        "@POLICY@": policy,
        "@TITLE@": html.escape(title),
        "@ABOUT@": html.escape(about),
        "@KIND@": kind,
        "@FACTS@": json.dumps(facts).replace("<", "\\u003c"),
        "@SCRIPTS@": "\n".join(f'<script src="{name}"></script>' for name in scripts),
    }
    parts = re.split("|".join(values), text := (PAGE / "index.html").read_text("utf-8"))
    names = re.findall("|".join(values), text)
    return "".join(part + values.get(name, "") for part, name in zip(parts, [*names, ""], strict=True))


def _free(place: Path) -> Path:
    """Return a folder that may be written. Raises ConfigError for one that holds anything but an export."""
    if place.name in ("", ".."):
        raise ConfigError("folder", str(place), "the name of a folder, which is written beside others")
    if not place.parent.is_dir():
        raise ConfigError(
            "folder", str(place), f"a folder in a directory that exists; {place.parent} does not"
        )
    if not os.path.lexists(place):
        return place
    what = "a new folder, an empty one, or an earlier export"
    if place.is_symlink() or not place.is_dir():
        raise ConfigError("folder", str(place), what)
    names = [
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if not path.is_dir() or path.is_symlink()
    ]
    other = [name for name in names if not OWN.fullmatch(name)]
    if other or (names and "task.js" not in names):
        raise ConfigError("folder", str(place), f"{what}; this one holds {(other or names)[0]}")
    return place


def _write(place: Path, files: Mapping[str, str]) -> None:
    """Write the files of a folder, whole or not at all; an earlier one stays until they are there."""
    made, old = (place.with_name(f".{place.name}.{word}-{os.getpid()}") for word in ("new", "old"))
    for left in (made, old):
        shutil.rmtree(left, ignore_errors=True)  # of a killed process that had the same number
    try:
        (made / "policies").mkdir(parents=True)
        for name, content in files.items():
            write_whole(made / name, content)
        if place.exists():
            os.rename(place, old)
        os.rename(made, place)
    except BaseException:
        if old.exists() and not place.exists():
            os.rename(old, place)
        shutil.rmtree(made, ignore_errors=True)
        raise
    sync_directory(place.parent)
    shutil.rmtree(old, ignore_errors=True)
