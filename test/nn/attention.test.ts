import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import { input } from '../../src/graph/index.js';
import { attend, linearSpec } from '../../src/nn/transformer.js';
import { initialValues, makeModule } from '../../src/nn/weights.js';
import { createEngine } from '../../src/runtime/index.js';

test('attention among very many tokens is cut into pieces of queries, to the same result', async () => {
  const [tokens, width] = [4200, 8];
  const module = makeModule('', new Map([...linearSpec('qkv', 3 * width, width), ...linearSpec('proj', width, width)]));
  const values = initialValues(module, createRandom(1));
  // Scores that differ: with small weights everything would be a mean.
  for (const { data } of values.values()) data.set(data.map((value) => 60 * value + 0.01));
  const x = new Float32Array(tokens * width);
  createRandom(2).fillNormal(x);
  const config = { width, depth: 1, heads: 1, mlpWidth: 8, qkvBias: true, eps: 1e-6 };
  const { out } = attend(input('x', ['batch', tokens, width]), module.weights, config);

  const engine = await createEngine({ workers: 1 });
  try {
    const state = await engine.createState([...module.tensors.values()]);
    await state.write(values);
    const program = await engine.compile({ name: 'attention', outputs: { out } }, state);
    const feeds = { x: float32([1, tokens, width], x) };
    const got = (await program.run(feeds)).outputs.out.data;
    // All scores at once would be 4 x 4200 x 4200 bytes, twice.
    assert.ok(program.peakBytes(feeds) < 4 * tokens * tokens, `${program.peakBytes(feeds)} bytes`);

    const [qkv, bias, proj, projBias] = ['qkv.weight', 'qkv.bias', 'proj.weight', 'proj.bias'].map(
      (name) => values.get(name)!.data,
    );
    const row = (weight: Float32Array, add: Float32Array, from: ArrayLike<number>, at: number, out: number): number => {
      let sum = add[out];
      for (let i = 0; i < width; i++) sum += weight[out * width + i] * from[at + i];
      return sum;
    };
    const part = (token: number, which: number): number[] =>
      Array.from({ length: width }, (_, i) => row(qkv, bias, x, token * width, which * width + i));
    const keys = Array.from({ length: tokens }, (_, t) => part(t, 1));
    const vs = Array.from({ length: tokens }, (_, t) => part(t, 2));
    // Both sides of every cut there may be, and between.
    for (let token = 0; token < tokens; token += 83) {
      const q = part(token, 0);
      const scores = keys.map((k) => k.reduce((sum, value, i) => sum + value * q[i], 0) / Math.sqrt(width));
      const most = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - most));
      const total = weights.reduce((a, b) => a + b, 0);
      const mixed = q.map((_, i) => weights.reduce((sum, weight, t) => sum + weight * vs[t][i], 0) / total);
      for (let i = 0; i < width; i++) {
        const wanted = row(proj, projBias, mixed, 0, i);
        const value = Number(got[token * width + i]);
        assert.ok(Math.abs(value - wanted) < 1e-4 * (1 + Math.abs(wanted)), `${token}, ${i}: ${value}, not ${wanted}`);
      }
    }
  } finally {
    await engine.close();
  }
});
