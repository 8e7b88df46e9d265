import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import type { Field, Fields } from '../data/preparation.js';
import { input, type Tensor } from '../graph/tensor.js';
import type { FutureConfig } from '../masking/future.js';
import type { PredictorConfig } from '../nn/predictor.js';
import type { SkeletonConfig } from '../nn/skeleton.js';
import type { TextConfig } from '../nn/text.js';
import { initialValues, type Module } from '../nn/weights.js';
import type { Feeds } from '../runtime/program.js';
import type { BackboneConfig } from './backbone.js';
import type { Forecast } from './forecast.js';

/** What a trainer needs to know of a method: its parameters, its loss, what a step is fed, what is evaluated. */
export interface Method {
  readonly name: string;
  /** Modules with parameters that learn. */
  readonly trained: readonly Module[];
  /** Modules that follow trained ones as moving averages. */
  readonly followers: readonly { readonly module: Module; readonly online: Module }[];
  /** Modules whose weights are given and stay as they are. */
  readonly frozen?: readonly Module[];
  readonly loss: Tensor;
  /** Scalars for the log, the loss not among them. */
  readonly scalars: Readonly<Record<string, Tensor>>;
  /** Predictions and their targets, equal shapes [batch, ..., width]: the energy of matched against shuffled pairs. */
  readonly pair: { readonly prediction: Tensor; readonly target: Tensor };
  /** Kinds of views of each sample that a batch must hold, and how many of each. */
  readonly views: readonly number[];
  /**
   * Inputs of one step, those of `memory` not among them. Randomness (masks, directions) comes from `random`, which belongs to the
   * step; `progress` is the share of the training that lies behind (curricula), its end by default.
   */
  feeds(batch: MethodBatch, random: Random, progress?: number): Feeds;
  /** What lives from step to step beside parameters: fed under its name, replaced by `next` of the step (not while accumulating). */
  readonly memory?: Memory;
  /** What is frozen and probed. */
  readonly encoder: Encoder;
  /** The predictor of I-JEPA and V-JEPA, which their checkpoints hold beside the encoders. */
  readonly predictor?: { readonly module: Module; readonly config: PredictorConfig };
  /** What the inputs of a step hide of each sample, in tokens of the encoder's grid; for pictures. */
  masks?(feeds: Feeds): readonly MaskedSample[];
  /** Where samples go on in time: prediction of what comes, from half of a sample moment by moment by default. */
  forecast?(future?: FutureConfig): Forecast;
}

/** Every module of a method, followers and frozen ones last. */
export const modulesOf = ({ trained, followers, frozen = [] }: Method): Module[] => [
  ...trained,
  ...followers.map(({ module }) => module),
  ...frozen,
];

/** First values of all parameters that are not given, by full name. A follower starts as a copy of what it follows. */
export function startingValues({ trained, followers }: Method, random: Random): Map<string, HostTensor<'float32'>> {
  const values = new Map(trained.flatMap((module) => [...initialValues(module, random)]));
  for (const { module, online } of followers) {
    for (const name of module.tensors.keys())
      values.set(`${module.prefix}${name}`, values.get(`${online.prefix}${name}`) as HostTensor<'float32'>);
  }
  return values;
}

/** First values of all parameters, given ones too: a method that knows nothing, for floors. */
export const untrainedValues = (method: Method, random: Random): Map<string, HostTensor<'float32'>> =>
  new Map([
    ...startingValues(method, random),
    ...(method.frozen ?? []).flatMap((module) => [...initialValues(module, random)]),
  ]);

/** Values that live from step to step, by the name of their input: zeros at first, then what a step makes of them. */
export type Memory = Readonly<Record<string, { readonly input: Tensor; readonly next: Tensor }>>;

/** What a step is given: for each kind of view the fields that its samples became, each [batch, count, ...] (`src/data`). */
export interface MethodBatch {
  readonly views: readonly Fields[];
}

export interface MaskedSample {
  /** Tokens that the context encoder sees. */
  readonly context: Int32Array;
  /** Tokens to predict, block by block. */
  readonly targets: readonly Int32Array[];
}

/** The inputs `context` [batch, contexts, visible] and `targets` [batch, blocks, hidden] of a step, sample by sample. */
export function maskedSamples({ context, targets }: Feeds): MaskedSample[] {
  const [batch, contexts, visible] = context.shape;
  const [, blocks, hidden] = targets.shape;
  const tokens = ({ data }: Feeds[string], row: number, rows: number, length: number): Int32Array =>
    (data as Int32Array).slice(row * length, (row + rows) * length);
  return Array.from({ length: batch }, (_, i) => ({
    context: tokens(context, i * contexts, contexts, visible),
    targets: Array.from({ length: blocks }, (_, block) => tokens(targets, i * blocks + block, 1, hidden)),
  }));
}

/** Tensors of an encoder by the names of its inputs, each [batch, ...]. */
export type Inputs = Readonly<Record<string, Tensor>>;

/** What an encoder is built from, as plain data. */
export type Architecture =
  | BackboneConfig
  | ({ readonly kind: 'skeleton' } & SkeletonConfig)
  | ({ readonly kind: 'text' | 'llm'; readonly tokens: number } & TextConfig)
  /** Of observations of a world (`src/world`). */
  | { readonly kind: 'state'; readonly of: 'impala' | 'vit' | 'patches' | 'frozen' | 'mlp' };

/** A frozen encoder as evaluation and export see it, whatever its samples are. */
export interface Encoder {
  readonly module: Module;
  readonly architecture: Architecture;
  /** What it reads of a prepared sample. */
  readonly inputs: readonly Field[];
  /** Its tokens along each axis: rows and columns of an image, with the frames of a clip before them. */
  readonly grid: readonly number[];
  /** Numbers in `represent`'s rows. */
  readonly features: number;
  /** Width of its tokens. */
  readonly width: number;
  /** [batch, features]: what probes see. */
  represent(inputs: Inputs): Tensor;
  /** [batch, tokens, width], tokens in the order of the grid, its last axis fastest. */
  tokens(inputs: Inputs): Tensor;
  /** A wider form that linear probes may choose instead, where it reads more. */
  readonly wide?: WideForm;
  /** Attention of the last block [batch, heads, tokens, tokens], where there is one. */
  attention?(inputs: Inputs): Tensor;
}

/** More of an encoder than its representation: several layers side by side. */
export interface WideForm {
  /** `last 4 layers`, ... */
  readonly name: string;
  /** [batch, any width] */
  represent(inputs: Inputs): Tensor;
}

/** Graph inputs of an encoder. */
export const encoderInputs = ({ inputs }: Encoder): Inputs =>
  Object.fromEntries(inputs.map(({ name, dtype, shape }) => [name, input(name, ['batch', ...shape], dtype)]));

/** The regularisers that keep embeddings from collapsing, beside or instead of a moving average. */
export type Regularizer =
  | { readonly kind: 'none' }
  | { readonly kind: 'vicreg'; readonly invariance?: number; readonly variance: number; readonly covariance: number }
  | { readonly kind: 'sigreg'; readonly weight: number; readonly slices: number };
