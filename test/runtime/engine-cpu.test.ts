import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { float32 } from '../../src/base/tensor.js';
import { cast, embedding, input, linear, mean, parameter, scope, square, sub } from '../../src/graph/index.js';
import { fileSource } from '../../src/hub/files.js';
import { lateFloat32, type StoredTensor } from '../../src/hub/raw.js';
import { encodeSafetensors, openSafetensors, parseSafetensors } from '../../src/hub/safetensors.js';
import { adamw } from '../../src/optim/adam.js';
import { sgd } from '../../src/optim/sgd.js';
import { createEngine } from '../../src/runtime/index.js';
import { buildPhases, planProgram } from '../../src/runtime/plan.js';
import { batchOf, CASES, initial, networkParameters } from './programs.js';

/** What only the CPU backend with its workers has; values are in engines.test.ts. */

const values = { step: 1, groups: [{ lr: 1e-3, weightDecay: 0 }], momentum: 1 };

describe('cpu workers', () => {
  test('exchanges: none for a mean, few for statistics of a batch', () => {
    // Rounds that the forward pass and the gradient need at least, one after the other.
    const rounds = { mean: 0, transformer: 0, sigreg: 1, infonce: 2, vicreg: 3, batchNorm: 3 };
    for (const [name, most] of Object.entries(rounds)) {
      const parameters = CASES[name].parameters();
      const loss = CASES[name].loss(parameters);
      const update = { loss, rule: adamw(), groups: [parameters], followers: [] };
      const plan = planProgram({ name, outputs: { loss }, update }, 2);
      assert.equal(buildPhases(plan, 'cpu').phases.length - 1, most, name);
    }
  });

  test('a slice that fails stops the others, and the engine goes on', { timeout: 20_000 }, async () => {
    const engine = await createEngine({ backend: 'cpu', workers: 3 });
    const table = parameter('table', [4, 2]);
    const place = input('place', ['batch']);
    const rows = scope('lookup', () => embedding(table, cast(place, 'int32')));
    // The mean over the batch is exchanged, so that the others wait for the slice that fails.
    const loss = mean(square(sub(square(rows), mean(square(rows), 0))));
    const state = await engine.createState([table]);
    const update = { loss, rule: adamw(), groups: [[table]], followers: [] };
    const program = await engine.compile({ name: 'lookup', outputs: { loss }, update }, state);
    assert.match(program.distribution, /on 3 workers, \d+ values? exchanged in [1-9]/);
    for (let again = 0; again < 2; again++) {
      await assert.rejects(program.run({ place: float32([3], [0, 1, 9]) }, values), (error: Error) => {
        assert.ok(error instanceof JepaError && !error.message.includes('\n'), error.message);
        assert.match(error.message, /lookup.*out of/);
        return true;
      });
      assert.equal((await program.run({ place: float32([3], [0, 1, 2]) }, values)).finite, true);
    }
    await engine.close();
  });

  test('memory does not grow over 2,000 steps', async () => {
    const engine = await createEngine({ backend: 'cpu', workers: 2 });
    const parameters = networkParameters();
    const loss = CASES.vicreg.loss(parameters);
    const state = await engine.createState(parameters);
    await state.write(initial(parameters));
    const update = { loss, rule: adamw(), groups: [parameters], followers: [] };
    const program = await engine.compile({ name: 'small', outputs: { loss }, update }, state);
    const steps = async (count: number): Promise<number> => {
      // Batches of changing size: blocks of memory are replaced and must be given back.
      for (let step = 0; step < count; step++) await program.run(batchOf(16 + (step % 64), step), values);
      return process.memoryUsage().rss;
    };
    const before = await steps(500);
    const after = await steps(1500);
    const state_ = await state.read();
    assert.ok([...state_.values()].every((v) => v.data.every(Number.isFinite)));
    const growth = (after - before) / 2 ** 20;
    assert.ok(growth < 16, `resident memory grew by ${growth.toFixed(1)} MiB in 1,500 steps`);
    await engine.close();
  });
});

test('weights in a file are used from there, and others beside them; they cannot learn', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'jepa-mapped-'));
  const engine = await createEngine({ workers: 2 });
  try {
    const path = join(folder, 'w.safetensors');
    const stored = { dtype: 'float32' as const, shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };
    writeFileSync(path, encodeSafetensors(new Map([['w', stored]])));
    const source = fileSource(path);
    const tensor = openSafetensors(source).tensors.get('w') as StoredTensor;
    const value = lateFloat32([{ name: 'w', stored: tensor }], [2, 3]);
    source.close();
    assert.ok(value.place);
    const [w, b] = [parameter('w', [2, 3]), parameter('b', [2])];
    const bias = { dtype: 'float32' as const, shape: [2], data: Float32Array.of(10, 20) };
    const state = await engine.createState(
      [w, b],
      new Map([
        ['w', value],
        ['b', bias],
      ]),
    );
    const y = linear(input('x', ['batch', 3]), w, b);
    const program = await engine.compile({ name: 'mapped', outputs: { y } }, state);
    const x = { dtype: 'float32' as const, shape: [3, 3], data: Float32Array.of(1, 0, 0, 0, 1, 0, 1, 1, 1) };
    const run = async () => [...(await program.run({ x })).outputs.y.data];
    assert.deepEqual(await run(), [11, 24, 12, 25, 16, 35]);
    assert.deepEqual([...(await state.read(['w'])).get('w')!.data], [1, 2, 3, 4, 5, 6]);
    // What is written stays in this process.
    await state.write(new Map([['w', { ...stored, data: new Float32Array(6) }]]));
    assert.deepEqual(await run(), [10, 20, 10, 20, 10, 20]);
    assert.deepEqual([...parseSafetensors(readFileSync(path)).get('w')!.data], [1, 2, 3, 4, 5, 6]);
    const loss = mean(y);
    const update = { loss, rule: sgd(), groups: [[w]], followers: [] };
    await assert.rejects(
      engine.compile({ name: 'learn', outputs: { loss }, update }, state),
      /used from a file, where they cannot learn/,
    );
    await assert.rejects(engine.createState([w, b], new Map([['w', value]])), /no value for the parameter b/);
  } finally {
    await engine.close();
    rmSync(folder, { recursive: true });
  }
});

test('fewer samples than workers: one of them computes with all threads', async () => {
  const engine = await createEngine({ workers: 3 });
  try {
    const w = parameter('w', [64, 64]);
    const state = await engine.createState([w]);
    const data = Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 65 === 0 ? 2 : 0));
    await state.write(new Map([['w', float32([64, 64], data)]]));
    const program = await engine.compile({ name: 'few', outputs: { y: linear(input('x', ['batch', 64]), w) } }, state);
    for (const batch of [1, 2, 3, 7]) {
      const x = Float32Array.from({ length: batch * 64 }, (_, i) => i);
      const { y } = (await program.run({ x: float32([batch, 64], x) })).outputs;
      assert.deepEqual(
        [...y.data],
        [...x].map((value) => 2 * value),
      );
    }
  } finally {
    await engine.close();
  }
});

test('workers that cannot be are refused, and so are workers of backends that have none', async () => {
  for (const workers of [0, 1.5, 257, Number.NaN])
    await assert.rejects(createEngine({ workers }), { name: 'UsageError', message: /whole number from 1 to 256/ });
  for (const backend of ['wasm', 'webgpu'] as const)
    await assert.rejects(createEngine({ backend, workers: 2 }), {
      name: 'UsageError',
      message: new RegExp(`on the cpu backend only; ${backend} computes it in one session`),
    });
});
