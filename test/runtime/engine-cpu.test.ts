import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { float32 } from '../../src/base/tensor.js';
import { cast, embedding, input, mean, parameter, scope, square, sub } from '../../src/graph/index.js';
import { adamw } from '../../src/optim/adam.js';
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
