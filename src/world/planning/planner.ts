import { JepaError } from '../../base/errors.js';
import type { Random } from '../../base/random.js';
import { float32, type HostTensor } from '../../base/tensor.js';
import { add, mul } from '../../graph/ops/elementwise.js';
import { gatherComputed, topk } from '../../graph/ops/index.js';
import { broadcastTo, expandDims, narrow, reshape } from '../../graph/ops/move.js';
import { input, type Tensor } from '../../graph/tensor.js';
import { adam } from '../../optim/adam.js';
import type { Engine, Feeds, State } from '../../runtime/index.js';
import { descend } from './gradient.js';
import type { PathModel } from './objectives.js';
import {
  cemStep,
  colouredNoise,
  type Distribution,
  mppiStep,
  type PlanLimit,
  predictiveSampling,
  type Searched,
} from './sampling.js';

/** A model to plan with: its states are vectors; pictures are encoded before, once for all plans. */
export interface PlanningModel {
  /** Numbers of a state, of an action. */
  readonly width: number;
  readonly actions: number;
  /** Of every future, where a latent variable chooses between several: a plan costs the mean over all. */
  readonly futures: readonly PathModel[];
  /** Costs [envs, samples] of states along plans [envs, samples, horizon + 1, width] (the current one first). */
  readonly cost: (path: Tensor, goal: Tensor, plans: Tensor) => Tensor;
}

export interface SamplingOptions {
  readonly method: 'cem' | 'icem' | 'mppi' | 'predictive' | 'gradient';
  readonly horizon: number;
  readonly samples: number;
  readonly elites: number;
  readonly iterations: number;
  /** Iterations that one graph execution makes; more of them make its graph longer. 1 by default, all of `gradient`. */
  readonly iterationsPerRun?: number;
  /** First deviation of every number of an action. */
  readonly std: number;
  readonly limit?: PlanLimit;
  readonly meanFirst?: boolean;
  /** Share of the old distribution that stays (CEM, iCEM). */
  readonly keep?: number;
  /** Elites of one iteration that are tried again in the next (iCEM; within one execution). */
  readonly keptElites?: number;
  /** Exponent of iCEM's noise. */
  readonly beta?: number;
  /** Of MPPI. */
  readonly temperature?: number;
  readonly rule?: 'multiply' | 'divide';
  readonly spread?: 'fixed' | 'weighted';
  /** Rate of Adam (gradient): how far a number of an action moves in an iteration, about. */
  readonly lr?: number;
  /** An action is held for this many steps of the model. */
  readonly repeat?: number;
}

export interface PlanQuery {
  /** Encoded states and goals [envs, width]. */
  readonly states: HostTensor<'float32'>;
  readonly goals: HostTensor<'float32'>;
  /** Where the search begins, [envs, horizon, actions]: what is left of the last plan. Zeros by default. */
  readonly start?: HostTensor<'float32'>;
  readonly random: Random;
}

export interface PlanAnswer {
  /** Means of the last distribution, [envs, horizon, actions]. */
  readonly plans: HostTensor<'float32'>;
  /** The cheapest plan of the last iteration, and its cost [envs]. */
  readonly best: HostTensor<'float32'>;
  readonly costs: Float32Array;
}

export interface Planner {
  plan(query: PlanQuery): Promise<PlanAnswer>;
  /** Graph executions that one plan takes. */
  readonly executions: number;
  close(): Promise<void>;
}

/** Holds every action of plans for `repeat` steps: [envs, samples, horizon, n] -> [envs, samples, horizon * repeat, n]. */
export function repeatActions(plans: Tensor, repeat: number): Tensor {
  if (repeat === 1) return plans;
  const [envs, samples, horizon, numbers] = plans.shape;
  const held = broadcastTo(expandDims(plans, 3), [envs, samples, horizon, repeat, numbers]);
  return reshape(held, [envs, samples, (horizon as number) * repeat, numbers]);
}

/** Costs [envs, samples] of plans [envs, samples, horizon, actions] from states [envs, width]; every action is held for `repeat` steps. */
function costsOf(model: PlanningModel, now: Tensor, goal: Tensor, plans: Tensor, repeat = 1): Tensor {
  const held = repeatActions(plans, repeat);
  const costs = model.futures.map((paths) => model.cost(paths(now, held), goal, plans));
  return costs.length === 1 ? costs[0] : mul(costs.reduce(add), 1 / costs.length);
}

/**
 * Opens a sampling planner for any number of environments at a time (the batch of its program): the roll-out of all samples
 * over the horizon, the choice of elites and the next distribution are one graph. `state` holds the model's weights.
 */
