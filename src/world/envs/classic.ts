import { disc, fill, line, type Plane, rectangle } from './paint.js';
import type { Row, World } from './world.js';

/**
 * Classic control (Gymnasium 1.4, `envs/classic_control`) with its constants and integrators, drawn small. Rewards are not
 * part of the worlds; `classicReward` gives those of Gymnasium where published numbers need them.
 */

const SIDE = 64;
const GROUND = [235];
const INK = [40];
const MARK = [130];

const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));

const canvas = (out: Uint8Array): Plane => {
  const plane = { data: out, height: SIDE, width: SIDE };
  fill(plane, GROUND);
  return plane;
};

const distance = (state: Row, goal: Row): number => Math.hypot(...Array.from(goal, (value, i) => state[i] - value));
/** Difference of angles in [-pi, pi). */
export const wrapped = (angle: number): number => angle - 2 * Math.PI * Math.floor((angle + Math.PI) / (2 * Math.PI));

// Cart-pole ----------------------------------------------------------------------------------------------------------

const FALLEN = (12 * 2 * Math.PI) / 360;
const TRACK = 2.4;

/** A pole on a cart; an action above 0 pushes right, else left (10 N). */
export function cartPole(): World {
  return {
    name: 'cart-pole',
    state: ['x', 'speed', 'angle', 'spin'],
    action: [{ name: 'push', low: -1, high: 1 }],
    factors: [
      { name: 'gravity', usual: 9.8, low: 7, high: 13 },
      { name: 'half length', usual: 0.5, low: 0.35, high: 0.7 },
    ],
    picture: [1, SIDE, SIDE],
    goal: 4,
    steps: 500,
    begin(state, goal, _, random) {
      for (let i = 0; i < 4; i++) state[i] = 0.1 * random.uniform() - 0.05;
      goal.fill(0);
    },
    advance(state, action, [gravity, half]) {
      const [x, speed, angle, spin] = state;
      const [cart, pole, tau] = [1, 0.1, 0.02];
      const total = cart + pole;
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const push = ((action[0] > 0 ? 10 : -10) + pole * half * spin * spin * sin) / total;
      const turn = (gravity * sin - cos * push) / (half * (4 / 3 - (pole * cos * cos) / total));
      const pull = push - (pole * half * turn * cos) / total;
      state[0] = x + tau * speed;
      state[1] = speed + tau * pull;
      state[2] = angle + tau * spin;
      state[3] = spin + tau * turn;
    },
    paint([x, , angle], [, half], out) {
      const plane = canvas(out);
      const scale = SIDE / (2 * TRACK);
      const [cx, cy] = [SIDE / 2 + x * scale, 0.7 * SIDE];
      line(plane, [0, cy + 3], [SIDE, cy + 3], 1, MARK);
      rectangle(plane, [cx, cy], [5, 2.5], 0, INK);
      const length = 2 * half * 1.6 * scale;
      line(plane, [cx, cy], [cx + length * Math.sin(angle), cy - length * Math.cos(angle)], 2.5, MARK);
    },
    reached(state, goal) {
      const d = distance(state, goal);
      return { distance: d, success: Math.abs(state[2]) < FALLEN && Math.abs(state[0]) < TRACK };
    },
    over: ([x, , angle]) => Math.abs(x) > TRACK || Math.abs(angle) > FALLEN,
  };
}

// Pendulum -----------------------------------------------------------------------------------------------------------

const TORQUE = 2;

