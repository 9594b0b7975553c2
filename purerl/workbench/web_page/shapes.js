// Triangles of MuJoCo's shapes of size 1, and small vectors and matrices.
globalThis.purerl ??= {};

// A shape: `rows` of (position, normal, end), where `end` is -1 or 1 on the caps of a capsule and else 0, and the
// `corners` of its triangles.
purerl.shapes = (() => {
  const grid = (rows, columns, place) => {
    const shape = { rows: [], corners: [] }, at = (i, j) => i * (columns + 1) + j;
    for (let i = 0; i <= rows; i++) for (let j = 0; j <= columns; j++) shape.rows.push(...place(i, j));
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) shape.corners.push(at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j), at(i + 1, j + 1), at(i, j + 1));
    return shape;
  };
  const joined = (shapes) => shapes.reduce((all, { rows, corners }) => {
    const first = all.rows.length / 7;
    return { rows: [...all.rows, ...rows], corners: [...all.corners, ...corners.map((corner) => corner + first)] };
  });
  const ROUND = 20, DOWN = 12;
  const circle = (j) => [Math.cos((j / ROUND) * 2 * Math.PI), Math.sin((j / ROUND) * 2 * Math.PI)];
  const ball = (ends) => grid(ends ? DOWN + 1 : DOWN, ROUND, (i, j) => {
    // A capsule has its middle circle twice, once at each end.
    const row = ends && i > DOWN / 2 ? i - 1 : i, end = ends ? (i > DOWN / 2 ? -1 : 1) : 0;
    const up = (row / DOWN) * Math.PI, [x, y] = circle(j);
    const p = [Math.sin(up) * x, Math.sin(up) * y, Math.cos(up)];
    return [...p, ...p, end];
  });
  const side = grid(1, ROUND, (i, j) => [...circle(j), 1 - 2 * i, ...circle(j), 0, 0]);
  const lid = (z) => grid(1, ROUND, (i, j) => [...circle(j).map((x) => i * x), z, 0, 0, z, 0]);
  const box = [0, 1, 2].flatMap((axis) => [-1, 1].map((sign) => grid(1, 1, (i, j) => {
    const p = [2 * i - 1, 2 * j - 1], normal = [0, 0, 0];
    p.splice(axis, 0, sign);
    normal[axis] = sign;
    return [...p, ...normal, 0];
  })));
  const plane = grid(1, 1, (i, j) => [2 * i - 1, 2 * j - 1, 0, 0, 0, 1, 0]);
  return { sphere: ball(false), capsule: ball(true), cylinder: joined([side, lid(1), lid(-1)]), box: joined(box), plane };
})();

purerl.vectors = (() => {
  const minus = (a, b) => a.map((x, i) => x - b[i]);
  const along = (a, t, b) => a.map((x, i) => x + t * b[i]);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => { const length = Math.hypot(...a) || 1; return a.map((x) => x / length); };
  // The product of a perspective and a view along `forward` from `eye`, as columns.
  const camera = (eye, right, up, forward, across, aspect) => {
    const [near, far] = [0.05, 200], k = 1 / across;
    const rows = [
      [...right.map((x) => (k / aspect) * x), (-k / aspect) * dot(right, eye)],
      [...up.map((x) => k * x), -k * dot(up, eye)],
      [...forward.map((x) => ((far + near) / (far - near)) * x), (-(far + near) / (far - near)) * dot(forward, eye) - (2 * far * near) / (far - near)],
      [...forward, -dot(forward, eye)],
    ];
    return Float32Array.from({ length: 16 }, (_, i) => rows[i % 4][i >> 2]);
  };
  return { minus, along, dot, cross, unit, camera };
})();
