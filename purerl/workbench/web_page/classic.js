// Classic control drawn on a canvas, between the last two states. Nudges change one number of the state.
globalThis.purerl ??= {};

purerl.makeStage = async (facts, canvas, colours) => {
  const pen = canvas.getContext("2d"), { task, params, index, nudge } = facts.classic;
  const line = (points, width, colour) => {
    Object.assign(pen, { lineWidth: width, strokeStyle: colour, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
  };
  const disc = (x, y, radius, colour) => {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  };
  const slab = (x, y, width, height, radius, colour) => {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(x, y, width, height, radius);
    pen.fill();
  };
  const nearest = (a, b) => b - a - 2 * Math.PI * Math.round((b - a) / (2 * Math.PI));
  // Each draws in metres, x to the right and y up; its view is [left, right, bottom, top].
  const pictures = {
    cartpole: {
      view: [-params.position_limit - 0.6, params.position_limit + 0.6, -0.6, 2 * params.half_length + 0.5],
      draw({ x, theta }, c) {
        const limit = params.position_limit, tip = [x + 2 * params.half_length * Math.sin(theta), 2 * params.half_length * Math.cos(theta)];
        line([[-limit, -0.32], [limit, -0.32]], 0.025, c.soft);
        for (const end of [-limit, limit]) line([[end, -0.42], [end, -0.22]], 0.025, c.soft);
        slab(x - 0.28, -0.22, 0.56, 0.28, 0.06, c.front);
        for (const side of [-0.16, 0.16]) disc(x + side, -0.24, 0.075, c.soft);
        line([[x, 0], tip], 0.09, c.accent);
        disc(x, 0, 0.05, c.back);
      },
    },
    pendulum: {
      view: [-1.5 * params.length, 1.5 * params.length, -1.35 * params.length, 1.35 * params.length],
      draw({ theta }, c) {
        const l = params.length, tip = [-l * Math.sin(theta), l * Math.cos(theta)];
        pen.globalAlpha = 0.25;
        Object.assign(pen, { lineWidth: 0.012, strokeStyle: c.soft });
        pen.beginPath();
        pen.arc(0, 0, l, 0, 2 * Math.PI);
        pen.stroke();
        pen.globalAlpha = 1;
        line([[0, 0], tip], 0.12 * l, c.accent);
        disc(...tip, 0.13 * l, c.accent);
        disc(0, 0, 0.07 * l, c.front);
      },
    },
    acrobot: {
      view: [-2.4, 2.4, -2.3, 2.3],
      draw({ theta_1, theta_2 }, c) {
        const elbow = [params.length_1 * Math.sin(theta_1), -params.length_1 * Math.cos(theta_1)], angle = theta_1 + theta_2;
        const tip = [elbow[0] + Math.sin(angle), elbow[1] - Math.cos(angle)];
        line([[-2.4, 1], [2.4, 1]], 0.02, c.soft);
        line([[0, 0], elbow], 0.18, c.accent);
        line([elbow, tip], 0.18, c.second);
        for (const [x, y] of [[0, 0], elbow]) disc(x, y, 0.07, c.front);
      },
    },
    mountain_car: {
      view: [-1.25, 0.65, -0.12, 1.28],
      draw({ position }, c) {
        const hill = (x) => 0.45 * Math.sin(3 * x) + 0.55, slope = Math.atan(1.35 * Math.cos(3 * position));
        const ground = Array.from({ length: 121 }, (_, i) => -1.2 + (1.8 * i) / 120).map((x) => [x, hill(x)]), goal = params.goal_position;
        line(ground, 0.014, c.soft);
        line([[goal, hill(goal)], [goal, hill(goal) + 0.18]], 0.012, c.front);
        pen.fillStyle = c.second;
        pen.beginPath();
        [[0, 0.18], [0.09, 0.15], [0, 0.12]].forEach(([x, y]) => pen.lineTo(goal + x, hill(goal) + y));
        pen.fill();
        pen.save();
        pen.translate(position, hill(position));
        pen.rotate(slope);
        slab(-0.075, 0.025, 0.15, 0.05, 0.015, c.accent);
        slab(-0.035, 0.07, 0.075, 0.035, 0.012, c.accent);
        for (const side of [-0.045, 0.045]) disc(side, 0.022, 0.022, c.front);
        pen.restore();
      },
    },
  };
  pictures.mountain_car_continuous = pictures.mountain_car;
  const { view, draw } = pictures[task];
  let run = null;
  const push = (sideways) => { if (run) run.nudge(index[nudge.name], nudge.amount * sideways); };
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    push(event.clientX < box.left + box.width / 2 ? 1 : -1);
  });
  return {
    physics: null, canPush: true, hint: "Tap the picture to the left or right of its middle to push the other way.",
    frame() {},
    turn() {},
    push,
    draw(now, part) {
      run = now;
      const values = Object.fromEntries(Object.entries(index).map(([name, i]) => {
        const [a, b] = [run.before[i][0], run.state[i][0]];
        return [name, a + part * (name.startsWith("theta") ? nearest(a, b) : b - a)];
      }));
      const [left, right, bottom, top] = view, scale = Math.min(canvas.width / (right - left), canvas.height / (top - bottom));
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.setTransform(scale, 0, 0, -scale, canvas.width / 2 - (scale * (left + right)) / 2, canvas.height / 2 + (scale * (top + bottom)) / 2);
      draw(values, colours.css);
    },
  };
};
