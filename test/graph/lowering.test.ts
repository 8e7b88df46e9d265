import assert from 'node:assert';
import { test } from 'node:test';
import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import type { Backend, Tensor } from '../../src/graph/index.js';
import * as g from '../../src/graph/index.js';
import { lowerGraph, reachable } from '../../src/graph/lower.js';
import { encodeModel, joinChunks } from '../../src/graph/onnx.js';
import { loadOrt } from '../../src/runtime/ort.js';

/** Runs the model that is made for a backend on the CPU provider: what differs is the graph, not who computes it. */
async function run(backend: Backend, output: Tensor, feeds: ReadonlyMap<Tensor, HostTensor<'float32'>>) {
  const ort = await loadOrt('cpu');
  const inputs = [...feeds.keys()].map((tensor, i) => ({ name: `input ${i}`, tensor }));
  const graph = lowerGraph(inputs, [{ name: 'out', tensor: output }], reachable([output]), backend);
  const session = await ort.InferenceSession.create(joinChunks(encodeModel(graph).model), {
    graphOptimizationLevel: 'disabled',
  });
  const values = [...feeds.values()].map((t, i) => [`input ${i}`, new ort.Tensor('float32', t.data, t.shape)]);
  const { out } = await session.run(Object.fromEntries(values));
  await session.release();
  return { operators: graph.nodes.map((node) => node.opType), data: out.data as Float32Array };
}

function values(shape: readonly number[], seed: number): HostTensor<'float32'> {
  return float32(
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(i * 1.7 + seed)),
  );
}

async function sameOnBoth(output: Tensor, feeds: ReadonlyMap<Tensor, HostTensor<'float32'>>, without: string) {
  const cpu = await run('cpu', output, feeds);
  const gpu = await run('webgpu', output, feeds);
  assert(cpu.operators.includes(without) && !gpu.operators.includes(without), `${without} is not replaced`);
  assert.strictEqual(gpu.data.length, cpu.data.length);
  cpu.data.forEach((value, i) => {
    assert(Math.abs(value - gpu.data[i]) < 1e-4, `[${i}]: ${gpu.data[i]} instead of ${value}`);
  });
}

const TRANSPOSED = [
  { x: [2, 4, 5], w: [4, 3, 3], stride: [2], padding: [1], dilation: [1], extra: [1], groups: 2 },
  { x: [1, 2, 4], w: [2, 2, 2], stride: [3], padding: [2], dilation: [1], extra: [2], groups: 2 },
  { x: [2, 4, 4, 3], w: [4, 2, 3, 2], stride: [2, 1], padding: [0, 2], dilation: [1, 3], extra: [0, 0], groups: 4 },
  { x: [1, 2, 5, 4], w: [2, 3, 1, 3], stride: [2, 2], padding: [1, 0], dilation: [2, 2], extra: [1, 1], groups: 1 },
  {
    x: [2, 2, 3, 4, 3],
    w: [2, 2, 2, 3, 2],
    stride: [2, 1, 2],
    padding: [1, 0, 1],
    dilation: [1, 2, 1],
    extra: [1, 0, 1],
    groups: 2,
  },
];

for (const { x, w, stride, padding, dilation, extra, groups } of TRANSPOSED) {
  test(`transposed convolution as a convolution: [${x}] by [${w}] in ${groups} group(s)`, async () => {
    const a = g.input('a', x);
    const b = g.input('b', w);
    const f = [g.convTranspose1d, g.convTranspose2d, g.convTranspose3d][x.length - 3];
    const y = f(a, b, { stride, padding, dilation, outputPadding: extra, groups });
    const feeds = new Map([
      [a, values(x, 1)],
      [b, values(w, 2)],
    ]);
    await sameOnBoth(y, feeds, 'ConvTranspose');
  });
}

test('products with transposed inputs and a factor', async () => {
  const a = g.input('a', [2, 3, 4]);
  const b = g.input('b', [5, 3]);
  const y = g.matmul(a, b, { transposeA: true, transposeB: true, alpha: 0.3 });
  const feeds = new Map([
    [a, values([2, 3, 4], 1)],
    [b, values([5, 3], 2)],
  ]);
  await sameOnBoth(y, feeds, 'FusedMatMul');
});
