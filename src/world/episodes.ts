import { JepaError } from '../base/errors.js';
import { createRandom, type Random } from '../base/random.js';
import { checkIndex, type SampleReader } from '../data/dataset.js';
import {
  drawMoments,
  type EpisodeDataset,
  type EpisodeReading,
  type EpisodeWindow,
  windowStart,
} from '../data/episodes/dataset.js';
import { type Episode, openCollection, paintStates, runEpisode } from './collect.js';
import type { FactorSettings, World } from './envs/world.js';

/** Episodes of a world as a data set, run when they are read: nothing is kept, so there may be any number of them. */
export interface WorldEpisodeOptions extends EpisodeReading {
  readonly world: string;
  /** As `jepa collect` names it; the published one of the world by default. */
  readonly behaviour?: string;
  readonly count: number;
  /** Actions an episode; 90 by default. */
  readonly steps?: number;
  readonly seed?: number;
  readonly factors?: FactorSettings;
}

/** Actions of an episode of EB-JEPA's Two Rooms. */
const STEPS = 90;

type Collection = ReturnType<typeof openCollection>;

export function worldEpisodes(options: WorldEpisodeOptions): EpisodeDataset {
  const opened = openCollection(options.world, options.behaviour);
  const { world } = opened;
  const { count, steps = STEPS, observe, frames, moments } = options;
  if (frames > steps + 1)
    throw new JepaError(
      `${options.world}: episodes of ${steps} steps have ${steps + 1} observations, a window needs ${frames}; set data.options.steps higher`,
    );
  const name = `${options.world} episodes`;
  const observation = observe === 'pictures' ? world.picture : [world.state.length + world.factors.length];
  return {
    name,
    modality: 'episodes',
    length: count,
    shape: { frames, moments, observation, action: world.action.length, state: world.state.length },
    async read(index, random) {
      checkIndex({ name, length: count, modality: 'episodes' }, index);
      return windowOf(opened, options, index, random);
    },
    source: { kind: 'module', module: import.meta.url, options },
  };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<EpisodeWindow> => worldEpisodes(options as WorldEpisodeOptions);

function windowOf(
  { world, behaviour }: Collection,
  options: WorldEpisodeOptions,
  index: number,
  random: Random | undefined,
): EpisodeWindow {
  const { steps = STEPS, seed = 0, factors, frames, moments } = options;
  const run = { steps, seed, factors };
  const episode = runEpisode(world, behaviour, run, index);
  const first = windowStart(steps + 1, frames, index, random);
  const rows = (table: Float64Array, width: number): Float64Array =>
    table.subarray(first * width, (first + frames) * width);
  const states = rows(episode.states, world.state.length);
  const times = drawMoments(steps + 1, moments, index, random);
  const width = world.state.length;
  const mate = mateOf({ world, behaviour }, episode, options, index, random);
  const elsewhere = drawMoments(steps + 1, moments, index, random);
  const single = new Float64Array(2 * moments * width);
  for (let i = 0; i < moments; i++) {
    single.set(episode.states.subarray(times[i] * width, (times[i] + 1) * width), i * width);
    single.set(mate.states.subarray(elsewhere[i] * width, (elsewhere[i] + 1) * width), (moments + i) * width);
  }
  return {
    observations: observed(world, states, episode, options),
    actions: Float32Array.from(rows(episode.actions, world.action.length)),
    states: Float32Array.from(states),
    moments: observed(world, single, episode, options),
    times: Float32Array.from(times),
  };
}

/** Another episode of the same instance of the world; the same one where its instances are drawn anew every time. */
function mateOf(
  { world, behaviour }: Collection,
  episode: Episode,
  { moments, steps = STEPS }: WorldEpisodeOptions,
  index: number,
  random: Random | undefined,
): Episode {
  if (moments === 0) return episode;
  const factors = Object.fromEntries(world.factors.map(({ name }, f) => [name, episode.factors[f]]));
  const seed = (random ?? createRandom(index, 'mate')).integer(2 ** 31);
  const mate = runEpisode(world, behaviour, { steps, seed, factors }, 0);
  return mate.factors.every((value, f) => value === episode.factors[f]) ? mate : episode;
}

function observed(
  world: World,
  states: Float64Array,
  { factors }: Episode,
  { observe }: WorldEpisodeOptions,
): Uint8Array | Float32Array {
  return observe === 'pictures' ? paintStates(world, states, factors) : observeStates(world, states, factors);
}

/** States [rows, numbers] with the factors of their world behind them, [rows, numbers + factors]. */
export function observeStates(world: World, states: Float64Array, factors: Float64Array): Float32Array {
  const width = world.state.length;
  const rows = states.length / width;
  const out = new Float32Array(rows * (width + factors.length));
  for (let row = 0; row < rows; row++) {
    out.set(states.subarray(row * width, (row + 1) * width), row * (width + factors.length));
    out.set(factors, row * (width + factors.length) + width);
  }
  return out;
}
