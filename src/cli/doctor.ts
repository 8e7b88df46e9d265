import { spawn } from 'node:child_process';
import { readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { ffmpegPrograms, GET_FFMPEG } from '../data/ffmpeg-process-node.js';
import { formatBytes } from '../report/format.js';
import { type Mark, mark, print, printJson, table } from './output.js';

interface Check {
  readonly name: string;
  readonly status: Mark;
  readonly message: string;
  /** What to do about it. */
  readonly fix?: string;
}

type Finding = Omit<Check, 'name'>;

/** `jepa doctor`: everything that training needs of this machine, each looked at by really using it. */
export async function doctor({ json = false }: { json?: boolean }): Promise<void> {
  const checks: Check[] = [];
  for (const [name, look] of LOOKS) {
    let found: Finding;
    try {
      found = await look();
    } catch (error) {
      found = { status: 'fail', message: (error as Error).message.split('\n', 1)[0], fix: REINSTALL };
    }
    checks.push({ name, ...found });
    if (!json) {
      print(table([[mark(found.status), name.padEnd(WIDTH), found.message]]));
      if (found.fix) print(`  ${' '.repeat(WIDTH)}   ${found.fix}`);
    }
  }
  const failed = checks.some(({ status }) => status === 'fail');
  if (json) printJson({ ok: !failed, checks });
  else print(failed ? '\nSomething is missing; see the lines marked with a cross.' : '\nReady: jepa quickstart');
  if (failed) process.exitCode = 1;
}

const REINSTALL =
  'install again: rm -rf node_modules && npm install (add --ignore-scripts where nothing may be downloaded)';

const LOOKS: readonly (readonly [name: string, look: () => Finding | Promise<Finding>])[] = [
  ['Node', node],
  ['processor', processor],
  ['onnxruntime', products],
  ['shared memory', sharedMemory],
  ['image decoding', images],
  ['video and sound', videos],
  ['WebGPU', webgpu],
  ['memory', memory],
  ['disk', disk],
];
const WIDTH = Math.max(...LOOKS.map(([name]) => name.length));

function node(): Finding {
  const major = Number(process.versions.node.split('.')[0]);
  const message = `${process.version} on ${process.platform} ${process.arch}`;
  return major >= 20 ? { status: 'ok', message } : { status: 'fail', message, fix: 'install Node 20 or newer' };
}

function processor(): Finding {
  const threads = availableParallelism();
  const quota = cpuQuota();
  const message = `${threads} thread${threads > 1 ? 's' : ''}, ${cpus()[0]?.model.trim() || 'unknown model'}`;
  if (quota !== undefined && quota < threads) {
    return {
      status: 'warn',
      message: `${message}; this container may use ${quota} of them`,
      fix: `train with train.workers=${Math.max(1, Math.floor(quota))}, or allow the container more`,
    };
  }
  return { status: 'ok', message };
}

/** Processors that the control group of a container allows, where it says so. */
function cpuQuota(): number | undefined {
  try {
    const [limit, period] = readFileSync('/sys/fs/cgroup/cpu.max', 'utf8').trim().split(' ');
    return limit === 'max' ? undefined : Number(limit) / Number(period);
  } catch {
    return undefined;
  }
}

async function products(): Promise<Finding> {
  const { createEngine } = await import('../runtime/index.js');
  const { measureProducts } = await import('./machine.js');
  const engine = await createEngine();
  try {
    const speed = await measureProducts(engine);
    return {
      status: 'ok',
      message: `matrix products at ${(speed / 1e9).toFixed(0)} GFLOP/s on ${engine.workers} workers`,
    };
  } finally {
    await engine.close();
  }
}

async function sharedMemory(): Promise<Finding> {
  const { allocate, giveBack, viewOf } = await import('../runtime/memory-node.js');
  const block = allocate(1 << 20);
  const view = new Float32Array(viewOf(block), 0, 4);
  view.set([1, 2, 3, 4]);
  const isShared = new Float32Array(viewOf(block), 0, 4).join() === '1,2,3,4';
  giveBack(block);
  return isShared
    ? { status: 'ok', message: 'threads see the same bytes (koffi)' }
    : { status: 'fail', message: 'koffi gives no usable memory', fix: REINSTALL };
}

async function images(): Promise<Finding> {
  const { default: sharp } = await import('sharp');
  const raw = { width: 8, height: 8, channels: 3 as const };
  const jpeg = await sharp(Buffer.alloc(8 * 8 * 3, 200), { raw })
    .jpeg()
    .toBuffer();
  const { info } = await sharp(jpeg).raw().toBuffer({ resolveWithObject: true });
  const formats = ['jpeg', 'png', 'webp', 'gif', 'tiff', 'heif'].filter(
    (name) => sharp.format[name as 'jpeg']?.input.buffer,
  );
  return info.width === 8
    ? { status: 'ok', message: `sharp reads ${formats.join(', ')}` }
    : { status: 'fail', message: 'sharp decodes wrongly', fix: REINSTALL };
}

function videos(): Finding {
  if (ffmpegPrograms()) return { status: 'ok', message: 'ffmpeg and ffprobe are on PATH' };
  const own = 'GIF, animated WebP, folders of frames and WAV are read; mp4, webm, mp3, ... need ffmpeg';
  return { status: 'warn', message: own, fix: GET_FFMPEG };
}

async function webgpu(): Promise<Finding> {
  const works = await new Promise<boolean>((resolve) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('./webgpu-probe.js', import.meta.url))], {
      stdio: 'ignore',
      timeout: 60_000,
    });
    child.on('exit', (code) => resolve(code === 0));
    child.on('error', () => resolve(false));
  });
  if (works) return { status: 'ok', message: 'an adapter runs graphs (train.backend=webgpu)' };
  return {
    status: 'warn',
    message: 'no adapter; training uses the processor',
    fix: 'for a GPU install its Vulkan driver (README, Targets)',
  };
}

const LITTLE_MEMORY = 4e9;
const LITTLE_DISK = 2e9;

function memory(): Finding {
  const limit = process.constrainedMemory?.() ?? 0;
  const total = limit > 0 && limit < totalmem() ? limit : totalmem();
  const message = `${formatBytes(total)}, ${formatBytes(Math.min(total, freemem()))} free`;
  return total >= LITTLE_MEMORY
    ? { status: 'ok', message }
    : { status: 'warn', message, fix: 'small models only; lower train.batchSize or use train.accumulate' };
}

function disk(): Finding {
  const { bavail, bsize } = statfsSync('.');
  const free = bavail * bsize;
  const message = `${formatBytes(free)} free in ${process.cwd()}`;
  return free >= LITTLE_DISK
    ? { status: 'ok', message }
    : { status: 'warn', message, fix: 'make room, or write elsewhere with --out' };
}
