// Episodes of a policy on a task, one step at a time, without a page.
globalThis.purerl ??= {};

purerl.randomBits = (size) => crypto.getRandomValues(new Uint32Array(size));

// task: { reset, step } of task.js. physics: of physics.js, or null. draw: size -> random 32-bit numbers.
purerl.makeRunner = (task, physics = null, draw = purerl.randomBits) => {
  const run = {
    policy: null, carry: [], obs: null, state: null, before: null,
    episode: 0, steps: 0, total: 0, lastReturn: null, ended: "",
    setPolicy(policy) {
      run.policy = policy;
      run.carry = policy.START;
    },
    reset() {
      [run.obs, run.state] = task.reset(draw, physics);
      run.before = run.state;
      if (run.policy) run.carry = run.policy.START;
      Object.assign(run, { episode: run.episode + 1, steps: 0, total: 0, ended: "" });
    },
    step() {
      const [action, carry] = run.policy.act(run.obs, run.carry);
      const [obs, state, reward, terminated, truncated] = task.step(run.state, action, draw, physics);
      Object.assign(run, { obs, state, carry, before: run.state, steps: run.steps + 1, total: run.total + reward });
      run.ended = terminated ? "terminated" : truncated ? "time limit" : "";
      if (run.ended) run.lastReturn = run.total;
    },
    // Add to one number of the state, which others may share.
    nudge(index, amount) {
      run.state = run.state.map((array, i) => (i === index ? array.map((value) => value + amount) : array));
      run.before = run.state;
    },
  };
  return run;
};
