import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { isImages } from '../../src/data/plans.js';
import type { TransformInput } from '../../src/data/transforms.js';
import { type BackboneConfig, makeBackbone } from '../../src/methods/backbone.js';
import { vitConfig } from '../../src/nn/vit.js';
import { type FrozenEncoder, randomEncoder, toSize } from '../../src/train/frozen.js';

export const smallVit = (channels: 1 | 3 = 3): BackboneConfig => ({
  kind: 'vit',
  ...vitConfig({ imageSize: 24, patchSize: 8, channels, width: 32, depth: 5, heads: 4 }),
});

/** What a recipe says of a small V-JEPA that predicts two moments from two; clips of a shape that goes left or right. */
export const lookingAhead = (patchSize: number, options: object) =>
  ({
    data: {
      kind: 'video',
      source: 'procedural:motions',
      options: { ...options, classes: ['left', 'right'], occlusion: 0, bystanders: 0 },
      frames: 8,
      frameStep: 1,
      size: 16,
      channels: 1,
      view: { mean: [0.5], std: [0.25] },
      threads: 0,
    },
    method: {
      name: 'vjepa',
      encoder: { kind: 'vit', patchSize, width: 16, depth: 1, heads: 2 },
      predictor: { width: 8, depth: 1 },
      masks: [],
      future: { context: 2, horizons: 2 },
    },
    train: { batchSize: 8, steps: 2, checkpointEvery: 2, workers: 1 },
  }) as const;

export const smallConv: BackboneConfig = {
  kind: 'conv',
  imageSize: [12, 12],
  channels: 1,
  widths: [8, 12, 16],
  blocks: [1, 1],
  width: 24,
};

/** An encoder that nobody has trained; its biases are not zero, so that leaving one out shows. */
export function untrained(architecture: BackboneConfig, transforms: readonly TransformInput[] = []): FrozenEncoder {
  const encoder = makeBackbone('encoder.', architecture);
  const preparation = toSize({ transforms }, encoder);
  const fresh = randomEncoder({ name: 'test encoder', encoder, weights: new Map(), preparation, facts: {} }, 1);
  const random = createRandom(2);
  const weights = new Map(
    Array.from(fresh.weights, ([name, { shape, data }]): [string, HostTensor<'float32'>] => {
      const other = new Float32Array(data.length);
      random.split(name).fillNormal(other, 0, 0.1);
      return [
        name,
        float32(
          shape,
          data.map((value, i) => (name.endsWith('pos_embed') ? value : value + other[i])),
        ),
      ];
    }),
  );
  return { ...fresh, name: 'test encoder', weights, facts: { method: 'ijepa', licence: 'none' } };
}

export function randomImages(count: number, { encoder }: FrozenEncoder, seed = 0): HostTensor<'float32'> {
  const shape = [count, ...encoder.inputs[0].shape];
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  createRandom(seed).fillNormal(data);
  return float32(shape, data);
}

/** Transforms before an encoder of images. */
export const transformsOf = ({ preparation }: FrozenEncoder): readonly TransformInput[] =>
  isImages(preparation) ? preparation.transforms : [];
