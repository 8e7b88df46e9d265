import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { UsageError } from '../base/errors.js';
import { float32 } from '../base/tensor.js';
import { PROCEDURAL } from '../data/procedural/open-node.js';
import { formatFixed } from '../report/format.js';
import { writeReport } from '../report/index.js';
import { looksOf } from '../report/live.js';
import { createEngine } from '../runtime/index.js';
import { openWorldRun, type WorldRun } from '../train/world-node.js';
import { greedyBehaviour, randomBehaviour, usualBehaviour } from '../world/collect.js';
import { worldCalled } from '../world/envs/index.js';
import { openBatch, type World } from '../world/envs/world.js';
import { worldEpisodes } from '../world/episodes.js';
import type { LatentWorld, Objective } from '../world/latent.js';
import { placesAlong, probeStates, type RolloutErrors, rolloutErrors, type StateProbe } from '../world/measure.js';
import type { SamplingOptions } from '../world/planning/planner.js';
import { normLimit } from '../world/planning/sampling.js';
import {
  behaviourActor,
  type PlanningOptions,
  type Played,
  planningActor,
  play,
  type SuccessRate,
  successOf,
  type Thought,
} from '../world/play.js';
import { factorsOf, usage } from './collect.js';
import { catchInterrupts } from './interrupt.js';
import { bold, dim, notice, print, printJson, stages, table } from './output.js';
import { planReport, type Remembered } from './plan-report.js';
import { createRoom } from './room.js';

export interface PlanCommandOptions {
  readonly env?: string;
  readonly episodes: number;
  readonly seed: number;
  readonly steps?: number;
  readonly planner: SamplingOptions['method'];
  readonly horizon: number;
  readonly samples: number;
  readonly elites?: number;
  readonly iterations: number;
  readonly std: number;
  readonly limit?: number;
  readonly replan: number;
  readonly warmStart: boolean;
  readonly distance?: Objective['distance'];
  readonly cost: Objective['time'];
  readonly factor?: readonly string[];
  readonly out?: string;
  readonly workers?: number;
  readonly json?: boolean;
}

/** Steps that rollouts are compared with the truth. */
const DEPTH = 32;
/** Episodes whose thoughts are kept for the report. */
const SHOWN = 12;

/** What stands in `result.json` of a planning evaluation. */
export interface PlanResult {
  readonly run: string;
  readonly step: number;
  readonly env: string;
  readonly episodes: number;
  readonly steps: number;
  readonly seed: number;
  readonly planner: Readonly<Record<string, unknown>>;
  readonly success: SuccessRate;
  readonly everReached: number;
  readonly meanDistance: number;
  readonly floors: Readonly<Record<'random' | 'greedy', SuccessRate>>;
  /** Milliseconds: of one plan for one environment alone, the same for each action it is used for, and of an action of many side by side. */
  readonly time: { readonly plan: number; readonly action: number; readonly actionSideBySide: number };
  readonly probe: { readonly r2: number; readonly rmse: number; readonly r2PerNumber: readonly number[] };
  readonly rollout: RolloutErrors;
  readonly seconds: number;
}

