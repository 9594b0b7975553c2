// MuJoCo's WebAssembly build as the physics of a task: the arrays that the translated task reads.
globalThis.purerl ??= {};

const NOTHING = new Uint32Array(0);
const LARGEST = 1e10; // a simulation with a larger number has diverged
const BODY_FORCES = ["fields.cfrc_ext", "fields.cfrc_int", "fields.cacc", "change.cfrc_ext", "change.cfrc_int", "change.cacc"];

// The bytes of text that is base64 of gzip.
purerl.unpacked = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

// Load MuJoCo. wasm: the bytes of mujoco.wasm.
purerl.startMujoco = (wasm) =>
  purerl.loadMujoco({ wasmBinary: wasm, locateFile: (name) => name, print() {}, printErr() {} });

// facts: { xml, frame_skip, fields, options, keyframe, arrays }
purerl.makePhysics = (mujoco, facts) => {
  const model = mujoco.MjModel.from_xml_string(facts.xml);
  for (const [name, values] of Object.entries(facts.fields)) model[name].set(values);
  for (const [name, value] of Object.entries(facts.options))
    if (Array.isArray(value)) model.opt[name].set(value);
    else model.opt[name] = value;
  const data = new mujoco.MjData(model), timestep = model.opt.timestep;
  const mass = model.body_mass.reduce((sum, one) => sum + one, 0);
  const tracked = facts.arrays.filter((name) => name.startsWith("change.")).map((name) => name.slice(7));
  const bodyForces = facts.arrays.some((name) => BODY_FORCES.includes(name));
  let last = {}, point = null, pushed = false;
  const pose = () => ({ at: Float32Array.from(data.geom_xpos), turn: Float32Array.from(data.geom_xmat) });
  const remember = () => { last = Object.fromEntries(tracked.map((name) => [name, Float64Array.from(data[name])])); };

  const report = (diverged) => {
    let bad = diverged;
    const finite = (x) => (Math.abs(x) <= LARGEST ? x : ((bad = true), 0));
    const arrays = facts.arrays.map((name) => {
      const [part, field] = name.split(".");
      if (part === "row" || part === "tracked" || part === "diverged") return NOTHING;
      if (part === "change") return Float32Array.from(data[field], (x, i) => finite(last[field] ? x - last[field][i] : 0));
      const values = data[field ?? part];
      return typeof values === "number" ? Float32Array.of(finite(values)) : Float32Array.from(values, finite);
    });
    arrays[facts.arrays.indexOf("diverged")] = Uint8Array.of(bad ? 1 : 0);
    remember();
    return arrays;
  };

  // A place of a body, given in the body's own axes about its centre of mass.
  const placeOf = (body, local) => {
    const turn = data.xmat, centre = data.xipos;
    return [0, 1, 2].map((i) => centre[3 * body + i]
      + turn[9 * body + 3 * i] * local[0] + turn[9 * body + 3 * i + 1] * local[1] + turn[9 * body + 3 * i + 2] * local[2]);
  };
  const apply = () => {
    const forces = data.xfrc_applied;
    forces.fill(0);
    pushed = Boolean(physics.grab || physics.kick);
    if (physics.kick) {
      physics.kick.force.forEach((f, i) => { forces[6 * physics.kick.body + i] += f * mass; });
      physics.kick.seconds -= timestep;
      if (physics.kick.seconds <= 0) physics.kick = null;
    }
    if (!physics.grab) { point = null; return; }
    const { body, local, target } = physics.grab, now = placeOf(body, local), centre = data.xipos;
    const speed = point ? now.map((x, i) => (x - point[i]) / timestep) : [0, 0, 0];
    const pull = now.map((x, i) => 60 * (target[i] - x) - 8 * speed[i]);
    const scale = mass * Math.min(1, 40 / Math.hypot(...pull));
    const f = pull.map((x) => x * scale), arm = now.map((x, i) => x - centre[3 * body + i]);
    const twist = [arm[1] * f[2] - arm[2] * f[1], arm[2] * f[0] - arm[0] * f[2], arm[0] * f[1] - arm[1] * f[0]];
    [...f, ...twist].forEach((x, i) => { forces[6 * body + i] += x; });
    point = now;
  };

  const physics = {
    model, data, mass, poses: [],
    grab: null, // { body, local, target }: pulls a place of a body to a target
    kick: null, // { body, force, seconds }: pushes a body, m/s^2 of the whole mass
    placeOf,
    reset(qpos, qvel) {
      mujoco.mj_resetData(model, data);
      if (facts.keyframe >= 0) mujoco.mj_resetDataKeyframe(model, data, facts.keyframe);
      data.qpos.set(qpos);
      data.qvel.set(qvel);
      mujoco.mj_forward(model, data);
      Object.assign(physics, { grab: null, kick: null, poses: [pose()] });
      last = {};
      return report(false);
    },
    step(ctrl) {
      const begun = data.time;
      data.ctrl.set(ctrl);
      physics.poses = physics.poses.slice(-1);
      for (let i = 0; i < facts.frame_skip; i++) {
        if (physics.grab || physics.kick || pushed) apply();
        mujoco.mj_step(model, data);
        physics.poses.push(pose());
      }
      if (bodyForces) mujoco.mj_rnePostConstraint(model, data);
      // MuJoCo starts a simulation again that has diverged: its time is then too early.
      return report(data.time < begun + (facts.frame_skip - 0.5) * timestep || ctrl.some((x) => !Number.isFinite(x)));
    },
  };
  return physics;
};
