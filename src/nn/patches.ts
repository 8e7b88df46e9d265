import { float32 } from '../base/tensor.js';
import type { Dim } from '../graph/dims.js';
import { narrow, reshape, transpose } from '../graph/ops/move.js';
import { linear, matmul } from '../graph/ops/product.js';
import { constant, operatorError, type Tensor } from '../graph/tensor.js';

/**
 * Cuts x [batch, channels, ...positions] into patches of `sizes` (rows and columns, or frames, rows and columns):
 * [batch, patches, channels * values of a patch], the first axis slowest. What does not fill a patch at the end of an axis
 * is left out.
 */
export function cutPatches(x: Tensor, sizes: readonly number[]): Tensor {
  const [batch, channels, ...positions] = x.shape;
  const counts = positions.map((length, i) => (typeof length === 'number' ? Math.floor(length / sizes[i]) : 0));
  if (positions.length !== sizes.length || counts.some((count) => !(count >= 1))) {
    throw operatorError('patches', `needs [batch, channels, ...positions] that hold patches of [${sizes}]`, x);
  }
  const whole = counts.reduce((image, count, i) => narrow(image, i + 2, 0, count * sizes[i]), x);
  const apart = reshape(whole, [batch, channels, ...counts.flatMap((count, i) => [count, sizes[i]])]);
  const axes = sizes.map((_, i) => 2 + 2 * i);
  const cut = transpose(apart, [0, ...axes, 1, ...axes.map((axis) => axis + 1)]);
  return reshape(cut, [batch, counts.reduce((a, b) => a * b, 1), -1] as Dim[]);
}

/** Linear map of patches [batch, patches, values] by a convolution's weight [width, channels, ...sizes]. */
export const projectPatches = (patches: Tensor, weight: Tensor, bias: Tensor): Tensor =>
  linear(patches, reshape(weight, [weight.shape[0], -1]), bias);

/**
 * The lowest frequencies of maps x [batch, patches, width] over a grid of [rows, columns] patches: [batch, frequencies ** 2, width], by
 * an orthonormal cosine transform of each axis (spectral pooling: Rippel et al. 2015, arXiv 1506.03767). Where something is in a
 * picture is then a few smooth numbers, for whatever the patches tell.
 */
export function spectralPool(x: Tensor, [rows, columns]: readonly number[], frequencies: number): Tensor {
  const wave = (frequency: number, at: number, length: number): number =>
    Math.sqrt((frequency === 0 ? 1 : 2) / length) * Math.cos((Math.PI * frequency * (at + 0.5)) / length);
  const waves = new Float32Array(frequencies ** 2 * rows * columns);
  let next = 0;
  for (let down = 0; down < frequencies; down++)
    for (let across = 0; across < frequencies; across++)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          waves[next++] = wave(down, row, rows) * wave(across, column, columns);
  return matmul(constant(float32([1, frequencies ** 2, rows * columns], waves)), x);
}
