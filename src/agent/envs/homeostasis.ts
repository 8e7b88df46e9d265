import type { Random } from '../../base/random.js';

/**
 * A field with food, water and a pit: two needs that grow with every step, fed at places apart. Food may circle round the
 * field, like a herd, and the pit may be dangerous at night only: then one must be out of it before.
 * State: column, row, energy, water (needs from 0 to 1), food's column and row, hour (0 morning, 1 the next morning).
 * Action: a move in two directions, each -1 to 1.
 */
export interface HomeostasisOptions {
  readonly size?: number;
  /** Where food is at first. */
  readonly food?: readonly [number, number];
  readonly water?: readonly [number, number];
  readonly pit?: { readonly at: readonly [number, number]; readonly radius: number };
  /** What energy and water lose a step, and gain at their places. */
  readonly loss?: readonly [number, number];
  readonly gain?: number;
  /** Share of a move that goes astray, as noise. */
  readonly slip?: number;
  /** Steps in which food goes once round the middle of the field; 0: it stays. */
  readonly round?: number;
  /** Steps of a day, and the hour at which night begins; by default it is always night. */
  readonly day?: { readonly steps: number; readonly night: number };
}

export interface Homeostasis {
  readonly options: Required<HomeostasisOptions>;
  start(random: Random): Float64Array;
  /** The next state; without a generator nothing goes astray. */
  next(state: ArrayLike<number>, action: ArrayLike<number>, random?: Random): Float64Array;
  isNight(state: ArrayLike<number>): boolean;
  /** Steps until night falls, 0 at night. */
  untilNight(state: ArrayLike<number>): number;
  /** Within the pit, at a time when it is dangerous. */
  inPit(state: ArrayLike<number>): boolean;
}

/** How near a place must be to feed. */
export const REACH = 1.2;

export function homeostasisWorld(given: HomeostasisOptions = {}): Homeostasis {
  const options: Required<HomeostasisOptions> = {
    size: 10,
    food: [2, 2],
    water: [8, 8],
    pit: { at: [5, 5], radius: 1.2 },
    loss: [0.02, 0.03],
    gain: 0.3,
    slip: 0,
    round: 0,
    day: { steps: 100, night: 0 },
    ...given,
  };
  const { size, food, water, pit, loss, gain, slip, round, day } = options;
  const inside = (v: number): number => Math.min(Math.max(v, 0), size);
  const [cos, sin] = round > 0 ? [Math.cos((2 * Math.PI) / round), Math.sin((2 * Math.PI) / round)] : [1, 0];
  const untilNight = (state: ArrayLike<number>): number =>
    Math.max(0, Math.ceil((day.night - state[6]) * day.steps - 1e-6));
  const isNight = (state: ArrayLike<number>): boolean => untilNight(state) === 0;
  return {
    options,
    start: (random) => Float64Array.of(size * random.uniform(), 1 + random.uniform(), 0.8, 0.8, food[0], food[1], 0),
    next(state, action, random) {
      const step = (i: number): number => {
        const move = Math.min(Math.max(action[i], -1), 1);
        return inside(state[i] + move * (random ? 1 + slip * random.normal() : 1));
      };
      const place = [step(0), step(1)];
      const [dx, dy] = [state[4] - size / 2, state[5] - size / 2];
      const herd = [size / 2 + cos * dx - sin * dy, size / 2 + sin * dx + cos * dy];
      const need = (level: number, lost: number, x: number, y: number): number =>
        Math.min(Math.max(level - lost + (Math.hypot(place[0] - x, place[1] - y) < REACH ? gain : 0), 0), 1);
      return Float64Array.of(
        place[0],
        place[1],
        need(state[2], loss[0], herd[0], herd[1]),
        need(state[3], loss[1], water[0], water[1]),
        herd[0],
        herd[1],
        (state[6] + 1 / day.steps) % 1,
      );
    },
    isNight,
    untilNight,
    inPit: (state) => isNight(state) && Math.hypot(state[0] - pit.at[0], state[1] - pit.at[1]) < pit.radius,
  };
}
