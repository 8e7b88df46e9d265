/** Milliseconds of work between two turns of the event loop. */
const WORK = 40;
let last = 0;

/**
 * Lets signals, timers and messages have their turn, if the last one is long ago. Work that is a chain of promises which
 * are there at once (data that are made, not read) would let none of them through: Ctrl-C would wait for its end.
 */
export async function turn(): Promise<void> {
  if (performance.now() - last < WORK) return;
  await new Promise((resolve) => setTimeout(resolve));
  last = performance.now();
}

interface Readable {
  // biome-ignore lint/suspicious/noExplicitAny: data sets differ in what they are asked with
  read(...asked: any[]): Promise<unknown>;
}

/** The same data set, which takes turns between its samples. */
export function withTurns<D extends Readable>(dataset: D): D {
  const read = async (...asked: Parameters<D['read']>): Promise<unknown> => {
    await turn();
    return dataset.read(...asked);
  };
  return { ...dataset, read };
}
