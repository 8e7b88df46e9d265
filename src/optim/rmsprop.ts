import { add, div, mul, sqrt, square, sub } from '../graph/ops/elementwise.js';
import type { UpdateRule } from '../runtime/update.js';

/** Root mean square propagation as in PyTorch: p <- p - lr g / (sqrt(v) + eps), v <- decay v + (1 - decay) g^2. */
export const rmsprop = ({ decay = 0.99, eps = 1e-8 } = {}): UpdateRule => ({
  name: 'rmsprop',
  slots: ['v'],
  scalars: ['rate'],
  wholeTensors: false,
  scalarsAt: (_, { lr }) => ({ rate: lr }),
  update: (parameter, gradient, slots, s) => {
    const v = add(mul(slots.v, decay), mul(square(gradient), 1 - decay));
    return { parameter: sub(parameter, mul(div(gradient, add(sqrt(v), eps)), s.rate)), slots: { v } };
  },
});
