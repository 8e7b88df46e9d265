import assert from 'node:assert';
import { test } from 'node:test';
import { bool, float32, type HostTensor, int32, sizeOf } from '../../src/base/tensor.js';
import type { DimLike, Tensor } from '../../src/graph/index.js';
import * as g from '../../src/graph/index.js';
import { reachable } from '../../src/graph/lower.js';
import { evaluate } from '../../src/runtime/evaluate.js';

/** Reproducible numbers in -1 .. 1. */
function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * 0.999;
  };
}

type Sizes = Readonly<Record<string, number>>;

const bound = (shape: readonly DimLike[], sizes: Sizes): number[] =>
  shape.map((dim) => g.evaluateDim(g.toDim(dim), new Map(Object.entries(sizes))) as number);

interface Scenario {
  readonly name: string;
  /** Shapes of the inputs that are differentiated, with symbols. */
  readonly inputs: Readonly<Record<string, readonly DimLike[]>>;
  /** Index inputs: shape and the first value that is too large. */
  readonly indices?: Readonly<Record<string, readonly [readonly DimLike[], number]>>;
  readonly build: (inputs: Readonly<Record<string, Tensor>>) => Tensor;
  /** Applied to the random numbers, for functions that are not defined everywhere or have kinks. */
  readonly domain?: (value: number, position: number) => number;
  /** Whether the gradient is checked by differences of the gradient as well. */
  readonly second?: boolean;
}

/**
 * Checks the gradient along a random direction v: <gradient of <w, f>, v> against differences of <w, f> at x + t v, with
 * t = h, 2h and the error of order h^2 extrapolated away. f itself is computed by ONNX Runtime, in float32.
 */
async function checkGradient(
  label: string,
  variables: readonly Tensor[],
  output: Tensor,
  feeds: ReadonlyMap<Tensor, HostTensor>,
  sizes: Sizes,
  random: () => number,
): Promise<void> {
  const shape = bound(output.shape, sizes);
  const weight: HostTensor<'float32'> = float32(shape, Float32Array.from({ length: sizeOf(shape) }, random));
  const upstream = g.input('upstream', output.shape);
  const flows = g.gradients([{ output, upstream }], variables);
  const wanted: Record<string, Tensor> = {};
  flows.forEach((flow, i) => {
    if (flow) wanted[`${i}`] = flow;
  });
  assert(Object.keys(wanted).length > 0, `${label}: nothing is differentiated`);
  const gradient = await evaluate(wanted, new Map([...feeds, [upstream, weight]]));
  const directions = variables.map((t) => {
    const data = (feeds.get(t) as HostTensor).data;
    return Float32Array.from({ length: data.length }, random);
  });
  let slope = 0;
  let scale = 1e-3;
  directions.forEach((direction, i) => {
    direction.forEach((v, j) => {
      const term = Number(gradient[i]?.data[j] ?? 0) * v;
      slope += term;
      scale += Math.abs(term);
    });
  });
  const at = async (t: number): Promise<number> => {
    const moved = new Map(feeds);
    variables.forEach((variable, i) => {
      const value = feeds.get(variable) as HostTensor<'float32'>;
      moved.set(variable, { ...value, data: value.data.map((x, j) => x + t * directions[i][j]) });
    });
    const { out } = await evaluate({ out: output }, moved);
    let total = 0;
    out.data.forEach((y, i) => {
      total += Number(y) * weight.data[i];
      scale = Math.max(scale, Math.abs(Number(y)) * 1e-2);
    });
    return total;
  };
  const h = 1 / 128;
  const difference = async (step: number): Promise<number> => ((await at(step)) - (await at(-step))) / (2 * step);
  const expected = (4 * (await difference(h)) - (await difference(2 * h))) / 3;
  assert(
    Math.abs(slope - expected) < 2e-3 * scale,
    `${label}: ${slope} along v, differences give ${expected} (scale ${scale})`,
  );
}

