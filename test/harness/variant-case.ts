import type { HostTensor } from '../../src/base/tensor.js';
import type { Tensor } from '../../src/graph/tensor.js';
import type { Module } from '../../src/nn/weights.js';
import { difference, readTensors, type Tolerance } from './harness.js';

/** A case of an area of `variants`: tensors are `<name>/<key>` of its file. */
export interface VariantCase {
  readonly name: string;
  readonly file: string;
  // biome-ignore lint/suspicious/noExplicitAny: what a case says is checked by the values that come out.
  readonly config: any;
  readonly inputs?: readonly string[];
  readonly weights?: readonly string[];
  readonly expected: readonly string[];
  readonly tolerance: { readonly default: Tolerance; readonly keys?: Readonly<Record<string, Tolerance>> };
}

/** A tensor of a case, by default of the case itself. */
export function tensorOf(folder: string, { name, file }: VariantCase, key: string, owner = name): HostTensor {
  const tensor = readTensors(folder, file).get(`${owner}/${key}`);
  if (!tensor) throw new Error(`${file} lacks ${owner}/${key}`);
  return tensor;
}

/** Stored weights of a case: prefixes as in `weights` ("w", "model.safetensors:w") with `path` behind them. */
export function weightsOf(folder: string, c: VariantCase, path: string): ReadonlyMap<string, HostTensor<'float32'>> {
  const found = new Map<string, HostTensor<'float32'>>();
  for (const weights of c.weights ?? []) {
    const [file, prefix] = weights.includes(':') ? weights.split(':') : [c.file, weights];
    for (const [key, value] of readTensors(folder, file)) {
      const start = `${prefix}/${path}`;
      if (key.startsWith(start)) found.set(key.slice(start.length), value as HostTensor<'float32'>);
    }
  }
  return found;
}

/** Gives every parameter of a module its stored weight; each stored weight must be used. */
export function feedModule(
  feeds: Map<Tensor, HostTensor>,
  { prefix, tensors }: Module,
  stored: ReadonlyMap<string, HostTensor<'float32'>>,
): void {
  for (const name of stored.keys()) if (!tensors.has(name)) throw new Error(`${prefix} has no parameter ${name}`);
  for (const [name, tensor] of tensors) {
    const value = stored.get(name);
    if (!value) throw new Error(`the file lacks ${prefix}${name}`);
    feeds.set(tensor, { ...value, shape: tensor.shape as number[] });
  }
}

/** Failures of all expected keys of a case; `got` must have each. Scalars may be stored as [1]. */
export function compare(
  folder: string,
  c: VariantCase,
  got: Readonly<Record<string, { shape: readonly number[]; data: ArrayLike<number | bigint> } | undefined>>,
): (string | undefined)[] {
  return c.expected.map((key) => {
    const value = got[key];
    if (!value) return `${key}: no value`;
    const expected = tensorOf(folder, c, key);
    const scalar = value.shape.length === 0 && expected.data.length === 1;
    return difference(
      key,
      scalar ? { ...value, shape: expected.shape } : value,
      expected,
      c.tolerance.keys?.[key] ?? c.tolerance.default,
    );
  });
}
