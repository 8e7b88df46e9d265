import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import {
  abs,
  add,
  broadcastTo,
  concat,
  constant,
  cumsum,
  type Dim,
  exp,
  expandDims,
  indexSelect,
  input,
  layerNorm,
  logsumexp,
  matmul,
  max,
  maximum,
  mean,
  mul,
  narrow,
  parameter,
  relu,
  reshape,
  sameShape,
  softmax,
  sort,
  square,
  sub,
  sum,
  swapLast,
  type Tensor,
  tanh,
  toDim,
  transpose,
  variance,
} from '../../src/graph/index.js';
import { createEngine, type Engine, type UpdateRule } from '../../src/runtime/index.js';
import { difference, noise } from './programs.js';

/**
 * Random graphs over a batch: two and three workers, each with its slice, must compute what one session computes for the
 * whole batch.
 */

const GRAPHS = 40;
const ROWS = 5;
const STEPS = 12;

const gradientRule: UpdateRule = {
  name: 'gradient',
  slots: [],
  scalars: [],
  wholeTensors: false,
  scalarsAt: () => ({}),
  update: (_, gradient) => ({ parameter: gradient, slots: {} }),
};

const engines: Engine[] = [];
before(async () => {
  for (const workers of [1, 2, 3]) engines.push(await createEngine({ backend: 'cpu', workers }));
});
after(async () => {
  for (const engine of engines) await engine.close();
});

for (let seed = 0; seed < GRAPHS; seed++) {
  test(`random graph ${seed}`, async () => {
    const { loss, extra, text, parameters } = randomGraph(seed);
    const feeds = {
      x: float32([ROWS, 4], noise(ROWS * 4, seed + 1000)),
      y: float32([3, ROWS, 2], noise(3 * ROWS * 2, seed + 2000)),
    };
    let expected: { loss: number; extra: HostTensor; gradients: Map<string, ArrayLike<number>> } | undefined;
    for (const engine of engines) {
      const state = await engine.createState(parameters);
      const start = parameters.map((t, i) => {
        const shape = t.shape as number[];
        return [
          names(t),
          float32(
            shape,
            noise(
              shape.reduce((a, b) => a * b, 1),
              seed + i,
            ),
          ),
        ] as const;
      });
      await state.write(new Map(start));
      const update = { loss, rule: gradientRule, groups: [parameters], followers: [] };
      const program = await engine.compile({ name: `graph ${seed}`, outputs: { loss, extra }, update }, state);
      const { outputs } = await program.run(feeds, { step: 1, groups: [{ lr: 0, weightDecay: 0 }], momentum: 1 });
      const gradients = await state.read();
      const got = Number(outputs.loss.data[0]);
      if (expected) {
        const what = `${engine.workers} workers (${program.distribution}): ${text}`;
        assert.ok(
          Math.abs(got - expected.loss) <= 1e-5 * Math.abs(expected.loss),
          `loss ${got} is not ${expected.loss}, ${what}`,
        );
        assert.deepEqual(outputs.extra.shape, expected.extra.shape, what);
        const other = new Map([['extra', expected.extra.data as Float32Array]]);
        assert.ok(
          difference(new Map([['extra', outputs.extra as HostTensor<'float32'>]]), other) < 1e-5,
          `output, ${what}`,
        );
        const off = difference(gradients, expected.gradients);
        assert.ok(off < 1e-5, `the gradient is off by ${off}, ${what}`);
      } else {
        expected = { loss: got, extra: outputs.extra, gradients: new Map([...gradients].map(([n, v]) => [n, v.data])) };
      }
      await program.close();
    }
  });
}

const names = (t: Tensor): string => (t.node.attrs as { name: string }).name;

