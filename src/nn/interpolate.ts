import { type ResizeOptions, resize } from '../graph/ops/image.js';
import { narrow, reshape, transpose } from '../graph/ops/move.js';
import { operatorError, type Tensor } from '../graph/tensor.js';

/**
 * Rules by which published models resize a position table. All have half-pixel centres and clamp at the border.
 *
 * - `hugging-face` (I-JEPA): cubic with a = -0.75, step old / new.
 * - `vjepa-image`: the same with one step for both axes, sqrt(old count / new count).
 * - `dino` (DINO, DINOv2): the same with step old / (new + 0.1).
 * - `antialiased` (timm, DINOv2 with registers): cubic with a = -0.5, stretched when shrinking.
 * - `linear` (V-JEPA's video model): linear along each axis.
 * - `vjepa2` (V-JEPA 2 with a table): the same, but clips that are only shorter take the first frames of the table.
 */
export type PositionRule = 'hugging-face' | 'vjepa-image' | 'dino' | 'antialiased' | 'linear' | 'vjepa2';

/**
 * A position table [1, product of `from`, width] for another grid (rows and columns, or frames, rows and columns). The same
 * table where the grid is the same. A class token's row does not belong in it.
 */
export function interpolatePositions(
  table: Tensor,
  from: readonly number[],
  to: readonly number[],
  rule: PositionRule = 'hugging-face',
): Tensor {
  const axes = from.map((_, i) => i);
  const count = (grid: readonly number[]): number => grid.reduce((a, b) => a * b, 1);
  if (table.shape.length !== 3 || table.shape[0] !== 1 || table.shape[1] !== count(from) || from.length !== to.length) {
    throw operatorError(
      'interpolate_positions',
      `needs a table [1, ${count(from)}, width] of the grid [${from}]`,
      table,
    );
  }
  if (axes.every((i) => from[i] === to[i])) return table;
  if (rule === 'vjepa2' && to[0] < from[0] && axes.slice(1).every((i) => from[i] === to[i]))
    return narrow(table, 1, 0, count(to));
  const options: Record<PositionRule, () => ResizeOptions> = {
    'hugging-face': () => ({ mode: 'bicubic' }),
    'vjepa-image': () => ({ mode: 'bicubic', scales: axes.map(() => Math.sqrt(count(to) / count(from))) }),
    dino: () => ({ mode: 'bicubic', scales: axes.map((i) => (to[i] + 0.1) / from[i]) }),
    antialiased: () => ({ mode: 'bicubic', antialias: true }),
    linear: () => ({ mode: 'linear' }),
    vjepa2: () => ({ mode: 'linear' }),
  };
  const width = table.shape[2];
  const rank = from.length;
  const image = transpose(reshape(table, [1, ...from, width]), [0, rank + 1, ...axes.map((i) => i + 1)]);
  const resized = resize(image, to, options[rule]());
  return reshape(transpose(resized, [0, ...axes.map((i) => i + 2), 1]), [1, count(to), width]);
}
