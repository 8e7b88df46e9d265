import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import { type Dataset, sampleName, subset } from './dataset.js';
import { wordsOf } from './modality.js';

/** 32 bits of FNV-1a over UTF-16 units, mixed at the end: the same text gives the same number everywhere. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/** Fewest samples of a side: of one alone nothing can be compared. */
const FEWEST = 2;

/**
 * Takes about `share` of the samples as a test set, by a hash of their names: the same ones every time, and a sample keeps
 * its side when others are added (while there are more than a few). At least two are on either side; throws a `JepaError`
 * where there are too few for that.
 */
export function splitByHash<D extends Dataset>(dataset: D, share: number): { train: D; test: D } {
  const { length } = dataset;
  // Only the end of a path counts, so that moving the whole folder changes nothing.
  const nameOf = (i: number): string => sampleName(dataset, i).replaceAll('\\', '/').split('/').slice(-2).join('/');
  const hashes = Uint32Array.from({ length }, (_, i) => hash(nameOf(i)));
  // Samples of one name, as a list or a mixture may have them, stay together and count once.
  const sorted = Uint32Array.from(new Set(hashes)).sort();
  const limit = Math.min(Math.max(share * 2 ** 32, sorted[FEWEST - 1] + 1), sorted[sorted.length - FEWEST]);
  if (!(limit > sorted[FEWEST - 1])) {
    const { one, many } = wordsOf(dataset);
    throw new JepaError(
      `${dataset.name}: ${length} ${length === 1 ? `${one} is` : `${many} are`} too few to hold some out for testing; give at least ${2 * FEWEST}, or name others (data.test)`,
    );
  }
  const train: number[] = [];
  const test: number[] = [];
  hashes.forEach((value, i) => {
    (value < limit ? test : train).push(i);
  });
  return {
    train: subset(dataset, train, `${dataset.name} (train)`),
    test: subset(dataset, test, `${dataset.name} (test)`),
  };
}

function samplesByClass(dataset: Dataset): Map<number, number[]> {
  const { labels } = dataset;
  if (!labels)
    throw new JepaError(
      `${dataset.name}: there are no labels; put the ${wordsOf(dataset).many} into one folder a class`,
    );
  const classes = new Map<number, number[]>();
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] < 0) continue;
    const members = classes.get(labels[i]);
    if (members) members.push(i);
    else classes.set(labels[i], [i]);
  }
  return classes;
}

/** `count(size)` samples of every class, chosen by the seed, in the order of the data set. */
function ofEveryClass(dataset: Dataset, seed: number, count: (size: number, label: number) => number): Int32Array {
  const chosen: number[] = [];
  for (const [label, members] of samplesByClass(dataset)) {
    const order = createRandom(seed, 'labels', label).permutation(members.length);
    for (const i of order.subarray(0, count(members.length, label))) chosen.push(members[i]);
  }
  return Int32Array.from(chosen).sort();
}

/** Indices of `shots` labelled samples a class. A larger number contains the smaller ones. Throws if a class has fewer. */
export function fewShots(dataset: Dataset, shots: number, seed: number): Int32Array {
  return ofEveryClass(dataset, seed, (size, label) => {
    if (size < shots) {
      const name = dataset.classNames?.[label] ?? String(label);
      throw new JepaError(
        `${dataset.name}: class ${name} has ${size} ${wordsOf(dataset).many}, ${shots} were asked for`,
      );
    }
    return shots;
  });
}

/** Indices of a share of the labelled samples (0.01 for 1 %), the same share of every class and at least one of each. */
export function labelShare(dataset: Dataset, share: number, seed: number): Int32Array {
  return ofEveryClass(dataset, seed, (size) => Math.max(1, Math.round(share * size)));
}
