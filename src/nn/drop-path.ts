import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { mulDims } from '../graph/dims.js';
import { narrow, reshape } from '../graph/ops/move.js';
import { input, type Tensor } from '../graph/tensor.js';
import type { DropPath } from './transformer.js';

/** Rates of the blocks: from 0 to `rate`, evenly (Huang et al. 2016, stochastic depth, as timm and I-JEPA apply it). */
export const dropPathRates = (rate: number, depth: number): number[] =>
  Array.from({ length: depth }, (_, i) => (depth === 1 ? 0 : (rate * i) / (depth - 1)));

/** The factor of one branch for a uniform u in [0, 1): 0, or 1 / (1 - rate) with probability 1 - rate. */
export const dropFactor = (rate: number, u: number): number => Math.floor(1 - rate + u) / (1 - rate);

/** Input with the factors of every branch, [batch, rows * 2 * depth]. */
const FACTORS = 'drop path';

/**
 * Stochastic depth: two factors for each block (attention, then MLP) and row. A sample has `rows` rows of its own in the
 * encoder's batch. undefined where the rate is 0.
 */
export function dropPath(
  rate: number,
  depth: number,
  rows: number,
):
  | { readonly factors: DropPath; feeds(batch: number, random: Random): Record<string, HostTensor<'float32'>> }
  | undefined {
  if (rate === 0) return undefined;
  const rates = dropPathRates(rate, depth);
  const branches = 2 * depth;
  const all = input(FACTORS, ['batch', rows, branches]);
  const perRow = reshape(all, [mulDims(all.shape[0], rows), branches]);
  const factor = (branch: number): Tensor => reshape(narrow(perRow, 1, branch, 1), [perRow.shape[0], 1, 1]);
  return {
    factors: { attention: (block) => factor(2 * block), mlp: (block) => factor(2 * block + 1) },
    feeds: (batch, random) => {
      const draws = random.split('drop path');
      const data = new Float32Array(batch * rows * branches);
      for (let i = 0; i < data.length; i++) data[i] = dropFactor(rates[(i % branches) >> 1], draws.uniform());
      return { [FACTORS]: { dtype: 'float32', shape: [batch, rows, branches], data } };
    },
  };
}
