import { float32 } from '../../base/tensor.js';
import {
  add,
  clip,
  div,
  lessEqual,
  log,
  maximum,
  minimum,
  mul,
  neg,
  sqrt,
  square,
  sub,
  where,
} from '../../graph/ops/elementwise.js';
import { gatherComputed, oneHot, topk } from '../../graph/ops/index.js';
import { concat, expandDims, narrow, reshape } from '../../graph/ops/move.js';
import { softmax } from '../../graph/ops/normalise.js';
import { argmax, mean as average, std as deviation, norm, sum } from '../../graph/ops/reduce.js';
import { constant, type Tensor } from '../../graph/tensor.js';

/**
 * Planners that draw plans and keep what is good, as graphs: one call is one iteration, and iterations may follow each other
 * in one graph. Plans are [envs, samples, horizon, width]; every environment is searched by itself. Random numbers are inputs.
 */

/** Costs [envs, samples] of plans; the lowest is the best. */
export type PlanCost = (plans: Tensor) => Tensor;

/** Changes plans so that they may be carried out. */
export type PlanLimit = (plans: Tensor) => Tensor;

/** Where plans are drawn from: normal, [envs, horizon, width] each. */
export interface Distribution {
  readonly mean: Tensor;
  readonly std: Tensor;
}

export interface Searched extends Distribution {
  readonly plans: Tensor;
  /** [envs, samples] */
  readonly costs: Tensor;
  /** Numbers of the best plans, best first, int32 [envs, elites], their costs, and the plans themselves. */
  readonly elites: Tensor;
  readonly eliteCosts: Tensor;
  readonly elitePlans: Tensor;
}

// Limits -------------------------------------------------------------------------------------------------------------

/** Numbers of an action within [low, high], one bound for all or one for each number. */
export const boxLimit = (low: number | readonly number[], high: number | readonly number[]): PlanLimit => {
  const bound = (value: number | readonly number[]): Tensor =>
    constant(typeof value === 'number' ? value : float32([value.length], value));
  return (plans) => minimum(maximum(plans, bound(low)), bound(high));
};

/** Actions no longer than `limit`. `shrinking` (EB-JEPA) multiplies by min(n, limit) / (n + 1e-6), the short ones too. */
export const normLimit =
  (limit: number, shrinking = false): PlanLimit =>
  (plans) => {
    const length = norm(plans, 2, -1, true);
    if (shrinking) return mul(plans, div(minimum(length, limit), add(length, 1e-6)));
    return mul(plans, minimum(div(limit, add(length, 1e-30)), 1));
  };

// Drawing ------------------------------------------------------------------------------------------------------------

/** Plans with the first of them replaced, [envs, count, horizon, width] each. */
export function withFirst(plans: Tensor, ...first: readonly Tensor[]): Tensor {
  const count = first.reduce((n, t) => n + (t.shape[1] as number), 0);
  return concat([...first, narrow(plans, 1, count, (plans.shape[1] as number) - count)], 1);
}

/** What no real cost exceeds: a cost that is not a number counts so much. */
const WORST = 1e30;

const draw = ({ mean, std }: Distribution, noise: Tensor): Tensor =>
  add(expandDims(mean, 1), mul(expandDims(std, 1), noise));

function evaluated(plans: Tensor, cost: PlanCost, elites: number) {
  const given = cost(plans);
  const costs = where(lessEqual(given, WORST), given, WORST);
  const { values, indices } = topk(costs, elites, 1, false);
  return { plans, costs, elites: indices, eliteCosts: values, elitePlans: gatherComputed(plans, indices) };
}

export interface DrawOptions {
  readonly elites: number;
  readonly limit?: PlanLimit;
  /** The mean itself is one of the plans (stable-worldmodel, JEPA-WMs, DINO-WM). */
  readonly meanFirst?: boolean;
}

function drawn(at: Distribution, noise: Tensor, { limit, meanFirst }: DrawOptions, kept?: Tensor): Tensor {
  const plans = draw(at, noise);
  const first = [...(meanFirst ? [expandDims(at.mean, 1)] : []), ...(kept ? [kept] : [])];
  const all = first.length > 0 ? withFirst(plans, ...first) : plans;
  return limit ? limit(all) : all;
}

export interface CemStep extends DrawOptions {
  /** Share of the old mean and deviation that stays. */
  readonly keepMean?: number;
  readonly keepStd?: number;
}

const between = (old: Tensor, fresh: Tensor, share = 0): Tensor =>
  share === 0 ? fresh : add(mul(old, share), mul(fresh, 1 - share));

/**
 * The cross-entropy method: mean and unbiased deviation of the elites. With coloured noise and elites `kept` from the iteration
 * before [envs, count, horizon, width] it is iCEM.
 */
export function cemStep(at: Distribution, noise: Tensor, cost: PlanCost, options: CemStep, kept?: Tensor): Searched {
  const found = evaluated(drawn(at, noise, options, kept), cost, options.elites);
  return {
    ...found,
    mean: between(at.mean, average(found.elitePlans, 1), options.keepMean),
    std: between(at.std, deviation(found.elitePlans, 1), options.keepStd),
  };
}

