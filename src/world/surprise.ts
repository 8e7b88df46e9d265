import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { float32, sizeOf } from '../base/tensor.js';
import { paintStates } from './collect.js';
import { type Layout, twoRooms } from './envs/two-rooms.js';
import { factorIndex, type World } from './envs/world.js';
import { observeStates } from './episodes.js';
import { type LatentWorld, observedBy } from './latent.js';

/**
 * Violation of expectation: what a world model did not foresee, on clips that could have happened and on clips that could not
 * (after Garrido et al., arXiv 2502.11831). Clips come in balanced quadruplets: whatever is to be seen in the impossible half is to
 * be seen as often in the possible one, so that how much there is to see does not count as surprise.
 */

/** A clip of a world in numbers; factors are told of every moment, so that a thing may vanish. */
export interface Clip {
  /** [frames, numbers of a state] */
  readonly states: Float64Array;
  /** [frames, factors] */
  readonly factors: Float64Array;
  /** [frames - 1, numbers of an action] */
  readonly actions: Float64Array;
}

export interface Quadruplet {
  readonly possible: readonly [Clip, Clip];
  readonly impossible: readonly [Clip, Clip];
}

// Impossible events of Two Rooms (rule of the data: a move that would hit something is cancelled) -----------------------------

export interface EventOptions {
  readonly count: number;
  readonly frames: number;
  readonly random: Random;
}

const rules = twoRooms('stay');
/** How far a dot jumps at least, in pixels. */
const LEAST_JUMP = 8;
/** Free moves before a dot meets the wall. */
const APPROACH = { least: 3, most: 6 };
const SLOWEST = 1.2;
const FASTEST = 1.8;
/** Moves that lead through the wall and out of it again, for the slowest: the dot is seen on the other side. */
const THROUGH = 4;

/** Factors of an instance, as often as there are frames. */
function factorsOf({ wall, door }: Layout, frames: number, brightness = (_time: number) => 1): Float64Array {
  const usual = rules.factors.map((factor) => factor.usual);
  usual[factorIndex(rules, 'wall')] = wall;
  usual[factorIndex(rules, 'door')] = door;
  const bright = factorIndex(rules, 'dot brightness');
  return Float64Array.from({ length: frames * usual.length }, (_, i) =>
    i % usual.length === bright ? brightness(Math.floor(i / usual.length)) : usual[i % usual.length],
  );
}

/** What happens by the rules from a start on, [frames, 2]. */
function happened(
  start: readonly [number, number],
  actions: Float64Array,
  factors: Float64Array,
  random: Random,
): Float64Array {
  const states = new Float64Array(actions.length + 2);
  const state = Float64Array.from(start);
  const own = factors.subarray(0, rules.factors.length);
  states.set(state);
  for (let i = 0; i < actions.length; i += 2) {
    rules.advance(state, actions.subarray(i, i + 2), own, random);
    states.set(state, i + 2);
  }
  return states;
}

const between = (random: Random, low: number, high: number): number => low + (high - low) * random.uniform();

const drawLayout = (random: Random): Layout => ({ wall: 20 + random.integer(25), door: 10 + random.integer(45) });

/** A start clear of walls, and moves of about the same direction. */
function drawWalk({ wall }: Layout, frames: number, random: Random) {
  const onLeft = random.uniform() < 0.5;
  const x = onLeft ? between(random, 6, wall - 3) : between(random, wall + 3, 58);
  const start = [x, between(random, 6, 58)] as const;
  let heading = 2 * Math.PI * random.uniform();
  const actions = new Float64Array(2 * (frames - 1));
  for (let t = 0; t < frames - 1; t++) {
    const length = between(random, 0.4, FASTEST);
    actions.set([length * Math.cos(heading), length * Math.sin(heading)], 2 * t);
    heading += random.normal() / 2;
  }
  return { start, actions };
}

/** The first frame after the event: somewhere in the middle third. */
const eventTime = (frames: number, random: Random): number =>
  Math.floor(frames / 3) + random.integer(Math.max(1, Math.floor(frames / 3)));

/** The first `time` rows of one table, and the rest of the other. */
function spliced(a: Float64Array, b: Float64Array, time: number, frames: number): Float64Array {
  const out = b.slice();
  out.set(a.subarray(0, (time * a.length) / frames));
  return out;
}

