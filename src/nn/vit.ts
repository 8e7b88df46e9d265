import { JepaError } from '../base/errors.js';
import { add } from '../graph/ops/elementwise.js';
import { batchedGather, embedding } from '../graph/ops/index.js';
import { reshape } from '../graph/ops/move.js';
import { operatorError, scope, type Tensor } from '../graph/tensor.js';
import { cutPatches, projectPatches } from './patches.js';
import { gridPositions } from './positions.js';
import {
  blocks,
  blocksSpec,
  type DropPath,
  fillInit,
  norm,
  normalInit,
  normSpec,
  type Select,
  type TransformerConfig,
} from './transformer.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/** A vision transformer without class token, as in I-JEPA (Assran et al. 2023; `vision_transformer.py`). */
export interface VitConfig extends TransformerConfig {
  /** [height, width] in pixels. */
  readonly imageSize: readonly [number, number];
  readonly patchSize: number;
  readonly channels: number;
}

/** The published family: width, depth, heads, hidden width of the MLP. */
export const VIT_SIZES = {
  tiny: { width: 192, depth: 12, heads: 3, mlpWidth: 768 },
  small: { width: 384, depth: 12, heads: 6, mlpWidth: 1536 },
  base: { width: 768, depth: 12, heads: 12, mlpWidth: 3072 },
  large: { width: 1024, depth: 24, heads: 16, mlpWidth: 4096 },
  huge: { width: 1280, depth: 32, heads: 16, mlpWidth: 5120 },
  giant: { width: 1408, depth: 40, heads: 16, mlpWidth: 6144 },
} as const;

export type VitSize = keyof typeof VIT_SIZES;

export interface VitOptions {
  readonly size?: VitSize;
  readonly imageSize: number | readonly [number, number];
  readonly patchSize: number;
  readonly channels?: number;
  readonly width?: number;
  readonly depth?: number;
  readonly heads?: number;
  readonly mlpWidth?: number;
}

/** A checked configuration: a named size, any part of it replaced. */
export function vitConfig({ size = 'tiny', imageSize, patchSize, channels = 3, ...own }: VitOptions): VitConfig {
  const image = typeof imageSize === 'number' ? ([imageSize, imageSize] as const) : imageSize;
  const base = VIT_SIZES[size];
  const width = own.width ?? base.width;
  const config: VitConfig = {
    imageSize: image,
    patchSize,
    channels,
    width,
    depth: own.depth ?? base.depth,
    heads: own.heads ?? base.heads,
    mlpWidth: own.mlpWidth ?? (own.width === undefined ? base.mlpWidth : 4 * width),
    qkvBias: true,
    eps: 1e-6,
  };
  checkVit(config);
  return config;
}

export function checkVit({ imageSize, patchSize, width, heads, channels, depth }: VitConfig): void {
  for (const [what, value] of Object.entries({
    patchSize,
    width,
    heads,
    channels,
    depth,
    height: imageSize[0],
    breadth: imageSize[1],
  })) {
    if (!Number.isInteger(value) || value < 1)
      throw new JepaError(`vit: ${what} must be a positive whole number, not ${value}`);
  }
  for (const side of imageSize) {
    if (side % patchSize !== 0) {
      const near = Math.max(1, Math.round(side / patchSize)) * patchSize;
      throw new JepaError(
        `vit: an image side of ${side} pixels does not divide into patches of ${patchSize}; use ${near} pixels or another patch size`,
      );
    }
  }
  if (width % heads !== 0) throw new JepaError(`vit: a width of ${width} does not divide into ${heads} heads`);
  if (width % 4 !== 0)
    throw new JepaError(`vit: the width must be a multiple of 4 for the position table, not ${width}`);
}

export const gridOf = ({ imageSize, patchSize }: VitConfig): readonly [number, number] => [
  imageSize[0] / patchSize,
  imageSize[1] / patchSize,
];

/** Parameters under their published names. The position table is fixed. */
export function vitSpec(config: VitConfig, rescale = false): ModuleSpec {
  const { width, channels, patchSize } = config;
  const [rows, columns] = gridOf(config);
  return new Map<string, ParameterSpec>([
    [
      'pos_embed',
      {
        shape: [1, rows * columns, width],
        init: { kind: 'table', data: gridPositions([rows, columns], width) },
        trainable: false,
      },
    ],
    ['patch_embed.proj.weight', normalInit([width, channels, patchSize, patchSize])],
    ['patch_embed.proj.bias', fillInit([width], 0)],
    ...blocksSpec('blocks', config, rescale),
    ...normSpec('norm', width),
  ]);
}

export interface VitForward {
  /** Visible patches [batch, kept], indices of patches (row * columns + column); all patches by default. */
  readonly visible?: Tensor;
  /** Tokens to return; all that are visible by default. */
  readonly select?: Select;
  readonly drop?: DropPath;
  /** Replaces the position table [1, patches, width] (another resolution). */
  readonly positions?: Tensor;
  /** Sees the embeddings (0) and the output of each block (1, 2, ...), before the final norm. */
  readonly onState?: (state: Tensor, index: number) => void;
}

/** Images [batch, channels, height, width] -> tokens [batch, patches, width] after the final norm. */
export function vit(
  images: Tensor,
  w: Weights,
  config: VitConfig,
  { visible, select, drop, positions, onState }: VitForward = {},
): Tensor {
  const embedded = scope('patch_embed', () => embedPatches(images, w, config, visible, positions));
  onState?.(embedded, 0);
  const tokens = blocks(embedded, w, 'blocks', config, {
    select,
    drop,
    onBlock: (output, i) => onState?.(output, i + 1),
  });
  return scope('norm', () => norm(tokens, under(w, 'norm.'), config.eps));
}

/** Projections of patches plus positions; hidden patches are never computed. Returns [batch, visible, width]. */
export function embedPatches(
  images: Tensor,
  w: Weights,
  config: VitConfig,
  visible?: Tensor,
  positions = w('pos_embed'),
): Tensor {
  const patches = patchify(images, config);
  const weight = w('patch_embed.proj.weight');
  const bias = w('patch_embed.proj.bias');
  if (!visible) return add(projectPatches(patches, weight, bias), positions);
  return add(projectPatches(batchedGather(patches, visible), weight, bias), positionsAt(positions, visible));
}

/** [batch, channels, height, width] -> [batch, patches, channels * patch * patch] */
export function patchify(images: Tensor, { patchSize, channels }: Pick<VitConfig, 'patchSize' | 'channels'>): Tensor {
  const [, c, ...sides] = images.shape;
  if (c !== channels || sides.some((side) => typeof side !== 'number' || side % patchSize !== 0)) {
    throw operatorError(
      'patchify',
      `needs images with ${channels} channels whose sides divide into patches of ${patchSize}`,
      images,
    );
  }
  return cutPatches(images, [patchSize, patchSize]);
}

/** Rows of a table [1, patches, width] at indices [batch, kept] -> [batch, kept, width]. */
export function positionsAt(table: Tensor, index: Tensor): Tensor {
  const [, patches, width] = table.shape;
  return embedding(reshape(table, [patches, width]), index);
}
