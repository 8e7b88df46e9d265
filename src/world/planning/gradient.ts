import { gradients } from '../../graph/autodiff.js';
import {
  add,
  cast,
  div,
  greater,
  maximum,
  minimum,
  mul,
  relu,
  square,
  sub,
  zeros,
} from '../../graph/ops/elementwise.js';
import { iota, sort } from '../../graph/ops/index.js';
import { expandDims, reshape } from '../../graph/ops/move.js';
import { cumsum, max, mean, norm, sum } from '../../graph/ops/reduce.js';
import { constant, stopGradient, type Tensor } from '../../graph/tensor.js';
import type { UpdateRule } from '../../runtime/update.js';
import type { PlanCost, PlanLimit } from './sampling.js';

/**
 * Planners that follow the gradient of a differentiable cost, as graphs. Plans are [envs, samples, horizon, width]; random
 * numbers are inputs.
 */

export interface DescentOptions {
  readonly rule: UpdateRule;
  readonly lr: number;
  readonly steps: number;
  /** Normal numbers of the shape of the plans for every step, and the factor they are added with after it. */
  readonly noise?: readonly Tensor[];
  readonly noiseScale?: number;
  /** Bound on the norm of the gradient over everything. */
  readonly clip?: number;
  /** Applied after every step (a limit, a projection). */
  readonly project?: PlanLimit;
  /** For a descent in parts: the rule's slots where the last part ended, and the scalars that it reads in each step of this one. */
  readonly from?: DescentPart;
}

export interface DescentPart {
  readonly slots: Readonly<Record<string, Tensor>>;
  readonly scalars: readonly Readonly<Record<string, Tensor>>[];
}

export interface Descended {
  readonly plans: Tensor;
  /** Of the rule, after the last step. */
  readonly slots: Readonly<Record<string, Tensor>>;
  /** Plans and costs [envs, samples] before every step. */
  readonly history: readonly { readonly plans: Tensor; readonly costs: Tensor }[];
}

/** Steps of an optimizer on the sum of all costs, each environment and sample for itself. */
export function descend(start: Tensor, cost: PlanCost, options: DescentOptions): Descended {
  return minimise(
    start,
    (plans) => {
      const costs = cost(plans);
      return { costs, loss: sum(costs) };
    },
    options,
  );
}

function minimise(
  start: Tensor,
  evaluate: (plans: Tensor) => { readonly costs: Tensor; readonly loss: Tensor },
  { rule, lr, steps, noise, noiseScale = 0, clip, project, from }: DescentOptions,
): Descended {
  let plans = start;
  let slots = from?.slots ?? Object.fromEntries(rule.slots.map((name) => [name, zeros(start.shape)]));
  const history: { plans: Tensor; costs: Tensor }[] = [];
  for (let step = 0; step < steps; step++) {
    // A tensor of its own: reshapes of a reshaped one would go round it, and its gradient would lack their part.
    const at = stopGradient(plans);
    const { costs, loss } = evaluate(at);
    history.push({ plans, costs });
    const [raw] = gradients(loss, [at]);
    let gradient = raw ?? zeros(plans.shape);
    if (clip !== undefined) gradient = mul(gradient, minimum(div(clip, add(norm(gradient), 1e-6)), 1));
    const scalars = Object.entries(rule.scalarsAt(step + 1, { lr, weightDecay: 0 }));
    const values = from?.scalars[step] ?? Object.fromEntries(scalars.map(([name, value]) => [name, constant(value)]));
    const updated = rule.update(plans, gradient, slots, values);
    slots = updated.slots;
    plans = updated.parameter;
    if (noise && noiseScale > 0) plans = add(plans, mul(noise[step], noiseScale));
    if (project) plans = project(plans);
  }
  return { plans, slots, history };
}

/** Projects groups of `choices` neighbouring numbers of actions onto the simplex (projected gradient for discrete actions). */
export const simplexProjection =
  (choices: number): PlanLimit =>
  (plans) => {
    const rows = reshape(plans, [-1, choices]);
    const sorted = sort(rows, -1, true).values;
    const count = add(cast(iota(choices), 'float32'), 1);
    const thresholds = div(sub(cumsum(sorted, -1), 1), count);
    // How many of the largest numbers stay above their threshold; theirs is the last such threshold.
    const kept = max(mul(cast(greater(sorted, thresholds), 'float32'), count), -1, true);
    const chosen = cast(greater(0.25, square(sub(count, maximum(kept, 1)))), 'float32');
    const shift = sum(mul(thresholds, chosen), -1, true);
    return reshape(relu(sub(rows, shift)), plans.shape);
  };

export interface LagrangianOptions extends Omit<DescentOptions, 'steps' | 'from'> {
  readonly outer: number;
  readonly inner: number;
  readonly penalty: number;
  readonly penaltyGrowth: number;
  readonly penaltyMost: number;
}

export interface Constrained extends Descended {
  /** [envs, constraints] */
  readonly multipliers: Tensor;
  /** Constraints of the final plans [envs, samples, constraints]; those above 0 are broken. */
  readonly constraints: Tensor;
}

/**
 * The augmented Lagrangian: descends cost + sum of multiplier g + penalty max(0, g)^2 for constraints g <= 0 [envs, samples,
 * constraints], then raises the multipliers by penalty times the mean g over the samples, and the penalty.
 */
export function augmentedLagrangian(
  start: Tensor,
  cost: PlanCost,
  constraintsOf: (plans: Tensor) => Tensor,
  { outer, inner, penalty, penaltyGrowth, penaltyMost, ...options }: LagrangianOptions,
): Constrained {
  let plans = start;
  let slots: Descended['slots'] = {};
  let rho = penalty;
  let broken = constraintsOf(plans);
  let multipliers = zeros([broken.shape[0], broken.shape[2]]);
  const history: { plans: Tensor; costs: Tensor }[] = [];
  for (let loop = 0; loop < outer; loop++) {
    const factors = expandDims(multipliers, 1);
    const now = rho;
    const found = minimise(
      plans,
      (at) => {
        const costs = cost(at);
        const g = constraintsOf(at);
        const pressed = add(mul(factors, g), mul(square(relu(g)), now));
        return { costs, loss: add(sum(costs), sum(pressed)) };
      },
      { ...options, steps: inner },
    );
    ({ plans, slots } = found);
    history.push(...found.history);
    broken = constraintsOf(plans);
    multipliers = relu(add(multipliers, mul(mean(broken, 1), rho)));
    rho = Math.min(penaltyMost, rho * penaltyGrowth);
  }
  return { plans, slots, history, multipliers, constraints: broken };
}