/** `jepa plan <run>` */
export async function plan(path: string, options: PlanCommandOptions): Promise<void> {
  const { episodes, seed, json = false } = options;
  const run = openWorldRun(path);
  const env = options.env ?? ownWorld(run);
  const world = usage(() => worldCalled(env));
  const planning = usage(() => settings(run, world, options));
  const factors = factorsOf(options.factor);
  const out = options.out ?? join(path, `plan-${env}`);
  const started = performance.now();
  const stage = stages();
  const interrupts = catchInterrupts(() => notice('stopping after this step; Ctrl-C again leaves at once'));
  const engine = await createEngine({ backend: run.config.train.backend, workers: options.workers });
  try {
    const model = await run.open(engine);
    stage.show('where things are, told from states');
    const probe = await probeOf(model, run, env);
    stage.show(`predictions ${DEPTH} steps ahead`);
    const rollout = await rolloutOf(model, run, env, probe);

    stage.show('floors: random and greedy actions');
    const floor = (behaviour: Parameters<typeof behaviourActor>[0]): Promise<Played> =>
      play(world, behaviourActor(behaviour, seed), { episodes, seed, steps: options.steps, factors });
    const random = await floor(randomBehaviour());
    const greedy = await floor(greedyBehaviour(run.facts.episodes?.longest));

    stage.show('compiling the planner');
    const remembered: Remembered[] = [];
    let thought: Thought | undefined;
    const actor = await planningActor(model, {
      ...planning,
      seed,
      onThought: (seen) => {
        thought = seen;
        remembered.push({ time: seen.time, places: placesOf(seen, probe, Math.min(SHOWN, episodes)) });
      },
    });
    const alone = openBatch(world, { count: 1, seed, factors });
    const planTime = await actor.latency(alone);
    stage.end();
    const steps = options.steps ?? world.steps;
    const room = createRoom({ stream: process.stderr, world, ...looksOf(process.stderr, process.env) });
    const began = performance.now();
    const played = await play(world, actor, {
      episodes,
      seed,
      steps: options.steps,
      factors,
      signal: interrupts.signal,
      onStep: (time, batch) =>
        room.show({
          time,
          steps,
          batch,
          imagined: thought && remembered.at(-1)?.places[0],
          secondsLeft: ((performance.now() - began) / 1000 / time) * (steps - time),
        }),
    });
    room.end();
    await actor.close();
    await model.close();
    if (interrupts.signal.aborted) {
      notice(`interrupted after ${played.steps} of ${steps} steps; nothing was written`);
      process.exitCode = 130;
      return;
    }
    const result: PlanResult = {
      run: path,
      step: run.step,
      env,
      episodes,
      steps: played.steps,
      seed,
      planner: described(planning),
      success: successOf(played.episodes),
      everReached: played.episodes.filter(({ everReached }) => everReached).length / episodes,
      meanDistance: played.episodes.reduce((sum, { distance }) => sum + distance, 0) / episodes,
      floors: { random: successOf(random.episodes), greedy: successOf(greedy.episodes) },
      time: {
        plan: planTime,
        action: planTime / planning.replan,
        actionSideBySide: (1000 * played.seconds) / played.steps / episodes,
      },
      probe: { r2: probe.r2, rmse: probe.rmse, r2PerNumber: probe.r2PerNumber },
      rollout,
      seconds: (performance.now() - started) / 1000,
    };
    stage.show('writing the report');
    withFileErrors('create', out, () => mkdirSync(out, { recursive: true }));
    const pages = await planReport({ result, world, played, floors: { random, greedy }, remembered, shown: SHOWN });
    await writeReport(join(out, 'report.html'), pages);
    writeFileAtomic(join(out, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
    stage.end();
    if (json) printJson({ folder: out, ...result });
    else show(result, out);
  } finally {
    stage.end();
    interrupts.release();
    await engine.close();
  }
}

function ownWorld({ config, folder }: WorldRun): string {
  const { source } = config.data;
  if (source.startsWith(PROCEDURAL)) return source.slice(PROCEDURAL.length);
  throw new UsageError(`${folder}: the run learned from ${source}, which names no world; name one with --env`);
}

/** Of sampling planners a tenth of the plans is kept. */
const ELITES = 0.1;

function settings(
  { method, facts, folder }: WorldRun,
  world: World,
  options: PlanCommandOptions,
): Omit<PlanningOptions, 'seed'> {
  const { action, observation, longest } = facts.episodes ?? { action: 0, observation: [], longest: 0 };
  if (action !== world.action.length)
    throw new UsageError(
      `${folder}: the model knows actions of ${action} numbers, ${world.name} has ${world.action.length}`,
    );
  const shown = observation.length === 3 ? world.picture : [world.state.length + world.factors.length];
  if (observation.join() !== shown.join())
    throw new UsageError(
      `${folder}: the model observes [${observation.join(', ')}], ${world.name} shows [${shown.join(', ')}]`,
    );
  const { planner, samples, horizon, iterations, std, replan, warmStart, cost } = options;
  const distance = options.distance ?? (method.config.distance ? 'learned' : 'latent');
  if (distance === 'learned' && !method.config.distance)
    throw new UsageError(
      `${folder}: this model learned no distance; use --distance latent, or train with method.distance`,
    );
  if (!(replan >= 1 && replan <= horizon))
    throw new UsageError(`--replan ${replan}: a plan has ${horizon} actions; give 1 to ${horizon}`);
  const elites = options.elites ?? Math.max(2, Math.round(ELITES * samples));
  if (!(samples >= 2 && elites >= 1 && elites <= samples))
    throw new UsageError(
      `${elites} elites of ${samples} samples: give 2 samples or more, and no more elites than samples`,
    );
  return {
    method: planner,
    horizon,
    samples,
    elites,
    iterations,
    std,
    // Plans beyond what the model has seen are guesses.
    limit: normLimit(options.limit ?? longest),
    ...(planner === 'icem' && { keptElites: Math.max(1, Math.round(elites / 4)) }),
    objective: { distance, time: cost },
    replan,
    warmStart,
  };
}

const described = ({ limit: _, ...rest }: Omit<PlanningOptions, 'seed'>): Readonly<Record<string, unknown>> => ({
  ...rest,
});

/** Episodes for the probe and for rollouts, from the world itself: runs on files can be measured too. */
const episodesOf = (run: WorldRun, env: string, frames: number, seed: number, count: number) =>
  worldEpisodes({
    world: env,
    behaviour: usualBehaviour(env),
    count,
    seed,
    observe: run.method.config.observation.length === 3 ? 'pictures' : 'states',
    frames,
    moments: 0,
  });

const probeOf = (model: LatentWorld, run: WorldRun, env: string): Promise<StateProbe> =>
  probeStates(model, episodesOf(run, env, 1, 2_000_000_011, 2048), episodesOf(run, env, 1, 3_000_000_019, 512));

const rolloutOf = (model: LatentWorld, run: WorldRun, env: string, probe: StateProbe): Promise<RolloutErrors> =>
  rolloutErrors(model, episodesOf(run, env, DEPTH + 1, 3_000_000_019, 128), probe);

/** What the probe sees along the first paths, [paths][times][numbers]. */
function placesOf({ paths }: Thought, probe: StateProbe, count: number): number[][][] {
  const [, times, width] = paths.shape;
  const numbers = probe.r2PerNumber.length;
  const kept = float32([count, times, width], paths.data.slice(0, count * times * width));
  const places = placesAlong(probe, kept);
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: times }, (_, t) =>
      Array.from(places.subarray((i * times + t) * numbers, (i * times + t + 1) * numbers)),
    ),
  );
}

