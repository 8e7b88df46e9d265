import { add, clip, div, minimum, mul, sqrt, square } from '../graph/ops/elementwise.js';
import { sum } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import type { UpdateRule } from '../runtime/update.js';

/**
 * Clipping by the norm of the whole gradient is part of every update (`UpdateValues.clipNorm`). Here is what a method may
 * want besides.
 */

/** The rule with every value of the gradient limited to [-bound, bound] first. */
export const clipValues = (rule: UpdateRule, bound: number): UpdateRule => ({
  ...rule,
  name: `${rule.name} with values clipped to ${bound}`,
  update: (parameter, gradient, slots, scalars) =>
    rule.update(parameter, clip(gradient, -bound, bound), slots, scalars),
});

/**
 * Tensors scaled by min(1, bound / (norm + 1e-6)), with the norm over all of them, as PyTorch does. For sets of gradients
 * that are clipped apart from each other, inside the graph.
 */
export function clipNorm(
  tensors: readonly Tensor[],
  bound: number,
): { readonly norm: Tensor; readonly clipped: Tensor[] } {
  const norm = sqrt(tensors.map((t) => sum(square(t))).reduce(add));
  const factor = minimum(div(bound, add(norm, 1e-6)), 1);
  return { norm, clipped: tensors.map((t) => mul(t, factor)) };
}
