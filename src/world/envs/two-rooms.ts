import type { Random } from '../../base/random.js';
import { type Scaling, scale } from '../../data/episodes/scaling.js';
import { drawTruncatedNormal, drawVonMises, type TruncatedNormal } from './distributions.js';
import type { Factor, Row, World } from './world.js';

/**
 * Two Rooms of EB-JEPA (`eb_jepa/datasets/two_rooms`, commit 966e61e): a dot in two rooms with a door between them.
 * Coordinates are (x = column, y = row) in pixels. Data are made with one contact rule, evaluation has another.
 */

export const SIZE = 65;
/** Index of the left and upper, and of the right and lower border line. */
export const BORDERS = [4, 60] as const;
const DOT_STD = 1.3;
/** Half of the door, and half of the wall's width of 3. */
const DOOR = 4;
const WALL_HALF = 1;

/** Success: nearer to the goal than this, in pixels, at the last step. */
export const SUCCESS_DISTANCE = 4.5;
/** Steps an episode. */
const STEPS = 200;

/** Where the wall and the middle of its door are; half the wall's width and half the door where they are not the usual ones. */
export interface Layout {
  readonly wall: number;
  readonly door: number;
  readonly wallHalf?: number;
  readonly doorHalf?: number;
}

// Contacts -----------------------------------------------------------------------------------------------------------

/** Whether a move from (x, y) by (dx, dy) is cancelled by the rule of the data. */
export function blocked(x: number, y: number, dx: number, dy: number, layout: Layout): boolean {
  const [low, high] = BORDERS;
  const { wall, door, wallHalf = WALL_HALF, doorHalf = DOOR } = layout;
  const [nx, ny] = [x + dx, y + dy];
  for (const border of [low, high]) {
    if ((x - border) * (nx - border) <= 0 || (y - border) * (ny - border) <= 0) return true;
  }
  const [left, right] = [wall - wallHalf, wall + wallHalf];
  const crosses = (edge: number): boolean => {
    if ((y - edge) * (ny - edge) >= 0) return false;
    const at = x + (dx * (edge - y)) / dy;
    return left < at && at < right;
  };
  if ((dy > 0 && crosses(door + doorHalf)) || (dy < 0 && crosses(door - doorHalf))) return true;
  const inside = x >= left && x <= right;
  const nextInside = nx >= left && nx <= right;
  const across = x <= right !== nx <= right && x >= left !== nx >= left;
  if (inside === nextInside && !across) return false;
  const through = (face: number): boolean => {
    if ((face - x) * (face - nx) >= 0) return true;
    const at = y + (dy * (face - x)) / dx;
    return door - doorHalf <= at && at <= door + doorHalf;
  };
  return !(through(left) && through(right));
}

/** Deviation of the noise of a bounce, in pixels. */
const BOUNCE_STD = 0.5;
/** How far inside a bounce ends at least. */
const NUDGE = 0.3;

/**
 * The rule of the evaluation: a move that hits something ends where it hit plus noise, on the side it came from. `normal`
 * gives standard normal numbers, two a hit, in the order of the reference: a door edge once; otherwise the vertical hit and
 * then the horizontal one. Moves with an x-component of exactly 0, for which the reference gives NaN, take the limit.
 */
