import { JepaError } from '../base/errors.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import { type Scaling, scale } from '../data/episodes/scaling.js';
import { expandDims, reshape } from '../graph/ops/move.js';
import { input, type Tensor } from '../graph/tensor.js';
import { encoderInputs } from '../methods/method.js';
import type { Engine, Program, State } from '../runtime/index.js';
import { potentialsOf, stepsBetween } from './distance.js';
import type { Batch } from './envs/world.js';
import { observeStates } from './episodes.js';
import { goalDistances, overTime, rollOutPlans } from './planning/objectives.js';
import type { PlanningModel } from './planning/planner.js';
import { futuresOf, nextStates, stateWidth, type WorldModelMethod } from './world-model.js';

/** A trained world model in use: observations become states, states and plans become imagined paths. */
export interface LatentWorld {
  readonly engine: Engine;
  readonly state: State;
  readonly method: WorldModelMethod;
  /** Numbers of a state. */
  readonly width: number;
  /** Raw observations [count, ...observation] -> states [count, width]. */
  encode(observations: Uint8Array | Float32Array): Promise<HostTensor<'float32'>>;
  /**
   * States [count, width] along plans [count, steps, numbers]: [count, steps + 1, width], the given ones first; in future 0 of those
   * that a latent variable chooses between, or in another one.
   */
  imagine(states: HostTensor<'float32'>, plans: HostTensor<'float32'>, future?: number): Promise<HostTensor<'float32'>>;
  close(): Promise<void>;
}

/** Observations that are encoded at a time. */
const CHUNK = 256;

/** Opens a world model whose weights are in `state`; `scaling` is that of its training. */
export async function openLatentWorld(
  engine: Engine,
  state: State,
  method: WorldModelMethod,
  scaling: Scaling,
): Promise<LatentWorld> {
  const { encoder, config, modules } = method;
  const width = stateWidth(config.encoder);
  const [, ...plane] = config.observation;
  const size = sizeOf(config.observation);
  const seen = encoderInputs(encoder);
  const [name] = Object.keys(seen);
  const encoding = await engine.compile({ name: 'encoder', outputs: { states: encoder.represent(seen) } }, state);
  const imagining = new Map<string, Program>();
  const imaginer = async (steps: number, future: number): Promise<Program> => {
    const key = `${steps} steps, future ${future}`;
    const known = imagining.get(key);
    if (known) return known;
    const plans = expandDims(input('plans', ['batch', steps, config.actions]), 1);
    const path = rollOutPlans(input('states', ['batch', width]), plans, nextStates(modules, config, future));
    const paths = reshape(path, [path.shape[0], steps + 1, width]);
    const program = await engine.compile({ name: 'imagination', outputs: { paths } }, state);
    imagining.set(key, program);
    return program;
  };
  return {
    engine,
    state,
    method,
    width,
    async encode(observations) {
      const count = observations.length / size;
      if (!Number.isInteger(count))
        throw new JepaError(
          `world model: ${observations.length} numbers are no whole number of observations [${config.observation.join(', ')}]`,
        );
      const states = new Float32Array(count * width);
      for (let from = 0; from < count; from += CHUNK) {
        const to = Math.min(count, from + CHUNK);
        const values = scale(observations.subarray(from * size, to * size), sizeOf(plane), scaling);
        const { outputs } = await encoding.run({ [name]: float32([to - from, ...config.observation], values) });
        states.set(outputs.states.data as Float32Array, from * width);
      }
      return float32([count, width], states);
    },
    async imagine(states, plans, future = 0) {
      const program = await imaginer(plans.shape[1], future);
      return (await program.run({ states, plans })).outputs.paths as HostTensor<'float32'>;
    },
    async close() {
      await encoding.close();
      for (const program of imagining.values()) await program.close();
    },
  };
}

/** What environments show now, as the model observes them. */
export const observe = ({ method }: LatentWorld, batch: Batch): Uint8Array | Float32Array =>
  method.config.observation.length === 3 ? batch.render() : numbersOf(batch, batch.states);

/** What they would show at their goals. */
export function observeGoals({ method }: LatentWorld, batch: Batch): Uint8Array | Float32Array {
  if (method.config.observation.length === 3) return batch.renderGoals();
  const states = batch.states.slice();
  const [width, goal] = [batch.world.state.length, batch.world.goal];
  for (let i = 0; i < batch.count; i++) states.set(batch.goals.subarray(i * goal, (i + 1) * goal), i * width);
  return numbersOf(batch, states);
}

function numbersOf({ world, count, factors }: Batch, states: Float64Array): Float32Array {
  const [width, more] = [world.state.length, world.factors.length];
  const out = new Float32Array(count * (width + more));
  for (let i = 0; i < count; i++) {
    const own = observeStates(
      world,
      states.subarray(i * width, (i + 1) * width),
      factors.subarray(i * more, (i + 1) * more),
    );
    out.set(own, i * own.length);
  }
  return out;
}

/** What a plan is judged by. */
export interface Objective {
  /** `latent`: mean squared difference of states; `learned`: steps to the goal (needs `method.distance` in training). */
  readonly distance: 'latent' | 'learned';
  /** Of the last state, or the sum over all. */
  readonly time: 'last' | 'sum';
}

/** A trained model as planners want it. Throws a `JepaError` where it has no learned distance but should be judged by it. */
export function planningModel({ config, modules }: WorldModelMethod, { distance, time }: Objective): PlanningModel {
  const futures = futuresOf(modules, config);
  const model = { width: stateWidth(config.encoder), actions: config.actions, step: futures[0], futures };
  if (distance === 'latent')
    return { ...model, cost: (path, goal) => overTime(goalDistances(path, goal, 3, 'squared'), 2, time) };
  const { distance: learned } = config;
  const head = modules.distance;
  if (!learned || !head)
    throw new JepaError(
      'plan: this model learned no distance; plan with --distance latent, or train with method.distance',
    );
  const potentials = (states: Tensor): Tensor => potentialsOf(states, head.weights, learned);
  return {
    ...model,
    cost: (path, goal) => {
      const judged = time === 'last' ? lastOf(path) : path;
      return overTime(stepsBetween(potentials(judged), potentials(goal)), 2, time);
    },
  };
}

/** The last state of paths [envs, samples, times, width], times of 1. */
function lastOf(path: Tensor): Tensor {
  const [envs, samples, , width] = path.shape;
  return reshape(overTime(path, 2, 'last'), [envs, samples, 1, width]);
}
