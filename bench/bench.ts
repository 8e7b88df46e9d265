import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../src/base/errors.js';
import { input, matmul } from '../src/graph/index.js';
import { createEngine } from '../src/runtime/index.js';
import { BENCH_MODELS, type BenchModel } from './models.js';

/** Times of one program, in milliseconds. */
interface Timing {
  readonly min: number;
  readonly median: number;
}

interface PeerResult extends Timing {
  /** How many times faster this package is: the peer's fastest step over ours. */
  readonly ratio: number;
  readonly medianRatio: number;
  /** GFLOP/s of torch.mm at 2048. */
  readonly mm: number;
  readonly peakMb: number;
}

interface ModelResult extends Timing {
  readonly model: string;
  readonly imagesPerSecond: number;
  readonly gflop: number;
  readonly gflops: number;
  /** Share of the machine's matrix-product peak. */
  readonly share: number;
  readonly peakMb: number;
  /** Milliseconds that copies of parameters and gradients would add to a step, were memory not shared by the workers. */
  readonly copies: number;
  readonly peers: Readonly<Record<string, PeerResult>>;
}

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');

/** A PyTorch process that times its steps when asked to. */
class Peer {
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
    const script = join(root, 'bench', 'peers', peer);
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

const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
const timing = (values: readonly number[]): Timing => ({
  min: sorted(values)[0],
  median: sorted(values)[values.length >> 1],
});
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** GFLOP/s of one product of size 2048, cut over the workers as a training step is. */
async function productPeak(workers: number): Promise<number> {
  const n = 2048;
  const engine = await createEngine({ workers });
  const a = input('a', ['batch', n]);
  const b = input('b', [n, n]);
  const program = await engine.compile(
    { name: 'product', outputs: { row: matmul(matmul(a, b), input('c', [n, 1])) } },
    await engine.createState([]),
  );
  const feeds = {
    a: { dtype: 'float32' as const, shape: [n * workers, n], data: new Float32Array(n * n * workers).fill(0.5) },
    b: { dtype: 'float32' as const, shape: [n, n], data: new Float32Array(n * n).fill(0.5) },
    c: { dtype: 'float32' as const, shape: [n, 1], data: new Float32Array(n).fill(0.5) },
  };
  const times: number[] = [];
  for (let i = 0; i < 6; i++) {
    const start = performance.now();
    await program.run(feeds);
    times.push(performance.now() - start);
  }
  await engine.close();
  return (2 * n ** 3 * workers) / sorted(times)[0] / 1e6;
}

/** Milliseconds to copy parameters to a worker and its gradients back. */
function copyTime(parameters: number): number {
  const [from, to] = [new Float32Array(parameters).fill(1), new Float32Array(parameters).fill(2)];
  const times = Array.from({ length: 9 }, () => {
    const start = performance.now();
    to.set(from);
    from.set(to);
    return performance.now() - start;
  });
  return timing(times).median;
}

export interface BenchOptions {
  readonly models?: readonly string[];
  readonly rounds?: number;
  readonly workers?: number;
  readonly log?: (line: string) => void;
}

/** Times the training step of each model, alternately with PyTorch where that can be imported. */
export async function bench({
  models = Object.keys(BENCH_MODELS),
  rounds = 5,
  workers = availableParallelism(),
  log = () => {},
}: BenchOptions) {
  const unknown = models.find((key) => !BENCH_MODELS[key]);
  if (unknown !== undefined)
    throw new UsageError(`bench: there is no model ${unknown}; there are ${Object.keys(BENCH_MODELS).join(', ')}`);
  const torch = findTorch();
  log(
    torch
      ? `PyTorch ${torch.version} found`
      : 'PyTorch cannot be imported (set JEPA_PYTHON to a Python that has it): no comparison, only the share of the product peak',
  );
  const preload = torch && avx512Preload();
  const peak = await productPeak(workers);
  log(`matrix products of 2048 on ${workers} threads: ${peak.toFixed(0)} GFLOP/s`);
  const results: ModelResult[] = [];
  for (const key of models) {
    results.push(await benchModel(BENCH_MODELS[key](), { torch, preload, rounds, workers, peak, log }));
  }
  return { workers, productGflops: peak, torch: torch?.version ?? null, results };
}

interface Machine {
  readonly torch: { python: string } | undefined;
  readonly preload: string | undefined;
  readonly rounds: number;
  readonly workers: number;
  readonly peak: number;
  readonly log: (line: string) => void;
}

async function benchModel(
  model: BenchModel,
  { torch, preload, rounds, workers, peak, log }: Machine,
): Promise<ModelResult> {
  const peers: Record<string, Peer> = {};
  if (torch) {
    const description = { ...model.peer.model, threads: workers };
    const variants: [string, 'eager' | 'compile', string | undefined][] = [
      ['eager', 'eager', undefined],
      ['compile', 'compile', undefined],
      ...(preload
        ? ([
            ['eager, AVX-512', 'eager', preload],
            ['compile, AVX-512', 'compile', preload],
          ] as [string, 'eager' | 'compile', string][])
        : []),
    ];
    for (const [name, mode, library] of variants) {
      const env = library ? { ...process.env, LD_PRELOAD: library } : process.env;
      const described = { ...description, fused: library !== undefined };
      const peer = await Peer.start(torch.python, model.peer.script, described, mode, env);
      if (typeof peer === 'string') log(`  PyTorch ${name} does not run: ${peer}`);
      else peers[name] = peer;
    }
  }
  const engine = await createEngine({ workers });
  const step = await model.open(engine);
  await step.run(1);
  const ours: number[] = [];
  const theirs: Record<string, number[]> = Object.fromEntries(Object.keys(peers).map((name) => [name, []]));
  const memory: Record<string, number> = {};
  // Alternately, with pauses: pool threads of the other spin for a while after their last step.
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < 2; i++) {
      const start = performance.now();
      await step.run(2 + round * 2 + i);
      ours.push(performance.now() - start);
    }
    for (const [name, peer] of Object.entries(peers)) {
      await pause(60);
      const { ms, peakMb } = await peer.steps(2);
      theirs[name].push(...ms);
      memory[name] = peakMb;
      await pause(60);
    }
  }
  const gflop = step.program.flops(step.feeds) / 1e9;
  const own = timing(ours);
  const result: ModelResult = {
    model: model.name,
    ...own,
    imagesPerSecond: (model.batch * 1000) / own.median,
    gflop,
    gflops: (gflop / own.min) * 1000,
    share: ((gflop / own.min) * 1000) / peak,
    peakMb: process.resourceUsage().maxRSS / 1024,
    copies: copyTime(step.parameters),
    peers: Object.fromEntries(
      Object.entries(theirs).map(([name, times]) => {
        const t = timing(times);
        return [
          name,
          {
            ...t,
            ratio: t.min / own.min,
            medianRatio: t.median / own.median,
            mm: peers[name].mm,
            peakMb: memory[name],
          },
        ];
      }),
    ),
  };
  for (const peer of Object.values(peers)) peer.stop();
  await step.program.close();
  await engine.close();
  log(
    `${model.name}: ${own.min.toFixed(0)} ms (median ${own.median.toFixed(0)}), ${result.imagesPerSecond.toFixed(1)} images/s, ${(100 * result.share).toFixed(0)} % of the product peak, ${result.peakMb.toFixed(0)} MB`,
  );
  const slower = (own.min + result.copies) / own.min;
  log(
    `  memory shared by the workers; copies of ${(step.parameters / 1e6).toFixed(1)} M parameters and gradients would add ${result.copies.toFixed(1)} ms: ${slower.toFixed(2)}x`,
  );
  for (const [name, p] of Object.entries(result.peers)) {
    log(
      `  PyTorch ${name}: ${p.min.toFixed(0)} ms, ${p.ratio.toFixed(2)}x (median ${p.medianRatio.toFixed(2)}x), torch.mm ${p.mm.toFixed(0)} GFLOP/s, ${p.peakMb.toFixed(0)} MB`,
    );
  }
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && existsSync(here)) {
  const args = process.argv.slice(2);
  const json = args.includes('--json');
  const models = args.filter((a) => !a.startsWith('--'));
  const result = await bench({
    ...(models.length > 0 ? { models } : {}),
    log: (line) => (json ? console.error(line) : console.log(line)),
  });
  if (json) console.log(JSON.stringify(result, null, 2));
  process.exit(0);
}
