import { JepaError } from '../base/errors.js';
import type { IntegerDraws, UniformDraws } from './draws.js';
import { type Grid3d, type Masks3d, type MultiBlock3dEntry, sampleMultiBlock3d } from './multiblock3d.js';

/**
 * Masks of V-JEPA 2 for batches that mix clips of several lengths (data sets with their own frames per clip): clips of
 * one length form a group, and every group is masked by itself.
 */
export interface MultiSequence3dConfig {
  readonly entries: readonly MultiBlock3dEntry[];
  /** Token grid for each clip length in frames; groups are returned in this order. */
  readonly grids: ReadonlyMap<number, Grid3d>;
}

export interface MultiSequence3dDraws {
  /**
   * Block sizes of an entry in the group of clips of `frames` frames. The reference seeds it with the number of batches
   * before this one that had such clips, so entries of a group see the same uniforms.
   */
  sizes(frames: number, entry: number): UniformDraws;
  readonly places: IntegerDraws;
}

export interface ClipGroup {
  readonly frames: number;
  /** Positions in the batch of the clips of this length. */
  readonly members: Int32Array;
  /** One pair of masks for each entry, rows as in `members`. */
  readonly masks: readonly Masks3d[];
}

/** Masks of one batch whose clip i has `clipFrames[i]` frames. Lengths that do not occur give no group and no draws. */
export function sampleMultiSequence3d(
  config: MultiSequence3dConfig,
  clipFrames: readonly number[],
  draws: MultiSequence3dDraws,
): ClipGroup[] {
  const unknown = clipFrames.find((frames) => !config.grids.has(frames));
  if (unknown !== undefined) {
    throw new JepaError(
      `masks: a clip has ${unknown} frames, but the configuration knows ${[...config.grids.keys()].join(', ')}; add its length`,
    );
  }
  const groups: ClipGroup[] = [];
  for (const [frames, grid] of config.grids) {
    const members = Int32Array.from(clipFrames.keys()).filter((clip) => clipFrames[clip] === frames);
    if (members.length === 0) continue;
    const masks = sampleMultiBlock3d(grid, config.entries, members.length, {
      sizes: (entry) => draws.sizes(frames, entry),
      places: draws.places,
    });
    groups.push({ frames, members, masks });
  }
  return groups;
}
