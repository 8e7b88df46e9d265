import { disc, fill, type Plane, rectangle } from './paint.js';
import type { Row, World } from './world.js';

/**
 * Push-T: a disc pushes a T over a table (stable-worldmodel's `envs/pusht`, which runs on pymunk 7 / Chipmunk). The disc
 * follows its target as a critically damped spring and is never pushed back; nothing rubs; a block that is not pushed stands
 * still. Contacts are solved as Chipmunk does: sequential impulses with warm start, overlap removed by extra velocities that
 * last one step.
 */

const PHYSICS_STEPS = 10;
const DT = 0.01;
const STIFFNESS = 100;
const DAMPING = 20;
const ACTION_SCALE = 100;
const DISC = 15;
const SCALE = 30;
const TABLE = 512;
/** Inner faces of the walls. */
const [LOW, HIGH] = [7, 504];
const MASS = 1;
/** Twice the moment of the bar about the body's origin. */
const MOMENT = 3000;
/** Centre of gravity of the T in its own coordinates. */
const CENTRE_Y = 45;

/** The bar and the stem, about the centre of gravity: left, top, right, bottom. */
const PARTS = [
  [-2 * SCALE, 0, 2 * SCALE, SCALE],
  [-SCALE / 2, SCALE, SCALE / 2, 4 * SCALE],
].map(([left, top, right, bottom]) => [left, top - CENTRE_Y, right, bottom - CENTRE_Y] as const);

/** Vertices in body coordinates, bar first, [8, 2]. */
export const BLOCK_VERTICES: readonly (readonly [number, number])[] = PARTS.flatMap(([left, top, right, bottom]) =>
  [
    [left, top],
    [right, top],
    [right, bottom],
    [left, bottom],
  ].map(([x, y]) => [x, y + CENTRE_Y] as const),
);
/** Mass, moment, centre of gravity (x, y) of the block. */
export const BLOCK_BODY = [MASS, MOMENT, 0, CENTRE_Y] as const;

const ITERATIONS = 10;
const SLOP = 0.1;
/** Share of the overlap that is removed in one step. */
const BIAS = 1 - (1 - 0.1) ** (60 * DT);

/**
 * Numbers of a state. Those from VX on are the block's motion and the impulses that it felt last: its two parts from the disc,
 * and each corner from the walls left or right and above or below.
 */
const [AX, AY, BX, BY, ANGLE, AVX, AVY, VX, VY, SPIN, BIAS_X, BIAS_Y, BIAS_SPIN, FELT] = Array.from(
  { length: 14 },
  (_, i) => i,
);
const FELT_WALLS = FELT + PARTS.length;
const HIDDEN = [
  ...['block vx', 'block vy', 'block spin', 'block bias x', 'block bias y', 'block bias spin'],
  ...PARTS.map((_, part) => `part ${part} felt`),
  ...BLOCK_VERTICES.flatMap((_, corner) => ['x', 'y'].map((axis) => `corner ${corner} felt ${axis}`)),
];

interface Contact {
  /** Towards the block. */
  nx: number;
  ny: number;
  /** From the centre of gravity to the place that is pushed. */
  rx: number;
  ry: number;
  /** Negative: overlap. */
  gap: number;
  /** Speed of what pushes, along the normal. */
  drive: number;
  impulse: number;
  biasImpulse: number;
  /** Where its impulse is kept for the next step. */
  felt: number;
}

/** The two sides of a box that a point inside is nearest to decide where it is pushed out. */
function discContact(state: Row, part: number, cos: number, sin: number): Contact | undefined {
  const [left, top, right, bottom] = PARTS[part];
  const [gx, gy] = centre(state, cos, sin);
  const [dx, dy] = [state[AX] - gx, state[AY] - gy];
  // The disc's middle in the block's frame.
  const [x, y] = [cos * dx + sin * dy, cos * dy - sin * dx];
  let [px, py] = [Math.min(right, Math.max(left, x)), Math.min(bottom, Math.max(top, y))];
  let [nx, ny] = [px - x, py - y];
  let distance = Math.hypot(nx, ny);
  if (distance > DISC) return undefined;
  if (distance > 0) {
    nx /= distance;
    ny /= distance;
  } else {
    const depths = [x - left, right - x, y - top, bottom - y];
    const side = depths.indexOf(Math.min(...depths));
    distance = -depths[side];
    [nx, ny] = WALL_NORMALS[side];
    [px, py] = [side === 0 ? left : side === 1 ? right : x, side === 2 ? top : side === 3 ? bottom : y];
  }
  const normal = [cos * nx - sin * ny, sin * nx + cos * ny];
  return {
    nx: normal[0],
    ny: normal[1],
    rx: cos * px - sin * py,
    ry: sin * px + cos * py,
    gap: distance - DISC,
    drive: state[AVX] * normal[0] + state[AVY] * normal[1],
    impulse: state[FELT + part],
    biasImpulse: 0,
    felt: FELT + part,
  };
}

