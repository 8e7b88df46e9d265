export interface Interrupts {
  readonly signal: AbortSignal;
  /** Lets Ctrl-C end the process at once again, unless it was interrupted. */
  release(): void;
}

/** The first Ctrl-C (or SIGTERM) raises the signal and is announced; the second ends the process with code 130. */
export function catchInterrupts(announce: () => void): Interrupts {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
    announce();
  };
  const names = ['SIGINT', 'SIGTERM'] as const;
  for (const name of names) process.on(name, stop);
  return {
    signal: controller.signal,
    release: () => {
      // Once interrupted the program is about to end: a second Ctrl-C still ends it with 130, not by the signal.
      if (controller.signal.aborted) return;
      for (const name of names) process.off(name, stop);
    },
  };
}
