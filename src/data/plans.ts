import { JepaError } from '../base/errors.js';
import type { SoundDataset } from './audio/dataset.js';
import { planSound, type SoundInput } from './audio/preparation.js';
import type { Dataset, ImageDataset } from './dataset.js';
import type { EpisodeDataset } from './episodes/dataset.js';
import { type EpisodeInput, planEpisodes } from './episodes/preparation.js';
import { type Modality, wordsOf } from './modality.js';
import type { PreparationPlan } from './preparations.js';
import type { SkeletonDataset } from './skeleton/dataset.js';
import { planSkeletons, type SkeletonInput } from './skeleton/preparation.js';
import { planTexts, type TextInput } from './text/plan.js';
import { parseTransforms, type TransformInput, transformedSize } from './transforms.js';
import { type ClipDataset, planClips, type VideoInput } from './video/clips.js';

/** How samples are prepared, as it stands in a configuration; without `kind` they are images. */
export type PreparationInput = ImageInput | VideoInput | SoundInput | SkeletonInput | TextInput | EpisodeInput;

export interface ImageInput {
  readonly kind?: 'image';
  readonly transforms: readonly TransformInput[];
}

export const modalityOf = ({ kind = 'image' }: PreparationInput): Modality => kind;

export const isImages = (input: PreparationInput): input is ImageInput => modalityOf(input) === 'image';

/** Checks a preparation against the data that it is for. Throws a `JepaError` beginning with `where`. */
export function planPreparation(input: PreparationInput, dataset: Dataset, where: string): PreparationPlan {
  const [wanted, given] = [wordsOf({ modality: modalityOf(input) }), wordsOf(dataset)];
  if (wanted !== given) {
    throw new JepaError(`${where}: ${dataset.name} holds ${given.many}, not ${wanted.many}`);
  }
  switch (input.kind) {
    case 'video':
      return planClips(input, dataset as ClipDataset, where);
    case 'sound':
      return planSound(input, dataset as SoundDataset, where);
    case 'skeleton':
      return planSkeletons(input, dataset as SkeletonDataset, where);
    case 'text':
      return planTexts(input, where);
    case 'episodes':
      return planEpisodes(input, dataset as EpisodeDataset, where);
    default:
      return planImages(input, dataset as ImageDataset, where);
  }
}

function planImages({ transforms }: ImageInput, dataset: ImageDataset, where: string): PreparationPlan {
  const steps = parseTransforms(transforms, `${where}.transforms`);
  const size = transformedSize(steps, dataset);
  if (!size) {
    throw new JepaError(
      `${where}: the images of ${dataset.name} differ in size; add a resize, centerCrop or randomResizedCrop`,
    );
  }
  return { kind: 'image', steps, channels: dataset.channels, height: size[0], width: size[1] };
}

/**
 * The preparation whose first field is a sample's own numbers, without an encoder: what the encoder would see, whose input
 * has `shape`, in about `most` numbers where it has more; of texts their bag of words.
 */
export function rawPreparation(input: PreparationInput, shape: readonly number[], most: number): PreparationInput {
  const values = shape.reduce((a, b) => a * b, 1);
  switch (input.kind) {
    case 'video': {
      const [channels, frames, height] = shape;
      const size = Math.max(1, Math.min(height, Math.floor(Math.sqrt(most / (channels * frames)))));
      const { mean, std } = input.transform;
      return { kind: 'video', transform: { kind: 'evaluate', size, shortSide: size, mean, std } };
    }
    case 'sound': {
      if (typeof input.features === 'string' || values <= most) return { ...input, specAugment: undefined };
      const factor = Math.sqrt(most / values);
      const [frames, mels] = [input.features.frames, input.features.mels].map((n) =>
        Math.max(1, Math.round(n * factor)),
      );
      return { ...input, features: { ...input.features, frames, mels }, specAugment: undefined };
    }
    case 'skeleton': {
      const [frames, joints, coordinates] = shape;
      const kept = Math.max(1, Math.min(frames, Math.floor(most / (joints * coordinates))));
      return { ...input, frames: kept, view: undefined };
    }
    case 'text':
      return { ...input, bag: true };
    case 'episodes':
      return input;
    default: {
      const [channels, height, width] = shape;
      const factor = Math.min(1, Math.sqrt(most / (channels * height * width)));
      const size: [number, number] = [Math.round(height * factor), Math.round(width * factor)];
      return { transforms: [{ kind: 'resize', size, fit: 'stretch' }] };
    }
  }
}
