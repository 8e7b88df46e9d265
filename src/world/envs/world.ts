import { JepaError } from '../../base/errors.js';
import { createRandom, type Random } from '../../base/random.js';

/** A row of numbers: part of a state, an action, factors or a goal of one environment. */
export type Row = Float64Array;

/** One number of an action, with the range that behaviours draw from; worlds limit actions themselves where they do. */
export interface ActionPart {
  readonly name: string;
  readonly low: number;
  readonly high: number;
}

/** One number that tells two instances of a world apart: a layout, a size, a brightness. */
export interface Factor {
  readonly name: string;
  /** Its value unless it is set or drawn. */
  readonly usual: number;
  /** Where it is drawn from when it varies. */
  readonly low: number;
  readonly high: number;
  /** Only whole numbers. */
  readonly whole?: boolean;
  /** Drawn at every reset unless it is set (otherwise it keeps its usual value). */
  readonly drawn?: boolean;
  /** The world itself sets it when an episode begins (the boxes of a maze); what it was set to is lost. */
  readonly own?: boolean;
}

/**
 * The rules of a world, without memory of their own: everything that changes is in rows of numbers, so that states can be
 * saved, restored and edited. There is no reward.
 */
export interface World {
  readonly name: string;
  /** Names of the numbers of a state. */
  readonly state: readonly string[];
  readonly action: readonly ActionPart[];
  readonly factors: readonly Factor[];
  /** Channels, height and width of a picture. */
  readonly picture: readonly [channels: number, height: number, width: number];
  /** Where a goal is told apart from a state: how many of the state's first numbers it has. */
  readonly goal: number;
  /** Steps after which an episode ends by itself. */
  readonly steps: number;
  /** Writes the first state and a goal. `factors` may be completed (a layout that fits the others). */
  begin(state: Row, goal: Row, factors: Row, random: Random): void;
  /** Moves the state by one action, in place. */
  advance(state: Row, action: Row, factors: Row, random: Random): void;
  /** Draws a state into bytes [channels, height, width]. */
  paint(state: Row, factors: Row, out: Uint8Array): void;
  /** Where in a picture the thing that moves is, in pixels from the upper left corner; for drawings of paths. */
  place?(state: ArrayLike<number>): readonly [x: number, y: number];
  /** How far a state is from a goal, and whether that counts as reached. */
  reached(state: Row, goal: Row, factors: Row): { readonly distance: number; readonly success: boolean };
  /** Whether the world itself ends the episode here (a pole that fell). */
  over?(state: Row, factors: Row): boolean;
}

/** Values of factors by name: a number, or null for a draw from the factor's range. */
export type FactorSettings = Readonly<Record<string, number | null>>;

export interface BatchOptions {
  readonly count: number;
  readonly seed: number;
  readonly factors?: FactorSettings;
}

/** What one step of all environments ended, a byte for each: by the world's own rule, or because the time is over. */
export interface StepResult {
  readonly terminated: Uint8Array;
  readonly truncated: Uint8Array;
}

/** Everything that environments are, to be put back later. */
export interface Snapshot {
  readonly states: Float64Array;
  readonly goals: Float64Array;
  readonly factors: Float64Array;
  readonly elapsed: Int32Array;
  readonly randoms: readonly ReturnType<Random['state']>[];
}

/**
 * `count` environments of one world, stepped together (the interface of Gymnasium's vector environments, over typed arrays).
 * Environment i draws from its own generator: what it does never depends on the others.
 */
export interface Batch {
  readonly world: World;
  readonly count: number;
  /** [count, numbers of a state]: read it, or write states into it. */
  readonly states: Float64Array;
  /** [count, numbers of a goal] */
  readonly goals: Float64Array;
  /** [count, factors] */
  readonly factors: Float64Array;
  /** Steps since the reset of each. */
  readonly elapsed: Int32Array;
  /** Begins new episodes in all environments, or in those that are named. A seed starts their generators anew. */
  reset(options?: { readonly seed?: number; readonly which?: Iterable<number> }): void;
  /** Moves all environments; actions [count, numbers of an action]. Episodes go on after their end until they are reset. */
  step(actions: ArrayLike<number>): StepResult;
  /** Pictures of the states now, [count, channels, height, width]. */
  render(out?: Uint8Array): Uint8Array;
  /** Pictures of states with a goal's numbers in place of their own. */
  renderGoals(out?: Uint8Array): Uint8Array;
  /** Distance to the goal and success of each environment. */
  outcome(): { readonly distances: Float64Array; readonly successes: Uint8Array };
  save(): Snapshot;
  restore(snapshot: Snapshot): void;
}

/** Views of the rows of a table. */
const rowsOf = (table: Float64Array, count: number): Row[] => {
  const width = table.length / count;
  return Array.from({ length: count }, (_, i) => table.subarray(i * width, (i + 1) * width));
};

