import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createRandom } from '../src/base/random.js';
import { sizeOf } from '../src/base/tensor.js';
import { type StoredTensor, storeTensor } from '../src/hub/raw.js';
import { writeSafetensors } from '../src/hub/weights.js';
import { VJEPA2_ROPE, VJEPA2_SIZES } from '../src/methods/vjepa2.js';
import { type VitConfig, vitConfig, vitSpec } from '../src/nn/vit.js';
import { avx512Preload, findTorch } from './peer.js';

/**
 * Encoders of the sizes of the largest published ones, with random weights that are written as safetensors here: time of a
 * batch, peak memory and time to the first feature, beside PyTorch in one run; features must be equal to 1e-4 relative.
 * `node dist/bench/large.js [ijepa-h] [vjepa2-g] [--profile] [--keep]`; PyTorch where JEPA_PYTHON or python3 has it.
 */
interface LargeModel {
  readonly title: string;
  readonly config: VitConfig;
  readonly batch: number;
  /** What the encoder is opened with. */
  readonly options: object;
}

const MODELS: Readonly<Record<string, LargeModel>> = {
  'ijepa-h': {
    title: 'ViT-H/14 (I-JEPA), batch 4 at 224',
    config: vitConfig({ size: 'huge', imageSize: 224, patchSize: 14 }),
    batch: 4,
    options: {},
  },
  'vjepa2-g': {
    title: 'ViT-g/16 (V-JEPA 2), one clip of 8 frames at 256',
    config: vitConfig({ ...VJEPA2_SIZES.giant, imageSize: 256, patchSize: 16, frames: 8, positions: VJEPA2_ROPE }),
    batch: 1,
    options: { family: 'vjepa2', frames: 8, imageSize: 256 },
  },
};

const here = fileURLToPath(new URL('.', import.meta.url));
const peer = join(here, '..', '..', 'bench', 'peers', 'large_forward.py');
const folder = process.env.JEPA_LARGE ?? join(tmpdir(), 'jepa-large');

/** Numbers that are made while they are written: runs of one block of normal ones, so that gigabytes take seconds. */
function writeRandomWeights(path: string, config: VitConfig): number {
  const block = new Float32Array(1 << 20);
  const random = createRandom(1);
  random.fillNormal(block);
  let count = 0;
  const tensors = new Map(
    Array.from(vitSpec(config), ([name, { shape, init }]): [string, StoredTensor] => {
      const size = sizeOf(shape);
      count += size;
      const start = random.integer(block.length);
      const make = (): Float32Array => {
        const data = new Float32Array(size);
        if (init.kind === 'table') data.set(init.data);
        else {
          const [centre, spread] = init.kind === 'fill' ? [init.value, 0.1] : [0, init.std];
          for (let i = 0, at = start; i < size; i++, at = (at + 1) % block.length)
            data[i] = centre + spread * block[at];
        }
        return data;
      };
      return [
        name,
        {
          dtype: 'F32',
          shape,
          byteLength: 4 * size,
          read: () => storeTensor({ dtype: 'float32', shape, data: make() }).read(),
        },
      ];
    }),
  );
  writeSafetensors(path, tensors);
  return count;
}

/** Milliseconds to read a file from its beginning to its end into a small buffer. */
function readTime(path: string): number {
  const start = performance.now();
  const fd = openSync(path, 'r');
  const buffer = new Uint8Array(1 << 22);
  while (readSync(fd, buffer) > 0);
  closeSync(fd);
  return performance.now() - start;
}

