import { createRandom, type Random } from '../src/base/random.js';
import { float32, type HostTensor } from '../src/base/tensor.js';
import { type Architecture, type Parts, pairEnergy } from '../src/energy/architectures.js';
import { contrastive } from '../src/energy/contrastive.js';
import { sparsity } from '../src/energy/latent.js';
import { randomDirections, sigreg } from '../src/energy/sigreg.js';
import { varianceCovariance } from '../src/energy/vicreg.js';
import { fitRidge, predictLinear, regressionScores } from '../src/eval/ridge.js';
import { spectrum } from '../src/eval/spectrum.js';
import { featureStd } from '../src/eval/spread.js';
import { add, mul } from '../src/graph/ops/elementwise.js';
import { concat, expandDims } from '../src/graph/ops/move.js';
import { mean } from '../src/graph/ops/reduce.js';
import { input, stopGradient, type Tensor } from '../src/graph/tensor.js';
import { mlpForward, mlpSpec } from '../src/nn/mlp.js';
import { type Module, makeModule } from '../src/nn/weights.js';
import { createFit } from '../src/optim/fit.js';
import type { Engine } from '../src/runtime/program.js';

/** One cell of the collapse atlas: an architecture, trained with one way (or none) of preventing collapse. */

export type Prevention = 'none' | 'contrastive' | 'vicreg' | 'sigreg' | 'stop-gradient' | 'ema';

export const PREVENTIONS: readonly Prevention[] = ['none', 'contrastive', 'vicreg', 'sigreg', 'stop-gradient', 'ema'];

/** A target that is not learned from needs a representation of y: what has none cannot be trained so. */
export const applies = (architecture: Architecture, prevention: Prevention): boolean =>
  architecture === 'jepa' ||
  architecture === 'joint-embedding' ||
  (prevention !== 'stop-gradient' && prevention !== 'ema');

const SIDE = 16;
const PIXELS = SIDE * SIDE;
export const WIDTH = 8;

type Floats = HostTensor<'float32'>;

/**
 * Pictures [count, 256] of a soft square or disc, and of the same after a jump of two pixels to one of four sides, which
 * nothing in the first tells. Factors of the first [count, 3]: column, row, size.
 */
export function shapePairs(random: Random, count: number): { x: Floats; y: Floats; factors: Floats } {
  const [x, y, factors] = [
    new Float32Array(count * PIXELS),
    new Float32Array(count * PIXELS),
    new Float32Array(count * 3),
  ];
  for (let i = 0; i < count; i++) {
    const [u, v, size] = [4 + 7 * random.uniform(), 4 + 7 * random.uniform(), 1.5 + 1.5 * random.uniform()];
    const round = random.uniform() < 0.5;
    const [dx, dy] = [
      [2, 0],
      [-2, 0],
      [0, 2],
      [0, -2],
    ][random.integer(4)];
    factors.set([u, v, size], i * 3);
    for (const [out, cu, cv] of [
      [x, u, v],
      [y, u + dx, v + dy],
    ] as const) {
      for (let p = 0; p < PIXELS; p++) {
        const [a, b] = [(p % SIDE) - cu, Math.floor(p / SIDE) - cv];
        const distance = round ? Math.hypot(a, b) : Math.max(Math.abs(a), Math.abs(b));
        out[i * PIXELS + p] = 1 / (1 + Math.exp(2 * (distance - size))) + 0.02 * random.normal();
      }
    }
  }
  return {
    x: float32([count, PIXELS], x),
    y: float32([count, PIXELS], y),
    factors: float32([count, 3], factors),
  };
}

const POOL = 3000;
type Pictures = ReturnType<typeof shapePairs>;
/** Pictures to train on and to measure on, by seed: cells that share a seed share them. */
const pools = new Map<number, readonly [Pictures, Pictures]>();

export interface Cell {
  readonly architecture: Architecture;
  readonly prevention: Prevention;
  /** Mean standard deviation of a feature. */
  readonly spread: number;
  /** Of the representation's covariance, 1 to 8 (0 where nothing varies). */
  readonly effectiveRank: number;
  /** Of column, row and size from the representation, by a linear probe, on other pictures. */
  readonly r2: number;
  /** Energy of a picture with another's partner, over that with its own: 1 is a flat energy. */
  readonly contrast: number;
}

