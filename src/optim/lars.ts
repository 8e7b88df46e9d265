import { add, div, greater, logicalAnd, minimum, mul, sub, where } from '../graph/ops/elementwise.js';
import { norm } from '../graph/ops/reduce.js';
import type { UpdateRule } from '../runtime/update.js';

export interface LarsOptions {
  /**
   * Published forms differ visibly (p parameter, g gradient, wd weight decay):
   * `weight-decay-inside-norm` (VICReg, Barlow Twins, BYOL, MoCo v3, MAE): g + wd p, times trust |p| / |g + wd p|;
   * `norms-added` (SwAV's LARC, EB-JEPA, lightly): g + wd p, times trust |p| / (|g| + wd |p| + eps).
   */
  readonly variant?: 'weight-decay-inside-norm' | 'norms-added';
  readonly momentum?: number;
  readonly trustCoefficient?: number;
  /** Of `norms-added`. */
  readonly eps?: number;
  /** EB-JEPA: the factor becomes min(factor / lr, 1), so that the effective rate never exceeds lr. */
  readonly clip?: boolean;
}

/**
 * Layer-wise adaptive rate scaling (You et al., 2017): the gradient of each tensor is scaled by the ratio of its norms,
 * then enters a momentum buffer (slot `buffer`); p <- p - lr * buffer. A tensor or gradient whose norm is 0 is not
 * scaled. Biases and norms are usually left out: put them in groups with `trustRatio: false`, which have neither weight
 * decay nor scaling.
 */
export function lars({
  variant = 'weight-decay-inside-norm',
  momentum = 0.9,
  trustCoefficient = 0.001,
  eps = 1e-8,
  clip = false,
}: LarsOptions = {}): UpdateRule {
  return {
    name: `lars ${variant}`,
    slots: ['buffer'],
    scalars: ['rate', 'decay', 'adapt'],
    wholeTensors: true,
    scalarsAt: (_, { lr, weightDecay, trustRatio = true }) => ({
      rate: lr,
      decay: trustRatio ? weightDecay : 0,
      adapt: trustRatio ? 1 : 0,
    }),
    update: (parameter, gradient, slots, s) => {
      const inside = variant === 'weight-decay-inside-norm';
      // `norms-added` does not decay what has no gradient.
      const decay = inside ? s.decay : where(greater(norm(gradient), 0), s.decay, 0);
      const decayed = add(gradient, mul(parameter, decay));
      const parameterNorm = norm(parameter);
      const gradientNorm = norm(inside ? decayed : gradient);
      const divisor = inside ? gradientNorm : add(add(gradientNorm, mul(parameterNorm, s.decay)), eps);
      const ratio = div(mul(parameterNorm, trustCoefficient), divisor);
      const scaled = logicalAnd(greater(mul(parameterNorm, s.adapt), 0), greater(gradientNorm, 0));
      const direction = mul(decayed, where(scaled, clip ? minimum(div(ratio, s.rate), 1) : ratio, 1));
      const buffer = add(mul(slots.buffer, momentum), direction);
      return { parameter: sub(parameter, mul(buffer, s.rate)), slots: { buffer } };
    },
  };
}
