// The figure of a report: draws the curves of one metric, and shows the values under the pointer.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("data").textContent);
  const svg = get("plot"), namespace = svg.namespaceURI; // so that no address stands in the page
  const metric = get("metric"), everySeed = get("every-seed"), legend = get("legend");
  const hidden = new Set();
  const state = { at: Infinity };
  const SHAPES = {
    o: "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0",
    s: "M-3,-3h6v6h-6z",
    "^": "M0,-4L4,3H-4z",
    D: "M0,-4L4,0L0,4L-4,0z",
    v: "M0,4L4,-3H-4z",
    P: "M-1,-4h2v3h3v2h-3v3h-2v-3h-3v-2h3z",
    X: "M-3,-4L0,-1L3,-4L4,-3L1,0L4,3L3,4L0,1L-3,4L-4,3L-1,0L-4,-3z",
  };

  const node = (parent, tag, attributes, text) => {
    const made = parent.namespaceURI === namespace || parent === svg
      ? document.createElementNS(namespace, tag) : document.createElement(tag);
    for (const name in attributes) made.setAttribute(name, attributes[name]);
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  };
  const number = (v) => {
    if (Math.abs(v) >= 1000) return v.toLocaleString("en", { maximumFractionDigits: 1 });
    return String(Number(v.toPrecision(4)));
  };
  const steps = (v) => v.toLocaleString("en", { maximumFractionDigits: 0 });
  const short = (v) => {
    const size = Math.abs(v), digits = (u) => Number((v / u).toPrecision(4));
    if (size >= 1e9) return digits(1e9) + "G";
    if (size >= 1e6) return digits(1e6) + "M";
    return size >= 1e4 ? digits(1e3) + "k" : String(digits(1));
  };
  const ticks = (low, high, count) => {
    const raw = (high - low) / count, unit = 10 ** Math.floor(Math.log10(raw));
    const size = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / size - 1e-9); i * size <= high + 1e-9 * size && found.length < 20; i++) {
      found.push(Number((i * size).toPrecision(12)));
    }
    return found;
  };
  const nearest = (list, value) => {
    let best = 0;
    for (let i = 1; i < list.length; i++) {
      if (Math.abs(list[i] - value) < Math.abs(list[best] - value)) best = i;
    }
    return value === Infinity ? list.length - 1 : best;
  };
  const sample = (parent, { colour, dash, marker }) => {
    const drawn = parent.appendChild(document.createElementNS(namespace, "svg"));
    for (const [name, value] of [["width", 40], ["height", 12], ["aria-hidden", "true"]]) {
      drawn.setAttribute(name, value);
    }
    node(drawn, "path", { class: `line ${colour}`, d: "M1,6H39", "stroke-dasharray": dash });
    node(drawn, "path", { class: `mark ${colour}`, d: SHAPES[marker], transform: "translate(20,6)" });
  };
  const lines = () => data.metrics[Number(metric.value)].lines.filter((line) => !hidden.has(line.setting));

  const extent = (shown) => {
    let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
    for (const line of shown) {
      left = Math.min(left, line.x[0]);
      right = Math.max(right, line.x[line.x.length - 1]);
      for (const values of everySeed.checked ? [line.low, line.high, ...line.seeds] : [line.low, line.high]) {
        for (const v of values) { low = Math.min(low, v); high = Math.max(high, v); }
      }
    }
    const apart = high - low > Math.abs(high) * 1e-9, room = 0.05 * (apart ? high - low : Math.abs(high)) || 1;
    return { left, right: right > left ? right : left + 1, low: low - room, high: high + room };
  };

  let scale = null; // of the figure as it is drawn, for the cursor
  const draw = () => {
    svg.replaceChildren();
    const shown = lines();
    const width = Math.max(280, svg.clientWidth || 640);
    const height = Math.round(Math.min(420, Math.max(240, width * 0.55)));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    scale = null;
    if (!shown.length) {
      node(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Choose a curve below.");
      return read();
    }
    const { left, right, low, high } = extent(shown);
    const up = ticks(low, high, 5), margin = 14 + 7 * Math.max(...up.map((v) => short(v).length));
    const x = (v) => margin + (v - left) / (right - left) * (width - margin - 14);
    const y = (v) => height - 40 - (v - low) / (high - low) * (height - 52);
    for (const v of up) {
      node(svg, "line", { class: "grid", x1: margin, x2: width - 14, y1: y(v), y2: y(v) });
      node(svg, "text", { x: margin - 6, y: y(v) + 4, "text-anchor": "end" }, short(v));
    }
    for (const v of ticks(left, right, width < 500 ? 3 : 6)) {
      node(svg, "line", { class: "grid", x1: x(v), x2: x(v), y1: 12, y2: height - 40 });
      node(svg, "text", { x: x(v), y: height - 23, "text-anchor": "middle" }, short(v));
    }
    node(svg, "text", { x: (margin + width - 14) / 2, y: height - 5, "text-anchor": "middle" }, "environment steps");
    const points = (line, values) => values.map((v, i) => `${x(line.x[i]).toFixed(1)},${y(v).toFixed(1)}`);
    const path = (line, values) => "M" + points(line, values).join("L");
    for (const line of shown) {
      const { colour } = data.settings[line.setting];
      if (line.seeds.length > 1) {
        const back = points(line, line.low).reverse().join("L");
        node(svg, "path", { class: `area ${colour}`, d: `${path(line, line.high)}L${back}Z` });
      }
      if (!everySeed.checked) continue;
      for (const seed of line.seeds) node(svg, "path", { class: `seed ${colour}`, d: path(line, seed) });
    }
    shown.forEach((line, i) => {
      const { colour, dash, marker } = data.settings[line.setting];
      node(svg, "path", { class: `line ${colour}`, d: path(line, line.y), "stroke-dasharray": dash });
      const every = Math.max(1, Math.floor(line.x.length / 8));
      for (let j = Math.floor(i * every / shown.length); j < line.x.length; j += every) {
        const transform = `translate(${x(line.x[j])},${y(line.y[j])})`;
        node(svg, "path", { class: `mark ${colour}`, d: SHAPES[marker], transform });
      }
    });
    scale = { x, y, left, right, margin, width, height, cursor: node(svg, "g", {}) };
    read();
  };

  const grid = () => lines().reduce((longest, line) => (line.x.length > longest.length ? line.x : longest), []);
  const read = () => { // the values at the cursor, in the figure and in the table below it
    const rows = get("reading");
    rows.replaceChildren();
    const axis = grid();
    if (!axis.length) return svg.setAttribute("aria-valuetext", "no curve");
    const at = axis[nearest(axis, state.at)], spoken = [];
    if (scale) {
      scale.cursor.replaceChildren();
      const x = scale.x(at);
      node(scale.cursor, "line", { class: "cursor", x1: x, x2: x, y1: 12, y2: scale.height - 40 });
    }
    for (const line of lines()) {
      const { label, colour, members } = data.settings[line.setting], i = nearest(line.x, at);
      if (scale) {
        const place = { cx: scale.x(line.x[i]), cy: scale.y(line.y[i]), r: 4.5 };
        node(scale.cursor, "circle", { class: `dot ${colour}`, ...place });
      }
      const row = node(rows, "tr", {});
      const interval = line.seeds.length > 1 ? `${number(line.low[i])} to ${number(line.high[i])}` : "–";
      const values = line.seeds.map((seed, j) => `${members[j]}: ${number(seed[i])}`);
      const head = node(row, "th", { scope: "row" });
      sample(head, data.settings[line.setting]);
      node(head, "span", {}, label);
      for (const text of [steps(line.x[i]), number(line.y[i]), interval]) node(row, "td", {}, text);
      node(row, "td", { class: "seeds" }, values.join(", "));
      spoken.push(`${label} ${number(line.y[i])}`);
    }
    const [first, last] = [axis[0], axis[axis.length - 1]];
    for (const [name, value] of [["min", first], ["max", last], ["now", at]]) {
      svg.setAttribute(`aria-value${name}`, value);
    }
    svg.setAttribute("aria-valuetext", `step ${steps(at)}: ${spoken.join("; ")}`);
  };

  const point = (event) => {
    if (!scale) return;
    const box = svg.getBoundingClientRect(), place = (event.clientX - box.left) * scale.width / box.width;
    const share = (place - scale.margin) / (scale.width - scale.margin - 14);
    state.at = scale.left + Math.min(1, Math.max(0, share)) * (scale.right - scale.left);
    read();
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("keydown", (event) => {
    const axis = grid(), i = nearest(axis, state.at), page = Math.ceil(axis.length / 10);
    const move = {
      ArrowLeft: i - 1, ArrowRight: i + 1, ArrowDown: i - 1, ArrowUp: i + 1,
      PageDown: i - page, PageUp: i + page, Home: 0, End: axis.length - 1,
    };
    if (!axis.length || !(event.key in move)) return;
    event.preventDefault();
    state.at = axis[Math.min(axis.length - 1, Math.max(0, move[event.key]))];
    read();
  });

  data.metrics.forEach((one, i) => node(metric, "option", { value: i }, one.name));
  data.settings.forEach((setting, i) => {
    const button = node(node(legend, "li", {}), "button", { type: "button", "aria-pressed": "true" });
    sample(button, setting);
    node(button, "span", {}, setting.label);
    button.addEventListener("click", () => {
      if (!hidden.delete(i)) hidden.add(i);
      button.setAttribute("aria-pressed", String(!hidden.has(i)));
      draw();
    });
  });
  metric.addEventListener("change", draw);
  everySeed.addEventListener("change", draw);
  if (window.ResizeObserver) {
    let width = 0;
    const resized = () => {
      if (svg.clientWidth === width) return;
      width = svg.clientWidth;
      draw();
    };
    new ResizeObserver(resized).observe(svg);
  }
  get("figure").hidden = false;
  draw();
})();
