import { BORDERS, bounce, type Layout, paintDot, paintWalls, SIZE, SUCCESS_DISTANCE } from './two-rooms.js';
import type { Row, World } from './world.js';

/**
 * The Wall task of DINO-WM and JEPA-WMs: Two Rooms with a wall of 6, a larger dot, actions twice as long, in colour, and start
 * and goal anywhere in different rooms.
 */

const WALL_HALF = 3;
const DOOR_HALF = 4;
const DOT_STD = 1.7;
const ACTION_SCALE = 2;
const LARGEST = 2.45;

const layoutOf = ([wall, door, wallHalf, doorHalf]: Row): Layout => ({ wall, door, wallHalf, doorHalf });

export function wall(): World {
  const walls = new Uint8Array(SIZE * SIZE);
  const dot = new Uint8Array(SIZE * SIZE);
  return {
    name: 'wall',
    state: ['x', 'y'],
    action: ['dx', 'dy'].map((name) => ({ name, low: -LARGEST / ACTION_SCALE, high: LARGEST / ACTION_SCALE })),
    factors: [
      { name: 'wall', usual: 32, low: 20, high: 44, whole: true },
      { name: 'door', usual: 30, low: 10, high: 54, whole: true },
      { name: 'wall half', usual: WALL_HALF, low: 1, high: 5, whole: true },
      { name: 'door half', usual: DOOR_HALF, low: 2, high: 8, whole: true },
      { name: 'dot size', usual: DOT_STD, low: 1, high: 3 },
    ],
    picture: [3, SIZE, SIZE],
    goal: 2,
    steps: 200,
    begin(state, goal, factors, random) {
      const margin = 2 * factors[4];
      const [low, high] = [BORDERS[0] + margin, BORDERS[1] - margin];
      const [left, right] = [factors[0] - factors[2] - margin, factors[0] + factors[2] + margin];
      const rooms = [
        [low, left],
        [right, high],
      ];
      const first = random.integer(2);
      for (const [row, room] of [
        [state, rooms[first]],
        [goal, rooms[1 - first]],
      ] as const) {
        row[0] = room[0] + (room[1] - room[0]) * random.uniform();
        row[1] = low + (high - low) * random.uniform();
      }
    },
    advance(state, action, factors, random) {
      const move = [ACTION_SCALE * action[0], ACTION_SCALE * action[1]];
      state.set(bounce(state[0], state[1], move[0], move[1], layoutOf(factors), random.normal));
    },
    paint(state, factors, out) {
      paintWalls(layoutOf(factors), walls);
      paintDot(state[0], state[1], dot, factors[4]);
      const pixels = SIZE * SIZE;
      for (let i = 0; i < pixels; i++) {
        // A red dot before a white ground and black walls.
        const ground = 255 - walls[i];
        out[i] = ground + Math.round(((255 - ground) * dot[i]) / 255);
        out[pixels + i] = ground - Math.round((ground * dot[i]) / 255);
        out[2 * pixels + i] = out[pixels + i];
      }
    },
    // Coordinates count the middles of pixels.
    place: (state) => [state[0] + 0.5, state[1] + 0.5],
    reached(state, goal) {
      const distance = Math.hypot(state[0] - goal[0], state[1] - goal[1]);
      return { distance, success: distance < SUCCESS_DISTANCE };
    },
  };
}
