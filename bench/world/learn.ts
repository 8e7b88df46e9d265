import { createRandom } from '../../src/base/random.js';
import { type EpisodeDataset, type EpisodeReading, episodeArrays } from '../../src/data/episodes/dataset.js';
import type { Scaling } from '../../src/data/episodes/scaling.js';
import { type Method, untrainedValues } from '../../src/methods/method.js';
import type { Engine } from '../../src/runtime/index.js';
import { scalingOf } from '../../src/train/build.js';
import { type ConfigInput, parseConfig } from '../../src/train/config.js';
import { TEST_SEED } from '../../src/train/episodes-node.js';
import { installMethod } from '../../src/train/frozen.js';
import { trainLoop } from '../../src/train/loop.js';
import { type Behaviour, type CollectOptions, collectEpisodes } from '../../src/world/collect.js';
import type { Row, World } from '../../src/world/envs/world.js';
import { type LatentWorld, openLatentWorld, worldModelStates } from '../../src/world/latent.js';
import { isWorldModel, type WorldModelMethod } from '../../src/world/world-model.js';

/** Small world models, learned on the spot from episodes that are collected once and kept. */

export interface Splits {
  readonly train: EpisodeDataset;
  readonly test: EpisodeDataset;
}

/** Windows of numbers of states. */
type StateReading = EpisodeReading & { readonly observe: 'states' };

/** Episodes of a behaviour, for training and held out. */
export function collected(
  world: World,
  behaviour: Behaviour,
  counts: readonly [train: number, test: number],
  { steps, seed, ...reading }: Pick<CollectOptions, 'steps' | 'seed'> & StateReading,
): Splits {
  const [train, test] = counts.map((episodes, part) => {
    const options = { episodes, steps, seed: seed + part * TEST_SEED };
    return episodeArrays(`${world.name} episodes`, collectEpisodes(world, behaviour, options), reading);
  });
  return { train, test };
}

/** The same world with actions in shares of their largest values: models are told numbers of about 1. */
export function inUnits(world: World): World {
  const largest = world.action.map(({ low, high }) => Math.max(-low, high));
  const own: Row = new Float64Array(largest.length);
  return {
    ...world,
    action: world.action.map((part, i) => ({ ...part, low: part.low / largest[i], high: part.high / largest[i] })),
    advance(state, action, factors, random) {
      for (let i = 0; i < own.length; i++) own[i] = action[i] * largest[i];
      world.advance(state, own, factors, random);
    },
  };
}

/** What a training is told besides its data; `steps` of `batch` windows. */
export interface Lesson {
  readonly method: Extract<NonNullable<ConfigInput['method']>, { readonly name: 'world-model' }>;
  readonly steps: number;
  readonly batch: number;
  readonly seed: number;
  readonly lr: number;
}

export interface Learned {
  readonly model: LatentWorld;
  readonly method: WorldModelMethod;
  readonly scaling: Scaling;
  readonly seconds: number;
}

/** Trains as `jepa train` does, without a folder, and opens the model for use. */
export async function learn(
  engine: Engine,
  { train: dataset }: Splits,
  reading: StateReading,
  { method: learned, steps, batch, seed, lr }: Lesson,
): Promise<Learned> {
  const config = parseConfig({
    data: { kind: 'episodes', source: dataset.name, ...(reading as object), threads: 0 },
    method: learned,
    optimizer: { lr, startLr: lr / 10, finalLr: lr / 100, weightDecay: 1e-5, finalWeightDecay: 1e-5, clip: 2 },
    train: { batchSize: batch, steps, seed, diagnoseEvery: 10 * steps, checkpointEvery: 10 * steps },
  });
  const { method, state, facts, seconds } = await trainLoop({ config, dataset, engine });
  if (!isWorldModel(method)) throw new Error(`${method.name} is no world model`);
  const scaling = scalingOf(config, facts);
  return { model: await openLatentWorld(engine, state, worldModelStates(method), scaling), method, scaling, seconds };
}

/** The same model with random weights. */
export async function untrained(engine: Engine, method: Method, scaling: Scaling, seed: number): Promise<LatentWorld> {
  if (!isWorldModel(method)) throw new Error(`${method.name} is no world model`);
  const weights = untrainedValues(method, createRandom(seed, 'random weights'));
  return openLatentWorld(engine, await installMethod(engine, method, weights), worldModelStates(method), scaling);
}

/** A measured number for a table. */
export const shown = (value: number, digits = 2): string => value.toFixed(digits);
