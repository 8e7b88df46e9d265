import { createRandom } from '../../base/random.js';
import { float32 } from '../../base/tensor.js';
import { varianceCovariance } from '../../energy/vicreg.js';
import { fitRidge, predictLinear, regressionScores } from '../../eval/ridge.js';
import { add } from '../../graph/ops/elementwise.js';
import { mseLoss } from '../../graph/ops/losses.js';
import { concat, narrow, reshape } from '../../graph/ops/move.js';
import { input, type Tensor } from '../../graph/tensor.js';
import { mlpForward, mlpOnHost, mlpSpec } from '../../nn/mlp.js';
import { makeModule } from '../../nn/weights.js';
import { createFit } from '../../optim/fit.js';
import { paintDot, SIZE } from '../../world/envs/two-rooms.js';
import { HIGH, LOW } from '../envs/rooms.js';
import type { LifeRun, Point } from '../life.js';

/** Sight of somebody in rooms: an encoder that learns by watching a dot, and a probe by which people can tell where it is. */

export interface SightSettings {
  readonly clips: number;
  readonly frames: number;
  readonly steps: number;
  /** Numbers of a representation. */
  readonly width: number;
}

export interface Sight {
  encode(picture: Uint8Array): Float64Array;
  /** Where the dot is, by a linear probe: for people, the agent never asks. */
  at(state: ArrayLike<number>): Point;
  /** How well that probe tells places from pictures that it was not fitted on, and from an encoder with random weights. */
  readonly seeing: {
    readonly r2: number;
    readonly rmse: number;
    readonly random: number;
    readonly randomRmse: number;
  };
}

/** The eye is coarse and out of focus: squares of 5 pixels, and a dot of this deviation, in pixels. */
const [POOL, BLUR] = [5, 4];
/** Squares of a side. */
export const SIDE = 13;
const PIXELS = SIDE * SIDE;

const canvas = new Uint8Array(SIZE * SIZE);

/** What the eye sees of a dot: mean brightness of squares of 5 pixels, [13 * 13]. */
export function glance([x, y]: Iterable<number>): Uint8Array {
  paintDot(x, y, canvas, BLUR);
  const seen = new Uint8Array(PIXELS);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      let total = 0;
      for (let i = 0; i < POOL; i++)
        for (let j = 0; j < POOL; j++) total += canvas[(row * POOL + i) * SIZE + column * POOL + j];
      seen[row * SIDE + column] = Math.round(total / (POOL * POOL));
    }
  }
  return seen;
}

/** Pictures as what the encoder takes: 0 to 4. */
const lit = (pictures: readonly Uint8Array[]): Float32Array => {
  const out = new Float32Array(pictures.length * PIXELS);
  for (const [i, picture] of pictures.entries()) for (let p = 0; p < PIXELS; p++) out[i * PIXELS + p] = picture[p] / 64;
  return out;
};

/**
 * Learns to see by watching: representations of three pictures in a row, of which the third is foretold from the first two, with
 * the variance and covariance terms of VICReg against collapse and temporal similarity. No label and no action is used. Places are fitted afterwards,
 * for people, by a linear probe.
 */
export async function learnToSee(run: LifeRun, { clips, frames, steps, width }: SightSettings): Promise<Sight> {
  const engine = await run.engine();
  const random = createRandom(run.seed, 'watch');
  run.phase('watches a dot', clips);
  const pictures: Uint8Array[] = [];
  const places: number[] = [];
  for (let clip = 0; clip < clips; clip++) {
    run.signal.throwIfAborted();
    const [angle, pace] = [2 * Math.PI * random.uniform(), 1 + 4 * random.uniform()];
    const at = [0, 1].map(() => LOW + (HIGH - LOW) * random.uniform());
    const speed = [pace * Math.cos(angle), pace * Math.sin(angle)];
    for (let t = 0; t < frames; t++) {
      pictures.push(glance(at));
      places.push(...at);
      for (const axis of [0, 1]) {
        at[axis] += speed[axis];
        if (at[axis] < LOW || at[axis] > HIGH) {
          speed[axis] = -speed[axis];
          at[axis] = 2 * (at[axis] < LOW ? LOW : HIGH) - at[axis];
        }
      }
    }
    await run.step();
  }
  const encoder = makeModule('encoder.', mlpSpec([PIXELS, 96, 64, width]));
  const predictor = makeModule('predictor.', mlpSpec([2 * width, 64, width]));
  const seen = input('pictures', ['batch', 3, PIXELS]);
  const s = mlpForward(seen, encoder.weights, 3);
  const of = (t: number): Tensor => reshape(narrow(s, 1, t, 1), [s.shape[0], width]);
  const foretold = mlpForward(concat([of(0), of(1)], 1), predictor.weights, 2);
  const alive = varianceCovariance(reshape(s, [-1, width]), { variance: 1, covariance: 0.2 }).loss;
  const fit = await createFit(engine, {
    name: 'watch',
    modules: [encoder, predictor],
    // What is seen changes little from one picture to the next: with it representations are smooth over places (EB-JEPA).
    loss: add(add(mseLoss(foretold, of(2)), alive), add(mseLoss(of(0), of(1)), mseLoss(of(1), of(2)))),
    seed: run.seed,
    lr: 1e-3,
  });
  const untrained = mlpOnHost(await fit.state.read(), 'encoder.', 3);
  run.phase('learns to see', steps);
  const batch = 64;
  for (let i = 0; i < steps; i++) {
    run.signal.throwIfAborted();
    const drawn = Array.from({ length: batch }, () => random.integer(clips) * frames + random.integer(frames - 2));
    await fit.step({
      pictures: float32([batch, 3, PIXELS], lit(drawn.flatMap((f) => [pictures[f], pictures[f + 1], pictures[f + 2]]))),
    });
    await run.step();
  }
  const trained = mlpOnHost(await fit.state.read(), 'encoder.', 3);
  await fit.close();
  const encode = (picture: Uint8Array): Float64Array => trained(lit([picture]));

  // A probe of places, fitted on one half of the pictures and measured on the other.
  const count = 2 * Math.min(1000, Math.floor(pictures.length / 2));
  const probe = (see: typeof trained) => {
    const rows = {
      shape: [count, width],
      data: Float32Array.from(pictures.slice(0, count).flatMap((p) => [...see(lit([p]))])),
    };
    const half = ({ shape: [, wide], data }: { shape: number[]; data: Float32Array }, from: 0 | 1) => ({
      shape: [count / 2, wide],
      data: data.subarray((from * wide * count) / 2, ((from + 1) * wide * count) / 2),
    });
    const truth = { shape: [count, 2], data: Float32Array.from(places.slice(0, 2 * count)) };
    const fitted = fitRidge(half(rows, 0), half(truth, 0), 1e-3);
    return { fitted, scores: regressionScores(predictLinear(fitted, half(rows, 1)), half(truth, 1)) };
  };
  const [{ fitted, scores }, blind] = [probe(trained), probe(untrained)];
  return {
    encode,
    at(state) {
      const [x, y] = fitted.intercept.map((b, o) => {
        let total = b;
        for (let i = 0; i < width; i++) total += fitted.weights.data[o * width + i] * state[i];
        return total;
      });
      return [x, y];
    },
    seeing: { r2: scores.r2, rmse: scores.rmse, random: blind.scores.r2, randomRmse: blind.scores.rmse },
  };
}
