import { JepaError } from '../../base/errors.js';
import { collide, reflected, startBalls } from '../../data/procedural/balls.js';
import type { DigitPictures } from '../../data/procedural/digits.js';
import { disc, fill } from './paint.js';
import type { Row, World } from './world.js';

/** Worlds without actions: things move by themselves, and a model has to follow them. */

const PIXELS = 64;
const SUBSTEPS = 4;

/** A world that nobody can act in has no goal to reach. */
const noGoal = { goal: 0, action: [], reached: () => ({ distance: 0, success: false }) } as const;

/**
 * Balls of equal mass that bounce without loss, behind an occluder where its factor says so. State: x, y and speeds of each
 * (shares of the side, a frame), and the radius.
 */
export function bouncingBalls(count = 3): World {
  if (!Number.isInteger(count) || count < 1 || count > 8)
    throw new JepaError(`bouncing-balls: ${count} balls; there can be 1 to 8`);
  const each = 5;
  // Written over at every call.
  const balls = Array.from({ length: count }, () => ({ x: 0, y: 0, vx: 0, vy: 0, radius: 0 }));
  const read = (state: Row): typeof balls => {
    for (let i = 0, at = 0; i < count; i++, at += each) {
      const ball = balls[i];
      ball.x = state[at];
      ball.y = state[at + 1];
      ball.vx = state[at + 2];
      ball.vy = state[at + 3];
      ball.radius = state[at + 4];
    }
    return balls;
  };
  const write = (state: Row, from: Readonly<typeof balls>): void => {
    for (let i = 0, at = 0; i < count; i++, at += each) {
      const { x, y, vx, vy, radius } = from[i];
      state[at] = x;
      state[at + 1] = y;
      state[at + 2] = vx;
      state[at + 3] = vy;
      state[at + 4] = radius;
    }
  };
  return {
    name: 'bouncing-balls',
    state: Array.from({ length: count }, (_, i) =>
      ['x', 'y', 'vx', 'vy', 'radius'].map((name) => `${name} ${i}`),
    ).flat(),
    factors: [
      { name: 'occluder', usual: 1, low: 0, high: 1, whole: true },
      { name: 'occluder left', usual: 0.35, low: 0.1, high: 0.6, drawn: true },
      { name: 'occluder width', usual: 0.25, low: 0.15, high: 0.35 },
      { name: 'brightness', usual: 1, low: 0.5, high: 1 },
    ],
    picture: [1, PIXELS, PIXELS],
    steps: 60,
    ...noGoal,
    begin(state, _goal, _factors, random) {
      write(state, startBalls(count, random));
    },
    advance(state) {
      read(state);
      for (let step = 0; step < SUBSTEPS; step++) {
        for (const ball of balls) {
          [ball.x, ball.vx] = reflected(ball.x + ball.vx / SUBSTEPS, ball.vx, ball.radius);
          [ball.y, ball.vy] = reflected(ball.y + ball.vy / SUBSTEPS, ball.vy, ball.radius);
        }
        for (let i = 0; i < count; i++) for (let j = i + 1; j < count; j++) collide(balls[i], balls[j]);
      }
      write(state, balls);
    },
    paint(state, [occluder, left, width, brightness], out) {
      const plane = { data: out, height: PIXELS, width: PIXELS };
      fill(plane, [0]);
      for (const { x, y, radius } of read(state))
        disc(plane, x * PIXELS, y * PIXELS, radius * PIXELS, [Math.round(255 * brightness)]);
      if (occluder !== 1) return;
      const [first, last] = [Math.round(left * PIXELS), Math.round((left + width) * PIXELS)];
      for (let row = 0; row < PIXELS; row++) out.fill(110, row * PIXELS + first, row * PIXELS + last);
    },
  };
}

export interface MovingDigitsOptions {
  readonly digits?: number;
  readonly size?: number;
  /** Way of one frame, in shares of the side that a digit can move along. */
  readonly stepLength?: number;
}

/** One coordinate in the unit interval after a frame: it stops at an end and turns back there. */
export function reflectedAtEnd(at: number, speed: number, step: number): readonly [number, number] {
  const next = at + speed * step;
  if (next <= 0) return [0, -speed];
  return next >= 1 ? [1, -speed] : [next, speed];
}

/**
 * Moving MNIST (Srivastava et al. 2015): digits that move straight, turn back at the walls and pass through each other,
 * overlapping by the brighter pixel. State: y, x, speeds and picture of each digit.
 */
export function movingDigits(pictures: DigitPictures, options: MovingDigitsOptions = {}): World {
  const { digits = 2, size = PIXELS, stepLength = 0.1 } = options;
  const { width, height, pixels, labels } = pictures;
  if (size <= Math.max(width, height))
    throw new JepaError(
      `moving-digits: pictures of ${width} x ${height} do not fit frames of ${size}; make them larger`,
    );
  const each = 5;
  return {
    name: 'moving-digits',
    state: Array.from({ length: digits }, (_, i) =>
      ['y', 'x', 'vy', 'vx', 'picture'].map((name) => `${name} ${i}`),
    ).flat(),
    factors: [{ name: 'brightness', usual: 1, low: 0.4, high: 1 }],
    picture: [1, size, size],
    steps: 20,
    ...noGoal,
    begin(state, _goal, _factors, random) {
      for (let i = 0; i < digits; i++) {
        const [y, x, angle] = [random.uniform(), random.uniform(), 2 * Math.PI * random.uniform()];
        state.set([y, x, Math.sin(angle), Math.cos(angle), random.integer(labels.length)], each * i);
      }
    },
    advance(state) {
      for (let i = 0; i < digits * each; i += each) {
        [state[i], state[i + 2]] = reflectedAtEnd(state[i], state[i + 2], stepLength);
        [state[i + 1], state[i + 3]] = reflectedAtEnd(state[i + 1], state[i + 3], stepLength);
      }
    },
    paint(state, [brightness], out) {
      out.fill(0);
      for (let i = 0; i < digits * each; i += each) {
        const [top, left] = digitCorner(state[i], state[i + 1], size, height, width);
        const from = state[i + 4] * width * height;
        for (let row = 0; row < height; row++) {
          for (let column = 0; column < width; column++) {
            const at = (top + row) * size + left + column;
            out[at] = Math.max(out[at], brightness * pixels[from + row * width + column]);
          }
        }
      }
    },
  };
}

/** Upper left pixel of a digit at a place in the unit square. */
export const digitCorner = (
  y: number,
  x: number,
  size: number,
  height: number,
  width: number,
): readonly [number, number] => [Math.trunc((size - height) * y), Math.trunc((size - width) * x)];
