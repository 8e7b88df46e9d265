import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createEngine, type Engine } from '../../src/runtime/index.js';

export interface Target {
  readonly name: string;
  readonly start: () => Promise<Engine>;
  /** Bound on relative differences from exact values. On WebGPU, sines and cosines are off by up to 2e-4, all else by 1e-6. */
  readonly tolerance: number;
}

export const LOCAL_TARGETS: readonly Target[] = [
  ...[1, 2, 3].map((workers) => ({
    name: `cpu, ${workers} worker${workers > 1 ? 's' : ''}`,
    start: () => createEngine({ backend: 'cpu', workers }),
    tolerance: 1e-5,
  })),
  { name: 'wasm', start: () => createEngine({ backend: 'wasm' }), tolerance: 1e-5 },
];

export const WEBGPU: Target = { name: 'webgpu', start: () => createEngine({ backend: 'webgpu' }), tolerance: 1e-3 };

const DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';

/**
 * Environment in which WebGPU works in Node: this one if it has an adapter, otherwise that of the software driver that
 * comes with Debian's chromium. Undefined if neither does. Looked for in a child process, because a missing adapter may
 * abort the process.
 */
export function webgpuEnvironment(): NodeJS.ProcessEnv | undefined {
  const software = {
    ...process.env,
    VK_DRIVER_FILES: DRIVER,
    VK_ICD_FILENAMES: DRIVER,
    LD_LIBRARY_PATH: '/usr/lib/chromium',
  };
  return [process.env, ...(existsSync(DRIVER) ? [software] : [])].find((env) => {
    const { status } = spawnSync(process.execPath, [fileURLToPath(new URL('./webgpu-probe.js', import.meta.url))], {
      env,
      timeout: 60_000,
    });
    return status === 0;
  });
}
