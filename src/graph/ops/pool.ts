import { float32 } from '../../base/tensor.js';
import { apply1, constant, type Operator, operatorError, type Tensor } from '../tensor.js';
import { cast, div, equal, mul } from './elementwise.js';
import { expandDims } from './move.js';
import { applyAlong } from './product.js';
import { mean, sum } from './reduce.js';
import { adjoint, type PerAxis, perAxis, spatialSizes, type WindowAttrs, windowCounts, windows } from './windows.js';

/** Pooling over the positions of [B, C, ...]. */

export interface PoolOptions {
  /** Default: the kernel. */
  readonly stride?: PerAxis;
  readonly padding?: PerAxis;
}

function prepare(
  name: string,
  rank: number,
  x: Tensor,
  kernel: PerAxis,
  options: PoolOptions,
  dilation: PerAxis,
): WindowAttrs {
  if (x.shape.length !== rank + 2) throw operatorError(name, `the input must have rank ${rank + 2}`, x);
  const attrs = {
    kernel: perAxis(name, 'the kernel', kernel, rank, 1, x),
    stride: perAxis(name, 'the stride', options.stride ?? kernel, rank, 1, x),
    padding: perAxis(name, 'the padding', options.padding ?? 0, rank, 0, x),
    dilation: perAxis(name, 'the dilation', dilation, rank, 1, x),
  };
  if (attrs.padding.some((p, i) => 2 * p > attrs.kernel[i])) {
    throw operatorError(name, `the padding [${attrs.padding}] exceeds half of the kernel [${attrs.kernel}]`, x);
  }
  return attrs;
}

const LOWEST = -3.4028234e38;

const maxPoolOperator: Operator<WindowAttrs & { readonly name: string }> = {
  name: 'max_pool',
  infer: ([x], attrs) => {
    const counts = windowCounts(attrs.name, spatialSizes(attrs.name, x, x), attrs, x);
    return [{ dtype: 'float32', shape: [...x.shape.slice(0, 2), ...counts] }];
  },
  vjp: ({ inputs: [x], outputs: [y], attrs }, [grad]) => {
    const counts = y.shape.slice(2) as number[];
    const spread = (t: Tensor): Tensor => windows(t, attrs, counts, LOWEST);
    const hit = cast(equal(spread(x), expandDims(y, 2)), 'float32');
    const share = div(expandDims(grad as Tensor, 2), sum(hit, 2, true));
    return [adjoint(spread, x.shape, mul(hit, share))];
  },
  lower: ({ attrs: { kernel, stride, padding, dilation } }, [x], emit) => [
    emit.node('MaxPool', [x], {
      kernel_shape: kernel,
      strides: stride,
      pads: [...padding, ...padding],
      dilations: dilation,
    }),
  ],
};

export interface MaxPoolOptions extends PoolOptions {
  readonly dilation?: PerAxis;
}

function maxPool(rank: number): (x: Tensor, kernel: PerAxis, options?: MaxPoolOptions) => Tensor {
  const name = `max_pool${rank}d`;
  return (x, kernel, options = {}) =>
    apply1(maxPoolOperator, [x], { ...prepare(name, rank, x, kernel, options, options.dilation ?? 1), name });
}

/** Largest value of each window; padding counts as -infinity; equal values of a window share the gradient. */
export const maxPool1d = maxPool(1);
export const maxPool2d = maxPool(2);
export const maxPool3d = maxPool(3);

/** Applies one matrix a spatial axis; `rows(i, size)` gives the weights of each output cell of axis i. */
export function separable(
  x: Tensor,
  sizes: readonly number[],
  rows: (axis: number, size: number) => number[][],
): Tensor {
  return sizes.reduce((t, size, i) => {
    const matrix = rows(i, size);
    const identity = matrix.length === size && matrix.every((row, r) => row.every((w, c) => w === (r === c ? 1 : 0)));
    return identity ? t : applyAlong(t, i + 2, constant(float32([matrix.length, size], matrix.flat())));
  }, x);
}

export interface AvgPoolOptions extends PoolOptions {
  /** Whether padded zeros are part of the divisor (default true). */
  readonly countIncludePad?: boolean;
}

function avgPool(rank: number): (x: Tensor, kernel: PerAxis, options?: AvgPoolOptions) => Tensor {
  const name = `avg_pool${rank}d`;
  return (x, kernel, options = {}) => {
    const attrs = prepare(name, rank, x, kernel, options, 1);
    const sizes = spatialSizes(name, x, x);
    const counts = windowCounts(name, sizes, attrs, x);
    return separable(x, sizes, (axis, size) =>
      Array.from({ length: counts[axis] }, (_, cell) => {
        const start = cell * attrs.stride[axis] - attrs.padding[axis];
        const end = start + attrs.kernel[axis];
        const inside = Math.min(end, size) - Math.max(start, 0);
        const weight = 1 / ((options.countIncludePad ?? true) ? attrs.kernel[axis] : inside);
        return Array.from({ length: size }, (_, i) => (i >= start && i < end ? weight : 0));
      }),
    );
  };
}

/** Mean of each window, as one small product an axis. */
export const avgPool1d = avgPool(1);
export const avgPool2d = avgPool(2);
export const avgPool3d = avgPool(3);

/** Cell i of h averages rows floor(i H / h) .. ceil((i + 1) H / h) - 1, columns alike. Shapes: [B, C, H, W] to [B, C, h, w]. */
export function adaptiveAvgPool2d(x: Tensor, size: PerAxis): Tensor {
  const name = 'adaptive_avg_pool2d';
  if (x.shape.length !== 4) throw operatorError(name, 'the input must have rank 4', x);
  const cells = perAxis(name, 'the size', size, 2, 1, x);
  return separable(x, spatialSizes(name, x, x), (axis, length) =>
    Array.from({ length: cells[axis] }, (_, cell) => {
      const start = Math.floor((cell * length) / cells[axis]);
      const end = Math.ceil(((cell + 1) * length) / cells[axis]);
      return Array.from({ length }, (_, i) => (i >= start && i < end ? 1 / (end - start) : 0));
    }),
  );
}

/** Mean over all positions: [B, C, ...] to [B, C]. */
export function globalAvgPool(x: Tensor): Tensor {
  if (x.shape.length < 3) throw operatorError('global_avg_pool', 'the input must be [B, C, ...]', x);
  return mean(
    x,
    x.shape.slice(2).map((_, i) => i + 2),
  );
}
