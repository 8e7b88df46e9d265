import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { randomDirections, sigreg } from '../energy/sigreg.js';
import { covarianceTerm, varianceTerm } from '../energy/vicreg.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { mseLoss } from '../graph/ops/losses.js';
import { input, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import type { Regularizer } from './method.js';

/** Input with the directions that SIGReg projects on, [width, slices], new at every step. */
const DIRECTIONS = 'directions';

export interface Regularized {
  /** To be added to the loss. */
  readonly loss?: Tensor;
  readonly scalars: Readonly<Record<string, Tensor>>;
  /** Inputs of a step. */
  feeds(random: Random): Readonly<Record<string, HostTensor<'float32'>>>;
}

/**
 * Collapse prevention for embeddings, each [batch, width]: variance averaged over them and covariance summed (VICReg), or SIGReg
 * averaged. Composes with any method; `none` adds nothing. `target`: what a target encoder makes of the same samples, [batch, width],
 * which invariance compares with (C-JEPA); no gradient flows into it.
 */
export function regularize(
  embeddings: readonly Tensor[],
  regularizer: Regularizer,
  target?: () => Tensor,
): Regularized {
  const average = (terms: readonly Tensor[]): Tensor =>
    mul(
      terms.reduce((a, b) => add(a, b)),
      1 / terms.length,
    );
  if (regularizer.kind === 'none') return { scalars: {}, feeds: () => ({}) };
  return scope('regularizer', (): Regularized => {
    if (regularizer.kind === 'vicreg') {
      const variance = average(embeddings.map((z) => varianceTerm(z)));
      const covariance = embeddings.map((z) => covarianceTerm(z)).reduce((a, b) => add(a, b));
      const loss = add(mul(variance, regularizer.variance), mul(covariance, regularizer.covariance));
      const terms = { loss, scalars: { variance, covariance }, feeds: () => ({}) };
      if (!regularizer.invariance) return terms;
      if (!target)
        throw new JepaError('regularizer: this method has no pooled target to be invariant to; set invariance to 0');
      const pooled = stopGradient(target());
      const invariance = average(embeddings.map((z) => mseLoss(z, pooled)));
      return {
        ...terms,
        loss: add(loss, mul(invariance, regularizer.invariance)),
        scalars: { invariance, ...terms.scalars },
      };
    }
    const { weight, slices } = regularizer;
    const width = embeddings[0].shape[1] as number;
    const directions = input(DIRECTIONS, [width, slices]);
    const normality = average(embeddings.map((z) => sigreg(z, directions)));
    return {
      loss: mul(normality, weight),
      scalars: { sigreg: normality },
      feeds: (random) => ({ [DIRECTIONS]: randomDirections(random, width, slices) }),
    };
  });
}
