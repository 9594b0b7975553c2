// MinAtar's boards: a square for each cell, in the colour of its last plane that is set.
globalThis.purerl ??= {};

purerl.makeStage = async (facts, canvas) => {
  const pen = canvas.getContext("2d"), { size, colours, empty } = facts.board, planes = colours.length;
  return {
    physics: null, canPush: false, hint: "Each colour is a plane of the observation: the agent sees just this.",
    frame() {},
    turn() {},
    push() {},
    draw(run) {
      const side = Math.floor(Math.min(canvas.width, canvas.height) * 0.95 / size), gap = Math.max(1, Math.round(side / 16));
      const [left, top] = [canvas.width, canvas.height].map((length) => Math.round((length - side * size) / 2));
      pen.clearRect(0, 0, canvas.width, canvas.height);
      for (let row = 0; row < size; row++)
        for (let column = 0; column < size; column++) {
          const cell = run.obs.subarray((row * size + column) * planes, (row * size + column + 1) * planes);
          const plane = cell.reduce((last, flag, i) => (flag ? i : last), -1);
          pen.fillStyle = plane < 0 ? empty : colours[plane];
          pen.beginPath();
          pen.roundRect(left + column * side + gap / 2, top + row * side + gap / 2, side - gap, side - gap, side / 7);
          pen.fill();
        }
    },
  };
};
