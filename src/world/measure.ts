import { evenly } from '../base/evenly.js';
import { createRandom } from '../base/random.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import type { EpisodeDataset } from '../data/episodes/dataset.js';
import { fitRidge, type LinearModel, predictLinear, regressionScores } from '../eval/ridge.js';
import type { LatentModel, LatentWorld } from './latent.js';

/** What a world model knows: where things are, told from its states, and how far ahead it can see. */

/** A linear map from states of the model to numbers of the world's state, with what it is worth on held-out episodes. */
export interface StateProbe {
  readonly map: LinearModel;
  /** What the map reads of states. */
  readonly features: LatentModel['features'];
  /** Share of the variance explained, mean over the numbers and for each. */
  readonly r2: number;
  readonly r2PerNumber: readonly number[];
  /** Root mean squared error of a number, in its own unit (pixels in Two Rooms). */
  readonly rmse: number;
}

/** Observations that the probe is fitted on, and tested on. */
const FITTED = 2048;
const TESTED = 512;
/** Ridge penalty for each observation: states have components of about 1. */
const PENALTY = 1e-4;

/**
 * Fits the probe on one observation of each training episode, and tests it on held-out ones. `numbers`: how many of the first numbers
 * of a state it tells (all by default); later ones of some worlds cannot be seen.
 */
export async function probeStates(
  latent: LatentWorld,
  train: EpisodeDataset,
  test: EpisodeDataset,
  numbers = train.shape.state,
): Promise<StateProbe> {
  const { features } = latent.model;
  const [fitted, tested] = [
    await statesOf(latent, train, FITTED, numbers),
    await statesOf(latent, test, TESTED, numbers),
  ];
  const map = fitRidge(fitted.features, fitted.states, PENALTY * fitted.features.shape[0]);
  const { r2, r2PerOutput, rmse } = regressionScores(predictLinear(map, tested.features), tested.states);
  return { map, features, r2, r2PerNumber: [...r2PerOutput], rmse };
}

async function statesOf(latent: LatentWorld, dataset: EpisodeDataset, most: number, numbers: number) {
  const chosen = evenly(dataset.length, most);
  const count = chosen.length;
  const { observation, state } = dataset.shape;
  const size = sizeOf(observation);
  const states = new Float32Array(count * state);
  let seen: Uint8Array | Float32Array | undefined;
  for (const [i, index] of chosen.entries()) {
    const window = await dataset.read(index);
    seen ??= new (window.observations.constructor as typeof Float32Array)(count * size);
    seen.set(window.observations.subarray(0, size), i * size);
    states.set(window.states.subarray(0, state), i * state);
  }
  const encoded = await latent.encode(seen as Float32Array, states);
  const told = states.filter((_, i) => i % state < numbers);
  return { features: latent.model.features(encoded), states: float32([count, numbers], told) };
}

/** Errors of predictions by depth: of the model, of the model told other actions, and of standing still. */
export interface RolloutErrors {
  /** Mean squared error of states over their variance (1: no better than their mean). Entry d is d + 1 steps ahead. */
  readonly latent: {
    readonly model: readonly number[];
    readonly shuffled: readonly number[];
    readonly still: readonly number[];
  };
  /** Mean distance of where the probe sees things and where they were, in units of the world's state. */
  readonly place?: {
    readonly model: readonly number[];
    readonly shuffled: readonly number[];
    readonly still: readonly number[];
  };
}

/** Windows that are predicted. */
const WINDOWS = 128;

/** Predicts held-out windows (of depth + 1 observations) from their first observation and true actions, and with those of others. */
export async function rolloutErrors(
  latent: LatentWorld,
  dataset: EpisodeDataset,
  probe?: StateProbe,
): Promise<RolloutErrors> {
  const { frames, observation, action, state } = dataset.shape;
  const count = Math.min(dataset.length, WINDOWS);
  const size = sizeOf(observation);
  const depth = frames - 1;
  const plans = new Float32Array(count * depth * action);
  const places = new Float32Array(count * frames * state);
  let seen: Uint8Array | Float32Array | undefined;
  for (let i = 0; i < count; i++) {
    const window = await dataset.read(i);
    seen ??= new (window.observations.constructor as typeof Float32Array)(count * frames * size);
    seen.set(window.observations, i * frames * size);
    plans.set(window.actions.subarray(0, depth * action), i * depth * action);
    places.set(window.states, i * frames * state);
  }
  const { width, told } = latent.model;
  const truth = (await latent.encode(seen as Float32Array, places)).data;
  const first = new Float32Array(count * width);
  for (let i = 0; i < count; i++) first.set(truth.subarray(i * frames * width, (i * frames + 1) * width), i * width);
  const starts = float32([count, width], first);
  const order = createRandom(0, 'other actions').permutation(count);
  const others = new Float32Array(plans.length);
  for (const [i, other] of order.entries())
    others.set(plans.subarray(other * depth * action, (other + 1) * depth * action), i * depth * action);
  const imagined = async (moves: Float32Array): Promise<Float32Array> =>
    (await latent.imagine(starts, float32([count, depth, action], moves))).data;
  const paths = {
    model: await imagined(plans),
    shuffled: await imagined(others),
    still: Float32Array.from(truth, (_, i) => {
      const row = Math.floor(i / width / frames);
      return first[row * width + (i % width)];
    }),
  };
  const own = width - told; // What was seen; poses are told.
  const spread = varianceOf(truth, width, own);
  const byDepth = (of: (at: number) => number): number[] =>
    Array.from({ length: depth }, (_, d) => {
      let total = 0;
      for (let i = 0; i < count; i++) total += of(i * frames + d + 1);
      return total / count;
    });
  const errors = mapValues(paths, (path) =>
    byDepth((row) => {
      let squares = 0;
      for (let j = 0; j < own; j++) squares += (path[row * width + j] - truth[row * width + j]) ** 2;
      return squares / own / spread;
    }),
  );
  if (!probe || state === 0) return { latent: errors };
  const numbers = probe.r2PerNumber.length;
  const place = mapValues(paths, (path) => {
    const seenAt = placesAlong(probe, float32([count * frames, width], path));
    return byDepth((row) => {
      let squares = 0;
      for (let j = 0; j < numbers; j++) squares += (seenAt[row * numbers + j] - places[row * state + j]) ** 2;
      return Math.sqrt(squares);
    });
  });
  return { latent: errors, place };
}

const mapValues = <K extends string, A, B>(from: Readonly<Record<K, A>>, map: (value: A) => B): Record<K, B> =>
  Object.fromEntries(Object.entries(from).map(([key, value]) => [key, map(value as A)])) as Record<K, B>;

/** Mean over the first `numbers` of states of their variance. */
function varianceOf(rows: Float32Array, width: number, numbers: number): number {
  const count = rows.length / width;
  let total = 0;
  for (let j = 0; j < numbers; j++) {
    let [sum, squares] = [0, 0];
    for (let i = 0; i < count; i++) {
      sum += rows[i * width + j];
      squares += rows[i * width + j] ** 2;
    }
    total += squares / count - (sum / count) ** 2;
  }
  return total / numbers;
}

/** Where the probe sees things along imagined paths [..., width]: [..., numbers]. */
export const placesAlong = ({ map, features }: StateProbe, states: HostTensor<'float32'>): Float64Array =>
  predictLinear(map, features(states)).data;
