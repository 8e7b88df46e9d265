import { JepaError } from '../base/errors.js';
import { conv2d } from '../graph/ops/convolution.js';
import { add, relu } from '../graph/ops/elementwise.js';
import { reshape } from '../graph/ops/move.js';
import { maxPool2d } from '../graph/ops/pool.js';
import { scope, type Tensor } from '../graph/tensor.js';
import { convWeightSpec } from './residual.js';
import { dense, denseSpec } from './stacks.js';
import { norm, normSpec } from './transformer.js';
import { type ParameterSpec, under, type Weights } from './weights.js';

/** The IMPALA encoder of EB-JEPA (`ImpalaEncoder`): stacks of a convolution, a pool that halves, and residual blocks. */
export interface ImpalaConfig {
  /** Channels, height, width of a picture. */
  readonly picture: readonly [channels: number, height: number, width: number];
  /** Channels of the stacks. */
  readonly widths: readonly number[];
  /** Residual blocks a stack. */
  readonly blocks: number;
  /** Width of the embedding. */
  readonly width: number;
  /** Layer norm over the embedding. */
  readonly finalNorm: boolean;
}

export const IMPALA: ImpalaConfig = {
  picture: [2, 65, 65],
  widths: [16, 32, 32],
  blocks: 2,
  width: 512,
  finalNorm: true,
};

export const STATE_NORM_EPS = 1e-5;

/** Channels, height and width of the last map. */
export function impalaMap({ picture: [channels, ...size], widths }: ImpalaConfig): readonly [number, number, number] {
  const [height, width] = size.map((side) => widths.reduce((s) => Math.floor((s - 1) / 2) + 1, side));
  if (height < 1 || width < 1) throw new JepaError(`impala: pictures of ${size.join(' x ')} are too small`);
  return [widths.at(-1) ?? channels, height, width];
}

/** In the order in which the reference registers them. */
export function impalaSpec(config: ImpalaConfig): [string, ParameterSpec][] {
  const { picture, widths, blocks, width, finalNorm } = config;
  return [
    ...widths.flatMap((out, i) => [
      ...convWeightSpec(`stack_blocks.${i}.initial_conv`, out, widths[i - 1] ?? picture[0], [3, 3], true),
      ...Array.from({ length: blocks }, (_, b) =>
        ['conv1', 'conv2'].flatMap((name) =>
          convWeightSpec(`stack_blocks.${i}.blocks.${b}.${name}`, out, out, [3, 3], true),
        ),
      ).flat(),
    ]),
    ...denseSpec(
      'mlp',
      width,
      impalaMap(config).reduce((a, b) => a * b),
    ),
    ...(finalNorm ? normSpec('final_ln', width) : []),
  ];
}

const conv = (x: Tensor, w: Weights): Tensor => conv2d(x, w('weight'), { bias: w('bias'), padding: 1 });

/** One stack of images [images, channels, height, width]. */
export function impalaStack(x: Tensor, w: Weights, blocks: number): Tensor {
  let y = maxPool2d(conv(x, under(w, 'initial_conv.')), 3, { stride: 2, padding: 1 });
  for (let b = 0; b < blocks; b++) {
    const own = under(w, `blocks.${b}.`);
    y = relu(add(conv(relu(conv(y, under(own, 'conv1.'))), under(own, 'conv2.')), y));
  }
  return y;
}

/** Images [images, channels, height, width] -> [images, width]. */
export function impala(images: Tensor, w: Weights, config: ImpalaConfig): Tensor {
  const map = config.widths.reduce(
    (x, _, i) => scope(`stack_blocks.${i}`, () => impalaStack(x, under(w, `stack_blocks.${i}.`), config.blocks)),
    images,
  );
  const size = map.shape.slice(1) as number[];
  const flat = reshape(relu(map), [images.shape[0], size.reduce((a, b) => a * b)]);
  const out = dense(flat, under(w, 'mlp.'));
  return config.finalNorm ? norm(out, under(w, 'final_ln.'), STATE_NORM_EPS) : out;
}
