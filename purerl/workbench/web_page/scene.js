// MuJoCo's geoms drawn with WebGL: one light, shadows on the floor, and a camera that follows the robot.
globalThis.purerl ??= {};

const VERTEX = `#version 300 es
in vec3 position, normal; in float end;
uniform mat4 camera; uniform mat3 turn; uniform vec3 at, scale, light; uniform float half_length, shadow_height; uniform bool shadow;
out vec3 place, direction;
void main() {
  place = turn * (position * scale + vec3(0.0, 0.0, end * half_length)) + at;
  direction = turn * (normal / scale);
  if (shadow) {
    float drop = max(place.z - shadow_height, 0.0) / light.z;
    place = vec3(place.xy - light.xy * drop, shadow_height);
  }
  gl_Position = camera * vec4(place, 1.0);
}`;
const SOLID = `#version 300 es
precision highp float;
in vec3 place, direction;
uniform vec4 colour; uniform vec3 light, eye; uniform bool shadow;
out vec4 pixel;
void main() {
  if (shadow) { pixel = vec4(0.0, 0.0, 0.0, 0.32); return; }
  vec3 n = normalize(direction), v = normalize(eye - place);
  float sun = max(dot(n, light), 0.0), sky = 0.5 + 0.5 * n.z;
  float shine = pow(max(dot(n, normalize(light + v)), 0.0), 40.0), edge = pow(1.0 - max(dot(n, v), 0.0), 3.0);
  vec3 lit = colour.rgb * (0.34 + 0.22 * sky + 0.62 * sun) + 0.18 * shine + 0.10 * edge * sky;
  pixel = vec4(lit * colour.a, colour.a);
}`;
const SKY = `
uniform vec3 top, back; uniform float height;
vec3 sky() { return mix(top, back, min((1.0 - gl_FragCoord.y / height) / 0.62, 1.0)); }`;
const EVERYWHERE = `#version 300 es
in vec3 position;
void main() { gl_Position = vec4(position.xy, 1.0, 1.0); }`;
const BEHIND = `#version 300 es
precision highp float;
${SKY}
out vec4 pixel;
void main() { pixel = vec4(sky(), 1.0); }`;
const FLOOR = `#version 300 es
precision highp float;
in vec3 place, direction;
uniform vec3 dark, bright; uniform vec2 centre; uniform float tile, reach;
${SKY}
out vec4 pixel;
void main() {
  // Squares with edges as wide as a pixel, which fade where they are smaller than that.
  vec2 uv = place.xy / tile, edge = clamp((abs(fract(0.5 * uv) - 0.5) - 0.25) * 4.0 / (fwidth(uv) + 0.001), -1.0, 1.0);
  float far = length(place.xy - centre) / reach, haze = clamp(1.4 * far - 0.4, 0.0, 1.0);
  vec3 floor_colour = mix(dark, bright, 0.5 + 0.5 * edge.x * edge.y) * (1.0 - 0.2 * min(far, 0.8));
  pixel = vec4(mix(floor_colour, sky(), haze * haze * (3.0 - 2.0 * haze)), 1.0);
}`;
const KINDS = { 0: "plane", 2: "sphere", 3: "capsule", 4: "sphere", 5: "cylinder", 6: "box" }; // of mjtGeom
const LIGHT = purerl.vectors.unit([-0.35, -0.45, 1]);
const FIELD = Math.tan(Math.PI / 9); // half of 40 degrees

// The geoms that are drawn: { kind, body, scale, half, size, colour }.
purerl.geomsOf = (model) => Array.from({ length: model.ngeom }, (_, i) => {
  const material = model.geom_matid[i], kind = KINDS[model.geom_type[i]];
  const [x, y, z] = model.geom_size.slice(3 * i, 3 * i + 3);
  const plain = Array.from(model.geom_rgba.slice(4 * i, 4 * i + 4));
  const grey = plain.every((c, k) => Math.abs(c - [0.5, 0.5, 0.5, 1][k]) < 1e-6);
  const colour = material >= 0 && grey ? Array.from(model.mat_rgba.slice(4 * material, 4 * material + 4)) : plain;
  const scale = { plane: [x || 500, y || 500, 1], sphere: model.geom_type[i] === 4 ? [x, y, z] : [x, x, x],
    capsule: [x, x, x], cylinder: [x, x, y], box: [x, y, z] }[kind];
  const shown = kind && colour[3] > 0 && model.geom_group[i] < 3;
  return { index: i, kind: shown ? kind : null, body: model.geom_bodyid[i], scale, half: kind === "capsule" ? y : 0,
    size: kind === "capsule" || kind === "cylinder" ? [x, y] : [Math.max(...(scale ?? [0])), 0], colour };
}).filter((geom) => geom.kind);

// True where WebGL runs without a graphics processor, and smooth edges would cost most of the time.
const isSlow = () => {
  const gl = document.createElement("canvas").getContext("webgl2"), facts = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = facts ? String(gl.getParameter(facts.UNMASKED_RENDERER_WEBGL)) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
};

