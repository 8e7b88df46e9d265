import { gradients } from '../autodiff.js';
import type { Dim } from '../dims.js';
import { input, operatorError, staticDim, type Tensor } from '../tensor.js';
import { narrow, pad, reshape, stack, transpose } from './move.js';

/** Sliding windows over the positions of [B, C, ...]: what convolutions, pooling and im2col have in common. */

/** One number for every spatial axis. */
export interface WindowAttrs {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

/** A number stands for the same number along every spatial axis. */
export type PerAxis = number | readonly number[];

export function perAxis(
  name: string,
  what: string,
  value: PerAxis,
  rank: number,
  least: number,
  ...all: readonly Tensor[]
): number[] {
  const list = typeof value === 'number' ? Array<number>(rank).fill(value) : [...value];
  if (list.length !== rank || list.some((n) => n < least || !Number.isInteger(n))) {
    throw operatorError(name, `${what} must be ${rank} whole number(s) of at least ${least}, not [${list}]`, ...all);
  }
  return list;
}

/** Spatial sizes of x [B, C, ...], which must be numbers. */
export const spatialSizes = (name: string, x: Tensor, ...all: readonly Tensor[]): number[] =>
  x.shape.slice(2).map((dim) => staticDim(name, dim, 'a spatial size', ...all));

/** Number of windows along each axis. */
export function windowCounts(
  name: string,
  sizes: readonly number[],
  attrs: WindowAttrs,
  ...all: readonly Tensor[]
): number[] {
  return sizes.map((size, i) => {
    const span = attrs.dilation[i] * (attrs.kernel[i] - 1) + 1;
    const room = size + 2 * attrs.padding[i] - span;
    if (room < 0)
      throw operatorError(name, `the kernel (${span} wide) exceeds the padded input along axis ${i + 2}`, ...all);
    return Math.floor(room / attrs.stride[i]) + 1;
  });
}

/** All windows of x [B, C, ...] as [B, C, product of the kernel, ...counts]; padding has the given value. */
export function windows(x: Tensor, attrs: WindowAttrs, counts: readonly number[], padValue = 0): Tensor {
  const rank = counts.length;
  const { kernel, stride, padding, dilation } = attrs;
  const padded = pad(x, [[0, 0], [0, 0], ...padding.map((p): [number, number] => [p, p])], 'constant', padValue);
  const lead = x.shape.slice(0, 2);
  const volume = kernel.reduce((a, b) => a * b, 1);
  const shape: Dim[] = [...lead, volume, ...counts];
  if (kernel.every((k, i) => k === stride[i] && dilation[i] === 1)) {
    // Windows side by side: only a transposition.
    const cropped = counts.reduce((t, count, i) => narrow(t, i + 2, 0, count * kernel[i]), padded);
    const apart = reshape(cropped, [...lead, ...counts.flatMap((count, i) => [count, kernel[i]])]);
    const axes = counts.map((_, i) => i);
    return reshape(transpose(apart, [0, 1, ...axes.map((i) => 3 + 2 * i), ...axes.map((i) => 2 + 2 * i)]), shape);
  }
  // Axis by axis: [B, C, k0 .. k(i-1), n0 .. n(i-1), s(i) ..] gets the axes k(i) and n(i).
  let result = padded;
  for (let i = 0; i < rank; i++) {
    const axis = 2 + 2 * i;
    const offsets = Array.from({ length: kernel[i] }, (_, k) => k * dilation[i]);
    result = stack(
      offsets.map((offset) => narrow(result, axis, offset, counts[i], stride[i])),
      2 + i,
    );
  }
  return reshape(result, shape);
}

/** The adjoint of a linear function of a tensor of the given shape, applied to `upstream`. */
export function adjoint(linear: (x: Tensor) => Tensor, shape: readonly Dim[], upstream: Tensor): Tensor {
  // The gradient of a linear function does not depend on its argument: this input never reaches a graph.
  const x = input('adjoint', shape);
  return gradients([{ output: linear(x), upstream }], [x])[0] as Tensor;
}
