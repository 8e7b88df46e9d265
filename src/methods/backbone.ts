import type { Field } from '../data/preparation.js';
import { concat, reshape } from '../graph/ops/move.js';
import { layerNorm } from '../graph/ops/normalise.js';
import { matmul } from '../graph/ops/product.js';
import { mean } from '../graph/ops/reduce.js';
import { constant, type Tensor } from '../graph/tensor.js';
import { type ConvNetConfig, checkConvNet, convNet, convNetGrid, convNetSpec } from '../nn/convnet.js';
import type { Tokens } from '../nn/tokens.js';
import { lastAttention, tokenGrid, type VitConfig, vit, vitLayers, vitSpec } from '../nn/vit.js';
import { type Module, makeModule, type Weights } from '../nn/weights.js';
import type { Encoder, Inputs, WideForm } from './method.js';

/** Names of what encoders read. */
export const IMAGES = 'images';
export const CLIPS = 'clips';

/** An encoder of whole images (a ViT also of clips), whatever its architecture: what methods over views are built on. */
export type BackboneConfig = ({ readonly kind: 'vit' } & VitConfig) | ({ readonly kind: 'conv' } & ConvNetConfig);

export interface Backbone extends Encoder {
  /** Images -> [batch, outputs]: what a projector sees. */
  embed(images: Tensor): Tensor;
  readonly outputs: number;
}

export function makeBackbone(prefix: string, config: BackboneConfig): Backbone {
  return config.kind === 'vit'
    ? vitBackbone(makeModule(prefix, vitSpec(config)), config)
    : convBackbone(makeModule(prefix, convNetSpec(config)), config);
}

/** Blocks whose means side by side are the second form that the I-JEPA paper probes. */
const LAYERS = 4;

/** The wide form of any encoder of tokens: `pool` of the outputs of its last blocks, each layer-normed, side by side. */
export function lastLayers(
  tokens: (inputs: Inputs) => Tokens,
  weights: Weights,
  depth: number,
  pool: (states: Tensor, inputs: Inputs) => Tensor,
): WideForm {
  const count = Math.min(LAYERS, depth);
  return {
    name: `last ${count} layers`,
    represent: (inputs) => {
      const states: Tensor[] = [];
      tokens(inputs).encode(weights, { onState: (state) => states.push(state) });
      const pooled = states.slice(-count).map((state) => pool(layerNorm(state), inputs));
      return concat(pooled, 1);
    },
  };
}

/** A ViT of images or clips as an encoder: probes see the mean of its tokens. */
export function vitBackbone(module: Module, config: VitConfig): Backbone {
  const { channels, frames, imageSize } = config;
  const [seen]: Field[] =
    frames === undefined
      ? [{ name: IMAGES, dtype: 'float32', shape: [channels, ...imageSize] }]
      : [{ name: CLIPS, dtype: 'float32', shape: [channels, frames, ...imageSize] }];
  // Where levels have norms of their own, only they can be asked for.
  const last = (config.levels ?? Array.from({ length: config.depth }, (_, i) => i)).slice(-LAYERS);
  const tokens = (x: Tensor): Tensor => vit(x, module.weights, config);
  const pooled = (x: Tensor): Tensor => mean(tokens(x), 1);
  return {
    module,
    architecture: { ...config, kind: 'vit' },
    inputs: [seen],
    grid: tokenGrid(config),
    features: config.width,
    width: config.width,
    outputs: config.width,
    represent: (inputs) => pooled(inputs[seen.name]),
    embed: pooled,
    tokens: (inputs) => tokens(inputs[seen.name]),
    wide: {
      name: `last ${last.length} layers`,
      represent: (inputs) => {
        const layers = vitLayers(inputs[seen.name], module.weights, config, last);
        return concat(
          layers.map((layer) => mean(layer, 1)),
          1,
        );
      },
    },
    attention: (inputs) => lastAttention(inputs[seen.name], module.weights, config),
  };
}

/**
 * A conv net as an encoder: probes see its last map averaged over quarters, which keeps where things are; in the wide form
 * also the map of the stage before, and the embedding.
 */
function convBackbone(module: Module, config: ConvNetConfig): Backbone {
  checkConvNet(config);
  const grid = convNetGrid(config);
  const [, before, channels] = config.widths;
  const forward = (images: Tensor) => convNet(images, module.weights, config);
  return {
    module,
    architecture: { ...config, kind: 'conv' },
    inputs: [{ name: IMAGES, dtype: 'float32', shape: [config.channels, ...config.imageSize] }],
    grid,
    features: 4 * channels,
    width: channels,
    outputs: config.width,
    represent: ({ images }) => inQuarters(forward(images).tokens, grid, channels),
    wide: {
      name: 'two stages and embedding',
      represent: ({ images }) => {
        const { tokens, before: earlier, embedding } = forward(images);
        return concat(
          [inQuarters(tokens, grid, channels), inQuarters(earlier.tokens, earlier.size, before), embedding],
          1,
        );
      },
    },
    embed: (images) => forward(images).embedding,
    tokens: ({ images }) => forward(images).tokens,
  };
}

/** A map [batch, rows * columns, channels] -> [batch, 4 channels]: its averages over the four quarters. */
function inQuarters(tokens: Tensor, grid: readonly [number, number], channels: number): Tensor {
  const pooled = matmul(constant(quarters(grid)), tokens); // [batch, 4, channels]
  return reshape(pooled, [pooled.shape[0], 4 * channels]);
}

/** Averages over the four quarters of a grid, [4, rows * columns]; an odd middle belongs to both sides. */
function quarters([rows, columns]: readonly [number, number]): {
  dtype: 'float32';
  shape: number[];
  data: Float32Array;
} {
  const data = new Float32Array(4 * rows * columns);
  const side = (size: number, part: number): readonly [number, number] =>
    part === 0 ? [0, Math.ceil(size / 2)] : [Math.floor(size / 2), size];
  for (let q = 0; q < 4; q++) {
    const [top, bottom] = side(rows, q >> 1);
    const [left, right] = side(columns, q & 1);
    for (let r = top; r < bottom; r++) {
      for (let c = left; c < right; c++) data[(q * rows + r) * columns + c] = 1 / ((bottom - top) * (right - left));
    }
  }
  return { dtype: 'float32', shape: [4, rows * columns], data };
}