/** A pendulum that has to swing up; angle 0 is upright. */
export function pendulum(): World {
  return {
    name: 'pendulum',
    state: ['angle', 'spin'],
    action: [{ name: 'torque', low: -TORQUE, high: TORQUE }],
    factors: [
      { name: 'gravity', usual: 10, low: 7, high: 13 },
      { name: 'length', usual: 1, low: 0.7, high: 1.3 },
    ],
    picture: [1, SIDE, SIDE],
    goal: 2,
    steps: 200,
    begin(state, goal, _, random) {
      state[0] = Math.PI * (2 * random.uniform() - 1);
      state[1] = 2 * random.uniform() - 1;
      goal.fill(0);
    },
    advance(state, action, [gravity, length]) {
      const torque = clamp(action[0], -TORQUE, TORQUE);
      const turn = ((3 * gravity) / (2 * length)) * Math.sin(state[0]) + (3 / (length * length)) * torque;
      state[1] = clamp(state[1] + turn * 0.05, -8, 8);
      state[0] += state[1] * 0.05;
    },
    paint([angle], [, length], out) {
      const plane = canvas(out);
      const reach = 0.36 * SIDE * length;
      line(
        plane,
        [SIDE / 2, SIDE / 2],
        [SIDE / 2 + reach * Math.sin(angle), SIDE / 2 - reach * Math.cos(angle)],
        5,
        INK,
      );
      disc(plane, SIDE / 2, SIDE / 2, 1.5, MARK);
    },
    reached([angle, spin], goal) {
      const d = Math.hypot(wrapped(angle - goal[0]), 0.1 * (spin - goal[1]));
      return { distance: d, success: Math.abs(wrapped(angle - goal[0])) < 0.3 };
    },
  };
}

// Mountain car -------------------------------------------------------------------------------------------------------

const [LEFT_END, RIGHT_END, FASTEST] = [-1.2, 0.6, 0.07];

/** A car in a valley; actions are pushes of -1, 0, 1 (`discrete`) or any between. */
export function mountainCar(kind: 'discrete' | 'continuous'): World {
  const goalPlace = kind === 'discrete' ? 0.5 : 0.45;
  return {
    name: `mountain-car-${kind}`,
    state: ['position', 'speed'],
    action: [{ name: 'push', low: -1, high: 1 }],
    factors: [{ name: 'gravity', usual: 0.0025, low: 0.0015, high: 0.0035 }],
    picture: [1, SIDE, SIDE],
    goal: 1,
    steps: kind === 'discrete' ? 200 : 999,
    begin(state, goal, _, random) {
      state[0] = -0.6 + 0.2 * random.uniform();
      state[1] = 0;
      goal[0] = goalPlace;
    },
    advance(state, action, [gravity]) {
      const push = kind === 'discrete' ? Math.sign(action[0]) * 0.001 : clamp(action[0], -1, 1) * 0.0015;
      // The continuous car's state is stored in single precision, and so is what the cosine sees.
      const round = kind === 'discrete' ? (value: number): number => value : Math.fround;
      let speed = clamp(state[1] + push - gravity * Math.cos(round(3 * state[0])), -FASTEST, FASTEST);
      const position = clamp(state[0] + speed, LEFT_END, RIGHT_END);
      if (position === LEFT_END && speed < 0) speed = 0;
      state[0] = round(position);
      state[1] = round(speed);
    },
    paint([position], _, out) {
      const plane = canvas(out);
      const at = (x: number): [number, number] => [
        ((x - LEFT_END) / (RIGHT_END - LEFT_END)) * SIDE,
        SIDE * (0.85 - 0.5 * (0.45 * Math.sin(3 * x) + 0.55)),
      ];
      const step = (RIGHT_END - LEFT_END) / 24;
      for (let x = LEFT_END; x < RIGHT_END - 1e-9; x += step) line(plane, at(x), at(x + step), 1.5, MARK);
      const [x, y] = at(position);
      disc(plane, x, y - 3, 3.5, INK);
    },
    reached([position], goal) {
      const d = Math.abs(position - goal[0]);
      return { distance: d, success: position >= goal[0] };
    },
    over: ([position, speed]) => position >= goalPlace && speed >= 0,
  };
}

// Acrobot ------------------------------------------------------------------------------------------------------------

const [FASTEST_1, FASTEST_2] = [4 * Math.PI, 9 * Math.PI];

