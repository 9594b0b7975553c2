"""MuJoCo in a web page: its WebAssembly build from an npm package, and the model of a task as text."""

# The names of the mujoco package come from compiled modules, which pyright cannot see into.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from purerl.config import ConfigError
from purerl.envs.mujoco.engine.collision_pairs import differences
from purerl.envs.mujoco.engine.outline import Outline
from purerl.envs.mujoco.options import find_file
from purerl.shown import shorten
from purerl.user_paths import user_path

PACKAGE = "@mujoco/mujoco"
PLACES = ("/usr/local", "/usr")
"""Prefixes under which npm installs packages for all users, if it is not set up otherwise."""
NEEDED = ("mujoco.js", "mujoco.wasm")
HINT = f"Install it with `npm install {PACKAGE}`, or name its folder with --mujoco-js."
EXPORT, ADDRESS = "export default loadMujoco;", "import.meta.url"
"""Text of mujoco.js that only a module may have."""
IGNORED = {"actuator_ctrllimited"}
"""Fields that need not agree: policies keep the bounds of actions."""
DRAWN = {0: "plane", 2: "sphere", 3: "capsule", 4: "ellipsoid", 5: "cylinder", 6: "box"}
"""Types of geoms, mjtGeom, that the page draws."""


def find_package(folder: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the npm package of MuJoCo.

    Args:
        folder: the package's; None searches `node_modules` of the working directory and of those above it,
            and then the places of npm's global packages.

    Raises:
        ConfigError: if it is not there.
    """
    holds = lambda place: all((place / name).is_file() for name in NEEDED)
    if folder is not None:
        given = user_path("mujoco_js", folder)
        for place in (given, given / PACKAGE, given / "node_modules" / PACKAGE):
            if holds(place):
                return place
        what = f"the folder of the npm package {PACKAGE}, which holds {' and '.join(NEEDED)}"
        raise ConfigError("mujoco_js", str(given), what, HINT)
    for modules in _node_modules():
        if holds(modules / PACKAGE):
            return modules / PACKAGE
    raise ConfigError("mujoco_js", None, f"the npm package {PACKAGE}, which is not installed", HINT)


def _node_modules() -> Iterator[Path]:
    """Yield the folders in which npm keeps packages."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield folder / "node_modules"
    prefixes = [os.environ.get("NPM_CONFIG_PREFIX")]
    try:
        settings = Path("~/.npmrc").expanduser().read_text("utf-8").splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):
        settings = []
    for name, _, value in (line.partition("=") for line in settings):
        prefixes += [os.path.expandvars(value.strip())] if name.strip() == "prefix" else []
    node = shutil.which("node")
    prefixes += [str(Path(node).resolve().parents[1])] if node else []
    for prefix in filter(None, [*prefixes, *PLACES]):
        yield Path(prefix).expanduser() / "lib" / "node_modules"
    if appdata := os.environ.get("APPDATA"):
        yield Path(appdata) / "npm" / "node_modules"


def vendored(package: Path) -> dict[str, str]:
    """Return the files of MuJoCo for a page, by name: two scripts that also work without a server.

    Raises:
        ConfigError: for a package of another form.
    """
    version = _version(package)
    try:
        program, binary = (package / "mujoco.js").read_text("utf-8"), (package / "mujoco.wasm").read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        what = f"a {PACKAGE} that can be read: {shorten(str(error), 200)}"
        raise ConfigError("mujoco_js", str(package), what) from error
    if program.count(EXPORT) != 1 or "loadMujoco" not in program.partition(EXPORT)[0]:
        what = f"a {PACKAGE} whose mujoco.js ends with `{EXPORT}`, as 3.14.0 does"
        raise ConfigError("mujoco_js", f"{package} ({version})", what)
    about = f"// MuJoCo {version} of Google DeepMind, Apache License 2.0 (LICENSE-MuJoCo.txt): {{}}.\n"
    program = program.replace(EXPORT, "(globalThis.purerl ??= {}).loadMujoco = loadMujoco;")
    program = program.replace(ADDRESS, '(globalThis.document?.baseURI ?? "file:///")')
    packed = gzip.compress(binary, 9, mtime=0)
    text = base64.b64encode(packed).decode()
    return {
        "mujoco.js": about.format("mujoco.js as a script in the place of a module") + program,
        "mujoco_wasm.js": about.format("mujoco.wasm, base64 of gzip")
        + f'(globalThis.purerl ??= {{}}).mujocoWasm =\n  "{text}";\n',
        "LICENSE-MuJoCo.txt": _license(),
    }


def _version(package: Path) -> str:
    try:
        found = json.loads((package / "package.json").read_text("utf-8"))
        return shorten(str(found["version"]), 30)
    except (OSError, ValueError, KeyError, TypeError):
        return "of unknown version"


def _license() -> str:
    """Return the licence of MuJoCo, which its Python package has too."""
    for file in metadata.files("mujoco") or ():
        if file.name == "LICENSE":
            return file.read_text("utf-8")
    return "MuJoCo is licensed under the Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"


def facts_of(name: str, physics: Outline, arrays: tuple[str, ...]) -> dict[str, Any]:
    """Return the physics of the task `name` as the page's script reads it.

    Raises:
        ConfigError: for a model that is no single text, or has geoms that the page cannot draw.
    """
    model = physics.model
    other = {int(kind) for kind in model.geom_type} - DRAWN.keys()
    if other or model.nflex or model.nskin:
        raise ConfigError("env", name, f"a model whose geoms are each one of {', '.join(DRAWN.values())}")
    text, fields, options = _text_of(name, physics)
    return {
        "xml": text,
        "fields": fields,
        "options": options,
        "frame_skip": physics.frame_skip,
        "keyframe": physics.keyframe,
        "arrays": arrays,
        "camera": {key: value for key, value in physics.camera.items() if key == "azimuth"},
    }


def _text_of(name: str, physics: Outline) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return MJCF of the model of a task, and the fields of mjModel and of its options that differ from it.

    Text that MuJoCo writes has six digits, and arguments of a task may change a model. Raises ConfigError if
    there is no text, or one of another structure.
    """
    import mujoco

    model, what = physics.model, "a task whose model is MJCF without further files"
    try:
        text = _source_text(physics.source)
        compiled = mujoco.MjModel.from_xml_string(text)
    except (AttributeError, OSError, ValueError) as error:
        raise ConfigError("env", name, f"{what}: {shorten(' '.join(str(error).split()), 200)}") from error
    fields, options, other = {}, {}, []
    for field in differences(model, compiled):
        value: Any = getattr(model, field, None)
        if (
            isinstance(value, np.ndarray)
            and value.dtype.kind == "f"
            and value.shape == getattr(compiled, field).shape
        ):
            fields[field] = value.ravel().tolist()
        elif hasattr(model.opt, field):
            options[field] = np.asarray(getattr(model.opt, field)).tolist()
        elif field not in IGNORED:
            other.append(field)
    if other:
        raise ConfigError("env", name, f"{what}; it differs in {shorten(', '.join(sorted(other)), 200)}")
    return text, fields, options


def _source_text(source: Any) -> str:
    """Return the MJCF of a file or a `mujoco.MjSpec`."""
    if isinstance(source, str | Path):
        return find_file(source).read_text("utf-8")
    spec = source.copy()
    spec.compile()
    return spec.to_xml()