purerl.makeScene = (canvas, geoms, colours) => {
  const slow = isSlow(), smooth = (globalThis.devicePixelRatio || 1) < 1.5 && !slow;
  // Opaque, because a browser puts such a picture on the page in half the time.
  const gl = canvas.getContext("webgl2", { antialias: smooth, stencil: true, alpha: false });
  if (!gl) throw new Error("This page needs WebGL 2, which this browser does not offer.");
  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    ["position", "normal", "end"].forEach((name, i) => gl.bindAttribLocation(made, i, name));
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) || "WebGL was lost.");
    const names = Array.from({ length: gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS) }, (_, i) => gl.getActiveUniform(made, i).name);
    return { made, at: Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(made, name)])) };
  };
  const solid = program(VERTEX, SOLID), floor = program(VERTEX, FLOOR), behind = program(EVERYWHERE, BEHIND);
  const meshes = Object.fromEntries(Object.entries(purerl.shapes).map(([name, { rows, corners }]) => {
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, Float32Array.from(rows), gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint16Array.from(corners), gl.STATIC_DRAW);
    [[3, 0], [3, 12], [1, 24]].forEach(([size, offset], i) => {
      gl.enableVertexAttribArray(i);
      gl.vertexAttribPointer(i, size, gl.FLOAT, false, 28, offset);
    });
    return [name, { array, count: corners.length }];
  }));
  const { along, cross, unit, camera } = purerl.vectors;
  const mesh = (name) => {
    gl.bindVertexArray(meshes[name].array);
    gl.drawElements(gl.TRIANGLES, meshes[name].count, gl.UNSIGNED_SHORT, 0);
  };
  const colour = ({ at }) => {
    gl.uniform3fv(at.top, colours.top);
    gl.uniform3fv(at.back, colours.back);
    gl.uniform1f(at.height, canvas.height);
  };
  const place = (at, item) => {
    gl.uniformMatrix3fv(at.turn, true, item.turn);
    gl.uniform3fv(at.at, item.at);
    gl.uniform3fv(at.scale, item.scale);
    gl.uniform1f(at.half_length, item.half);
  };
  const planes = geoms.filter((geom) => geom.kind === "plane"), things = geoms.filter((geom) => geom.kind !== "plane");

  const scene = {
    slow, target: [0, 0, 0], azimuth: 90, elevation: -12, distance: 4, tile: 1,
    // The view: where it is seen from, and the directions of the screen in space.
    look() {
      const [a, e] = [scene.azimuth, scene.elevation].map((x) => (x * Math.PI) / 180);
      const forward = [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)];
      const right = unit(cross(forward, [0, 0, 1])), aspect = canvas.width / canvas.height;
      return { eye: along(scene.target, -scene.distance, forward), forward, right, up: cross(right, forward), aspect };
    },
    // The ray through a point of the canvas, given from -1 to 1 to the right and up.
    ray(x, y) {
      const { eye, forward, right, up, aspect } = scene.look();
      return { eye, direction: unit(along(along(forward, x * FIELD * aspect, right), y * FIELD, up)) };
    },
    // pose: { at, turn } of all geoms. extra: further items to draw.
    draw(pose, extra) {
      const { eye, forward, right, up, aspect } = scene.look();
      const matrix = camera(eye, right, up, forward, FIELD, aspect);
      const placed = (geom) => ({ ...geom, at: pose.at.subarray(3 * geom.index, 3 * geom.index + 3), turn: pose.turn.subarray(9 * geom.index, 9 * geom.index + 9) });
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clear(gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
      gl.enable(gl.DEPTH_TEST);
      gl.depthFunc(gl.LEQUAL);
      gl.disable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

      gl.useProgram(floor.made);
      colour(floor);
      gl.uniformMatrix4fv(floor.at.camera, false, matrix);
      gl.uniform3fv(floor.at.dark, colours.dark);
      gl.uniform3fv(floor.at.bright, colours.bright);
      gl.uniform2f(floor.at.centre, scene.target[0], scene.target[1]);
      gl.uniform1f(floor.at.tile, scene.tile);
      gl.uniform1f(floor.at.reach, 9 * scene.distance);
      gl.uniform1i(floor.at.shadow, 0);
      for (const geom of planes) {
        const item = placed(geom), wide = geom.scale[0] > 20;
        const at = wide ? [scene.target[0], scene.target[1], item.at[2]] : item.at;
        place(floor.at, { ...item, at, scale: wide ? [10 * scene.distance, 10 * scene.distance, 1] : geom.scale });
        mesh("plane");
      }

      gl.useProgram(behind.made);
      colour(behind);
      mesh("plane");

      gl.enable(gl.BLEND);
      gl.useProgram(solid.made);
      gl.uniformMatrix4fv(solid.at.camera, false, matrix);
      gl.uniform3fv(solid.at.light, LIGHT);
      gl.uniform3fv(solid.at.eye, eye);
      const items = [...things.map(placed), ...extra];
      const each = () => {
        for (const item of items) {
          place(solid.at, item);
          gl.uniform4fv(solid.at.colour, item.colour);
          mesh(item.kind);
        }
      };
      gl.uniform1i(solid.at.shadow, 0);
      each();
      const ground = planes.length ? pose.at[3 * planes[0].index + 2] : null;
      if (ground !== null) { // once a pixel, however many shadows fall there
        gl.enable(gl.STENCIL_TEST);
        gl.stencilFunc(gl.EQUAL, 0, 255);
        gl.stencilOp(gl.KEEP, gl.KEEP, gl.INCR);
        gl.depthMask(false);
        gl.uniform1i(solid.at.shadow, 1);
        gl.uniform1f(solid.at.shadow_height, ground + 0.002);
        each();
        gl.depthMask(true);
        gl.disable(gl.STENCIL_TEST);
      }
    },
  };
  return scene;
};
