import { JepaError } from '../base/errors.js';
import { mulDims } from '../graph/dims.js';
import { add, relu } from '../graph/ops/elementwise.js';
import { convolveMap, type TokenMap } from '../graph/ops/map-convolution.js';
import { reshape, transpose } from '../graph/ops/move.js';
import { linear } from '../graph/ops/product.js';
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

/** Throws a `JepaError` for sizes that cannot be. */
export function checkConvNet({ imageSize, channels, widths, blocks, width }: ConvNetConfig): void {
  for (const value of [...imageSize, channels, ...widths, width]) {
    if (!Number.isInteger(value) || value < 1)
      throw new JepaError(`convnet: sizes must be positive whole numbers, not ${value}`);
  }
  for (const value of blocks) {
    if (!Number.isInteger(value) || value < 0)
      throw new JepaError(`convnet: the number of blocks must be 0 or more, not ${value}`);
  }
}

/** Uniform-variance start for a layer followed by ReLU (He et al. 2015) with PyTorch's default gain. */
const convSpec = (name: string, out: number, into: number, kernel: number): [string, ParameterSpec][] => {
  const fanIn = into * kernel * kernel;
  return [
    [
      `${name}.weight`,
      { shape: [kernel, kernel, into, out], init: { kind: 'normal', std: 1 / Math.sqrt(3 * fanIn) }, trainable: true },
    ],
    [`${name}.bias`, fillInit([out], 0)],
  ];
};

const denseSpec = (name: string, out: number, into: number): [string, ParameterSpec][] => [
  [`${name}.weight`, { shape: [out, into], init: { kind: 'normal', std: 1 / Math.sqrt(3 * into) }, trainable: true }],
  [`${name}.bias`, fillInit([out], 0)],
];

/** Parameters of the whole net, as `convNet` reads them. */
export function convNetSpec(config: ConvNetConfig): ModuleSpec {
  const { channels, widths, blocks, width } = config;
  const [rows, columns] = convNetGrid(config);
  const entries: [string, ParameterSpec][] = [...convSpec('stem', widths[0], channels, 5)];
  for (const stage of [0, 1]) {
    const [into, out] = [widths[stage], widths[stage + 1]];
    entries.push(...convSpec(`stages.${stage}.down`, out, into, 3));
    for (let b = 0; b < blocks[stage]; b++) {
      const name = `stages.${stage}.blocks.${b}`;
      entries.push(
        ...normSpec(`${name}.norm`, out),
        ...convSpec(`${name}.conv`, out, out, 3),
        ...denseSpec(`${name}.mix`, out, out),
      );
    }
    entries.push(...normSpec(`stages.${stage}.norm`, out));
  }
  entries.push(...denseSpec('head', width, rows * columns * widths[2]));
  return new Map(entries);
}

export interface ConvNetOutput {
  /** The last map, [batch, rows * columns, channels], after its norm and ReLU. */
  readonly tokens: Tensor;
  /** The map of the stage before, likewise. */
  readonly before: { readonly tokens: Tensor; readonly size: readonly [number, number] };
  /** [batch, width] */
  readonly embedding: Tensor;
}

/** Images [batch, channels, height, width]. Inside, maps are [batch, height * width, channels]: products over channels. */
export function convNet(images: Tensor, w: Weights, config: ConvNetConfig): ConvNetOutput {
  const [batch, channels, height, width] = images.shape;
  if (
    images.shape.length !== 4 ||
    channels !== config.channels ||
    height !== config.imageSize[0] ||
    width !== config.imageSize[1]
  ) {
    throw operatorError('convnet', `needs images [batch, ${config.channels}, ${config.imageSize.join(', ')}]`, images);
  }
  const pixels = transpose(reshape(images, [batch, channels, height * width]), [0, 2, 1]);
  const stem: TokenMap = scope('stem', () => {
    const { tokens, size } = convolve({ tokens: pixels, size: config.imageSize }, under(w, 'stem.'), 5, 2);
    return { tokens: relu(tokens), size };
  });
  const stage = (map: TokenMap, index: 0 | 1): TokenMap => {
    const name = `stages.${index}`;
    return scope(name, () => {
      const { tokens, size } = convolve(map, under(w, `${name}.down.`), 3, 2);
      let x = tokens;
      for (let b = 0; b < config.blocks[index]; b++) {
        x = scope(`blocks.${b}`, () => residual({ tokens: x, size }, under(w, `${name}.blocks.${b}.`)));
      }
      return { tokens: relu(norm(x, under(w, `${name}.norm.`), EPS)), size };
    });
  };
  const before = stage(stem, 0);
  const { tokens } = stage(before, 1);
  const flat = reshape(tokens, [batch, mulDims(tokens.shape[1], tokens.shape[2])]);
  return { tokens, before, embedding: scope('head', () => linear(flat, w('head.weight'), w('head.bias'))) };
}

/** x + mix(relu(conv(norm(x)))). */
function residual({ tokens, size }: TokenMap, w: Weights): Tensor {
  const normed = { tokens: norm(tokens, under(w, 'norm.'), EPS), size };
  const inner = relu(convolve(normed, under(w, 'conv.'), 3, 1).tokens);
  return add(tokens, linear(inner, w('mix.weight'), w('mix.bias')));
}

/** Convolution with an odd kernel and padding kernel / 2, weight [kernel, kernel, in, out]. */
function convolve(map: TokenMap, w: Weights, kernel: number, stride: number): TokenMap {
  const { tokens, size } = convolveMap(map, w('weight'), { stride, padding: (kernel - 1) / 2 });
  return { tokens: add(tokens, w('bias')), size };
}
