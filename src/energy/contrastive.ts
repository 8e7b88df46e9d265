import { add, exp, mul, relu, softplus, square, sub } from '../graph/ops/elementwise.js';
import { concat, expandDims } from '../graph/ops/move.js';
import { logsumexp, mean, min } from '../graph/ops/reduce.js';
import { operatorError, type Tensor, type TensorLike } from '../graph/tensor.js';

/**
 * Contrastive losses of free energies: down on data, up on contrast samples (LeCun 2022, section 4.4; the table of LeCun et
 * al. 2006, A tutorial on energy-based learning). All are means over rows, scalars.
 */

/** Losses that compare each observed energy with those of contrast samples. */
export type ContrastiveLoss =
  /** max(0, F - F^ + margin). The margin may be a tensor [batch, n], e.g. a distance of the targets. */
  | { readonly kind: 'hinge'; readonly margin: TensorLike }
  /** F + max(0, margin - F^) */
  | { readonly kind: 'minimum-hinge'; readonly margin: number }
  /** F^2 + max(0, margin - F^)^2 */
  | { readonly kind: 'square-hinge'; readonly margin: number }
  /** F^2 + weight exp(-beta F^) */
  | { readonly kind: 'square-exponential'; readonly beta: number; readonly weight: number }
  /** log(1 + exp(F - F^)) */
  | { readonly kind: 'logistic' }
  /** F + 1/beta log(exp(-beta F) + sum exp(-beta F^)) */
  | { readonly kind: 'infonce'; readonly beta: number }
  /** F + 1/beta log integral exp(-beta F^): the samples are a grid whose cells have this volume, or draws from `volume`. */
  | { readonly kind: 'likelihood'; readonly beta: number; readonly volume: number }
  /** F - mean F^: with samples of the model itself it is contrastive divergence, with a generator's an adversarial game. */
  | { readonly kind: 'divergence' }
  /** F - min(F, F^): no margin, so that it is content with a flat energy; here to be seen failing. */
  | { readonly kind: 'perceptron' };

/**
 * The loss of `observed` energies [batch] and those of contrast samples [batch, n]. Samples carry no gradient of how they
 * were found (`descend` cuts it), only their energies do.
 */
export function contrastive(observed: Tensor, contrast: Tensor, loss: ContrastiveLoss): Tensor {
  if (observed.shape.length !== 1 || contrast.shape.length !== 2)
    throw operatorError('contrastive', 'needs energies [batch] and of samples [batch, n]', observed, contrast);
  const f = expandDims(observed, 1);
  switch (loss.kind) {
    case 'hinge':
      return mean(relu(add(sub(f, contrast), loss.margin)));
    case 'minimum-hinge':
      return mean(add(f, relu(sub(loss.margin, contrast))));
    case 'square-hinge':
      return mean(add(square(f), square(relu(sub(loss.margin, contrast)))));
    case 'square-exponential':
      return mean(add(square(f), mul(exp(mul(contrast, -loss.beta)), loss.weight)));
    case 'logistic':
      return mean(softplus(sub(f, contrast)));
    case 'infonce':
      return mean(add(observed, mul(logsumexp(mul(concat([f, contrast], 1), -loss.beta), 1), 1 / loss.beta)));
    case 'likelihood':
      return mean(
        add(observed, mul(add(logsumexp(mul(contrast, -loss.beta), 1), Math.log(loss.volume)), 1 / loss.beta)),
      );
    case 'divergence':
      return mean(sub(f, contrast));
    case 'perceptron':
      return mean(sub(observed, min(concat([f, contrast], 1), 1)));
  }
}

/** Denoising: mean over rows of |clean - reconstruction of a corrupted copy|^2, both [batch, width]. */
export const denoising = (clean: Tensor, reconstruction: Tensor): Tensor => mean(square(sub(clean, reconstruction)));
