import { add, mul, relu, square, sub } from '../graph/ops/elementwise.js';
import { concat, narrow, reshape } from '../graph/ops/move.js';
import { max, mean } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import { reluStack, reluStackSpec } from '../nn/stacks.js';
import type { ModuleSpec, Weights } from '../nn/weights.js';

/**
 * A learned distance between latent states: how many steps lead from one to the other. Straight distances of latents lead planners
 * against walls; this one goes round them. It is a quasimetric by its form (mean over groups of the largest rise of a potential:
 * the asymmetric part of Metric Residual Networks, Liu et al., arXiv 2208.08133), and learned in hindsight from how many steps lay
 * between two moments of an episode (dynamical distances, Hartikainen et al., arXiv 1907.08225). Episodes stray: of all the ways
 * that led from one state to another a low expectile counts (as in implicit Q-learning, Kostrikov et al., arXiv 2110.06169), so
 * that what is left is near the shortest. It needs neither rewards nor episodes that reach anything.
 */
export interface DistanceConfig {
  /** Widths of the hidden layers. */
  readonly hidden: readonly number[];
  /** Groups of potentials, and potentials of a group. */
  readonly groups: number;
  readonly potentials: number;
  /** Steps between the farthest states, about: the scale of potentials and of errors. */
  readonly horizon: number;
  /** Between 0 and 0.5: how little an episode that took longer counts beside one that was faster. */
  readonly expectile: number;
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
 * How far distances are from the steps that lay between moments: the expectile loss of potentials [batch, moments, groups,
 * potentials] at times [batch, moments] in rising order, over all pairs of them, errors in tenths of the horizon.
 */
export function distanceLoss(
  potentials: Tensor,
  times: Tensor,
  { horizon, expectile }: Pick<DistanceConfig, 'horizon' | 'expectile'>,
): Tensor {
  const moments = potentials.shape[1] as number;
  const errors = Array.from({ length: moments - 1 }, (_, i) => {
    const [first, rest] = [narrow(potentials, 1, i, 1), narrow(potentials, 1, i + 1, moments - 1 - i)];
    const steps = sub(narrow(times, 1, i + 1, moments - 1 - i), narrow(times, 1, i, 1));
    return sub(steps, stepsBetween(first, rest)); // [batch, moments after i]
  });
  const off = mul(concat(errors, 1), 10 / horizon);
  const [slower, faster] = [relu(off), relu(mul(off, -1))];
  return mean(add(mul(square(slower), expectile), mul(square(faster), 1 - expectile)));
}
