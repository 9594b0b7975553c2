// Operations on flat arrays, row by row as NumPy stores them.
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const map = (Type, size, f, a) => {
  const out = new Type(size);
  for (let i = 0; i < size; i++) out[i] = f(a[i]);
  return out;
};
const zip = (Type, size, f, a, b) => {
  const out = new Type(size), s = a.length > 1 ? 1 : 0, t = b.length > 1 ? 1 : 0;
  for (let i = 0; i < size; i++) out[i] = f(a[i * s], b[i * t]);
  return out;
};
const pick = (Type, where, a) => {
  const out = new Type(where.length);
  for (let i = 0; i < where.length; i++) out[i] = a[where[i]];
  return out;
};
const choose = (Type, size, flags, a, b) => {
  const out = new Type(size), [r, s, t] = [flags, a, b].map((x) => (x.length > 1 ? 1 : 0));
  for (let i = 0; i < size; i++) out[i] = flags[i * r] ? b[i * t] : a[i * s];
  return out;
};
// Entry i of the result goes over the entries (i * count, ...) of the order.
const fold = (Type, size, order, f, first, a) => {
  const out = new Type(size), count = order.length / size;
  for (let i = 0; i < size; i++) {
    let value = first;
    for (let j = 0; j < count; j++) value = f(value, a[order[i * count + j]]);
    out[i] = value;
  }
  return out;
};
const argbest = (size, order, sign, a) => {
  const out = new Int32Array(size), count = order.length / size;
  for (let i = 0; i < size; i++) {
    let best = 0;
    for (let j = 1; j < count; j++)
      if (sign * a[order[i * count + j]] > sign * a[order[i * count + best]]) best = j;
    out[i] = best;
  }
  return out;
};
const product = (groups, m, k, n, a, b) => {
  const out = new Float32Array(groups * m * n), row = new Float64Array(n);
  for (let g = 0; g < groups; g++)
    for (let i = 0; i < m; i++) {
      row.fill(0);
      for (let l = 0; l < k; l++) {
        const x = a[(g * m + i) * k + l];
        for (let j = 0; j < n; j++) row[j] += x * b[(g * k + l) * n + j];
      }
      out.set(row, (g * m + i) * n);
    }
  return out;
};
const join = (Type, parts) => {
  const out = new Type(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { out.set(part, at); at += part.length; }
  return out;
};
const bits = (Type, a) => new Type(a.slice().buffer);
const count_bits = (a) => { let n = 0; for (let x = a >>> 0; x; x &= x - 1) n++; return n; };
const even = (a) => { const low = Math.floor(a), rest = a - low; return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1; };
const away = (a) => Math.sign(a) * Math.floor(Math.abs(a) + 0.5);
// The inverse of the error function in single precision, after M. Giles, "Approximating the erfinv function" (2010).
const CENTRE = [2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4, -1.25372503e-3, -4.17768164e-3, 2.46640727e-1, 1.50140941];
const TAIL = [-2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3, -7.6224613e-3, 9.43887047e-3, 1.00167406, 2.83297682];
const erf_inv = (a) => {
  if (Math.abs(a) === 1) return a * Infinity;
  const w = -Math.log1p(-a * a), [x, parts] = w < 5 ? [w - 2.5, CENTRE] : [Math.sqrt(w) - 3, TAIL];
  return a * parts.reduce((sum, part) => sum * x + part, 0);
};
// Places of the windows of a gather or scatter: index rows `at` [count, axes.length] name the first entry of a
// window, whose other entries lie at `offsets`; -1 for all entries of a window that leaves the array.
const windows = (at, count, axes, offsets, clip) => {
  const out = new Int32Array(count * offsets.length);
  for (let i = 0; i < count; i++) {
    let first = 0, inside = true;
    axes.forEach(([stride, last], k) => {
      let index = at[i * axes.length + k];
      if (clip) index = Math.min(Math.max(index, 0), last);
      if (index < 0 || index > last) inside = false;
      first += index * stride;
    });
    for (let j = 0; j < offsets.length; j++) out[i * offsets.length + j] = inside ? first + offsets[j] : -1;
  }
  return out;
};
const gather = (Type, where, order, missing, a) => {
  const out = new Type(where.length);
  for (let i = 0; i < where.length; i++) out[order[i]] = where[i] < 0 ? missing : a[where[i]];
  return out;
};
const scatter = (Type, where, order, f, a, b) => {
  const out = Type.from(a);
  for (let i = 0; i < where.length; i++) if (where[i] >= 0) out[where[i]] = f(out[where[i]], b[order[i]]);
  return out;
};
// Arrays sorted by the first: groups of `length` entries of the order.
const sort = (order, length, arrays) => {
  const out = arrays.map((array) => array.slice());
  for (let i = 0; i < order.length; i += length) {
    const places = order.slice(i, i + length), sorted = places.slice().sort((j, k) => arrays[0][j] - arrays[0][k]);
    sorted.forEach((from, j) => arrays.forEach((array, k) => { out[k][places[j]] = array[from]; }));
  }
  return out;
};
