import { Worker } from 'node:worker_threads';
import { JepaError } from '../base/errors.js';
import { runtimeFailure, withoutTelemetry } from './ort.js';
import { MOST_CLIP_SETS } from './update.js';
import { CONTROL, type Message, OTHER_FAILED, type Reply, type RunReply } from './worker-protocol.js';

/** The worker threads of the CPU backend. */
export interface CpuThreads {
  /** Sends every worker its message; the workers' results once all have replied. Not to be called again before that. */
  broadcast(message: Message | ((index: number) => Message)): Promise<(RunReply | null)[]>;
  terminate(): Promise<void>;
}

export function startThreads(count: number): CpuThreads {
  withoutTelemetry();
  const control = new SharedArrayBuffer(CONTROL.length * 4);
  const sums = new SharedArrayBuffer(count * MOST_CLIP_SETS * 8);
  const flags = new Int32Array(control);
  /** Why a thread has ended, if one has. */
  let dead: string | undefined;
  const threads = Array.from({ length: count }, (_, index) => {
    const worker = new Worker(new URL('./worker-node.js', import.meta.url), {
      workerData: { index, count, control, sums },
    });
    // An idle engine must not keep the process alive.
    worker.unref();
    const ended = (reason: string): void => {
      dead ??= reason;
      // The others may be waiting for this one.
      Atomics.store(flags, CONTROL.abort, 1);
      Atomics.notify(flags, CONTROL.generation);
    };
    worker.on('error', (error) => ended(error.message));
    worker.on('exit', (code) => ended(`a worker thread stopped (code ${code})`));
    return worker;
  });

  return {
    broadcast: async (message) => {
      if (dead !== undefined) throw new JepaError(`engine: it has failed and must be started anew (${dead})`);
      const replies = await Promise.all(
        threads.map((worker, index) => ask(worker, typeof message === 'function' ? message(index) : message)),
      );
      const failures = replies.flatMap((r) => (r.ok ? [] : [r.error]));
      if (failures.length > 0) {
        Atomics.store(flags, CONTROL.arrived, 0);
        Atomics.store(flags, CONTROL.abort, 0);
        // The cause, not what it made the others say.
        throw new JepaError(runtimeFailure(failures.find((text) => text !== OTHER_FAILED) ?? failures[0]));
      }
      return replies.map((r) => (r.ok ? r.result : null));
    },
    terminate: async () => {
      dead = 'it is closed';
      await Promise.all(threads.map((worker) => worker.terminate()));
    },
  };
}

function ask(worker: Worker, message: Message): Promise<Reply> {
  return new Promise((resolve) => {
    const done = (reply: Reply): void => {
      worker.off('message', done);
      worker.off('error', failed);
      worker.off('exit', left);
      worker.unref();
      resolve(reply);
    };
    const failed = (error: Error): void => done({ ok: false, error: error.message });
    const left = (code: number): void => done({ ok: false, error: `a worker thread stopped (code ${code})` });
    worker.on('message', done);
    worker.on('error', failed);
    worker.on('exit', left);
    worker.ref();
    worker.postMessage(message);
  });
}
