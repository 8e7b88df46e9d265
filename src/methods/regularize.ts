import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { randomDirections, sigreg } from '../energy/sigreg.js';
import { covarianceTerm, varianceTerm } from '../energy/vicreg.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
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
 * Collapse prevention for embeddings, each [batch, width]: variance averaged over them and covariance summed (VICReg), or
 * SIGReg averaged. Composes with any method; `none` adds nothing.
 */
export function regularize(embeddings: readonly Tensor[], regularizer: Regularizer): Regularized {
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
      return { loss, scalars: { variance, covariance }, feeds: () => ({}) };
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
