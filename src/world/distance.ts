import { add, div, mul, relu, softplus, square, sub, zeros } from '../graph/ops/elementwise.js';
import { concat, expandDims, narrow, reshape } from '../graph/ops/move.js';
import { cumsum, max, mean } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import { reluStack, reluStackSpec } from '../nn/stacks.js';
import type { ModuleSpec, Weights } from '../nn/weights.js';

/**
 * A learned distance between latent states: how many steps lead from one to the other. Straight distances of latents lead planners
 * against walls; this one goes round them. It is a quasimetric by its form (mean over groups of the largest rise of a potential:
 * the asymmetric part of Metric Residual Networks, Liu et al., arXiv 2208.08133), and learned as in quasimetric reinforcement
 * learning (Wang et al., arXiv 2304.01203): states are pushed apart, as far as episodes allow. Where the paper bounds single steps
 * alone, here any two moments of an episode are at most so far apart as they were in it, in hindsight: bounds of long ways need
 * not be put together from those of short ones first. It needs neither rewards nor episodes that reach anything.
 */
export interface DistanceConfig {
  /** Widths of the hidden layers. */
  readonly hidden: readonly number[];
  /** Groups of potentials, and potentials of a group. */
  readonly groups: number;
  readonly potentials: number;
  /** Steps from which on states are no longer pushed apart; the scale of potentials and of errors. */
  readonly horizon: number;
  /** Of the loss beside a world model's other terms. */
  readonly weight: number;
}

export const distanceSpec = (width: number, { hidden, groups, potentials }: DistanceConfig): ModuleSpec =>
  new Map(reluStackSpec('potentials.', [width, ...hidden, groups * potentials]));

/** Potentials of states [..., width] -> [..., groups, potentials], in steps. */
export function potentialsOf(
  states: Tensor,
  w: Weights,
  { hidden, groups, potentials, horizon }: DistanceConfig,
): Tensor {
  const rows = reshape(states, [-1, states.shape[states.shape.length - 1]]);
  const out = reluStack(rows, (name) => w(`potentials.${name}`), hidden.length + 1);
  // Layers give numbers of about 1; the farthest states are `horizon` apart.
  return reshape(mul(out, horizon / 4), [...states.shape.slice(0, -1), groups, potentials]);
}

/** Steps from one state to another by their potentials, [..., groups, potentials] each (which broadcast): [...]. */
export const stepsBetween = (from: Tensor, to: Tensor): Tensor => mean(max(relu(sub(from, to)), -1), -1);

/**
 * Steps that an imagined path skipped until each of its times, [..., times], by potentials [..., times, groups, potentials] with times
 * at `axis`. In `span` steps nothing comes farther than `span` steps: what a model imagines beyond, through a wall that it overlooked,
 * is owed from then on, so that plans do not win by the model's mistakes. Overlapping spans share what they skip.
 */
export function stepsSkipped(path: Tensor, axis: number, span: number): Tensor {
  const times = path.shape[axis] as number;
  const length = Math.min(span, times - 1);
  const part = (from: number, count: number): Tensor => narrow(path, axis, from, count);
  const covered = stepsBetween(part(0, times - length), part(length, times - length));
  const owed = mul(cumsum(relu(sub(covered, length)), axis), 1 / length);
  const before = zeros(owed.shape.toSpliced(axis, 1, length));
  return concat([before, owed], axis);
}

/** How sharply the push ends at the horizon, and the unit of errors: shares of the horizon. */
const UNIT = 0.1;

/**
 * The loss of potentials [batch, moments, groups, potentials] of an episode at times [batch, moments] in rising order, and of those
 * `elsewhere` in the same instance of the world (the same shape).
 */
export function distanceLoss(
  own: Tensor,
  times: Tensor,
  elsewhere: Tensor,
  { horizon }: Pick<DistanceConfig, 'horizon'>,
): Tensor {
  const unit = UNIT * horizon;
  const moments = own.shape[1] as number;
  const later = Array.from({ length: moments - 1 }, (_, i) => {
    const after = (x: Tensor): Tensor => narrow(x, 1, i + 1, moments - 1 - i);
    const taken = sub(after(times), narrow(times, 1, i, 1));
    return sub(stepsBetween(narrow(own, 1, i, 1), after(own)), taken); // [batch, moments after i]
  });
  const beyond = mean(square(relu(div(concat(later, 1), unit))));
  const apart = stepsBetween(expandDims(own, 2), expandDims(elsewhere, 1)); // [batch, moments, moments]
  const push = mul(mean(softplus(div(sub(horizon, apart), unit))), UNIT);
  return add(push, beyond);
}
