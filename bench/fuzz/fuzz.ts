import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Reader } from './reader.js';
import { damagedFile, type Finding, type WorkerReport, type WorkerTask } from './worker.js';

/**
 * Feeds damaged files to the readers. Each must end in a value or in a `JepaError`: another exception, a hang, a crash,
 * an execution or more memory than the file can ask for is a finding.
 */
export interface FuzzOptions {
  readonly reader: Reader;
  /** Module whose `ALL` has the reader; the one of this folder by default. */
  readonly module?: string;
  readonly files: number;
  readonly seed: number;
  /** Seconds for one file. */
  readonly seconds?: number;
  /** Findings of a reader after which it is given up. */
  readonly most?: number;
  /** Folder for the files of findings. */
  readonly keep?: string;
}

export interface FuzzReport extends Omit<WorkerReport, 'findings'> {
  readonly reader: string;
  readonly files: number;
  readonly findings: readonly Finding[];
  readonly seconds: number;
}

/** Files that one thread reads before another takes over. */
const SHARE = 20_000;
/** No file is being read: the thread is only starting. */
const NONE = -1;
/** Heap of a thread, in MiB. */
const HEAP = 192;

export async function fuzz(options: FuzzOptions): Promise<FuzzReport> {
  const { reader, files, seed, keep, most = 20, module = new URL('./readers.js', import.meta.url).href } = options;
  const started = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'jepa-fuzz-'));
  const findings: Finding[] = [];
  let [values, errors, next] = [0, 0, 0];
  let slowest = { index: 0, milliseconds: 0 };
  try {
    while (next < files && findings.length < most) {
      const at = new Int32Array(new SharedArrayBuffer(4)).fill(NONE);
      const task = { reader: reader.name, module, seed, from: next, to: Math.min(files, next + SHARE), at, folder };
      const result = await share(task, options);
      if ('kind' in result) {
        // What the thread had read before is read again without the file that ended it.
        const before = await share({ ...task, at: at.fill(NONE), to: result.index }, options);
        findings.push(...('kind' in before ? [before] : before.findings), result);
        if (!('kind' in before)) [values, errors] = [values + before.values, errors + before.errors];
        next = result.index + 1;
        continue;
      }
      findings.push(...result.findings);
      [values, errors] = [values + result.values, errors + result.errors];
      if (result.slowest.milliseconds > slowest.milliseconds) slowest = result.slowest;
      next = task.to;
    }
    if (keep !== undefined) {
      mkdirSync(keep, { recursive: true });
      for (const { index } of findings) {
        writeFileSync(join(keep, `${reader.name}-${seed}-${index}`), await damagedFile(reader, seed, index));
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const seconds = (performance.now() - started) / 1000;
  return { reader: reader.name, files: next, values, errors, findings, slowest, seconds };
}

/** A thread's report, or the finding that ended it. */
function share(task: WorkerTask, { seconds = 20 }: FuzzOptions): Promise<WorkerReport | Finding> {
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP },
    stderr: true,
  });
  return new Promise((resolve) => {
    let [last, since] = [NONE, performance.now()];
    const watch = setInterval(() => {
      const index = Atomics.load(task.at, 0);
      if (index !== last || index === NONE) [last, since] = [index, performance.now()];
      else if (performance.now() - since > 1000 * seconds) {
        end({ index, kind: 'hang', message: `nothing came of it in ${seconds} s` });
      }
    }, 250);
    const end = (result: WorkerReport | Finding): void => {
      clearInterval(watch);
      void worker.terminate().then(() => resolve(result));
    };
    worker.on('message', end);
    worker.on('error', (error) => {
      end({
        index: Math.max(task.from, Atomics.load(task.at, 0)),
        kind: 'crash',
        message: String(error.stack ?? error).slice(0, 600),
      });
    });
  });
}
