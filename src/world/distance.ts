import { add, div, mul, relu, softplus, square, sub } from '../graph/ops/elementwise.js';
import { reshape } from '../graph/ops/move.js';
import { max, mean } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import { reluStack, reluStackSpec } from '../nn/stacks.js';
import type { ModuleSpec, Weights } from '../nn/weights.js';

/**
 * A learned distance between latent states: how many steps lead from one to the other. Straight distances of latents lead planners
 * against walls; this one goes round them. It is a quasimetric by its form (mean over groups of the largest rise of a potential:
 * the asymmetric part of Metric Residual Networks, Liu et al., arXiv 2208.08133), and learned as in quasimetric reinforcement
 * learning (Wang et al., arXiv 2304.01203): pairs of states are pushed apart while a step of the data may cost 1 at most,
 * so that what is left is the shortest way. It needs neither rewards nor long episodes.
 */
export interface DistanceConfig {
  /** Widths of the hidden layers. */
  readonly hidden: readonly number[];
  /** Groups of potentials, and potentials of a group. */
  readonly groups: number;
  readonly potentials: number;
  /** Steps from which on pairs are no longer pushed apart. */
  readonly horizon: number;
  /** Weight of steps that cost more than 1. */
  readonly constraint: number;
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

/** Softness of the bound on the push, a share of the horizon. */
const SOFTNESS = 0.1;

export interface DistanceLoss {
  readonly loss: Tensor;
  /** Mean distance of the pairs that are pushed apart, and of consecutive states. */
  readonly apart: Tensor;
  readonly step: Tensor;
}

/**
 * The loss of potentials along windows [batch, time, groups, potentials] and of other states of the same instance of each
 * world [batch, others, groups, potentials].
 */
export function distanceLoss(
  now: Tensor,
  next: Tensor,
  from: Tensor,
  to: Tensor,
  { horizon, constraint }: Pick<DistanceConfig, 'horizon' | 'constraint'>,
): DistanceLoss {
  const apart = stepsBetween(from, to);
  const soft = SOFTNESS * horizon;
  const push = mean(softplus(div(sub(horizon, apart), soft)));
  const step = stepsBetween(now, next);
  const over = mean(square(relu(sub(step, 1))));
  return { loss: add(mul(push, SOFTNESS), mul(over, constraint)), apart: mean(apart), step: mean(step) };
}
