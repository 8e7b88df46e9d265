import { JepaError } from '../base/errors.js';
import { cholesky, choleskySolve, type Matrix, matrix, multiply, transpose } from '../base/linalg.js';

/**
 * Perception (LeCun 2022, section 4.6): an estimate of the state of the world, with its uncertainty, from several sensors of
 * which any may be silent, and from what was expected. In state mode the sensors are linear with normal noise, where the best
 * estimate is the Kalman filter.
 */

/** What perception tells the agent in a step, by a filter or by an encoder. */
export interface Perceived {
  readonly state: Float64Array;
  /** Deviation of each of its numbers, where it is known. */
  readonly deviation?: Float64Array;
  /** Sensors that were not silent. */
  readonly heard?: readonly string[];
}

export interface Sensor {
  readonly name: string;
  /** What it shows of a state: reading = view state + noise, [readings, state]. */
  readonly view: Matrix;
  /** Covariance of its noise [readings, readings]. */
  readonly noise: Matrix;
}

export interface Dynamics {
  /** next = carry state + steer action + noise */
  readonly carry: Matrix;
  readonly steer?: Matrix;
  /** Where the mean goes instead, for worlds that are not linear: a world model, with `carry` as about its slope. */
  readonly expect?: (mean: Float64Array, action: ArrayLike<number>) => Float64Array;
  /** Covariance of what cannot be foreseen [state, state]. */
  readonly noise: Matrix;
}

export interface Belief {
  readonly mean: Float64Array;
  /** [state, state] */
  readonly covariance: Matrix;
}

export interface Percept extends Belief {
  /** What was expected before the sensors spoke. */
  readonly expected: Belief;
  /** -log density of the readings under the expectation, over their number, in nats; NaN if all sensors were silent. */
  readonly surprise: number;
  readonly heard: readonly string[];
}

export interface Perception {
  readonly belief: Belief;
  /** Estimates the state after `action`; readings by the sensor's name, absent where it was silent. */
  perceive(readings: Readonly<Record<string, ArrayLike<number>>>, action?: ArrayLike<number>): Percept;
  /** Starts again from a belief: after a reset nothing that was expected holds. */
  reset(belief: Belief): void;
}

const plus = (a: Matrix, b: Matrix, sign = 1): Matrix =>
  matrix(
    a.rows,
    a.columns,
    a.data.map((v, i) => v + sign * b.data[i]),
  );

/** A filter over `sensors` that starts from a belief. */
export function createPerception(sensors: readonly Sensor[], dynamics: Dynamics, start: Belief): Perception {
  const size = start.mean.length;
  for (const { name, view, noise } of sensors) {
    if (view.columns !== size || noise.rows !== view.rows)
      throw new JepaError(
        `perception: the sensor ${name} views ${view.columns} numbers of a state of ${size}, with noise of ${noise.rows} for ${view.rows} readings`,
      );
  }
  let belief = start;
  return {
    get belief() {
      return belief;
    },
    reset(given) {
      belief = given;
    },
    perceive(readings, action) {
      const unknown = Object.keys(readings).find((name) => !sensors.some((sensor) => sensor.name === name));
      if (unknown !== undefined) throw new JepaError(`perception: there is no sensor "${unknown}"`);
      let mean = multiply(dynamics.carry, matrix(size, 1, belief.mean));
      if (action && dynamics.expect) mean = matrix(size, 1, dynamics.expect(belief.mean, action));
      else if (action && dynamics.steer) mean = plus(mean, multiply(dynamics.steer, matrix(action.length, 1, action)));
      let covariance = plus(
        multiply(multiply(dynamics.carry, belief.covariance), transpose(dynamics.carry)),
        dynamics.noise,
      );
      const expected: Belief = { mean: mean.data, covariance };
      const heard: string[] = [];
      let [surprise, numbers] = [0, 0];
      // One sensor after the other: with independent noises it is the same as all at once.
      for (const { name, view, noise } of sensors) {
        const reading = readings[name];
        if (!reading) continue;
        if (reading.length !== view.rows)
          throw new JepaError(`perception: ${reading.length} readings of the sensor ${name}; it gives ${view.rows}`);
        const rest = plus(matrix(view.rows, 1, reading), multiply(view, mean), -1);
        const across = multiply(view, covariance); // [readings, state]
        const spread = plus(multiply(across, transpose(view)), noise);
        const lower = cholesky(spread);
        const solved = choleskySolve(lower, rest);
        mean = plus(mean, multiply(across, solved, true));
        covariance = plus(covariance, multiply(across, choleskySolve(lower, across), true), -1);
        for (let i = 0; i < view.rows; i++) {
          surprise +=
            0.5 * rest.data[i] * solved.data[i] + Math.log(lower.data[i * view.rows + i]) + 0.5 * Math.log(2 * Math.PI);
        }
        numbers += view.rows;
        heard.push(name);
      }
      belief = { mean: mean.data, covariance };
      return { ...belief, expected, surprise: numbers > 0 ? surprise / numbers : Number.NaN, heard };
    },
  };
}
