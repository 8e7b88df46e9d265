import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import { blockSize, blockSizeProbabilities, cellsOf, type Size, shortest, stackLists } from './blocks.js';
import { between, type IntegerDraws, type Range, type UniformDraws } from './draws.js';

/**
 * Multi-block masks of I-JEPA (Assran et al., CVPR 2023, section 3): a few target blocks anywhere, and one large context
 * block without the targets. All images of a batch share the block sizes, so that lists have nearly equal lengths.
 */
export interface MultiBlock2dConfig {
  /** Rows and columns of patches. */
  readonly grid: Size;
  /** Share of the grid in one target block, in one context block. */
  readonly targetScale: Range;
  readonly contextScale: Range;
  /** Rows / columns of a target block; context blocks are square. */
  readonly targetAspect: Range;
  readonly targets: number;
  readonly contexts: number;
  /** Every block must hold more patches than this. */
  readonly minKeep: number;
  /** Contexts may overlap targets. */
  readonly allowOverlap: boolean;
  /** The reference never places a block on the last row or column (an off-by-one); true allows it. */
  readonly coverEdges?: boolean;
}

/** Settings of the released I-JEPA models, for any grid. */
export const RELEASED_MULTIBLOCK_2D: Omit<MultiBlock2dConfig, 'grid'> = {
  targetScale: [0.15, 0.2],
  contextScale: [0.85, 1],
  targetAspect: [0.75, 1.5],
  targets: 4,
  contexts: 1,
  minKeep: 10,
  allowOverlap: false,
};

export interface Masks2d {
  /** Visible patches [batch, contexts, Kc], flat indices row x columns + column, ascending. */
  readonly context: HostTensor<'int32'>;
  /** Patches to predict [batch, targets, Kt]. */
  readonly target: HostTensor<'int32'>;
}

export interface MultiBlock2dDraws {
  /** Block sizes: one uniform for the targets, one for the contexts. The reference seeds it with the batch number. */
  readonly sizes: UniformDraws;
  /** Block positions: top, then left, for every attempt, image by image, targets before contexts. */
  readonly places: IntegerDraws;
}

/** Masks of one batch. A size that can never satisfy `minKeep` is an error (the reference would not return). */
export function sampleMultiBlock2d(config: MultiBlock2dConfig, batch: number, draws: MultiBlock2dDraws): Masks2d {
  const sizes = drawBlockSizes2d(config, draws.sizes);
  return collate2d(Array.from({ length: batch }, () => drawImageMasks2d(config, sizes, draws.places)));
}

export interface BlockSizes2d {
  readonly target: Size;
  readonly context: Size;
}

export function drawBlockSizes2d(config: MultiBlock2dConfig, draws: UniformDraws): BlockSizes2d {
  const drawSize = (scale: Range, aspect: Range): Size => {
    // One number drives both: larger target blocks are also the taller ones.
    const uniform = draws.uniform();
    return blockSize(cellsOf(config.grid, between(scale, uniform)), between(aspect, uniform), limit(config));
  };
  const target = drawSize(config.targetScale, config.targetAspect);
  const context = drawSize(config.contextScale, [1, 1]);
  return { target, context };
}

/** A drawn block, before its list is cut to the length of the batch. */
export interface DrawnBlock {
  /** Ascending flat indices. */
  readonly indices: Int32Array;
  readonly attempts: number;
  /** Targets that the block was allowed to overlap in the end, because it had too few patches without them. */
  readonly dropped: number;
}

export interface ImageMasks2d {
  readonly targets: readonly DrawnBlock[];
  readonly contexts: readonly DrawnBlock[];
}

/** Masks of one image. Targets may overlap each other. */
export function drawImageMasks2d(config: MultiBlock2dConfig, sizes: BlockSizes2d, places: IntegerDraws): ImageMasks2d {
  checkSize(config, 'target', sizes.target);
  checkSize(config, 'context', sizes.context);
  // For each patch the first target that covers it: patch p is outside the first r targets where firstCover[p] >= r.
  const firstCover = new Int32Array(config.grid[0] * config.grid[1]).fill(config.targets);
  const targets: DrawnBlock[] = [];
  for (let index = 0; index < config.targets; index++) {
    const block = drawBlock(config, sizes.target, places, firstCover, 0);
    for (const patch of block.indices) firstCover[patch] = Math.min(firstCover[patch], index);
    targets.push(block);
  }
  const avoided = config.allowOverlap ? 0 : config.targets;
  const contexts = Array.from({ length: config.contexts }, () =>
    drawBlock(config, sizes.context, places, firstCover, avoided),
  );
  return { targets, contexts };
}

/** Failures after which one more target may be overlapped, the last drawn first. */
const PATIENCE = 20;

function drawBlock(
  config: MultiBlock2dConfig,
  [height, width]: Size,
  places: IntegerDraws,
  firstCover: Int32Array,
  avoided: number,
): DrawnBlock {
  const [rows, columns] = config.grid;
  const past = config.coverEdges ? 1 : 0;
  const indices = new Int32Array(height * width);
  for (let attempts = 1; ; attempts++) {
    const dropped = Math.min(Math.floor((attempts - 1) / PATIENCE), avoided);
    const top = places.integer(rows - height + past);
    const left = places.integer(columns - width + past);
    let count = 0;
    for (let row = top; row < top + height; row++) {
      for (let patch = row * columns + left; patch < row * columns + left + width; patch++) {
        if (firstCover[patch] >= avoided - dropped) indices[count++] = patch;
      }
    }
    if (count > config.minKeep) return { indices: indices.slice(0, count), attempts, dropped };
  }
}

/** Cuts the lists of a batch to its shortest target and its shortest context, and stacks them. */
export function collate2d(images: readonly ImageMasks2d[]): Masks2d {
  const contexts = images.map((image) => image.contexts.map((block) => block.indices));
  const targets = images.map((image) => image.targets.map((block) => block.indices));
  return { context: stackLists(contexts, shortest(contexts)), target: stackLists(targets, shortest(targets)) };
}

/** Blocks leave at least one row and one column free. */
function limit({ grid }: MultiBlock2dConfig): Size {
  return [grid[0] - 1, grid[1] - 1];
}

function checkSize(config: MultiBlock2dConfig, kind: 'target' | 'context', [height, width]: Size): void {
  if (height * width > config.minKeep) return;
  throw new JepaError(
    `masks: a ${kind} block of ${height} x ${width} on a grid of ${config.grid.join(' x ')} patches can never hold more ` +
      `than min_keep = ${config.minKeep} patches; lower min_keep, raise the ${kind} scale, or use smaller patches`,
  );
}

/** Checks every block size that can ever be drawn, so that a bad configuration fails before training and not in it. */
export function checkMultiBlock2d(config: MultiBlock2dConfig): void {
  for (const { size } of targetSizes2d(config)) checkSize(config, 'target', size);
  for (const { size } of contextSizes2d(config)) checkSize(config, 'context', size);
}

/** Sizes of target blocks that can be drawn, with their probabilities. */
export function targetSizes2d(config: MultiBlock2dConfig) {
  return blockSizeProbabilities(config.grid, limit(config), config.targetScale, config.targetAspect, true);
}

/** Sizes of context blocks that can be drawn, with their probabilities. */
export function contextSizes2d(config: MultiBlock2dConfig) {
  return blockSizeProbabilities(config.grid, limit(config), config.contextScale, [1, 1], true);
}
