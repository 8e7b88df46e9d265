import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { embedding } from '../graph/ops/index.js';
import { expandDims, split } from '../graph/ops/move.js';
import { matmul } from '../graph/ops/product.js';
import { constant, type Tensor } from '../graph/tensor.js';

/**
 * Rotary positions in space and time (V-JEPA 2, `src/models/utils/modules.py`): of every head's channels a part is turned
 * by the token's frame, a part by its row and a part by its column; what is left over stays as it is.
 */
export interface Rope {
  /**
   * How frequencies lie over pairs of neighbouring channels. V-JEPA 2 repeats the whole block of them (`tiled`), so that the
   * two of a pair differ: no true rotation, kept for its weights. V-JEPA 2.1 repeats each one (`interleaved`).
   */
  readonly frequencies: 'tiled' | 'interleaved';
  /** Rows and columns are stretched to this many (V-JEPA 2.1: 16); whole numbers by default. Time never is. */
  readonly referenceGrid?: number;
}

/** Channels of a head that each of the three axes turns. */
export const ropeWidth = (headWidth: number): number => 2 * Math.floor(Math.floor(headWidth / 3) / 2);

/** Cosines and sines that turn queries and keys: [1 or batch, tokens, headWidth] each. */
export interface Rotary {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** Angles of positions on one axis, [positions, width]: 10000^(-k / (width / 2)) times the position, each frequency twice. */
export function ropeAngles(
  positions: ArrayLike<number>,
  width: number,
  frequencies: Rope['frequencies'],
): Float64Array {
  const half = width / 2;
  const angles = new Float64Array(positions.length * width);
  for (let i = 0; i < positions.length; i++) {
    for (let channel = 0; channel < width; channel++) {
      const k = frequencies === 'tiled' ? channel % half : channel >> 1;
      angles[i * width + channel] = positions[i] * 10000 ** (-k / half);
    }
  }
  return angles;
}

/**
 * Positions of the tokens of a grid [rows, columns] or [frames, rows, columns] on the axes time, row, column. `scale`
 * multiplies rows and columns.
 */
export function ropePlaces(grid: readonly number[], scale: readonly [number, number] = [1, 1]): Float64Array[] {
  const [frames, rows, columns] = grid.length === 2 ? [1, ...grid] : grid;
  const tokens = frames * rows * columns;
  const place = (of: (token: number) => number): Float64Array => Float64Array.from({ length: tokens }, (_, i) => of(i));
  return [
    place((i) => Math.floor(i / (rows * columns))),
    place((i) => (Math.floor(i / columns) % rows) * scale[0]),
    place((i) => (i % columns) * scale[1]),
  ];
}

/** Factors by which a rope stretches rows and columns of a grid. */
export function ropeScale(grid: readonly number[], { referenceGrid }: Rope): readonly [number, number] {
  if (referenceGrid === undefined) return [1, 1];
  const [rows, columns] = grid.slice(-2);
  if (rows < 2 || columns < 2) {
    throw new JepaError(
      `rope: stretched positions need two rows and columns of patches, not ${rows} x ${columns}; use larger images`,
    );
  }
  return [(referenceGrid - 1) / (rows - 1), (referenceGrid - 1) / (columns - 1)];
}

/**
 * Cosines, then sines, [tokens, 2 headWidth], of tokens at `places` (time, row, column). Axes that are not given, like the
 * channels beyond the three segments, do not turn.
 */
export function ropeTable(
  places: readonly ArrayLike<number>[],
  headWidth: number,
  frequencies: Rope['frequencies'],
): HostTensor<'float32'> {
  const width = ropeWidth(headWidth);
  if (width === 0) throw new JepaError(`rope: heads need a width of 6 or more, not ${headWidth}; use fewer heads`);
  const tokens = places[0].length;
  const table = new Float32Array(tokens * 2 * headWidth);
  for (let token = 0; token < tokens; token++) table.fill(1, token * 2 * headWidth, (token * 2 + 1) * headWidth);
  places.forEach((positions, axis) => {
    const angles = ropeAngles(positions, width, frequencies);
    for (let token = 0; token < tokens; token++) {
      for (let channel = 0; channel < width; channel++) {
        const at = token * 2 * headWidth + axis * width + channel;
        table[at] = Math.cos(angles[token * width + channel]);
        table[at + headWidth] = Math.sin(angles[token * width + channel]);
      }
    }
  });
  return float32([tokens, 2 * headWidth], table);
}

/** The rotary of a table's tokens, or of those at `index` [batch, kept]. */
export function rotaryOf(table: HostTensor<'float32'>, index?: Tensor): Rotary {
  const all = constant(table);
  const headWidth = table.shape[1] / 2;
  const [cos, sin] = split(index ? embedding(all, index) : expandDims(all, 0), 2, [headWidth, headWidth]);
  return { cos, sin };
}

/** The rotary of the tokens of a grid, or of those at `index` [batch, kept]. */
export const gridRotary = (grid: readonly number[], headWidth: number, rope: Rope, index?: Tensor): Rotary =>
  rotaryOf(ropeTable(ropePlaces(grid, ropeScale(grid, rope)), headWidth, rope.frequencies), index);

/** Turns x [..., tokens, width]; cosines and sines broadcast to it. */
export function rotate(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const width = x.shape[x.shape.length - 1] as number;
  // A product with a constant: exact, and faster than moving single channels about.
  return add(mul(x, cos), mul(matmul(x, constant(quarterTurn(width))), sin));
}

/** Pairs (a, b) of neighbouring channels become (-b, a). */
function quarterTurn(width: number): HostTensor<'float32'> {
  const data = new Float32Array(width * width);
  for (let i = 0; i + 1 < width; i += 2) {
    data[(i + 1) * width + i] = -1;
    data[i * width + i + 1] = 1;
  }
  return float32([width, width], data);
}