async function check({ name, inputs, indices = {}, build, domain, second }: Scenario, sizes: Sizes): Promise<void> {
  const random = numbers(name.length * 977 + Object.values(sizes).reduce((a, b) => a * 31 + b, 7));
  const feeds = new Map<Tensor, HostTensor>();
  const tensors: Record<string, Tensor> = {};
  for (const [key, shape] of Object.entries(inputs)) {
    tensors[key] = g.input(key, shape);
    const dims = bound(shape, sizes);
    const data = Float32Array.from({ length: sizeOf(dims) }, (_, i) => (domain ?? ((x) => x))(random(), i));
    feeds.set(tensors[key], float32(dims, data));
  }
  for (const [key, [shape, end]] of Object.entries(indices)) {
    tensors[key] = g.input(key, shape, 'int32');
    const dims = bound(shape, sizes);
    const data = Int32Array.from({ length: sizeOf(dims) }, () => Math.floor(((random() + 1) / 2) * end));
    feeds.set(tensors[key], int32(dims, data));
  }
  const variables = Object.keys(inputs).map((key) => tensors[key]);
  const output = build(tensors);
  const { out } = await evaluate({ out: output }, feeds);
  assert.deepStrictEqual([...out.shape], bound(output.shape, sizes), `${name}: declared shape`);
  await checkGradient(name, variables, output, feeds, sizes, random);
  if (!second) return;
  // The gradient of a nonlinear scalar is a function as well.
  const scalar = g.sum(g.square(output));
  const flows = g.gradients(scalar, variables);
  for (const [i, flow] of flows.entries()) {
    if (flow) await checkGradient(`${name}, second order ${i}`, variables, flow, feeds, sizes, random);
  }
}