/** Two dots that do the same in the same rooms, at places far apart; in the impossible half each is suddenly where the other was. */
export function teleports({ count, frames, random }: EventOptions): Quadruplet[] {
  return Array.from({ length: count }, () => {
    const layout = drawLayout(random);
    const factors = factorsOf(layout, frames);
    const time = eventTime(frames, random);
    for (;;) {
      const { start, actions } = drawWalk(layout, frames, random);
      const other = drawWalk(layout, frames, random).start;
      const [a, b] = [start, other].map((from) => happened(from, actions, factors, random));
      const at = (path: Float64Array) => path.subarray(2 * (time - 1), 2 * time);
      if (Math.hypot(at(a)[0] - at(b)[0], at(a)[1] - at(b)[1]) < LEAST_JUMP) continue;
      const clip = (states: Float64Array): Clip => ({ states, factors, actions });
      return {
        possible: [clip(a), clip(b)],
        impossible: [clip(spliced(a, b, time, frames)), clip(spliced(b, a, time, frames))],
      };
    }
  });
}

/**
 * A dot that goes straight at a wall: through the door or, where the door is elsewhere, no further than the wall. The impossible half
 * has the same two courses in each other's rooms: one through the solid wall (first), one held up by nothing in the open door.
 */
export function wallsPassed({ count, frames, random }: EventOptions): Quadruplet[] {
  if (frames - 1 < APPROACH.most + THROUGH)
    throw new JepaError(
      `walls passed: clips of ${frames} frames are too short; they need ${APPROACH.most + THROUGH + 1}`,
    );
  return Array.from({ length: count }, () => {
    const wall = 24 + random.integer(17);
    const door = 12 + random.integer(41);
    // A wall where the door was: its own door is out of reach.
    let elsewhere = door;
    while (Math.abs(elsewhere - door) < 14) elsewhere = 10 + random.integer(45);
    const [open, closed] = [door, elsewhere].map((at) => factorsOf({ wall, door: at }, frames));
    const side = random.uniform() < 0.5 ? -1 : 1;
    const speed = between(random, SLOWEST, FASTEST);
    const slope = between(random, -0.1, 0.1);
    const free = APPROACH.least + random.integer(APPROACH.most - APPROACH.least + 1);
    const actions = new Float64Array(2 * (frames - 1));
    for (let t = 0; t < frames - 1; t++) actions.set([side * speed, slope * speed], 2 * t);
    const y = door + between(random, -1.5, 1.5);
    const x = wall - side * (1 + speed * (free + between(random, 0.1, 0.9)));
    const start = [x, y - slope * Math.abs(x - wall)] as const;
    const [through, stopped] = [open, closed].map((factors) => happened(start, actions, factors, random));
    const clip = (states: Float64Array, factors: Float64Array): Clip => ({ states, factors, actions });
    return {
      possible: [clip(through, open), clip(stopped, closed)],
      impossible: [clip(through, closed), clip(stopped, open)],
    };
  });
}

/** Rooms with a dot and the same rooms without one; in the impossible half the dot vanishes, or comes from nowhere. For pictures. */
export function vanishings({ count, frames, random }: EventOptions): Quadruplet[] {
  return Array.from({ length: count }, () => {
    const layout = drawLayout(random);
    const { start, actions } = drawWalk(layout, frames, random);
    const [there, absent] = [1, 0].map((brightness) => factorsOf(layout, frames, () => brightness));
    const states = happened(start, actions, there, random);
    const time = eventTime(frames, random);
    const clip = (factors: Float64Array): Clip => ({ states, factors, actions });
    return {
      possible: [clip(there), clip(absent)],
      impossible: [clip(spliced(there, absent, time, frames)), clip(spliced(absent, there, time, frames))],
    };
  });
}

// Surprise ---------------------------------------------------------------------------------------------------------------------