export interface MppiStep extends DrawOptions {
  readonly temperature: number;
  /** Weights exp(-temperature cost) (EB-JEPA, JEPA-WMs, TD-MPC2) or exp(-cost / temperature) (the paper, PLDM, stable-worldmodel). */
  readonly rule: 'multiply' | 'divide';
  /** The deviation of the next iteration: as it was, or the weighted one of the elites. */
  readonly spread: 'fixed' | 'weighted';
  /** Adds this times the sum over mean times (plan - mean): lambda / variance in the paper. */
  readonly control?: number;
}

/** Model-predictive path integral: the elites' mean, weighted by their costs. `weights` [envs, elites]. */
export function mppiStep(
  at: Distribution,
  noise: Tensor,
  cost: PlanCost,
  options: MppiStep,
): Searched & { readonly weights: Tensor } {
  const { temperature, rule, spread, control } = options;
  const old = expandDims(at.mean, 1);
  const priced: PlanCost =
    control === undefined ? cost : (plans) => add(cost(plans), mul(sum(mul(old, sub(plans, old)), [2, 3]), control));
  const found = evaluated(drawn(at, noise, options), priced, options.elites);
  const weights = softmax(mul(found.eliteCosts, rule === 'multiply' ? -temperature : -1 / temperature));
  const each = expandDims(weights, [2, 3]);
  const mean = sum(mul(each, found.elitePlans), 1);
  const std = spread === 'fixed' ? at.std : sqrt(sum(mul(each, square(sub(found.elitePlans, expandDims(mean, 1)))), 1));
  return { ...found, mean, std, weights };
}

/** Predictive sampling: the best of plans drawn about the last one, which is among them. */
export function predictiveSampling(
  nominal: Tensor,
  noise: Tensor,
  cost: PlanCost,
  scale: number,
  limit?: PlanLimit,
): Searched {
  const std = mul(add(mul(nominal, 0), 1), scale);
  const at = { mean: nominal, std };
  const found = evaluated(drawn(at, noise, { elites: 1, meanFirst: true, limit }), cost, 1);
  return { ...found, mean: reshape(found.elitePlans, nominal.shape), std };
}

// Discrete actions -----------------------------------------------------------------------------------------------------

export interface CategoricalStep {
  readonly elites: number;
  /** Added to every frequency before they are normalised again. */
  readonly smoothing: number;
  readonly keep: number;
}

export interface SearchedCategories extends Omit<Searched, 'mean' | 'std'> {
  /** [envs, horizon, block, choices] */
  readonly probabilities: Tensor;
}

/**
 * The cross-entropy method over choices: probabilities [envs, horizon, block, choices] and uniform numbers [envs, samples,
 * horizon, block, choices]. Plans are one-hot, [envs, samples, horizon, block * choices]; the likeliest one is the first.
 */
export function categoricalStep(
  probabilities: Tensor,
  uniform: Tensor,
  cost: PlanCost,
  { elites, smoothing, keep }: CategoricalStep,
): SearchedCategories {
  const [envs, samples, horizon, block, choices] = uniform.shape as readonly number[];
  const gumbel = neg(log(neg(log(clip(uniform, 1e-10, null)))));
  const scores = add(expandDims(log(clip(probabilities, 1e-10, null)), 1), gumbel);
  const picked = oneHot(argmax(scores, -1), choices);
  const first = expandDims(oneHot(argmax(probabilities, -1), choices), 1);
  const all = concat([first, narrow(picked, 1, 1, samples - 1)], 1);
  const found = evaluated(reshape(all, [envs, samples, horizon, block * choices]), cost, elites);
  const frequencies = reshape(average(found.elitePlans, 1), probabilities.shape);
  const smoothed = add(frequencies, smoothing);
  const fresh = smoothing > 0 ? div(smoothed, sum(smoothed, -1, true)) : frequencies;
  return { ...found, probabilities: between(probabilities, fresh, keep) };
}

// Noise on the host ----------------------------------------------------------------------------------------------------

/**
 * White noise [rows, horizon] -> noise whose power falls as frequency^-beta (the mean as the lowest frequency), before and after
 * it is scaled to deviation 1 over time (iCEM, as stable-worldmodel has it).
 */
export function colouredNoise(
  white: ArrayLike<number>,
  horizon: number,
  beta: number,
): { readonly coloured: Float32Array; readonly noise: Float32Array } {
  const scaleOf = (k: number): number => (Math.max(1, Math.min(k, horizon - k)) / horizon) ** (-beta / 2);
  // A filter in frequency is a circular convolution in time.
  const kernel = Float64Array.from({ length: horizon }, (_, lag) => {
    let total = 0;
    for (let k = 0; k < horizon; k++) total += scaleOf(k) * Math.cos((2 * Math.PI * k * lag) / horizon);
    return total / horizon;
  });
  const coloured = new Float32Array(white.length);
  const noise = new Float32Array(white.length);
  for (let from = 0; from < white.length; from += horizon) {
    let total = 0;
    let squares = 0;
    for (let t = 0; t < horizon; t++) {
      let value = 0;
      for (let s = 0; s < horizon; s++) value += kernel[(t - s + horizon) % horizon] * white[from + s];
      coloured[from + t] = value;
      total += value;
      squares += value * value;
    }
    const spread = Math.sqrt(Math.max(0, squares - (total * total) / horizon) / (horizon - 1));
    for (let t = 0; t < horizon; t++) noise[from + t] = coloured[from + t] / Math.max(spread, 1e-8);
  }
  return { coloured, noise };
}
