// The stage of a MuJoCo task: the robot, its camera, and the pointer that pulls and pokes it.
globalThis.purerl ??= {};

purerl.makeStage = async (facts, canvas, colours) => {
  const wasm = await purerl.unpacked(purerl.mujocoWasm);
  delete purerl.mujocoWasm;
  const physics = purerl.makePhysics(await purerl.startMujoco(wasm), facts.mujoco);
  const { model, data } = physics, geoms = purerl.geomsOf(model);
  const scene = purerl.makeScene(canvas, geoms, colours);
  const { along, dot, minus, cross, unit } = purerl.vectors;
  const moving = geoms.filter((geom) => geom.kind !== "plane" && model.body_weldid[geom.body] !== 0);
  const root = model.body_rootid[moving[0].body];
  // A robot whose root slides or flies without a limit is followed.
  const joints = Array.from({ length: model.njnt }, (_, i) => i).filter((i) => model.body_rootid[model.jnt_bodyid[i]] === root);
  const roams = joints.some((i) => model.jnt_type[i] === 0 || (model.jnt_type[i] === 2 && model.jnt_range[2 * i] === model.jnt_range[2 * i + 1]));
  const flies = joints.some((i) => model.jnt_type[i] === 0), hops = joints.some((i) => Math.abs(model.jnt_axis[3 * i + 2]) > 0.5 && model.jnt_type[i] === 2);
  const others = moving.some((geom) => model.body_rootid[geom.body] !== root); // such as goals: seen from higher, and from afar
  const subject = roams ? moving.filter((geom) => model.body_rootid[geom.body] === root) : moving;
  // Robots in a plane are seen at a right angle to it, as far as the floor lets one see it.
  const home = { azimuth: facts.mujoco.camera.azimuth ?? (flies ? 70 : 90), elevation: others ? -35 : flies || hops || !roams ? -11 : -40 };
  let radius = 1, drag = null, height = 0, before = [0, 0, 0], pan = [0, 0];

  const pointers = new Map();
  const bounds = () => {
    const boxes = subject.map((geom) => [0, 1, 2].map((i) => [-1, 1].map((s) => data.geom_xpos[3 * geom.index + i] + s * Math.max(...geom.size))));
    const ends = [0, 1, 2].map((i) => [Math.min(...boxes.map((b) => b[i][0])), Math.max(...boxes.map((b) => b[i][1]))]);
    return { centre: ends.map(([a, b]) => (a + b) / 2), radius: Math.hypot(...ends.map(([a, b]) => b - a)) / 2 };
  };
  const mid = () => Array.from(data.subtree_com.slice(3 * root, 3 * root + 3));
  const frame = () => {
    const found = bounds();
    radius = found.radius;
    height = found.centre[2];
    before = mid();
    pan = [0, 0];
    scene.target = roams ? [before[0], before[1], height] : found.centre;
    Object.assign(scene, home, { distance: radius * (!roams ? 3.6 : others ? 9 : 3.9) / Math.min(1, canvas.width / canvas.height / 0.95), tile: radius > 0.6 ? 1 : 0.25 });
    if (!roams && Math.abs(found.centre[2] - data.geom_xpos[2]) < 0.3 * radius) scene.elevation = -50; // an arm over a table
  };

  // The nearest body that a ray meets, and where; within `margin` radians beside it.
  const meet = ({ eye, direction }, margin) => {
    let best = null;
    for (const geom of moving) {
      const centre = Array.from(data.geom_xpos.slice(3 * geom.index, 3 * geom.index + 3));
      const axis = [2, 5, 8].map((i) => data.geom_xmat[9 * geom.index + i]), [thick, half] = geom.size;
      const from = minus(centre, eye), a = dot(axis, direction), b = dot(from, direction);
      const s = half ? Math.max(-half, Math.min(half, (a * b - dot(from, axis)) / Math.max(1 - a * a, 1e-6))) : 0;
      const place = along(centre, s, axis), t = dot(minus(place, eye), direction);
      const gap = Math.hypot(...minus(place, along(eye, t, direction))) - thick;
      if (t > 0 && gap < margin * t && (!best || gap < best.gap - 0.02 || (gap <= best.gap + 0.02 && t < best.t))) best = { body: geom.body, place, t, gap };
    }
    return best;
  };
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height];
  };
  const kick = (body, sideways, upwards) => {
    const { right } = scene.look();
    physics.kick = { body, seconds: 0.15, force: right.map((x, i) => 16 * sideways * x + (i === 2 ? 20 * upwards : 0)) };
  };
  const on = (name, handle) => canvas.addEventListener(name, handle);
  on("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const touch = event.pointerType === "mouse" ? 0.015 : 0.04, found = pointers.size === 1 && event.button === 0 ? meet(scene.ray(...point(event)), touch) : null;
    drag = { moved: 0, found: pointers.size === 1 ? found : null, begun: performance.now() };
    if (!drag.found) return;
    const { body, place } = found, centre = data.xipos, turn = data.xmat;
    const away = [0, 1, 2].map((i) => place[i] - centre[3 * body + i]);
    const local = [0, 1, 2].map((i) => [0, 1, 2].reduce((sum, j) => sum + turn[9 * body + 3 * j + i] * away[j], 0));
    drag.hold = { body, local, target: place };
  });
  on("pointermove", (event) => {
    if (!drag || !pointers.has(event.pointerId)) {
      canvas.style.cursor = event.pointerType === "mouse" && meet(scene.ray(...point(event)), 0.015) ? "grab" : "";
      return;
    }
    const [x, y] = pointers.get(event.pointerId), [dx, dy] = [event.clientX - x, event.clientY - y];
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    drag.moved += Math.hypot(dx, dy);
    if (others.length) { // two fingers zoom
      const apart = (px, py) => Math.hypot(px - others[0][0], py - others[0][1]);
      zoom(apart(x, y) / Math.max(apart(event.clientX, event.clientY), 1));
    } else if (!drag.hold) {
      scene.azimuth -= 0.35 * dx;
      scene.elevation = Math.max(-89, Math.min(25, scene.elevation - 0.25 * dy));
    } else if (drag.moved > 6) {
      const { eye, direction } = scene.ray(...point(event)), { forward } = scene.look();
      const depth = dot(minus(physics.placeOf(drag.hold.body, drag.hold.local), eye), forward);
      physics.grab = { ...drag.hold, target: along(eye, depth / dot(direction, forward), direction) };
    }
  });
  const release = (event) => {
    pointers.delete(event.pointerId);
    if (drag?.hold && drag.moved <= 6 && performance.now() - drag.begun < 600) {
      const { right } = scene.look(), side = dot(minus(drag.found.place, mid()), right);
      kick(drag.hold.body, side > 0 ? -1 : 1, 0.2);
    }
    physics.grab = null;
    if (!pointers.size) drag = null;
  };
  on("pointerup", release);
  on("pointercancel", release);
  const zoom = (factor) => { scene.distance = Math.max(1.2 * radius, Math.min(30 * radius, scene.distance * factor)); };
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(0.001 * event.deltaY)); }, { passive: false });

  const rope = (pose) => {
    if (!physics.grab) return [];
    const from = physics.placeOf(physics.grab.body, physics.grab.local), path = minus(physics.grab.target, from), length = Math.hypot(...path);
    const z = unit(path), x = unit(cross(z, Math.abs(z[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0])), y = cross(z, x), thin = 0.018 * radius;
    const turn = [0, 1, 2].flatMap((i) => [x[i], y[i], z[i]]), one = [1, 0, 0, 0, 1, 0, 0, 0, 1], colour = [...colours.accent, 1];
    return [
      { kind: "cylinder", at: along(from, length / 2, z), turn, scale: [thin, thin, length / 2], half: 0, colour },
      { kind: "sphere", at: physics.grab.target, turn: one, scale: [3 * thin, 3 * thin, 3 * thin], half: 0, colour },
    ];
  };
  return {
    physics, scene, canPush: true, hint: "Drag the robot to pull it, tap it to poke it. Drag beside it to look around, scroll or pinch to zoom.",
    frame,
    push(sideways, upwards) { kick(root, sideways, upwards); },
    turn(degrees) { scene.azimuth += degrees; },
    // Draw the moment `part` of the way through the last step, `seconds` after the last picture.
    draw(run, part, seconds) {
      const poses = physics.poses, exact = part * (poses.length - 1), i = Math.min(Math.floor(exact), Math.max(poses.length - 2, 0));
      const [a, b, t] = [poses[i], poses[Math.min(i + 1, poses.length - 1)], exact - i];
      const mix = (u, v) => u.map((x, k) => x + t * (v[k] - x));
      if (roams) {
        // The camera goes at the robot's mean speed, and closes the rest of the distance softly.
        const goal = mid(), ease = (speed) => 1 - Math.exp(-speed * seconds), moved = minus(goal, before);
        const jumped = Math.hypot(...moved) > 2 * radius;
        if (seconds > 0) pan = jumped ? [0, 0] : pan.map((v, k) => v + ease(2) * (moved[k] / seconds - v));
        scene.target = scene.target.map((x, k) => {
          if (k === 2) return x + ease(1.5) * (Math.max(goal[2], 0.35 * radius) - x);
          return jumped ? goal[k] : x + pan[k] * seconds + ease(4) * (goal[k] - x - pan[k] * seconds);
        });
        before = goal;
      }
      const pose = { at: mix(a.at, b.at), turn: mix(a.turn, b.turn) };
      scene.draw(pose, rope(pose));
    },
  };
};
