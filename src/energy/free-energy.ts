import { JepaError } from '../base/errors.js';
import { cholesky, matrix } from '../base/linalg.js';
import { add, log, mul, neg, sub } from '../graph/ops/elementwise.js';
import { softmax } from '../graph/ops/normalise.js';
import { logsumexp, mean, min, sum } from '../graph/ops/reduce.js';
import { operatorError, sizeTensor, stopGradient, type Tensor } from '../graph/tensor.js';

/**
 * Free energies: what is left of E(x, y, z) once the latent z is gone. F(x, y) = min_z E at temperature 0, and
 * F_beta(x, y) = -1/beta log integral exp(-beta E) dz at temperature 1/beta (LeCun 2022, section 4.3 and appendix).
 *
 * Over a finite set of z the integral is a sum or a mean. With the sum min E - log K / beta <= F_beta <= min E; with the
 * mean min E <= F_beta <= min E + log K / beta. The offset log K / beta matters where different K are compared.
 */
export type Measure = 'sum' | 'mean';

// On the host, in double ---------------------------------------------------------------------------------------------

function checkBeta(beta: number): void {
  if (!(beta > 0)) throw new JepaError(`free energy: beta is ${beta}; it must be positive (1 / temperature)`);
}

/**
 * F_beta of the energies of K values of z. `measure` may be the width of the cells of a grid: the sum is then an integral.
 * beta = Infinity gives the minimum.
 */
export function freeEnergy(energies: ArrayLike<number>, beta: number, measure: Measure | number = 'sum'): number {
  checkBeta(beta);
  if (energies.length === 0) throw new JepaError('free energy: there are no energies');
  let least = Number.POSITIVE_INFINITY;
  for (let k = 0; k < energies.length; k++) least = Math.min(least, energies[k]);
  if (beta === Number.POSITIVE_INFINITY || !Number.isFinite(least)) return least;
  let total = 0;
  for (let k = 0; k < energies.length; k++) total += Math.exp(-beta * (energies[k] - least));
  const scale = measure === 'sum' ? 1 : measure === 'mean' ? 1 / energies.length : measure;
  return least - Math.log(total * scale) / beta;
}

/** p(z) proportional to exp(-beta E(z)), for K values of z; the lowest share it at beta = Infinity. */
export function gibbs(energies: ArrayLike<number>, beta: number): Float64Array {
  checkBeta(beta);
  const least = freeEnergy(energies, Number.POSITIVE_INFINITY);
  const weights = Float64Array.from(energies, (e) =>
    e === least ? 1 : beta === Number.POSITIVE_INFINITY ? 0 : Math.exp(-beta * (e - least)),
  );
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

/** E_q[E] - H(q) / beta: never below F_beta (of the sum), and equal to it at q = gibbs(energies, beta). */
export function variationalFreeEnergy(energies: ArrayLike<number>, q: ArrayLike<number>, beta: number): number {
  checkBeta(beta);
  if (q.length !== energies.length)
    throw new JepaError(`free energy: ${q.length} probabilities for ${energies.length} energies; give one each`);
  let total = 0;
  for (let k = 0; k < q.length; k++) if (q[k] > 0) total += q[k] * (energies[k] + Math.log(q[k]) / beta);
  return total;
}

/**
 * F_beta of E(z) = 1/2 (z - m)' A (z - m) + offset, in closed form for any m: offset - d/(2 beta) log(2 pi / beta) +
 * log det A / (2 beta). `curvature` is A [d * d], symmetric and positive definite.
 */
export function quadraticFreeEnergy(curvature: ArrayLike<number>, offset: number, beta: number): number {
  checkBeta(beta);
  const d = Math.sqrt(curvature.length);
  if (!Number.isInteger(d))
    throw new JepaError(`free energy: a curvature of ${curvature.length} numbers is not square`);
  const lower = cholesky(matrix(d, d, curvature)).data;
  let halfLogDet = 0;
  for (let i = 0; i < d; i++) halfLogDet += Math.log(lower[i * d + i]);
  return offset + (halfLogDet - (d / 2) * Math.log((2 * Math.PI) / beta)) / beta;
}

// In graphs ----------------------------------------------------------------------------------------------------------

/** F_beta of energies [..., K] over the last axis -> [...]; the gradient is that of E under gibbs(E). */
export function softMinimum(energies: Tensor, beta: number, measure: Measure = 'sum'): Tensor {
  if (!(beta > 0)) throw operatorError('free energy', `beta is ${beta}; it must be positive`, energies);
  if (beta === Number.POSITIVE_INFINITY) return min(energies, -1);
  const total = mul(logsumexp(mul(energies, -beta), -1), -1 / beta);
  const last = energies.shape.at(-1);
  if (last === undefined) throw operatorError('free energy', 'needs energies [..., K]', energies);
  return measure === 'sum' ? total : sub(total, mul(log(sizeTensor(last)), -1 / beta));
}

/** Gibbs probabilities of energies [..., K]: they sum to 1 over the last axis. */
export const gibbsWeights = (energies: Tensor, beta: number): Tensor => softmax(mul(energies, -beta));

/**
 * Winner-takes-all without dead codes: E under the Gibbs weights, which carry no gradient themselves. energies [..., K] ->
 * [...]. Raise beta in the course of training; at beta = Infinity it is the minimum.
 */
export function relaxedMinimum(energies: Tensor, beta: number): Tensor {
  if (beta === Number.POSITIVE_INFINITY) return min(energies, -1);
  return sum(mul(stopGradient(gibbsWeights(energies, beta)), energies), -1);
}

/** Entropy of how codes are used on average, weights [batch, K] -> a scalar, log K if all are used alike. */
export function codeEntropy(weights: Tensor): Tensor {
  const use = mean(weights, 0);
  return neg(sum(mul(use, log(add(use, 1e-12)))));
}
