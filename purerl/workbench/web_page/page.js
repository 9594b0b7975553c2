// The page: its controls, and the clock that steps the agent.
(async () => {
  const at = (id) => document.getElementById(id), facts = JSON.parse(at("facts").textContent);
  const canvas = at("canvas"), notice = at("notice"), RATES = [0.1, 0.25, 0.5, 1, 2, 4];
  const colours = { css: {} };
  const readColours = () => {
    const style = getComputedStyle(document.documentElement), get = (name) => style.getPropertyValue(`--${name}`).trim();
    for (const name of ["back", "front", "soft", "accent", "second"]) colours.css[name] = get(name);
    for (const name of ["top", "back", "dark", "bright", "accent"]) colours[name] = [1, 3, 5].map((i) => parseInt(get(name).slice(i, i + 2), 16) / 255);
  };
  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  const say = (text, bad = false) => {
    if (notice.textContent !== text) notice.textContent = text;
    notice.classList.toggle("bad", bad);
  };
  const fail = (error) => say(error?.message ?? String(error), true);

  // Policies are loaded when they are first chosen.
  const script = (name) => new Promise((resolve, reject) => {
    const element = document.createElement("script");
    Object.assign(element, { src: name, onload: resolve, onerror: () => reject(new Error(`${name} cannot be loaded.`)) });
    document.head.append(element);
  });
  purerl.policies ??= {};
  const policyAt = async (i) => {
    if (!purerl.policies[i]) await script(facts.policies[i].file);
    return purerl.policies[i];
  };

  const view = { paused: matchMedia("(prefers-reduced-motion: reduce)").matches, rate: 1, clock: 0, hold: 0, drawn: 0, scale: 1 };
  const fit = () => {
    const box = canvas.getBoundingClientRect(), dense = Math.min(devicePixelRatio || 1, 2) * view.scale;
    const [width, height] = [box.width, box.height].map((length) => Math.max(1, Math.round(length * dense)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  };
  let run, stage;
  try {
    fit();
    stage = await purerl.makeStage(facts, canvas, colours);
    if (stage.scene?.slow) view.scale = 0.75;
    run = purerl.makeRunner(purerl.task, stage.physics);
    run.setPolicy(await policyAt(facts.first));
    run.reset();
    stage.frame();
  } catch (error) {
    fail(error);
    throw error;
  }
  Object.assign(purerl, { run, stage, view, facts });

  const number = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4)));
  const show = (id, text) => { if (at(id).textContent !== text) at(id).textContent = text; };
  const count = () => {
    show("episode", String(run.episode));
    show("step", run.steps.toLocaleString("en"));
    show("return", number(run.total));
    show("last", run.lastReturn === null ? "–" : number(run.lastReturn));
  };
  const pause = (value) => {
    view.paused = value;
    at("pause").setAttribute("aria-pressed", String(value));
    at("pause").textContent = value ? "Play" : "Pause";
    say(value ? "Paused" : "");
  };
  const reset = () => {
    run.reset();
    Object.assign(view, { clock: 0, hold: 0 });
    stage.frame();
    say(view.paused ? "Paused" : "");
  };
  const rate = (i) => {
    at("speed").value = String(Math.max(0, Math.min(RATES.length - 1, i)));
    view.rate = RATES[at("speed").value];
    at("rate").value = `${view.rate}×`;
    at("speed").setAttribute("aria-valuetext", `${view.rate} times`);
  };
  const choose = async (i) => {
    const n = Math.max(0, Math.min(facts.policies.length - 1, i));
    at("policy").value = String(n);
    at("chosen").value = facts.policies[n].label;
    at("policy").setAttribute("aria-valuetext", facts.policies[n].label);
    try {
      const policy = await policyAt(n);
      if (at("policy").value === String(n)) run.setPolicy(policy);
    } catch (error) {
      fail(error);
    }
  };
  at("pause").onclick = () => pause(!view.paused);
  at("reset").onclick = reset;
  at("speed").oninput = () => rate(Number(at("speed").value));
  at("policy").oninput = () => choose(Number(at("policy").value));
  const pushes = { left: [-1, 0], right: [1, 0], up: [0, 1] };
  for (const [id, way] of Object.entries(pushes)) at(id).onclick = () => stage.push(...way);
  at("pushes").hidden = !stage.canPush;
  at("up").hidden = !stage.physics;
  at("hint").textContent = `${stage.hint} Keys: space pauses, R resets${stage.canPush ? ", arrows push" : ""}, + and − change the speed${facts.policies.length > 1 ? ", [ and ] the policy" : ""}.`;
  for (const [name, colour] of facts.board ? facts.board.channels.map((name, i) => [name, facts.board.colours[i]]) : []) {
    const row = document.createElement("li"), mark = document.createElement("i");
    mark.style.background = colour;
    row.append(mark, name.replaceAll("_", " "));
    at("legend").append(row);
    at("legend").hidden = false;
  }
  if (facts.policies.length > 1) {
    Object.assign(at("policy"), { max: facts.policies.length - 1, value: facts.first });
    at("chosen").value = facts.policies[facts.first].label;
    at("policy").setAttribute("aria-valuetext", facts.policies[facts.first].label);
    at("kept").hidden = false;
  }
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input")) return;
    const speed = Number(at("speed").value), policy = Number(at("policy").value), key = event.key;
    if (key === " " && event.target.matches?.("button")) return;
    if (key === " ") pause(!view.paused);
    else if (key === "r" || key === "R") reset();
    else if (arrows[key] && stage.canPush) stage.push(...arrows[key]);
    else if (key === "+" || key === "=") rate(speed + 1);
    else if (key === "-") rate(speed - 1);
    else if ((key === "[" || key === "]") && facts.policies.length > 1) choose(policy + (key === "]" ? 1 : -1));
    else if (key === "a" || key === "d") stage.turn(key === "a" ? 10 : -10);
    else return;
    event.preventDefault();
  });

  // Steps are taken at their own rate, whatever that of the pictures is.
  const advance = (seconds) => {
    const begun = performance.now();
    view.clock += (seconds * view.rate) / facts.seconds;
    if (run.ended) {
      view.hold -= seconds;
      if (view.hold <= 0) reset();
      return;
    }
    while (view.clock >= 1 && !run.ended) {
      run.step();
      view.clock = performance.now() - begun > 25 ? 0 : view.clock - 1;
    }
    if (!run.ended) return;
    view.hold = 1.2;
    const steps = `${run.steps.toLocaleString("en")} step${run.steps === 1 ? "" : "s"}`;
    say(`${run.ended === "terminated" ? "Ended" : "Time limit"} after ${steps}: return ${number(run.total)}`);
  };
  let before = performance.now(), slow = 0;
  const tick = (now) => {
    const seconds = Math.min((now - before) / 1000, 0.1);
    before = now;
    try {
      if (!view.paused) advance(seconds);
      // Pictures that come too slowly get fewer pixels.
      slow = seconds > 0.021 ? slow + 1 : Math.max(0, slow - 0.5);
      if (slow > 20 && view.scale > 0.4) Object.assign(view, { scale: view.scale * 0.8 }), (slow = 0);
      fit();
      stage.draw(run, Math.min(view.clock, 1), seconds);
      count();
      view.drawn += 1;
    } catch (error) {
      fail(error);
      throw error;
    }
    requestAnimationFrame(tick);
  };
  if (view.paused) pause(true);
  else say("");
  requestAnimationFrame(tick);
})();
