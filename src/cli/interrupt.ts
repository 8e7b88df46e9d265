export interface Interrupts {
  readonly signal: AbortSignal;
  /** Lets Ctrl-C end the process at once again. */
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
      for (const name of names) process.off(name, stop);
    },
  };
}
