import type { PermutationDraws } from './draws.js';
import {
  checkMultiBlock3d,
  type Grid3d,
  type Masks3d,
  type MultiBlock3dDraws,
  type MultiBlock3dEntry,
  sampleMultiBlock3d,
} from './multiblock3d.js';
import { keptCells, sampleRandomTube } from './random-tube.js';

/**
 * A kind of masks over clips: blocks in space and time (V-JEPA); or a share of the cells of a frame, the same in all frames
 * (`tubes`) or others in every frame (`random`), which its ablation compares them with.
 */
export type ClipMask = BlockMask | ShareMask;
type BlockMask = MultiBlock3dEntry & { readonly kind?: 'blocks' };
export interface ShareMask {
  readonly kind: 'tubes' | 'random';
  /** Share of the cells that is hidden. */
  readonly ratio: number;
}

const isShare = (mask: ClipMask): mask is ShareMask => mask.kind === 'tubes' || mask.kind === 'random';

/** Checks everything that can ever be drawn. Throws a `JepaError`. */
export function checkClipMasks(grid: Grid3d, masks: readonly ClipMask[]): void {
  for (const mask of masks) {
    if (isShare(mask)) keptCells(grid, mask.ratio);
    else checkMultiBlock3d(grid, [mask]);
  }
}

export interface ClipMaskDraws extends MultiBlock3dDraws {
  /** Orders of cells for kind `entry`. */
  orders(entry: number): PermutationDraws;
}

/** Masks of one batch, one pair for each kind. */
export const sampleClipMasks = (
  grid: Grid3d,
  masks: readonly ClipMask[],
  batch: number,
  { sizes, places, orders }: ClipMaskDraws,
): Masks3d[] =>
  masks.map((mask, i) =>
    isShare(mask)
      ? sampleRandomTube(grid, mask.ratio, batch, orders(i), mask.kind === 'tubes' ? 'clip' : 'frame')
      : sampleMultiBlock3d(grid, [mask], batch, { sizes: () => sizes(i), places })[0],
  );
