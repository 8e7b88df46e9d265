import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import type { Tensor } from '../graph/tensor.js';
import type { Module } from '../nn/weights.js';
import type { Feeds } from '../runtime/program.js';
import type { BackboneConfig } from './backbone.js';

/** What a trainer needs to know of a method: its parameters, its loss, what a step is fed, what is evaluated. */
export interface Method {
  readonly name: string;
  /** Modules with parameters that learn. */
  readonly trained: readonly Module[];
  /** Modules that follow trained ones as moving averages. */
  readonly followers: readonly { readonly module: Module; readonly online: Module }[];
  readonly loss: Tensor;
  /** Scalars for the log, the loss not among them. */
  readonly scalars: Readonly<Record<string, Tensor>>;
  /** Predictions and their targets, equal shapes [batch, ..., width]: the energy of matched against shuffled pairs. */
  readonly pair: { readonly prediction: Tensor; readonly target: Tensor };
  /** Kinds of views of each image that a batch must hold, and how many of each. */
  readonly views: readonly number[];
  /** Inputs of one step. Randomness (masks, directions) comes from `random`, which belongs to the step. */
  feeds(batch: MethodBatch, random: Random): Feeds;
  /** What is frozen and probed. */
  readonly encoder: Encoder;
}

export interface MethodBatch {
  /** One tensor for each kind of view: [batch, count, channels, height, width]. */
  readonly images: readonly HostTensor<'float32'>[];
  /** For each kind of view the parameters of its transformations, [batch, count, numbers]; see `src/data`. */
  readonly parameters?: readonly HostTensor<'float32'>[];
}

/** A frozen encoder as evaluation and export see it. */
export interface Encoder {
  readonly module: Module;
  /** What it is built from. */
  readonly architecture: BackboneConfig;
  readonly channels: number;
  /** [height, width] of its images. */
  readonly imageSize: readonly [number, number];
  /** Rows and columns of its tokens. */
  readonly grid: readonly [number, number];
  /** Numbers in `represent`'s rows. */
  readonly features: number;
  /** Width of its tokens. */
  readonly width: number;
  /** Images [batch, channels, height, width] -> [batch, features]: what probes see. */
  represent(images: Tensor): Tensor;
  /** Images -> tokens [batch, rows * columns, width]. */
  tokens(images: Tensor): Tensor;
  /** Outputs of the last `count` blocks, each through the final norm, [batch, tokens, width]; the last block's comes last. */
  layers?(images: Tensor, count: number): readonly Tensor[];
  /** Attention of the last block [batch, heads, tokens, tokens], where there is one. */
  attention?(images: Tensor): Tensor;
}

/** The regularisers that keep embeddings from collapsing, beside or instead of a moving average. */
export type Regularizer =
  | { readonly kind: 'none' }
  | { readonly kind: 'vicreg'; readonly variance: number; readonly covariance: number }
  | { readonly kind: 'sigreg'; readonly weight: number; readonly slices: number };
