import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createRandom, type Random } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { varianceCovariance } from '../../src/energy/vicreg.js';
import { fitRidge, predictLinear, regressionScores } from '../../src/eval/ridge.js';
import { add } from '../../src/graph/ops/elementwise.js';
import { mseLoss } from '../../src/graph/ops/losses.js';
import { concat, narrow, reshape } from '../../src/graph/ops/move.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { mlpForward, mlpSpec } from '../../src/nn/mlp.js';
import { makeModule } from '../../src/nn/weights.js';
import { createFit } from '../../src/optim/fit.js';
import { createEngine } from '../../src/runtime/engine.js';
import type { Engine } from '../../src/runtime/program.js';

let engine: Engine;
before(async () => {
  engine = await createEngine({ workers: 1 });
});
after(() => engine.close());

type Floats = HostTensor<'float32'>;
const SIDE = 12;
/** Twice as wide as high: the left half shows a dot, the right half a television. */
const PIXELS = 2 * SIDE * SIDE;
const WIDTH = 4;
/** The noise comes in squares of 4 pixels, up to twice as bright as the dot: noise that is worth the room it takes in a code. */
const [CELL, BRIGHT] = [4, 2];

/** Clips of three pictures of a dot that goes straight on, [count, 3, pixels]; beside it nothing, or new noise in every picture. */
function clips(random: Random, count: number, noisy: boolean) {
  const pictures = new Float32Array(count * 3 * PIXELS);
  const places = new Float32Array(count * 3 * 2);
  for (let i = 0; i < count; i++) {
    const [angle, pace] = [2 * Math.PI * random.uniform(), 1.5 * random.uniform()];
    const [u, v] = [3 + 5 * random.uniform(), 3 + 5 * random.uniform()];
    for (let t = 0; t < 3; t++) {
      const row = i * 3 + t;
      const at = [u + (t - 1) * pace * Math.cos(angle), v + (t - 1) * pace * Math.sin(angle)];
      places.set(at.map((p) => (p - 5.5) / 3), row * 2); // biome-ignore format: short
      const soft = at.map((p) => Float64Array.from({ length: SIDE }, (_, x) => Math.exp(-((x - p) ** 2) / 4.5)));
      // Drawn in any case, so that both see the same dots.
      const noise = Float64Array.from({ length: (SIDE / CELL) ** 2 }, () => BRIGHT * random.uniform());
      for (let y = 0; y < SIDE; y++) {
        for (let x = 0; x < SIDE; x++) {
          const pixel = row * PIXELS + y * 2 * SIDE + x;
          pictures[pixel] = soft[0][x] * soft[1][y];
          if (noisy) pictures[pixel + SIDE] = noise[Math.floor(y / CELL) * (SIDE / CELL) + Math.floor(x / CELL)];
        }
      }
    }
  }
  return { pictures: float32([count, 3, PIXELS], pictures), places: float32([count * 3, 2], places) };
}

test('noise in half of the picture costs a JEPA little, an auto-encoder much (P2)', async () => {
  const seen = input('pictures', ['batch', 3, PIXELS]);
  const learner = async (kind: 'jepa' | 'auto-encoder', noisy: boolean, steps: number) => {
    const encoder = makeModule('encoder.', mlpSpec([PIXELS, 64, 48, WIDTH]));
    const other = makeModule('other.', mlpSpec(kind === 'jepa' ? [2 * WIDTH, 48, WIDTH] : [WIDTH, 48, 64, PIXELS]));
    const s = mlpForward(seen, encoder.weights, 3);
    const of = (t: number): Tensor => reshape(narrow(s, 1, t, 1), [s.shape[0], WIDTH]);
    const near = add(mseLoss(of(0), of(1)), mseLoss(of(1), of(2)));
    const loss =
      kind === 'jepa'
        ? add(
            add(mseLoss(mlpForward(concat([of(0), of(1)], 1), other.weights, 2), of(2)), near),
            varianceCovariance(reshape(s, [-1, WIDTH]), { variance: 1, covariance: 0.2 }).loss,
          )
        : mseLoss(mlpForward(s, other.weights, 3), seen);
    const fit = await createFit(engine, { name: kind, modules: [encoder, other], loss, seed: 1, lr: 2e-3 });
    const use = await fit.program('use', { s: reshape(s, [-1, WIDTH]) });
    const random = createRandom(2, 'clips');
    const rows = [clips(createRandom(3), 400, noisy), clips(createRandom(4), 300, noisy)];
    const probe = async (): Promise<number> => {
      const read: Floats[] = [];
      for (const { pictures } of rows) read.push((await use.run({ pictures })).outputs.s as Floats);
      return regressionScores(predictLinear(fitRidge(read[0], rows[0].places, 1e-3), read[1]), rows[1].places).rmse;
    };
    // The error wavers from one update to the next: a mean of three times.
    const errors: number[] = [];
    for (let step = 1; step <= steps; step++) {
      await fit.step({ pictures: clips(random, 48, noisy).pictures });
      if (step > steps - 150 && step % 50 === 0) errors.push(await probe());
    }
    await fit.close();
    return errors.reduce((a, b) => a + b, 0) / errors.length;
  };
  const [jepa, jepaNoisy] = [await learner('jepa', false, 500), await learner('jepa', true, 500)];
  const [auto, autoNoisy] = [await learner('auto-encoder', false, 200), await learner('auto-encoder', true, 200)];
  // 0.060 and 0.056; 0.17 and 0.50 by a JEPA that has nothing to foretell. 0.08 and 0.49.
  assert.ok(jepaNoisy < 1.2 * jepa, `JEPA ${jepa}, with noise ${jepaNoisy}`);
  assert.ok(jepa < 0.15, `the places vary by 0.5, the error without noise is ${jepa}`);
  // Noise in squares of 3 pixels, no brighter than the dot, did not trouble the auto-encoder: a dot was worth more of its code.
  assert.ok(autoNoisy > 2 * auto, `auto-encoder ${auto}, with noise ${autoNoisy}`);
});
