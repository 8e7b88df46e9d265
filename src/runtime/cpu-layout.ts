import { sizeOf } from '../base/tensor.js';
import type { Placed } from './worker-protocol.js';

/** Where things lie in the memory that the CPU backend's workers share, and who does what of them. */

/** Floats that one update session handles at a time: a few of them fit in the second-level cache. */
const PIECE = 1 << 17;
/** Tensors start at multiples of this many floats. */
const ALIGN = 16;

/** Floats that a tensor takes in a flat block. */
export const aligned = (floats: number): number => Math.ceil(floats / ALIGN) * ALIGN;

/** Values one after the other in a block, each at a multiple of 64 bytes. */
export function placeAll(values: readonly { name: string; shape: readonly number[]; bytes: number }[]): {
  placed: Record<string, Placed>;
  bytes: number;
} {
  const placed: Record<string, Placed> = {};
  let bytes = 0;
  for (const value of values) {
    placed[value.name] = { offset: bytes, shape: value.shape };
    bytes += Math.ceil(value.bytes / 64) * 64;
  }
  return { placed, bytes };
}

/** Contiguous slices that differ by at most one sample; with fewer samples than workers some have none. */
export function sliceRows(batch: number, used: number, workers: number): { start: number; count: number }[] {
  const base = Math.floor(batch / used);
  const extra = batch % used;
  return Array.from({ length: workers }, (_, i) => {
    if (i >= used) return { start: 0, count: 0 };
    return { start: i * base + Math.min(i, extra), count: base + (i < extra ? 1 : 0) };
  });
}

/** A run of floats of the state that is updated in one way: `target` is the offset of its follower or -1. */
export interface Piece {
  readonly group: number;
  readonly offset: number;
  readonly length: number;
  readonly target: number;
}

export interface Updated {
  /** -1: not updated, only followed. */
  readonly group: number;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly target: number;
}

/** Joins parameters that lie next to each other (and whose followers do) into runs, and cuts these into pieces. */
export function cutPieces(parameters: readonly Updated[], wholeTensors: boolean): Piece[] {
  const runs: { group: number; offset: number; length: number; target: number }[] = [];
  for (const { group, offset, shape, target } of [...parameters].sort((a, b) => a.offset - b.offset)) {
    const last = runs[runs.length - 1];
    const joins =
      last &&
      !wholeTensors &&
      last.group === group &&
      last.offset + last.length === offset &&
      (last.target < 0 ? target < 0 : last.target + last.length === target);
    const length = wholeTensors ? sizeOf(shape) : aligned(sizeOf(shape));
    if (joins) last.length += length;
    else runs.push({ group, offset, length, target });
  }
  if (wholeTensors) return runs;
  return runs.flatMap(({ group, offset, length, target }) =>
    Array.from({ length: Math.ceil(length / PIECE) }, (_, i) => ({
      group,
      offset: offset + i * PIECE,
      length: Math.min(PIECE, length - i * PIECE),
      target: target < 0 ? -1 : target + i * PIECE,
    })),
  );
}
