import { JepaError } from '../base/errors.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';
import { OBSERVATIONS } from '../data/episodes/preparation.js';
import { type Scaling, scale } from '../data/episodes/scaling.js';
import type { Samples } from '../eval/samples.js';
import { add } from '../graph/ops/elementwise.js';
import { expandDims, reshape } from '../graph/ops/move.js';
import { input, type Tensor } from '../graph/tensor.js';
import type { Engine, Program, State } from '../runtime/index.js';
import { potentialsOf, stepsBetween, stepsSkipped } from './distance.js';
import type { Batch } from './envs/world.js';
import { observeStates } from './episodes.js';
import { goalDistances, overTime, type PathModel, pathsBySteps } from './planning/objectives.js';
import type { PlanningModel } from './planning/planner.js';
import { futuresOf, stateWidth, type WorldModelMethod } from './world-model.js';

/** What a plan is judged by. */
export interface Objective {
  /** `latent`: difference of states; `learned`: steps to the goal (needs `method.distance` in training). */
  readonly distance: 'latent' | 'learned';
  /** Of the last state, or the sum over all. */
  readonly time: 'last' | 'sum';
}

/** What planning must know of a trained model before it is opened. */
export interface LatentOutline {
  /** As reports call it. */
  readonly title: string;
  /** [channels, height, width], or [numbers]. */
  readonly observation: readonly number[];
  /** Numbers of an action. */
  readonly actions: number;
  /** Numbers of a state. */
  readonly width: number;
  /** How many of them, the last ones, are no picture but a pose that the model is told: the first numbers of the world's state. */
  readonly told: number;
  /** Numbers in memory for every imagined state of a search, about. */
  readonly footprint: number;
  /** Steps of plans at most, where the model knows no longer ones. */
  readonly furthest?: number;
  /** What plans are judged by where nothing else is asked for. */
  readonly objective: Objective;
  /** Whether it learned a distance. */
  readonly isDistanceLearned: boolean;
}