/** What is to be seen in clips, [clips, frames, ...observation]: pictures, or numbers of states with the factors behind them. */
export function observeClips(
  world: World,
  clips: readonly Clip[],
  observe: 'pictures' | 'states',
): Uint8Array | Float32Array {
  const [width, more] = [world.state.length, world.factors.length];
  const frames = clips[0].states.length / width;
  const size = observe === 'pictures' ? sizeOf(world.picture) : width + more;
  const out = new (observe === 'pictures' ? Uint8Array : Float32Array)(clips.length * frames * size);
  for (const [i, { states, factors }] of clips.entries()) {
    for (let t = 0; t < frames; t++) {
      const state = states.subarray(t * width, (t + 1) * width);
      const own = factors.subarray(t * more, (t + 1) * more);
      const seen = observe === 'pictures' ? paintStates(world, state, own) : observeStates(world, state, own);
      out.set(seen, (i * frames + t) * size);
    }
  }
  return out;
}

/**
 * How far each moment of clips was from what the model foresaw `depth` steps before it, from what it saw then and the actions in
 * between: mean squared differences of states, [clips][frames - depth]. Observations [clips, frames, ...], actions [clips, frames - 1,
 * numbers]. Where a latent variable leaves several futures open, the nearest counts.
 */
export async function surprises(
  latent: LatentWorld,
  observations: Uint8Array | Float32Array,
  actions: Float32Array,
  { clips, depth = 1 }: { readonly clips: number; readonly depth?: number },
): Promise<Float64Array[]> {
  const { width, actions: numbers, futures } = latent.model;
  const frames = actions.length / clips / numbers + 1;
  if (!Number.isInteger(frames) || !(depth >= 1 && depth < frames))
    throw new JepaError(
      `surprise: ${actions.length} numbers of actions for ${clips} clips, ${depth} steps ahead; a clip needs an action for every frame but the last, and more frames than steps ahead`,
    );
  const truth = (await latent.encode(observations)).data;
  const times = frames - depth;
  const rows = clips * times;
  const [starts, plans] = [new Float32Array(rows * width), new Float32Array(rows * depth * numbers)];
  for (let clip = 0; clip < clips; clip++) {
    for (let t = 0; t < times; t++) {
      const [row, at, act] = [clip * times + t, clip * frames + t, clip * (frames - 1) + t];
      starts.set(truth.subarray(at * width, (at + 1) * width), row * width);
      plans.set(actions.subarray(act * numbers, (act + depth) * numbers), row * depth * numbers);
    }
  }
  const [from, along] = [float32([rows, width], starts), float32([rows, depth, numbers], plans)];
  const least = Array.from({ length: clips }, () => new Float64Array(times).fill(Number.POSITIVE_INFINITY));
  for (let future = 0; future < futures.length; future++) {
    const { data } = await latent.imagine(from, along, future);
    for (let row = 0; row < rows; row++) {
      const [clip, t] = [Math.floor(row / times), row % times];
      const [foreseen, seen] = [(row * (depth + 1) + depth) * width, (clip * frames + t + depth) * width];
      let squares = 0;
      for (let j = 0; j < width; j++) squares += (data[foreseen + j] - truth[seen + j]) ** 2;
      least[clip][t] = Math.min(least[clip][t], squares / width);
    }
  }
  return least;
}

/** Surprises of the four clips of quadruplets: possible, possible, impossible, impossible. */
export type QuadrupletSurprises = readonly [Float64Array, Float64Array, Float64Array, Float64Array];

/** Of every quadruplet of a world that the model knows. */
export async function quadrupletSurprises(
  latent: LatentWorld,
  world: World,
  quadruplets: readonly Quadruplet[],
  depth = 1,
): Promise<QuadrupletSurprises[]> {
  const clips = quadruplets.flatMap(({ possible, impossible }) => [...possible, ...impossible]);
  const observe = observedBy(latent.model);
  const actions = Float32Array.from(clips.flatMap((clip) => Array.from(clip.actions)));
  const all = await surprises(latent, observeClips(world, clips, observe), actions, { clips: clips.length, depth });
  return quadruplets.map((_, i) => all.slice(4 * i, 4 * i + 4) as unknown as QuadrupletSurprises);
}

const sum = (values: Float64Array): number => values.reduce((a, b) => a + b, 0);

/** Share of quadruplets whose impossible clips surprise more than the possible ones, all moments taken together; ties count half. */
export const balancedAccuracy = (all: readonly QuadrupletSurprises[]): number =>
  all.reduce((total, [a, b, c, d]) => {
    const more = sum(c) + sum(d) - sum(a) - sum(b);
    return total + (more > 0 ? 1 : more === 0 ? 0.5 : 0);
  }, 0) / all.length;
