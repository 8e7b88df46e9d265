import { JepaError } from '../base/errors.js';
import { add, mul, sub } from '../graph/ops/elementwise.js';
import type { Tensor } from '../graph/tensor.js';
import type { UpdateRule } from '../runtime/update.js';

export interface SgdOptions {
  readonly momentum?: number;
  /** The buffer takes 1 - dampening of each gradient but the first, which it takes whole. */
  readonly dampening?: number;
  /** Steps along gradient + momentum * buffer instead of the buffer. */
  readonly nesterov?: boolean;
}

/**
 * Stochastic gradient descent as in PyTorch: weight decay is added to the gradient, the learning rate stays outside of
 * the buffer (slot `buffer`, none without momentum).
 */
export function sgd({ momentum = 0, dampening = 0, nesterov = false }: SgdOptions = {}): UpdateRule {
  if (nesterov && !(momentum > 0 && dampening === 0)) {
    throw new JepaError(`sgd: nesterov needs a positive momentum and no dampening, not ${momentum} and ${dampening}`);
  }
  return {
    name: 'sgd',
    slots: momentum === 0 ? [] : ['buffer'],
    scalars: ['rate', 'decay', 'share'],
    wholeTensors: false,
    scalarsAt: (step, { lr, weightDecay }) => ({
      rate: lr,
      decay: weightDecay,
      share: step === 1 ? 1 : 1 - dampening,
    }),
    update: (parameter, gradient, slots, s) => {
      const g = add(gradient, mul(parameter, s.decay));
      const step = (direction: Tensor): Tensor => sub(parameter, mul(direction, s.rate));
      if (momentum === 0) return { parameter: step(g), slots: {} as Record<string, Tensor> };
      const buffer = add(mul(slots.buffer, momentum), dampening === 0 ? g : mul(g, s.share));
      return { parameter: step(nesterov ? add(g, mul(buffer, momentum)) : buffer), slots: { buffer } };
    },
  };
}
