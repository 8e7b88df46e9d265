import { JepaError } from '../base/errors.js';

/** Runs what it is given after everything that was given before. */
export type InTurn = <T>(body: () => Promise<T>) => Promise<T>;

/** One thing at a time, in the order of the calls; after `finish`, nothing more. */
export function turns(): { readonly inTurn: InTurn; readonly finish: (body: () => Promise<void>) => Promise<void> } {
  let last: Promise<unknown> = Promise.resolve();
  let finished: Promise<void> | undefined;
  const inTurn: InTurn = (body) => {
    if (finished) return Promise.reject(new JepaError('engine: it is closed'));
    const job = last.then(body);
    last = job.catch(() => undefined);
    return job;
  };
  return {
    inTurn,
    finish: (body) => {
      finished ??= inTurn(body);
      return finished;
    },
  };
}
