import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { UsageError } from '../base/errors.js';
import { float32 } from '../base/tensor.js';
import { PROCEDURAL } from '../data/procedural/open-node.js';
import { formatBytes, formatFixed, formatNumber } from '../report/format.js';
import { writeReport } from '../report/index.js';
import { looksOf } from '../report/live.js';
import { createEngine } from '../runtime/index.js';
import { FITTED_SEED, HELD_SEED } from '../train/episodes-node.js';
import { openWorldRun, type WorldRun } from '../train/world-node.js';
import { greedyBehaviour, randomBehaviour, usualBehaviour } from '../world/collect.js';
import { worldCalled } from '../world/envs/index.js';
import { type FactorSettings, openBatch, type World } from '../world/envs/world.js';
import { worldEpisodes } from '../world/episodes.js';
import { type LatentWorld, type Objective, observedBy } from '../world/latent.js';
import { placesAlong, probeStates, type RolloutErrors, rolloutErrors, type StateProbe } from '../world/measure.js';
import type { SamplingOptions } from '../world/planning/planner.js';
import { normLimit } from '../world/planning/sampling.js';
import {
  behaviourActor,
  type PlanningOptions,
  planningActor,
  play,
  type SuccessRate,
  successOf,
  type Thought,
} from '../world/play.js';
import {
  cutShort,
  type FactorSuccess,
  type Shift,
  type ShiftSuccess,
  shiftsOf,
  successByFactor,
} from '../world/variation.js';
import { factorsOf, usage } from './collect.js';
import { catchInterrupts } from './interrupt.js';
import { notice, print, printJson, stages } from './output.js';
import { checkPlanFolder } from './outputs.js';
import { writeFilm } from './plan-film.js';
import { filmOf, planReport, type Remembered } from './plan-report.js';
import { planText } from './plan-text.js';
import { createRoom, type Room } from './room.js';

export interface PlanCommandOptions {
  readonly env?: string;
  readonly episodes: number;
  readonly seed: number;
  readonly steps?: number;
  readonly planner: SamplingOptions['method'];
  readonly horizon?: number;
  readonly samples: number;
  readonly elites?: number;
  readonly iterations: number;
  readonly std?: number;
  readonly limit?: number;
  readonly repeat: number;
  readonly replan?: number;
  readonly warmStart: boolean;
  readonly distance?: Objective['distance'];
  readonly cost?: Objective['time'];
  readonly factor?: readonly string[];
  /** Episodes in every changed world. */
  readonly shifts?: number;
  readonly out?: string;
  readonly workers?: number;
  readonly json?: boolean;
}

/** Steps that rollouts are compared with the truth, where the model knows so many. */
const DEPTH = 32;
/** Episodes whose thoughts are kept for the report, and those of the film. */
const SHOWN = 12;
const FILMED = 6;
/** Episodes that fit into memory side by side, and states of all of them. */
const MOST_EPISODES = 2000;
const MOST_STATES = 2 ** 22;

/** What stands in `result.json` of a planning evaluation. */
export interface PlanResult {
  readonly run: string;
  /** What kind of model it is. */
  readonly model: string;
  readonly step: number;
  readonly env: string;
  /** Factors of the world that were set; null was drawn for every episode. */
  readonly set: FactorSettings;
  readonly episodes: number;
  /** Steps an episode, fewer than asked for where it was interrupted: everything is about those. */
  readonly steps: number;
  readonly stepsAsked: number;
  readonly interrupted: boolean;
  readonly seed: number;
  readonly planner: Readonly<Record<string, unknown>>;
  readonly success: SuccessRate;
  readonly everReached: number;
  readonly meanDistance: number;
  readonly floors: Readonly<Record<'random' | 'greedy', SuccessRate>>;
  /** Success by what differs between episodes; the floor is the greedy one. */
  readonly factors: readonly FactorSuccess[];
  /** Success with one factor at a time shifted, and that of as many episodes of the world as it is. */
  readonly shifted?: {
    readonly episodes: number;
    readonly usual: Omit<ShiftSuccess, keyof Shift>;
    readonly worlds: readonly ShiftSuccess[];
  };
  /** Milliseconds: of one plan for one environment alone, the same for each action it is used for, and of an action of many side by side. */
  readonly time: { readonly plan: number; readonly action: number; readonly actionSideBySide: number };
  readonly probe: { readonly r2: number; readonly rmse: number; readonly r2PerNumber: readonly number[] };
  readonly rollout: RolloutErrors;
  /** Of models that are told poses: how well these are known along plans, after 1, 2, ... actions. */
  readonly poses?: { readonly r2: readonly number[] };
  readonly seconds: number;
}

