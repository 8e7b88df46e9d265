import type { HostTensor } from '../base/tensor.js';
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

/** The same for one row on the host, where a small network is asked in the middle of other code. `values` by full name. */
export function mlpOnHost(
  values: ReadonlyMap<string, HostTensor<'float32'>>,
  prefix: string,
  layers: number,
): (x: ArrayLike<number>) => Float64Array {
  const parts = Array.from({ length: layers }, (_, i) => ({
    weight: (values.get(`${prefix}layers.${i}.weight`) as HostTensor<'float32'>).data,
    bias: (values.get(`${prefix}layers.${i}.bias`) as HostTensor<'float32'>).data,
  }));
  return (x) => {
    let y = x;
    for (const [layer, { weight, bias }] of parts.entries()) {
      const [into, out] = [y.length, new Float64Array(bias.length)];
      for (let o = 0; o < bias.length; o++) {
        let total = bias[o];
        for (let i = 0, at = o * into; i < into; i++, at++) total += weight[at] * y[i];
        out[o] = layer + 1 < layers ? Math.max(0, total) : total;
      }
      y = out;
    }
    return y as Float64Array;
  };
}
