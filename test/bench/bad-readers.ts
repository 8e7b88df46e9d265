import type { Reader } from '../../bench/fuzz/reader.js';
import { JepaError } from '../../src/base/errors.js';

/** Readers with one fault each, which the fuzzer must see; the seed is `{"a": 1}`. */
const kept: unknown[] = [];
const seeds = () => ({ files: [new TextEncoder().encode('{"a": 1}')] });
const faults: Readonly<Record<string, Reader['read']>> = {
  none: (bytes) => {
    if (bytes.length % 2 === 0) throw new JepaError('refused');
    return new Uint8Array(bytes.length);
  },
  exception: (bytes) => JSON.parse(Buffer.from(bytes).toString('latin1')),
  'several lines': () => {
    throw new JepaError('one\ntwo');
  },
  allocates: () => void new Float64Array(1 << 20),
  announces: (_, { announce }) => {
    announce(8 << 20);
    return new Float64Array(1 << 20);
  },
  evaluates: (bytes) => {
    try {
      // biome-ignore lint/security/noGlobalEval: the fault that is to be seen
      globalThis.eval(Buffer.from(bytes).toString('latin1'));
    } catch {
      throw new JepaError('refused');
    }
  },
  pollutes: () => Object.assign(Array.prototype, { polluted: true }),
  hangs: () => {
    for (;;);
  },
  grows: () => {
    for (let i = 0; ; i++) kept.push(Array.from({ length: 1000 }, (_, j) => ({ i, j })));
  },
};

export const ALL: readonly Reader[] = Object.entries(faults).map(([name, read]) => ({ name, seeds, read }));