/** Mean and standard deviation of each number of a pose, by which it is standardised. */
export interface PoseScale {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** A trained model that states and plans go through, as graphs. */
export interface LatentModel extends LatentOutline {
  /** Prepared observations [count, ...observation] -> what is seen of states, [count, width - told]. */
  encode(observations: Tensor): Tensor;
  /** Of models that are told poses. */
  readonly pose?: PoseScale & {
    /** How well poses are known along plans: share of their variance, held out, after 1, 2, ... actions. */
    readonly r2: readonly number[];
  };
  /** States along plans in every future that a latent variable chooses between (one without it). */
  readonly futures: readonly PathModel[];
  /** Costs of paths. Throws a `JepaError` for what it cannot be judged by. */
  cost(objective: Objective): PlanningModel['cost'];
  /** What linear probes read of states [..., width]: [rows, any number]. */
  features(states: HostTensor<'float32'>): Samples;
}

/** A trained model in use: observations become states, states and plans become imagined paths. */
export interface LatentWorld {
  readonly engine: Engine;
  readonly state: State;
  readonly model: LatentModel;
  /**
   * Raw observations [count, ...observation] -> states [count, width]. `states` of the world [count, numbers] for models that are
   * told poses; throws a `JepaError` where these are missing.
   */
  encode(observations: Uint8Array | Float32Array, states?: ArrayLike<number>): Promise<HostTensor<'float32'>>;
  /**
   * States [count, width] along plans [count, steps, numbers]: [count, steps + 1, width], the given ones first; in future 0 of those
   * that a latent variable chooses between, or in another one.
   */
  imagine(states: HostTensor<'float32'>, plans: HostTensor<'float32'>, future?: number): Promise<HostTensor<'float32'>>;
  close(): Promise<void>;
}

/** Observations that are encoded at a time. */
const CHUNK = 256;
/** Numbers in memory of the paths that are imagined at a time. */
const MOST_NUMBERS = 2 ** 25;

/** Opens a model whose weights are in `state`; `scaling` is that of its training. */
export async function openLatentWorld(
  engine: Engine,
  state: State,
  model: LatentModel,
  scaling: Scaling,
): Promise<LatentWorld> {
  const { observation, width, told, actions, footprint, pose } = model;
  const seen = width - told;
  const [, ...plane] = observation;
  const size = sizeOf(observation);
  const states = model.encode(input(OBSERVATIONS, ['batch', ...observation]));
  const encoding = await engine.compile({ name: 'encoder', outputs: { states } }, state);
  const imagining = new Map<string, Program>();
  const imaginer = async (steps: number, future: number): Promise<Program> => {
    const key = `${steps} steps, future ${future}`;
    const known = imagining.get(key);
    if (known) return known;
    const plans = expandDims(input('plans', ['batch', steps, actions]), 1);
    const path = model.futures[future](input('states', ['batch', width]), plans);
    const paths = reshape(path, [path.shape[0], steps + 1, width]);
    const program = await engine.compile({ name: 'imagination', outputs: { paths } }, state);
    imagining.set(key, program);
    return program;
  };
  return {
    engine,
    state,
    model,
    async encode(observations, known) {
      const count = observations.length / size;
      if (!Number.isInteger(count))
        throw new JepaError(
          `${model.title}: ${observations.length} numbers are no whole number of observations [${observation.join(', ')}]`,
        );
      const each = (known?.length ?? 0) / count;
      if (told > 0 && !(known && each >= told))
        throw new JepaError(
          `${model.title}: it is told poses of ${told} numbers; give the world's states with the observations`,
        );
      const out = new Float32Array(count * width);
      for (let from = 0; from < count; from += CHUNK) {
        const to = Math.min(count, from + CHUNK);
        const values = scale(observations.subarray(from * size, to * size), sizeOf(plane), scaling);
        const { outputs } = await encoding.run({ [OBSERVATIONS]: float32([to - from, ...observation], values) });
        const data = outputs.states.data as Float32Array;
        for (let i = from; i < to; i++) out.set(data.subarray((i - from) * seen, (i - from + 1) * seen), i * width);
      }
      if (known && pose) {
        for (let i = 0; i < count; i++)
          for (let j = 0; j < told; j++) out[i * width + seen + j] = (known[i * each + j] - pose.mean[j]) / pose.std[j];
      }
      return float32([count, width], out);
    },
    async imagine(from, plans, future = 0) {
      const [count, steps] = plans.shape;
      const program = await imaginer(steps, future);
      const paths = new Float32Array(count * (steps + 1) * width);
      const rows = Math.max(1, Math.floor(MOST_NUMBERS / ((steps + 1) * footprint)));
      const size = steps * actions;
      for (let first = 0; first < count; first += rows) {
        const last = Math.min(count, first + rows);
        const { outputs } = await program.run({
          states: float32([last - first, width], from.data.subarray(first * width, last * width)),
          plans: float32([last - first, steps, actions], plans.data.subarray(first * size, last * size)),
        });
        paths.set(outputs.paths.data as Float32Array, first * (steps + 1) * width);
      }
      return float32([count, steps + 1, width], paths);
    },
    async close() {
      await encoding.close();
      for (const program of imagining.values()) await program.close();
    },
  };
}

/** How episodes must be read for a model. */
export const observedBy = ({ observation }: LatentOutline): 'pictures' | 'states' =>
  observation.length === 3 ? 'pictures' : 'states';

/** States [count, width] of environments as they are now, the first `count` of them. */
export function encodeNow(world: LatentWorld, batch: Batch, count = batch.count): Promise<HostTensor<'float32'>> {
  const seen = observedBy(world.model) === 'pictures' ? batch.render() : numbersOf(batch, batch.states);
  const states = batch.states.subarray(0, count * batch.world.state.length);
  return world.encode(seen.subarray(0, (seen.length / batch.count) * count), states);
}

/** States [count, width] of environments at their goals. */
export function encodeGoals(world: LatentWorld, batch: Batch): Promise<HostTensor<'float32'>> {
  const states = batch.states.slice();
  const [width, goal] = [batch.world.state.length, batch.world.goal];
  for (let i = 0; i < batch.count; i++) states.set(batch.goals.subarray(i * goal, (i + 1) * goal), i * width);
  return world.encode(observedBy(world.model) === 'pictures' ? batch.renderGoals() : numbersOf(batch, states), states);
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

// World models ----------------------------------------------------------------------------------------------------------------

export function worldModelOutline({ config }: WorldModelMethod): LatentOutline {
  const width = stateWidth(config.encoder);
  return {
    title: 'World model',
    observation: config.observation,
    actions: config.actions,
    width,
    told: 0,
    footprint: width,
    objective: { distance: config.distance ? 'learned' : 'latent', time: 'sum' },
    isDistanceLearned: config.distance !== undefined,
  };
}

/** A world model whose states are vectors. */
export function worldModelStates(method: WorldModelMethod): LatentModel {
  const { config, modules, encoder } = method;
  return {
    ...worldModelOutline(method),
    encode: (observations) => encoder.represent({ [OBSERVATIONS]: observations }),
    futures: futuresOf(modules, config).map(pathsBySteps),
    cost({ distance, time }) {
      if (distance === 'latent') return (path, goal) => overTime(goalDistances(path, goal, 3, 'squared'), 2, time);
      const { distance: learned } = config;
      const head = modules.distance;
      if (!learned || !head)
        throw new JepaError(
          'plan: this model learned no distance; plan with --distance latent, or train with method.distance',
        );
      const potentials = (states: Tensor): Tensor => potentialsOf(states, head.weights, learned);
      return (path, goal) => {
        const along = potentials(path);
        return overTime(add(stepsBetween(along, potentials(goal)), stepsSkipped(along, 2, config.steps)), 2, time);
      };
    },
    features: ({ shape, data }) => {
      const width = shape[shape.length - 1];
      return float32([data.length / width, width], data);
    },
  };
}

/** A trained model as planners want it. Throws a `JepaError` where it cannot be judged so. */
export const planningModel = (model: LatentModel, objective: Objective): PlanningModel => ({
  ...model,
  cost: model.cost(objective),
});
