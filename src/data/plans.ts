import { JepaError } from '../base/errors.js';
import type { Dataset, ImageDataset } from './dataset.js';
import { type Modality, wordsOf } from './modality.js';
import type { PreparationPlan } from './preparations.js';
import { parseTransforms, type TransformInput, transformedSize } from './transforms.js';

/** How samples are prepared, as it stands in a configuration; without `kind` they are images. */
export type PreparationInput = ImageInput;

export interface ImageInput {
  readonly kind?: 'image';
  readonly transforms: readonly TransformInput[];
}

/** The preparation that gives a sample's own numbers: of an input of `shape` as many values, or about `most` where that is fewer. */
export function rawPreparation(_: PreparationInput, shape: readonly number[], most: number): PreparationInput {
  const [channels, height, width] = shape;
  const factor = Math.min(1, Math.sqrt(most / (channels * height * width)));
  const size: [number, number] = [Math.round(height * factor), Math.round(width * factor)];
  return { transforms: [{ kind: 'resize', size, fit: 'stretch' }] };
}

export const modalityOf = ({ kind = 'image' }: PreparationInput): Modality => kind;

/** Checks a preparation against the data that it is for. Throws a `JepaError` beginning with `where`. */
export function planPreparation(input: PreparationInput, dataset: Dataset, where: string): PreparationPlan {
  const [wanted, given] = [wordsOf({ modality: modalityOf(input) }), wordsOf(dataset)];
  if (wanted !== given) {
    throw new JepaError(`${where}: ${dataset.name} holds ${given.many}, not ${wanted.many}`);
  }
  return planImages(input, dataset as ImageDataset, where);
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
