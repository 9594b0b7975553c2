"""A model with listed collision pairs steps to the same bits: both sides are the same C library."""

import mujoco
import numpy as np
import pytest

from purerl.envs.mujoco.engine.collision_pairs import differences, with_listed_pairs
from purerl.envs.mujoco.options import ASSETS, load_model

NUM_STEPS = 200
NO_CONTACT = mujoco.mjtDisableBit.mjDSBL_CONTACT


def numbers(values):
    return " ".join(f"{value:.4g}" for value in np.ravel(values))


def contact_attributes(rng):
    """Return random values of the attributes that decide a geom's contacts."""
    given = {
        "condim": rng.choice([1, 3, 4, 6]),
        "priority": rng.integers(-1, 2),
        "solmix": rng.choice([0.0, 0.5, 1.0, 1.0, 3.0]),
        "solref": numbers(rng.choice(np.array([[0.02, 1.0], [0.01, 0.7], [-800.0, -20.0], [-300.0, -9.0]]))),
        "solimp": numbers([rng.uniform(0.5, 0.9), rng.uniform(0.9, 0.99), rng.uniform(1e-3, 0.02), 0.5, 2]),
        "margin": numbers(rng.choice([0.0, 0.01, 0.05])),
        "gap": numbers(rng.choice([0.0, 0.01])),
        "friction": numbers([rng.uniform(0.2, 2), rng.uniform(0, 0.05), rng.uniform(0, 0.01)]),
        "contype": rng.choice([0, 1, 1, 1, 2, 3]),
        "conaffinity": rng.choice([0, 1, 1, 1, 2, 3]),
    }
    given = {name: value for name, value in given.items() if rng.random() < 0.4}
    rare = rng.spawn(1)[0]
    more = {"adhesion": 20.0, "surfacevel": numbers(rare.normal(size=3))}
    given |= {name: value for name, value in more.items() if rare.random() < 0.15}
    return " ".join(f'{name}="{value}"' for name, value in given.items())


def geom(rng, name=""):
    kind = rng.choice(["sphere", "capsule", "box", "capsule", "sphere", "cylinder", "ellipsoid"])
    size = numbers(rng.uniform(0.05, 0.12, {"sphere": 1, "capsule": 2, "cylinder": 2}.get(str(kind), 3)))
    place = f'pos="{numbers(rng.uniform(-0.15, 0.15, 3))}" euler="{numbers(rng.uniform(-90, 90, 3))}"'
    return f'<geom {name} type="{kind}" size="{size}" {place} {contact_attributes(rng)}/>'


def body(rng, names, geoms, depth=0):
    names.append(name := f"b{len(names)}")
    parts = []
    if depth == 0:
        where = [*rng.uniform(-0.4, 0.4, 2), rng.uniform(0.15, 0.6)]
        parts += ["<freejoint/>"] if rng.random() < 0.8 else ['<joint type="slide" axis="0 0 1"/>']
    else:
        where = rng.uniform(-0.2, 0.2, 3)
        if rng.random() < 0.7:  # otherwise welded to its parent
            axis = numbers(rng.normal(size=3))
            parts.append(f'<joint type="{rng.choice(["hinge", "ball"])}" axis="{axis}" damping="0.1"/>')
    for _ in range(rng.integers(1, 4)):
        label = ""
        if rng.random() < 0.5:
            geoms.append(f"g{len(geoms)}")
            label = f'name="{geoms[-1]}"'
        parts.append(geom(rng, label))
    if rng.random() < 0.3:
        parts.append('<camera pos="0 0 1"/><light pos="0 0 2"/>')
    if rng.random() < 0.2:
        parts.append('<camera mode="targetbody" target="b0"/><light mode="targetbody" target="b0"/>')
    parts.append(f'<site name="s_{name}" type="sphere" size="0.2"/>')
    if depth < 2:
        parts += [body(rng, names, geoms, depth + 1) for _ in range(rng.integers(0, 3 - depth))]
    return f'<body name="{name}" pos="{numbers(where)}">{"".join(parts)}</body>'


