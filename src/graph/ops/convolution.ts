import type { Dim } from '../dims.js';
import type { Emitter } from '../lower.js';
import { apply1, type Operator, operatorError, requireType, staticDim, type Tensor } from '../tensor.js';
import { add } from './elementwise.js';
import { reshape } from './move.js';
import { matmul } from './product.js';
import { sum } from './reduce.js';
import { type PerAxis, perAxis, spatialSizes, type WindowAttrs, windowCounts, windows } from './windows.js';

/**
 * Convolutions over 1, 2 or 3 spatial axes. The gradient with respect to the input of a convolution is a transposed
 * convolution and the other way round; that of the weight is a product of windows. So every order of derivative exists.
 */

interface ConvAttrs extends WindowAttrs {
  readonly name: string;
  readonly groups: number;
}

const attributes = ({ kernel, stride, padding, dilation, groups }: ConvAttrs) => ({
  kernel_shape: kernel,
  strides: stride,
  pads: [...padding, ...padding],
  dilations: dilation,
  group: groups,
});

/** A convolution of `channels` into `outputs`. The WebGPU provider has no groups in 3-D: there, one node for each group. */
function emitConv(
  emit: Emitter,
  x: string,
  weight: string,
  channels: number,
  outputs: number,
  attrs: ConvAttrs,
): string {
  const { groups } = attrs;
  if (emit.backend !== 'webgpu' || groups === 1 || attrs.kernel.length < 3) {
    return emit.node('Conv', [x, weight], attributes(attrs));
  }
  const pieces = (value: string, axis: number, size: number): string[] =>
    emit.nodes('Split', [value, emit.ints(Array<number>(groups).fill(size / groups))], groups, { axis });
  const weights = pieces(weight, 0, outputs);
  const parts = pieces(x, 1, channels).map((part, i) =>
    emit.node('Conv', [part, weights[i]], attributes({ ...attrs, groups: 1 })),
  );
  return emit.node('Concat', parts, { axis: 1 });
}

/**
 * A transposed convolution as a convolution: of the input with `stride - 1` zeros between its elements, with the kernel
 * turned around. For the WebGPU provider, whose ConvTranspose has no third axis and goes wrong with groups and dilation.
 */
function emitByConv(
  emit: Emitter,
  x: string,
  weight: string,
  { shape: xShape }: Tensor,
  { shape: wShape }: Tensor,
  extra: readonly number[],
  attrs: ConvAttrs,
): string {
  const { kernel, stride, padding, dilation, groups } = attrs;
  const rank = kernel.length;
  const axes = kernel.map((_, i) => i);
  const [batch, channels, ...counts] = xShape as [Dim, number, ...number[]];
  const pad = (value: string, before: readonly number[], after: readonly number[]): string =>
    emit.node('Pad', [value, emit.ints([...before, ...after])], { mode: 'constant' });
  const pairs = (second: (i: number) => number): number[] => [0, 0, ...axes.flatMap((i) => [0, second(i)])];
  const apart = emit.reshape(x, [batch, channels, ...counts.flatMap((count) => [count, 1])]);
  const filled = pad(
    apart,
    Array<number>(2 + 2 * rank).fill(0),
    pairs((i) => stride[i] - 1),
  );
  const wide = emit.reshape(filled, [batch, channels, ...counts.map((count, i) => count * stride[i])]);
  // The zeros after the last element count as padding; what is too much of it is cut off.
  const before = axes.map((i) => dilation[i] * (kernel[i] - 1) - padding[i]);
  const after = axes.map((i) => before[i] + extra[i] - (stride[i] - 1));
  const part = (n: number): number => Math.max(n, 0);
  const padded = pad(wide, [0, 0, ...before.map(part)], [0, 0, ...after.map(part)]);
  const starts = before.map((n) => part(-n));
  const ends = axes.map((i) => counts[i] * stride[i] + part(before[i]) + part(after[i]) - part(-after[i]));
  const spatial = emit.ints(axes.map((i) => i + 2));
  const cut = emit.node('Slice', [padded, emit.ints(starts), emit.ints(ends), spatial]);
  // [C, O / g, k] to [O, C / g, k], turned around.
  const [, width] = wShape as number[];
  const grouped = emit.reshape(weight, [groups, channels / groups, width, ...kernel]);
  const swapped = emit.node('Transpose', [grouped], { perm: [0, 2, 1, ...axes.map((i) => i + 3)] });
  const flat = emit.reshape(swapped, [groups * width, channels / groups, ...kernel]);
  const all = (n: number): string => emit.ints(axes.map(() => n));
  const turned = emit.node('Slice', [flat, all(-1), all(-(2 ** 31)), spatial, all(-1)]);
  const still = { ...attrs, stride: axes.map(() => 1), padding: axes.map(() => 0) };
  return emitConv(emit, cut, turned, channels, groups * width, still);
}

