import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** PyTorch beside this package: where it is, programs of `bench/peers` in processes of their own, and times of both. */

/** Times of one program, in milliseconds. */
export interface Timing {
  readonly min: number;
  readonly median: number;
}

/** A PyTorch process that times its steps when asked to. */
export class Peer {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
    readonly mm: number,
    readonly version: string,
  ) {}

  static async start(
    python: string,
    peer: string,
    model: object,
    mode: 'eager' | 'compile',
    env: NodeJS.ProcessEnv,
  ): Promise<Peer | string> {
    const script = fileURLToPath(new URL(`../../bench/peers/${peer}`, import.meta.url));
    const child = spawn(python, [script, JSON.stringify(model), mode], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    let errors = '';
    child.stderr?.on('data', (chunk) => {
      errors = (errors + chunk).slice(-2000);
    });
    const reader = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const lines = reader[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) return errors.trim().split('\n').at(-1) ?? 'it ended without a word';
    const { mm, torch } = JSON.parse(first.value) as { mm: number; torch: string };
    return new Peer(child, lines, reader, mm, torch);
  }

  async steps(count: number): Promise<{ ms: number[]; peakMb: number }> {
    this.child.stdin?.write(`${JSON.stringify({ steps: count })}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error('the PyTorch process ended');
    return JSON.parse(value) as { ms: number[]; peakMb: number };
  }

  stop(): void {
    this.child.stdin?.write('{"quit": true}\n');
    this.reader.close();
    this.child.kill();
  }
}

/** A Python with PyTorch: JEPA_PYTHON, or python3 on PATH. */
export function findTorch(): { python: string; version: string } | undefined {
  for (const python of [process.env.JEPA_PYTHON, 'python3'].filter((p): p is string => p !== undefined)) {
    try {
      const version = execFileSync(python, ['-c', 'import torch; print(torch.__version__)'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return { python, version: version.trim() };
    } catch {}
  }
  return undefined;
}

/** A library that makes MKL take its AVX-512 path on a CPU that is not Intel's; undefined without gcc. */
export function avx512Preload(): string | undefined {
  try {
    const folder = mkdtempSync(join(tmpdir(), 'jepa-bench-'));
    writeFileSync(join(folder, 'cpu.c'), 'int mkl_serv_intel_cpu_true(void) { return 1; }\n');
    execFileSync('gcc', ['-shared', '-fPIC', '-o', join(folder, 'cpu.so'), join(folder, 'cpu.c')], { stdio: 'ignore' });
    return join(folder, 'cpu.so');
  } catch {
    return undefined;
  }
}

export const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
export const timing = (values: readonly number[]): Timing => ({
  min: sorted(values)[0],
  median: sorted(values)[values.length >> 1],
});
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