export function bounce(
  x: number,
  y: number,
  dx: number,
  dy: number,
  layout: Layout,
  normal: () => number,
): readonly [number, number] {
  const { wall, door, wallHalf = WALL_HALF, doorHalf = DOOR } = layout;
  const [nx, ny] = [x + dx, y + dy];
  const [low, high] = BORDERS;
  const yAt = (face: number): number => (dx === 0 ? y : y + ((face - x) * dy) / dx);
  const xAt = (face: number): number => (dx === 0 || dy === 0 ? x : x + ((face - y) * dx) / dy);

  // The edges of the door, inside of the wall's thickness.
  const edge = dy > 0 ? door + doorHalf : door - doorHalf;
  if ((dy > 0 && ny > edge && y < edge) || (dy < 0 && ny < edge && y > edge)) {
    const at = xAt(edge);
    if (wall - wallHalf <= at && at <= wall + wallHalf) {
      const [n0, n1] = [BOUNCE_STD * normal(), BOUNCE_STD * normal()];
      return [at + n0, edge - Math.sign(dy) * Math.abs(n1)];
    }
  }

  // The room: borders, or the face of the wall on the dot's side, which has the door.
  const onLeft = wall > x;
  const left = onLeft ? low : wall + wallHalf;
  const right = onLeft ? wall - wallHalf : high;
  const touches = (from: number, to: number, face: number): boolean =>
    Math.sign(from - face) * Math.sign(to - face) <= 0;
  const solid = (face: number): boolean => {
    if (face === (onLeft ? left : right)) return true;
    const at = yAt(face);
    return at < door - doorHalf || at > door + doorHalf;
  };
  const vertical = [left, right].find((face) => touches(x, nx, face) && solid(face));
  const horizontal = [low, high].find((face) => touches(y, ny, face));
  if (vertical === undefined && horizontal === undefined) return [nx, ny];

  let hit: [number, number] | undefined;
  if (vertical !== undefined) {
    const [n0, n1] = [BOUNCE_STD * normal(), BOUNCE_STD * normal()];
    hit = [vertical + Math.abs(n0) * Math.sign(x - vertical), yAt(vertical) + n1];
  }
  if (horizontal !== undefined) {
    const [n0, n1] = [BOUNCE_STD * normal(), BOUNCE_STD * normal()];
    const nearer =
      vertical !== undefined &&
      Math.hypot(x - vertical, y - yAt(vertical)) < Math.hypot(x - xAt(horizontal), y - horizontal);
    if (!nearer) hit = [xAt(horizontal) + n0, horizontal + Math.abs(n1) * Math.sign(y - horizontal)];
  }
  const inside = (value: number, from: number, to: number): number => {
    if (value <= from) return from + NUDGE;
    return value >= to ? to - NUDGE : value;
  };
  const [hx, hy] = hit as [number, number];
  return [inside(hx, left, right), inside(hy, low, high)];
}

// Pictures -----------------------------------------------------------------------------------------------------------

/** Adds a dot to bytes [size, size]: floor(255 exp(-d^2 / (2 std^2))). The bytes are cleared first. */
export function paintDot(x: number, y: number, out: Uint8Array, std = DOT_STD, size = SIZE): void {
  out.fill(0);
  // Below one 255th nothing is left.
  const reach = std * Math.sqrt(2 * Math.log(255)) + 1;
  const [firstRow, lastRow] = [Math.max(0, Math.ceil(y - reach)), Math.min(size - 1, Math.floor(y + reach))];
  const [first, last] = [Math.max(0, Math.ceil(x - reach)), Math.min(size - 1, Math.floor(x + reach))];
  const scale = -1 / (2 * std * std);
  for (let row = firstRow; row <= lastRow; row++) {
    for (let column = first; column <= last; column++) {
      out[row * size + column] = Math.floor(255 * Math.exp(scale * ((column - x) ** 2 + (row - y) ** 2)));
    }
  }
}

/** Draws the wall with its door, and the borders over it, into bytes [65, 65]. */
export function paintWalls({ wall, door, wallHalf = WALL_HALF, doorHalf = DOOR }: Layout, out: Uint8Array): void {
  out.fill(0);
  const [low, high] = BORDERS;
  for (let row = 0; row < SIZE; row++) {
    const line = row * SIZE;
    const inDoor = row >= door - doorHalf && row <= door + doorHalf;
    for (let column = 0; column < SIZE; column++) {
      const inWall = !inDoor && column >= wall - wallHalf && column <= wall + wallHalf;
      const border = row === low || row === high || column === low || column === high;
      if (inWall || border) out[line + column] = 255;
    }
  }
}

// Normalisation ------------------------------------------------------------------------------------------------------

/** EB-JEPA's: each channel to 0..1 by its own range, then standardised. */
export const TWO_ROOMS_SCALING: Scaling = { range: 'own', mean: [0.0026, 0.0989], std: [0.0369, 0.2986] };
const PLACE_MEAN = [31.5863, 32.0618];
const PLACE_STD = [16.1025, 16.1353];
const EPS = 1e-6;