/** Trains one cell and measures it on pictures that it has not seen. */
export async function collapseCell(
  engine: Engine,
  architecture: Architecture,
  prevention: Prevention,
  { steps = 400, batch = 64, seed = 1 } = {},
): Promise<Cell> {
  const regular = prevention !== 'none';
  const modules: Record<string, Module> = {};
  const net = (name: string, widths: readonly number[]): Module => {
    modules[name] = makeModule(`${name}.`, mlpSpec(widths));
    return modules[name];
  };
  const encoder = net('encoder', [PIXELS, 48, WIDTH]);
  const teacher = prevention === 'ema' ? net('teacher', [PIXELS, 48, WIDTH]) : encoder;
  const through = (module: Module, t: Tensor): Tensor => mlpForward(t, module.weights, 2);
  const latentWidth = 8;
  const withLatent = architecture === 'latent-generative' || architecture === 'jepa';
  const target = architecture === 'jepa' ? WIDTH : PIXELS;
  const inferrer = withLatent ? net('latent', [WIDTH + target, 32, latentWidth]) : undefined;
  const last =
    architecture === 'joint-embedding' && prevention !== 'stop-gradient' && prevention !== 'ema'
      ? undefined
      : net('last', [
          WIDTH + (withLatent ? latentWidth : 0),
          32,
          architecture === 'jepa' || architecture === 'joint-embedding' ? WIDTH : PIXELS,
        ]);
  const ahead = (s: Tensor, z?: Tensor): Tensor => {
    if (!last) return s;
    return through(last, z ? concat([s, z], 1) : s);
  };
  const fixed = prevention === 'ema' || prevention === 'stop-gradient';
  const parts: Parts = {
    // A joint embedding has no predictor, unless its target does not learn (BYOL and SimSiam need one).
    encodeX: (t) => (architecture === 'joint-embedding' ? ahead(through(encoder, t)) : through(encoder, t)),
    encodeY: (t) => (fixed ? stopGradient(through(teacher, t)) : through(encoder, t)),
    decode: ahead,
    predict: ahead,
    inferLatent: inferrer && ((s, t) => through(inferrer, concat([s, t], 1))),
  };
  const [x, y, wrong] = ['x', 'y', 'wrong'].map((name) => input(name, ['batch', PIXELS]));
  const directions = input('directions', [WIDTH, 32]);
  const pair = pairEnergy(architecture, parts, x, y);
  const other = pairEnergy(architecture, parts, x, wrong);
  const representation = through(encoder, architecture === 'auto-encoder' ? y : x);
  let loss = mean(pair.energy);
  if (pair.z && regular) loss = add(loss, mean(sparsity(pair.z, 0.02)));
  if (prevention === 'contrastive')
    loss = contrastive(pair.energy, expandDims(other.energy, 1), { kind: 'minimum-hinge', margin: 1 });
  for (const s of [pair.sx, pair.sy]) {
    if (!s) continue;
    if (prevention === 'vicreg')
      loss = add(loss, mul(varianceCovariance(s, { variance: 1, covariance: 0.04 }).loss, 1));
    if (prevention === 'sigreg') loss = add(loss, mul(sigreg(s, directions), 0.02));
  }
  const random = createRandom(seed, 'batches');
  const fit = await createFit(engine, {
    name: `${architecture}-${prevention}`,
    modules: Object.values(modules),
    loss,
    seed,
    lr: 2e-3,
    learn: Object.entries(modules).flatMap(([name, { tensors }]) => (name === 'teacher' ? [] : [...tensors.values()])),
    followers:
      prevention === 'ema'
        ? [...teacher.tensors].map(([name, t]) => ({ target: t, online: encoder.tensors.get(name) as Tensor }))
        : [],
    momentum: 0.99,
  });
  const [pool, measuredOn] = pools.get(seed) ?? [
    shapePairs(createRandom(seed, 'shapes'), POOL),
    shapePairs(createRandom(seed, 'new shapes'), 1000),
  ];
  pools.set(seed, [pool, measuredOn]);
  /** Rows of a set of pairs; each one's wrong partner is that of the next. */
  const feedsOf = (from: typeof pool, rows: ArrayLike<number>) => {
    const take = ({ shape, data }: Floats, shift: number): Floats => {
      const width = shape[1];
      const out = new Float32Array(rows.length * width);
      for (let i = 0; i < rows.length; i++) {
        const row = rows[(i + shift) % rows.length];
        out.set(data.subarray(row * width, (row + 1) * width), i * width);
      }
      return float32([rows.length, width], out);
    };
    return {
      factors: take(from.factors, 0),
      feeds: {
        x: take(from.x, 0),
        y: take(from.y, 0),
        wrong: take(from.y, 1),
        directions: randomDirections(random, WIDTH, 32),
      },
    };
  };
  const drawn = () =>
    feedsOf(
      pool,
      Array.from({ length: batch }, () => random.integer(POOL)),
    ).feeds;
  const used = (feeds: Record<string, Floats>): Record<string, Floats> => {
    const { x, y, wrong, directions } = feeds;
    return {
      x,
      y,
      ...(prevention === 'contrastive' ? { wrong } : {}),
      ...(prevention === 'sigreg' ? { directions } : {}),
    };
  };
  if (architecture === 'auto-encoder') {
    // It never sees x.
    for (let step = 0; step < steps; step++) {
      const { x, ...rest } = used(drawn());
      await fit.step(rest);
    }
  } else for (let step = 0; step < steps; step++) await fit.step(used(drawn()));

  const measured = await fit.program('measure', {
    s: representation,
    own: mean(pair.energy),
    others: mean(other.energy),
  });
  const measure = async (first: number, count: number) => {
    const { feeds, factors } = feedsOf(
      measuredOn,
      Array.from({ length: count }, (_, i) => first + i),
    );
    const { x, y, wrong } = feeds;
    const given: Record<string, Floats> = architecture === 'auto-encoder' ? { y, wrong } : { x, y, wrong };
    const { outputs } = await measured.run(given);
    const rows = (t: HostTensor) => ({ shape: t.shape, data: t.data as Float32Array });
    return {
      s: rows(outputs.s),
      factors: rows(factors),
      own: Number(outputs.own.data[0]),
      others: Number(outputs.others.data[0]),
    };
  };
  const [train, test] = [await measure(0, 600), await measure(600, 400)];
  const spread = featureStd(test.s).meanStd;
  // Below that the representation is one point: the spectrum of what is left has no meaning.
  const alive = spread > 1e-3;
  const { r2 } = regressionScores(predictLinear(fitRidge(train.s, train.factors, 1e-6), test.s), test.factors);
  await fit.close();
  return {
    architecture,
    prevention,
    spread,
    effectiveRank: alive ? spectrum(test.s).effectiveRank : 0,
    r2,
    contrast: test.others / Math.max(test.own, 1e-12),
  };
}
