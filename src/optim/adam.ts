import { add, div, mul, sqrt, square, sub } from '../graph/ops/elementwise.js';
import type { UpdateRule } from '../runtime/update.js';

export interface AdamOptions {
  /** Decay of the averages of the gradient and of its square. */
  readonly betas?: readonly [number, number];
  /** Added to the root of the bias-corrected second moment. */
  readonly eps?: number;
}

/** Adam with decoupled weight decay (Loshchilov and Hutter, 2019): p <- p (1 - lr wd) - lr m^ / (sqrt(v^) + eps). */
export const adamw = (options: AdamOptions = {}): UpdateRule => adamRule('adamw', options, true);

/** Adam (Kingma and Ba, 2015); weight decay is added to the gradient. */
export const adam = (options: AdamOptions = {}): UpdateRule => adamRule('adam', options, false);

/**
 * State: the plain moving averages `m` and `v`. Both bias corrections are folded into the rate and eps, in double on the
 * host, so that 13 passes over the parameters remain: m^ / (sqrt(v^) + eps) = (root / c1) m / (sqrt(v) + root eps) with
 * c1 = 1 - beta1^t and root = sqrt(1 - beta2^t).
 */
function adamRule(name: string, { betas = [0.9, 0.999], eps = 1e-8 }: AdamOptions, decoupled: boolean): UpdateRule {
  return {
    name,
    slots: ['m', 'v'],
    scalars: ['beta1', 'rest1', 'beta2', 'rest2', 'rate', 'eps', 'decay'],
    wholeTensors: false,
    scalarsAt: (step, hyper) => {
      const [beta1, beta2] = hyper.betas ?? betas;
      const root = Math.sqrt(1 - beta2 ** step);
      return {
        beta1,
        rest1: 1 - beta1,
        beta2,
        rest2: 1 - beta2,
        rate: (hyper.lr * root) / (1 - beta1 ** step),
        eps: (hyper.eps ?? eps) * root,
        decay: decoupled ? 1 - hyper.lr * hyper.weightDecay : hyper.weightDecay,
      };
    },
    update: (parameter, gradient, slots, s) => {
      const g = decoupled ? gradient : add(gradient, mul(parameter, s.decay));
      const m = add(mul(slots.m, s.beta1), mul(g, s.rest1));
      const v = add(mul(slots.v, s.beta2), mul(square(g), s.rest2));
      const change = mul(div(m, add(sqrt(v), s.eps)), s.rate);
      return { parameter: sub(decoupled ? mul(parameter, s.decay) : parameter, change), slots: { m, v } };
    },
  };
}
