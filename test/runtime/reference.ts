import type { HostTensor } from '../../src/base/tensor.js';

/** Plain double-precision versions of the programs of the engine tests, differentiated by central differences. */

export type Values = ReadonlyMap<string, HostTensor<'float32'>>;
export type Matrix = readonly (readonly number[])[];
type Parameters = ReadonlyMap<string, Float64Array>;
export type Loss = (parameters: Parameters, feeds: Readonly<Record<string, Matrix>>) => number;

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const column = (z: Matrix, d: number): number[] => z.map((row) => row[d]);
const columns = (z: Matrix): number[][] => z[0].map((_, d) => column(z, d));
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, v, i) => sum + v * b[i], 0);

function linear(x: Matrix, weight: Float64Array, bias: Float64Array): number[][] {
  return x.map((row) =>
    Array.from(bias, (b, o) => b + row.reduce((sum, v, i) => sum + v * weight[o * row.length + i], 0)),
  );
}

export function network(p: Parameters, x: Matrix, batchNorm = false): number[][] {
  const get = (name: string): Float64Array => p.get(name) as Float64Array;
  let h = linear(x, get('fc1.weight'), get('fc1.bias'));
  if (batchNorm) {
    const stats = columns(h).map((values) => {
      const m = mean(values);
      return { m, s: Math.sqrt(mean(values.map((v) => (v - m) ** 2)) + 1e-5) };
    });
    h = h.map((row) => row.map((v, d) => (v - stats[d].m) / stats[d].s));
  }
  return linear(
    h.map((row) => row.map(Math.tanh)),
    get('fc2.weight'),
    get('fc2.bias'),
  );
}

export const LOSSES = {
  mean: (p, { x, y }) => {
    const z = network(p, x);
    return mean(z.flatMap((row, b) => row.map((v, d) => (v - y[b][d]) ** 2)));
  },
  vicreg: (p, { x, y }) => {
    const views = [network(p, x), network(p, y)];
    const invariance = mean(views[0].flatMap((row, b) => row.map((v, d) => (v - views[1][b][d]) ** 2)));
    const terms = views.map((z) => {
      const centred = columns(z).map((values) => values.map((v) => v - mean(values)));
      const covariance = (i: number, j: number): number => dot(centred[i], centred[j]) / (z.length - 1);
      const hinge = mean(centred.map((_, d) => Math.max(0, 1 - Math.sqrt(covariance(d, d) + 1e-4))));
      const off = centred.flatMap((_, i) => centred.map((__, j) => (i === j ? 0 : covariance(i, j) ** 2)));
      return 25 * hinge + off.reduce((sum, v) => sum + v, 0) / centred.length;
    });
    return 25 * invariance + terms[0] + terms[1];
  },
  sigreg: (p, { x }) => {
    const z = network(p, x);
    const terms = FREQUENCIES.flatMap((t) =>
      columns(z).map((values) => {
        const c = mean(values.map((v) => Math.cos(t * v))) - Math.exp((-t * t) / 2);
        return c * c + mean(values.map((v) => Math.sin(t * v))) ** 2;
      }),
    );
    return mean(terms);
  },
  infonce: (p, { x, y }) => {
    const unit = (z: Matrix): Matrix => z.map((row) => row.map((v) => v / Math.sqrt(dot(row, row))));
    const [a, b] = [unit(network(p, x)), unit(network(p, y))];
    return mean(
      a.map((row, i) => {
        const logits = b.map((other) => dot(row, other) / 0.2);
        return Math.log(logits.reduce((sum, l) => sum + Math.exp(l), 0)) - logits[i];
      }),
    );
  },
  batchNorm: (p, { x, y }) => {
    const z = network(p, x, true);
    return mean(z.flatMap((row, b) => row.map((v, d) => (v - y[b][d]) ** 2)));
  },
  sorted: (p, { x, y }) => {
    const [z, target] = [network(p, x), y].map((m) => columns(m).map((values) => [...values].sort((a, b) => a - b)));
    return mean(z.flatMap((values, d) => values.map((v, i) => (v - target[d][i]) ** 2)));
  },
  running: (p, { x }) => {
    const sums = columns(network(p, x)).map((values) =>
      values.map((_, i) => values.slice(0, i + 1).reduce((a, b) => a + b, 0)),
    );
    return mean(sums.flat().map((v) => v * v));
  },
  transformer,
} satisfies Record<string, Loss>;

const HEADS = 2;

/** Pre-norm attention of two heads with a two-layer GELU after it, over the tokens that each row of `kept` selects. */
function transformer(p: Parameters, { tokens, kept }: Readonly<Record<string, Matrix>>): number {
  const get = (name: string): Float64Array => p.get(name) as Float64Array;
  const width = get('norm').length;
  const none = (count: number): Float64Array => new Float64Array(count);
  const count = get('positions').length / width;
  const each = kept[0].length / 2;
  const errors = tokens.flatMap((flat, b) => {
    const size = flat.length / count;
    const all = Array.from({ length: count }, (_, n) => flat.slice(n * size, (n + 1) * size));
    const embedded = linear(all, get('embed'), none(width)).map((row, n) =>
      row.map((v, d) => v + get('positions')[n * width + d]),
    );
    return [0, 1].flatMap((mask) => {
      const visible = kept[b].slice(mask * each, (mask + 1) * each).map((n) => embedded[n]);
      const normed = visible.map((row) => {
        const m = mean(row);
        const s = Math.sqrt(mean(row.map((v) => (v - m) ** 2)) + 1e-5);
        return row.map((v, d) => ((v - m) / s) * get('norm')[d]);
      });
      const qkv = linear(normed, get('qkv'), none(3 * width));
      const part = width / HEADS;
      const attended = qkv.map((row) =>
        Array.from({ length: HEADS }, (_, h) => {
          const of = (r: readonly number[], which: number): number[] =>
            r.slice(which * width + h * part, which * width + (h + 1) * part);
          const weights = qkv.map((other) => Math.exp(dot(of(row, 0), of(other, 1)) / Math.sqrt(part)));
          const total = weights.reduce((sum, w) => sum + w, 0);
          return of(row, 2).map((_, d) =>
            qkv.reduce((sum, other, n) => sum + (weights[n] / total) * of(other, 2)[d], 0),
          );
        }).flat(),
      );
      const hidden = linear(linear(attended, get('proj'), none(width)), get('mlp'), none(width));
      const out = visible.map((row, n) =>
        row.map((v, d) => v + (hidden[n][d] * (1 + erf(hidden[n][d] / Math.SQRT2))) / 2),
      );
      return out.flatMap((row) => row.map((v, d) => (v - mean(column(out, d))) ** 2));
    });
  });
  return mean(errors);
}

/** By its power series, which serves for the small arguments here. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

export const FREQUENCIES = [0.5, 1, 1.5, 2];

export const doubles = (values: Values): Map<string, Float64Array> =>
  new Map([...values].map(([name, v]) => [name, Float64Array.from(v.data)]));

/** Central differences; the step's error is about 1e-9 here. */
export function gradientOf(
  loss: Loss,
  parameters: Parameters,
  feeds: Readonly<Record<string, Matrix>>,
): Map<string, Float64Array> {
  const h = 1e-4;
  return new Map(
    [...parameters].map(([name, values]) => {
      const gradient = values.map((_, i) => {
        const at = (value: number): number => loss(new Map([...parameters, [name, values.with(i, value)]]), feeds);
        return (at(values[i] + h) - at(values[i] - h)) / (2 * h);
      });
      return [name, gradient];
    }),
  );
}
