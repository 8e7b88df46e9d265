import { evenly } from '../base/evenly.js';
import type { RawImage } from '../data/dataset.js';
import { formatDuration, formatFixed, formatNumber } from '../report/format.js';
import type {
  DrawnEpisode,
  DrawnPath,
  FilmCell,
  PlanBar,
  PlanFactor,
  PlanRollout,
  ReportData,
  Trace,
  WrittenFile,
} from '../report/index.js';
import { inColour } from '../report/looks.js';
import type { World } from '../world/envs/world.js';
import type { RolloutErrors } from '../world/measure.js';
import type { Played, PlayedEpisode, SuccessRate } from '../world/play.js';
import type { PlanResult } from './plan.js';
import { yamlText } from './settings.js';

/** Where the planner imagined to go in the episodes that are shown, [episodes][times][numbers of a state]. */
export interface Remembered {
  readonly time: number;
  readonly places: readonly (readonly (readonly number[])[])[];
}

export interface PlanReportParts {
  readonly result: PlanResult;
  readonly world: World;
  readonly played: Played;
  readonly greedy: readonly PlayedEpisode[];
  readonly remembered: readonly Remembered[];
  /** Episodes that are drawn: failures come first. */
  readonly shown: number;
  readonly files: readonly WrittenFile[];
}

/** Thoughts that are drawn of an episode at most. */
const THOUGHTS = 50;

export const percent = (share: number): string => formatFixed(100 * share, 1);

/** Everything that the report of a planning evaluation shows. */
export function planReport({ result, world, played, greedy, remembered, shown, files }: PlanReportParts): ReportData {
  const { success, time, rollout, probe, planner, env, episodes, floors } = result;
  return {
    title: `Planning in ${env}`,
    method: `${result.model}, ${planner.method} planner`,
    summary: `In ${episodes} episodes of ${result.steps} steps the planner ended at the goal in ${percent(success.rate)} % (95 % interval ${percent(success.interval[0])} to ${percent(success.interval[1])}), against ${percent(floors.greedy.rate)} % for going straight to it and ${percent(floors.random.rate)} % for random actions. An action takes ${formatFixed(time.action, 1)} ms.${result.interrupted ? ` The evaluation was interrupted: of ${result.stepsAsked} steps an episode ${result.steps} were made, and that is what everything here is about.` : ''}`,
    headline: [
      {
        name: 'Goal reached',
        value: percent(success.rate),
        unit: '%',
        note: `${success.successes} of ${episodes} episodes`,
      },
      {
        name: 'Time an action',
        value: formatFixed(time.action, 1),
        unit: 'ms',
        note: `${formatFixed(time.plan, 0)} ms a plan`,
      },
      {
        name: 'Where things are',
        value: formatFixed(probe.rmse, 2),
        note: `error of a linear probe, R2 ${formatFixed(probe.r2, 3)}`,
      },
      { name: 'Evaluation', value: formatDuration(result.seconds), note: `seed ${result.seed}` },
    ],
    plans: {
      bars: [
        barOf(`${planner.method} with the model`, success),
        barOf('greedy: straight to the goal', floors.greedy),
        barOf('random actions', floors.random),
      ],
      factors: result.factors.map(
        ({ factor, groups }): PlanFactor => ({
          name: factor,
          groups: groups.map((group) => groupOf(rangeOf(group), group)),
        }),
      ),
      shifts: result.shifted && shiftedFactors(result.shifted),
      episodes: drawn(world, played, greedy, remembered, shown),
      rollouts: [
        ...(rollout.place ? [rolloutOf('Where things are', 'distance from the truth', rollout.place)] : []),
        rolloutOf('States of the model', 'squared error over variance', rollout.latent),
      ],
    },
    next: [
      {
        what: 'More episodes, for a narrower interval',
        command: `jepa plan ${result.run} --env ${env} --episodes 200`,
      },
      ...(result.shifted
        ? []
        : [{ what: 'How it does in changed worlds', command: `jepa plan ${result.run} --env ${env} --shifts 20` }]),
    ],
    files,
    configuration: yamlText(result),
  };
}

function rolloutOf(name: string, unit: string, { model, shuffled, still }: RolloutErrors['latent']): PlanRollout {
  const trace = (values: readonly number[]): Trace => ({ x: values.map((_, i) => i + 1), y: values });
  return { name, unit, model: trace(model), shuffled: trace(shuffled), still: trace(still) };
}

const barOf = (name: string, { rate, interval: [low, high] }: SuccessRate): PlanBar => ({
  name,
  value: 100 * rate,
  interval: [100 * low, 100 * high],
});

const groupOf = (
  values: string,
  { success, floor }: { readonly success: SuccessRate; readonly floor: SuccessRate },
) => ({
  values,
  episodes: success.episodes,
  planner: barOf('planner', success),
  floor: barOf('greedy', floor),
});

