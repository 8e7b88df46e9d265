import { mulDims } from '../graph/dims.js';
import { conv2d, conv3d, convTranspose2d } from '../graph/ops/convolution.js';
import { add, relu, sigmoid } from '../graph/ops/elementwise.js';
import { resize } from '../graph/ops/image.js';
import { concat, narrow, reshape, squeeze, transpose } from '../graph/ops/move.js';
import { adaptiveAvgPool2d, globalAvgPool } from '../graph/ops/pool.js';
import { operatorError, type Tensor } from '../graph/tensor.js';
import { batchNorm, batchNormSpec, type NormMode } from './batch-norm.js';
import { fillInit } from './transformer.js';
import { type ParameterSpec, under, type Weights } from './weights.js';

/** Residual networks of images and of video maps [batch, channels, time, height, width], under PyTorch's names. */

/** Applies a map of images [images, ...] to every frame of [batch, channels, time, height, width]; images as they are. */
export function eachFrame(x: Tensor, map: (images: Tensor) => Tensor): Tensor {
  if (x.shape.length === 4) return map(x);
  if (x.shape.length !== 5) throw operatorError('frames', 'needs images or [batch, channels, time, height, width]', x);
  const [batch, channels, time, ...size] = x.shape;
  const out = map(reshape(transpose(x, [0, 2, 1, 3, 4]), [mulDims(batch, time), channels, ...size]));
  const rest = out.shape.slice(2);
  return transpose(reshape(out, [batch, time, out.shape[1], ...rest]), [0, 2, 1, ...rest.map((_, i) => i + 3)]);
}

/** A convolution's spread at the start: PyTorch's default has the variance 1 / (3 inputs of an output). */
export const convWeightSpec = (
  name: string,
  out: number,
  into: number,
  kernel: readonly number[],
  bias: boolean,
): [string, ParameterSpec][] => {
  const fanIn = kernel.reduce((a, b) => a * b, into);
  const weight: [string, ParameterSpec] = [
    `${name}.weight`,
    { shape: [out, into, ...kernel], init: { kind: 'normal', std: 1 / Math.sqrt(3 * fanIn) }, trainable: true },
  ];
  return bias ? [weight, [`${name}.bias`, fillInit([out], 0)]] : [weight];
};

/** Two convolutions with batch norm and a shortcut, which has a convolution of its own where widths or sizes change. */
const residualBlockSpec = (name: string, into: number, out: number, stride = 1): [string, ParameterSpec][] => [
  ...convWeightSpec(`${name}conv1`, out, into, [3, 3], false),
  ...batchNormSpec(`${name}bn1`, out),
  ...convWeightSpec(`${name}conv2`, out, out, [3, 3], false),
  ...batchNormSpec(`${name}bn2`, out),
  ...(stride === 1 && into === out
    ? []
    : [...convWeightSpec(`${name}shortcut.0`, out, into, [1, 1], false), ...batchNormSpec(`${name}shortcut.1`, out)]),
];

/** x [images, channels, height, width]. */
export function residualBlock(
  x: Tensor,
  w: Weights,
  out: number,
  stride: number,
  mode: NormMode,
  shortcut = 'shortcut',
): Tensor {
  const bn = (y: Tensor, name: string): Tensor => batchNorm(y, under(w, `${name}.`), mode);
  const first = relu(bn(conv2d(x, w('conv1.weight'), { stride, padding: 1 }), 'bn1'));
  const second = bn(conv2d(first, w('conv2.weight'), { padding: 1 }), 'bn2');
  const plain = stride === 1 && x.shape[1] === out;
  return relu(add(second, plain ? x : bn(conv2d(x, w(`${shortcut}.0.weight`), { stride }), `${shortcut}.1`)));
}

const stem = (x: Tensor, w: Weights, mode: NormMode, padding = 1): Tensor =>
  relu(batchNorm(conv2d(x, w('conv1.weight'), { padding }), under(w, 'bn1.'), mode));

export interface ResNet5Config {
  readonly channels: number;
  readonly hidden: number;
  readonly out: number;
  readonly strides: readonly [number, number, number];
  /** One vector an image instead of a map. */
  readonly pooled: boolean;
}

/** Widths and strides. */
const resNet5Blocks = ({ hidden, out, strides }: ResNet5Config): (readonly [number, number])[] => [
  [hidden, strides[0]],
  [2 * hidden, strides[1]],
  [out, strides[2]],
];

/** A stem and three residual blocks (EB-JEPA, `ResNet5`), of images or of every frame. */
export const resNet5 = (x: Tensor, w: Weights, config: ResNet5Config, mode: NormMode): Tensor =>
  eachFrame(x, (images) => {
    const map = resNet5Blocks(config).reduce(
      (y, [out, stride], i) => residualBlock(y, under(w, `layer${i + 1}.`), out, stride, mode),
      stem(images, w, mode),
    );
    return config.pooled ? globalAvgPool(map) : map;
  });

