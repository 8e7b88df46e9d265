import { JepaError } from '../base/errors.js';
import { createRandom, type Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { worldCalled } from './envs/index.js';
import { drawTrajectory } from './envs/two-rooms.js';
import { type Batch, type FactorSettings, openBatch, type Row, type World } from './envs/world.js';

/** Episodes of worlds under behaviours, as columns back to back: what npz and HDF5 files of episodes hold. */

/** What a behaviour is told of one environment. */
export interface Situation {
  readonly state: Row;
  readonly goal: Row;
  readonly factors: Row;
  /** Steps since the episode began. */
  readonly time: number;
  readonly random: Random;
}

/** Chooses the next action of one environment; called at every step of an episode, from a fresh `begin` on. */
export interface Behaviour {
  readonly name: string;
  /** Starts an episode: may put the state elsewhere (scripted data), and returns how to act in it. */
  begin(situation: Situation, world: World): (situation: Situation) => ArrayLike<number>;
}

/** Uniform actions in the ranges that the world tells, each held for `hold` steps. */
export const randomBehaviour = (hold = 1): Behaviour => ({
  name: 'random',
  begin(_, world) {
    let action: number[] = [];
    return ({ time, random }) => {
      if (time % hold === 0) action = world.action.map(({ low, high }) => low + (high - low) * random.uniform());
      return action;
    };
  },
});

/** Straight towards the goal's first numbers, as far as one action may (worlds whose actions are moves). */
export const greedyBehaviour = (longest?: number): Behaviour => ({
  name: 'greedy',
  begin(_, world) {
    const limit = longest ?? Math.min(...world.action.map(({ high }) => high));
    return ({ state, goal }) => {
      const way = world.action.map((_part, i) => goal[i] - state[i]);
      const length = Math.hypot(...way);
      return way.map((part) => (length > limit ? (part * limit) / length : part));
    };
  },
});

/**
 * The walks of EB-JEPA's Two Rooms data: correlated steps, a third of them through the door; episodes of at most `steps`
 * actions. Its worlds are `two-rooms-stay` (the rule of the data) and `two-rooms`.
 */
export const walkBehaviour = (steps = 90, crossingRate?: number): Behaviour => ({
  name: 'walk',
  begin({ state, factors, random }, world) {
    if (!world.name.startsWith('two-rooms') || world.picture[0] !== 2)
      throw new JepaError(`collect: walks are for two-rooms, not ${world.name}; use random or greedy`);
    const layout = { wall: factors[0], door: factors[1], wallHalf: factors[2], doorHalf: factors[3] };
    const { start, moves } = drawTrajectory(layout, random, steps, crossingRate);
    state.set(start);
    return ({ time }) => {
      if (time >= steps)
        throw new JepaError(`collect: walks of ${steps} actions are over at step ${time}; ask for fewer steps`);
      return moves.subarray(2 * time, 2 * time + 2);
    };
  },
});

/** Behaviours by name, and the world in which each acts: walks follow the contact rule of the published data. */
export const BEHAVIOURS: Readonly<Record<string, (world: string) => { behaviour: Behaviour; world: string }>> = {
  random: (world) => ({ behaviour: randomBehaviour(), world }),
  held: (world) => ({ behaviour: randomBehaviour(5), world }),
  greedy: (world) => ({ behaviour: greedyBehaviour(), world }),
  walk: (world) => ({ behaviour: walkBehaviour(), world: world === 'two-rooms' ? 'two-rooms-stay' : world }),
};

/** How data of a world are collected where nothing else is asked for: as published, else at random. */
export const usualBehaviour = (world: string): string =>
  world === 'two-rooms' || world === 'two-rooms-stay' ? 'walk' : 'random';

/** Opens a world and a behaviour by their names; throws a `JepaError` that lists those that there are. */
export function openCollection(
  world: string,
  behaviour: string = usualBehaviour(world),
): { readonly world: World; readonly behaviour: Behaviour } {
  const make = Object.hasOwn(BEHAVIOURS, behaviour) ? BEHAVIOURS[behaviour] : undefined;
  if (!make)
    throw new JepaError(`behaviour: there is no "${behaviour}"; there are ${Object.keys(BEHAVIOURS).join(', ')}`);
  const { behaviour: made, world: name } = make(world);
  return { behaviour: made, world: worldCalled(name) };
}

export interface CollectOptions {
  readonly episodes: number;
  /** Actions an episode; states are one more. */
  readonly steps: number;
  readonly seed: number;
  readonly factors?: FactorSettings;
  /** Pictures too. */
  readonly pixels?: boolean;
}

/**
 * Episodes back to back: every column has one row a state; the action of a row leads to the next row, and is 0 in the last row of
 * an episode.
 */
export interface Episodes {
  readonly lengths: readonly number[];
  readonly offsets: readonly number[];
  /** `state`, `action`, `factors`, `goal` (float32) and `pixels` (uint8 [rows, channels, height, width]). */
  readonly columns: ReadonlyMap<string, HostTensor<'float32'> | HostTensor<'uint8'>>;
}

/** What happened in one episode, [steps + 1, numbers] each; the action of a row leads to the next row. */
export interface Episode {
  readonly states: Float64Array;
  readonly actions: Float64Array;
  /** Of the whole episode. */
  readonly factors: Float64Array;
  readonly goal: Float64Array;
}

/** Runs episode number `episode` of a seed; it depends on both alone. */
export function runEpisode(
  world: World,
  behaviour: Behaviour,
  { steps, seed, factors }: Pick<CollectOptions, 'steps' | 'seed' | 'factors'>,
  episode: number,
): Episode {
  // One environment an episode, seeded by its number: episodes do not depend on each other.
  const batch: Batch = openBatch(world, { count: 1, seed, factors });
  batch.reset({ seed: seed + episode });
  const random = createRandom(seed, 'collect', behaviour.name).split(episode);
  const at = (time: number): Situation => ({
    state: batch.states,
    goal: batch.goals,
    factors: batch.factors,
    time,
    random,
  });
  const states = new Float64Array((steps + 1) * world.state.length);
  const actions = new Float64Array((steps + 1) * world.action.length);
  const act = behaviour.begin(at(0), world);
  for (let time = 0; time <= steps; time++) {
    states.set(batch.states, time * world.state.length);
    if (time === steps) break;
    const chosen = Float64Array.from(act(at(time)));
    actions.set(chosen, time * world.action.length);
    batch.step(chosen);
  }
  return { states, actions, factors: batch.factors.slice(), goal: batch.goals.slice() };
}

/** Pictures of states [rows, numbers] of one instance of a world, [rows, channels, height, width] bytes. */
export function paintStates(world: World, states: Float64Array, factors: Float64Array, out?: Uint8Array): Uint8Array {
  const width = world.state.length;
  const bytes = world.picture.reduce((a, b) => a * b);
  const rows = states.length / width;
  const pictures = out ?? new Uint8Array(rows * bytes);
  for (let row = 0; row < rows; row++)
    world.paint(
      states.subarray(row * width, (row + 1) * width),
      factors,
      pictures.subarray(row * bytes, (row + 1) * bytes),
    );
  return pictures;
}

/** Runs a behaviour. The same seed gives the same episodes, whatever runs at the same time. */
export function collectEpisodes(world: World, behaviour: Behaviour, options: CollectOptions): Episodes {
  const work = collecting(world, behaviour, options);
  for (;;) {
    const made = work.next();
    if (made.done) return made.value;
  }
}

/** The same, episode by episode, so that something else can be done between them: yields how many there are. */
export function* collecting(world: World, behaviour: Behaviour, options: CollectOptions): Generator<number, Episodes> {
  const { episodes, steps, pixels = false } = options;
  if (!(Number.isInteger(episodes) && episodes >= 1 && Number.isInteger(steps) && steps >= 1))
    throw new JepaError(`collect: ${episodes} episodes of ${steps} steps; both must be positive whole numbers`);
  const rows = episodes * (steps + 1);
  const column = (width: number): HostTensor<'float32'> => float32([rows, width], new Float32Array(rows * width));
  const state = column(world.state.length);
  const action = column(world.action.length);
  const factors = column(world.factors.length);
  const goal = column(world.goal);
  const bytes = world.picture.reduce((a, b) => a * b);
  const pictures = new Uint8Array(pixels ? rows * bytes : 0);
  for (let episode = 0; episode < episodes; episode++) {
    const made = runEpisode(world, behaviour, options, episode);
    const first = episode * (steps + 1);
    state.data.set(made.states, first * world.state.length);
    action.data.set(made.actions, first * world.action.length);
    for (let row = first; row <= first + steps; row++) {
      factors.data.set(made.factors, row * world.factors.length);
      goal.data.set(made.goal, row * world.goal);
    }
    if (pixels)
      paintStates(world, made.states, made.factors, pictures.subarray(first * bytes, (first + steps + 1) * bytes));
    yield episode + 1;
  }
  const columns = new Map<string, HostTensor<'float32'> | HostTensor<'uint8'>>([
    ['state', state],
    ['action', action],
    ['factors', factors],
    ['goal', goal],
  ]);
  if (pixels) columns.set('pixels', { dtype: 'uint8', shape: [rows, ...world.picture], data: pictures });
  return {
    lengths: Array.from({ length: episodes }, () => steps + 1),
    offsets: Array.from({ length: episodes }, (_, i) => i * (steps + 1)),
    columns,
  };
}
