import { JepaError } from '../base/errors.js';
import type { Backend } from '../graph/lower.js';
import { ortPackage } from './ort.js';
import type { Sessions } from './sessions.js';

/** What the page asks of its worker: a method of `Sessions` with its arguments. */
export interface Call {
  readonly id: number;
  readonly method: keyof Sessions | 'start';
  readonly args: readonly unknown[];
}

export type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: string };

/** Sessions in a web worker, so that a step does not freeze the page. State stays in the worker. */
export async function openSessionsInWorker(backend: Backend): Promise<Sessions> {
  const worker = new Worker(new URL('./sessions-worker-web.js', import.meta.url), { type: 'module', name: 'jepa' });
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  let next = 0;
  let failure: JepaError | undefined;
  worker.onmessage = ({ data }: MessageEvent<Answer>) => {
    const call = waiting.get(data.id);
    waiting.delete(data.id);
    if ('error' in data) call?.reject(new JepaError(data.error));
    else call?.resolve(data.result);
  };
  worker.onerror = (event) => {
    failure = new JepaError(`runtime: the web worker stopped (${event.message ?? 'its script could not be loaded'})`);
    for (const call of waiting.values()) call.reject(failure);
    waiting.clear();
  };
  const call =
    <M extends keyof Sessions | 'start'>(method: M) =>
    async (...args: readonly unknown[]): Promise<never> => {
      if (failure) throw failure;
      const id = next++;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
        worker.postMessage({ id, method, args } satisfies Call);
      });
    };
  await call('start')(backend, resolvedUrl(ortPackage(backend)));
  return {
    open: call('open'),
    run: call('run'),
    release: call('release'),
    upload: call('upload'),
    download: call('download'),
    drop: call('drop'),
    close: async () => {
      await call('close')();
      worker.terminate();
    },
  };
}

/** Import maps are for pages: a worker has to be told where a package lies. Bundlers resolve names in both. */
function resolvedUrl(name: string): string | undefined {
  try {
    return import.meta.resolve(name);
  } catch {
    return undefined;
  }
}
