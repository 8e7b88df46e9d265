import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import { blockSize, blockSizeProbabilities, cellsOf, type SizeProbability, shortest, stackLists } from './blocks.js';
import { between, type IntegerDraws, type Range, type UniformDraws } from './draws.js';

/**
 * Multi-block masks of V-JEPA (Bardes et al. 2024, section 3.2) and V-JEPA 2: blocks of space and time are hidden, the
 * rest of the clip is context. A configuration is a list of entries (short-range, long-range), each with its own masks.
 */
export interface MultiBlock3dEntry {
  /** Blocks hidden in each clip. */
  readonly blocks: number;
  /** Share of a frame, share of the frames, rows / columns of a block. */
  readonly spatialScale: Range;
  readonly temporalScale: Range;
  readonly aspect: Range;
  /** Frames beyond this share of the clip are always hidden. */
  readonly maxTemporalKeep: number;
  /** At most so many context tokens; undefined or null: no limit. */
  readonly maxKeep?: number | null;
  /** After cutting: target is everything outside the context. */
  readonly fullComplement?: boolean;
  /** After cutting: context is everything outside the target. */
  readonly predFullComplement?: boolean;
  /** Swap context and target: predict the surroundings from the blocks. */
  readonly invertBlocks?: boolean;
}

/** The two entries of all released V-JEPA and V-JEPA 2 models. */
export const RELEASED_MULTIBLOCK_3D: readonly MultiBlock3dEntry[] = [
  { blocks: 8, spatialScale: [0.15, 0.15], temporalScale: [1, 1], aspect: [0.75, 1.5], maxTemporalKeep: 1 },
  { blocks: 2, spatialScale: [0.7, 0.7], temporalScale: [1, 1], aspect: [0.75, 1.5], maxTemporalKeep: 1 },
];

export type Grid3d = readonly [frames: number, rows: number, columns: number];

export interface Masks3d {
  /** Visible tokens [batch, Kc]: flat indices (frame x rows + row) x columns + column, ascending. */
  readonly context: HostTensor<'int32'>;
  /** Tokens to predict [batch, Kt]. */
  readonly target: HostTensor<'int32'>;
}

export interface MultiBlock3dDraws {
  /** Block sizes of entry e: three uniforms, for time, area and aspect. The reference seeds all with the batch number. */
  sizes(entry: number): UniformDraws;
  /** Block positions: top, left, first frame for every block, clip by clip, entry by entry. */
  readonly places: IntegerDraws;
}

/** Masks of one batch, one pair for each entry. */
export function sampleMultiBlock3d(
  grid: Grid3d,
  entries: readonly MultiBlock3dEntry[],
  batch: number,
  draws: MultiBlock3dDraws,
): Masks3d[] {
  return entries.map((entry, index) => {
    const size = drawBlockSize3d(grid, entry, draws.sizes(index));
    const clips = Array.from({ length: batch }, () => drawClipMask3d(grid, entry, size, draws.places));
    return collate3d(entry, clips);
  });
}

export function drawBlockSize3d(grid: Grid3d, entry: MultiBlock3dEntry, draws: UniformDraws): Grid3d {
  const [, rows, columns] = grid;
  const depth = blockFrames(grid, entry, draws.uniform());
  const cells = cellsOf([rows, columns], between(entry.spatialScale, draws.uniform()));
  const aspect = between(entry.aspect, draws.uniform());
  return [depth, ...blockSize(cells, aspect, [rows, columns])];
}

function blockFrames([frames]: Grid3d, entry: MultiBlock3dEntry, uniform: number): number {
  return Math.max(1, Math.trunc(frames * between(entry.temporalScale, uniform)));
}

/** Uniforms are below 1: the upper end of a range is never quite reached. */
const LARGEST_UNIFORM = 1 - 2 ** -24;

export interface ClipMask3d {
  /** 1 = context, 0 = target, one byte for each token of the clip. */
  readonly visible: Uint8Array;
  /** Draws of the whole clip until its context was not empty. */
  readonly attempts: number;
}

/** Draws of one clip after which a configuration is taken to be hopeless. Released settings never need more than 10. */
const MOST_ATTEMPTS = 1000;