/** Away from the kinks at whole numbers and the ties between neighbours. */
const apart = (x: number, i: number): number => (i % 7) * 0.37 + 0.1 * x;
const positive = (x: number): number => 1.5 + x * 0.8;
const B = 'batch';
const N = 'tokens';

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'arithmetic',
    inputs: { a: [B, N], b: [N], c: [B, 1] },
    build: ({ a, b, c }) => g.add(g.div(a, g.add(g.square(b), 1)), g.sub(g.mul(c, b), g.mul(a, 3))),
    second: true,
  },
  {
    name: 'powers',
    inputs: { a: [B, 3], b: [3] },
    build: ({ a, b }) => g.add(g.pow(a, b), g.powScalar(a, -1.5)),
    domain: positive,
    second: true,
  },
  {
    name: 'functions',
    inputs: { x: [B, N] },
    build: ({ x }) =>
      [
        g.tanh,
        g.sigmoid,
        g.softplus,
        g.erf,
        g.sin,
        g.cos,
        g.expm1,
        g.silu,
        g.mish,
        g.quickGelu,
        g.gelu,
        (t: Tensor) => g.gelu(t, 'tanh'),
        g.logSigmoid,
      ]
        .map((f) => f(x))
        .reduce((a, b) => g.add(a, g.mul(b, 0.7))),
    second: true,
  },
  {
    name: 'positive functions',
    inputs: { x: [B, N] },
    build: ({ x }) =>
      [g.log, g.sqrt, g.rsqrt, g.log1p, g.reciprocal].map((f) => f(x)).reduce((a, b) => g.add(a, g.mul(b, 0.7))),
    domain: positive,
    second: true,
  },
  { name: 'erfinv', inputs: { x: [B, N] }, build: ({ x }) => g.erfinv(g.mul(x, 0.9)) },
  {
    name: 'kinks',
    inputs: { x: [B, N] },
    build: ({ x }) =>
      [
        g.abs,
        g.relu,
        (t: Tensor) => g.leakyRelu(t, 0.1),
        (t: Tensor) => g.elu(t, 0.7),
        g.hardswish,
        (t: Tensor) => g.clip(t, -0.75, 1.2),
      ]
        .map((f) => f(g.sub(x, 1.3)))
        .reduce(g.add),
    domain: apart,
  },
  {
    name: 'atan2',
    inputs: { a: [B, 1], b: [B, N] },
    build: ({ a, b }) => g.atan2(g.add(a, 0.5), g.sub(b, 1.5)),
    second: true,
  },
  {
    name: 'maximum and minimum',
    inputs: { a: [B, 3], b: [B, 1] },
    build: ({ a, b }) => g.add(g.maximum(a, b), g.mul(g.minimum(a, 0.6), 2)),
    domain: apart,
  },
  {
    name: 'where',
    inputs: { a: [B, N], b: [N] },
    build: ({ a, b }) => g.where(g.greater(a, 0), g.square(a), g.mul(b, 3)),
    domain: (x) => (x < 0 ? x - 0.2 : x + 0.2),
  },
  {
    name: 'reductions',
    inputs: { x: [B, N, 3] },
    build: ({ x }) =>
      g.concat(
        [
          g.sum(x, [0, 2]),
          g.mean(x, [0, -1]),
          g.variance(x, [0, 2]),
          g.std(x, [0, 2], false, 0),
          g.norm(x, 2, [0, 2]),
          g.logsumexp(x, [0, 2]),
        ],
        0,
      ),
    second: true,
  },
  {
    name: 'mean of everything',
    inputs: { x: [B, N, 3] },
    build: ({ x }) => g.mul(g.mean(x), g.sum(g.square(x))),
    second: true,
  },
  {
    name: 'extremes',
    inputs: { x: [B, 5] },
    build: ({ x }) => g.add(g.max(x, 1, true), g.mul(g.min(x, 0, true), x)),
    domain: (x, i) => ((i * 37) % 101) * 0.1 + 0.01 * x,
  },
  {
    name: 'cumsum',
    inputs: { x: [B, N] },
    build: ({ x }) => g.cumsum(g.square(x), 1, { reverse: true, exclusive: true }),
    second: true,
  },
  {
    name: 'linear',
    inputs: { x: [B, N, 3], w: [4, 3], b: [4] },
    build: ({ x, w, b }) => g.tanh(g.linear(x, w, b)),
    second: true,
  },
  {
    name: 'products',
    inputs: { a: [B, 1, N, 3], b: [2, 3, 4], c: [B, 2, 4, N] },
    build: ({ a, b, c }) => g.matmul(g.matmul(a, b, { alpha: 0.5 }), c, { transposeA: true, transposeB: true }),
    second: true,
  },
  {
    name: 'einsum',
    inputs: { a: [B, N, 3], b: [B, 'keys', 3], c: ['keys', 2] },
    build: ({ a, b, c }) => g.einsum('bnd,bmd,me->bne', a, b, c),
    second: true,
  },
  {
    name: 'shapes',
    inputs: { x: [B, N, 4] },
    build: ({ x }) => {
      const y = g.transpose(g.reshape(x, [B, N, 2, 2]), [0, 2, 1, 3]);
      return g.square(g.broadcastTo(g.reshape(y, [1, B, 2, -1]), [3, B, 2, g.mulDims(g.toDim(N), 2)]));
    },
    second: true,
  },
  {
    name: 'joining and cutting',
    inputs: { x: [B, N, 4], y: [B, 'more', 4] },
    build: ({ x, y }) => {
      const all = g.concat([x, y, x], 1);
      const [head, tail] = g.split(all, 1, [N, g.addDims(g.toDim('more'), g.toDim(N))]);
      return g.add(
        g.sum(g.square(head)),
        g.mul(
          g.slice(tail, [
            { axis: 1, start: 1 },
            { axis: 2, start: 3, step: -2 },
            { axis: 0, end: -1 },
          ]),
          2,
        ),
      );
    },
    second: true,
  },
  {
    name: 'padding',
    inputs: { x: [B, 4, N] },
    build: ({ x }) =>
      g.square(
        g.pad(
          g.pad(
            g.pad(
              x,
              [
                [0, 0],
                [2, 1],
                [0, 0],
              ],
              'reflect',
            ),
            [
              [0, 0],
              [1, 2],
              [0, 0],
            ],
            'edge',
          ),
          [
            [0, 0],
            [0, 0],
            [1, 2],
          ],
        ),
      ),
    second: true,
  },
  {
    name: 'repeats',
    inputs: { x: [B, N, 2] },
    build: ({ x }) => g.square(g.roll(g.flip(g.repeatInterleave(g.tile(x, [2, 1, 3]), 2, 1), [0, 1]), [1, -1], [1, 2])),
    second: true,
  },
  {
    name: 'triangles',
    inputs: { x: [B, N, N] },
    build: ({ x }) => g.square(g.sub(g.tril(x, 1), g.triu(x))),
    second: true,
  },
  {
    name: 'token selection',
    inputs: { x: [B, N, 3] },
    indices: { index: [[B, 'chosen'], 3] },
    build: ({ x, index }) => g.powScalar(g.batchedGather(x, index), 3),
    second: true,
  },
  {
    name: 'rows',
    inputs: { w: [5, 3], x: [B, 4] },
    indices: { index: [[B, N], 5], columns: [['chosen'], 4] },
    build: ({ w, x, index, columns }) =>
      g.add(
        g.sum(g.square(g.embedding(w, index)), [1, 2], true),
        g.expandDims(g.square(g.indexSelect(x, columns, 1)), 1),
      ),
    second: true,
  },
  {
    name: 'elements',
    inputs: { x: [B, 4], y: [B, 2] },
    indices: { index: [[B, 2], 4] },
    build: ({ x, y, index }) => g.square(g.scatterAdd(g.mul(x, x), index, g.mul(y, g.takeAlongAxis(x, index, 1)), 1)),
    second: true,
  },
  {
    name: 'order',
    inputs: { x: [B, N] },
    build: ({ x }) => g.add(g.square(g.sort(x, 1, true).values), g.sum(g.topk(x, 2, 1).values)),
    domain: (x, i) => ((i * 37) % 101) * 0.1 + 0.01 * x,
  },
  {
    name: 'softmax',
    inputs: { x: [B, N, 3] },
    build: ({ x }) => g.add(g.softmax(g.mul(x, 2), 1), g.logSoftmax(x, 2)),
    second: true,
  },
  {
    name: 'layer norms',
    inputs: { x: [B, N, 4], w: [4], b: [4] },
    build: ({ x, w, b }) => g.add(g.layerNorm(x, { weight: w, bias: b }), g.rmsNorm(g.mul(x, w), { weight: b })),
    second: true,
  },
  {
    name: 'channel norms',
    inputs: { x: [B, 4, N], w: [4] },
    build: ({ x, w }) =>
      g.add(g.groupNorm(x, 2, { weight: w, eps: 0.1 }), g.instanceNorm(g.mul(x, x), { bias: w, eps: 0.1 })),
    second: true,
  },
  {
    name: 'batch norm',
    inputs: { x: [B, 3, N], w: [3] },
    build: ({ x, w }) => g.batchNormTrain(x, g.zeros([3]), g.zeros([3]), { weight: w, eps: 0.1 }).out,
    second: true,
  },
  {
    name: 'unit vectors',
    inputs: { x: [B, 4], y: [1, 4] },
    build: ({ x, y }) => g.add(g.sum(g.l2Normalize(x), 1), g.cosineSimilarity(x, y)),
    second: true,
  },
  {
    name: 'attention',
    inputs: { q: [B, 2, N, 3], k: [B, 2, 'keys', 3], v: [B, 2, 'keys', 2] },
    build: ({ q, k, v }) => g.attention(q, k, v, { causal: true }),
    second: true,
  },
  {
    name: 'self-attention',
    inputs: { x: [B, N, 4], w: [12, 4], p: [4, 4] },
    build: ({ x, w, p }) => g.mha(x, w, p, { heads: 2 }),
    second: true,
  },
  {
    name: 'distances',
    inputs: { x: [B, 3], y: [B, 3] },
    build: ({ x, y }) =>
      g.add(g.smoothL1Loss(g.mul(x, 3), y, 0.7), g.add(g.huberLoss(x, g.mul(y, 4), 1.3), g.mseLoss(x, y))),
  },
  {
    name: 'classification',
    inputs: { x: [B, 4] },
    indices: { labels: [[B], 4] },
    build: ({ x, labels }) =>
      g.add(
        g.crossEntropy(x, labels, { labelSmoothing: 0.1, ignoreIndex: 2 }),
        g.bceWithLogits(x, g.oneHot(labels, 4)),
      ),
    second: true,
  },
  {
    name: 'divergence',
    inputs: { x: [B, 4], y: [B, 4] },
    build: ({ x, y }) =>
      g.add(g.klDiv(g.logSoftmax(x), g.softmax(y)), g.softCrossEntropy(x, g.softmax(y), { labelSmoothing: 0.2 })),
    second: true,
  },
  {
    name: 'convolution',
    inputs: { x: [B, 4, 6, 5], w: [2, 2, 3, 2], b: [2] },
    build: ({ x, w, b }) =>
      g.tanh(g.conv2d(x, w, { bias: b, stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 2 })),
    second: true,
  },
  {
    name: 'patches',
    inputs: { x: [B, 3, 7, 6], w: [4, 3, 3, 2] },
    build: ({ x, w }) => g.tanh(g.conv2d(x, w, { stride: [3, 2] })),
    second: true,
  },
  {
    name: 'transposed convolution',
    inputs: { x: [B, 4, 3], w: [4, 3, 4] },
    build: ({ x, w }) => g.tanh(g.convTranspose1d(x, w, { stride: 2, padding: 1, outputPadding: 1, groups: 2 })),
    second: true,
  },
  {
    name: 'pooling',
    inputs: { x: [B, 2, 5, 6] },
    build: ({ x }) =>
      g.add(
        g.square(g.maxPool2d(x, 3, { stride: 2, padding: 1 })),
        g.avgPool2d(x, 3, { stride: 2, padding: 1, countIncludePad: false }),
      ),
    domain: (x, i) => ((i * 37) % 101) * 0.1 + 0.01 * x,
  },
  {
    name: 'images',
    inputs: { x: [B, 4, 4, 6] },
    build: ({ x }) =>
      g.square(g.pixelUnshuffle(g.resize(g.pixelShuffle(x, 2), [6, 4], { mode: 'bicubic', antialias: true }), 2)),
    second: true,
  },
  {
    name: 'columns',
    inputs: { x: [B, 2, 4, 5] },
    build: ({ x }) => g.col2im(g.square(g.im2col(x, [2, 3], { padding: 1 })), [4, 5], [2, 3], { padding: 1 }),
    second: true,
  },
  {
    name: 'grid sampling',
    inputs: { x: [B, 2, 5, 5], t: [B, 2, 3] },
    build: ({ x, t }) => g.gridSample(x, g.affineGrid(g.mul(t, 0.4), [1, 1, 3, 2])),
    domain: (x) => 0.31 + 0.04 * x,
  },
  {
    name: 'recurrent',
    inputs: { x: [3, B, 2], h: [B, 3], c: [B, 3], w: [12, 2], u: [12, 3], v: [9, 2], r: [9, 3] },
    build: ({ x, h, c, w, u, v, r }) =>
      g.add(g.lstm(x, { h, c }, { wIh: w, wHh: u }).h, g.gru(x, h, { wIh: v, wHh: r }).out),
    second: true,
  },
  {
    name: 'linear algebra',
    inputs: { x: [B, 3, 3] },
    build: ({ x }) => {
      const spd = g.add(g.matmul(x, x, { transposeB: true }), g.oneHot(g.iota(3), 3));
      return g.add(g.logdet(spd), g.sum(g.inverse(spd), [1, 2]));
    },
    second: true,
  },
];