/** x [B, C, ...], weight [O, C / groups, ...kernel]. */
const convOperator: Operator<ConvAttrs> = {
  name: 'conv',
  infer: ([x, weight], attrs) => {
    const counts = windowCounts(attrs.name, spatialSizes(attrs.name, x, x, weight), attrs, x, weight);
    return [{ dtype: 'float32', shape: [x.shape[0], weight.shape[0], ...counts] }];
  },
  vjp: ({ inputs: [x, weight], attrs }, [grad]) => {
    const g = grad as Tensor;
    const size = x.shape.slice(2) as number[];
    return [apply1(convTransposeOperator, [g, weight], { ...attrs, size }), weightGradient(x, g, weight, attrs)];
  },
  lower: ({ inputs, attrs }, [x, weight], emit) => [
    emitConv(emit, x, weight, inputs[0].shape[1] as number, inputs[1].shape[0] as number, attrs),
  ],
};

interface ConvTransposeAttrs extends ConvAttrs {
  /** Spatial sizes of the result. */
  readonly size: readonly number[];
}

const plainSize = (attrs: ConvAttrs, count: number, i: number): number =>
  (count - 1) * attrs.stride[i] - 2 * attrs.padding[i] + attrs.dilation[i] * (attrs.kernel[i] - 1) + 1;

/** x [B, C, ...], weight [C, O / groups, ...kernel]. */
const convTransposeOperator: Operator<ConvTransposeAttrs> = {
  name: 'conv_transpose',
  infer: ([x, weight], { groups, size }) => {
    const channels = (weight.shape[1] as number) * groups;
    return [{ dtype: 'float32', shape: [x.shape[0], channels, ...size] }];
  },
  vjp: ({ inputs: [x, weight], attrs }, [grad]) => {
    const g = grad as Tensor;
    return [apply1(convOperator, [g, weight], attrs), weightGradient(g, x, weight, attrs)];
  },
  lower: ({ inputs: [x, weight], attrs }, inputs, emit) => {
    const extra = attrs.size.map((size, i) => size - plainSize(attrs, x.shape[i + 2] as number, i));
    const plain = attrs.size.length < 3 && attrs.groups === 1 && attrs.dilation.every((d) => d === 1);
    if (emit.backend === 'webgpu' && !plain) return [emitByConv(emit, inputs[0], inputs[1], x, weight, extra, attrs)];
    return [emit.node('ConvTranspose', inputs, { ...attributes(attrs), output_padding: extra })];
  },
};

/** Gradient of the weight of a convolution from x [B, C, ...] to y [B, O, ...], where y has the gradient g. */
function weightGradient(x: Tensor, g: Tensor, weight: Tensor, attrs: ConvAttrs): Tensor {
  const counts = g.shape.slice(2) as number[];
  const positions = counts.reduce((a, b) => a * b, 1);
  const [batch, channels] = x.shape as [Dim, number];
  const { groups } = attrs;
  const volume = attrs.kernel.reduce((a, b) => a * b, 1);
  const columns = reshape(windows(x, attrs, counts), [batch, groups, (channels / groups) * volume, positions]);
  const rows = reshape(g, [batch, groups, (g.shape[1] as number) / groups, positions]);
  return reshape(sum(matmul(rows, columns, { transposeB: true }), 0), weight.shape);
}

export interface ConvOptions {
  readonly bias?: Tensor;
  readonly stride?: PerAxis;
  /** Zeros on both sides. */
  readonly padding?: PerAxis;
  readonly dilation?: PerAxis;
  readonly groups?: number;
}