/** Bytes [pictures, 2, ...] of `pixels` pixels a channel -> floats. */
export const normalizePictures = (bytes: Uint8Array, pixels = SIZE * SIZE): Float32Array =>
  scale(bytes, pixels, TWO_ROOMS_SCALING);

/** Back to 0..1 of each channel's own range (the range itself is lost; `std` without its epsilon, as the reference has it). */
export function unnormalizePictures(values: ArrayLike<number>, pixels = SIZE * SIZE): Float32Array {
  return Float32Array.from(values, (value, i) => {
    const channel = Math.floor(i / pixels) % 2;
    return value * TWO_ROOMS_SCALING.std[channel] + TWO_ROOMS_SCALING.mean[channel];
  });
}

/** Places [n, 2] in pixels -> standardised. */
export const normalizePlaces = (places: ArrayLike<number>): Float32Array =>
  Float32Array.from(places, (value, i) => (value - PLACE_MEAN[i % 2]) / (PLACE_STD[i % 2] + EPS));

/** Mean squared error of standardised places -> pixels squared. */
export const placeErrorInPixels = (error: number): number => error * ((PLACE_STD[0] + PLACE_STD[1]) / 2) ** 2;

// Layouts ------------------------------------------------------------------------------------------------------------

export interface LayoutOptions {
  /** One wall and door only. */
  readonly fixed?: Layout;
  /** Walls and doors (first and last) that are left out together, or (`only`) alone stay in. */
  readonly exclude?: { readonly walls: readonly [number, number]; readonly doors: readonly [number, number] };
  readonly only?: boolean;
}

/** A layout of the reference's table; it lists each twice, but draws the horizontal one vertically too. */
export interface ListedLayout extends Layout {
  readonly horizontal: boolean;
}

const WALLS = [20, 44] as const;
const DOORS = [10, 54] as const;

/** The table of layouts, by wall, then by door. */
export function layouts({ fixed, exclude, only = false }: LayoutOptions = {}): ListedLayout[] {
  if (fixed) return [{ ...fixed, horizontal: false }];
  const within = (value: number, [first, last]: readonly [number, number]): boolean => value >= first && value <= last;
  const listed: ListedLayout[] = [];
  for (let wall = WALLS[0]; wall <= WALLS[1]; wall++) {
    for (let door = DOORS[0]; door <= DOORS[1]; door++) {
      const special = exclude !== undefined && within(wall, exclude.walls) && within(door, exclude.doors);
      if (exclude && special !== only) continue;
      listed.push({ wall, door, horizontal: false }, { wall, door, horizontal: true });
    }
  }
  return listed;
}

/** Start and goal of an episode from five uniform numbers: x and x, y and y, and whether the x change places. */
export function episodeEnds(
  { wall, wallHalf = WALL_HALF }: Layout,
  [startX, goalX, startY, goalY, swap]: ArrayLike<number> & Iterable<number>,
): { readonly start: readonly [number, number]; readonly goal: readonly [number, number] } {
  const margin = 2 * DOT_STD;
  const [low, high] = [BORDERS[0] + margin, BORDERS[1] - margin];
  const between = (from: number, to: number, share: number): number => from + share * (to - from);
  const left = between(low, wall - wallHalf - margin, startX);
  const right = between(wall + wallHalf + margin, high, goalX);
  const [from, to] = swap < 0.5 ? [right, left] : [left, right];
  return { start: [from, between(low, high, startY)], goal: [to, between(low, high, goalY)] };
}

// Data ---------------------------------------------------------------------------------------------------------------

/** Lengths of the moves of the data. */
export const STEP_LENGTHS: TruncatedNormal = { mean: 1, std: 0.4, low: 0.2, high: 1.8 };
/** Concentration of the turns from move to move. */
export const TURN_KAPPA = 5;
const DOOR_POINT_STD = 1.4;
const CROSSING_RATE = 0.35;

/** A walk: its first heading, the turns from move to move, and the lengths of all moves. */
export interface Walk {
  readonly heading: number;
  readonly turns: ArrayLike<number>;
  readonly lengths: ArrayLike<number>;
}

