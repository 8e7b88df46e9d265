import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { JepaError } from '../base/errors.js';
import { type BatchJob, type BatchPlan, type MadeBatch, readSamples } from './batch.js';
import type { Dataset, DatasetSource } from './dataset.js';
import type { BatchMaker } from './loader.js';

/** What a loader thread is started with. */
export interface ThreadStart {
  readonly plan: BatchPlan;
  /** Absent: samples come with each job. */
  readonly source?: DatasetSource;
}

/** To a loader thread; `close` ends it after the work under way. */
export type ToThread =
  | { readonly kind: 'job'; readonly id: number; readonly job: BatchJob; readonly samples?: readonly unknown[] }
  | { readonly kind: 'close' };

/** From a loader thread. */
export type FromThread =
  | { readonly kind: 'made'; readonly id: number; readonly batch: MadeBatch }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string; readonly stack?: string }
  | { readonly kind: 'notice'; readonly message: string };

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, { resolve: (batch: MadeBatch) => void; reject: (error: Error) => void }>;
  readonly ended: Promise<void>;
}

/** Training takes all cores; one thread for four of them keeps it supplied. */
export function defaultThreads(): number {
  return Math.min(8, Math.max(1, Math.floor(availableParallelism() / 4)));
}

/** Makes batches in worker threads. A data set without a `source` is read here and only prepared there. */
export function threadMaker(
  dataset: Dataset,
  plan: BatchPlan,
  count: number,
  notice: (message: string) => void,
): BatchMaker {
  const start: ThreadStart = { plan, source: dataset.source };
  const threads = Array.from({ length: count }, () => startThread(start, notice));
  let nextId = 0;
  let closed = false;

  function send(job: BatchJob, samples?: readonly unknown[]): Promise<MadeBatch> {
    const thread = threads.reduce((least, one) => (one.waiting.size < least.waiting.size ? one : least));
    const id = nextId++;
    return new Promise((resolve, reject) => {
      thread.waiting.set(id, { resolve, reject });
      const handedOver = [...(job.memory?.flat() ?? []), ...arraysIn(samples)].map(({ buffer }) => buffer);
      thread.worker.postMessage(
        { kind: 'job', id, job, samples } satisfies ToThread,
        handedOver.filter((buffer) => buffer instanceof ArrayBuffer),
      );
    });
  }

  async function readHere(job: BatchJob): Promise<MadeBatch> {
    const samples: unknown[] = [];
    const indices = job.indices.slice();
    const corrupt = await readSamples(
      (index, random) => dataset.read(index, random),
      plan,
      job,
      (position, sample, index) => {
        // A copy of its own: its arrays are handed over, and a view would take everything around it along.
        samples[position] = copied(sample);
        indices[position] = index;
      },
    );
    return { ...(await send(job, samples)), indices, corrupt };
  }

  return {
    make: (job) =>
      closed ? Promise.reject(new JepaError('loader: it is closed')) : dataset.source ? send(job) : readHere(job),
    hold(waiting) {
      for (const { worker } of threads) waiting ? worker.ref() : worker.unref();
    },
    async close() {
      closed = true;
      for (const { worker, waiting } of threads) {
        for (const { reject } of waiting.values()) reject(new JepaError('loader: it is closed'));
        waiting.clear();
        worker.ref();
        worker.postMessage({ kind: 'close' } satisfies ToThread);
      }
      await Promise.all(threads.map(({ ended }) => ended));
    },
  };
}

type TypedArray = Uint8Array | Int16Array | Int32Array | Float32Array | Float64Array;

const isArray = (value: unknown): value is TypedArray => ArrayBuffer.isView(value) && !(value instanceof DataView);

/** Plain data with the same content, each typed array in memory of its own. */
function copied(value: unknown): unknown {
  // A slice of a Buffer would be a view.
  if (isArray(value)) return value instanceof Uint8Array ? new Uint8Array(value) : value.slice();
  if (Array.isArray(value)) return value.map(copied);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copied(inner)]));
}

/** The typed arrays in plain data. */
function arraysIn(value: unknown): TypedArray[] {
  if (isArray(value)) return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(arraysIn) : [];
}

/**
 * Flags of this process hold in its threads, where they are not named (flags of V8 would be refused then). How a program
 * given on the command line is to be read says nothing of a file, and would stop the thread: there none is taken along.
 */
const threadFlags = (): { execArgv?: string[] } =>
  process.execArgv.some((flag) => flag.startsWith('--input-type')) ? { execArgv: [] } : {};

function startThread(start: ThreadStart, notice: (message: string) => void): Thread {
  const worker = new Worker(new URL('./loader-worker-node.js', import.meta.url), {
    workerData: start,
    ...threadFlags(),
  });
  worker.unref();
  const waiting: Thread['waiting'] = new Map();
  const failAll = (error: Error) => {
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.on('message', (message: FromThread) => {
    if (message.kind === 'notice') {
      notice(message.message);
      return;
    }
    const waiter = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.kind === 'made') {
      waiter?.resolve(message.batch);
      return;
    }
    // Only an error that is no JepaError has its stack with it: it is a fault of the program, not of the data.
    const error = message.stack ? new Error(message.message) : new JepaError(message.message);
    if (message.stack) error.stack = message.stack;
    waiter?.reject(error);
  });
  worker.on('error', (error: Error) =>
    failAll(new JepaError(`loader: a thread stopped: ${error.message.split('\n', 1)[0]}`)),
  );
  const ended = new Promise<void>((resolve) => {
    worker.on('exit', () => {
      failAll(new JepaError('loader: a thread stopped unexpectedly'));
      resolve();
    });
  });
  return { worker, waiting, ended };
}
