import { JepaError } from '../base/errors.js';
import { createRandom, type Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { type Interval, wilson } from '../eval/intervals.js';
import type { Behaviour } from './collect.js';
import { type Batch, type FactorSettings, openBatch, type World } from './envs/world.js';
import { encodeGoals, encodeNow, type LatentWorld, type Objective, planningModel } from './latent.js';
import { controller } from './planning/control.js';
import { openPlanner, type SamplingOptions } from './planning/planner.js';

/** Episodes of a world under somebody who wants to reach their goals: a behaviour, or a planner with a model. */

export interface Actor {
  readonly name: string;
  /** Actions [count, numbers] of all environments; called once a step. */
  act(batch: Batch, time: number): Promise<ArrayLike<number>>;
}

/** What an actor had in mind when it planned: for pictures. */
export interface Thought {
  readonly time: number;
  /** Imagined states of every environment, [count, steps + 1, width]. */
  readonly paths: HostTensor<'float32'>;
}

export interface PlayedEpisode {
  readonly factors: Float64Array;
  readonly goal: Float64Array;
  /** [steps + 1, numbers] */
  readonly states: Float64Array;
  /** Distance to the goal at the end, whether that counts as reached, and whether it was reached at any time. */
  readonly distance: number;
  readonly success: boolean;
  readonly everReached: boolean;
}

export interface PlayOptions {
  readonly episodes: number;
  readonly seed: number;
  /** Actions an episode; the world's own number by default. */
  readonly steps?: number;
  readonly factors?: FactorSettings;
  /** Told after every step; `batch` is not to be changed. */
  readonly onStep?: (time: number, batch: Batch) => void;
  readonly signal?: AbortSignal;
}

export interface Played {
  readonly actor: string;
  readonly episodes: readonly PlayedEpisode[];
  readonly steps: number;
  /** Seconds in the actor. */
  readonly seconds: number;
}

/** Runs episodes side by side. The same seed gives the same layouts, starts and goals to every actor. Stopped ones are cut short. */
export async function play(world: World, actor: Actor, options: PlayOptions): Promise<Played> {
  const { episodes, seed, factors, onStep, signal } = options;
  const steps = options.steps ?? world.steps;
  const batch = openBatch(world, { count: episodes, seed, factors });
  const width = world.state.length;
  const paths = Array.from({ length: episodes }, () => new Float64Array((steps + 1) * width));
  const note = (time: number): void => {
    for (const [i, path] of paths.entries()) path.set(batch.states.subarray(i * width, (i + 1) * width), time * width);
  };
  const ever = new Uint8Array(episodes);
  let seconds = 0;
  let time = 0;
  note(0);
  for (; time < steps && !signal?.aborted; time++) {
    const started = performance.now();
    const actions = await actor.act(batch, time);
    seconds += (performance.now() - started) / 1000;
    batch.step(actions);
    note(time + 1);
    for (const [i, reached] of batch.outcome().successes.entries()) ever[i] |= reached;
    onStep?.(time + 1, batch);
  }
  const { distances, successes } = batch.outcome();
  return {
    actor: actor.name,
    steps: time,
    seconds,
    episodes: paths.map((path, i) => ({
      factors: batch.factors.slice(i * world.factors.length, (i + 1) * world.factors.length),
      goal: batch.goals.slice(i * world.goal, (i + 1) * world.goal),
      states: path.subarray(0, (time + 1) * width),
      distance: distances[i],
      success: successes[i] === 1,
      everReached: ever[i] === 1,
    })),
  };
}

export interface SuccessRate {
  readonly successes: number;
  readonly episodes: number;
  readonly rate: number;
  /** Wilson, 95 %. */
  readonly interval: Interval;
}

export function successOf(episodes: readonly PlayedEpisode[]): SuccessRate {
  const successes = episodes.filter(({ success }) => success).length;
  return {
    successes,
    episodes: episodes.length,
    rate: successes / episodes.length,
    interval: wilson(successes, episodes.length),
  };
}

/** A behaviour as an actor: the floors that planners are compared with. */
export function behaviourActor(behaviour: Behaviour, seed: number): Actor {
  let running: { readonly act: ReturnType<Behaviour['begin']>; readonly random: Random }[] = [];
  return {
    name: behaviour.name,
    async act(batch, time) {
      const { world, count, states, goals, factors } = batch;
      const of = (i: number, random: Random) => ({
        state: states.subarray(i * world.state.length, (i + 1) * world.state.length),
        goal: goals.subarray(i * world.goal, (i + 1) * world.goal),
        factors: factors.subarray(i * world.factors.length, (i + 1) * world.factors.length),
        time,
        random,
      });
      if (time === 0) {
        const all = createRandom(seed, 'actor', behaviour.name);
        running = Array.from({ length: count }, (_, i) => {
          const random = all.split(i);
          return { act: behaviour.begin(of(i, random), world), random };
        });
      }
      return Float64Array.from(running.flatMap(({ act, random }, i) => Array.from(act(of(i, random)))));
    },
  };
}

// Planning -------------------------------------------------------------------------------------------------------------------

export interface PlanningOptions extends SamplingOptions {
  readonly objective: Objective;
  /** Actions of a plan that are carried out (each for `repeat` steps) before the next plan. */
  readonly replan: number;
  /** The rest of a plan starts the next one. */
  readonly warmStart: boolean;
  readonly seed: number;
  /** Told what was planned, with the imagined paths. */
  readonly onThought?: (thought: Thought) => void;
}

export interface PlanningActor extends Actor {
  /** Plans that were made (for one environment each), and seconds that they took. */
  readonly spent: { plans: number; seconds: number };
  /** Milliseconds of one plan for one environment: what an agent by itself waits for, encoding included. */
  latency(batch: Batch): Promise<number>;
  close(): Promise<void>;
}

/** Numbers in memory for all imagined states of a search at most: environments beyond are planned for later. */
const MOST_NUMBERS = 2 ** 25;

/** Plans in the model's states: the frame is encoded once, the search is a few graph executions for all environments. */
export async function planningActor(latent: LatentWorld, options: PlanningOptions): Promise<PlanningActor> {
  const { horizon, samples, repeat = 1, replan, warmStart, onThought } = options;
  const { engine, state, model } = latent;
  const { actions, footprint } = model;
  if (!(replan >= 1 && replan <= horizon))
    throw new JepaError(
      `plan: ${replan} actions of plans of ${horizon} cannot be carried out; set --replan to 1 .. ${horizon}`,
    );
  const planner = await openPlanner(engine, state, planningModel(model, options.objective), options);
  const random = createRandom(options.seed, 'planner');
  const atOnce = Math.max(1, Math.floor(MOST_NUMBERS / (samples * (horizon * repeat + 1) * footprint)));
  const spent = { plans: 0, seconds: 0 };
  const part = (
    { shape: [, ...size], data }: HostTensor<'float32'>,
    rows: readonly number[],
  ): HostTensor<'float32'> => {
    const length = size.reduce((a, b) => a * b, 1);
    const out = new Float32Array(rows.length * length);
    for (const [i, row] of rows.entries()) out.set(data.subarray(row * length, (row + 1) * length), i * length);
    return float32([rows.length, ...size], out);
  };

  /** Plans [envs, horizon, actions] for encoded states and goals. */
  async function search(
    states: HostTensor<'float32'>,
    goals: HostTensor<'float32'>,
    start: HostTensor<'float32'> | undefined,
  ): Promise<HostTensor<'float32'>> {
    const [envs] = states.shape;
    const plans = new Float32Array(envs * horizon * actions);
    for (let from = 0; from < envs; from += atOnce) {
      const rows = Array.from({ length: Math.min(atOnce, envs - from) }, (_, i) => from + i);
      const found = await planner.plan({
        states: part(states, rows),
        goals: part(goals, rows),
        ...(start && { start: part(start, rows) }),
        random,
      });
      plans.set(found.plans.data, from * horizon * actions);
    }
    return float32([envs, horizon, actions], plans);
  }

  let goals: HostTensor<'float32'> | undefined;
  let run: ReturnType<typeof controller<number>> | undefined;
  let seen: Batch | undefined;
  let now = 0;
  return {
    name: options.method,
    spent,
    async act(batch, time) {
      if (time === 0) {
        goals = await encodeGoals(latent, batch);
        seen = batch;
        run = controller<number>(
          { count: batch.count, width: actions, horizon, receding: replan, block: repeat, warmStart, history: 1 },
          async ({ envs, start }) => {
            const began = performance.now();
            const states = part(await encodeNow(latent, seen as Batch), envs);
            const rest = start?.map((row) => released(row, repeat, actions));
            const first = rest && float32([envs.length, horizon, actions], padded(rest, horizon * actions));
            const plans = held(await search(states, part(goals as HostTensor<'float32'>, envs), first), repeat);
            spent.plans += envs.length;
            spent.seconds += (performance.now() - began) / 1000;
            onThought?.({ time: now, paths: await latent.imagine(states, plans) });
            const size = horizon * repeat * actions;
            return envs.map((_, i) => plans.data.subarray(i * size, (i + 1) * size));
          },
        );
      }
      now = time;
      const chosen = await (run as NonNullable<typeof run>).act({
        frames: Array.from({ length: batch.count }, (_, i) => i),
      });
      return Float64Array.from(chosen.flatMap((action) => Array.from(action as Float64Array)));
    },
    async latency(batch) {
      const times: number[] = [];
      for (let i = 0; i < 5; i++) {
        const began = performance.now();
        const states = await encodeNow(latent, batch, 1);
        await search(states, states, undefined);
        times.push(performance.now() - began);
      }
      return times.sort((a, b) => a - b)[2];
    },
    close: () => planner.close(),
  };
}

/** Plans [envs, horizon, numbers] with every action held: [envs, horizon * repeat, numbers]. */
function held({ shape: [envs, horizon, numbers], data }: HostTensor<'float32'>, repeat: number): HostTensor<'float32'> {
  const out = new Float32Array(data.length * repeat);
  for (let step = 0; step < envs * horizon * repeat; step++) {
    const from = Math.floor(step / repeat) * numbers;
    out.set(data.subarray(from, from + numbers), step * numbers);
  }
  return float32([envs, horizon * repeat, numbers], out);
}

/** The other way: of actions that are each held, every one once. */
function released(row: ArrayLike<number>, repeat: number, numbers: number): Float32Array {
  return Float32Array.from(
    { length: row.length / repeat },
    (_, i) => row[Math.floor(i / numbers) * repeat * numbers + (i % numbers)],
  );
}

function padded(rows: readonly ArrayLike<number>[], size: number): Float32Array {
  const out = new Float32Array(rows.length * size);
  for (const [i, row] of rows.entries()) out.set(row, i * size);
  return out;
}
