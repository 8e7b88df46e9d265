import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import {
  add,
  attention,
  batchedGather,
  batchNormTrain,
  constant,
  cos,
  cumsum,
  div,
  gelu,
  input,
  iota,
  l2Normalize,
  layerNorm,
  linear,
  logsumexp,
  matmul,
  mean,
  mul,
  mulDims,
  oneHot,
  parameter,
  relu,
  reshape,
  scope,
  sin,
  sizeTensor,
  sort,
  split,
  sqrt,
  square,
  sub,
  sum,
  swapLast,
  type Tensor,
  tanh,
  toDim,
  transpose,
  variance,
  zeros,
} from '../../src/graph/index.js';
import type { Feeds } from '../../src/runtime/index.js';
import { FREQUENCIES, LOSSES, type Loss, type Matrix, type Values } from './reference.js';

/** The programs of the engine tests as graphs, beside `reference.ts`, and their data. */

export const WIDTHS = { in: 6, hidden: 5, out: 6 } as const;

export const networkParameters = (prefix = ''): Tensor[] => [
  parameter(`${prefix}fc1.weight`, [WIDTHS.hidden, WIDTHS.in]),
  parameter(`${prefix}fc2.weight`, [WIDTHS.out, WIDTHS.hidden]),
  parameter(`${prefix}fc1.bias`, [WIDTHS.hidden]),
  parameter(`${prefix}fc2.bias`, [WIDTHS.out]),
];

export function network([w1, w2, b1, b2]: readonly Tensor[], x: Tensor, batchNorm = false): Tensor {
  let h = scope('fc1', () => linear(x, w1, b1));
  if (batchNorm) h = scope('norm', () => batchNormTrain(h, zeros([WIDTHS.hidden]), zeros([WIDTHS.hidden])).out);
  return scope('fc2', () => linear(tanh(h), w2, b2));
}

const x = input('x', ['batch', WIDTHS.in]);
const y = input('y', ['batch', WIDTHS.out]);
const mse = (a: Tensor, b: Tensor): Tensor => mean(square(sub(a, b)));

/** Losses of a network's parameters by name, of inputs x and y. */
const LOSS_GRAPHS: Readonly<Record<string, (p: readonly Tensor[]) => Tensor>> = {
  mean: (p) => mse(network(p, x), y),
  vicreg: (p) => {
    const views = [network(p, x), network(p, y)];
    const terms = views.map((z) => {
      const hinge = mean(relu(sub(1, sqrt(add(variance(z, 0), 1e-4)))));
      const centred = sub(z, mean(z, 0, true));
      const covariance = div(matmul(swapLast(centred), centred), sub(sizeTensor(z.shape[0]), 1));
      const squares = square(covariance);
      const diagonal = sum(square(variance(z, 0)));
      return add(mul(hinge, 25), div(sub(sum(squares), diagonal), WIDTHS.out));
    });
    return add(mul(mse(views[0], views[1]), 25), add(terms[0], terms[1]));
  },
  sigreg: (p) => {
    const z = reshape(network(p, x), ['batch', 1, WIDTHS.out]);
    const t = float32([FREQUENCIES.length, 1], FREQUENCIES);
    const angles = mul(z, constant(t));
    const target = constant(
      float32(
        [FREQUENCIES.length, 1],
        FREQUENCIES.map((f) => Math.exp((-f * f) / 2)),
      ),
    );
    return mean(add(square(sub(mean(cos(angles), 0), target)), square(mean(sin(angles), 0))));
  },
  infonce: (p) => {
    const [a, b] = [x, y].map((view) => l2Normalize(network(p, view)));
    const logits = div(matmul(a, swapLast(b)), 0.2);
    return mean(sub(logsumexp(logits, 1), div(sum(mul(a, b), 1), 0.2)));
  },
  'infonce with a diagonal': (p) => {
    const [a, b] = [x, y].map((view) => l2Normalize(network(p, view)));
    const logits = div(matmul(a, swapLast(b)), 0.2);
    const [rows] = logits.shape;
    return mean(sub(logsumexp(logits, 1), sum(mul(logits, oneHot(iota(rows), rows)), 1)));
  },
  batchNorm: (p) => mse(network(p, x, true), y),
  // No rule says how these two are computed on slices of a batch.
  sorted: (p) => mean(square(sub(sort(network(p, x), 0).values, sort(y, 0).values))),
  running: (p) => mean(square(cumsum(network(p, x), 0))),
};

const WIDTH = 8;
const HEADS = 2;
const TOKENS = 5;
const KEPT = 3;

const transformerParameters = (): Tensor[] => [
  parameter('embed', [WIDTH, WIDTHS.in]),
  parameter('positions', [TOKENS, WIDTH]),
  parameter('qkv', [3 * WIDTH, WIDTH]),
  parameter('proj', [WIDTH, WIDTH]),
  parameter('mlp', [WIDTH, WIDTH]),
  parameter('norm', [WIDTH]),
];

