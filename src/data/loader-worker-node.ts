import { parentPort, workerData } from 'node:worker_threads';
import { JepaError } from '../base/errors.js';
import { makeBatch, startBatch, type ViewArrays } from './batch.js';
import type { SampleReader } from './dataset.js';
import type { FromThread, ThreadStart, ToThread } from './loader-threads-node.js';
import { openSource } from './sources-node.js';

/** The body of a loader thread: makes one batch after the other, and hands over its memory. */

const { plan, source } = workerData as ThreadStart;
const port = parentPort!;
const post = (message: FromThread, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

const reader: Promise<SampleReader | undefined> = source
  ? openSource(source, (message) => post({ kind: 'notice', message }))
  : Promise.resolve(undefined);
// A source that cannot be opened fails the jobs, which wait for it.
reader.catch(() => undefined);

async function work({ id, job, samples }: Extract<ToThread, { kind: 'job' }>): Promise<void> {
  try {
    const open = await reader;
    if (open) {
      const batch = await makeBatch((index, random) => open.read(index, random), plan, job);
      post({ kind: 'made', id, batch }, buffersOf(batch.views));
    } else {
      const { views, prepare } = startBatch(plan, job);
      for (const [position, sample] of samples!.entries()) prepare(position, sample);
      post({ kind: 'made', id, batch: { views, indices: job.indices, corrupt: [] } }, buffersOf(views));
    }
  } catch (error) {
    const { message, stack } = error as Error;
    post({ kind: 'failed', id, message, stack: error instanceof JepaError ? undefined : stack });
  }
}

const buffersOf = (views: readonly ViewArrays[]) => views.flat().map(({ buffer }) => buffer as ArrayBuffer);

/** Jobs wait for the one before the last: while one is prepared, the samples of the next are already being read. */
let [before, last]: Promise<void>[] = [Promise.resolve(), Promise.resolve()];
let closing = false;
port.on('message', (message: ToThread) => {
  if (message.kind === 'close') {
    // Jobs not yet begun are dropped; nobody waits for them any more.
    closing = true;
    Promise.all([before, last])
      .then(async () => (await reader)?.close?.())
      .catch(() => undefined)
      .finally(() => port.close());
  } else {
    const made = before.then(() => (closing ? undefined : work(message)));
    [before, last] = [last, made];
  }
});