/** Takes a file out of the system's cache, so that it comes from the disk the next time. */
const forget = (path: string): void =>
  void execFileSync('dd', [`of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], { stdio: 'ignore' });

interface Ready {
  readonly peakMb: number;
  readonly gflop?: number;
}

/** A process that has its first feature. */
class Forward {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    /** Milliseconds from the start of the process to its first feature. */
    readonly first: number,
    readonly ready: Ready,
  ) {}

  static async start(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Forward> {
    const start = performance.now();
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const line = await lines.next();
    if (line.done) throw new Error(`${args[0]} ended without a word`);
    return new Forward(child, lines, performance.now() - start, JSON.parse(line.value) as Ready);
  }

  async ask<T>(request: object): Promise<T> {
    this.child.stdin?.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the process ended');
    return JSON.parse(value) as T;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.stdin?.write('{"quit": true}\n');
    await ended;
  }
}

const floatsOf = (path: string): Float32Array => new Float32Array(Uint8Array.from(readFileSync(path)).buffer);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;

/** Largest difference over the largest value. */
function difference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  let [most, scale] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    most = Math.max(most, Math.abs(a[i] - b[i]));
    scale = Math.max(scale, Math.abs(b[i]));
  }
  return most / scale;
}

async function benchLarge(key: string, rounds: number, profiled: boolean, log: (line: string) => void): Promise<void> {
  const { title, config, batch, options } = MODELS[key];
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${key}.safetensors`);
  if (!existsSync(path)) writeRandomWeights(path, config);
  const { width, depth, heads, patchSize: patch, imageSize, frames = null, tubeletSize: tubelet } = config;
  const threads = availableParallelism();
  const described = { width, depth, heads, patch, image: imageSize[0], frames, tubelet, threads };
  const torch = findTorch();
  const preload = torch && avx512Preload();
  const ours = join(folder, 'features-jepa');
  const commands: { name: string; command: string; args: string[]; features: string; env: NodeJS.ProcessEnv }[] = [
    {
      name: 'this package',
      command: process.execPath,
      args: [join(here, 'large-forward.js'), path, JSON.stringify(options), String(batch), ours],
      features: ours,
      env: process.env,
    },
    ...(torch ? [undefined, ...(preload ? [preload] : [])] : []).map((library) => {
      const features = join(folder, library ? 'features-avx512' : 'features-torch');
      return {
        name: `PyTorch ${torch?.version}${library ? ', MKL on AVX-512' : ''}`,
        command: torch?.python as string,
        args: [peer, path, JSON.stringify(described), String(batch), features],
        features,
        env: library ? { ...process.env, LD_PRELOAD: library } : process.env,
      };
    }),
  ];
  log(`${title}, ${threads} threads`);
  const cold = (): void => forget(path);
  cold();
  const fromDisk = readTime(path);
  const fromCache = readTime(path);
  log(`  reading the file: ${seconds(fromDisk)} from the disk, ${seconds(fromCache)} from the system's cache`);
  const running: { name: string; forward: Forward; ms: number[]; peakMb: number }[] = [];
  for (const { name, command, args, env } of commands) {
    cold();
    const disk = await Forward.start(command, args, env);
    await disk.stop();
    const forward = await Forward.start(command, args, env);
    running.push({ name, forward, ms: [], peakMb: 0 });
    const ratio = (ms: number, read: number): string => `${seconds(ms)} (${(ms / read).toFixed(2)} x reading)`;
    log(
      `  ${name}: first feature ${ratio(disk.first, fromDisk)} from the disk, ${ratio(forward.first, fromCache)} from the cache`,
    );
  }
  for (let round = 0; round < rounds; round++) {
    for (const each of running) {
      const { ms, peakMb } = await each.forward.ask<{ ms: number[]; peakMb: number }>({ steps: 1 });
      each.ms.push(...ms);
      each.peakMb = peakMb;
    }
  }
  const [own] = running;
  const best = (ms: readonly number[]): number => Math.min(...ms);
  const gflop = (own.forward.ready.gflop ?? Number.NaN) * batch;
  for (const each of running) {
    const rate = `${((gflop / best(each.ms)) * 1000).toFixed(0)} GFLOP/s`;
    const others = each === own ? '' : `, ${(best(each.ms) / best(own.ms)).toFixed(2)} times ours`;
    log(
      `  ${each.name}: ${seconds(best(each.ms))} (of ${each.ms.map(seconds).join(', ')}), ${rate}, peak ${each.peakMb.toFixed(0)} MB${others}`,
    );
  }
  commands.slice(1).forEach(({ name, features }) => {
    log(
      `  largest difference to ${name}: ${difference(floatsOf(ours), floatsOf(features)).toExponential(1)} of the largest feature`,
    );
  });
  if (profiled) {
    const { operators } = await own.forward.ask<{ operators: { name: string; milliseconds: number }[] }>({
      profile: true,
    });
    for (const { name, milliseconds } of operators.slice(0, 12))
      log(`    ${name.padEnd(20)} ${milliseconds.toFixed(0)} ms`);
  }
  for (const { forward } of running) await forward.stop();
}

const args = process.argv.slice(2);
const chosen = args.filter((arg) => !arg.startsWith('--'));
for (const key of chosen.length > 0 ? chosen : Object.keys(MODELS)) {
  if (!MODELS[key]) throw new Error(`there is no model ${key}; there are ${Object.keys(MODELS).join(', ')}`);
  await benchLarge(key, 3, args.includes('--profile'), (line) => console.log(line));
}
if (!args.includes('--keep')) rmSync(folder, { recursive: true });
