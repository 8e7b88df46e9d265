import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { parameter, type Tensor } from '../graph/tensor.js';

/** Looks up a parameter by its name inside a module ("blocks.0.attn.qkv.weight"). */
export type Weights = (name: string) => Tensor;

/** How a parameter starts: its shape and first value. */
export interface ParameterSpec {
  readonly shape: readonly number[];
  readonly init: Init;
  /** False for fixed tables, which no optimizer touches. */
  readonly trainable: boolean;
}

export type Init =
  | { readonly kind: 'normal'; readonly std: number }
  | { readonly kind: 'fill'; readonly value: number }
  | { readonly kind: 'table'; readonly data: Float32Array };

export type ModuleSpec = ReadonlyMap<string, ParameterSpec>;

/** A module's parameters as graph leaves, under `prefix` ("encoder."). */
export interface Module {
  readonly prefix: string;
  readonly spec: ModuleSpec;
  /** By name inside the module. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly weights: Weights;
}

/** Makes the leaves of a module's parameters. Asking for one that it has not throws a `JepaError`. */
export function makeModule(prefix: string, spec: ModuleSpec): Module {
  const tensors = new Map([...spec].map(([name, { shape }]) => [name, parameter(`${prefix}${name}`, shape)]));
  return { prefix, spec, ...leavesOf(prefix, tensors) };
}

function leavesOf(prefix: string, tensors: ReadonlyMap<string, Tensor>): Pick<Module, 'tensors' | 'weights'> {
  const weights: Weights = (name) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new JepaError(`the module ${prefix} has no parameter ${name}`);
    return tensor;
  };
  return { tensors, weights };
}

/** Modules as one, its parameters by their full names. */
export function joined(modules: readonly Module[]): Module {
  const spec = new Map(
    modules.flatMap((module) => Array.from(module.spec, ([name, of]) => [module.prefix + name, of])),
  );
  const own = new Map(
    modules.flatMap(({ prefix, tensors }) => Array.from(tensors, ([name, of]) => [prefix + name, of])),
  );
  return { prefix: '', spec, ...leavesOf('', own) };
}

/** The parameters of modules, one module after the other. */
export const tensorsOf = (modules: readonly Module[]): Tensor[] =>
  modules.flatMap(({ tensors }) => [...tensors.values()]);

/** First values of a module's parameters, by full name. Each depends on the generator's seed and its own name only. */
export function initialValues({ prefix, spec }: Module, random: Random): Map<string, HostTensor<'float32'>> {
  const values = new Map<string, HostTensor<'float32'>>();
  for (const [name, { shape, init }] of spec) {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (init.kind === 'normal') random.split(`${prefix}${name}`).fillNormal(data, 0, init.std);
    else if (init.kind === 'fill') data.fill(init.value);
    else data.set(init.data);
    values.set(`${prefix}${name}`, { dtype: 'float32', shape, data });
  }
  return values;
}

/** Weights at another place of the name space: `under(w, 'blocks.0.')('norm1.weight')`. */
export const under =
  (weights: Weights, prefix: string): Weights =>
  (name) =>
    weights(`${prefix}${name}`);
