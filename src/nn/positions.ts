/** Sine-cosine position tables (Attention Is All You Need, section 3.5; I-JEPA and V-JEPA in two dimensions). */

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