function show(result: PlanResult, out: string): void {
  const { env, episodes, planner, success, floors, time, probe, rollout, everReached, meanDistance } = result;
  const percent = (share: number): string => formatFixed(100 * share, 1);
  const row = (name: string, { rate, interval: [low, high] }: SuccessRate): string[] => [
    name,
    `${percent(rate)} %`,
    `${percent(low)} to ${percent(high)}`,
  ];
  print(`${bold(env)}  ${episodes} episodes of ${result.steps} steps\n`);
  print(
    table(
      [
        ['goal reached at the end', '', '95 % interval'],
        row(
          `${planner.method}, horizon ${planner.horizon}, ${planner.samples} samples x ${planner.iterations}`,
          success,
        ),
        row('greedy: straight to the goal', floors.greedy),
        row('random actions', floors.random),
      ],
      [1, 2],
    ),
  );
  print(
    `\n${formatFixed(time.action, 1)} ms an action (${formatFixed(time.plan, 0)} ms a plan), ${formatFixed(time.actionSideBySide, 1)} ms with ${episodes} episodes side by side`,
  );
  print(`reached at any time ${percent(everReached)} %, mean distance in the end ${formatFixed(meanDistance, 1)}`);
  const { place } = rollout;
  const at = (depth: number): string =>
    place
      ? `${formatFixed(place.model[depth - 1], 1)} after ${depth}`
      : `${formatFixed(rollout.latent.model[depth - 1], 2)} after ${depth}`;
  print(
    `where things are: R2 ${formatFixed(probe.r2, 3)}, error ${formatFixed(probe.rmse, 2)}; imagined: error ${[1, 8, 16, DEPTH].map(at).join(', ')} steps`,
  );
  print(dim(`\n${join(out, 'report.html')}  the report: episodes, imagined paths, errors by depth`));
  print(dim(`${join(out, 'result.json')}  the same in numbers`));
}
