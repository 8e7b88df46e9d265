import { JepaError } from '../base/errors.js';
import { int32 } from '../base/tensor.js';
import { between, type PermutationDraws, type Range, type UniformDraws } from './draws.js';
import type { Masks2d } from './multiblock2d.js';

/** Random masks of I-JEPA's ablation: any patches, no blocks. */
export interface Random2dConfig {
  /** Number of patches of an image. */
  readonly patches: number;
  /** Share of patches that is hidden (and predicted); the released ablation uses [0.4, 0.6]. */
  readonly ratio: Range;
}

/**
 * Masks of one batch: one uniform sets the share for all images, then one permutation an image. Context [batch, 1, Kc] is
 * its first part and target [batch, 1, patches - Kc] the rest, both in the order drawn.
 */
export function sampleRandom2d(
  config: Random2dConfig,
  batch: number,
  draws: { readonly sizes: UniformDraws; readonly places: PermutationDraws },
): Masks2d {
  const { patches } = config;
  const keep = Math.trunc(patches * (1 - between(config.ratio, draws.sizes.uniform())));
  if (keep < 1 || keep >= patches) {
    throw new JepaError(
      `masks: hiding a share in [${config.ratio.join(', ')}] of ${patches} patches keeps ${keep}: context and target need at least one each`,
    );
  }
  const context = new Int32Array(batch * keep);
  const target = new Int32Array(batch * (patches - keep));
  for (let image = 0; image < batch; image++) {
    const order = draws.places.permutation(patches);
    context.set(order.subarray(0, keep), image * keep);
    target.set(order.subarray(keep), image * (patches - keep));
  }
  return { context: int32([batch, 1, keep], context), target: int32([batch, 1, patches - keep], target) };
}