def random_model(seed):
    """Return an MJCF text: bodies fall onto a plane and onto each other."""
    rng = np.random.default_rng(seed)
    names, geoms = [], ["floor"]
    world = [f'<geom name="floor" type="plane" size="5 5 1" {contact_attributes(rng)}/>']
    world += [body(rng, names, geoms) for _ in range(rng.integers(1, 4))]
    world += [geom(rng), '<camera pos="0 -2 1"/><light pos="0 0 3"/>'][rng.integers(0, 3) :]
    listed = []
    if len(names) > 1 and rng.random() < 0.5:
        listed.append('<exclude body1="{}" body2="{}"/>'.format(*rng.choice(names, 2, replace=False)))
    if len(geoms) > 2 and rng.random() < 0.2:
        listed.append('<pair geom1="{}" geom2="{}"/>'.format(*rng.choice(geoms, 2, replace=False)))
    sensors = [f'<touch site="s_{name}"/><rangefinder site="s_{name}"/>' for name in names]
    flags = rng.choice(
        [
            "",
            'midphase="disable"',
            'filterparent="disable"',
            'multiccd="disable"',
            'override="enable"',
            'sleep="enable"',
        ]
    )
    cone, solver = rng.choice(["pyramidal", "elliptic"]), rng.choice(["PGS", "CG", "Newton"])
    visual = rng.choice(["", "", "", 'discardvisual="true"', 'fusestatic="true"'])
    return f"""<mujoco><compiler {visual}/>
    <option timestep="0.003" cone="{cone}" solver="{solver}" integrator="{rng.choice(["Euler", "RK4"])}"
      o_margin="0.02"><flag {flags}/></option>
    <worldbody>{"".join(world)}</worldbody><contact>{"".join(listed)}</contact>
    <sensor>{"".join(sensors)}</sensor></mujoco>"""


def write(folder, text, name="model.xml"):
    path = folder / name
    path.write_text(text)
    return path


def steps(model):
    """Return everything that a task can read after each step, and the number of contacts."""
    data, seen, contacts = mujoco.MjData(model), [], 0
    data.qvel[:] = np.random.default_rng(1).normal(size=model.nv)
    for _ in range(NUM_STEPS):
        mujoco.mj_step(model, data)
        mujoco.mj_rnePostConstraint(model, data)
        contact, contacts = data.contact, contacts + data.ncon
        seen += [data.qpos, data.qvel, data.sensordata, data.cfrc_ext, data.qacc_warmstart]
        seen += [contact.geom, contact.dist, contact.frame, contact.friction, contact.solref, contact.solimp]
        seen = [*seen[:-11], *(np.array(part) for part in seen[-11:])]
    return seen, contacts


def compare(path):
    """Return the model with pairs, the plain one, and the number of contacts of both."""
    model = mujoco.MjModel.from_xml_path(str(path))
    other = with_listed_pairs(model, path)
    if other is not model:
        (ours, contacts), (theirs, _) = steps(other), steps(model)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert a.shape == b.shape and a.tobytes() == b.tobytes(), f"part {i % 11} of step {i // 11}"
        return other, model, contacts
    return other, model, 0


