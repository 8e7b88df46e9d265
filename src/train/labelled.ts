import { JepaError } from '../base/errors.js';
import { type Dataset, subset } from '../data/dataset.js';
import { wordsOf } from '../data/modality.js';

/** A data set with a label for every image. */
export type LabelledDataset = Dataset & { readonly labels: Int32Array };

/** The samples of a data set that have a label. */
export function labelled(dataset: Dataset): LabelledDataset {
  const { labels, name } = dataset;
  const { one, many } = wordsOf(dataset);
  if (!labels)
    throw new JepaError(`${name}: there are no labels to learn from; put the ${many} into one folder a class`);
  const known = Array.from(labels.keys()).filter((i) => labels[i] >= 0);
  if (known.length === 0) throw new JepaError(`${name}: no ${one} has a label`);
  return (known.length === labels.length ? dataset : subset(dataset, known)) as LabelledDataset;
}

/** What probes and fine-tuning start from: labelled samples of both parts and the names of their classes. */
export function labelledParts(
  train: Dataset,
  test: Dataset,
): { readonly train: LabelledDataset; readonly test: LabelledDataset; readonly classes: readonly string[] } {
  const parts = { train: labelled(train), test: labelled(test) };
  const { labels, classNames, name } = parts.train;
  if (labels.every((label) => label === labels[0])) {
    throw new JepaError(`${name}: all ${wordsOf(parts.train).many} are of one class; at least two are needed`);
  }
  const count = Math.max(largestLabel(labels), largestLabel(parts.test.labels)) + 1;
  return { ...parts, classes: Array.from({ length: count }, (_, label) => classNames?.[label] ?? String(label)) };
}

export const largestLabel = (labels: Int32Array): number => labels.reduce((a, b) => Math.max(a, b), 0);
