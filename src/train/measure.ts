import { evenly } from '../base/evenly.js';
import type { Random } from '../base/random.js';
import { float32, type HostTensor, int32, sizeOf } from '../base/tensor.js';
import { type Dataset, subset } from '../data/dataset.js';
import { createLoader } from '../data/loader.js';
import { knnVote, nearestNeighbours } from '../eval/knn.js';
import { accuracy } from '../eval/logistic.js';
import { type Encoder, encoderInputs } from '../methods/method.js';
import type { Engine, Feeds, Program, State } from '../runtime/index.js';
import { evaluationPreparation } from './build.js';
import type { Config } from './config.js';
import type { DataFacts } from './facts.js';

/** Samples of one run of an encoder. */
const CHUNK = 256;

/** A program inputs of an encoder -> representation, [batch, features]. */
export function encoderProgram(engine: Engine, state: State, encoder: Encoder): Promise<Program> {
  const outputs = { representation: encoder.represent(encoderInputs(encoder)) };
  return engine.compile({ name: 'encoder', outputs }, state);
}

/** Samples of a data set as the encoder sees them, each input [n, ...]: all, or `count` of them evenly spread. */
export async function fixedSamples(
  dataset: Dataset,
  { inputs }: Encoder,
  config: Config,
  facts: DataFacts,
  count = dataset.length,
): Promise<Feeds> {
  const some = count < dataset.length ? subset(dataset, evenly(dataset.length, count)) : dataset;
  const n = some.length;
  const all = inputs.map(({ dtype, shape }): HostTensor<'float32' | 'int32'> => {
    const length = n * sizeOf(shape);
    return dtype === 'float32'
      ? float32([n, ...shape], new Float32Array(length))
      : int32([n, ...shape], new Int32Array(length));
  });
  let at = 0;
  for await (const { views, indices } of evaluationBatches(some, config, facts)) {
    inputs.forEach(({ name, shape }, i) => {
      all[i].data.set(views[0][name].data, at * sizeOf(shape));
    });
    at += indices.length;
  }
  return Object.fromEntries(inputs.map(({ name }, i) => [name, all[i]]));
}

/** Batches of a data set in order, as the encoder sees them. */
async function* evaluationBatches(dataset: Dataset, config: Config, facts: DataFacts, batchSize = CHUNK) {
  const loader = await createLoader(dataset, {
    batchSize: Math.min(batchSize, dataset.length),
    views: [evaluationPreparation(config, facts)],
    still: true,
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

/** Representations of samples, each input [n, ...] -> [n, features]. */
export async function encodeSamples(program: Program, samples: Feeds): Promise<HostTensor<'float32'>> {
  const n = Object.values(samples)[0].shape[0];
  const parts: HostTensor[] = [];
  for (let from = 0; from < n; from += CHUNK) {
    const to = Math.min(n, from + CHUNK);
    const chunk = Object.entries(samples).map(
      ([
        name,
        {
          dtype,
          shape: [, ...rest],
          data,
        },
      ]) => {
        const size = sizeOf(rest);
        return [name, { dtype, shape: [to - from, ...rest], data: data.subarray(from * size, to * size) }];
      },
    );
    parts.push((await program.run(Object.fromEntries(chunk) as Feeds)).outputs.representation);
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
 * energies of matched and shuffled pairs. A batch of one has no other samples: undefined.
 */
export async function pairEnergies(
  program: Program,
  feeds: Feeds,
  random: Random,
): Promise<{ energyMatched: number; energyShuffled: number } | undefined> {
  const { prediction, target } = (await program.run(feeds)).outputs;
  const batch = prediction.shape[0];
  if (batch < 2) return undefined;
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

/** Numbers of the prepared samples that the online probe keeps, half a gigabyte of them. */
const PROBE_NUMBERS = 2 ** 27;

/** A quick k-NN probe on a fixed part of the data: returns the accuracy in per cent. */
export async function onlineKnn(
  train: Dataset,
  heldOut: Dataset,
  encoder: Encoder,
  config: Config,
  facts: DataFacts,
): Promise<(program: Program) => Promise<number>> {
  // Prepared samples are kept: of large ones fewer.
  const room = Math.floor(PROBE_NUMBERS / encoder.inputs.reduce((sum, { shape }) => sum + sizeOf(shape), 0));
  const [bankSize, querySize] = [Math.min(4000, room), Math.min(1000, Math.ceil(room / 4))];
  const bankIndex = evenly(train.length, bankSize);
  const queryIndex = evenly(heldOut.length, querySize);
  const bank = await fixedSamples(subset(train, bankIndex), encoder, config, facts);
  const queries = await fixedSamples(subset(heldOut, queryIndex), encoder, config, facts);
  const labelsOf = (dataset: Dataset, index: Int32Array): Int32Array => index.map((i) => dataset.labels?.[i] ?? -1);
  const bankLabels = labelsOf(train, bankIndex);
  const queryLabels = labelsOf(heldOut, queryIndex);
  const classes = Math.max(...bankLabels, ...queryLabels) + 1;
  return async (program) => {
    const k = Math.min(20, bankIndex.length);
    const neighbours = nearestNeighbours(await encodeSamples(program, bank), await encodeSamples(program, queries), k);
    return 100 * accuracy(knnVote(neighbours, bankLabels, classes).predictions, queryLabels);
  };
}