/** Opens environments and begins their first episodes. Throws a `JepaError` for factors that the world does not have. */
export function openBatch(world: World, { count, seed, factors: settings = {} }: BatchOptions): Batch {
  if (!Number.isInteger(count) || count < 1)
    throw new JepaError(`${world.name}: ${count} environments; it must be a positive whole number`);
  const known = new Set(world.factors.map(({ name }) => name));
  const unknown = Object.keys(settings).find((name) => !known.has(name));
  if (unknown !== undefined)
    throw new JepaError(`${world.name}: there is no factor "${unknown}"; it has ${[...known].join(', ') || 'none'}`);
  const [channels, height, width] = world.picture;
  const bytes = channels * height * width;
  const states = new Float64Array(count * world.state.length);
  const goals = new Float64Array(count * world.goal);
  const factors = new Float64Array(count * world.factors.length);
  const elapsed = new Int32Array(count);
  const stateRows = rowsOf(states, count);
  const goalRows = rowsOf(goals, count);
  const factorRows = rowsOf(factors, count);
  const actions = new Float64Array(count * world.action.length);
  const actionRows = rowsOf(actions, count);
  const seeded = (from: number): Random[] => {
    const random = createRandom(from, world.name);
    return Array.from({ length: count }, (_, i) => random.split(i));
  };
  let randoms = seeded(seed);
  const terminated = new Uint8Array(count);
  const truncated = new Uint8Array(count);

  function begin(i: number): void {
    const random = randoms[i];
    world.factors.forEach(({ name, usual, low, high, whole, drawn }, f) => {
      const set = name in settings ? settings[name] : drawn ? null : usual;
      const value = set ?? (whole ? low + random.integer(high - low + 1) : low + (high - low) * random.uniform());
      factorRows[i][f] = value;
    });
    world.begin(stateRows[i], goalRows[i], factorRows[i], random);
    elapsed[i] = 0;
  }

  const batch: Batch = {
    world,
    count,
    states,
    goals,
    factors,
    elapsed,
    reset({ seed: from, which } = {}) {
      const chosen = which ? [...which] : Array.from({ length: count }, (_, i) => i);
      if (from !== undefined) {
        const fresh = seeded(from);
        randoms = randoms.map((old, i) => (which === undefined || chosen.includes(i) ? fresh[i] : old));
      }
      for (const i of chosen) begin(i);
    },
    step(given) {
      if (given.length !== actions.length)
        throw new JepaError(
          `${world.name}: ${given.length} numbers for ${count} actions of ${world.action.length}; give one row an environment`,
        );
      actions.set(given);
      for (let i = 0; i < count; i++) {
        world.advance(stateRows[i], actionRows[i], factorRows[i], randoms[i]);
        elapsed[i]++;
        terminated[i] = world.over?.(stateRows[i], factorRows[i]) ? 1 : 0;
        truncated[i] = elapsed[i] >= world.steps ? 1 : 0;
      }
      return { terminated, truncated };
    },
    render(out = new Uint8Array(count * bytes)) {
      for (let i = 0; i < count; i++)
        world.paint(stateRows[i], factorRows[i], out.subarray(i * bytes, (i + 1) * bytes));
      return out;
    },
    renderGoals(out = new Uint8Array(count * bytes)) {
      for (let i = 0; i < count; i++) {
        const state = stateRows[i].slice();
        state.set(goalRows[i]);
        world.paint(state, factorRows[i], out.subarray(i * bytes, (i + 1) * bytes));
      }
      return out;
    },
    outcome() {
      const distances = new Float64Array(count);
      const successes = new Uint8Array(count);
      for (let i = 0; i < count; i++) {
        const { distance, success } = world.reached(stateRows[i], goalRows[i], factorRows[i]);
        distances[i] = distance;
        successes[i] = success ? 1 : 0;
      }
      return { distances, successes };
    },
    save: () => ({
      states: states.slice(),
      goals: goals.slice(),
      factors: factors.slice(),
      elapsed: elapsed.slice(),
      randoms: randoms.map((random) => random.state()),
    }),
    restore(snapshot) {
      if (snapshot.states.length !== states.length || snapshot.randoms.length !== count)
        throw new JepaError(`${world.name}: the snapshot is of other environments; it needs ${count} of this world`);
      states.set(snapshot.states);
      goals.set(snapshot.goals);
      factors.set(snapshot.factors);
      elapsed.set(snapshot.elapsed);
      for (const [i, random] of randoms.entries()) random.restore(snapshot.randoms[i]);
    },
  };
  batch.reset();
  return batch;
}

/** Where the first factor called `name` stands in a row. */
export function factorIndex({ name: world, factors }: World, name: string): number {
  const index = factors.findIndex((factor) => factor.name === name);
  if (index < 0) throw new JepaError(`${world}: there is no factor "${name}"`);
  return index;
}