export async function openPlanner(
  engine: Engine,
  state: State,
  model: PlanningModel,
  options: SamplingOptions,
): Promise<Planner> {
  const { method, horizon, samples, elites, iterations, iterationsPerRun = 1, repeat } = options;
  const { width, actions } = model;
  if (!(elites >= (method === 'cem' || method === 'icem' ? 2 : 1) && elites <= samples))
    throw new JepaError(
      `planner: ${elites} elites of ${samples} samples; it needs 2 or more, and no more than samples`,
    );
  if (iterations % iterationsPerRun !== 0)
    throw new JepaError(`planner: ${iterations} iterations are no multiple of the ${iterationsPerRun} of an execution`);
  if (method === 'gradient') return openGradientPlanner(engine, state, model, options);
  const now = input('now', ['batch', width]);
  const goal = expandDims(input('goal', ['batch', width]), [1, 2]);
  const shape = ['batch', horizon, actions];
  const first: Distribution = { mean: input('mean', shape), std: input('std', shape) };
  const cost = (plans: Tensor): Tensor => costsOf(model, now, goal, plans, repeat);
  let at = first;
  let found: Searched | undefined;
  let kept: Tensor | undefined;
  for (let i = 0; i < iterationsPerRun; i++) {
    const noise = input(`noise ${i}`, ['batch', samples, horizon, actions]);
    const draw = { elites, limit: options.limit, meanFirst: options.meanFirst };
    if (method === 'mppi') {
      const { temperature = 0.5, rule = 'divide', spread = 'weighted' } = options;
      found = mppiStep(at, noise, cost, { ...draw, temperature, rule, spread });
    } else if (method === 'predictive') {
      found = predictiveSampling(at.mean, noise, cost, options.std, options.limit);
    } else {
      found = cemStep(at, noise, cost, { ...draw, keepMean: options.keep, keepStd: options.keep }, kept);
      const count = options.keptElites ?? 0;
      kept = method === 'icem' && count > 0 ? narrow(found.elitePlans, 1, 0, count) : undefined;
    }
    at = found;
  }
  const { elitePlans, eliteCosts } = found as Searched;
  const program = await engine.compile(
    {
      name: 'planner',
      outputs: {
        mean: at.mean,
        std: at.std,
        best: reshape(narrow(elitePlans, 1, 0, 1), [elitePlans.shape[0], horizon, actions]),
        cost: reshape(narrow(eliteCosts, 1, 0, 1), [eliteCosts.shape[0]]),
      },
    },
    state,
  );
  const runs = iterations / iterationsPerRun;
  return {
    executions: runs,
    async plan({ states, goals, start, random }) {
      const [envs] = states.shape;
      const size = envs * horizon * actions;
      let mean = start ?? float32([envs, horizon, actions], new Float32Array(size));
      let std = float32([envs, horizon, actions], new Float32Array(size).fill(options.std));
      let last: Feeds = {};
      for (let run = 0; run < runs; run++) {
        const noise: Record<string, HostTensor<'float32'>> = {};
        for (let i = 0; i < iterationsPerRun; i++) noise[`noise ${i}`] = drawNoise(random, envs, options, actions);
        const { outputs } = await program.run({ now: states, goal: goals, mean, std, ...noise });
        mean = outputs.mean as HostTensor<'float32'>;
        std = outputs.std as HostTensor<'float32'>;
        last = outputs;
      }
      return { plans: mean, best: last.best as HostTensor<'float32'>, costs: last.cost.data as Float32Array };
    },
    close: () => program.close(),
  };
}

/**
 * Adam down the gradient of the cost from several starts at once; the cheapest plan in the end is the answer. All iterations are one
 * execution unless `iterationsPerRun` says how many: the graph of long searches would be long to compile.
 */