/** A loss made of random operators, one of the values on the way, and what was done in words. */
function randomGraph(seed: number): { loss: Tensor; extra: Tensor; text: string; parameters: Tensor[] } {
  const draws = noise(10_000, seed + 5);
  let at = 0;
  const draw = (count: number): number => Math.min(count - 1, Math.floor(((draws[at++] + 1) / 2) * count));
  const pick = <T>(items: readonly T[]): T => items[draw(items.length)];
  const parameters = [parameter('a', [4, 4]), parameter('b', [2]), parameter('c', [1, 4])];
  const batch = toDim('batch');
  const x = matmul(input('x', [batch, 4]), parameters[0]);
  const y = mul(input('y', [3, batch, 2]), parameters[1]);
  const values: Tensor[] = [x, y, mul(parameters[2], 2), add(x, parameters[2])];
  const words: string[] = [];
  const text = (t: Tensor): string => `[${t.shape.map((d) => (typeof d === 'number' ? d : d.key))}]`;

  const axis = (t: Tensor): number => draw(t.shape.length);
  const some = (t: Tensor): number[] => t.shape.map((_, i) => i).filter(() => draw(2) === 0);
  const unary: Readonly<Record<string, (t: Tensor) => Tensor | undefined>> = {
    tanh,
    relu: (t) => relu(add(t, 0.1)),
    square: (t) => square(tanh(t)),
    exp: (t) => exp(tanh(t)),
    abs,
    sum: (t) => tanh(sum(t, some(t), draw(2) === 0)),
    mean: (t) => mean(t, some(t), draw(2) === 0),
    'mean of all': (t) => mean(t),
    max: (t) => max(t, axis(t)),
    variance: (t) => variance(t, axis(t), true, 0),
    logsumexp: (t) => logsumexp(t, axis(t)),
    softmax: (t) => softmax(t, axis(t)),
    norm: (t) => layerNorm(t),
    sort: (t) => sort(t, axis(t)).values,
    cumsum: (t) => tanh(cumsum(t, axis(t))),
    swap: (t) => (t.shape.length > 1 ? swapLast(t) : undefined),
    turn: (t) => (t.shape.length === 3 ? transpose(t, [2, 0, 1]) : undefined),
    merge: (t) => (t.shape.length === 3 ? reshape(t, [-1, t.shape[2]]) : undefined),
    flat: (t) => reshape(t, [-1]),
    widen: (t) => expandDims(t, draw(t.shape.length + 1)),
    half: (t) => {
      const along = axis(t);
      return typeof t.shape[along] === 'number' && t.shape[along] > 1
        ? narrow(t, along, 1, t.shape[along] - 1)
        : undefined;
    },
    select: (t) => {
      const along = axis(t);
      const size = t.shape[along];
      if (typeof size !== 'number') return undefined;
      return indexSelect(t, constant({ dtype: 'int32', shape: [2], data: Int32Array.of(size - 1, 0) }), along);
    },
    gram: (t) =>
      t.shape.length === 2 ? tanh(matmul(t, t, pick([{ transposeA: true }, { transposeB: true }]))) : undefined,
    spread: (t) => broadcastTo(t, [batch, ...expandTo(t, 2)]),
  };
  const binary: Readonly<Record<string, (a: Tensor, b: Tensor) => Tensor | undefined>> = {
    add: (a, b) => (fit(a, b) ? add(a, b) : undefined),
    sub: (a, b) => (fit(a, b) ? sub(a, b) : undefined),
    mul: (a, b) => (fit(a, b) ? mul(tanh(a), tanh(b)) : undefined),
    maximum: (a, b) => (fit(a, b) ? maximum(a, b) : undefined),
    concat: (a, b) => {
      const along = a.shape.findIndex((_, i) => sameShape(without(a.shape, i), without(b.shape, i)));
      return a.shape.length === b.shape.length && along >= 0 ? concat([a, b], along) : undefined;
    },
    matmul: (a, b) =>
      a.shape.length === 2 && b.shape.length === 2 && a.shape[1] === b.shape[0] ? tanh(matmul(a, b)) : undefined,
  };
  while (words.length < STEPS) {
    const [a, b] = [pick(values), pick(values)];
    const [name, made] =
      draw(3) > 0
        ? ((n): [string, Tensor | undefined] => [`${n} ${text(a)}`, unary[n](a)])(pick(Object.keys(unary)))
        : ((n): [string, Tensor | undefined] => [`${n} ${text(a)} ${text(b)}`, binary[n](a, b)])(
            pick(Object.keys(binary)),
          );
    if (!made || made.shape.length > 4 || made.shape.length === 0) continue;
    words.push(`${name} -> ${text(made)}`);
    values.push(made);
  }
  const terms = values.slice(3).map((t, i) => mul(mean(square(add(tanh(t), 0.3))), 1 + i / 7));
  return {
    loss: terms.reduce((a, b) => add(a, b)),
    extra: values[values.length - 1],
    text: words.join('; '),
    parameters,
  };
}

const without = (shape: readonly Dim[], axis: number): Dim[] => shape.filter((_, i) => i !== axis);
/** The last dimensions of a shape, `count` of them. */
const expandTo = ({ shape }: Tensor, count: number): Dim[] => {
  const padded = [...Array.from({ length: count }, () => 1 as Dim), ...shape];
  return shape.length >= count ? [...shape] : padded.slice(-count);
};

function fit(a: Tensor, b: Tensor): boolean {
  const rank = Math.max(a.shape.length, b.shape.length);
  return Array.from({ length: rank }, (_, i) => [
    a.shape[i - rank + a.shape.length] ?? 1,
    b.shape[i - rank + b.shape.length] ?? 1,
  ]).every(([m, n]) => m === n || m === 1 || n === 1);
}
