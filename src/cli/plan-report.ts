import type { RawImage } from '../data/dataset.js';
import { formatDuration, formatFixed } from '../report/format.js';
import type { DrawnEpisode, PlanBar, ReportData, Trace } from '../report/index.js';
import { inColour } from '../report/looks.js';
import type { World } from '../world/envs/world.js';
import type { Played, SuccessRate } from '../world/play.js';
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
  readonly floors: Readonly<Record<'random' | 'greedy', Played>>;
  readonly remembered: readonly Remembered[];
  /** Episodes that are drawn: failures come first. */
  readonly shown: number;
}

/** Thoughts that are drawn of an episode. */
const THOUGHTS = 6;

/** Everything that the report of a planning evaluation shows. */
export async function planReport({
  result,
  world,
  played,
  floors,
  remembered,
  shown,
}: PlanReportParts): Promise<ReportData> {
  const { success, time, rollout, probe, planner, env, episodes } = result;
  const percent = (share: number): string => `${formatFixed(100 * share, 1)} %`;
  const bar = (name: string, { rate, interval: [low, high] }: SuccessRate): PlanBar => ({
    name,
    value: 100 * rate,
    interval: [100 * low, 100 * high],
  });
  const trace = (values: readonly number[]): Trace => ({ x: values.map((_, i) => i + 1), y: values });
  const traces = rollout.place ?? rollout.latent;
  return {
    title: `Planning in ${env}`,
    method: `World model, ${planner.method} planner`,
    summary: `In ${episodes} episodes of ${result.steps} steps the planner ended at the goal in ${percent(success.rate)} (95 % interval ${percent(success.interval[0])} to ${percent(success.interval[1])}), against ${percent(result.floors.greedy.rate)} for going straight to it and ${percent(result.floors.random.rate)} for random actions. An action takes ${formatFixed(time.action, 1)} ms.`,
    headline: [
      {
        name: 'Goal reached',
        value: formatFixed(100 * success.rate, 1),
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
        bar(`${planner.method} with the model`, success),
        bar('greedy: straight to the goal', result.floors.greedy),
        bar('random actions', result.floors.random),
      ],
      episodes: world.place ? drawn(world, played, floors.greedy, remembered, shown) : [],
      rollout: {
        unit: rollout.place ? 'distance from the truth' : 'error over variance',
        model: trace(traces.model),
        shuffled: trace(traces.shuffled),
        still: trace(traces.still),
      },
    },
    configuration: yamlText(result),
  };
}

function drawn(
  world: World,
  { episodes }: Played,
  greedy: Played,
  remembered: readonly Remembered[],
  shown: number,
): DrawnEpisode[] {
  const place = world.place as NonNullable<World['place']>;
  const size = world.state.length;
  const pathOf = (states: Float64Array): (readonly [number, number])[] =>
    Array.from({ length: states.length / size }, (_, t) => place(states.subarray(t * size, (t + 1) * size)));
  const kept = remembered
    .filter((_, i) => i % Math.max(1, Math.floor(remembered.length / THOUGHTS)) === 0)
    .slice(0, THOUGHTS);
  const order = Array.from(episodes.slice(0, shown).keys()).sort(
    (a, b) => Number(episodes[a].success) - Number(episodes[b].success) || a - b,
  );
  return order.map((i) => {
    const { states, goal, factors, success, distance } = episodes[i];
    const end = states.slice(0, size);
    end.set(goal);
    return {
      name: `Episode ${i + 1}`,
      success,
      distance,
      picture: pictureOf(world, states.subarray(0, size), factors),
      path: pathOf(states),
      goal: place(end),
      other: pathOf(greedy.episodes[i].states),
      imagined: kept.map(({ places }) => places[i].map((at) => place(at))),
    };
  });
}

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
