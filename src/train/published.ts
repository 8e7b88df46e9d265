import { basename } from 'node:path';
import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import type { PreparationInput } from '../data/plans.js';
import { parseTransforms, type Transform, type TransformInput } from '../data/transforms.js';
import type { ClipTransform, ClipTransformInput } from '../data/video/transforms.js';
import { describeModel } from '../hub/describe.js';
import { type CheckpointOptions, loadEncoder } from '../hub/encoder-files.js';
import type { LoadedEncoder } from '../hub/ijepa-names.js';
import { publishedTransforms } from '../hub/model-folder.js';
import { makeBackbone } from '../methods/backbone.js';
import type { VitConfig } from '../nn/vit.js';
import type { FrozenEncoder } from './frozen.js';

/**
 * Opens published weights (see `loadEncoder`) as an encoder, with the preparation that the files say, else the one they
 * were published with. `options.frames` is the length of a clip, for models whose positions are rotary.
 */
export function openPublished(path: string, options: CheckpointOptions = {}): FrozenEncoder {
  const loaded = loadEncoder(path, options);
  const { config: stored, family = 'ijepa' } = loaded;
  const config = options.frames === undefined ? stored : ofFrames(path, stored, options.frames);
  const encoder = makeBackbone('encoder.', { ...config, kind: 'vit' });
  const { prefix } = encoder.module;
  const { licence } = describeModel(path, loaded);
  return {
    name: basename(path),
    encoder,
    weights: new Map(
      Array.from(loaded.weights, ([name, value]): [string, HostTensor<'float32'>] => [`${prefix}${name}`, value]),
    ),
    preparation: preparationOf(path, loaded, config),
    facts: { method: family, licence },
  };
}

/** The same encoder for clips of another length, where positions have no table. */
function ofFrames(path: string, config: VitConfig, frames: number): VitConfig {
  if (config.frames === frames) return config;
  if (config.frames === undefined) throw new JepaError(`${path}: this is an encoder of images; leave out the frames`);
  if (typeof config.positions !== 'object')
    throw new JepaError(`${path}: its positions are a table for clips of ${config.frames} frames, not of ${frames}`);
  const tubelet = config.tubeletSize as number;
  if (frames % tubelet !== 0)
    throw new JepaError(`${path}: ${frames} frames do not divide into patches of ${tubelet} frames`);
  return { ...config, frames };
}

function preparationOf(path: string, loaded: LoadedEncoder, config: VitConfig): PreparationInput {
  const transforms = loaded.transforms ?? publishedTransforms(config);
  if (config.frames === undefined) return { transforms };
  // Where a processor of Hugging Face is said, frames are resized as it does; else as Meta's evaluations do.
  const like = loaded.resizing ?? (loaded.transforms ? 'Hugging Face' : 'papers');
  return { kind: 'video', transform: { ...clipTransform(path, transforms, config), like } };
}

/** What frames go through, as a published model says it: the reverse of `preparationOf`. Of several views the middle one. */
export function frameSteps(transform: Extract<ClipTransform, { kind: 'evaluate' }>): {
  readonly transforms: Transform[];
  readonly resizing: 'papers' | 'Hugging Face';
} {
  const { size, views, mean, std, like } = transform;
  const shortSide = transform.shortSide ?? (views > 1 ? size : Math.trunc((size * 256) / 224));
  const transforms = parseTransforms([
    { kind: 'resize', size: shortSide, fit: 'shortEdge', filter: 'bilinear' },
    { kind: 'centerCrop', size },
    { kind: 'normalize', mean, std },
  ]);
  return { transforms, resizing: like };
}

/** The same steps for every frame of a clip, in the one form that they are computed in. */
function clipTransform(
  path: string,
  steps: readonly Transform[],
  { imageSize: [height, width] }: VitConfig,
): Extract<ClipTransformInput, { kind: 'evaluate' }> {
  const refuse = (what: string): never => {
    throw new JepaError(`${path}: the preparation of its clips ${what}, which is not supported`);
  };
  if (height !== width) return refuse(`ends in frames of ${width} x ${height}`);
  let [shortSide, mean, std]: [number, number[], number[]] = [height, [0], [1]];
  for (const step of steps as readonly TransformInput[]) {
    if (
      step.kind === 'resize' &&
      typeof step.size === 'number' &&
      step.fit === 'shortEdge' &&
      step.filter === 'bilinear'
    )
      shortSide = step.size;
    else if (step.kind === 'centerCrop' && [step.size].flat().every((side) => side === height)) continue;
    else if (step.kind === 'normalize') [mean, std] = [[...step.mean], [...step.std]];
    else return refuse(`has the step ${step.kind} to ${height} x ${width}`);
  }
  return { kind: 'evaluate', size: height, shortSide, mean, std };
}
