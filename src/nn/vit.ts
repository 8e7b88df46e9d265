import { JepaError } from '../base/errors.js';
import { add } from '../graph/ops/elementwise.js';
import { batchedGather, embedding } from '../graph/ops/index.js';
import { concat, reshape } from '../graph/ops/move.js';
import { operatorError, scope, type Tensor } from '../graph/tensor.js';
import { cutPatches, projectPatches } from './patches.js';
import { type PositionTable, positionTable } from './positions.js';
import { gridRotary, type Rope, type Rotary, ropeWidth } from './rope.js';
import {
  attend,
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

/**
 * A vision transformer without class token, for images (I-JEPA, Assran et al. 2023; `vision_transformer.py`) or clips
 * (V-JEPA, Bardes et al. 2024; V-JEPA 2, Assran et al. 2025; V-JEPA 2.1). Clips are cut into tubelets: patches of several
 * frames.
 */
export interface VitConfig extends TransformerConfig {
  /** [height, width] in pixels. */
  readonly imageSize: readonly [number, number];
  readonly patchSize: number;
  readonly channels: number;
  /** Frames of a clip, and of each of its patches; images where absent. */
  readonly frames?: number;
  readonly tubeletSize?: number;
  /** Where a token is: a fixed table that is added, or rotary positions. `column-first` by default. */
  readonly positions?: Positions;
  /** Blocks (0, 1, ...) whose outputs have norms of their own, `norms_block`, the last block among them (V-JEPA 2.1). */
  readonly levels?: readonly number[];
  /** Clips of one frame have their own patch embedding, and either kind a learned vector of its own (V-JEPA 2.1). */
  readonly modalities?: boolean;
}

export type Positions = PositionTable | Rope;

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
  /** See `VitConfig`. */
  readonly frames?: number;
  readonly tubeletSize?: number;
  readonly positions?: Positions;
  readonly levels?: readonly number[];
  readonly modalities?: boolean;
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
    ...(own.frames === undefined ? {} : { frames: own.frames, tubeletSize: own.tubeletSize ?? 2 }),
    ...(own.positions === undefined ? {} : { positions: own.positions }),
    ...(own.levels === undefined ? {} : { levels: own.levels }),
    ...(own.modalities === undefined ? {} : { modalities: own.modalities }),
  };
  checkVit(config);
  return config;
}

