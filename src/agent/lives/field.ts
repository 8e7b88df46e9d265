import { matrix } from '../../base/linalg.js';
import { createRandom, type Random } from '../../base/random.js';
import type { Homeostasis } from '../envs/homeostasis.js';
import { createPerception, type Perception, type Sensor } from '../perception.js';
import { adaptiveModel, type WorldModel } from '../world-model.js';

/** Body, senses and world model of somebody in the field of two needs. */

type Row = ArrayLike<number>;

/** How often sensors are silent, and deviations of their noise. */
export interface Senses {
  /** Chance that a sensor is silent in a step. */
  readonly silent: number;
  readonly eyes: number;
  readonly feet: number;
  readonly nose: number;
  readonly body: number;
}

export interface Readings {
  readonly readings: Readonly<Record<string, ArrayLike<number>>>;
  /** The time of the day can always be seen. */
  readonly hour: number;
}

/** What the sensors say in a state: each with noise, or nothing. */
export function sense(state: Float64Array, random: Random, { silent, ...noise }: Senses): Readings {
  const shown = { eyes: [0, 1], feet: [0, 1], body: [2, 3], nose: [4, 5] } as const;
  const readings: Record<string, number[]> = {};
  for (const [name, numbers] of Object.entries(shown)) {
    const reading = numbers.map((i) => state[i] + noise[name as keyof typeof noise] * random.normal());
    // The numbers are drawn in any case, so that chance is the same whatever is silent.
    if (random.uniform() >= silent) readings[name] = reading;
  }
  return { readings, hour: state[6] };
}

/** A filter over all sensors that expects what the world model says. */
export function createSenses(model: WorldModel, noise: Senses, size: number): Perception {
  const diagonal = (values: readonly number[]) =>
    matrix(
      values.length,
      values.length,
      values.flatMap((v, i) => values.map((_, j) => (i === j ? v * v : 0))),
    );
  const sensor = (name: string, first: number, deviation: number): Sensor => ({
    name,
    view: matrix(
      2,
      6,
      [first, first + 1].flatMap((at) => Array.from({ length: 6 }, (_, i) => (i === at ? 1 : 0))),
    ),
    noise: diagonal([deviation, deviation]),
  });
  return createPerception(
    [
      sensor('eyes', 0, noise.eyes),
      sensor('feet', 0, noise.feet),
      sensor('body', 2, noise.body),
      sensor('nose', 4, noise.nose),
    ],
    {
      carry: diagonal(Array(6).fill(1)),
      noise: diagonal([0.2, 0.2, 0.1, 0.1, 0.1, 0.1]),
      expect: (mean, action) => model.predict(Float64Array.of(...mean, 0), action).subarray(0, 6),
    },
    {
      mean: Float64Array.of(size / 2, size / 2, 0.5, 0.5, size / 2, size / 2),
      covariance: diagonal([3, 3, 0.5, 0.5, 3, 3]),
    },
  );
}

export const away = (s: Row, [x, y]: Row & Iterable<number>): number => Math.hypot(s[0] - x, s[1] - y);

/** Levels that count as full and empty: they are not seen exactly. */
const [FULL, EMPTY] = [0.97, 0.03];

/** Soft steps over a distance, by which the model finds out how near one must be to feed. */
const bumps = (distance: number): number[] => [0, 0.5, 1, 1.5].map((at) => Math.exp(-2 * (distance - at) ** 2));

/**
 * The world model in three parts that are learned apart (section 4.7 of the paper): the own body, which follows its actions
 * without a latent; the herd, which goes its own way; and the needs, given where the body will be. The fence and the clock are
 * known.
 */
export function fieldModel({ options: { size, water, day } }: Homeostasis) {
  const body = adaptiveModel({ features: (_, a) => [a[0], a[1], 1], keep: 0.999 });
  const herd = adaptiveModel({
    features: (s) => [(s[0] - size / 2) / size, (s[1] - size / 2) / size, 1],
    keep: 0.999,
    prior: 0.5,
  });
  const needs = [2, 3].map((level) => ({
    level,
    model: adaptiveModel({ features: (_, d) => [1, ...bumps(d[0]), ...bumps(d[1])], keep: 0.999 }),
  }));
  const part = (s: Row, first: number): Float64Array => Float64Array.of(s[first], s[first + 1]);
  const inside = (v: number, high: number): number => Math.min(Math.max(v, 0), high);
  const distances = (s: Row): number[] => [Math.hypot(s[0] - s[4], s[1] - s[5]), away(s, water)];
  const limited = (a: Row): Float64Array => Float64Array.of(inside(a[0] + 1, 2) - 1, inside(a[1] + 1, 2) - 1);
  return {
    predict(s: Row, action: Row): Float64Array {
      const next = new Float64Array(7);
      const place = body.predict(part(s, 0), limited(action));
      next.set([inside(place[0], size), inside(place[1], size)]);
      next.set(herd.predict(part(s, 4), action), 4);
      const ways = distances(next);
      for (const { level, model } of needs) next[level] = inside(model.predict([s[level]], ways)[0], 1);
      next[6] = (s[6] + 1 / day.steps) % 1;
      return next;
    },
    learn(s: Row, action: Row, next: Row): void {
      body.learn(part(s, 0), limited(action), part(next, 0));
      herd.learn(part(s, 4), action, part(next, 4));
      const ways = distances(next);
      for (const { level, model } of needs) {
        const [before, seen] = [[s[level]], next[level]];
        const [guess] = model.predict(before, ways);
        // What is full cannot rise, nor what is empty fall: a guess beyond that is no error.
        if ((seen > FULL && guess > seen) || (seen < EMPTY && guess < seen)) continue;
        model.learn(before, ways, [seen]);
      }
    },
  };
}

/** Error of one step of a model over states and actions anywhere, root mean square over places and levels. */
export function modelError(model: WorldModel, world: Homeostasis, seed: number): number {
  const random = createRandom(seed, 'model');
  const { size } = world.options;
  let squares = 0;
  for (let i = 0; i < 200; i++) {
    const s = Float64Array.from([size, size, 1, 1, size, size, 1], (high) => high * random.uniform());
    const a = [2 * random.uniform() - 1, 2 * random.uniform() - 1];
    const [guess, truth] = [model.predict(s, a), world.next(s, a)];
    for (let k = 0; k < 6; k++) squares += (guess[k] - truth[k]) ** 2 / 1200;
  }
  return Math.sqrt(squares);
}
