import { float32 } from '../base/tensor.js';
import { abs, clip, exp, greaterEqual, log1p, mish, mul, relu, sign, sub, where } from '../graph/ops/elementwise.js';
import { expandDims, reshape } from '../graph/ops/move.js';
import { softmax } from '../graph/ops/normalise.js';
import { sum } from '../graph/ops/reduce.js';
import { constant, type Tensor } from '../graph/tensor.js';
import { dense } from './stacks.js';
import { norm } from './transformer.js';
import { under, type Weights } from './weights.js';

/** Parts of TD-MPC2 (`tdmpc2/common`): latents on simplices, and numbers as distributions over bins. */

/** Softmax over groups of `group` neighbouring channels of the last axis. */
export const simNorm = (x: Tensor, group = 8): Tensor =>
  reshape(softmax(reshape(x, [...x.shape.slice(0, -1), -1, group])), x.shape);

/** Linear, layer norm and Mish, then the same with SimNorm in the last layer. */
export function simNormMlp(x: Tensor, w: Weights, layers: number, group: number): Tensor {
  let y = x;
  for (let i = 0; i < layers; i++) {
    const own = under(w, `${i}.`);
    const normed = norm(dense(y, own), under(own, 'ln.'), 1e-5);
    y = i === layers - 1 ? simNorm(normed, group) : mish(normed);
  }
  return y;
}

/** sign(x) log(1 + |x|), and back. */
export const symlog = (x: Tensor): Tensor => mul(sign(x), log1p(abs(x)));
export const symexp = (x: Tensor): Tensor => mul(sign(x), sub(exp(abs(x)), 1));

export interface Bins {
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

const centres = ({ low, high, count }: Bins): Tensor =>
  constant(
    float32(
      [count],
      Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1)),
    ),
  );

/** Numbers x [rows] as weights of the two bins next to symlog(x), [rows, bins]. */
export function twoHot(x: Tensor, bins: Bins): Tensor {
  const size = (bins.high - bins.low) / (bins.count - 1);
  const limited = clip(symlog(x), bins.low, bins.high);
  // A number at the upper end counts as the last bin but one, as in stable-worldmodel.
  const at = where(greaterEqual(limited, bins.high), bins.high - size, limited);
  // A tent of one bin's width about the number.
  const distance = mul(abs(sub(expandDims(at, 1), centres(bins))), 1 / size);
  return relu(sub(1, distance));
}

/** The number that logits [rows, bins] stand for, [rows, 1]. */
export const fromTwoHot = (logits: Tensor, bins: Bins): Tensor =>
  symexp(sum(mul(softmax(logits), centres(bins)), -1, true));

/** Linear interpolation between the order statistics. */
function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const [low, high] = [Math.floor(at), Math.ceil(at)];
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

/** The next running scale of values: `tau` of the way to their range between the 5 % and 95 % quantiles. */
export function nextScale(scale: number, values: ArrayLike<number>, tau = 0.01): number {
  const sorted = Array.from(values).sort((a, b) => a - b);
  return scale + tau * (Math.max(1e-4, quantile(sorted, 0.95) - quantile(sorted, 0.05)) - scale);
}
