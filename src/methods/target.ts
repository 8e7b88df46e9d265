import { concat, split } from '../graph/ops/move.js';
import { layerNorm } from '../graph/ops/normalise.js';
import { stopGradient, type Tensor } from '../graph/tensor.js';

/**
 * A plain layer norm, without gain and bias, on top of the encoder's own (I-JEPA and V-JEPA, `train.py`); its epsilon is the
 * library's default. With several levels side by side each is normalised by itself.
 */
export function plainNorm(tokens: Tensor, levels = 1): Tensor {
  const normed = (x: Tensor): Tensor => layerNorm(x, { eps: 1e-5 });
  if (levels === 1) return normed(tokens);
  const width = tokens.shape[2] as number;
  const parts = split(tokens, 2, Array<number>(levels).fill(width / levels));
  return concat(parts.map(normed), 2);
}

/** What a prediction is compared with; no gradient flows into it. */
export const asTarget = (tokens: Tensor, levels = 1): Tensor => stopGradient(plainNorm(tokens, levels));
