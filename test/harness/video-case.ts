import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { gradients } from '../../src/graph/autodiff.js';
import { zeros } from '../../src/graph/ops/elementwise.js';
import { constant, type DType, input, type Tensor } from '../../src/graph/tensor.js';
import type { PredictorConfig } from '../../src/nn/predictor.js';
import { swigluWidth } from '../../src/nn/transformer.js';
import type { Positions, VitConfig } from '../../src/nn/vit.js';
import { type Module, type ModuleSpec, makeModule } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import { difference, readTensors, type Tolerance } from './harness.js';
import { goldenBackend } from './target.js';

/** What the harnesses of `vjepa` and `vjepa2` share: reading cases, filling modules, comparing. */
export interface VideoCase {
  readonly name: string;
  readonly group: string;
  readonly file: string;
  // biome-ignore lint/suspicious/noExplicitAny: each group has its own
  readonly config: Record<string, any>;
  readonly inputs?: readonly string[];
  readonly weights?: readonly string[];
  readonly expected?: readonly string[];
  readonly tolerance?: { readonly default: Tolerance; readonly keys?: Readonly<Record<string, Tolerance>> };
}

export type Failures = (string | undefined)[];
export type Check = (each: Opened) => Promise<Failures> | Failures;

/** A case with its tensors at hand. */
export interface Opened extends VideoCase {
  readonly inputs: readonly string[];
  readonly expected: readonly string[];
  /** An input or expected value. */
  value(key: string): HostTensor;
  has(key: string): boolean;
  /** Every tensor of a weight set, "w_video/encoder." -> names without the prefix. */
  set(prefix: string): Map<string, HostTensor>;
}

export function openCase(folder: string, each: VideoCase): Opened {
  const tensors = readTensors(folder, each.file);
  const value = (key: string): HostTensor => {
    const tensor = tensors.get(`${each.name}/${key}`);
    if (!tensor) throw new Error(`the file lacks ${each.name}/${key}`);
    return tensor;
  };
  return {
    ...each,
    inputs: each.inputs ?? [],
    expected: each.expected ?? [],
    value,
    has: (key) => tensors.has(`${each.name}/${key}`),
    set: (prefix) =>
      new Map([...tensors].flatMap(([key, v]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), v]] : []))),
  };
}

export const toleranceOf = ({ tolerance }: VideoCase, key: string): Tolerance =>
  tolerance?.keys?.[key] ?? tolerance?.default ?? { rtol: 1e-6, atol: 0 };

/** Compares named values with all that the case expects; shapes of single numbers do not matter. */
export function compare(each: Opened, got: Readonly<Record<string, HostTensor | undefined>>): Failures {
  if (each.expected.length === 0) return ['the case expects nothing'];
  return each.expected.map((key) => {
    const expected = each.value(key);
    const value = got[key];
    if (!value) return `${key}: no value`;
    const shape = sizeOf(value.shape) === 1 && sizeOf(expected.shape) === 1 ? expected.shape : value.shape;
    return difference(key, { shape, data: value.data }, expected, toleranceOf(each, key));
  });
}

export type Feed = Map<Tensor, HostTensor>;

/** An input with a value of the case. */
export function fed(each: Opened, feed: Feed, key: string): Tensor {
  const value = each.value(key);
  const tensor = input(`input ${key}`, value.shape, value.dtype as DType);
  feed.set(tensor, value);
  return tensor;
}

/**
 * A module with the values of one of the case's weight sets, the one that ends with `.../<prefix>`. Names must be the same on
 * both sides; `fallback` has values that the set leaves out.
 */
export function filled(
  each: Opened,
  feed: Feed,
  prefix: string,
  spec: ModuleSpec,
  from?: string,
  fallback?: string,
): Module {
  const set = from ?? each.weights?.find((name) => name.endsWith(`/${prefix}`));
  if (!set) throw new Error(`the case has no weights for ${prefix}`);
  const values = new Map([...(fallback ? each.set(fallback) : []), ...each.set(set)]);
  const module = makeModule(prefix, spec);
  for (const name of values.keys())
    if (!spec.has(name)) throw new Error(`the module has no parameter ${prefix}${name}`);
  for (const [name, tensor] of module.tensors) {
    const value = values.get(name);
    if (!value) throw new Error(`the file lacks ${set}${name}`);
    if (value.shape.join() !== tensor.shape.join())
      throw new Error(`${name} has shape [${tensor.shape}], stored is [${value.shape}]`);
    feed.set(tensor, value);
  }
  return module;
}

/** Computes outputs and the gradients that the case expects (`grad.<name>`), of parameters and inputs. */
export async function outcome(
  each: Opened,
  feed: Feed,
  outputs: Readonly<Record<string, Tensor>>,
  differentiate?: {
    readonly of: Tensor | { readonly output: Tensor; readonly upstream: HostTensor };
    readonly modules?: readonly Module[];
    /** By their names in the case. */
    readonly inputs?: Readonly<Record<string, Tensor>>;
  },
): Promise<Record<string, HostTensor<DType>>> {
  const grads = differentiate
    ? expectedGradients(each, differentiate.of, differentiate.modules, differentiate.inputs)
    : {};
  return evaluate({ ...outputs, ...grads }, feed, { backend: goldenBackend });
}