async function openGradientPlanner(
  engine: Engine,
  state: State,
  model: PlanningModel,
  options: SamplingOptions,
): Promise<Planner> {
  const { horizon, samples, iterations, iterationsPerRun = iterations, std, limit, lr = 0.1, repeat } = options;
  const { width, actions } = model;
  const rule = adam();
  const now = input('now', ['batch', width]);
  const goal = expandDims(input('goal', ['batch', width]), [1, 2]);
  const cost = (plans: Tensor): Tensor => costsOf(model, now, goal, plans, repeat);
  const part = ['batch', samples, horizon, actions];
  const start = input('plans', part);
  const from = {
    slots: Object.fromEntries(rule.slots.map((name) => [name, input(name, part)])),
    scalars: Array.from({ length: iterationsPerRun }, (_, i) =>
      Object.fromEntries(rule.scalars.map((name) => [name, input(`${name} ${i}`, [])])),
    ),
  };
  const { plans, slots } = descend(limit ? limit(start) : start, cost, {
    ...{ rule, lr, from, steps: iterationsPerRun },
    project: limit,
  });
  const { values, indices } = topk(cost(plans), 1, 1, false);
  const program = await engine.compile(
    {
      name: 'planner',
      outputs: {
        ...slots,
        plans,
        best: reshape(gatherComputed(plans, indices), ['batch', horizon, actions]),
        cost: reshape(values, ['batch']),
      },
    },
    state,
  );
  const runs = iterations / iterationsPerRun;
  return {
    executions: runs,
    async plan({ states, goals, start: given, random }) {
      const [envs] = states.shape;
      const size = horizon * actions;
      const shape = [envs, samples, horizon, actions];
      const noise = drawNoise(random, envs, options, actions);
      // The first start is the plan that was given.
      const first = noise.data.map((value, i) => {
        const [row, at] = [Math.floor(i / size), i % size];
        const mean = given?.data[Math.floor(row / samples) * size + at] ?? 0;
        return row % samples === 0 ? mean : mean + std * value;
      });
      let last: Feeds = { plans: float32(shape, first) };
      for (const name of rule.slots) last = { ...last, [name]: float32(shape, new Float32Array(first.length)) };
      for (let run = 0; run < runs; run++) {
        const scalars = Array.from({ length: iterationsPerRun }, (_, i) =>
          Object.entries(rule.scalarsAt(run * iterationsPerRun + i + 1, { lr, weightDecay: 0 })).map(
            ([name, value]) => [`${name} ${i}`, float32([], [value])] as const,
          ),
        );
        const carried = Object.fromEntries(['plans', ...rule.slots].map((name) => [name, last[name]]));
        const feeds = { now: states, goal: goals, ...carried, ...Object.fromEntries(scalars.flat()) };
        last = (await program.run(feeds)).outputs;
      }
      const best = last.best as HostTensor<'float32'>;
      return { plans: best, best, costs: last.cost.data as Float32Array };
    },
    close: () => program.close(),
  };
}

function drawNoise(
  random: Random,
  envs: number,
  { method, samples, horizon, beta = 2 }: SamplingOptions,
  actions: number,
): HostTensor<'float32'> {
  const rows = envs * samples;
  const white = new Float32Array(rows * horizon * actions);
  random.fillNormal(white, 0, 1);
  const shape = [envs, samples, horizon, actions];
  if (method !== 'icem' || horizon < 2) return float32(shape, white);
  const { noise } = colouredNoise(white, horizon, beta);
  const turned = new Float32Array(noise.length);
  for (let row = 0; row < rows; row++) {
    for (let a = 0; a < actions; a++) {
      for (let t = 0; t < horizon; t++)
        turned[(row * horizon + t) * actions + a] = noise[(row * actions + a) * horizon + t];
    }
  }
  return float32(shape, turned);
}

/** Plans [envs, horizon, actions] shifted by the actions that were carried out, zeros behind: a warm start. */
export function shifted({ shape, data }: HostTensor<'float32'>, done: number): HostTensor<'float32'> {
  const [envs, horizon, actions] = shape;
  const moved = new Float32Array(data.length);
  const size = horizon * actions;
  for (let env = 0; env < envs; env++)
    moved.set(data.subarray(env * size + Math.min(done, horizon) * actions, (env + 1) * size), env * size);
  return float32(shape, moved);
}

/** Costs of plans of one environment, [samples, horizon, actions]; the samples are the batch, shared by all threads. */
export interface PlanScores {
  costs(state: HostTensor<'float32'>, goal: HostTensor<'float32'>, plans: HostTensor<'float32'>): Promise<Float32Array>;
  close(): Promise<void>;
}

/** For planners on the host (`crossEntropyMethod`, `beamSearch`): states and goals are [width]. */
export async function openPlanScores(
  engine: Engine,
  state: State,
  model: PlanningModel,
  horizon: number,
): Promise<PlanScores> {
  const { width, actions } = model;
  const goal = expandDims(input('goal', [width]), [0, 1, 2]);
  const plans = expandDims(input('plans', ['batch', horizon, actions]), 1);
  const now = broadcastTo(expandDims(input('now', [width]), 0), ['batch', width]);
  const costs = costsOf(model, now, goal, plans);
  const program = await engine.compile(
    { name: 'costs of plans', outputs: { costs: reshape(costs, [costs.shape[0]]) } },
    state,
  );
  return {
    costs: async (seen, wanted, given) => {
      const { outputs } = await program.run({ now: seen, goal: wanted, plans: given });
      return outputs.costs.data as Float32Array;
    },
    close: () => program.close(),
  };
}
