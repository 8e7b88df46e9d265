import type { Tensor } from '../graph/tensor.js';
import type { Module } from '../nn/weights.js';

/**
 * The learned parameters of modules in the two groups of nearly every recipe. Biases and vectors (gains of norms) get no
 * weight decay and, with LARS, no trust ratio (I-JEPA, `helper.py`: "bias" in the name, or one axis).
 */
export function decayGroups(modules: readonly Module[]): { readonly decay: Tensor[]; readonly noDecay: Tensor[] } {
  const decay: Tensor[] = [];
  const noDecay: Tensor[] = [];
  for (const { spec, tensors } of modules) {
    for (const [name, tensor] of tensors) {
      if (!spec.get(name)?.trainable) continue;
      (name.includes('bias') || tensor.shape.length <= 1 ? noDecay : decay).push(tensor);
    }
  }
  return { decay, noDecay };
}