const centre = (state: Row, cos: number, sin: number): readonly [number, number] => [
  state[BX] - sin * CENTRE_Y,
  state[BY] + cos * CENTRE_Y,
];

/** The two deepest corners of each part beyond each wall. */
function wallContacts(state: Row, cos: number, sin: number, contacts: Contact[]): void {
  const [gx, gy] = centre(state, cos, sin);
  if (gx > LOW + 90 && gx < HIGH - 90 && gy > LOW + 90 && gy < HIGH - 90) return;
  const corners = BLOCK_VERTICES.map(([x, y]) => [cos * x - sin * (y - CENTRE_Y), sin * x + cos * (y - CENTRE_Y)]);
  for (let part = 0; part < PARTS.length; part++) {
    for (const [nx, ny] of WALL_NORMALS) {
      const wall = nx + ny > 0 ? LOW : -HIGH;
      const beyond = [0, 1, 2, 3]
        .map((i) => {
          const [rx, ry] = corners[4 * part + i];
          return {
            rx,
            ry,
            gap: nx * (gx + rx) + ny * (gy + ry) - wall,
            felt: FELT_WALLS + 2 * (4 * part + i) + Math.abs(ny),
          };
        })
        .filter(({ gap }) => gap <= 0)
        .sort((a, b) => a.gap - b.gap);
      for (const at of beyond.slice(0, 2))
        contacts.push({ nx, ny, ...at, drive: 0, impulse: state[at.felt], biasImpulse: 0 });
    }
  }
}

const WALL_NORMALS = [
  [1, 0],
  [-1, 0],
  [0, 1],
  [0, -1],
] as const;

const push = (state: Row, { nx, ny, rx, ry }: Contact, impulse: number, first: number): void => {
  state[first] += (impulse * nx) / MASS;
  state[first + 1] += (impulse * ny) / MASS;
  state[first + 2] += (impulse * (rx * ny - ry * nx)) / MOMENT;
};

const along = (state: Row, { nx, ny, rx, ry }: Contact, first: number): number =>
  state[first] * nx + state[first + 1] * ny + state[first + 2] * (rx * ny - ry * nx);

/** One step of the physics; the disc's velocity is given. */
function physicsStep(state: Row): void {
  state[AX] += state[AVX] * DT;
  state[AY] += state[AVY] * DT;
  let [cos, sin] = [Math.cos(state[ANGLE]), Math.sin(state[ANGLE])];
  const moves = state[VX] !== 0 || state[VY] !== 0 || state[SPIN] !== 0 || state[BIAS_X] !== 0 || state[BIAS_Y] !== 0;
  if (moves || state[BIAS_SPIN] !== 0) {
    const [gx, gy] = centre(state, cos, sin);
    state[ANGLE] += (state[SPIN] + state[BIAS_SPIN]) * DT;
    cos = Math.cos(state[ANGLE]);
    sin = Math.sin(state[ANGLE]);
    state[BX] = gx + (state[VX] + state[BIAS_X]) * DT + sin * CENTRE_Y;
    state[BY] = gy + (state[VY] + state[BIAS_Y]) * DT - cos * CENTRE_Y;
    state.fill(0, VX, FELT);
  }
  // Walls come first, as static shapes do in Chipmunk: where disc and wall squeeze the block the solver does not settle.
  const contacts: Contact[] = [];
  wallContacts(state, cos, sin, contacts);
  if (Math.hypot(state[AX] - state[BX], state[AY] - state[BY]) < 4.2 * SCALE + DISC) {
    for (let part = 0; part < PARTS.length; part++) {
      const contact = discContact(state, part, cos, sin);
      if (contact) contacts.push(contact);
    }
  }
  state.fill(0, FELT);
  if (contacts.length === 0) return;
  for (const contact of contacts) push(state, contact, contact.impulse, VX);
  for (let i = 0; i < ITERATIONS; i++) {
    for (const contact of contacts) {
      const lever = contact.rx * contact.ny - contact.ry * contact.nx;
      const mass = 1 / (1 / MASS + (lever * lever) / MOMENT);
      const wanted = (-BIAS * Math.min(0, contact.gap + SLOP)) / DT;
      const bias = Math.max(0, contact.biasImpulse + (wanted - along(state, contact, BIAS_X)) * mass);
      push(state, contact, bias - contact.biasImpulse, BIAS_X);
      contact.biasImpulse = bias;
      const impulse = Math.max(0, contact.impulse - (along(state, contact, VX) - contact.drive) * mass);
      push(state, contact, impulse - contact.impulse, VX);
      contact.impulse = impulse;
    }
  }
  for (const { felt, impulse } of contacts) state[felt] = impulse;
}

