import { type HostTensor, int32 } from '../base/tensor.js';
import { between, type Range } from './draws.js';

/** What block samplers share: sizes of blocks, how likely they are, and the collation of index lists into a batch. */

export type Size = readonly [rows: number, columns: number];

/** Rounds to the nearest integer, halves to the even one, as the reference does; `Math.round` differs at exact halves. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Rows and columns of a block of about `cells` cells whose rows / columns is about `aspect`, at most `limit`. */
export function blockSize(cells: number, aspect: number, limit: Size): Size {
  return [
    Math.min(roundHalfEven(Math.sqrt(cells * aspect)), limit[0]),
    Math.min(roundHalfEven(Math.sqrt(cells / aspect)), limit[1]),
  ];
}

/** Number of cells for a share of the grid: truncated. */
export function cellsOf(grid: Size, share: number): number {
  return Math.trunc(grid[0] * grid[1] * share);
}

export interface SizeProbability {
  readonly size: Size;
  readonly probability: number;
}

/**
 * Every block size that can be drawn, with its probability, exact up to rounding: sizes are step functions of the
 * uniforms, and the steps are known. `coupled`: one uniform drives area and aspect (I-JEPA); else one each (V-JEPA).
 */
export function blockSizeProbabilities(
  grid: Size,
  limit: Size,
  scale: Range,
  aspect: Range,
  coupled: boolean,
): SizeProbability[] {
  const found = new Map<string, { size: Size; probability: number }>();
  const add = (size: Size, probability: number) => {
    const entry = found.get(size.join());
    if (entry) entry.probability += probability;
    else found.set(size.join(), { size, probability });
  };
  const total = grid[0] * grid[1];
  const areaSteps = integersWithin(total * scale[0], total * scale[1]).map((cells) => positionIn(scale, cells / total));
  for (const area of pieces([0, 1], areaSteps)) {
    const cells = cellsOf(grid, between(scale, area.middle));
    const aspects = aspectSteps(cells, aspect).map((value) => positionIn(aspect, value));
    for (const piece of pieces(coupled ? [area.from, area.to] : [0, 1], aspects)) {
      const width = piece.to - piece.from;
      add(blockSize(cells, between(aspect, piece.middle), limit), coupled ? width : width * (area.to - area.from));
    }
  }
  return [...found.values()];
}

/** Aspects at which the rounded rows or columns of a block of `cells` change. */
function aspectSteps(cells: number, [low, high]: Range): number[] {
  const steps: number[] = [];
  for (const half of integersWithin(Math.sqrt(cells * low) - 0.5, Math.sqrt(cells * high) - 0.5)) {
    steps.push((half + 0.5) ** 2 / cells);
  }
  for (const half of integersWithin(Math.sqrt(cells / high) - 0.5, Math.sqrt(cells / low) - 0.5)) {
    steps.push(cells / (half + 0.5) ** 2);
  }
  return steps;
}

function integersWithin(low: number, high: number): number[] {
  const integers: number[] = [];
  for (let i = Math.ceil(low); i <= high; i++) integers.push(i);
  return integers;
}

/** The uniform that `between` maps to `value`. An empty range has none: its value never changes. */
function positionIn([low, high]: Range, value: number): number {
  return high === low ? 0 : (value - low) / (high - low);
}

function pieces([from, to]: Range, steps: readonly number[]): { from: number; to: number; middle: number }[] {
  const edges = [from, ...steps.filter((step) => step > from && step < to).sort((a, b) => a - b), to];
  return edges.slice(1).map((edge, i) => ({ from: edges[i], to: edge, middle: (edges[i] + edge) / 2 }));
}

/**
 * Stacks index lists of every sample, [samples][lists], into [samples, lists, length]; longer lists lose their end.
 * Lists ascend, so what is lost is the bottom right (2-D) or the end of the clip (3-D), as in the reference.
 */
export function stackLists(samples: readonly (readonly Int32Array[])[], length: number): HostTensor<'int32'> {
  const lists = samples[0].length;
  const data = new Int32Array(samples.length * lists * length);
  let offset = 0;
  for (const sample of samples) {
    for (const list of sample) {
      data.set(list.subarray(0, length), offset);
      offset += length;
    }
  }
  return int32([samples.length, lists, length], data);
}

export function shortest(samples: readonly (readonly Int32Array[])[]): number {
  return Math.min(...samples.map((sample) => Math.min(...sample.map((list) => list.length))));
}
