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

/** The same data set, which takes turns between its samples. */
export function withTurns<D extends { read(...asked: never[]): Promise<unknown> }>(dataset: D): D {
  const read = async (...asked: never[]): Promise<unknown> => {
    await turn();
    return dataset.read(...asked);
  };
  return { ...dataset, read };
}