@pytest.mark.parametrize("num_models", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_random_models_step_to_the_same_bits(num_models, tmp_path):
    wrong, paired, touching = {}, 0, 0
    for seed in range(num_models):
        path = write(tmp_path, random_model(seed), f"{seed}.xml")
        try:
            other, model, contacts = compare(path)
        except AssertionError as error:
            wrong[seed] = str(error).splitlines()[0]
            continue
        paired += other is not model and other.npair > model.npair
        touching += contacts > 0 and other.npair > model.npair
    assert not wrong
    assert paired > num_models / 4 and touching > num_models / 5, (paired, touching)


@pytest.mark.parametrize(("name", "npair", "contacts"), [("ant", 13, True), ("swimmer", 0, False)])
def test_few_pairs_are_listed(name, npair, contacts):
    path = ASSETS / f"{name}.xml"
    other, model, _ = compare(path)
    assert other is not model and model.npair == 0
    assert other.npair == npair and bool(other.opt.disableflags & NO_CONTACT) != contacts
    assert not other.geom_contype.any() or not npair
    assert (other.ncam, other.nlight) == (0, 0) and model.ncam + model.nlight > 0


def test_many_pairs_keep_mujocos_search():
    other, model, contacts = compare(ASSETS / "humanoid.xml")
    assert other is not model and other.npair == 0 and contacts
    assert not other.opt.disableflags & NO_CONTACT and (other.ncam, other.nlight) == (0, 0)
    np.testing.assert_array_equal(other.geom_contype, model.geom_contype)


@pytest.mark.parametrize("task", sorted(path.name for path in ASSETS.glob("*.xml")))
def test_every_asset_is_replaced(task):
    path = ASSETS / task
    model = load_model(task)
    assert with_listed_pairs(model, path) is not model


BALL = '<body pos="0 0 0.3"><freejoint/><geom name="ball" size="0.1"/><site name="s"/></body>'
FLOOR = '<geom type="plane" size="2 2 1"/>'
CAMERA = '<camera name="eye" pos="0 -1 0.3" xyaxes="1 0 0 0 0 1"/>'
CLOTH = """<flexcomp name="cloth" type="grid" count="4 4 1" spacing="0.05 0.05 0.05" pos="0 0 0.6"
  radius="0.01" dim="2" mass="0.1"><edge equality="true"/></flexcomp>"""


@pytest.mark.parametrize(
    ("world", "more"),
    [
        (FLOOR + BALL + CAMERA, '<sensor><camprojection site="s" camera="eye"/></sensor>'),
        (FLOOR + BALL + CAMERA, '<sensor><framepos objtype="camera" objname="eye"/></sensor>'),
    ],
)
def test_sensors_of_cameras_keep_them(world, more, tmp_path):
    path = write(tmp_path, f"<mujoco><worldbody>{world}</worldbody>{more}</mujoco>")
    other, model, _ = compare(path)
    assert other is model and model.ncam == 1


def test_cloth_keeps_its_contacts(tmp_path):
    path = write(tmp_path, f"<mujoco><worldbody>{FLOOR}{BALL}{CLOTH}</worldbody></mujoco>")
    other, _, _ = compare(path)
    assert other.nflex == 1 and other.npair == 0 and not other.opt.disableflags & NO_CONTACT


def test_plugins_step_to_the_same_bits(tmp_path):
    plugin = '<extension><plugin plugin="mujoco.pid"/></extension>'
    world = FLOOR + BALL.replace("<freejoint/>", '<joint name="j" type="slide" axis="0 0 1"/>')
    actuator = (
        '<actuator><plugin joint="j" plugin="mujoco.pid"><config key="kp" value="9"/></plugin></actuator>'
    )
    text = f"<mujoco>{plugin}<worldbody>{world}</worldbody>{actuator}</mujoco>"
    compare(write(tmp_path, text))


def test_unreadable_files_leave_the_model(tmp_path):
    path = write(tmp_path, f"<mujoco><worldbody>{FLOOR}{BALL}</worldbody></mujoco>")
    model = mujoco.MjModel.from_xml_path(str(path))
    assert with_listed_pairs(model, path) is not model
    for text in ("<mujoco><worldbody>", "<mujoco/>", path.read_text().replace("0.1", "0.2")):
        path.write_text(text)
        assert with_listed_pairs(model, path) is model
    path.unlink()
    assert with_listed_pairs(model, path) is model


def test_changed_models_stay_as_they_are(tmp_path):
    path = write(tmp_path, f"<mujoco><worldbody>{FLOOR}{BALL}</worldbody></mujoco>")
    model = mujoco.MjModel.from_xml_path(str(path))
    for change in ("body_mass", "geom_friction", "dof_damping"):
        changed = mujoco.MjModel.from_xml_path(str(path))
        getattr(changed, change)[-1] += 1
        assert with_listed_pairs(changed, path) is changed, differences(changed, model)
    model.opt.gravity[2] = -1
    assert with_listed_pairs(model, path) is model


def test_files_by_relative_paths(tmp_path):
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.1
    lines = [f"v {numbers(corner)}" for corner in corners]
    lines += [
        f"f {a} {b} {c}" for a, b, c in [(1, 2, 3), (2, 4, 3), (5, 7, 6), (6, 7, 8), (1, 5, 2), (2, 5, 6)]
    ]
    lines += ["f 3 4 7", "f 4 8 7", "f 1 3 5", "f 3 7 5", "f 2 6 4", "f 4 6 8"]
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts", "\n".join(lines), "box.obj")
    heights = np.random.default_rng(0).uniform(size=(5, 5)).astype(np.float32)
    sizes = np.array([5, 5], np.int32)
    (tmp_path / "parts" / "hill.bin").write_bytes(sizes.tobytes() + heights.tobytes())
    text = """<mujoco><compiler meshdir="parts"/>
    <asset><mesh name="box" file="box.obj"/><hfield name="hill" file="hill.bin" size="1 1 .1 .1"/></asset>
    <worldbody><geom type="hfield" hfield="hill"/><light pos="0 0 1"/>
    <body pos="0 0 0.3"><freejoint/><geom type="mesh" mesh="box"/></body></worldbody></mujoco>"""
    other, model, contacts = compare(write(tmp_path, text))
    assert other is not model and contacts and other.nlight == 0