for (const scenario of SCENARIOS) {
  test(`gradients by finite differences: ${scenario.name}`, async () => {
    await check(scenario, { batch: 2, tokens: 3, keys: 4, more: 2, chosen: 5 });
    await check({ ...scenario, second: false }, { batch: 3, tokens: 5, keys: 2, more: 1, chosen: 1 });
  });
}

test('accumulated gradients: a tensor used twice, and values that do not depend on it', async () => {
  const x = g.input('x', ['n']);
  const y = g.input('y', ['n']);
  const [dx, dy] = g.gradients(g.sum(g.add(g.mul(x, x), g.mul(g.stopGradient(x), x))), [x, y]);
  assert.strictEqual(dy, undefined);
  const { out } = await evaluate({ out: dx as Tensor }, new Map([[x, float32([2], [3, -1])]]));
  assert.deepStrictEqual([...out.data], [9, -3]);
});

test('sums over nothing are 0, products over nothing too', async () => {
  const x = g.input('x', ['none', 3]);
  const y = g.input('y', [2, 'none']);
  const fixed = g.input('z', [0, 3]);
  const outputs = {
    sum: g.sum(x, 0),
    all: g.sum(fixed),
    product: g.matmul(y, x),
    joined: g.concat([x, g.zeros([1, 3])], 0),
    flat: g.concat([g.reshape(fixed, [0]), g.zeros([1])], 0),
  };
  const feeds = new Map<Tensor, HostTensor>([
    [x, float32([0, 3], [])],
    [y, float32([2, 0], [])],
    [fixed, float32([0, 3], [])],
  ]);
  const got = await evaluate(outputs, feeds);
  assert.deepStrictEqual([...got.sum.data], [0, 0, 0]);
  assert.deepStrictEqual([...got.all.data], [0]);
  assert.deepStrictEqual([...got.product.data], [0, 0, 0, 0, 0, 0]);
  assert.deepStrictEqual([...got.joined.data], [0, 0, 0]);
  assert.deepStrictEqual([...got.flat.data], [0]);
});

