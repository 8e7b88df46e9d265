import { formatFixed, formatNumber } from '../report/format.js';
import type { WrittenFile } from '../report/index.js';
import type { SuccessRate } from '../world/play.js';
import { bold, dim, table } from './output.js';
import type { PlanResult } from './plan.js';
import { percent, rangeOf } from './plan-report.js';

/** What `jepa plan` prints in the end. */
export function planText(result: PlanResult, files: readonly WrittenFile[]): string {
  const { env, episodes, planner, success, floors, time, probe, rollout, everReached, meanDistance } = result;
  const repeat = Number(planner.repeat);
  const search = `${planner.method}, horizon ${planner.horizon}${repeat > 1 ? ` x ${repeat} steps` : ''}, ${planner.samples} samples x ${planner.iterations}`;
  const parts = [
    `${bold(env)}  ${episodes} episodes of ${result.steps} steps${result.interrupted ? ` (interrupted; ${result.stepsAsked} were asked for)` : ''}`,
    table(
      [
        ['goal reached at the end', '', '95 % interval'],
        [search, ...rateOf(success)],
        ['greedy: straight to the goal', ...rateOf(floors.greedy)],
        ['random actions', ...rateOf(floors.random)],
      ],
      [1, 2],
    ),
  ];
  if (result.factors.length > 0)
    parts.push(
      table(
        [
          ['by what differs between episodes', '', 'episodes', '', '95 % interval', 'greedy'],
          ...result.factors.flatMap(({ factor, groups }) =>
            groups.map((group, i) => [
              i === 0 ? factor : '',
              rangeOf(group),
              String(group.success.episodes),
              ...rateOf(group.success),
              `${percent(group.floor.rate)} %`,
            ]),
          ),
        ],
        [2, 3, 4, 5],
      ),
    );
  if (result.shifted) {
    const { usual, worlds, episodes: each } = result.shifted;
    parts.push(
      table(
        [
          [`in changed worlds, ${each} episodes each`, '', '', '95 % interval', 'greedy'],
          ['as it is', '', ...rateOf(usual.success), `${percent(usual.floor.rate)} %`],
          ...worlds.map(({ factor, value, success: rate, floor }) => [
            factor,
            formatNumber(value),
            ...rateOf(rate),
            `${percent(floor.rate)} %`,
          ]),
        ],
        [1, 2, 3, 4],
      ),
    );
  }
  const imagined = rollout.place ?? rollout.latent;
  const depths = [1, 8, 16, imagined.model.length].filter((depth) => depth <= imagined.model.length);
  const { poses } = result;
  const errors = depths.map(
    (depth) => `${formatFixed(imagined.model[depth - 1], rollout.place ? 1 : 2)} after ${depth}`,
  );
  parts.push(
    [
      `${formatFixed(time.action, 1)} ms an action (${formatFixed(time.plan, 0)} ms a plan), ${formatFixed(time.actionSideBySide, 1)} ms with ${episodes} episodes side by side`,
      `reached at any time ${percent(everReached)} %, mean distance in the end ${formatNumber(meanDistance)}`,
      `where things are: R2 ${formatFixed(probe.r2, 3)}, error ${formatNumber(probe.rmse)}; imagined: error ${errors.join(', ')} steps`,
      ...(poses
        ? [
            `poses told along plans: R2 ${depths.map((depth) => `${formatFixed(poses.r2[depth - 1], 3)} after ${depth}`).join(', ')} actions`,
          ]
        : []),
    ].join('\n'),
    table(files.map(({ path, what }) => [path, what]))
      .split('\n')
      .map(dim)
      .join('\n'),
  );
  return parts.join('\n\n');
}

const rateOf = ({ rate, interval: [low, high] }: SuccessRate): string[] => [
  `${percent(rate)} %`,
  `${percent(low)} to ${percent(high)}`,
];
