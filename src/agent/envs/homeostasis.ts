import type { Random } from '../../base/random.js';

/**
 * A field with food, water and a pit that must not be entered: two needs that grow with every step, fed at places apart.
 * State: column, row, energy, water (both needs 0 to 1). Action: a move in two directions, each -1 to 1.
 */
export interface HomeostasisOptions {
  readonly size?: number;
  readonly food?: readonly [number, number];
  readonly water?: readonly [number, number];
  readonly pit?: { readonly at: readonly [number, number]; readonly radius: number };
  /** What energy and water lose a step, and gain at their places. */
  readonly loss?: readonly [number, number];
  readonly gain?: number;
  /** Share of a move that goes astray, as noise. */
  readonly slip?: number;
}

export interface Homeostasis {
  readonly options: Required<HomeostasisOptions>;
  start(random: Random): Float64Array;
  /** The next state; without a generator nothing goes astray. */
  next(state: ArrayLike<number>, action: ArrayLike<number>, random?: Random): Float64Array;
  inPit(state: ArrayLike<number>): boolean;
}

/** How near a place must be to feed. */
const REACH = 1.2;

export function homeostasisWorld(given: HomeostasisOptions = {}): Homeostasis {
  const options: Required<HomeostasisOptions> = {
    size: 10,
    food: [2, 2],
    water: [8, 8],
    pit: { at: [5, 5], radius: 1.2 },
    loss: [0.02, 0.03],
    gain: 0.3,
    slip: 0,
    ...given,
  };
  const { size, food, water, pit, loss, gain, slip } = options;
  const away = (state: ArrayLike<number>, [x, y]: readonly [number, number]): number =>
    Math.hypot(state[0] - x, state[1] - y);
  return {
    options,
    start: (random) => Float64Array.of(size * random.uniform(), 1 + random.uniform(), 0.8, 0.8),
    next(state, action, random) {
      const inside = (v: number): number => Math.min(Math.max(v, 0), size);
      const step = (i: number): number => {
        const move = Math.min(Math.max(action[i], -1), 1);
        return inside(state[i] + move * (random ? 1 + slip * random.normal() : 1));
      };
      const place = [step(0), step(1)];
      const need = (level: number, lost: number, at: readonly [number, number]): number =>
        Math.min(Math.max(level - lost + (away(place, at) < REACH ? gain : 0), 0), 1);
      return Float64Array.of(place[0], place[1], need(state[2], loss[0], food), need(state[3], loss[1], water));
    },
    inPit: (state) => away(state, pit.at) < pit.radius,
  };
}
