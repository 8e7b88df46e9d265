import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../src/base/errors.js';
import { input, matmul } from '../src/graph/index.js';
import { createEngine } from '../src/runtime/index.js';
import { BENCH_MODELS, type BenchModel } from './models.js';
import { avx512Preload, findTorch, Peer, pause, sorted, type Timing, timing } from './peer.js';

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

if (process.argv[1] === fileURLToPath(import.meta.url)) {
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