/** The gradients that a case expects (`grad.<name>`); zeros where nothing flows. */
export function expectedGradients(
  each: Opened,
  of: Tensor | { readonly output: Tensor; readonly upstream: HostTensor },
  modules: readonly Module[] = [],
  inputs: Readonly<Record<string, Tensor>> = {},
): Record<string, Tensor> {
  const all = new Map<string, Tensor>([
    ...Object.entries(inputs),
    ...modules.flatMap((m) => [...m.tensors].map(([name, t]) => [`${m.prefix}${name}`, t] as const)),
  ]);
  const wanted = each.expected.filter((key) => key.startsWith('grad.'));
  const wrt = wanted.map((key) => {
    const tensor = all.get(key.slice(5));
    if (!tensor) throw new Error(`${key}: nothing of that name`);
    return tensor;
  });
  const seeds = 'output' in of ? [{ output: of.output, upstream: constant(of.upstream as HostTensor<DType>) }] : of;
  return Object.fromEntries(gradients(seeds, wrt).map((g, i) => [wanted[i], g ?? zeros(wrt[i].shape)]));
}

/** Values beside each other along a new first axis: what a log of steps holds. */
export const series = (values: readonly number[], shape: readonly number[] = [values.length]): HostTensor => ({
  ...float32([...shape], values),
});

/** Third of a fused bias that the reference compares by itself: `qkv.bias.query`, `qkv.bias.value`. */
export function parameterValue(values: ReadonlyMap<string, HostTensor>, name: string): HostTensor | undefined {
  const third = /^(.*\.qkv\.bias)\.(query|value)$/.exec(name);
  if (!third) return values.get(name);
  const whole = values.get(third[1]);
  if (!whole) return undefined;
  const size = whole.data.length / 3;
  const start = third[2] === 'query' ? 0 : 2 * size;
  return float32([size], (whole.data as Float32Array).slice(start, start + size));
}

const pair = (size: number | [number, number]): [number, number] => (typeof size === 'number' ? [size, size] : size);

/** The reference's names of an encoder's settings. */
export function encoderConfig(c: VideoCase['config'], eps: number = c.norm_eps): VitConfig {
  const video = c.num_frames > 1;
  const hidden = Math.trunc(c.embed_dim * c.mlp_ratio);
  const mlpWidth = c.use_silu && c.wide_silu !== false ? swigluWidth(hidden) : hidden;
  if (c.mlp_hidden !== undefined && c.mlp_hidden !== mlpWidth)
    throw new Error(`the MLP has width ${mlpWidth}, not ${c.mlp_hidden}`);
  return {
    imageSize: pair(c.img_size),
    patchSize: c.patch_size,
    channels: 3,
    width: c.embed_dim,
    depth: c.depth,
    heads: c.num_heads,
    mlpWidth,
    qkvBias: true,
    eps,
    ...(video ? { frames: c.num_frames, tubeletSize: c.tubelet_size } : {}),
    positions: positionsOf(c, video),
    ...(c.use_silu ? { mlp: 'swiglu' } : {}),
    ...(c.modality_embedding ? { modalities: true, levels: levelsOf(c.depth) } : {}),
  };
}

/** V-JEPA 2.1 reads four evenly spaced blocks, the last one among them. */
const levelsOf = (depth: number): number[] => [1, 2, 3, 4].map((k) => (depth / 4) * k - 1);

function positionsOf(c: VideoCase['config'], video: boolean): Positions {
  if (!c.use_rope) return video ? (c.uniform_power ? 'uniform' : 'half-time') : 'row-first';
  // V-JEPA 2.1 alone has modality embeddings, and frequencies side by side.
  if (!c.modality_embedding) return { frequencies: 'tiled' };
  const referenceGrid = c.patch_size === 14 ? 18 : 16;
  return { frequencies: 'interleaved', ...(c.interpolate_rope ? { referenceGrid } : {}) };
}

export function predictorConfig(c: VideoCase['config'], eps: number = c.norm_eps): PredictorConfig {
  const grid = pair(c.img_size).map((side: number) => side / c.patch_size);
  const levels = c.modality_embedding && !c.n_output_distillation ? 4 : 1;
  return {
    width: c.predictor_embed_dim,
    depth: c.depth,
    heads: c.num_heads,
    mlpWidth: Math.trunc(c.predictor_embed_dim * c.mlp_ratio),
    qkvBias: true,
    eps,
    encoderWidth: levels * c.embed_dim,
    grid: [c.num_frames / c.tubelet_size, ...grid],
    positions: positionsOf(c, true),
    maskTokens: c.num_mask_tokens,
    ...(c.has_cls ? { classToken: true } : {}),
    ...(c.modality_embedding
      ? {
          dense: {
            ...(levels > 1 ? { embedWidth: c.embed_dim } : {}),
            outputWidth: (c.teacher_embed_dim ?? c.embed_dim) * levels,
          },
        }
      : {}),
  };
}
