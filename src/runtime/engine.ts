import { JepaError, UsageError } from '../base/errors.js';
import type { Backend } from '../graph/lower.js';
import { importInNode, inNode } from './ort.js';
import type { Engine } from './program.js';

export interface EngineOptions {
  /** Default: `cpu` in Node, `wasm` in a browser. */
  readonly backend?: Backend;
  /** Threads of the CPU backend that share a batch, at most 256; other backends have none. Default: one a core. */
  readonly workers?: number;
}

/** A slip of the keyboard should not start thousands of threads. */
export const MOST_THREADS = 256;

/** Starts an engine. Close it when done. Throws a `UsageError` for numbers of workers that cannot be. */
export async function createEngine({
  backend = inNode ? 'cpu' : 'wasm',
  workers,
}: EngineOptions = {}): Promise<Engine> {
  if (backend !== 'cpu') {
    if (workers !== undefined)
      throw new UsageError(
        `engine: workers share a batch on the cpu backend only; ${backend} computes it in one session: leave the number of workers out`,
      );
    return (await import('./engine-single.js')).createSingleEngine(backend);
  }
  if (!inNode) throw new JepaError('engine: the cpu backend runs in Node; a browser has wasm and webgpu');
  const { availableParallelism } = await importInNode<typeof import('node:os')>('node:os');
  const count = workers ?? availableParallelism();
  if (!Number.isInteger(count) || count < 1 || count > MOST_THREADS)
    throw new UsageError(`engine: workers must be a whole number from 1 to ${MOST_THREADS}, not ${workers}`);
  const { createCpuEngine } = await importInNode<typeof import('./engine-cpu-node.js')>('./engine-cpu-node.js');
  return createCpuEngine(count);
}
