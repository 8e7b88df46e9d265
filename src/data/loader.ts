import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import {
  type BatchJob,
  type BatchPlan,
  type CorruptSample,
  type MadeBatch,
  makeBatch,
  type ViewArrays,
} from './batch.js';
import { type Dataset, sampleName } from './dataset.js';
import { wordsOf } from './modality.js';
import { type PreparationInput, planPreparation } from './plans.js';
import type { Field, Fields } from './preparation.js';
import { makePreparation } from './preparations.js';

/** Views of each sample that are made alike: how many (1 by default) and how, for images by their transforms. */
export type ViewOptions = { readonly count?: number } & PreparationInput;

/** Where in the training data a batch lies: `step` batches of `epoch` come before it. */
export interface Position {
  readonly epoch: number;
  readonly step: number;
}

export interface LoaderOptions {
  readonly batchSize: number;
  /** One entry for views of one kind; several for different ones (LeJEPA: 2 large, 6 small). One plain view by default. */
  readonly views?: readonly ViewOptions[];
  /** Decides order and transforms, together with the epoch and the sample. 0 by default. */
  readonly seed?: number;
  /** Always read the same part of a sample that could be read in parts (evaluation); off by default. */
  readonly still?: boolean;
  /** Another order each epoch; on by default. */
  readonly shuffle?: boolean;
  /** Leave out the last batch of an epoch where it is not full; on by default. */
  readonly dropLast?: boolean;
  /** The first batch to give: what a checkpoint noted of `position`. */
  readonly start?: Position;
  /** `next` gives nothing after so many epochs; by default it goes on for ever. */
  readonly epochs?: number;
  /** Threads that read and transform; 0 does it in this one. One for four cores in Node by default, none in a browser. */
  readonly threads?: number;
  /** Batches made ahead, at most; 2 by default and at least one a thread. */
  readonly prefetch?: number;
  /** Samples that cannot be read before it is an error; by default 1 %, at least 10. 0: the first one is. */
  readonly maxCorrupt?: number;
  /** Told of each sample that is skipped, and of other trouble that is no error; `console.warn` by default. */
  readonly log?: (message: string) => void;
}

export interface Batch extends Position {
  /** For each entry of `views` its fields, each [batch, count, ...]; of images `images` [..., channels, height, width]. */
  readonly views: readonly Fields[];
  /** Which samples these are. */
  readonly indices: Int32Array;
  /** Their classes, where the data set has labels. */
  readonly labels?: Int32Array;
}

export interface Loader extends AsyncIterable<Batch> {
  readonly stepsPerEpoch: number;
  /** Fields of each entry of `views`; shapes are those of one sample. */
  readonly fields: readonly (readonly Field[])[];
  /** Where the batch lies that `next` gives: store it to resume exactly there. */
  readonly position: Position;
  /** Different samples skipped so far. */
  readonly corrupt: number;
  /** The next batch; undefined after the last epoch. Rejects with a `JepaError` (too many corrupt samples, ...). */
  next(): Promise<Batch | undefined>;
  /**
   * Gives the memory of a batch back, to be filled again: fresh memory for every batch costs time. Optional; the batch must
   * not be used afterwards.
   */
  recycle(batch: Batch): void;
  /** Ends all threads. */
  close(): Promise<void>;
}

/** Makes batches: in this thread, or in others (`loader-threads-node.ts`). */
export interface BatchMaker {
  make(job: BatchJob): Promise<MadeBatch>;
  /** Keeps the process alive while somebody waits for a batch, and only then. */
  hold(waiting: boolean): void;
  close(): Promise<void>;
}

const inNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

/** Not written as a name in the import: bundlers for browsers would follow it. */
function loadThreading(): Promise<typeof import('./loader-threads-node.js')> {
  const name = './loader-threads-node.js';
  return import(/* webpackIgnore: true */ /* @vite-ignore */ name);
}

/**
 * Gives batches of a data set. The order of an epoch and the views of a sample follow from the seed alone, not from the
 * number of threads or from where the loader started. Throws a `JepaError` for options that cannot work.
 */
