import { float32 } from '../../base/tensor.js';
import { mulDims } from '../dims.js';
import { constant, operatorError, staticDim, type Tensor } from '../tensor.js';
import { add, cast, clip, floor, greaterEqual, lessEqual, logicalAnd, mul, round, sub } from './elementwise.js';
import { gatherComputed } from './index.js';
import { expandDims, narrow, reshape, transpose } from './move.js';
import { separable } from './pool.js';
import { matmul } from './product.js';
import { adjoint, type PerAxis, perAxis, spatialSizes, type WindowAttrs, windowCounts, windows } from './windows.js';

/** Operators on images [B, C, H, W]. */

// Resizing -----------------------------------------------------------------------------------------------------------

export type ResizeMode = 'nearest' | 'nearest-exact' | 'linear' | 'bicubic';

export interface ResizeOptions {
  readonly mode?: ResizeMode;
  readonly alignCorners?: boolean;
  /** Widens the filter when shrinking (not with alignCorners, not for the nearest modes). */
  readonly antialias?: boolean;
  /** Results for each source position along each axis, where that is not the ratio of the sizes (not for the nearest modes). */
  readonly scales?: readonly number[];
}

/** Keys' cubic convolution kernel. */
function cubic(distance: number, a: number): number {
  const d = Math.abs(distance);
  if (d <= 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
  return d < 2 ? a * (d ** 3 - 5 * d ** 2 + 8 * d - 4) : 0;
}

const triangle = (distance: number): number => Math.max(0, 1 - Math.abs(distance));

/** Weights of the source positions (of `size`) for each of `count` results, which lie `scale` source positions apart. */
function resizeWeights(
  size: number,
  count: number,
  { mode = 'linear', alignCorners = false, antialias = false }: ResizeOptions,
  scale = size / count,
): number[][] {
  return Array.from({ length: count }, (_, i) => {
    const row = Array<number>(size).fill(0);
    const put = (position: number, weight: number): void => {
      row[Math.min(Math.max(position, 0), size - 1)] += weight;
    };
    if (mode === 'nearest') put(Math.floor((i * size) / count), 1);
    else if (mode === 'nearest-exact') put(Math.floor(((2 * i + 1) * size) / (2 * count)), 1);
    else if (antialias) {
      // The filter is stretched by the scale when shrinking; weights are normalised inside the image.
      const stretch = Math.max(1, scale);
      const centre = (i + 0.5) * scale - 0.5;
      const weights = row.map((_, j) => {
        const distance = (j - centre) / stretch;
        return mode === 'linear' ? triangle(distance) : cubic(distance, -0.5);
      });
      const total = weights.reduce((a, b) => a + b, 0);
      return weights.map((w) => w / total);
    } else {
      const corners = count > 1 ? (i * (size - 1)) / (count - 1) : 0;
      const centre = alignCorners ? corners : (i + 0.5) * scale - 0.5;
      const source = mode === 'linear' ? Math.max(centre, 0) : centre;
      const base = Math.floor(source);
      const t = source - base;
      if (mode === 'linear') {
        put(base, 1 - t);
        put(base + 1, t);
      } else {
        for (let k = -1; k <= 2; k++) put(base + k, cubic(t - k, -0.75));
      }
    }
    return row;
  });
}

/** Resizes the positions of [B, C, ...] (1 to 3 axes) by one constant interpolation matrix an axis. */
export function resize(x: Tensor, size: PerAxis, options: ResizeOptions = {}): Tensor {
  const rank = x.shape.length - 2;
  if (rank < 1) throw operatorError('resize', 'the input must be [B, C, ...]', x);
  const target = perAxis('resize', 'the output size', size, rank, 1, x);
  if (options.antialias && options.alignCorners) throw operatorError('resize', 'antialias excludes alignCorners', x);
  const sizes = spatialSizes('resize', x, x);
  if (sizes.includes(0)) throw operatorError('resize', 'the input has no positions', x);
  const { scales } = options;
  if (scales && scales.length !== rank) throw operatorError('resize', `needs one scale for each of ${rank} axes`, x);
  return separable(x, sizes, (axis, length) =>
    resizeWeights(length, target[axis], options, scales && 1 / scales[axis]),
  );
}

// Rearranging --------------------------------------------------------------------------------------------------------

function requireImage(name: string, x: Tensor): void {
  if (x.shape.length !== 4) throw operatorError(name, 'the input must be [B, C, H, W]', x);
}

/** Channel c r r + i r + j goes to channel c, sub-row i, sub-column j: [B, C r r, H, W] to [B, C, H r, W r]. */
export function pixelShuffle(x: Tensor, factor: number): Tensor {
  requireImage('pixel_shuffle', x);
  const [batch, channels, height, width] = x.shape;
  const count = staticDim('pixel_shuffle', channels, 'the number of channels', x) / factor ** 2;
  if (!Number.isInteger(count))
    throw operatorError('pixel_shuffle', `the channels do not divide by ${factor} squared`, x);
  const apart = transpose(reshape(x, [batch, count, factor, factor, height, width]), [0, 1, 4, 2, 5, 3]);
  return reshape(apart, [batch, count, mulDims(height, factor), mulDims(width, factor)]);
}

/** Inverse of pixelShuffle: [B, C, H r, W r] to [B, C r r, H, W]. */
export function pixelUnshuffle(x: Tensor, factor: number): Tensor {
  requireImage('pixel_unshuffle', x);
  const [batch, channels] = x.shape;
  const [height, width] = spatialSizes('pixel_unshuffle', x, x).map((size) => size / factor);
  if (!Number.isInteger(height) || !Number.isInteger(width)) {
    throw operatorError('pixel_unshuffle', `the positions do not divide by ${factor}`, x);
  }
  const apart = transpose(reshape(x, [batch, channels, height, factor, width, factor]), [0, 1, 3, 5, 2, 4]);
  return reshape(apart, [batch, mulDims(channels, factor ** 2), height, width]);
}

export interface PatchOptions {
  readonly stride?: PerAxis;
  readonly padding?: PerAxis;
  readonly dilation?: PerAxis;
}

function patchAttrs(
  name: string,
  x: Tensor,
  kernel: PerAxis,
  { stride = 1, padding = 0, dilation = 1 }: PatchOptions,
): WindowAttrs {
  return {
    kernel: perAxis(name, 'the kernel', kernel, 2, 1, x),
    stride: perAxis(name, 'the stride', stride, 2, 1, x),
    padding: perAxis(name, 'the padding', padding, 2, 0, x),
    dilation: perAxis(name, 'the dilation', dilation, 2, 1, x),
  };
}

const asColumns = (x: Tensor, attrs: WindowAttrs, counts: readonly number[]): Tensor =>
  reshape(windows(x, attrs, counts), [
    x.shape[0],
    mulDims(x.shape[1], attrs.kernel[0] * attrs.kernel[1]),
    counts[0] * counts[1],
  ]);

/** Patches as columns: [B, C, H, W] to [B, C kh kw, L], rows ordered channel, kernel row, kernel column; zero padding. */
export function im2col(x: Tensor, kernel: PerAxis, options: PatchOptions = {}): Tensor {
  requireImage('im2col', x);
  const attrs = patchAttrs('im2col', x, kernel, options);
  return asColumns(x, attrs, windowCounts('im2col', spatialSizes('im2col', x, x), attrs, x));
}

/** Adds patches [B, C kh kw, L] back into an image of the given size: the adjoint of im2col. */
export function col2im(x: Tensor, size: PerAxis, kernel: PerAxis, options: PatchOptions = {}): Tensor {
  if (x.shape.length !== 3) throw operatorError('col2im', 'the input must be [B, C kh kw, L]', x);
  const attrs = patchAttrs('col2im', x, kernel, options);
  const sizes = perAxis('col2im', 'the size', size, 2, 1, x);
  const counts = windowCounts('col2im', sizes, attrs, x);
  const channels = staticDim('col2im', x.shape[1], 'the number of rows', x) / (attrs.kernel[0] * attrs.kernel[1]);
  if (!Number.isInteger(channels) || x.shape[2] !== counts[0] * counts[1]) {
    throw operatorError('col2im', `does not hold the ${counts[0]} x ${counts[1]} patches of an image [${sizes}]`, x);
  }
  return adjoint((image) => asColumns(image, attrs, counts), [x.shape[0], channels, ...sizes], x);
}

// Sampling -----------------------------------------------------------------------------------------------------------

export interface GridSampleOptions {
  readonly mode?: 'bilinear' | 'nearest';
  readonly paddingMode?: 'zeros' | 'border';
  readonly alignCorners?: boolean;
}

/**
 * Samples x [B, C, H, W] at grid [B, h, w, 2] of points (x, y) in -1 .. 1 over the image. `zeros`: what lies outside
 * counts as 0; `border`: coordinates are clamped to the image.
 */
export function gridSample(
  x: Tensor,
  grid: Tensor,
  { mode = 'bilinear', paddingMode = 'zeros', alignCorners = false }: GridSampleOptions = {},
): Tensor {
  const name = 'grid_sample';
  if (x.shape.length !== 4 || grid.shape.length !== 4 || grid.shape[3] !== 2 || x.shape[0] !== grid.shape[0]) {
    throw operatorError(name, 'needs x [B, C, H, W] and a grid [B, h, w, 2]', x, grid);
  }
  const [batch, channels] = x.shape;
  const [height, width] = spatialSizes(name, x, x, grid);
  const points = mulDims(grid.shape[1], grid.shape[2]);
  const pixels = reshape(transpose(x, [0, 2, 3, 1]), [batch, height * width, channels]);
  const coordinate = (index: number, size: number): Tensor => {
    const g = reshape(narrow(grid, 3, index, 1), [batch, points]);
    const at = alignCorners ? mul(add(g, 1), (size - 1) / 2) : sub(mul(add(g, 1), size / 2), 0.5);
    return paddingMode === 'border' ? clip(at, 0, size - 1) : at;
  };
  /** Pixels at whole coordinates, [B, points, C]; 0 outside of the image. */
  const tap = (column: Tensor, row: Tensor): Tensor => {
    const offset = add(mul(clip(row, 0, height - 1), width), clip(column, 0, width - 1));
    const values = gatherComputed(pixels, cast(offset, 'int32'));
    if (paddingMode === 'border') return values;
    const within = (t: Tensor, size: number): Tensor => logicalAnd(greaterEqual(t, 0), lessEqual(t, size - 1));
    const inside = logicalAnd(within(column, width), within(row, height));
    return mul(values, expandDims(cast(inside, 'float32'), 2));
  };
  const column = coordinate(0, width);
  const row = coordinate(1, height);
  let sampled: Tensor;
  if (mode === 'nearest') {
    sampled = tap(round(column), round(row));
  } else {
    const [left, top] = [floor(column), floor(row)];
    const [right, bottom] = [add(left, 1), add(top, 1)];
    const toRight = sub(column, left);
    const toBottom = sub(row, top);
    const weighted = (c: Tensor, r: Tensor, wc: Tensor, wr: Tensor): Tensor =>
      mul(tap(c, r), expandDims(mul(wc, wr), 2));
    sampled = add(
      add(weighted(left, top, sub(1, toRight), sub(1, toBottom)), weighted(right, top, toRight, sub(1, toBottom))),
      add(weighted(left, bottom, sub(1, toRight), toBottom), weighted(right, bottom, toRight, toBottom)),
    );
  }
  return reshape(transpose(sampled, [0, 2, 1]), [batch, channels, grid.shape[1], grid.shape[2]]);
}

/** Sampling grid theta (x, y, 1)^T over normalised positions. Shapes: theta [B, 2, 3], size [B, C, H, W], result [B, H, W, 2]. */
export function affineGrid(theta: Tensor, size: readonly number[], alignCorners = false): Tensor {
  if (theta.shape.length !== 3 || theta.shape[1] !== 2 || theta.shape[2] !== 3 || size.length !== 4) {
    throw operatorError('affine_grid', 'needs theta [B, 2, 3] and a size [B, C, H, W]', theta);
  }
  const [, , height, width] = size;
  const centre = (i: number, n: number): number =>
    alignCorners ? (n > 1 ? (2 * i) / (n - 1) - 1 : 0) : (2 * i + 1) / n - 1;
  const points = Array.from({ length: height * width }, (_, p) => [
    centre(p % width, width),
    centre(Math.floor(p / width), height),
    1,
  ]);
  const grid = matmul(constant(float32([height * width, 3], points.flat())), theta, { transposeB: true });
  return reshape(grid, [theta.shape[0], height, width, 2]);
}