export function drawClipMask3d(grid: Grid3d, entry: MultiBlock3dEntry, size: Grid3d, places: IntegerDraws): ClipMask3d {
  checkSize(grid, size);
  const [frames, rows, columns] = grid;
  const [depth, height, width] = size;
  const frameTokens = rows * columns;
  const keptFrames = Math.max(1, Math.trunc(frames * entry.maxTemporalKeep));
  for (let attempts = 1; attempts <= MOST_ATTEMPTS; attempts++) {
    const visible = new Uint8Array(frames * frameTokens).fill(1);
    for (let block = 0; block < entry.blocks; block++) {
      const top = places.integer(rows - height + 1);
      const left = places.integer(columns - width + 1);
      const start = places.integer(frames - depth + 1);
      for (let frame = start; frame < start + depth; frame++) {
        for (let row = top; row < top + height; row++) {
          const first = frame * frameTokens + row * columns + left;
          visible.fill(0, first, first + width);
        }
      }
    }
    visible.fill(0, keptFrames * frameTokens);
    if (visible.includes(1)) return { visible, attempts };
  }
  throw new JepaError(
    `masks: ${entry.blocks} blocks of ${size.join(' x ')} hid the whole clip of ${grid.join(' x ')} tokens ` +
      `${MOST_ATTEMPTS} times in a row; use fewer or smaller blocks`,
  );
}

/** Cuts the lists of a batch to its shortest context (and `maxKeep`) and its shortest target; applies the entry's flags. */
export function collate3d(entry: MultiBlock3dEntry, clips: readonly ClipMask3d[]): Masks3d {
  const tokens = clips[0].visible.length;
  let contexts = clips.map(({ visible }) => indicesOf(visible, 1));
  let targets = clips.map(({ visible }) => indicesOf(visible, 0));
  const cut = (lists: Int32Array[], most = tokens) => {
    const length = Math.min(shortest([lists]), most);
    return lists.map((list) => list.subarray(0, length));
  };
  contexts = cut(contexts, entry.maxKeep ?? tokens);
  targets = cut(targets);
  if (entry.fullComplement) targets = contexts.map((list) => complement(list, tokens));
  else if (entry.predFullComplement) contexts = targets.map((list) => complement(list, tokens));
  const [context, target] = entry.invertBlocks ? [targets, contexts] : [contexts, targets];
  return { context: stack(context), target: stack(target) };
}

/** [batch][K] to [batch, K]. */
function stack(lists: readonly Int32Array[]): HostTensor<'int32'> {
  const stacked = stackLists([lists], lists[0].length);
  return { ...stacked, shape: stacked.shape.slice(1) };
}

function indicesOf(map: Uint8Array, value: 0 | 1): Int32Array {
  const indices = new Int32Array(map.length);
  let count = 0;
  for (let i = 0; i < map.length; i++) if (map[i] === value) indices[count++] = i;
  return indices.slice(0, count);
}

function complement(indices: Int32Array, tokens: number): Int32Array {
  const outside = new Uint8Array(tokens).fill(1);
  for (const index of indices) outside[index] = 0;
  return indicesOf(outside, 1);
}

function checkSize(grid: Grid3d, size: Grid3d): void {
  const problem = size.includes(0)
    ? 'hide nothing: raise the scales or use smaller patches'
    : size.every((length, axis) => length === grid[axis])
      ? 'always hide the whole clip: lower the scales'
      : undefined;
  if (problem)
    throw new JepaError(`masks: blocks of ${size.join(' x ')} on a clip of ${grid.join(' x ')} tokens ${problem}`);
}

/** Checks every block size that can ever be drawn, so that a bad configuration fails before training and not in it. */
export function checkMultiBlock3d(grid: Grid3d, entries: readonly MultiBlock3dEntry[]): void {
  for (const entry of entries) {
    const deepest = blockFrames(grid, entry, LARGEST_UNIFORM);
    for (const { size } of frameSizes3d(grid, entry)) checkSize(grid, [deepest, ...size]);
  }
}

/** Rows and columns of blocks that can be drawn, with their probabilities. */
export function frameSizes3d([, rows, columns]: Grid3d, entry: MultiBlock3dEntry): SizeProbability[] {
  return blockSizeProbabilities([rows, columns], [rows, columns], entry.spatialScale, entry.aspect, false);
}