/** `12.1 to 20.4`, or one value. */
export const rangeOf = ({ from, to }: { readonly from: number; readonly to: number }): string =>
  from === to ? formatNumber(from) : `${formatNumber(from)} to ${formatNumber(to)}`;

function shiftedFactors({ usual, worlds }: NonNullable<PlanResult['shifted']>): PlanFactor[] {
  const names = [...new Set(worlds.map(({ factor }) => factor))];
  return [
    { name: 'as it is', groups: [groupOf('nothing changed', usual)] },
    ...names.map((name) => ({
      name,
      groups: worlds.flatMap((one) => (one.factor === name ? [groupOf(formatNumber(one.value), one)] : [])),
    })),
  ];
}

// Episodes -------------------------------------------------------------------------------------------------------------------

/** Shares of an episode at which pictures are shown of worlds that have no paths. */
const MOMENTS = [0, 1 / 3, 2 / 3, 1];

function drawn(
  world: World,
  { episodes }: Played,
  greedy: readonly PlayedEpisode[],
  remembered: readonly Remembered[],
  shown: number,
): DrawnEpisode[] {
  const { place } = world;
  const kept = Array.from(evenly(remembered.length, THOUGHTS), (i) => remembered[i]);
  const order = Array.from(episodes.slice(0, shown).keys()).sort(
    (a, b) => Number(episodes[a].success) - Number(episodes[b].success) || a - b,
  );
  return order.map((i) => {
    const { factors, success, distance } = episodes[i];
    const steps = stepsOf(world, episodes[i]);
    const at = (step: number): RawImage => pictureOf(world, stateAt(world, episodes[i], step), factors);
    const moments = [...new Set(MOMENTS.map((share) => Math.round(share * steps)))];
    return {
      name: `Episode ${i + 1}`,
      success,
      distance,
      pictures: place
        ? [{ name: 'start', picture: at(0) }]
        : [
            ...moments.map((step) => ({ name: `step ${step}`, picture: at(step) })),
            { name: 'goal', picture: pictureOf(world, goalState(world, episodes[i]), factors) },
          ],
      paths: place && {
        path: pathOf(world, place, episodes[i], steps),
        goal: place(goalState(world, episodes[i])),
        other: pathOf(world, place, greedy[i], steps),
        imagined: kept.map(({ time, places }) => ({ time, path: places[i].map((seen) => place(seen)) })),
      },
    };
  });
}

/** Frames of a film at most. */
const FRAMES = 100;

/** The first episodes at moments that are spread evenly, the last one included. */
export function* filmOf(
  world: World,
  { episodes }: Played,
  remembered: readonly Remembered[],
  count: number,
): Generator<FilmCell[], void> {
  const { place } = world;
  const some = episodes.slice(0, count);
  const steps = stepsOf(world, episodes[0]);
  const frames = Math.min(FRAMES, steps + 1);
  for (let frame = 0; frame < frames; frame++) {
    const step = Math.round((frame * steps) / Math.max(1, frames - 1));
    const thought = remembered.findLast(({ time }) => time <= step);
    yield some.map((episode, i) => {
      const state = stateAt(world, episode, step);
      return {
        picture: pictureOf(world, state, episode.factors),
        paths: place && {
          path: pathOf(world, place, episode, step),
          imagined: thought?.places[i].map((seen) => place(seen)) ?? [],
          goal: place(goalState(world, episode)),
        },
        goal: place ? undefined : pictureOf(world, goalState(world, episode), episode.factors),
        success: world.reached(state, episode.goal, episode.factors).success,
      };
    });
  }
}

const stepsOf = (world: World, { states }: PlayedEpisode): number => states.length / world.state.length - 1;

const stateAt = ({ state }: World, { states }: PlayedEpisode, step: number): Float64Array =>
  states.slice(step * state.length, (step + 1) * state.length);

function goalState(world: World, episode: PlayedEpisode): Float64Array {
  const state = stateAt(world, episode, 0);
  state.set(episode.goal);
  return state;
}

const pathOf = (world: World, place: NonNullable<World['place']>, episode: PlayedEpisode, steps: number): DrawnPath =>
  Array.from({ length: steps + 1 }, (_, step) => place(stateAt(world, episode, step)));

function pictureOf(world: World, state: Float64Array, factors: Float64Array): RawImage {
  const [channels, height, width] = world.picture;
  const planes = new Uint8Array(channels * height * width);
  world.paint(state, factors, planes);
  const data = new Uint8Array(planes.length);
  const pixels = height * width;
  for (let i = 0; i < pixels; i++) for (let c = 0; c < channels; c++) data[i * channels + c] = planes[c * pixels + i];
  const image = { width, height, channels, data };
  return channels === 2 ? inColour(image) : image;
}
