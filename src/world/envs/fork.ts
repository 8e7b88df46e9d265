import { disc, fill, line } from './paint.js';
import type { World } from './world.js';

/**
 * A cart drives towards a fork in the road; which branch it takes is drawn when it gets there, and nothing before tells. The
 * cart's only choice is its speed. A deterministic predictor can at best land between the branches.
 */

const PIXELS = 32;
/** Longest move. */
const FASTEST = 0.06;

/** Where the branches end, in shares of the side: x = 1, y = 0.5 -+ `spread`. */
export function fork(): World {
  return {
    name: 'fork',
    // branch: 0 before the fork, then -1 (up) or 1 (down).
    state: ['x', 'y', 'branch'],
    action: [{ name: 'speed', low: 0, high: FASTEST }],
    factors: [
      { name: 'fork', usual: 0.45, low: 0.3, high: 0.6 },
      { name: 'spread', usual: 0.3, low: 0.2, high: 0.4 },
      { name: 'chance of down', usual: 0.5, low: 0.2, high: 0.8 },
    ],
    picture: [1, PIXELS, PIXELS],
    goal: 2,
    steps: 40,
    begin(state, goal, [place, spread], random) {
      state[0] = place * random.uniform();
      state[1] = 0.5;
      state[2] = 0;
      goal[0] = 1;
      goal[1] = 0.5 + (random.uniform() < 0.5 ? -spread : spread);
    },
    advance(state, action, [place, spread, down], random) {
      state[0] = Math.min(1, state[0] + Math.min(FASTEST, Math.max(0, action[0])));
      if (state[2] === 0 && state[0] > place) state[2] = random.uniform() < down ? 1 : -1;
      state[1] = 0.5 + state[2] * spread * Math.max(0, (state[0] - place) / (1 - place));
    },
    paint([x, y], [place, spread], out) {
      const plane = { data: out, height: PIXELS, width: PIXELS };
      const at = (px: number, py: number): readonly [number, number] => [1.5 + px * (PIXELS - 3), py * PIXELS];
      fill(plane, [0]);
      line(plane, at(0, 0.5), at(place, 0.5), 1.5, [90]);
      for (const side of [-1, 1]) line(plane, at(place, 0.5), at(1, 0.5 + side * spread), 1.5, [90]);
      disc(plane, ...at(x, y), 2, [255]);
    },
    reached([x, y], goal) {
      const distance = Math.hypot(x - goal[0], y - goal[1]);
      return { distance, success: distance < 0.05 };
    },
  };
}