test('numbers take the type of the tensor they meet; neutral operands vanish', async () => {
  const i = g.input('i', [3], 'int32');
  const { out } = await evaluate({ out: g.add(g.mul(i, 2), 1) }, new Map([[i, int32([3], [1, 2, 3])]]));
  assert.strictEqual(out.dtype, 'int32');
  assert.deepStrictEqual([...out.data], [3, 5, 7]);
  const x = g.input('x', ['n']);
  assert.strictEqual(g.add(x, 0), x);
  assert.strictEqual(g.mul(1, x), x);
  assert.strictEqual(g.div(x, g.constant(1)), x);
  assert.strictEqual(g.reshape(g.reshape(x, ['n', 1]), ['n']), x);
  assert.strictEqual(g.div(x, 8).node.op.name, 'mul');
});

test('broadcasting commutes with elementwise operators', async () => {
  const x = g.input('x', ['n', 1]);
  const y = g.input('y', [1]);
  const wide = g.mul(g.broadcastTo(x, ['n', 3]), g.exp(g.broadcastTo(y, ['n', 3])));
  const feeds = new Map<Tensor, HostTensor>([
    [x, float32([2, 1], [1, 2])],
    [y, float32([1], [0])],
  ]);
  const { out } = await evaluate({ out: wide }, feeds);
  assert.deepStrictEqual([...out.shape], [2, 3]);
  assert.deepStrictEqual([...out.data], [1, 1, 1, 2, 2, 2]);
});