/** A block over the kept tokens of every sample, two masks each (so that rows are a multiple of the batch). */
function transformer([embed, positions, qkv, proj, mlp, norm]: readonly Tensor[]): Tensor {
  const tokens = input('tokens', ['batch', TOKENS, WIDTHS.in]);
  const kept = input('kept', ['batch', 2 * KEPT], 'int32');
  return scope('encoder', () => {
    const h = add(linear(tokens, embed), positions);
    const visible = reshape(batchedGather(h, kept), [mulDims(2, toDim('batch')), KEPT, WIDTH]);
    const normed = layerNorm(visible, { weight: norm });
    const joined = transpose(reshape(linear(normed, qkv), [-1, KEPT, 3, HEADS, WIDTH / HEADS]), [2, 0, 3, 1, 4]);
    const [q, k, v] = split(joined, 0, [1, 1, 1]).map((t) => reshape(t, [-1, HEADS, KEPT, WIDTH / HEADS]));
    const attended = reshape(transpose(attention(q, k, v), [0, 2, 1, 3]), [-1, KEPT, WIDTH]);
    const out = add(
      visible,
      scope('mlp', () => gelu(linear(linear(attended, proj), mlp))),
    );
    return mean(square(sub(out, mean(out, 1, true))));
  });
}

// Data ---------------------------------------------------------------------------------------------------------------

/** Numbers that look random and are the same everywhere, in [-1, 1). */
export function noise(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export const initial = (parameters: readonly Tensor[]): Map<string, HostTensor<'float32'>> =>
  new Map(
    parameters.map((t, i) => {
      const shape = t.shape as readonly number[];
      const data = noise(
        shape.reduce((a, b) => a * b, 1),
        100 + i,
      ).map((v) => v * 0.7);
      return [(t.node.attrs as { name: string }).name, float32(shape, data)];
    }),
  );

export const batchOf = (rows: number, seed: number): Record<'x' | 'y', HostTensor<'float32'>> => ({
  x: float32([rows, WIDTHS.in], noise(rows * WIDTHS.in, seed)),
  y: float32([rows, WIDTHS.out], noise(rows * WIDTHS.out, seed + 1)),
});

const tokensOf = (rows: number, seed: number): Feeds => ({
  tokens: float32([rows, TOKENS, WIDTHS.in], noise(rows * TOKENS * WIDTHS.in, seed)),
  kept: int32(
    [rows, 2 * KEPT],
    Array.from(noise(rows * 2 * KEPT, seed + 7), (v) => Math.floor(((v + 1) / 2) * TOKENS)),
  ),
});

export interface Case {
  readonly parameters: () => Tensor[];
  readonly loss: (parameters: readonly Tensor[]) => Tensor;
  readonly feeds: (rows: number, seed: number) => Feeds;
  readonly exact: Loss;
}

/** Every loss with its exact counterpart. */
export const CASES: Readonly<Record<string, Case>> = {
  ...Object.fromEntries(
    Object.entries(LOSS_GRAPHS).map(([name, loss]) => [
      name,
      { parameters: networkParameters, loss, feeds: batchOf, exact: LOSSES[name.split(' ')[0] as keyof typeof LOSSES] },
    ]),
  ),
  transformer: { parameters: transformerParameters, loss: transformer, feeds: tokensOf, exact: LOSSES.transformer },
};

/** A row of numbers for each sample of every input. */
export const matricesOf = (feeds: Feeds): Record<string, Matrix> =>
  Object.fromEntries(
    Object.entries(feeds).map(([name, { shape, data }]) => {
      const size = data.length / shape[0];
      const rows = Array.from({ length: shape[0] }, (_, b) => Array.from(data.slice(b * size, (b + 1) * size), Number));
      return [name, rows];
    }),
  );

/**
 * Largest difference of two sets of values, relative to the largest value of each tensor (of all tensors, for one that
 * vanishes beside the others).
 */
export function difference(a: Values, b: ReadonlyMap<string, ArrayLike<number>>): number {
  const largest = (values: ArrayLike<number>): number => Math.max(...Array.from(values, Math.abs));
  const overall = Math.max(...[...b.values()].map(largest)) || 1;
  let worst = 0;
  for (const [name, expected] of b) {
    const got = a.get(name)?.data ?? [];
    const scale = largest(expected) > overall * 1e-6 ? largest(expected) : overall;
    for (let i = 0; i < expected.length; i++) {
      const off = Math.abs((got[i] ?? Number.NaN) - expected[i]) / scale;
      worst = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(worst, off);
    }
  }
  return worst;
}
