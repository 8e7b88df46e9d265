import { JepaError } from '../base/errors.js';
import { createRandom, type Random } from '../base/random.js';
import { sizeOf } from '../base/tensor.js';
import type { FieldArray } from './preparation.js';
import { makePreparation, type PreparationPlan } from './preparations.js';

/**
 * How batches are made; plain data, the same in the trainer's thread and in loader threads. This file does the work in
 * both, so a batch does not depend on where it is made.
 */
export interface BatchPlan {
  readonly seed: number;
  readonly length: number;
  /** Read the same part of a sample every time, where it could be read in parts. */
  readonly still: boolean;
  /** What samples are called in messages, `images`. */
  readonly samples: string;
  readonly views: readonly ViewPlan[];
}

export interface ViewPlan {
  readonly count: number;
  readonly preparation: PreparationPlan;
}

export interface BatchJob {
  readonly epoch: number;
  /** Wanted samples. */
  readonly indices: Int32Array;
  /** Arrays of an earlier batch to be written over: fresh memory costs as much as an augmentation. */
  readonly memory?: readonly ViewArrays[];
}

/** One array for each field of a view: [batch, count, ...field]. */
export type ViewArrays = readonly FieldArray[];

export interface MadeBatch {
  readonly views: readonly ViewArrays[];
  /** Samples used: those wanted, or the next readable one. */
  readonly indices: Int32Array;
  readonly corrupt: readonly CorruptSample[];
}

export interface CorruptSample {
  readonly index: number;
  readonly message: string;
}

/** `random` belongs to the sample that was wanted. */
export type Read = (index: number, random?: Random) => unknown;

/** Reads under way while the samples before them are prepared. */
const READ_AHEAD = 4;

/**
 * Reads the samples of a job in order, several at once, and hands each to `visit`. A sample that cannot be read is
 * replaced by the next one (in the order of the data set) that can. Throws a `JepaError` if none can.
 */
export async function readSamples(
  read: Read,
  { length, samples, seed, still }: Omit<BatchPlan, 'views'>,
  { epoch, indices: wanted }: BatchJob,
  visit: (position: number, sample: unknown, index: number) => void,
): Promise<CorruptSample[]> {
  const corrupt: CorruptSample[] = [];
  const draws = createRandom(seed, 'reads', epoch);
  const drawsOf = (position: number) => (still ? undefined : draws.split(wanted[position]));
  const started: unknown[] = [];
  const start = (position: number) => {
    try {
      const sample = read(wanted[position], drawsOf(position));
      // A failure is met when its turn comes.
      if (sample instanceof Promise) sample.catch(() => undefined);
      started[position] = sample;
    } catch (error) {
      started[position] = Promise.reject(error);
      (started[position] as Promise<unknown>).catch(() => undefined);
    }
  };
  for (let position = 0; position < wanted.length; position++) {
    while (started.length < Math.min(wanted.length, position + READ_AHEAD)) start(started.length);
    let sample: unknown;
    let index = wanted[position];
    for (let tried = 0; sample === undefined; tried++) {
      if (tried === length)
        throw new JepaError(
          length === 1
            ? corrupt[0].message
            : `none of the ${length} ${samples} can be read; the first: ${corrupt[0].message}`,
        );
      try {
        sample = await (tried === 0 ? started[position] : read(index, drawsOf(position)));
      } catch (error) {
        corrupt.push({ index, message: (error as Error).message.split('\n', 1)[0] });
        index = (index + 1) % length;
      }
    }
    delete started[position];
    visit(position, sample, index);
  }
  return corrupt;
}

/** The arrays of a batch, and a function that fills in the views of one sample. */
export function startBatch(
  plan: BatchPlan,
  job: BatchJob,
): { views: readonly ViewArrays[]; prepare: (position: number, sample: unknown) => void } {
  const kinds = plan.views.map(({ count, preparation }) => ({ count, ...makePreparation(preparation) }));
  const views = kinds.map(({ count, fields }, v) =>
    fields.map(({ dtype, shape }, f) => {
      const length = job.indices.length * count * sizeOf(shape);
      const kept = job.memory?.[v][f];
      if (kept?.length === length) return kept;
      return dtype === 'float32' ? new Float32Array(length) : new Int32Array(length);
    }),
  );
  const epoch = createRandom(plan.seed, 'views', job.epoch);
  const viewsOfSample = plan.views.reduce((sum, { count }) => sum + count, 0);
  const prepare = (position: number, sample: unknown) => {
    // The generator follows the sample that was wanted, so a replaced one does not disturb the others.
    let stream = job.indices[position] * viewsOfSample;
    for (const [v, kind] of kinds.entries()) {
      for (let i = 0; i < kind.count; i++) {
        const view = position * kind.count + i;
        const out = kind.fields.map(({ shape }, f) => {
          const size = sizeOf(shape);
          return views[v][f].subarray(view * size, (view + 1) * size);
        });
        kind.prepare(sample, epoch.split(stream++), out);
      }
    }
  };
  return { views, prepare };
}

/** Reads and prepares a whole batch in this thread. */
export async function makeBatch(read: Read, plan: BatchPlan, job: BatchJob): Promise<MadeBatch> {
  const { views, prepare } = startBatch(plan, job);
  const indices = job.indices.slice();
  const corrupt = await readSamples(read, plan, job, (position, sample, index) => {
    indices[position] = index;
    prepare(position, sample);
  });
  return { views, indices, corrupt };
}