/** The moves of a walk, [moves, 2]. */
export function walkMoves({ heading, turns, lengths }: Walk): Float64Array {
  const moves = new Float64Array(2 * lengths.length);
  let angle = heading;
  for (let i = 0; i < lengths.length; i++) {
    if (i > 0) angle += turns[i - 1];
    moves[2 * i] = lengths[i] * Math.cos(angle);
    moves[2 * i + 1] = lengths[i] * Math.sin(angle);
  }
  return moves;
}

/** A trajectory through the door: where and when, the walks to the left of it and (from the opposite heading) to the right. */
export interface Crossing {
  readonly point: readonly [number, number];
  /** The point is where the dot would be after this many moves, 1 or more. */
  readonly step: number;
  readonly left: Walk;
  readonly right: Walk;
  /** From right to left. */
  readonly mirrored: boolean;
}

/** Start and moves of a trajectory through the door. Its start is limited to the room, so that it may miss the door. */
export function crossingMoves({ point, step, left, right, mirrored }: Crossing): {
  start: [number, number];
  moves: Float64Array;
} {
  const [away, on] = [walkMoves(left), walkMoves(right)];
  const count = left.lengths.length;
  const moves = new Float64Array(2 * count);
  for (let i = 0; i < step; i++) {
    for (const axis of [0, 1]) moves[2 * i + axis] = -away[2 * (step - 1 - i) + axis];
  }
  for (let i = step; i < count; i++) {
    for (const axis of [0, 1]) moves[2 * i + axis] = on[2 * (i - step + 1) + axis];
  }
  let before = step;
  if (mirrored) {
    const forward = moves.slice();
    for (let i = 0; i < count; i++) {
      for (const axis of [0, 1]) moves[2 * i + axis] = -forward[2 * (count - 1 - i) + axis];
    }
    // One move more than leads to the door: the reference counts so.
    before = count + 1 - step;
  }
  const start = [0, 1].map((axis) => {
    let sum = 0;
    for (let i = 0; i < before; i++) sum += moves[2 * i + axis];
    return Math.min(BORDERS[1] - 0.01, Math.max(BORDERS[0] + 0.01, point[axis] - sum));
  });
  return { start: start as [number, number], moves };
}

/** A place within the room [4, 60]; inside of the solid wall x is one of `instead` (left, right). */
export function plainStart(
  { wall, door, wallHalf = WALL_HALF, doorHalf = DOOR }: Layout,
  uniform: readonly [number, number],
  instead: (left: number, right: number) => number,
): { start: [number, number]; moved: boolean } {
  const [x, y] = uniform.map((share) => share * (BORDERS[1] - BORDERS[0]) + BORDERS[0]);
  const moved = x >= wall - wallHalf && x <= wall + wallHalf && (y < door - doorHalf || y > door + doorHalf);
  return { start: [moved ? instead(wall - wallHalf, wall + wallHalf) : x, y], moved };
}

/** Places along moves under the rule of the data, [moves + 1, 2]. */
export function follow(start: readonly [number, number], moves: ArrayLike<number>, layout: Layout): Float64Array {
  const places = new Float64Array(moves.length + 2);
  let [x, y] = start;
  places.set(start);
  for (let i = 0; i < moves.length; i += 2) {
    if (!blocked(x, y, moves[i], moves[i + 1], layout)) {
      x += moves[i];
      y += moves[i + 1];
    }
    places[i + 2] = x;
    places[i + 3] = y;
  }
  return places;
}

function drawWalk(random: Random, count: number, heading: number): Walk {
  return {
    heading,
    turns: Float64Array.from({ length: count - 1 }, () => drawVonMises(random, TURN_KAPPA)),
    lengths: Float64Array.from({ length: count }, () => drawTruncatedNormal(random, STEP_LENGTHS)),
  };
}

