import type { FactorSettings, Row, World } from './envs/world.js';
import { type PlayedEpisode, type SuccessRate, successOf } from './play.js';

/** Factors of variation: how success depends on what differs between episodes, and worlds that differ from what was learned. */

/** Episodes that are alike in one respect. */
export interface SuccessGroup {
  /** Least and largest value of the factor in them. */
  readonly from: number;
  readonly to: number;
  readonly success: SuccessRate;
  /** Of the floor, in the same episodes. */
  readonly floor: SuccessRate;
}

export interface FactorSuccess {
  readonly factor: string;
  /** From small values to large ones. */
  readonly groups: readonly SuccessGroup[];
}

/** How far the goal is from the start, as the world measures it. */
const START_TO_GOAL = 'start to goal';
/** Groups of about as many episodes each that a factor is divided into. */
const GROUPS = 3;

/**
 * Success by the distance from start to goal, and by every factor that was drawn anew for each episode. `floor` are the same
 * episodes under another actor; episodes with equal values stay together, and factors with one value only are left out.
 */
export function successByFactor(
  world: World,
  settings: FactorSettings,
  episodes: readonly PlayedEpisode[],
  floor: readonly PlayedEpisode[],
): FactorSuccess[] {
  const varied = world.factors.flatMap(({ name, drawn }, f) =>
    (name in settings ? settings[name] === null : drawn) ? [{ name, of: (one: PlayedEpisode) => one.factors[f] }] : [],
  );
  const distance = (one: PlayedEpisode): number => judged(world, one, 0).distance;
  return [{ name: START_TO_GOAL, of: distance }, ...varied].flatMap(({ name, of }) => {
    const values = episodes.map(of);
    const parts = divided(values);
    if (parts.length < 2) return [];
    const groups = parts.map((part) => ({
      from: values[part[0]],
      to: values[part[part.length - 1]],
      success: successOf(part.map((i) => episodes[i])),
      floor: successOf(part.map((i) => floor[i])),
    }));
    return [{ factor: name, groups }];
  });
}

/** Indices in the order of their values, in groups of about equal size; equal values are in one group. */
function divided(values: readonly number[]): number[][] {
  const order = [...values.keys()].sort((a, b) => values[a] - values[b] || a - b);
  const groups: number[][] = [];
  for (let group = 1, from = 0; group <= GROUPS && from < order.length; group++) {
    let to = Math.max(from + 1, Math.round((group * order.length) / GROUPS));
    while (to < order.length && values[order[to]] === values[order[to - 1]]) to++;
    groups.push(order.slice(from, to));
    from = to;
  }
  return groups;
}

/** One factor of a world at another value than usual. */
export interface Shift {
  readonly factor: string;
  readonly value: number;
}

/** Both ends of the range of every factor that has its usual value in all episodes. */
export const shiftsOf = (world: World, settings: FactorSettings): Shift[] =>
  world.factors.flatMap(({ name, usual, low, high, drawn, own }) =>
    drawn || own || name in settings
      ? []
      : [low, high].flatMap((value) => (value === usual ? [] : [{ factor: name, value }])),
  );

/** Success in a shifted world, of an actor and of the floor. */
export interface ShiftSuccess extends Shift {
  readonly success: SuccessRate;
  readonly floor: SuccessRate;
}

/** Episodes as they were after so many steps: what a floor had reached by the time at which a planner was stopped. */
export function cutShort(world: World, episodes: readonly PlayedEpisode[], steps: number): PlayedEpisode[] {
  return episodes.map((episode) => {
    const states = episode.states.subarray(0, (steps + 1) * world.state.length);
    const cut = { ...episode, states, ...judged(world, episode, steps) };
    const everReached = Array.from({ length: steps }, (_, t) => judged(world, cut, t + 1)).some(
      ({ success }) => success,
    );
    return { ...cut, everReached };
  });
}

function judged(world: World, { states, goal, factors }: PlayedEpisode, step: number): ReturnType<World['reached']> {
  const size = world.state.length;
  const state: Row = states.slice(step * size, (step + 1) * size);
  return world.reached(state, goal, factors);
}