test('the gradient of a broadcast reduction needs no expansion', () => {
  const x = g.input('x', [B, N, 4]);
  const [dx] = g.gradients(g.mean(g.square(x)), [x]);
  assert(!reachable([dx as Tensor]).some((node) => node.op.name === 'broadcast_to'));
});

test('element types that an operator does not take are refused when the graph is built', () => {
  const i = g.input('i', [3], 'int32');
  const b = g.input('b', [3], 'bool');
  const x = g.input('x', [3]);
  for (const bad of [
    () => g.exp(i),
    () => g.add(b, b),
    () => g.add(x, i),
    () => g.less(b, b),
    () => g.mean(i),
    () => g.sum(b),
    () => g.softmax(i),
    () => g.variance(i),
    () => g.logicalAnd(x, x),
    () => g.embedding(g.input('w', [2, 2]), x),
  ]) {
    assert.throws(bad, /JepaError|does not take|types|needs|must be/);
  }
});

test('indices outside of their range are found on the host, through moves, in words', () => {
  const index = g.input('index', ['batch', 'chosen'], 'int32');
  const x = g.input('x', ['batch', 9, 4]);
  const selected = g.scope('encoder', () => g.batchedGather(x, g.transpose(g.transpose(index, [1, 0]), [1, 0])));
  const checks = g.collectRangeChecks(reachable([selected]));
  assert.strictEqual(checks.length, 1);
  const symbols = new Map([
    ['batch', 1],
    ['chosen', 2],
  ]);
  const feed = (...values: number[]) => new Map([['index', int32([1, 2], values)]]);
  g.checkRanges(checks, feed(0, 8), symbols);
  assert.throws(() => g.checkRanges(checks, feed(0, 9), symbols), {
    name: 'JepaError',
    message: 'batched_gather (in encoder): index 9 is outside of 0 .. 8; got [1, 9, 4] and [1, 2]',
  });
  assert.throws(() => g.checkRanges(checks, feed(-1, 0), symbols), /index -1 is outside of 0 \.\. 8/);
  const table = g.input('w', [3, 2]);
  assert.throws(() => g.embedding(table, g.constant(int32([2], [0, 3]))), /embedding: index 3 is outside of 0 \.\. 2/);
});

test('eigenvalues and singular values are host functions', () => {
  const values = g.eigvalsh(float32([1, 2, 2], [2, 1, 1, 2]));
  assert.deepStrictEqual([...values.shape], [1, 2]);
  assert(Math.abs(values.data[0] - 1) < 1e-12 && Math.abs(values.data[1] - 3) < 1e-12);
  assert.throws(() => g.svdvals(g.input('x', [2, 2]) as unknown as HostTensor), /svdvals: is computed on the host/);
});

test('masks: logic and selection', async () => {
  const a = g.input('a', ['n'], 'bool');
  const b = g.input('b', ['n'], 'bool');
  const feeds = new Map<Tensor, HostTensor>([
    [a, bool([4], [0, 0, 1, 1])],
    [b, bool([4], [0, 1, 0, 1])],
  ]);
  const got = await evaluate(
    {
      and: g.logicalAnd(a, b),
      or: g.logicalOr(a, b),
      not: g.logicalNot(a),
      chosen: g.where(a, 2, g.cast(b, 'float32')),
    },
    feeds,
  );
  assert.deepStrictEqual([...got.and.data], [0, 0, 0, 1]);
  assert.deepStrictEqual([...got.or.data], [0, 1, 1, 1]);
  assert.deepStrictEqual([...got.not.data], [1, 1, 0, 0]);
  assert.deepStrictEqual([...got.chosen.data], [0, 1, 2, 2]);
});
