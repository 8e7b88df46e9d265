import { JepaError } from '../base/errors.js';
import { type ImageDataset, subset } from '../data/dataset.js';

/** A data set with a label for every image. */
export type LabelledDataset = ImageDataset & { readonly labels: Int32Array };

/** The images of a data set that have a label. */
export function labelled(dataset: ImageDataset): LabelledDataset {
  const { labels, name } = dataset;
  if (!labels)
    throw new JepaError(`${name}: there are no labels to learn from; put the images into one folder a class`);
  const known = Array.from(labels.keys()).filter((i) => labels[i] >= 0);
  if (known.length === 0) throw new JepaError(`${name}: no image has a label`);
  return (known.length === labels.length ? dataset : subset(dataset, known)) as LabelledDataset;
}

/** What probes and fine-tuning start from: labelled images of both parts and the names of their classes. */
export function labelledParts(
  train: ImageDataset,
  test: ImageDataset,
): { readonly train: LabelledDataset; readonly test: LabelledDataset; readonly classes: readonly string[] } {
  const parts = { train: labelled(train), test: labelled(test) };
  const { labels, classNames, name } = parts.train;
  if (labels.every((label) => label === labels[0])) {
    throw new JepaError(`${name}: all images are of one class; at least two are needed`);
  }
  const count = Math.max(largestLabel(labels), largestLabel(parts.test.labels)) + 1;
  return { ...parts, classes: Array.from({ length: count }, (_, label) => classNames?.[label] ?? String(label)) };
}

export const largestLabel = (labels: Int32Array): number => labels.reduce((a, b) => Math.max(a, b), 0);
