import type { Random } from '../../base/random.js';
import { disc, fill, rectangle } from './paint.js';
import type { Factor, Row, World } from './world.js';

/**
 * A disc among rectangles: a move that would touch one is cancelled (stable-worldmodel, `envs/simple_point_maze.py`). Mazes
 * are rectangles too: walls between cells.
 */

/** Left, top, width, height. */
export type Box = readonly [x: number, y: number, width: number, height: number];

/** Side of the world. */
export const MAZE_SIZE = 5;
const RADIUS = 0.1;
const GOAL_RADIUS = 0.2;
const REACH = 0.2;
/** Rectangles a world can have. */
const MOST = 40;
const PIXELS = 64;

/** Whether a disc touches a rectangle. */
export function touches(x: number, y: number, radius: number, [left, top, width, height]: Box): boolean {
  const dx = x - Math.min(left + width, Math.max(left, x));
  const dy = y - Math.min(top + height, Math.max(top, y));
  return dx * dx + dy * dy <= radius * radius;
}

export type MazeKind = 'u' | 'random' | 'boxes';

const THICK = 0.12;

/** One bar from the left wall between two arms of a corridor. */
const uMaze: readonly Box[] = [[0, 2.25, 3.4, 0.5]];

/** Walls of a spanning tree over cells x cells: every two cells are joined by one way. */
function randomMaze(random: Random, cells = 4): Box[] {
  const side = MAZE_SIZE / cells;
  const group = Array.from({ length: cells * cells }, (_, i) => i);
  const root = (i: number): number => (group[i] === i ? i : root(group[i]));
  const edges = Array.from({ length: 2 * cells * (cells - 1) }, (_, i) => {
    const across = i < cells * (cells - 1);
    const k = across ? i : i - cells * (cells - 1);
    const [row, column] = across ? [Math.floor(k / (cells - 1)), k % (cells - 1)] : [Math.floor(k / cells), k % cells];
    return {
      from: row * cells + column,
      to: across ? row * cells + column + 1 : (row + 1) * cells + column,
      row,
      column,
      across,
    };
  });
  const walls: Box[] = [];
  for (const i of random.permutation(edges.length)) {
    const { from, to, row, column, across } = edges[i];
    if (root(from) !== root(to)) group[root(from)] = root(to);
    else if (across) walls.push([(column + 1) * side - THICK / 2, row * side, THICK, side]);
    else walls.push([column * side, (row + 1) * side - THICK / 2, side, THICK]);
  }
  return walls;
}

function randomBoxes(random: Random): Box[] {
  return Array.from({ length: 4 + random.integer(3) }, (): Box => {
    const [width, height] = [0.5 + random.uniform(), 0.5 + random.uniform()];
    return [(MAZE_SIZE - width) * random.uniform(), (MAZE_SIZE - height) * random.uniform(), width, height];
  });
}

const BOX_FACTORS: readonly Factor[] = Array.from({ length: MOST }, (_, i) =>
  ['left', 'top', 'width', 'height'].map((name) => ({
    ...{ name: `wall ${i} ${name}`, usual: 0, low: 0, high: MAZE_SIZE },
    own: true,
  })),
).flat();

const FIRST_BOX = 4;

/** The rectangles in a row of factors. */
function boxesOf(factors: Row): Box[] {
  return Array.from({ length: factors[3] }, (_, i) => {
    const at = FIRST_BOX + 4 * i;
    return [factors[at], factors[at + 1], factors[at + 2], factors[at + 3]] as Box;
  });
}

/** A U, a new random maze every episode (or every seed), or loose boxes. */
export function pointMaze(kind: MazeKind): World {
  const scale = PIXELS / MAZE_SIZE;
  return {
    name: `point-maze-${kind}`,
    state: ['x', 'y'],
    action: ['dx', 'dy'].map((name) => ({ name, low: -REACH, high: REACH })),
    factors: [
      { name: 'radius', usual: RADIUS, low: 0.05, high: 0.3 },
      { name: 'speed', usual: 1, low: 0.5, high: 2 },
      { name: 'brightness', usual: 1, low: 0.4, high: 1 },
      { name: 'walls', usual: 0, low: 0, high: MOST, whole: true, own: true },
      ...BOX_FACTORS,
    ],
    picture: [3, PIXELS, PIXELS],
    goal: 2,
    steps: 200,
    begin(state, goal, factors, random) {
      const walls = kind === 'u' ? uMaze : kind === 'random' ? randomMaze(random) : randomBoxes(random);
      factors[3] = walls.length;
      for (const [i, box] of walls.entries()) factors.set(box, FIRST_BOX + 4 * i);
      const free = (): [number, number] => {
        for (;;) {
          const place: [number, number] = [MAZE_SIZE * random.uniform(), MAZE_SIZE * random.uniform()];
          if (!walls.some((wall) => touches(place[0], place[1], factors[0], wall))) return place;
        }
      };
      state.set(free());
      goal.set(free());
    },
    advance(state, action, factors) {
      const [radius, speed] = factors;
      const limit = (value: number): number => Math.min(REACH, Math.max(-REACH, value));
      const [nx, ny] = [state[0] + speed * limit(action[0]), state[1] + speed * limit(action[1])];
      for (let i = 0, at = FIRST_BOX; i < factors[3]; i++, at += 4) {
        const dx = nx - Math.min(factors[at] + factors[at + 2], Math.max(factors[at], nx));
        const dy = ny - Math.min(factors[at + 1] + factors[at + 3], Math.max(factors[at + 1], ny));
        if (dx * dx + dy * dy <= radius * radius) return;
      }
      state[0] = Math.min(MAZE_SIZE, Math.max(0, nx));
      state[1] = Math.min(MAZE_SIZE, Math.max(0, ny));
    },
    paint(state, factors, out) {
      const plane = { data: out, height: PIXELS, width: PIXELS };
      fill(plane, [Math.round(255 * factors[2])]);
      for (const [x, y, width, height] of boxesOf(factors)) {
        rectangle(
          plane,
          [(x + width / 2) * scale, (y + height / 2) * scale],
          [(width / 2) * scale, (height / 2) * scale],
          0,
          [0],
        );
      }
      disc(plane, state[0] * scale, state[1] * scale, Math.max(1.5, factors[0] * scale), [255, 0, 0]);
    },
    place: (state) => [state[0] * scale, state[1] * scale],
    reached(state, goal) {
      const distance = Math.hypot(state[0] - goal[0], state[1] - goal[1]);
      return { distance, success: distance < GOAL_RADIUS };
    },
  };
}
