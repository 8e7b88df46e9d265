import { JepaError } from '../base/errors.js';
import { mulDims } from '../graph/dims.js';
import { add, mul, sub } from '../graph/ops/elementwise.js';
import { batchedGather } from '../graph/ops/index.js';
import { reshape, transpose } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
import { operatorError, scope, type Tensor } from '../graph/tensor.js';
import type { EncodeOptions, Tokens } from './tokens.js';
import { blocks, blocksSpec, linearSpec, norm, normalInit, normSpec, type TransformerConfig } from './transformer.js';
import { positionsAt } from './vit.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/**
 * A transformer over skeletons (S-JEPA, MAMP): token `segment * joints + joint` is one joint during a few frames. Positions
 * are learned, of joints and of segments apart.
 */
export interface SkeletonConfig extends TransformerConfig {
  readonly frames: number;
  readonly joints: number;
  /** Frames of one token. */
  readonly segment: number;
  /** Numbers of a joint in a frame. */
  readonly coordinates: number;
}

export interface SkeletonOptions {
  readonly frames?: number;
  readonly joints?: number;
  readonly segment?: number;
  readonly width?: number;
  readonly depth?: number;
  readonly heads?: number;
  readonly mlpWidth?: number;
}

/** A checked configuration; by default the paper's: 120 frames in segments of 4, 25 joints, width 256, 8 layers and heads. */
export function skeletonConfig(options: SkeletonOptions = {}): SkeletonConfig {
  const { frames = 120, joints = 25, segment = 4, width = 256, depth = 8, heads = 8 } = options;
  const config: SkeletonConfig = {
    frames,
    joints,
    segment,
    coordinates: 3,
    width,
    depth,
    heads,
    mlpWidth: options.mlpWidth ?? 4 * width,
    qkvBias: true,
    eps: 1e-5,
  };
  for (const what of ['frames', 'joints', 'segment', 'width', 'depth', 'heads', 'mlpWidth'] as const) {
    if (!Number.isInteger(config[what]) || config[what] < 1)
      throw new JepaError(`skeleton encoder: ${what} must be a positive whole number, not ${config[what]}`);
  }
  if (frames % segment !== 0)
    throw new JepaError(`skeleton encoder: ${frames} frames do not divide into segments of ${segment}`);
  if (width % heads !== 0)
    throw new JepaError(`skeleton encoder: a width of ${width} does not divide into ${heads} heads`);
  return config;
}

/** Segments and joints of the tokens. */
export const skeletonGrid = ({ frames, segment, joints }: SkeletonConfig): readonly [number, number] => [
  frames / segment,
  joints,
];

/** Parameters under the names of the public implementation; `replaceable` adds the vector that stands for hidden tokens. */
export function skeletonSpec(config: SkeletonConfig, replaceable = false): ModuleSpec {
  const { width, segment, coordinates } = config;
  const [segments, joints] = skeletonGrid(config);
  return new Map<string, ParameterSpec>([
    ['patch_embed.spatial_pe', normalInit([1, 1, joints, width])],
    ['patch_embed.temporal_pe', normalInit([1, segments, 1, width])],
    ...linearSpec('patch_embed.joint_proj', width, segment * coordinates),
    ...(replaceable ? [['mask_token', normalInit([1, 1, width])] as [string, ParameterSpec]] : []),
    ...blocksSpec('blocks', config),
    ...normSpec('norm', width),
  ]);
}

/** Skeletons [batch, frames, joints, coordinates] -> what each token holds, [batch, tokens, segment * coordinates], frame by frame. */
export function cutSegments(
  skeletons: Tensor,
  { frames, joints, segment, coordinates }: Pick<SkeletonConfig, 'frames' | 'joints' | 'segment' | 'coordinates'>,
): Tensor {
  const [batch, f, j, c] = skeletons.shape;
  if (f !== frames || j !== joints || c !== coordinates)
    throw operatorError('skeleton', `needs [batch, ${frames}, ${joints}, ${coordinates}]`, skeletons);
  const apart = reshape(skeletons, [batch, frames / segment, segment, joints, coordinates]);
  return reshape(transpose(apart, [0, 1, 3, 2, 4]), [batch, (frames / segment) * joints, segment * coordinates]);
}

/** The tokens of skeletons [batch, frames, joints, coordinates]. */
export function skeletonTokens(skeletons: Tensor, config: SkeletonConfig): Tokens {
  const [segments, joints] = skeletonGrid(config);
  return {
    count: segments * joints,
    encode(w, { visible, replaced, select, drop, onState } = {}) {
      const embedded = scope('patch_embed', () => embedSegments(skeletons, w, config, { visible, replaced }));
      onState?.(embedded, 0);
      const tokens = blocks(embedded, w, 'blocks', config, {
        select,
        drop,
        onBlock: (output, i) => onState?.(output, i + 1),
      });
      return scope('norm', () => norm(tokens, under(w, 'norm.'), config.eps));
    },
  };
}

/** Embeddings with positions: [batch, tokens, width], of `visible` tokens [batch * sets, kept, width]. */
export function embedSegments(
  skeletons: Tensor,
  w: Weights,
  config: SkeletonConfig,
  { visible, replaced }: Pick<EncodeOptions, 'visible' | 'replaced'> = {},
): Tensor {
  const { width } = config;
  const [segments, joints] = skeletonGrid(config);
  const places = add(w('patch_embed.spatial_pe'), w('patch_embed.temporal_pe')); // [1, segments, joints, width]
  const table = reshape(places, [1, segments * joints, width]);
  const project = (held: Tensor): Tensor =>
    linear(held, w('patch_embed.joint_proj.weight'), w('patch_embed.joint_proj.bias'));
  const held = cutSegments(skeletons, config);
  if (!visible) {
    const seen = project(held);
    const kept = replaced ? add(mul(seen, sub(1, replaced)), mul(w('mask_token'), replaced)) : seen;
    return add(kept, table);
  }
  const [batch, sets, kept] = visible.shape;
  const index = reshape(visible, [batch, mulDims(sets, kept)]);
  const embedded = add(project(batchedGather(held, index)), positionsAt(table, index));
  return reshape(embedded, [mulDims(batch, sets), kept, width]);
}
