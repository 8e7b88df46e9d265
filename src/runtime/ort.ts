import type * as Ort from 'onnxruntime-web';
import { JepaError } from '../base/errors.js';
import type { Backend } from '../graph/lower.js';

/** The part of ONNX Runtime that its Node and web packages share. */
export type OrtModule = Pick<typeof Ort, 'InferenceSession' | 'Tensor' | 'env'>;

const loaded = new Map<string, Promise<OrtModule>>();

/** In a browser or a web worker there is no onnxruntime-node. */
export const inNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

/** Loads the ONNX Runtime package that serves a backend. */
export function loadOrt(backend: Backend): Promise<OrtModule> {
  const name = inNode && backend !== 'wasm' ? 'onnxruntime-node' : 'onnxruntime-web';
  let module = loaded.get(name);
  if (!module) {
    module = importOrt(name);
    loaded.set(name, module);
  }
  return module;
}

async function importOrt(name: 'onnxruntime-node' | 'onnxruntime-web'): Promise<OrtModule> {
  try {
    const module = (
      name === 'onnxruntime-node' ? await import('onnxruntime-node') : await import('onnxruntime-web')
    ) as unknown as OrtModule;
    // Warnings of the runtime are about its own choices; problems reach the user as errors.
    module.env.logLevel = 'error';
    return module;
  } catch (error) {
    throw new JepaError(`runtime: cannot load ${name} (${(error as Error).message.split('\n')[0]}); install it with: npm install ${name}`);
  }
}
