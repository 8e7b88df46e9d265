import { reshape } from '../graph/ops/move.js';
import { matmul } from '../graph/ops/product.js';
import { mean } from '../graph/ops/reduce.js';
import { constant, type Tensor } from '../graph/tensor.js';
import { type ConvNetConfig, checkConvNet, convNet, convNetGrid, convNetSpec } from '../nn/convnet.js';
import { attend, norm } from '../nn/transformer.js';
import { gridOf, type VitConfig, vit, vitSpec } from '../nn/vit.js';
import { type Module, makeModule, under } from '../nn/weights.js';
import type { Encoder } from './method.js';

/** An encoder of whole images, whatever its architecture: what methods over views are built on. */
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

/** A ViT as an encoder: probes see the mean of its tokens. */
export function vitBackbone(module: Module, config: VitConfig): Backbone {
  const tokens = (images: Tensor): Tensor => vit(images, module.weights, config);
  const pooled = (images: Tensor): Tensor => mean(tokens(images), 1);
  return {
    module,
    architecture: { ...config, kind: 'vit' },
    channels: config.channels,
    imageSize: config.imageSize,
    grid: gridOf(config),
    features: config.width,
    width: config.width,
    outputs: config.width,
    represent: pooled,
    embed: pooled,
    tokens,
    layers: (images, count) => {
      const states: Tensor[] = [];
      const last = vit(images, module.weights, config, { onState: (state) => states.push(state) });
      // States are the embedded patches and the outputs of the blocks; the last of them is the one that `last` normalised.
      const earlier = states.slice(Math.max(1, config.depth + 1 - count), config.depth);
      return [...earlier.map((state) => norm(state, under(module.weights, 'norm.'), config.eps)), last];
    },
    attention: (images) => {
      const states: Tensor[] = [];
      vit(images, module.weights, config, { onState: (state) => states.push(state) });
      const last = config.depth - 1;
      const w = under(module.weights, `blocks.${last}.`);
      return attend(norm(states[last], under(w, 'norm1.'), config.eps), under(w, 'attn.'), config).probabilities;
    },
  };
}

/** A conv net as an encoder: probes see its last map averaged over quarters, which keeps where things are. */
function convBackbone(module: Module, config: ConvNetConfig): Backbone {
  checkConvNet(config);
  const grid = convNetGrid(config);
  const channels = config.widths[2];
  const forward = (images: Tensor) => convNet(images, module.weights, config);
  return {
    module,
    architecture: { ...config, kind: 'conv' },
    channels: config.channels,
    imageSize: config.imageSize,
    grid,
    features: 4 * channels,
    width: channels,
    outputs: config.width,
    represent: (images) => {
      const { tokens } = forward(images);
      // [batch, tokens, channels] -> [batch, 4, channels]
      const pooled = matmul(constant(quarters(grid)), tokens);
      return reshape(pooled, [pooled.shape[0], 4 * channels]);
    },
    embed: (images) => forward(images).embedding,
    tokens: (images) => forward(images).tokens,
  };
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
