import { float32 } from '../../base/tensor.js';
import { mulDims } from '../../graph/dims.js';
import { abs, add, mul, square, sub } from '../../graph/ops/elementwise.js';
import { cosineSimilarity } from '../../graph/ops/losses.js';
import { broadcastTo, expandDims, flip, narrow, reshape, stack } from '../../graph/ops/move.js';
import { cumsum, mean, sum } from '../../graph/ops/reduce.js';
import { constant, staticDim, type Tensor } from '../../graph/tensor.js';

/**
 * Costs of plans, as parts that are put together. Predictions lead with any axes, then time, then what is compared; a term has
 * one number for each of the leading indices (or, before `overTime`, for each time).
 */

export type Distance = 'squared' | 'absolute' | 'cosine';

/**
 * Distance of every predicted time from a goal, [..., time] of predictions [..., time, ...compared]; `leading` axes come before
 * the compared ones (time is the last of them). Squared and absolute differences are means; the cosine is negative.
 */
export function goalDistances(
  prediction: Tensor,
  goal: Tensor,
  leading: number,
  distance: Distance = 'squared',
): Tensor {
  if (distance === 'cosine') {
    const flat = (x: Tensor): Tensor => reshape(x, [...x.shape.slice(0, leading), -1]);
    return mul(cosineSimilarity(flat(prediction), flat(broadcastTo(goal, prediction.shape))), -1);
  }
  const axes = prediction.shape.slice(leading).map((_, i) => leading + i);
  const difference = sub(prediction, goal);
  return mean(distance === 'squared' ? square(difference) : abs(difference), axes);
}

/** What counts along time: the last, the sum of all, or all as they are; `to-go`: at each time the sum up to its mirror image. */
export type OverTime = 'last' | 'sum' | 'each' | 'to-go';

/** Distances over their time axis: [..., time] -> [...] (or [..., time]). */
export function overTime(distances: Tensor, axis: number, how: OverTime): Tensor {
  switch (how) {
    case 'last': {
      const last = narrow(distances, axis, (distances.shape[axis] as number) - 1, 1);
      return reshape(last, distances.shape.toSpliced(axis, 1));
    }
    case 'sum':
      return sum(distances, axis);
    case 'each':
      return distances;
    case 'to-go':
      // JEPA-WMs turns the running sum around: entry t is the sum of the first T - t.
      return flip(cumsum(distances, axis), axis);
  }
}

/** Mean over time with weights base^t that sum to 1 (DINO-WM: the mean, not the sum, of weighted times). */
export function weightedTimes(distances: Tensor, axis: number, base: number): Tensor {
  const times = distances.shape[axis] as number;
  const powers = Array.from({ length: times }, (_, t) => base ** t);
  const total = powers.reduce((a, b) => a + b);
  const shape = distances.shape.map((_, i) => (i === axis ? times : 1));
  return mean(
    mul(
      distances,
      constant(
        float32(
          shape,
          powers.map((p) => p / total),
        ),
      ),
    ),
    axis,
  );
}

/** Sum of squared actions of plans [envs, samples, horizon, width]: [envs, samples]. */
export const controlPenalty = (plans: Tensor): Tensor => sum(square(plans), [2, 3]);

/** Weighted sum of terms. */
export const weightedSum = (terms: readonly (readonly [weight: number, term: Tensor])[]): Tensor =>
  terms.map(([weight, term]) => mul(term, weight)).reduce(add);

/** The next states from states [rows, width] and actions [rows, numbers]. */
export type StepModel = (state: Tensor, action: Tensor) => Tensor;

/**
 * States along plans [envs, samples, horizon, numbers], from one encoded state an environment [envs, width]: [envs, samples,
 * horizon + 1, width], the current state first.
 */
export type PathModel = (state: Tensor, plans: Tensor) => Tensor;

/**
 * A path model from one of rows: states [rows, width] and plans [rows, horizon, numbers] -> [rows, horizon + 1, width]. One graph for
 * all samples and times.
 */
export const pathsOfRows =
  (along: (states: Tensor, plans: Tensor) => Tensor): PathModel =>
  (state, plans) => {
    const [envs, samples, steps, numbers] = plans.shape;
    const horizon = staticDim('plans', steps, 'the horizon', plans);
    const width = state.shape[1];
    const rows = mulDims(envs, samples);
    const states = reshape(broadcastTo(expandDims(state, 1), [envs, samples, width]), [rows, width]);
    const path = along(states, reshape(plans, [rows, horizon, numbers]));
    return reshape(path, [envs, samples, horizon + 1, width]);
  };

/** The path model of single steps, each from the state before. */
export const pathsBySteps = (step: StepModel): PathModel =>
  pathsOfRows((states, plans) => {
    const [rows, horizon, numbers] = plans.shape;
    const all = [states];
    for (let t = 0; t < (horizon as number); t++)
      all.push(step(all[t], reshape(narrow(plans, 1, t, 1), [rows, numbers])));
    return stack(all, 1);
  });

/** `pathsBySteps` at once. */
export const rollOutPlans = (state: Tensor, plans: Tensor, step: StepModel): Tensor => pathsBySteps(step)(state, plans);
