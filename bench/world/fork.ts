import { float32 } from '../../src/base/tensor.js';
import type { EpisodeDataset } from '../../src/data/episodes/dataset.js';
import { mean } from '../../src/eval/samples.js';
import type { Engine } from '../../src/runtime/index.js';
import { randomBehaviour } from '../../src/world/collect.js';
import { fork } from '../../src/world/envs/fork.js';
import type { LatentWorld } from '../../src/world/latent.js';
import { placesAlong, probeStates, type StateProbe } from '../../src/world/measure.js';
import { collected, inUnits, learn } from './learn.js';

/**
 * The cart at the fork: which branch it takes is drawn on the way, so that one prediction can at best lie between both. A latent
 * variable of two values has a prediction for each. Both models learn from the same windows for the same number of steps.
 */

const STEPS = 12;
const READING = { observe: 'states', frames: STEPS + 1, moments: 0 } as const;
/** Where the branches have to be apart at the end of a window that counts, in shares of the side (0.6 at the most). */
const LEAST_GAP = 0.25;

export interface ForkScores {
  /** Held-out windows that begin before the fork and end where the branches are apart. */
  readonly windows: number;
  /** Error of the best prediction after 12 steps across the road, as a probe tells the place, in shares of the gap there: means. */
  readonly error: number;
  /** The same across and along the road. */
  readonly distance: number;
  /** How far predictions lie from the middle of the road, in shares of half the gap: 0 is between the branches, 1 on one. */
  readonly fromMiddle: number;
  /** Share of the windows in which each branch has a prediction within a quarter of half the gap. */
  readonly covered: number;
  /** Share of the windows that the first prediction fits best. */
  readonly first: number;
  /** The error of the probe alone, across and along the road: of the encoded place itself. */
  readonly probeError: number;
}

interface Ends {
  /** First and last observations, and the actions in between. */
  readonly first: Float32Array;
  readonly last: Float32Array;
  readonly actions: Float32Array;
  readonly places: readonly { readonly x: number; readonly y: number; readonly half: number }[];
}

async function windowsAcross(dataset: EpisodeDataset): Promise<Ends> {
  const size = dataset.shape.observation[0];
  const [first, last, actions]: number[][] = [[], [], []];
  const places: { x: number; y: number; half: number }[] = [];
  for (let i = 0; i < dataset.length; i++) {
    const window = await dataset.read(i);
    const [place, spread] = window.observations.subarray(3);
    const [x, y] = window.states.subarray(3 * STEPS);
    const half = (spread * (x - place)) / (1 - place);
    if (window.states[2] !== 0 || 2 * half < LEAST_GAP) continue;
    first.push(...window.observations.subarray(0, size));
    last.push(...window.observations.subarray(STEPS * size));
    actions.push(...window.actions.subarray(0, STEPS));
    places.push({ x, y, half });
  }
  const [from, to, moves] = [first, last, actions].map((values) => Float32Array.from(values));
  return { first: from, last: to, actions: moves, places };
}

async function scores(model: LatentWorld, probe: StateProbe, ends: Ends): Promise<ForkScores> {
  const { places } = ends;
  const { width, futures: known } = model.model;
  const count = places.length;
  /** Places told of states that stand `stride` rows apart, the last of each group. */
  const told = (states: Float32Array, stride: number): (readonly [x: number, y: number])[] => {
    const all = placesAlong(probe, float32([count * stride, width], states));
    return places.map((_, i) => {
      const at = 3 * (i * stride + stride - 1);
      return [all[at], all[at + 1]];
    });
  };
  const from = await model.encode(ends.first);
  const plans = float32([count, STEPS, 1], ends.actions);
  const futures: (readonly [number, number])[][] = [];
  for (let future = 0; future < known.length; future++)
    futures.push(told((await model.imagine(from, plans, future)).data, STEPS + 1));
  const seen = told((await model.encode(ends.last)).data, 1);
  const across = ([, py]: readonly [number, number], i: number): number => Math.abs(py - places[i].y);
  const away = ([px, py]: readonly [number, number], i: number): number =>
    Math.hypot(px - places[i].x, py - places[i].y);
  const errors = places.map((_, i) => futures.map((predicted) => across(predicted[i], i)));
  const best = errors.map((all) => all.indexOf(Math.min(...all)));
  const gap = mean(places.map(({ half }) => 2 * half));
  const covers = (i: number, side: number): boolean =>
    futures.some((predicted) => Math.abs(predicted[i][1] - 0.5 - side * places[i].half) < places[i].half / 4);
  return {
    windows: count,
    error: mean(errors.map((all, i) => all[best[i]])) / gap,
    distance: mean(best.map((future, i) => away(futures[future][i], i))) / gap,
    fromMiddle: mean(futures.flatMap((predicted) => predicted.map(([, y]) => Math.abs(y - 0.5)))) / (gap / 2),
    covered: mean(places.map((_, i) => Number(covers(i, -1) && covers(i, 1)))),
    first: mean(best.map((future) => Number(future === 0))),
    probeError: mean(seen.map(away)) / gap,
  };
}

/** Learns a model with one future and one with two, and measures them on the same held-out windows. */
export async function forkScores(
  engine: Engine,
  { steps = 2000, seed = 0 }: { readonly steps?: number; readonly seed?: number } = {},
): Promise<Readonly<Record<'deterministic' | 'latent', ForkScores & { readonly seconds: number }>>> {
  const data = collected(inUnits(fork()), randomBehaviour(), [4096, 2048], { steps: 40, seed, ...READING });
  const ends = await windowsAcross(data.test);
  const of = async (codes: number | undefined) => {
    const { model, seconds } = await learn(engine, data, READING, {
      method: {
        name: 'world-model',
        encoder: { kind: 'mlp', hidden: [64], width: 32 },
        predictor: { kind: 'mlp', hidden: [64] },
        steps: STEPS,
        prediction: 16,
        similarity: 1,
        inverse: 4,
        inverseWidth: 32,
        codes,
      },
      ...{ steps, seed, batch: 128, lr: 5e-3 },
    });
    try {
      return { ...(await scores(model, await probeStates(model, data.train, data.test), ends)), seconds };
    } finally {
      await model.close();
    }
  };
  return { deterministic: await of(undefined), latent: await of(2) };
}
