import { JepaError } from '../base/errors.js';

/** Sine-cosine position tables (Attention Is All You Need, section 3.5; I-JEPA in two dimensions, V-JEPA in three). */

/**
 * Fixed tables of published models.
 *
 * - `column-first` (I-JEPA), `row-first` (V-JEPA's image model): half of the width for each axis of an image.
 * - `uniform` (V-JEPA): 2 ceil(width / 6) numbers for time, row and column each, what is too much cut off at the end.
 * - `half-time` (V-JEPA without its `uniform_power`): half of the width for time, a quarter each for row and column.
 */
export type PositionTable = 'column-first' | 'row-first' | 'uniform' | 'half-time';

/**
 * Codes of positions on one axis: `[sin(p w_k) ..., cos(p w_k) ...]` with w_k = 10000^(-k / (width / 2)).
 * Positions may be fractional or negative. Returns [positions, width], computed in double.
 */
export function sineCosine(positions: ArrayLike<number>, width: number): Float64Array {
  const half = width / 2;
  const codes = new Float64Array(positions.length * width);
  for (let i = 0; i < positions.length; i++) {
    for (let k = 0; k < half; k++) {
      const angle = positions[i] * 10000 ** (-k / half);
      codes[i * width + k] = Math.sin(angle);
      codes[i * width + half + k] = Math.cos(angle);
    }
  }
  return codes;
}

/**
 * The fixed table of a grid of patches, [rows * columns, width], row-major. I-JEPA puts the column's code first
 * (`column-first`), V-JEPA's image model the row's.
 */
export function gridPositions(
  [rows, columns]: readonly [number, number],
  width: number,
  order: 'column-first' | 'row-first' = 'column-first',
): Float32Array {
  const half = width / 2;
  const count = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
  const rowCodes = sineCosine(count(rows), half);
  const columnCodes = sineCosine(count(columns), half);
  const table = new Float32Array(rows * columns * width);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const at = (r * columns + c) * width;
      const row = rowCodes.subarray(r * half, (r + 1) * half);
      const column = columnCodes.subarray(c * half, (c + 1) * half);
      table.set(order === 'column-first' ? column : row, at);
      table.set(order === 'column-first' ? row : column, at + half);
    }
  }
  return table;
}

/** The fixed table of a clip, [frames * rows * columns, width], columns fastest: codes of time, row, column. */
export function clipPositions(
  grid: readonly [frames: number, rows: number, columns: number],
  width: number,
  split: 'uniform' | 'half-time' = 'uniform',
): Float32Array {
  const each = 2 * Math.ceil(width / 6);
  const widths = split === 'uniform' ? [each, each, each] : [width / 2, width / 4, width / 4];
  const codes = grid.map((length, axis) =>
    sineCosine(
      Array.from({ length }, (_, i) => i),
      widths[axis],
    ),
  );
  const starts = [0, widths[0], widths[0] + widths[1]];
  const [frames, rows, columns] = grid;
  const table = new Float32Array(frames * rows * columns * width);
  for (let token = 0; token < frames * rows * columns; token++) {
    const place = [Math.floor(token / (rows * columns)), Math.floor(token / columns) % rows, token % columns];
    for (let axis = 0; axis < 3; axis++) {
      const code = codes[axis].subarray(place[axis] * widths[axis], (place[axis] + 1) * widths[axis]);
      table.set(code.subarray(0, Math.max(0, width - starts[axis])), token * width + starts[axis]);
    }
  }
  return table;
}

/** The table of a grid of patches [rows, columns] or [frames, rows, columns]. */
export function positionTable(grid: readonly number[], width: number, kind: PositionTable): Float32Array {
  const fits = grid.length === (kind === 'uniform' || kind === 'half-time' ? 3 : 2);
  if (!fits) throw new JepaError(`positions: a '${kind}' table does not fit a grid of [${grid}]`);
  return kind === 'uniform' || kind === 'half-time'
    ? clipPositions(grid as [number, number, number], width, kind)
    : gridPositions(grid as [number, number], width, kind);
}
