import type * as Ort from 'onnxruntime-web';
import { JepaError } from '../base/errors.js';
import type { Backend } from '../graph/lower.js';

/** The part of ONNX Runtime that its Node and web packages share. */
export type OrtModule = Pick<typeof Ort, 'InferenceSession' | 'Tensor' | 'env'>;

const loaded = new Map<string, Promise<OrtModule>>();

/**
 * ONNX Runtime for Node keeps a device id and usage events in the user's cache folder and sends them to Microsoft, unless
 * this variable is set before it is loaded. Whoever wants that sets it to 0. Only the main thread reaches the environment
 * of the process: call it there, before threads load the runtime.
 */
export function withoutTelemetry(): void {
  if (inNode) process.env.ORT_DISABLE_TELEMETRY ??= '1';
}

/** In a browser or a web worker there is no onnxruntime-node. */
export const inNode = typeof process !== 'undefined' && process.versions?.node !== undefined;

/**
 * Imports what exists only in Node, from a file that browsers load too. The name is not written in an import expression,
 * so that bundlers for browsers do not look for it.
 */
export const importInNode = <T>(name: string): Promise<T> => import(/* webpackIgnore: true */ /* @vite-ignore */ name);

/** The package (or its entry for browsers) that serves a backend. */
export function ortPackage(backend: Backend): string {
  if (inNode) return backend === 'wasm' ? 'onnxruntime-web' : 'onnxruntime-node';
  return backend === 'webgpu' ? 'onnxruntime-web/webgpu' : 'onnxruntime-web/wasm';
}

/** Loads the ONNX Runtime package that serves a backend; `url` is where it lies if its name means nothing here. */
export function loadOrt(backend: Backend, url?: string): Promise<OrtModule> {
  const name = ortPackage(backend);
  let module = loaded.get(name);
  if (!module) {
    module = importOrt(name, url);
    loaded.set(name, module);
  }
  return module;
}

async function importOrt(name: string, url?: string): Promise<OrtModule> {
  withoutTelemetry();
  let module: OrtModule;
  try {
    if (url !== undefined) module = await import(/* webpackIgnore: true */ /* @vite-ignore */ url);
    else if (inNode) module = await importInNode<OrtModule>(name);
    // Written out, so that bundlers find them.
    else if (name === 'onnxruntime-web/webgpu') module = await import('onnxruntime-web/webgpu');
    else module = await import('onnxruntime-web/wasm');
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new JepaError(
      `runtime: cannot load ${name} (${reason}); install it with: npm install ${name.replace(/\/.*/, '')}`,
    );
  }
  // Warnings of the runtime are about its own choices; problems reach the user as errors.
  module.env.logLevel = 'error';
  if (name !== 'onnxruntime-node') module.env.wasm.numThreads = await threadCount();
  return module;
}

/** Threads of a WebAssembly session: every core, but one in a page without cross-origin isolation. */
async function threadCount(): Promise<number> {
  if (inNode) return (await importInNode<typeof import('node:os')>('node:os')).availableParallelism();
  return globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
}

/**
 * One line about a failure inside ONNX Runtime. Its text names the node ("encoder/blocks.3/attn/matmul/FusedMatMul_12"),
 * hence the scope and the operator.
 */
export function runtimeFailure(text: string): string {
  const node = /name:'([^']*)'|node[ :]+(?:name: *)?'?([\w./ -]+_\d+)/i.exec(text);
  const where = node ? ` in ${(node[1] ?? node[2]).replace(/\/[^/]*$/, '')}` : '';
  const [line] = text.split('\n');
  // What comes before is where in the runtime's own sources it happened.
  const reason = line
    .replace(/^.*(Status Message|ERROR_MESSAGE): /, '')
    .replace(/^.*onnxruntime\/.*? was false\. /, '');
  return `runtime${where}: ${reason}`;
}

/** Turns what ONNX Runtime throws into errors of ours. */
export async function explained<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw new JepaError(runtimeFailure(error instanceof Error ? error.message : String(error)));
  }
}