/** Stages of a U-Net of base width h: name, width, stride. */
const unetBlocks = (h: number): readonly (readonly [string, number, number])[] => [
  ['enc1', h, 1],
  ['enc2', 2 * h, 2],
  ['enc3', 4 * h, 2],
  ['bott', 8 * h, 2],
];

/**
 * A small U-Net of residual blocks that keeps the size (EB-JEPA, `ResUNet`); where a size is odd, what comes up is resized to
 * the skip (bilinearly).
 */
export const resUnet = (x: Tensor, w: Weights, h: number, mode: NormMode): Tensor =>
  eachFrame(x, (images) => {
    const skips: Tensor[] = [];
    let y = stem(images, w, mode);
    for (const [name, out, stride] of unetBlocks(h)) {
      y = residualBlock(y, under(w, `${name}.`), out, stride, mode);
      skips.push(y);
    }
    for (const level of [3, 2, 1]) {
      const skip = skips[level - 1];
      const up = convTranspose2d(y, w(`up${level}.weight`), { bias: w(`up${level}.bias`), stride: 2 });
      const size = skip.shape.slice(2) as number[];
      const same = up.shape.slice(2).join() === size.join();
      const joined = concat([same ? up : resize(up, size, { mode: 'linear' }), skip], 1);
      y = residualBlock(joined, under(w, `dec${level}.`), h * 2 ** (level - 1), 1, mode);
    }
    return conv2d(y, w('head.weight'), { bias: w('head.bias') });
  });

/** Two convolutions over time and space with ReLU between (EB-JEPA, `conv3d2`), strided in the second. */
export function convPair(
  x: Tensor,
  w: Weights,
  { stride = [1, 1, 1], same }: { readonly stride?: readonly number[]; readonly same: boolean },
): Tensor {
  const padding = (weight: Tensor): number[] =>
    weight.shape.slice(2).map((size) => (same ? ((size as number) - 1) / 2 : 0));
  const layer = (y: Tensor, name: string, by: readonly number[]): Tensor => {
    const weight = w(`${name}.weight`);
    return conv3d(y, weight, { bias: w(`${name}.bias`), stride: by, padding: padding(weight) });
  };
  return layer(relu(layer(x, '0', [1, 1, 1])), '2', stride);
}

/** Side of the map that the detection head answers on. */
const CELLS = 8;

/** How likely each of 8 x 8 cells of every frame holds something, [batch, time, 8, 8] (`logits`: before the sigmoid). */
export function detectionHead(x: Tensor, w: Weights, logits = false): Tensor {
  const cells = eachFrame(x, (images) => adaptiveAvgPool2d(images, CELLS));
  const scores = squeeze(convPair(cells, under(w, 'head.0.'), { same: true }), 1);
  return logits ? scores : sigmoid(scores);
}

/** Two convolutions from a map to pictures, frame by frame. */
export const imageDecoder = (x: Tensor, w: Weights): Tensor =>
  eachFrame(x, (images) => {
    const layer = (y: Tensor, name: string): Tensor =>
      conv2d(y, w(`net.${name}.weight`), { bias: w(`net.${name}.bias`), padding: 1 });
    return layer(relu(layer(images, '0')), '2');
  });

/** The previous and the next state side by side, [batch, 2 channels, time - 1, ...]: what a state-only predictor sees. */
export function previousAndNext(x: Tensor): Tensor {
  const count = (x.shape[2] as number) - 1;
  return concat([narrow(x, 2, 0, count), narrow(x, 2, 1, count)], 1);
}

// ResNet-18 ----------------------------------------------------------------------------------------------------------

const WIDTHS = [64, 128, 256, 512] as const;

const resNet18Blocks = WIDTHS.flatMap((out, stage) =>
  [0, 1].map((i) => ({
    name: `layer${stage + 1}.${i}.`,
    into: i === 0 ? (WIDTHS[stage - 1] ?? 64) : out,
    out,
    stride: i === 0 && stage > 0 ? 2 : 1,
  })),
);

/** ResNet-18 for small images: a 3 x 3 stem without pooling, no classifier. Names and order are torchvision's. */
export const resNet18Spec = (channels = 3): [string, ParameterSpec][] => [
  ...convWeightSpec('conv1', 64, channels, [3, 3], false),
  ...batchNormSpec('bn1', 64),
  ...resNet18Blocks.flatMap(({ name, into, out, stride }) =>
    residualBlockSpec(name, into, out, stride).map(([key, spec]): [string, ParameterSpec] => [
      key.replace('shortcut', 'downsample'),
      spec,
    ]),
  ),
];

/** Images -> [images, 512]. EB-JEPA's stem pads by 2. */
export const resNet18 = (images: Tensor, w: Weights, mode: NormMode, stemPadding = 2): Tensor =>
  globalAvgPool(
    resNet18Blocks.reduce(
      (y, { name, out, stride }) => residualBlock(y, under(w, name), out, stride, mode, 'downsample'),
      stem(images, w, mode, stemPadding),
    ),
  );
