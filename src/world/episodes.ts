import { JepaError } from '../base/errors.js';
import { createRandom, type Random } from '../base/random.js';
import { checkIndex, type SampleReader } from '../data/dataset.js';
import { type EpisodeDataset, type EpisodeReading, type EpisodeWindow, windowStart } from '../data/episodes/dataset.js';
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

export function worldEpisodes(options: WorldEpisodeOptions): EpisodeDataset {
  const { world } = openCollection(options.world, options.behaviour);
  const { count, steps = STEPS, observe, frames, others } = options;
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
    shape: { frames, others, observation, action: world.action.length, state: world.state.length },
    async read(index, random) {
      checkIndex({ name, length: count, modality: 'episodes' }, index);
      return windowOf(options, index, random);
    },
    source: { kind: 'module', module: import.meta.url, options },
  };
}

/** For loader threads (`SourceModule`). */
export const open = (options: unknown): SampleReader<EpisodeWindow> => ({
  read: (index, random) => windowOf(options as WorldEpisodeOptions, index, random),
});

function windowOf(options: WorldEpisodeOptions, index: number, random: Random | undefined): EpisodeWindow {
  const { steps = STEPS, seed = 0, factors, frames, others } = options;
  const { world, behaviour } = openCollection(options.world, options.behaviour);
  const run = { steps, seed, factors };
  const episode = runEpisode(world, behaviour, run, index);
  const first = windowStart(steps + 1, frames, index, random);
  const rows = (table: Float64Array, width: number): Float64Array =>
    table.subarray(first * width, (first + frames) * width);
  const states = rows(episode.states, world.state.length);
  const draws = random ?? createRandom(index, 'others');
  // Other episodes of the same instance of the world, each looked at once.
  const same = Object.fromEntries(world.factors.map(({ name }, f) => [name, episode.factors[f]]));
  const elsewhere = new Float64Array(others * world.state.length);
  for (let i = 0; i < others; i++) {
    const mate = runEpisode(world, behaviour, { steps, seed: draws.integer(2 ** 31), factors: same }, 0);
    if (mate.factors.some((value, f) => value !== episode.factors[f]))
      throw new JepaError(
        `${world.name}: its layouts are drawn anew for every episode, so no other episode is of the same one; set data.others=0`,
      );
    const row = draws.integer(steps + 1);
    elsewhere.set(
      mate.states.subarray(row * world.state.length, (row + 1) * world.state.length),
      i * world.state.length,
    );
  }
  return {
    observations: observed(world, states, episode, options),
    actions: Float32Array.from(rows(episode.actions, world.action.length)),
    states: Float32Array.from(states),
    others: observed(world, elsewhere, episode, options),
  };
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
