import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';

/** Costs of plans [plans, horizon, width], one number each; the lowest is the best. */
export type PlanCosts = (plans: HostTensor<'float32'>) => Promise<ArrayLike<number>>;

/** Limits one action of a plan in place. `step` is its place in the plan. */
export type LimitAction = (action: Float64Array, step: number) => void;

export interface CemOptions {
  /** Actions of a plan, and numbers of an action. */
  readonly horizon: number;
  readonly width: number;
  readonly samples: number;
  readonly elites: number;
  readonly iterations: number;
  /** Where the search starts [horizon * width]; 0 by default. */
  readonly mean?: ArrayLike<number>;
  /** First deviation of every number of an action [width]. */
  readonly std: readonly number[];
  /** Share of the old mean and deviation that stays at each iteration [width]; 0 by default. */
  readonly keepMean?: readonly number[];
  readonly keepStd?: readonly number[];
  /** Applied to every action drawn; the elites' statistics are those of limited actions. */
  readonly limit?: LimitAction;
}

/** What one iteration drew and kept. */
export interface CemIteration {
  /** [samples, horizon, width] */
  readonly plans: HostTensor<'float32'>;
  readonly costs: Float64Array;
  /** Numbers of the best plans, best first. */
  readonly elites: readonly number[];
  /** The distribution after it, [horizon * width] each. */
  readonly mean: Float64Array;
  readonly std: Float64Array;
}

/**
 * The cross-entropy method: draw plans, keep the best, draw the next around them. Returns the last mean and deviation; the
 * deviation of the elites is the unbiased one. `noise(iteration)` gives standard normal numbers [samples, horizon, width].
 */
export async function crossEntropyMethod(
  costs: PlanCosts,
  options: CemOptions,
  noise: (iteration: number) => ArrayLike<number>,
  onIteration?: (iteration: CemIteration) => void,
): Promise<{ readonly mean: Float64Array; readonly std: Float64Array }> {
  const { horizon, width, samples, elites, iterations, limit } = options;
  if (!(elites >= 2 && elites <= samples))
    throw new JepaError(
      `planner: ${elites} elites of ${samples} samples; it needs 2 or more, and no more than samples`,
    );
  const size = horizon * width;
  let mean = Float64Array.from(options.mean ?? new Float64Array(size));
  let std = Float64Array.from({ length: size }, (_, i) => options.std[i % width]);
  if (mean.length !== size || options.std.length !== width)
    throw new JepaError(
      `planner: a mean of ${mean.length} numbers and ${options.std.length} deviations do not fit plans of ${horizon} x ${width}`,
    );
  for (let iteration = 0; iteration < iterations; iteration++) {
    const drawn = noise(iteration);
    const plans = new Float64Array(samples * size);
    for (let i = 0; i < plans.length; i++) plans[i] = mean[i % size] + std[i % size] * drawn[i];
    if (limit) {
      for (let at = 0; at < plans.length; at += width)
        limit(plans.subarray(at, at + width), Math.floor(at / width) % horizon);
    }
    const tried = float32([samples, horizon, width], Float32Array.from(plans));
    const values = Float64Array.from(await costs(tried), (cost) =>
      Number.isNaN(cost) ? Number.POSITIVE_INFINITY : cost,
    );
    if (values.every((cost) => cost === Number.POSITIVE_INFINITY))
      throw new JepaError(
        `planner: no plan of iteration ${iteration + 1} has a finite cost; look at the model's predictions`,
      );
    const best = Array.from(values.keys())
      .sort((a, b) => values[a] - values[b] || a - b)
      .slice(0, elites);
    const [oldMean, oldStd] = [mean, std];
    const middle = Float64Array.from(
      { length: size },
      (_, i) => best.reduce((sum, s) => sum + plans[s * size + i], 0) / elites,
    );
    const spread = middle.map((m, i) =>
      Math.sqrt(best.reduce((sum, s) => sum + (plans[s * size + i] - m) ** 2, 0) / (elites - 1)),
    );
    const keep = (old: number, fresh: number, share = 0): number => (1 - share) * fresh + share * old;
    mean = middle.map((m, i) => keep(oldMean[i], m, options.keepMean?.[i % width]));
    std = spread.map((s, i) => keep(oldStd[i], s, options.keepStd?.[i % width]));
    onIteration?.({ plans: tried, costs: values, elites: best, mean, std });
  }
  return { mean, std };
}
