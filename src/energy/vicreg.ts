import { add, div, mul, relu, sqrt, square, sub } from '../graph/ops/elementwise.js';
import { mseLoss } from '../graph/ops/losses.js';
import { reshape, triu } from '../graph/ops/move.js';
import { matmul } from '../graph/ops/product.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { operatorError, sizeTensor, type Tensor } from '../graph/tensor.js';

/**
 * Variance, invariance and covariance terms (VICReg, Bardes et al. 2022). Statistics are over the rows of z [rows, width],
 * of the whole batch.
 */

/**
 * Rows of tokens [batch, tokens, width]: one mean per sample (`pooled`, as C-JEPA), or every token (`flattened`).
 */
export function rowsOf(tokens: Tensor, how: 'pooled' | 'flattened'): Tensor {
  if (tokens.shape.length !== 3) throw operatorError('rows', 'needs [batch, tokens, width]', tokens);
  return how === 'pooled' ? mean(tokens, 1) : reshape(tokens, [-1, tokens.shape[2]]);
}

function centred(name: string, z: Tensor): Tensor {
  if (z.shape.length !== 2) throw operatorError(name, 'needs [rows, width]', z);
  if (z.shape[0] === 1) throw operatorError(name, 'one row has no variance', z);
  return sub(z, mean(z, 0, true));
}

const degreesOfFreedom = (z: Tensor): Tensor => sub(sizeTensor(z.shape[0]), 1);

export interface VarianceOptions {
  /** Standard deviation from which on a feature costs nothing. */
  readonly margin?: number;
  readonly eps?: number;
}

/** mean over features of max(0, margin - sqrt(var + eps)), with the unbiased variance: keeps features alive. */
export function varianceTerm(z: Tensor, { margin = 1, eps = 1e-4 }: VarianceOptions = {}): Tensor {
  const spread = div(sum(square(centred('variance term', z)), 0), degreesOfFreedom(z));
  return mean(relu(sub(margin, sqrt(add(spread, eps)))));
}

/**
 * Sum of the squared off-diagonal entries of the covariance matrix (unbiased), divided by the width (`width`, VICReg) or by
 * the number of entries, width (width - 1) (`entries`, EB-JEPA): makes features differ.
 */
export function covarianceTerm(z: Tensor, per: 'width' | 'entries' = 'width'): Tensor {
  const c = centred('covariance term', z);
  const width = sizeTensor(z.shape[1]);
  // The matrix is symmetric: twice what lies above the diagonal.
  const above = sum(square(triu(matmul(c, c, { transposeA: true }), 1)));
  const count = per === 'width' ? width : mul(width, sub(width, 1));
  return div(div(mul(above, 2), square(degreesOfFreedom(z))), count);
}

export interface VicRegOptions {
  readonly invariance?: number;
  readonly variance?: number;
  readonly covariance?: number;
  /**
   * `vicreg`: variance averaged and covariance summed over the two branches, covariance per width. `eb-jepa`: both summed,
   * covariance per entry.
   */
  readonly form?: 'vicreg' | 'eb-jepa';
}

/** The terms before their coefficients, and their weighted sum. */
export interface VicRegTerms {
  readonly loss: Tensor;
  readonly invariance: Tensor;
  readonly variance: Tensor;
  readonly covariance: Tensor;
}

/** The loss of two views' embeddings x, y [batch, width]. */
export function vicreg(
  x: Tensor,
  y: Tensor,
  { invariance = 25, variance = 25, covariance = 1, form = 'vicreg' }: VicRegOptions = {},
): VicRegTerms {
  const published = form === 'vicreg';
  const per = published ? 'width' : 'entries';
  const distance = mseLoss(x, y);
  const spread = mul(add(varianceTerm(x), varianceTerm(y)), published ? 0.5 : 1);
  const overlap = add(covarianceTerm(x, per), covarianceTerm(y, per));
  const loss = add(add(mul(distance, invariance), mul(spread, variance)), mul(overlap, covariance));
  return { loss, invariance: distance, variance: spread, covariance: overlap };
}

/** Variance and covariance terms of one set of embeddings [rows, width], to be added to any method's loss. */
export function varianceCovariance(
  z: Tensor,
  { variance = 25, covariance = 1 }: { readonly variance?: number; readonly covariance?: number } = {},
): { readonly loss: Tensor; readonly variance: Tensor; readonly covariance: Tensor } {
  const spread = varianceTerm(z);
  const overlap = covarianceTerm(z);
  return { loss: add(mul(spread, variance), mul(overlap, covariance)), variance: spread, covariance: overlap };
}