/** `jepa plan <run>` */
export async function plan(path: string, options: PlanCommandOptions): Promise<void> {
  const { episodes, seed, json = false } = options;
  const run = openWorldRun(path);
  const env = options.env ?? ownWorld(run);
  const world = usage(() => worldCalled(env));
  const planning = usage(() => settings(run, world, options));
  const factors = factorsOf(world, options.factor);
  const steps = options.steps ?? world.steps;
  if (episodes > MOST_EPISODES || episodes * (steps + 1) > MOST_STATES)
    throw new UsageError(
      `${formatFixed(episodes, 0)} episodes of ${formatFixed(steps, 0)} steps are more than are kept in memory; at most ${formatFixed(Math.min(MOST_EPISODES, Math.floor(MOST_STATES / (steps + 1))), 0)} of these at a time, others with another --seed`,
    );
  const alone = openBatch(world, { count: 1, seed, factors });
  const out = options.out ?? join(path, `plan-${env}`);
  checkPlanFolder(out);
  const made = withFileErrors('create', out, () => mkdirSync(out, { recursive: true }));
  let written = false;
  const started = performance.now();
  const stage = stages();
  let room: Room | undefined;
  const interrupts = catchInterrupts(() => {
    const what = 'stopping after this step; Ctrl-C again leaves at once';
    if (room) return room.log(what);
    stage.end();
    notice(what);
  });
  const { signal } = interrupts;
  const engine = await createEngine({ backend: run.config.train.backend, workers: options.workers });
  try {
    stage.show('opening the model');
    const model = await run.open(engine, env);
    stage.show('where things are, told from states');
    const probe = await probeOf(model, run, world, env);
    signal.throwIfAborted();
    stage.show(`predictions ${depthOf(run)} steps ahead`);
    const rollout = await rolloutOf(model, run, env, probe);
    signal.throwIfAborted();

    stage.show('floors: random and greedy actions');
    const common = { seed, steps, factors };
    const greedyBy = () => behaviourActor(greedyBehaviour(run.facts.episodes?.longest), seed);
    const wholly = {
      random: await play(world, behaviourActor(randomBehaviour(), seed), { ...common, episodes }),
      greedy: await play(world, greedyBy(), { ...common, episodes }),
    };

    stage.show('compiling the planner');
    const remembered: Remembered[] = [];
    let isRemembering = true;
    const actor = await planningActor(model, {
      ...planning,
      seed,
      onThought: (seen) => {
        if (isRemembering)
          remembered.push({ time: seen.time, places: placesOf(seen, probe, Math.min(SHOWN, episodes)) });
      },
    });
    const planTime = await actor.latency(alone);
    signal.throwIfAborted();
    stage.end();
    room = createRoom({ stream: process.stderr, world, ...looksOf(process.stderr, process.env) });
    const began = performance.now();
    const played = await play(world, actor, {
      ...common,
      episodes,
      signal,
      onStep: (time, batch) =>
        room?.show({
          time,
          steps,
          batch,
          imagined: remembered.at(-1)?.places[0],
          secondsLeft: ((performance.now() - began) / 1000 / time) * (steps - time),
        }),
    });
    room.end();
    room = undefined;
    if (played.steps === 0) signal.throwIfAborted();

    isRemembering = false;
    const shifts = options.shifts && !signal.aborted ? shiftsOf(world, factors) : [];
    const worlds: ShiftSuccess[] = [];
    for (const [i, { factor, value }] of shifts.entries()) {
      const what = `changed world ${i + 1} of ${shifts.length}: ${factor} ${formatNumber(value)}`;
      stage.show(what);
      const shifted = { ...common, episodes: options.shifts as number, factors: { ...factors, [factor]: value } };
      const floor = await play(world, greedyBy(), shifted);
      const onStep = (time: number): void => stage.update(`${what}, step ${time}/${steps}`);
      const reached = await play(world, actor, { ...shifted, signal, onStep });
      // Half an episode is no measurement.
      if (signal.aborted) break;
      worlds.push({ factor, value, success: successOf(reached.episodes), floor: successOf(floor.episodes) });
    }
    await actor.close();
    await model.close();

    const floors = {
      random: cutShort(world, wholly.random.episodes, played.steps),
      greedy: cutShort(world, wholly.greedy.episodes, played.steps),
    };
    const first = options.shifts ? Math.min(options.shifts, episodes) : 0;
    const result: PlanResult = {
      run: path,
      model: run.outline.title,
      step: run.step,
      env,
      set: factors,
      episodes,
      steps: played.steps,
      stepsAsked: steps,
      interrupted: signal.aborted,
      seed,
      planner: described(planning),
      success: successOf(played.episodes),
      everReached: played.episodes.filter(({ everReached }) => everReached).length / episodes,
      meanDistance: played.episodes.reduce((sum, { distance }) => sum + distance, 0) / episodes,
      floors: { random: successOf(floors.random), greedy: successOf(floors.greedy) },
      factors: successByFactor(world, factors, played.episodes, floors.greedy),
      ...(worlds.length > 0 && {
        shifted: {
          episodes: options.shifts as number,
          usual: {
            success: successOf(played.episodes.slice(0, first)),
            floor: successOf(floors.greedy.slice(0, first)),
          },
          worlds,
        },
      }),
      time: {
        plan: planTime,
        action: planTime / planning.replan / (planning.repeat ?? 1),
        actionSideBySide: (1000 * played.seconds) / played.steps / episodes,
      },
      probe: { r2: probe.r2, rmse: probe.rmse, r2PerNumber: probe.r2PerNumber },
      rollout,
      ...(model.model.pose && { poses: { r2: model.model.pose.r2 } }),
      seconds: (performance.now() - started) / 1000,
    };
    stage.show('drawing the episodes');
    const films = await writeFilm(out, filmOf(world, played, remembered, Math.min(FILMED, episodes)), notice);
    const results = { path: 'result.json', what: 'the same in numbers' };
    const report = planReport({
      ...{ result, world, played, greedy: floors.greedy, remembered },
      shown: SHOWN,
      files: [...films, results],
    });
    await writeReport(join(out, 'report.html'), report);
    writeFileAtomic(join(out, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
    written = true;
    stage.end();
    const about = { path: 'report.html', what: 'the report: episodes, imagined paths, errors by depth' };
    if (json) printJson({ folder: out, ...result });
    else
      print(
        planText(
          result,
          [about, ...films, results].map((file) => ({ ...file, path: join(out, file.path) })),
        ),
      );
    if (!signal.aborted) return;
    notice(
      played.steps < steps
        ? `interrupted after ${played.steps} of ${steps} steps; what is told is of those`
        : `interrupted; ${worlds.length} of ${shifts.length} changed worlds were measured, everything else is complete`,
    );
    process.exitCode = 130;
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    stage.end();
    notice('interrupted before the first step; nothing was written');
    process.exitCode = 130;
  } finally {
    stage.end();
    interrupts.release();
    await engine.close();
    if (made && !written) rmSync(made, { recursive: true, force: true });
  }
}

function ownWorld({ config, folder }: WorldRun): string {
  const { source } = config.data;
  if (source.startsWith(PROCEDURAL)) return source.slice(PROCEDURAL.length);
  throw new UsageError(`${folder}: the run learned from ${source}, which names no world; name one with --env`);
}

/** Actions of a plan, and how many of them are carried out, where nothing else is asked for. */
const [HORIZON, REPLAN] = [30, 4];
/** Of sampling planners a tenth of the plans is kept. */
const ELITES = 0.1;
/** First spread of plans, in lengths of the longest action. */
const SPREAD = 5 / 6;
/** Imagined states of one search: 1 GiB. */
const MOST_NUMBERS = 2 ** 28;

function settings(
  { outline, facts, folder }: WorldRun,
  world: World,
  options: PlanCommandOptions,
): Omit<PlanningOptions, 'seed'> {
  const { actions, observation, told, footprint, furthest = Number.POSITIVE_INFINITY } = outline;
  const longest = facts.episodes?.longest ?? 0;
  if (actions !== world.action.length)
    throw new UsageError(
      `${folder}: the model knows actions of ${actions} numbers, ${world.name} has ${world.action.length}`,
    );
  const shown = observation.length === 3 ? world.picture : [world.state.length + world.factors.length];
  if (observation.join() !== shown.join())
    throw new UsageError(
      `${folder}: the model observes [${observation.join(', ')}], ${world.name} shows [${shown.join(', ')}]`,
    );
  if (told > world.state.length)
    throw new UsageError(
      `${folder}: the model is told poses of ${told} numbers, states of ${world.name} have ${world.state.length}; plan in a world that gives such poses, or train with method.pose=${world.state.length} or less`,
    );
  if (world.goal === 0) throw new UsageError(`${world.name} has no goals that could be planned for`);
  const { planner, samples, iterations, repeat, warmStart } = options;
  const horizon = options.horizon ?? Math.max(1, Math.min(HORIZON, Math.floor(furthest / repeat)));
  const replan = options.replan ?? Math.min(REPLAN, horizon);
  if (horizon * repeat > furthest)
    throw new UsageError(
      `${folder}: the model learned from windows of ${furthest + 1} observations, plans have ${furthest} steps at most, not ${horizon * repeat}; lower --horizon or --repeat`,
    );
  // Plans beyond what the model has seen are guesses.
  const limit = options.limit ?? longest;
  const distance = options.distance ?? outline.objective.distance;
  const time = options.cost ?? outline.objective.time;
  if (distance === 'learned' && !outline.isDistanceLearned)
    throw new UsageError(
      `${folder}: this model learned no distance; use --distance latent, or train with method.distance`,
    );
  if (!(replan >= 1 && replan <= horizon))
    throw new UsageError(`--replan ${replan}: a plan has ${horizon} actions; give 1 to ${horizon}, or --horizon too`);
  const elites = options.elites ?? Math.max(2, Math.round(ELITES * samples));
  const fewest = planner === 'cem' || planner === 'icem' ? 2 : 1;
  if (!(samples >= 2 && elites >= fewest && elites <= samples))
    throw new UsageError(
      `${elites} elites of ${samples} samples: give 2 samples or more, ${fewest} elites or more, and no more elites than samples`,
    );
  const numbers = samples * (horizon * repeat + 1) * footprint;
  if (numbers > MOST_NUMBERS)
    throw new UsageError(
      `${samples} samples of ${horizon * repeat} steps are ${formatBytes(4 * numbers)} of imagined states; ${formatBytes(4 * MOST_NUMBERS)} are the most: lower --samples, --horizon or --repeat`,
    );
  return {
    method: planner,
    horizon,
    samples,
    elites,
    iterations,
    std: options.std ?? SPREAD * limit,
    limit: normLimit(limit),
    ...(planner === 'icem' && { keptElites: Math.max(1, Math.round(elites / 4)) }),
    objective: { distance, time },
    repeat,
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
    observe: observedBy(run.outline),
    frames,
    moments: 0,
  });

/** Of what goals are made of: hidden numbers of a state (speeds, impulses) are in no picture. */
const probeOf = (model: LatentWorld, run: WorldRun, world: World, env: string): Promise<StateProbe> =>
  probeStates(model, episodesOf(run, env, 1, FITTED_SEED, 2048), episodesOf(run, env, 1, HELD_SEED, 512), world.goal);

const depthOf = ({ outline: { furthest = DEPTH } }: WorldRun): number => Math.min(DEPTH, furthest);

const rolloutOf = (model: LatentWorld, run: WorldRun, env: string, probe: StateProbe): Promise<RolloutErrors> =>
  rolloutErrors(model, episodesOf(run, env, depthOf(run) + 1, HELD_SEED, 128), probe);

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