/** A trajectory of the data: 35 of 100 pass the door (EB-JEPA's generator). */
export function drawTrajectory(
  layout: Layout,
  random: Random,
  count = 90,
  crossingRate = CROSSING_RATE,
): { readonly start: readonly [number, number]; readonly moves: Float64Array } {
  if (random.uniform() >= crossingRate) {
    const { start } = plainStart(layout, [random.uniform(), random.uniform()], (left, right) =>
      random.uniform() < 0.5
        ? BORDERS[0] + (left - BORDERS[0]) * random.uniform()
        : right + (BORDERS[1] - right) * random.uniform(),
    );
    return { start, moves: walkMoves(drawWalk(random, count, 2 * Math.PI * random.uniform())) };
  }
  const { wall, door, wallHalf = WALL_HALF, doorHalf = DOOR } = layout;
  const x = wall - wallHalf + 2 * wallHalf * random.uniform();
  const y = drawTruncatedNormal(random, {
    mean: door,
    std: DOOR_POINT_STD,
    low: door - doorHalf,
    high: door + doorHalf,
  });
  const heading = Math.PI + ((random.uniform() - 0.5) * Math.PI) / 2;
  return crossingMoves({
    point: [x, y],
    step: 1 + random.integer(count),
    left: drawWalk(random, count, heading),
    right: drawWalk(random, count, heading + Math.PI),
    mirrored: random.uniform() < 0.5,
  });
}

// The world ----------------------------------------------------------------------------------------------------------

const FACTORS: readonly Factor[] = [
  { name: 'wall', usual: 32, low: WALLS[0], high: WALLS[1], whole: true, drawn: true },
  { name: 'door', usual: 18, low: DOORS[0], high: DOORS[1], whole: true, drawn: true },
  { name: 'wall half', usual: WALL_HALF, low: 1, high: 4, whole: true },
  { name: 'door half', usual: DOOR, low: 2, high: 8, whole: true },
  { name: 'dot size', usual: DOT_STD, low: 0.8, high: 2.5 },
  { name: 'dot brightness', usual: 1, low: 0.3, high: 1 },
  { name: 'swapped channels', usual: 0, low: 0, high: 1, whole: true },
];

const layoutOf = (factors: Row): Layout => ({
  wall: factors[0],
  door: factors[1],
  wallHalf: factors[2],
  doorHalf: factors[3],
});

/** Largest component of an action that behaviours and planners are told of; the world does not enforce it. */
const LARGEST = 2.45;

/** Two Rooms with the contact rule of the evaluation (`bounce`) or of the data (`stay`). */
export function twoRooms(contact: 'bounce' | 'stay' = 'bounce'): World {
  const pixels = SIZE * SIZE;
  return {
    name: 'two-rooms',
    state: ['x', 'y'],
    action: ['dx', 'dy'].map((name) => ({ name, low: -LARGEST, high: LARGEST })),
    factors: FACTORS,
    picture: [2, SIZE, SIZE],
    goal: 2,
    steps: STEPS,
    begin(state, goal, factors, random) {
      const ends = episodeEnds(
        layoutOf(factors),
        Float64Array.from({ length: 5 }, () => random.uniform()),
      );
      state.set(ends.start);
      goal.set(ends.goal);
    },
    advance(state, action, factors, random) {
      const [x, y] = state;
      const layout = layoutOf(factors);
      if (contact === 'bounce') state.set(bounce(x, y, action[0], action[1], layout, random.normal));
      else if (!blocked(x, y, action[0], action[1], layout)) {
        state[0] += action[0];
        state[1] += action[1];
      }
    },
    paint(state, factors, out) {
      const swapped = factors[6] === 1;
      const dot = swapped ? out.subarray(pixels) : out.subarray(0, pixels);
      paintDot(state[0], state[1], dot, factors[4]);
      if (factors[5] !== 1) for (let i = 0; i < pixels; i++) dot[i] *= factors[5];
      paintWalls(layoutOf(factors), swapped ? out.subarray(0, pixels) : out.subarray(pixels));
    },
    // Coordinates count the middles of pixels.
    place: (state) => [state[0] + 0.5, state[1] + 0.5],
    reached(state, goal) {
      const distance = Math.hypot(state[0] - goal[0], state[1] - goal[1]);
      return { distance, success: distance < SUCCESS_DISTANCE };
    },
  };
}

/** One of the two signs of the reference: mean squared difference of coordinates below 1 (reported there, without use). */
export const nearGoal = (position: ArrayLike<number>, goal: ArrayLike<number>): boolean =>
  ((position[0] - goal[0]) ** 2 + (position[1] - goal[1]) ** 2) / 2 < 1;
