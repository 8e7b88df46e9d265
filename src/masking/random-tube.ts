import { JepaError } from '../base/errors.js';
import { int32 } from '../base/tensor.js';
import type { PermutationDraws } from './draws.js';
import type { Grid3d, Masks3d } from './multiblock3d.js';

/**
 * Random tubes (V-JEPA's ablation): a share `ratio` of the cells of a frame is hidden, the same cells in every frame of a clip, or
 * others in every frame, where `anew` says so. One permutation of the cells each time; cells whose entry is among the last `keep`
 * values are context.
 */
export function sampleRandomTube(
  grid: Grid3d,
  ratio: number,
  batch: number,
  draws: PermutationDraws,
  anew: 'clip' | 'frame' = 'clip',
): Masks3d {
  const [frames, rows, columns] = grid;
  const cells = rows * columns;
  const keep = keptCells(grid, ratio);
  const context = new Int32Array(batch * frames * keep);
  const target = new Int32Array(batch * frames * (cells - keep));
  let visible = 0;
  let hidden = 0;
  for (let clip = 0; clip < batch; clip++) {
    let order = draws.permutation(cells);
    for (let frame = 0; frame < frames; frame++) {
      if (anew === 'frame' && frame > 0) order = draws.permutation(cells);
      for (let cell = 0; cell < cells; cell++) {
        const token = frame * cells + cell;
        if (order[cell] >= cells - keep) context[visible++] = token;
        else target[hidden++] = token;
      }
    }
  }
  return {
    context: int32([batch, frames * keep], context),
    target: int32([batch, frames * (cells - keep)], target),
  };
}

/** Cells of a frame that are context. Throws a `JepaError` where those are none or all. */
export function keptCells([, rows, columns]: Grid3d, ratio: number): number {
  const cells = rows * columns;
  const keep = Math.trunc(cells * (1 - ratio));
  if (keep >= 1 && keep < cells) return keep;
  throw new JepaError(
    `masks: hiding ${ratio} of ${cells} cells keeps ${keep}: context and target need at least one each`,
  );
}
