import type { Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { abs, add, exp, mul, square, sub } from '../graph/ops/elementwise.js';
import { sum } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';

/**
 * What keeps the information of a latent z small, so that it cannot carry the target by itself (LeCun 2022, section 4.5.3).
 * A small set of codes (see `bestCode`) and few dimensions need no term; these two do.
 */

/** alpha |z|_1 of each row: z [..., d] -> [...]. */
export const sparsity = (z: Tensor, alpha: number): Tensor => mul(sum(abs(z), -1), alpha);

/** z = mean + exp(logVariance / 2) noise, with noise standard normal: gradients reach mean and variance. */
export const noisyLatent = (mean: Tensor, logVariance: Tensor, noise: Tensor): Tensor =>
  add(mean, mul(exp(mul(logVariance, 0.5)), noise));

/** KL(N(mean, variance) | N(0, 1)) of each row: [..., d] -> [...], in nats: 1/2 sum(variance + mean^2 - 1 - log variance). */
export const latentInformation = (mean: Tensor, logVariance: Tensor): Tensor =>
  mul(sum(sub(add(exp(logVariance), square(mean)), add(logVariance, 1)), -1), 0.5);

/** What futures are drawn from when there is no target yet: exp(-beta R(z)) of the regulariser R that z was trained with. */
export type LatentPrior =
  | { readonly kind: 'codes'; readonly codes: HostTensor<'float32'> }
  | { readonly kind: 'sparse'; readonly alpha: number; readonly width: number }
  | { readonly kind: 'normal'; readonly width: number };

/** Draws latents [count, d] from the prior at inverse temperature `beta`: uniform codes, Laplace or normal numbers. */
export function samplePrior(prior: LatentPrior, count: number, random: Random, beta = 1): HostTensor<'float32'> {
  if (prior.kind === 'codes') {
    const [rows, width] = prior.codes.shape;
    const data = new Float32Array(count * width);
    for (let i = 0; i < count; i++) {
      const row = random.integer(rows);
      data.set(prior.codes.data.subarray(row * width, (row + 1) * width), i * width);
    }
    return float32([count, width], data);
  }
  const draw = (): number => {
    if (prior.kind === 'normal') return random.normal() / Math.sqrt(beta);
    const u = random.uniform() - 0.5;
    return (-Math.sign(u) * Math.log(1 - 2 * Math.abs(u))) / (beta * prior.alpha);
  };
  return float32([count, prior.width], Float32Array.from({ length: count * prior.width }, draw));
}