/** Throws a `JepaError` for sizes that cannot be: patches that do not divide the image, heads the width, ... */
export function checkVit(config: VitConfig): void {
  const { imageSize, patchSize, width, heads, channels, depth, frames, tubeletSize, levels } = config;
  for (const [what, value] of Object.entries({
    patchSize,
    width,
    heads,
    channels,
    depth,
    height: imageSize[0],
    breadth: imageSize[1],
    ...(isClip(config) ? { frames, tubeletSize } : {}),
  })) {
    if (!Number.isInteger(value) || (value as number) < 1)
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
  if (isClip(config) && (frames as number) % (tubeletSize as number) !== 0)
    throw new JepaError(`vit: ${frames} frames do not divide into patches of ${tubeletSize} frames`);
  if (width % heads !== 0) throw new JepaError(`vit: a width of ${width} does not divide into ${heads} heads`);
  const positions = positionsOf(config);
  if (typeof positions !== 'string') {
    if (ropeWidth(width / heads) < 2)
      throw new JepaError(`vit: rotary positions need heads of width 6 or more, not ${width / heads}; use fewer heads`);
  } else if (positions === 'uniform' ? width % 2 !== 0 : width % 4 !== 0)
    throw new JepaError(`vit: the width must be a multiple of 4 for the position table, not ${width}`);
  if (levels && levels.at(-1) !== depth - 1)
    throw new JepaError(`vit: the levels [${levels}] must end with the last of ${depth} blocks`);
}

const isClip = ({ frames, tubeletSize }: VitConfig): boolean => frames !== undefined || tubeletSize !== undefined;

const positionsOf = (config: VitConfig): Positions => config.positions ?? 'column-first';

/** Rows and columns of patches of an image or of a frame. */
export const gridOf = ({ imageSize, patchSize }: VitConfig): readonly [number, number] => [
  imageSize[0] / patchSize,
  imageSize[1] / patchSize,
];

/** Rows and columns of tokens, with the tubelets of a clip before them. */
export const tokenGrid = (config: VitConfig): readonly number[] =>
  isClip(config) ? [(config.frames as number) / (config.tubeletSize as number), ...gridOf(config)] : gridOf(config);

/** Frames of a patch for an input: those of a single frame where it has an embedding of its own. */
const tubeletOf = (x: Tensor, { tubeletSize, modalities }: VitConfig): number | undefined =>
  modalities && x.shape[2] === 1 ? 1 : tubeletSize;

/** The grid of tokens of an input, whose size may differ from the configuration's. */
function gridOfInput(x: Tensor, config: VitConfig): readonly number[] {
  const tubelet = tubeletOf(x, config);
  const sizes = tubelet === undefined ? [] : [tubelet];
  return x.shape.slice(2).map((length, i) => (length as number) / (sizes[i] ?? config.patchSize));
}

/** Parameters under their published names. A position table is fixed. `rescale`: see `blocksSpec`. */
export function vitSpec(config: VitConfig, rescale = false): ModuleSpec {
  const { width, channels, patchSize, tubeletSize, levels, modalities } = config;
  const positions = positionsOf(config);
  const embedding = (name: string, sizes: readonly number[]): [string, ParameterSpec][] => [
    [`${name}.proj.weight`, normalInit([width, channels, ...sizes, patchSize, patchSize])],
    [`${name}.proj.bias`, fillInit([width], 0)],
  ];
  return new Map<string, ParameterSpec>([
    ...(typeof positions === 'string' ? [positionSpec('pos_embed', tokenGrid(config), width, positions)] : []),
    ...embedding('patch_embed', tubeletSize === undefined ? [] : [tubeletSize]),
    ...(modalities ? [...embedding('patch_embed_img', [1]), ...modalitySpec(width)] : []),
    ...blocksSpec('blocks', config, rescale),
    ...(levels ? levels.flatMap((_, i) => normSpec(`norms_block.${i}`, width)) : normSpec('norm', width)),
  ]);
}

/** The fixed table of a grid of tokens. */
export const positionSpec = (
  name: string,
  grid: readonly number[],
  width: number,
  kind: PositionTable,
): [string, ParameterSpec] => [
  name,
  {
    shape: [1, grid.reduce((a, b) => a * b, 1), width],
    init: { kind: 'table', data: positionTable(grid, width, kind) },
    trainable: false,
  },
];

/** Learned vectors of images and clips. */
export const modalitySpec = (width: number): [string, ParameterSpec][] => [
  ['img_mod_embed', normalInit([1, 1, width], 1e-6)],
  ['video_mod_embed', normalInit([1, 1, width], 1e-6)],
];

export interface VitForward {
  /** Visible tokens [batch, kept], flat indices in the grid (columns fastest); all by default. */
  readonly visible?: Tensor;
  /** Tokens to return; all that are visible by default. */
  readonly select?: Select;
  readonly drop?: DropPath;
  /** Replaces the position table [1, tokens, width] (another resolution). Rotary positions fit every size. */
  readonly positions?: Tensor;
  /** Sees the embeddings (0) and the output of each block (1, 2, ...), before the final norm. */
  readonly onState?: (state: Tensor, index: number) => void;
}

/**
 * Images [batch, channels, height, width] or clips [batch, channels, frames, height, width] -> tokens
 * [batch, tokens, width] after the final norm.
 */
export function vit(x: Tensor, w: Weights, config: VitConfig, options: VitForward = {}): Tensor {
  return normLayer(vitBlocks(x, w, config, options), w, config, config.depth - 1);
}

/** Outputs of the listed blocks (0, 1, ...), each through the norm of its level or the final one. */
export function vitLayers(
  x: Tensor,
  w: Weights,
  config: VitConfig,
  layers: readonly number[],
  options: Pick<VitForward, 'visible' | 'drop' | 'positions'> = {},
): Tensor[] {
  const states: Tensor[] = [];
  vitBlocks(x, w, config, { ...options, onState: (state) => states.push(state) });
  return layers.map((layer) => {
    if (!states[layer + 1]) throw new JepaError(`vit: there is no block ${layer} among ${config.depth}`);
    return normLayer(states[layer + 1], w, config, layer);
  });
}

/** What a predictor sees: the tokens, or those of all levels side by side [batch, tokens, levels * width] (V-JEPA 2.1). */
export const vitRepresentation = (
  x: Tensor,
  w: Weights,
  config: VitConfig,
  options: Pick<VitForward, 'visible' | 'drop' | 'positions'> = {},
): Tensor => (config.levels ? concat(vitLayers(x, w, config, config.levels, options), 2) : vit(x, w, config, options));

/** Attention of the last block among all tokens, [batch, heads, tokens, tokens]. */
export function lastAttention(x: Tensor, w: Weights, config: VitConfig): Tensor {
  const states: Tensor[] = [];
  vitBlocks(x, w, config, { onState: (state) => states.push(state) });
  const last = config.depth - 1;
  const block = under(w, `blocks.${last}.`);
  const normed = norm(states[last], under(block, 'norm1.'), config.eps);
  return attend(normed, under(block, 'attn.'), config, { rotary: rotaryOfInput(x, config) }).probabilities;
}

function vitBlocks(
  x: Tensor,
  w: Weights,
  config: VitConfig,
  { visible, select, drop, positions, onState }: VitForward,
): Tensor {
  const embedded = scope('patch_embed', () => embedPatches(x, w, config, visible, positions));
  onState?.(embedded, 0);
  return blocks(embedded, w, 'blocks', config, {
    select,
    drop,
    rotary: scope('positions', () => rotaryOfInput(x, config, visible)),
    onBlock: (output, i) => onState?.(output, i + 1),
  });
}

function rotaryOfInput(x: Tensor, config: VitConfig, visible?: Tensor): Rotary | undefined {
  const positions = positionsOf(config);
  if (typeof positions === 'string') return undefined;
  return gridRotary(gridOfInput(x, config), config.width / config.heads, positions, visible);
}

function normLayer(tokens: Tensor, w: Weights, { levels, eps }: VitConfig, layer: number): Tensor {
  const level = levels?.indexOf(layer);
  if (level !== undefined && level < 0)
    throw new JepaError(`vit: block ${layer} has no norm of its own, only blocks ${levels} have`);
  const name = level === undefined ? 'norm' : `norms_block.${level}`;
  return scope(name, () => norm(tokens, under(w, `${name}.`), eps));
}

/** Projections of patches plus positions; hidden patches are never computed. Returns [batch, visible, width]. */
export function embedPatches(
  x: Tensor,
  w: Weights,
  config: VitConfig,
  visible?: Tensor,
  positions = typeof positionsOf(config) === 'string' ? w('pos_embed') : undefined,
): Tensor {
  const patches = patchify(x, config);
  const still = config.modalities && tubeletOf(x, config) === 1;
  const proj = under(w, still ? 'patch_embed_img.proj.' : 'patch_embed.proj.');
  const kept = visible ? batchedGather(patches, visible) : patches;
  const projected = projectPatches(kept, proj('weight'), proj('bias'));
  const tokens = config.modalities ? add(projected, w(still ? 'img_mod_embed' : 'video_mod_embed')) : projected;
  if (!positions) return tokens;
  return add(tokens, visible ? positionsAt(positions, visible) : positions);
}

/** Images or clips -> patches [batch, patches, channels * (frames *) patch * patch]. */
export function patchify(x: Tensor, config: VitConfig): Tensor {
  const { patchSize, channels, tubeletSize } = config;
  const tubelet = tubeletOf(x, config);
  const sizes = [...(tubelet === undefined ? [] : [tubelet]), patchSize, patchSize];
  const [, c, ...sides] = x.shape;
  const fits = (side: unknown, i: number): boolean => typeof side === 'number' && side % sizes[i] === 0;
  if (c !== channels || sides.length !== sizes.length || !sides.every(fits)) {
    const what = tubeletSize === undefined ? 'images' : 'clips';
    throw operatorError(
      'patchify',
      `needs ${what} with ${channels} channels whose sides divide into patches of ${sizes.join(' x ')}`,
      x,
    );
  }
  return cutPatches(x, sizes);
}

/** Rows of a table [1, patches, width] at indices [batch, kept] -> [batch, kept, width]. */
export function positionsAt(table: Tensor, index: Tensor): Tensor {
  const [, patches, width] = table.shape;
  return embedding(reshape(table, [patches, width]), index);
}
