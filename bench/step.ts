import { createEngine } from '../src/runtime/index.js';
import { BENCH_MODELS, benchStep } from './models.js';

const [key = 'c', workers = '2', steps = '8', profile] = process.argv.slice(2);
const engine = await createEngine({ workers: Number(workers) });
const start = performance.now();
const bench = await benchStep(engine, BENCH_MODELS[key]);
console.log(`compiled in ${((performance.now() - start) / 1000).toFixed(2)} s`);
const times: number[] = [];
for (let i = 1; i <= Number(steps); i++) {
  const t = performance.now();
  await bench.run(i);
  times.push(performance.now() - t);
}
times.sort((a, b) => a - b);
const flops = bench.program.flops(bench.feeds);
console.log(
  `${key}: min ${times[0].toFixed(0)} median ${times[times.length >> 1].toFixed(0)} ms, ${(flops / 1e9).toFixed(0)} GFLOP, ${(flops / times[0] / 1e6).toFixed(0)} GFLOP/s, peak rss ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MB`,
);
if (profile) {
  const result = await bench.program.profile(bench.feeds, 3, {
    step: 100,
    groups: [
      { lr: 0, weightDecay: 0 },
      { lr: 0, weightDecay: 0 },
    ],
    momentum: 1,
  });
  console.log(`kernels ${result.total.toFixed(1)} ms`);
  for (const o of result.operators.slice(0, 25))
    console.log(o.name.padEnd(24), o.milliseconds.toFixed(2).padStart(8), o.calls.toFixed(0).padStart(6));
  for (const s of result.scopes.slice(0, 40)) console.log(s.name.padEnd(50), s.milliseconds.toFixed(2));
}
await engine.close();