const PIXELS = 96;

/** Success: block and disc within 20 of the goal, and the angle within 20 degrees. */
export function pushBlock(): World {
  return {
    name: 'push-t',
    state: ['agent x', 'agent y', 'block x', 'block y', 'block angle', 'agent vx', 'agent vy', ...HIDDEN],
    action: ['dx', 'dy'].map((name) => ({ name, low: -1, high: 1 })),
    factors: [
      { name: 'brightness', usual: 1, low: 0.4, high: 1 },
      { name: 'block grey', usual: 119, low: 40, high: 180, whole: true },
    ],
    picture: [3, PIXELS, PIXELS],
    goal: 5,
    steps: 200,
    begin(state, goal, _, random) {
      state.fill(0);
      const between = (low: number, high: number): number => low + (high - low) * random.uniform();
      for (const row of [state, goal]) {
        do {
          row[AX] = between(50, 450);
          row[AY] = between(50, 450);
          row[BX] = between(150, 350);
          row[BY] = between(150, 350);
          row[ANGLE] = between(0, 2 * Math.PI);
        } while (PARTS.some((_, part) => discContact(row, part, Math.cos(row[ANGLE]), Math.sin(row[ANGLE]))));
      }
    },
    advance(state, action) {
      const targetX = state[AX] + ACTION_SCALE * action[0];
      const targetY = state[AY] + ACTION_SCALE * action[1];
      for (let i = 0; i < PHYSICS_STEPS; i++) {
        state[AVX] += (STIFFNESS * (targetX - state[AX]) - DAMPING * state[AVX]) * DT;
        state[AVY] += (STIFFNESS * (targetY - state[AY]) - DAMPING * state[AVY]) * DT;
        physicsStep(state);
      }
    },
    paint(state, factors, out) {
      const plane: Plane = { data: out, height: PIXELS, width: PIXELS };
      const scale = PIXELS / TABLE;
      fill(plane, [Math.round(255 * factors[0])]);
      const [cos, sin] = [Math.cos(state[ANGLE]), Math.sin(state[ANGLE])];
      const [gx, gy] = centre(state, cos, sin);
      for (const [left, top, right, bottom] of PARTS) {
        const [x, y] = [(left + right) / 2, (top + bottom) / 2];
        rectangle(
          plane,
          [(gx + cos * x - sin * y) * scale, (gy + sin * x + cos * y) * scale],
          [((right - left) / 2) * scale, ((bottom - top) / 2) * scale],
          state[ANGLE],
          [factors[1], factors[1], factors[1] + 16],
        );
      }
      disc(plane, state[AX] * scale, state[AY] * scale, DISC * scale, [65, 105, 225]);
    },
    reached(state, goal) {
      const distance = Math.hypot(...[AX, AY, BX, BY].map((i) => state[i] - goal[i]));
      const turn = Math.abs(state[ANGLE] - goal[ANGLE]) % (2 * Math.PI);
      return { distance, success: distance < 20 && Math.min(turn, 2 * Math.PI - turn) < Math.PI / 9 };
    },
  };
}