function prepare(
  name: string,
  rank: number,
  x: Tensor,
  weight: Tensor,
  options: ConvOptions,
  all: readonly Tensor[],
): ConvAttrs {
  if (x.shape.length !== rank + 2 || weight.shape.length !== rank + 2) {
    throw operatorError(name, `input and weight must have rank ${rank + 2}`, ...all);
  }
  requireType(name, 'float32', ...all);
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = options;
  const channels = staticDim(name, x.shape[1], 'the number of channels', ...all);
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
    throw operatorError(name, `the channels do not divide into ${groups} groups`, ...all);
  }
  return {
    name,
    kernel: weight.shape.slice(2).map((dim) => staticDim(name, dim, 'the kernel size', ...all)),
    stride: perAxis(name, 'the stride', stride, rank, 1, ...all),
    padding: perAxis(name, 'the padding', padding, rank, 0, ...all),
    dilation: perAxis(name, 'the dilation', dilation, rank, 1, ...all),
    groups,
  };
}

function withBias(name: string, y: Tensor, bias: Tensor | undefined, all: readonly Tensor[]): Tensor {
  if (!bias) return y;
  if (bias.shape.length !== 1 || bias.shape[0] !== y.shape[1]) {
    throw operatorError(name, 'the bias must have one value for each output channel', ...all);
  }
  return add(y, reshape(bias, [y.shape[1], ...y.shape.slice(2).map((): Dim => 1)]));
}

function convolution(rank: number): (x: Tensor, weight: Tensor, options?: ConvOptions) => Tensor {
  const name = `conv${rank}d`;
  return (x, weight, options = {}) => {
    const all = [x, weight, ...(options.bias ? [options.bias] : [])];
    const attrs = prepare(name, rank, x, weight, options, all);
    if ((x.shape[1] as number) / attrs.groups !== weight.shape[1]) {
      throw operatorError(name, "the input's channels differ from the weight's", ...all);
    }
    if (staticDim(name, weight.shape[0], 'the number of output channels', ...all) % attrs.groups !== 0) {
      throw operatorError(name, `the output channels do not divide into ${attrs.groups} groups`, ...all);
    }
    return withBias(name, apply1(convOperator, [x, weight], attrs), options.bias, all);
  };
}

/** Cross-correlation. Shapes: x [B, C, L], weight [O, C / groups, k], bias [O]. */
export const conv1d = convolution(1);
/** Cross-correlation. Shapes: x [B, C, H, W], weight [O, C / groups, kh, kw], bias [O]. */
export const conv2d = convolution(2);
/** Cross-correlation. Shapes: x [B, C, T, H, W], weight [O, C / groups, kt, kh, kw], bias [O]. */
export const conv3d = convolution(3);

export interface ConvTransposeOptions extends ConvOptions {
  /** Added at the far end; smaller than the stride or the dilation. */
  readonly outputPadding?: PerAxis;
}

function transposedConvolution(rank: number): (x: Tensor, weight: Tensor, options?: ConvTransposeOptions) => Tensor {
  const name = `conv_transpose${rank}d`;
  return (x, weight, options = {}) => {
    const all = [x, weight, ...(options.bias ? [options.bias] : [])];
    const attrs = prepare(name, rank, x, weight, options, all);
    if (x.shape[1] !== weight.shape[0])
      throw operatorError(name, "the input's channels differ from the weight's", ...all);
    staticDim(name, weight.shape[1], 'the number of output channels', ...all);
    const extra = perAxis(name, 'the output padding', options.outputPadding ?? 0, rank, 0, ...all);
    if (extra.some((n, i) => n > 0 && n >= Math.max(attrs.stride[i], attrs.dilation[i]))) {
      throw operatorError(
        name,
        `the output padding [${extra}] must be smaller than the stride or the dilation`,
        ...all,
      );
    }
    const size = spatialSizes(name, x, ...all).map((count, i) => plainSize(attrs, count, i) + extra[i]);
    if (size.some((n) => n < 1)) throw operatorError(name, `the result would have size [${size}]`, ...all);
    return withBias(name, apply1(convTransposeOperator, [x, weight], { ...attrs, size }), options.bias, all);
  };
}

/** The gradient of conv1d as a forward operator. Shapes: x [B, C, L], weight [C, O / groups, k], bias [O]. */
export const convTranspose1d = transposedConvolution(1);
/** The gradient of conv2d as a forward operator. Shapes: x [B, C, H, W], weight [C, O / groups, kh, kw], bias [O]. */
export const convTranspose2d = transposedConvolution(2);
/** The gradient of conv3d as a forward operator. Shapes: x [B, C, T, H, W], weight [C, O / groups, kt, kh, kw], bias [O]. */
export const convTranspose3d = transposedConvolution(3);
