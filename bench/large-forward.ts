import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { float32, type HostTensor, sizeOf } from '../src/base/tensor.js';
import { encoderInputs } from '../src/methods/method.js';
import { createEngine } from '../src/runtime/index.js';
import { installEncoder, openEncoder } from '../src/train/frozen.js';

/**
 * Features of a large encoder in a process of its own, as `bench/large.ts` asks for them: arguments are the weights, options
 * to open them (JSON), samples of a batch and a file for the features of the first one.
 */
const [path, options, batchText, out] = process.argv.slice(2);
const batch = Number(batchText);
const encoder = openEncoder(path, JSON.parse(options));
const engine = await createEngine();
const inputs = encoderInputs(encoder.encoder);
const spec = { name: 'large', outputs: { tokens: encoder.encoder.tokens(inputs) } };
const program = await engine.compile(spec, await installEncoder(engine, encoder));
const [{ name, shape }] = encoder.encoder.inputs;

/** The same numbers as the peer's: a wave, which needs no generator. */
function samples(count: number): HostTensor<'float32'> {
  const data = new Float32Array(count * sizeOf(shape));
  for (let i = 0; i < data.length; i++) data[i] = Math.fround(((i * 7919) % 2003) / 1001.5 - 1);
  return float32([count, ...shape], data);
}

const peakMb = (): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN) / 1024;
const forward = async (feed: HostTensor<'float32'>) => (await program.run({ [name]: feed })).outputs.tokens;

const start = performance.now();
const first = await forward(samples(1));
const ms = performance.now() - start;
writeFileSync(out, new Uint8Array(first.data.buffer, first.data.byteOffset, first.data.byteLength));
console.log(JSON.stringify({ ready: true, ms, peakMb: peakMb(), gflop: program.flops({ [name]: samples(1) }) / 1e9 }));

const feed = samples(batch);
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as { steps?: number; profile?: boolean; quit?: boolean };
  if (request.quit) break;
  if (request.profile) {
    console.log(JSON.stringify(await program.profile({ [name]: feed }, 2)));
    continue;
  }
  const ms: number[] = [];
  for (let i = 0; i < (request.steps ?? 1); i++) {
    const start = performance.now();
    await forward(feed);
    ms.push(performance.now() - start);
  }
  console.log(JSON.stringify({ ms, peakMb: peakMb() }));
}
await engine.close();
process.exit(0);
