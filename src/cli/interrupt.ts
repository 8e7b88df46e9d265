/** Ctrl-C and SIGTERM: what a command does with them, and what it does where it says nothing. */

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** What is said of a command that was left at once. */
let parting = 'interrupted';

function leave(): void {
  // On a terminal the line may stand behind progress.
  process.stderr.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${parting}\n`);
  // Half-written files are removed on the way out (base/atomic.ts).
  process.exit(130);
}

const listen = (listener: () => void): void => {
  for (const name of SIGNALS) process.on(name, listener);
};
const unlisten = (listener: () => void): void => {
  for (const name of SIGNALS) process.off(name, listener);
};

/** From here on Ctrl-C ends the process at once, with one line and code 130. */
export function leaveOnInterrupt(): void {
  listen(leave);
}

/** What that line says from here on: what was kept, and how to go on. */
export function sayWhenInterrupted(line: string): void {
  parting = line;
}

export interface Interrupts {
  readonly signal: AbortSignal;
  /** Lets Ctrl-C end the process at once again, unless it was interrupted. */
  release(): void;
}

/** The first Ctrl-C (or SIGTERM) raises the signal and is announced; the second ends the process with code 130. */
export function catchInterrupts(announce: () => void, controller = new AbortController()): Interrupts {
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
    announce();
  };
  unlisten(leave);
  listen(stop);
  return {
    signal: controller.signal,
    release: () => {
      // Once interrupted the program is about to end: a second Ctrl-C still ends it with 130, not by the signal.
      if (controller.signal.aborted) return;
      unlisten(stop);
      listen(leave);
    },
  };
}
