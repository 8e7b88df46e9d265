import type { Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { type ImageDataset, subset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import { knnVote, nearestNeighbours } from '../eval/knn.js';
import { accuracy } from '../eval/logistic.js';
import { input } from '../graph/tensor.js';
import type { Encoder } from '../methods/method.js';
import type { Engine, Feeds, Program, State } from '../runtime/index.js';
import { evaluationViews } from './build.js';
import type { Config } from './config.js';

/** Images of one run of an encoder. */
const CHUNK = 256;

/** A program images -> representation, [batch, features]. */
export function encoderProgram(engine: Engine, state: State, encoder: Encoder): Promise<Program> {
  const images = input('images', ['batch', encoder.channels, ...encoder.imageSize]);
  return engine.compile({ name: 'encoder', outputs: { representation: encoder.represent(images) } }, state);
}

/** Images of a data set as the encoder sees them, [n, channels, height, width]: all, or `count` of them evenly spread. */
export async function fixedImages(
  dataset: ImageDataset,
  config: Config,
  count = dataset.length,
): Promise<HostTensor<'float32'>> {
  const n = Math.min(count, dataset.length);
  const some =
    n === dataset.length
      ? dataset
      : subset(
          dataset,
          Int32Array.from({ length: n }, (_, i) => Math.floor((i * dataset.length) / n)),
        );
  let all: Float32Array | undefined;
  let size: readonly number[] = [];
  let at = 0;
  for await (const { images } of evaluationBatches(some, config)) {
    const [view] = images;
    size = view.shape.slice(2);
    all ??= new Float32Array(n * size.reduce((a, b) => a * b, 1));
    all.set(view.data, at);
    at += view.data.length;
  }
  return float32([n, ...size], all ?? new Float32Array(0));
}

/** Batches of a data set in order, as the encoder sees them. */
export async function* evaluationBatches(dataset: ImageDataset, config: Config, batchSize = CHUNK) {
  const loader = await createLoader(dataset, {
    batchSize: Math.min(batchSize, dataset.length),
    views: [{ count: 1, transforms: evaluationViews(config) }],
    shuffle: false,
    dropLast: false,
    epochs: 1,
    threads: config.data.threads,
    maxCorrupt: config.data.maxCorrupt,
  });
  try {
    for (let batch = await loader.next(); batch; batch = await loader.next()) yield batch;
  } finally {
    await loader.close();
  }
}

/** Representations of images [n, channels, height, width] -> [n, features]. */
export async function encodeImages(program: Program, images: HostTensor<'float32'>): Promise<HostTensor<'float32'>> {
  const [n, ...size] = images.shape;
  const pixels = size.reduce((a, b) => a * b, 1);
  const parts: HostTensor[] = [];
  for (let from = 0; from < n; from += CHUNK) {
    const to = Math.min(n, from + CHUNK);
    const chunk = float32([to - from, ...size], images.data.subarray(from * pixels, to * pixels));
    parts.push((await program.run({ images: chunk })).outputs.representation);
  }
  const width = parts[0].shape[1];
  const all = new Float32Array(n * width);
  let at = 0;
  for (const { data } of parts) {
    all.set(data as Float32Array, at);
    at += data.length;
  }
  return float32([n, width], all);
}

/**
 * Mean squared error of predictions against their own targets and against those of other samples of the batch: the
 * energies of matched and shuffled pairs.
 */
export async function pairEnergies(
  program: Program,
  feeds: Feeds,
  random: Random,
): Promise<{ energyMatched: number; energyShuffled: number }> {
  const { prediction, target } = (await program.run(feeds)).outputs;
  const batch = prediction.shape[0];
  const row = prediction.data.length / batch;
  // A random cycle: every sample meets another one's target.
  const order = random.permutation(batch);
  const other = new Int32Array(batch);
  order.forEach((sample, i) => {
    other[sample] = order[(i + 1) % batch];
  });
  const p = prediction.data as Float32Array;
  const t = target.data as Float32Array;
  let matched = 0;
  let shuffled = 0;
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < row; i++) {
      matched += (p[b * row + i] - t[b * row + i]) ** 2;
      shuffled += (p[b * row + i] - t[other[b] * row + i]) ** 2;
    }
  }
  return { energyMatched: matched / p.length, energyShuffled: shuffled / p.length };
}

/** A quick k-NN probe on a fixed part of the data: returns the accuracy in per cent. */
export async function onlineKnn(
  train: ImageDataset,
  heldOut: ImageDataset,
  config: Config,
): Promise<(program: Program) => Promise<number>> {
  const [bankSize, querySize] = [4000, 1000];
  const pick = (dataset: ImageDataset, count: number): Int32Array =>
    Int32Array.from({ length: Math.min(count, dataset.length) }, (_, i) =>
      Math.floor((i * dataset.length) / Math.min(count, dataset.length)),
    );
  const bankIndex = pick(train, bankSize);
  const queryIndex = pick(heldOut, querySize);
  const bank = await fixedImages(subset(train, bankIndex), config);
  const queries = await fixedImages(subset(heldOut, queryIndex), config);
  const labelsOf = (dataset: ImageDataset, index: Int32Array): Int32Array =>
    index.map((i) => dataset.labels?.[i] ?? -1);
  const bankLabels = labelsOf(train, bankIndex);
  const queryLabels = labelsOf(heldOut, queryIndex);
  const classes = Math.max(...bankLabels, ...queryLabels) + 1;
  return async (program) => {
    const neighbours = nearestNeighbours(await encodeImages(program, bank), await encodeImages(program, queries), 20);
    return 100 * accuracy(knnVote(neighbours, bankLabels, classes).predictions, queryLabels);
  };
}
