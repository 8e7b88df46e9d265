import type { Factor, Row, World } from './world.js';

/** Two Rooms of stable-worldmodel (`envs/two_room/env.py`, commit addbab4): 224 pixels in colour, discs that slide along walls. */

const SIZE = 224;
const BORDER = 14;
const BORDER_LINE = 4;
const CENTRE = 112;
const DOOR_MARGIN = 1.75;
const REACHED = 16;
const DOORS = 3;

const doorFactors: readonly Factor[] = Array.from({ length: DOORS }, (_, i): Factor[] => [
  { name: `door ${i}`, usual: 49, low: 30, high: 193, whole: true, drawn: i === 0 },
  { name: `door half ${i}`, usual: 14, low: 8, high: 21, whole: true },
]).flat();

/** Order of the factors that rows are read by. */
const [VERTICAL, THICKNESS, COUNT, RADIUS, SPEED, FIRST_DOOR] = [0, 1, 2, 3, 4, 5];

const inDoor = (along: number, factors: Row, margin: number): boolean => {
  for (let i = 0; i < factors[COUNT]; i++) {
    const [middle, half] = [factors[FIRST_DOOR + 2 * i], factors[FIRST_DOOR + 2 * i + 1]];
    if (along >= middle - half - margin && along <= middle + half + margin) return true;
  }
  return false;
};

export function twoRoomsLarge(): World {
  return {
    name: 'two-rooms-224',
    state: ['x', 'y'],
    action: ['dx', 'dy'].map((name) => ({ name, low: -1, high: 1 })),
    factors: [
      { name: 'vertical', usual: 1, low: 0, high: 1, whole: true },
      { name: 'thickness', usual: 10, low: 7, high: 41, whole: true },
      { name: 'doors', usual: 1, low: 1, high: DOORS, whole: true },
      { name: 'radius', usual: 7, low: 7, high: 14 },
      { name: 'speed', usual: 5, low: 1.75, high: 10.5 },
      ...doorFactors,
    ],
    picture: [3, SIZE, SIZE],
    goal: 2,
    steps: 200,
    begin(state, goal, factors, random) {
      const across = factors[VERTICAL] === 1 ? 0 : 1;
      const radius = factors[RADIUS];
      const [low, high] = [BORDER + radius, SIZE - BORDER - radius];
      const free = CENTRE - Math.floor(factors[THICKNESS] / 2) - radius - low - 1;
      const first = random.uniform() < 0.5;
      for (const [row, left] of [
        [state, first],
        [goal, !first],
      ] as const) {
        const depth = free * random.uniform();
        row[across] = left ? low + depth : high - depth;
        row[1 - across] = low + (high - low) * random.uniform();
      }
    },
    advance(state, action, factors) {
      const radius = factors[RADIUS];
      const across = factors[VERTICAL] === 1 ? 0 : 1;
      const before = state[across];
      for (const axis of [0, 1]) {
        const move = Math.fround(factors[SPEED] * Math.min(1, Math.max(-1, Math.fround(action[axis]))));
        const to = Math.fround(Math.fround(state[axis]) + move);
        state[axis] = Math.min(SIZE - BORDER - radius, Math.max(BORDER + radius, to));
      }
      // The door is looked up at the new place only.
      if (inDoor(state[1 - across], factors, DOOR_MARGIN)) return;
      const reach = Math.floor(factors[THICKNESS] / 2) + radius;
      if (before < CENTRE && state[across] > CENTRE - reach) state[across] = CENTRE - reach - 0.5;
      else if (before >= CENTRE && state[across] < CENTRE + reach) state[across] = CENTRE + reach + 0.5;
    },
    paint(state, factors, out) {
      const half = Math.floor(factors[THICKNESS] / 2);
      const pixels = SIZE * SIZE;
      out.fill(255);
      const inLine = (at: number): boolean =>
        (at >= BORDER - BORDER_LINE && at < BORDER) || (at >= SIZE - BORDER && at < SIZE - BORDER + BORDER_LINE);
      for (let row = 0; row < SIZE; row++) {
        for (let column = 0; column < SIZE; column++) {
          const [across, along] = factors[VERTICAL] === 1 ? [column, row] : [row, column];
          const stripe = across >= CENTRE - half && across <= CENTRE + half && !inDoor(along, factors, 0);
          if (!stripe && !inLine(row) && !inLine(column)) continue;
          for (let c = 0; c < 3; c++) out[c * pixels + row * SIZE + column] = 0;
        }
      }
      paintAgent(state, factors[RADIUS], out);
    },
    // Coordinates count the middles of pixels.
    place: (state) => [state[0] + 0.5, state[1] + 0.5],
    reached(state, goal) {
      const distance = Math.hypot(state[0] - goal[0], state[1] - goal[1]);
      return { distance, success: distance < REACHED };
    },
  };
}

/** A red dot, a normal density of its radius scaled to 1 at its brightest pixel; in single precision, as bytes are cut off. */
function paintAgent([x, y]: Row, radius: number, out: Uint8Array): void {
  const { fround } = Math;
  const spread = fround(2 * radius * radius);
  const [column0, row0] = [fround(x), fround(y)];
  const dots = new Float32Array(SIZE * SIZE);
  let brightest = 0;
  for (let row = 0, at = 0; row < SIZE; row++) {
    const dy = fround(row - row0);
    for (let column = 0; column < SIZE; column++, at++) {
      const dx = fround(column - column0);
      dots[at] = Math.exp(fround(-fround(fround(dx * dx) + fround(dy * dy)) / spread));
      brightest = Math.max(brightest, dots[at]);
    }
  }
  for (let at = 0; at < dots.length; at++) {
    const share = fround(dots[at] / brightest);
    const rest = fround(1 - share);
    for (let c = 0, to = at; c < 3; c++, to += dots.length) {
      out[to] = fround(fround(out[to] * rest) + (c === 0 ? fround(255 * share) : 0));
    }
  }
}
