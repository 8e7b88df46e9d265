import type { Backend } from '../../src/graph/lower.js';

/** Backend that the golden values are checked on: JEPA_TARGET = cpu (default), wasm or webgpu. */
export const goldenBackend = (process.env.JEPA_TARGET ?? 'cpu') as Backend;
