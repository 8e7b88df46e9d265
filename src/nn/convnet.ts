import { JepaError } from '../base/errors.js';
import { mulDims } from '../graph/dims.js';
import { conv2d } from '../graph/ops/convolution.js';
import { add, relu } from '../graph/ops/elementwise.js';
import { concat, narrow, pad, reshape, transpose } from '../graph/ops/move.js';
import { linear, matmul } from '../graph/ops/product.js';
import { operatorError, scope, type Tensor } from '../graph/tensor.js';
import { fillInit, norm, normSpec } from './transformer.js';
import { type ModuleSpec, type ParameterSpec, under, type Weights } from './weights.js';

/**
 * A small convolutional encoder for small images: a stem and two stages that halve the resolution, each followed by
 * residual blocks with layer norm over channels (no batch statistics), then one linear layer over the whole map.
 */
export interface ConvNetConfig {
  readonly imageSize: readonly [number, number];
  readonly channels: number;
  /** Channels of the stem and of the two stages. */
  readonly widths: readonly [number, number, number];
  /** Residual blocks of each stage. */
  readonly blocks: readonly [number, number];
  /** Width of the embedding. */
  readonly width: number;
}

const EPS = 1e-5;
const half = (size: number): number => Math.ceil(size / 2);

/** Side lengths of the last map. */
export const convNetGrid = ({ imageSize }: ConvNetConfig): readonly [number, number] => [
  half(half(half(imageSize[0]))),
  half(half(half(imageSize[1]))),
];

export function checkConvNet({ imageSize, channels, widths, blocks, width }: ConvNetConfig): void {
  for (const value of [...imageSize, channels, ...widths, width]) {
    if (!Number.isInteger(value) || value < 1) throw new JepaError(`convnet: sizes must be positive whole numbers, not ${value}`);
  }
  for (const value of blocks) {
    if (!Number.isInteger(value) || value < 0) throw new JepaError(`convnet: the number of blocks must be 0 or more, not ${value}`);
  }
}

/** Uniform-variance start for a layer followed by ReLU (He et al. 2015) with PyTorch's default gain. */
const convSpec = (name: string, out: number, into: number, kernel: number): [string, ParameterSpec][] => {
  const fanIn = into * kernel * kernel;
  return [
    [`${name}.weight`, { shape: [out, into, kernel, kernel], init: { kind: 'normal', std: 1 / Math.sqrt(3 * fanIn) }, trainable: true }],
    [`${name}.bias`, fillInit([out], 0)],
  ];
};

const denseSpec = (name: string, out: number, into: number): [string, ParameterSpec][] => [
  [`${name}.weight`, { shape: [out, into], init: { kind: 'normal', std: 1 / Math.sqrt(3 * into) }, trainable: true }],
  [`${name}.bias`, fillInit([out], 0)],
];

export function convNetSpec(config: ConvNetConfig): ModuleSpec {
  const { channels, widths, blocks, width } = config;
  const [rows, columns] = convNetGrid(config);
  const entries: [string, ParameterSpec][] = [...convSpec('stem', widths[0], channels, 5)];
  for (const stage of [0, 1]) {
    const [into, out] = [widths[stage], widths[stage + 1]];
    entries.push(...convSpec(`stages.${stage}.down`, out, into, 3));
    for (let b = 0; b < blocks[stage]; b++) {
      const name = `stages.${stage}.blocks.${b}`;
      entries.push(...normSpec(`${name}.norm`, out), ...convSpec(`${name}.conv`, out, out, 3), ...denseSpec(`${name}.mix`, out, out));
    }
    entries.push(...normSpec(`stages.${stage}.norm`, out));
  }
  entries.push(...denseSpec('head', width, rows * columns * widths[2]));
  return new Map(entries);
}

export interface ConvNetOutput {
  /** The last map, [batch, rows * columns, channels], after its norm and ReLU. */
  readonly tokens: Tensor;
  /** [batch, width] */
  readonly embedding: Tensor;
}

/** Images [batch, channels, height, width]. Inside, maps are [batch, height, width, channels]: products over channels. */
export function convNet(images: Tensor, w: Weights, config: ConvNetConfig): ConvNetOutput {
  const [batch] = images.shape;
  if (images.shape.length !== 4 || images.shape[1] !== config.channels) {
    throw operatorError('convnet', `needs images [batch, ${config.channels}, height, width]`, images);
  }
  const stem = scope('stem', () => {
    const map = conv2d(images, w('stem.weight'), { bias: w('stem.bias'), stride: [2, 2], padding: [2, 2] });
    return relu(transpose(map, [0, 2, 3, 1]));
  });
  let map = stem;
  for (const stage of [0, 1]) {
    const name = `stages.${stage}`;
    map = scope(name, () => {
      let x = convolve(map, w(`${name}.down.weight`), w(`${name}.down.bias`), 2);
      for (let b = 0; b < config.blocks[stage]; b++) x = scope(`blocks.${b}`, () => residual(x, under(w, `${name}.blocks.${b}.`)));
      return relu(norm(x, under(w, `${name}.norm.`), EPS));
    });
  }
  const [, rows, columns, channels] = map.shape;
  const tokens = reshape(map, [batch, mulDims(rows, columns), channels]);
  const embedding = scope('head', () =>
    linear(reshape(map, [batch, mulDims(mulDims(rows, columns), channels)]), w('head.weight'), w('head.bias')),
  );
  return { tokens, embedding };
}

/** x + mix(relu(conv(norm(x)))). */
function residual(x: Tensor, w: Weights): Tensor {
  const inner = relu(convolve(norm(x, under(w, 'norm.'), EPS), w('conv.weight'), w('conv.bias'), 1));
  return add(x, linear(inner, w('mix.weight'), w('mix.bias')));
}

/**
 * 3 x 3 convolution with padding 1 of a channels-last map [batch, height, width, in], weight [out, in, 3, 3]: the nine
 * shifted maps side by side, then one product. Its weight gradient is then one product over all positions.
 */
function convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: 1 | 2): Tensor {
  const [, height, width, into] = x.shape as [Tensor['shape'][0], number, number, number];
  const [out] = weight.shape;
  const rows = Math.ceil(height / stride);
  const columns = Math.ceil(width / stride);
  const padded = pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]);
  const shifted: Tensor[] = [];
  for (let dy = 0; dy < 3; dy++) {
    const band = narrow(padded, 1, dy, rows, stride);
    for (let dx = 0; dx < 3; dx++) shifted.push(narrow(band, 2, dx, columns, stride));
  }
  const patches = concat(shifted, 3); // [batch, rows, columns, 9 * in]
  const kernel = reshape(transpose(weight, [2, 3, 1, 0]), [9 * into, out]);
  return add(matmul(patches, kernel), bias);
}
