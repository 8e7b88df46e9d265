import { relu } from '../graph/ops/elementwise.js';
import { linear } from '../graph/ops/product.js';
import type { Tensor } from '../graph/tensor.js';
import { fillInit } from './transformer.js';
import type { ModuleSpec, ParameterSpec, Weights } from './weights.js';

/** Linear layers with ReLU between: widths [in, hidden ..., out]. */
export function mlpSpec(widths: readonly number[]): ModuleSpec {
  const entries: [string, ParameterSpec][] = [];
  for (let i = 0; i + 1 < widths.length; i++) {
    const [into, out] = [widths[i], widths[i + 1]];
    entries.push([
      `layers.${i}.weight`,
      { shape: [out, into], init: { kind: 'normal', std: 1 / Math.sqrt(3 * into) }, trainable: true },
    ]);
    entries.push([`layers.${i}.bias`, fillInit([out], 0)]);
  }
  return new Map(entries);
}

/** [..., in] -> [..., out]. */
export function mlpForward(x: Tensor, w: Weights, layers: number): Tensor {
  let y = x;
  for (let i = 0; i < layers; i++) {
    y = linear(i === 0 ? y : relu(y), w(`layers.${i}.weight`), w(`layers.${i}.bias`));
  }
  return y;
}