export async function createLoader(dataset: Dataset, options: LoaderOptions): Promise<Loader> {
  const { batchSize, seed = 0, shuffle = true, dropLast = true, epochs = Infinity } = options;
  const log = options.log ?? ((message: string) => console.warn(message));
  const maxCorrupt = options.maxCorrupt ?? Math.max(10, Math.floor(dataset.length / 100));
  const { length } = dataset;
  const { many } = wordsOf(dataset);
  if (!Number.isInteger(batchSize) || batchSize < 1)
    throw new JepaError(`loader: the batch size ${batchSize} must be 1 or more`);
  if (length < 1) throw new JepaError(`${dataset.name}: there are no ${many}`);
  const stepsPerEpoch = dropLast ? Math.floor(length / batchSize) : Math.ceil(length / batchSize);
  if (stepsPerEpoch < 1) {
    throw new JepaError(
      `${dataset.name}: a batch of ${batchSize} is more than its ${length} ${many}; set a smaller batch size`,
    );
  }
  const plan = makePlan(dataset, options.views ?? [{ transforms: [] }], seed, options.still ?? false);
  const threading = inNode && options.threads !== 0 ? await loadThreading() : undefined;
  const threads = threading ? (options.threads ?? threading.defaultThreads()) : 0;
  const prefetch = Math.max(1, threads, options.prefetch ?? 2);
  const maker = threading ? threading.threadMaker(dataset, plan, threads, log) : localMaker(dataset, plan);

  // Batches are numbered over all epochs: batch n is step n mod stepsPerEpoch of its epoch.
  const start = options.start ?? { epoch: 0, step: 0 };
  let given = start.epoch * stepsPerEpoch + start.step;
  let asked = given;
  const last = epochs * stepsPerEpoch;
  const positionOf = (n: number): Position => ({ epoch: Math.floor(n / stepsPerEpoch), step: n % stepsPerEpoch });
  const underWay: Promise<MadeBatch>[] = [];
  const fields = plan.views.map(({ preparation }) => makePreparation(preparation).fields);
  const spare: (readonly ViewArrays[])[] = [];
  const skipped = new Set<number>();
  let order: { epoch: number; indices: Int32Array } | undefined;
  let failure: unknown;
  let closed = false;

  function orderOf(epoch: number): Int32Array {
    if (order?.epoch !== epoch) {
      const indices = shuffle
        ? createRandom(seed, 'order', epoch).permutation(length)
        : Int32Array.from({ length }, (_, i) => i);
      order = { epoch, indices };
    }
    return order.indices;
  }

  function ask(): void {
    while (underWay.length < prefetch && asked < last) {
      const { epoch, step } = positionOf(asked++);
      const indices = orderOf(epoch).slice(step * batchSize, (step + 1) * batchSize);
      const batch = maker.make({ epoch, indices, memory: spare.pop() });
      // A failure is met when its turn comes.
      batch.catch(() => undefined);
      underWay.push(batch);
    }
  }

  /** Counts skipped samples in the order of the batches, so that the limit is met at the same batch every time. */
  function count(corrupt: readonly CorruptSample[]): void {
    for (const { index, message } of corrupt) {
      if (skipped.has(index)) continue;
      skipped.add(index);
      const name = sampleName(dataset, index);
      const line = message.includes(name) ? message : `${name}: ${message}`;
      if (skipped.size > maxCorrupt) {
        throw new JepaError(
          `${line} (${skipped.size} of ${length} ${many} cannot be read, more than maxCorrupt = ${maxCorrupt}; remove them or raise it)`,
        );
      }
      log(`skipped ${line} (${skipped.size} so far)`);
    }
  }

  async function giveNext(): Promise<Batch | undefined> {
    if (failure) throw failure;
    if (closed) throw new JepaError('loader: it is closed');
    ask();
    const head = underWay[0];
    if (!head) return undefined;
    maker.hold(true);
    try {
      const made = await head;
      count(made.corrupt);
      underWay.shift();
      const position = positionOf(given++);
      // The place that is free now is filled while the trainer works on this batch.
      ask();
      const { labels } = dataset;
      return {
        ...position,
        views: made.views.map((arrays, v) => {
          const leading = [made.indices.length, plan.views[v].count];
          const tensors = fields[v].map(({ name, dtype, shape }, f) => {
            return [name, { dtype, shape: [...leading, ...shape], data: arrays[f] }];
          });
          return Object.fromEntries(tensors) as Fields;
        }),
        indices: made.indices,
        labels: labels && made.indices.map((index) => labels[index]),
      };
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      maker.hold(false);
    }
  }

  // One at a time, so that two callers get two batches.
  let turn: Promise<unknown> = Promise.resolve();
  function next(): Promise<Batch | undefined> {
    const batch = turn.then(giveNext, giveNext);
    turn = batch;
    return batch;
  }

  return {
    stepsPerEpoch,
    fields,
    get position() {
      return positionOf(given);
    },
    get corrupt() {
      return skipped.size;
    },
    next,
    recycle({ views }) {
      if (spare.length > prefetch) return;
      spare.push(views.map((view, v) => fields[v].map(({ name }) => view[name].data)));
    },
    async close() {
      if (closed) return;
      closed = true;
      await maker.close();
    },
    async *[Symbol.asyncIterator]() {
      for (let batch = await next(); batch; batch = await next()) yield batch;
    },
  };
}

function makePlan(dataset: Dataset, views: readonly ViewOptions[], seed: number, still: boolean): BatchPlan {
  return {
    seed,
    still,
    length: dataset.length,
    samples: wordsOf(dataset).many,
    views: views.map(({ count = 1, ...preparation }, v) => {
      const where = `views[${v}]`;
      if (!Number.isInteger(count) || count < 1) throw new JepaError(`${where}: the count ${count} must be 1 or more`);
      return { count, preparation: planPreparation(preparation, dataset, where) };
    }),
  };
}

/** Makes batches in this thread, each in a turn of its own, after the caller has gone on with the batch before. */
function localMaker(dataset: Dataset, plan: BatchPlan): BatchMaker {
  let turn: Promise<unknown> = Promise.resolve();
  return {
    make(job) {
      const made = turn
        .catch(() => undefined)
        .then(() => new Promise((resolve) => setTimeout(resolve)))
        .then(() => makeBatch((index, random) => dataset.read(index, random), plan, job));
      turn = made;
      return made;
    },
    hold: () => undefined,
    async close() {
      await turn.catch(() => undefined);
    },
  };
}