/** Two links; the torque (sign of the action) acts between them. Equations of the book; one Runge-Kutta step of 0.2 s. */
export function acrobot(): World {
  const raised = ([a, b]: Row): number => -Math.cos(a) - Math.cos(a + b);
  return {
    name: 'acrobot',
    state: ['angle 1', 'angle 2', 'spin 1', 'spin 2'],
    action: [{ name: 'torque', low: -1, high: 1 }],
    factors: [{ name: 'gravity', usual: 9.8, low: 7, high: 13 }],
    picture: [1, SIDE, SIDE],
    goal: 2,
    steps: 500,
    begin(state, goal, _, random) {
      for (let i = 0; i < 4; i++) state[i] = 0.2 * random.uniform() - 0.1;
      goal[0] = Math.PI;
      goal[1] = 0;
    },
    advance(state, action, [gravity]) {
      const torque = Math.sign(action[0]);
      const dt = 0.2;
      const start = Array.from(state);
      const k1 = acrobotSlope(start, torque, gravity);
      const k2 = acrobotSlope(moved(start, k1, dt / 2), torque, gravity);
      const k3 = acrobotSlope(moved(start, k2, dt / 2), torque, gravity);
      const k4 = acrobotSlope(moved(start, k3, dt), torque, gravity);
      for (let i = 0; i < 4; i++) state[i] = start[i] + (dt / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
      for (const i of [0, 1]) {
        while (state[i] > Math.PI) state[i] -= 2 * Math.PI;
        while (state[i] < -Math.PI) state[i] += 2 * Math.PI;
      }
      state[2] = clamp(state[2], -FASTEST_1, FASTEST_1);
      state[3] = clamp(state[3], -FASTEST_2, FASTEST_2);
    },
    paint([a, b], _, out) {
      const plane = canvas(out);
      const reach = 0.22 * SIDE;
      const hinge = [SIDE / 2, SIDE / 2] as const;
      const elbow = [hinge[0] + reach * Math.sin(a), hinge[1] + reach * Math.cos(a)] as const;
      line(plane, [0, hinge[1] - reach], [SIDE, hinge[1] - reach], 1, MARK);
      line(plane, hinge, elbow, 4, INK);
      line(plane, elbow, [elbow[0] + reach * Math.sin(a + b), elbow[1] + reach * Math.cos(a + b)], 4, MARK);
    },
    reached(state) {
      const height = raised(state);
      return { distance: Math.max(0, 2 - height), success: height > 1 };
    },
    over: (state) => raised(state) > 1,
  };
}

const moved = (state: readonly number[], slope: readonly number[], by: number): number[] =>
  state.map((value, i) => value + by * slope[i]);

function acrobotSlope([a, b, da, db]: readonly number[], torque: number, gravity: number): number[] {
  // Links of mass 1, length 1, centre at one half, moment 1.
  const d1 = 0.25 + (1 + 0.25 + Math.cos(b)) + 2;
  const d2 = 0.25 + 0.5 * Math.cos(b) + 1;
  const phi2 = 0.5 * gravity * Math.cos(a + b - Math.PI / 2);
  const phi1 = -0.5 * db * db * Math.sin(b) - db * da * Math.sin(b) + 1.5 * gravity * Math.cos(a - Math.PI / 2) + phi2;
  const turn2 = (torque + (d2 / d1) * phi1 - 0.5 * da * da * Math.sin(b) - phi2) / (1.25 - (d2 * d2) / d1);
  return [da, db, -(d2 * turn2 + phi1) / d1, turn2];
}

// Observations and rewards of Gymnasium -------------------------------------------------------------------------------

/** What Gymnasium's environment of that world shows of a state. */
export function classicObservation({ name }: World, state: ArrayLike<number>): number[] {
  if (name === 'pendulum') return [Math.cos(state[0]), Math.sin(state[0]), state[1]];
  if (name === 'acrobot') {
    return [Math.cos(state[0]), Math.sin(state[0]), Math.cos(state[1]), Math.sin(state[1]), state[2], state[3]];
  }
  return Array.from(state);
}

/** Gymnasium's reward of a step; `endedBefore`: an earlier step had ended the episode (cart-pole pays the first such step). */
export function classicReward(
  world: World,
  before: ArrayLike<number>,
  action: number,
  ended: boolean,
  endedBefore: boolean,
): number {
  switch (world.name) {
    case 'cart-pole':
      return ended && endedBefore ? 0 : 1;
    case 'pendulum':
      return -(wrapped(before[0]) ** 2 + 0.1 * before[1] ** 2 + 0.001 * clamp(action, -TORQUE, TORQUE) ** 2);
    case 'mountain-car-continuous':
      return (ended ? 100 : 0) - 0.1 * action ** 2;
    case 'acrobot':
      return ended ? 0 : -1;
    default:
      return -1;
  }
}
