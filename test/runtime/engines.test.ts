import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { JepaError } from '../../src/base/errors.js';
import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import {
  argmax,
  cast,
  embedding,
  exp,
  input,
  mean,
  mul,
  parameter,
  scope,
  square,
  sub,
  sum,
  type Tensor,
} from '../../src/graph/index.js';
import { adamw } from '../../src/optim/adam.js';
import type { Engine, Feeds, Program, State, UpdateRule, UpdateValues } from '../../src/runtime/index.js';
import { batchOf, CASES, difference, initial, matricesOf, network, networkParameters } from './programs.js';
import { doubles, gradientOf, LOSSES } from './reference.js';
import { LOCAL_TARGETS, type Target, WEBGPU, webgpuEnvironment } from './targets.js';

/**
 * One suite for every target. Values are compared with `reference.ts`: losses in double precision, gradients by central
 * differences, AdamW written out.
 */

/** The new parameter is the gradient, so that a test can read it. */
const gradientRule: UpdateRule = {
  name: 'gradient',
  slots: [],
  scalars: [],
  wholeTensors: false,
  scalarsAt: () => ({}),
  update: (_, gradient) => ({ parameter: gradient, slots: {} }),
};
const hyper = { lr: 0.05, weightDecay: 0.1 };
const plain: UpdateValues = { step: 1, groups: [hyper], momentum: 1 };
const ROWS = 7;

function suite(target: Target): void {
  describe(target.name, () => {
    let engine: Engine;
    before(async () => {
      engine = await target.start();
    });
    after(() => engine.close());

    for (const [name, { parameters: declare, loss: graph, feeds: make, exact }] of Object.entries(CASES)) {
      test(`loss and gradient: ${name}`, async () => {
        const parameters = declare();
        const start = initial(parameters);
        const loss = graph(parameters);
        const state = await engine.createState(parameters);
        const update = { loss, rule: gradientRule, groups: [parameters], followers: [] };
        const program = await engine.compile({ name, outputs: { loss }, update }, state);
        // Batch norm of two samples is too steep for finite differences.
        for (const rows of name === 'batchNorm' ? [ROWS, 4] : [ROWS, 2]) {
          await state.write(start);
          const feeds = make(rows, rows);
          const result = await program.run(feeds, plain);
          const { value, gradient } = once(`${name} ${rows}`, () => ({
            value: exact(doubles(start), matricesOf(feeds)),
            gradient: gradientOf(exact, doubles(start), matricesOf(feeds)),
          }));
          close(result.outputs.loss.data[0], value, target.tolerance);
          const off = difference(await state.read(), gradient);
          assert.ok(off < target.tolerance, `the gradient is off by ${off}`);
          close(result.gradientNorm, normOf(gradient), target.tolerance);
          assert.equal(result.finite, true);
        }
        await program.close();
      });
    }

    test('ten steps of AdamW with two groups, clipping and a follower', async () => {
      const { program, state, parameters } = await adamProgram(engine);
      const expected = once('adam', () => adamReference(10));
      for (let step = 1; step <= 10; step++) {
        const { outputs } = await program.run(batchOf(ROWS, step), adamValues(step));
        close(outputs.loss.data[0], expected.losses[step - 1], target.tolerance * 10);
      }
      const now = await state.read(names(parameters));
      assert.ok(difference(now, expected.parameters) < target.tolerance * 10);
      const averages = await state.read(names(networkParameters('target.')));
      const followers = new Map([...averages].map(([n, v]) => [n.slice('target.'.length), v] as const));
      assert.ok(difference(followers, expected.followers) < target.tolerance * 10);
      await program.close();
    });

    test('micro-batches average their gradients', async () => {
      const { program, state, parameters } = await adamProgram(engine, gradientRule);
      const start = doubles(await state.read(names(parameters)));
      const micro = [batchOf(4, 1), batchOf(4, 2), batchOf(4, 3)];
      let norm = Number.NaN;
      for (const [index, feeds] of micro.entries()) {
        ({ gradientNorm: norm } = await program.run(feeds, { ...adamValues(1), clipNorm: 0 }, { index, count: 3 }));
      }
      const parts = micro.map((feeds) => gradientOf(LOSSES.mean, start, matricesOf(feeds)));
      const average = new Map(
        [...parts[0]].map(([n, g]) => [n, g.map((_, i) => parts.reduce((s, p) => s + (p.get(n)?.[i] ?? 0), 0) / 3)]),
      );
      assert.ok(difference(await state.read(names(parameters)), average) < target.tolerance);
      close(norm, normOf(average), target.tolerance);
      await program.close();
    });

    test('what is not finite changes nothing, is located, and does not spoil later steps', async () => {
      const w = parameter('w', [3]);
      const x = input('x', ['batch', 3]);
      const loss = scope('encoder', () => scope('inner', () => mean(exp(mul(x, w)))));
      const state = await engine.createState([w]);
      const update = { loss, rule: adamw(), groups: [[w]], followers: [] };
      const program = await engine.compile({ name: 'overflow', outputs: { loss }, update }, state);
      const start = new Map([['w', float32([3], [1, 2, 3])]]);
      await state.write(start);
      const good = { x: float32([3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]) };
      const bad = { x: float32([3, 3], [1, 2, 3, 4, 5, 6, 700, 8, 9]) };
      const result = await program.run(bad, plain);
      assert.equal(result.finite, false);
      assert.deepEqual(await state.read(), start);
      assert.ok([...(await program.readSlots()).values()].every((v) => v.data.every((m) => m === 0)));
      assert.equal(await program.locateNonFinite(bad), 'encoder/inner: exp');
      // In the middle of micro-batches, too.
      for (const index of [0, 1, 2]) {
        const { finite } = await program.run(index === 1 ? bad : good, plain, { index, count: 3 });
        assert.equal(finite, index === 0);
      }
      assert.deepEqual(await state.read(), start);
      assert.equal((await program.run(good, plain)).finite, true);
      assert.notDeepEqual(await state.read(), start);
      await program.close();
    });

    test('slots and parameters, written back, give the same steps bit for bit', async () => {
      const { program, state } = await adamProgram(engine);
      const steps = async (from: number): Promise<ReadonlyMap<string, HostTensor<'float32'>>> => {
        for (let step = from; step < from + 3; step++) await program.run(batchOf(ROWS, step), adamValues(step));
        return state.read();
      };
      await steps(1);
      const saved = { state: await state.read(), slots: await program.readSlots() };
      assert.deepEqual([...saved.slots.keys()].sort().slice(0, 2), ['m/fc1.bias', 'm/fc1.weight']);
      const expected = await steps(4);
      await state.write(saved.state);
      await program.writeSlots(saved.slots);
      assert.deepEqual(await steps(4), expected);
      await assert.rejects(
        program.writeSlots(new Map()),
        /^JepaError: adam: the optimizer state m of fc1.weight is missing/,
      );
      await program.close();
    });

    test('programs share a state; outputs come whole, in order and in their types', async () => {
      const { program, state, parameters } = await adamProgram(engine);
      const x = input('x', ['batch', 6]);
      const z = network(parameters, x);
      const label = input('label', ['batch'], 'int32');
      const outputs = { z, best: argmax(z, 1), total: sum(cast(argmax(z, 1), 'int32')), shifted: embedding(z, label) };
      const views = await engine.compile({ name: 'views', outputs: { x, bias: parameters[2] } }, state);
      const embed = await engine.compile({ name: 'embed', outputs }, state);
      const feeds = { x: batchOf(5, 9).x, label: int32([5], [4, 3, 2, 1, 0]) };
      const before = (await embed.run(feeds)).outputs;
      await program.run(batchOf(ROWS, 1), adamValues(1));
      const { outputs: now, gradientNorm, finite } = await embed.run(feeds);
      assert.notDeepEqual(now.z, before.z);
      const rows = matrix(now.z);
      const best = rows.map((row) => row.indexOf(Math.max(...row)));
      assert.deepEqual([now.best.dtype, [...now.best.data]], ['int32', best]);
      assert.deepEqual([...now.total.data], [best.reduce((a, b) => a + b, 0)]);
      assert.deepEqual(matrix(now.shifted), [...rows].reverse());
      assert.deepEqual([Number.isNaN(gradientNorm), finite], [true, true]);
      // A training program without values for an update only computes.
      const kept = await state.read();
      await program.run(batchOf(ROWS, 2));
      assert.deepEqual(await state.read(), kept);
      // Outputs that are inputs or parameters as they are.
      const same = await views.run({ x: feeds.x });
      assert.deepEqual([same.outputs.x, same.outputs.bias], [feeds.x, kept.get('fc1.bias')]);
      await views.close();
      await embed.close();
      await program.close();
    });

    test('runs that are not awaited keep their order and their data', async () => {
      const { program, state } = await adamProgram(engine);
      const start = await state.read();
      const losses = async (together: boolean): Promise<number[]> => {
        await state.write(start);
        const results = [];
        for (let step = 1; step <= 4; step++) {
          const run = program.run(batchOf(step + 2, step), {
            ...adamValues(step),
            groups: [hyper, { ...hyper, lr: 0 }],
          });
          results.push(together ? run : await run);
        }
        return (await Promise.all(results)).map((r) => Number(r.outputs.loss.data[0]));
      };
      const slots = await program.readSlots();
      const one = await losses(false);
      await program.writeSlots(slots);
      assert.deepEqual(await losses(true), one);
      await program.close();
    });

    test('a follower of a parameter that does not learn follows too', async () => {
      const [w, frozen] = [parameter('w', [2]), parameter('frozen', [2])];
      const target_ = parameter('target', [2]);
      const x = input('x', ['batch', 2]);
      const loss = mean(square(sub(mul(x, w), mul(x, frozen))));
      const state = await engine.createState([w, frozen, target_]);
      await state.write(new Map([['frozen', float32([2], [1, 2])]]));
      const update = { loss, rule: adamw(), groups: [[w]], followers: [{ target: target_, online: frozen }] };
      const program = await engine.compile({ name: 'frozen', outputs: { loss }, update }, state);
      await program.run({ x: float32([3, 2], [1, 1, 1, 1, 1, 1]) }, { ...plain, momentum: 0.75 });
      const after_ = await state.read(['frozen', 'target']);
      assert.deepEqual(
        [...after_.values()].map((v) => [...v.data]),
        [
          [1, 2],
          [0.25, 0.5],
        ],
      );
      await program.close();
    });

    test('bad inputs are refused in one clear line', async () => {
      const { program, state, parameters } = await adamProgram(engine);
      const { x, y } = batchOf(3, 1);
      const run = (feeds: Feeds): Promise<unknown> => program.run(feeds, adamValues(1));
      await refused(run({ x }), 'adam: no value was given for the input y [batch, 6]');
      await refused(
        run({ x, y: batchOf(2, 1).y }),
        'adam: the input y has shape [2, 6], but the program takes [batch, 6] with batch = 3',
      );
      await refused(
        run({ x: float32([3, 5], new Float32Array(15)), y }),
        'adam: the input x has shape [3, 5], but the program takes [batch, 6] with batch = 3',
      );
      await refused(
        run({ x: int32([3, 6], new Int32Array(18)), y }),
        'adam: the input x is int32 [3, 6], but the program takes float32 [batch, 6]',
      );
      await refused(run(batchOf(0, 1)), 'adam: the batch is empty (batch = 0)');
      const index = input('index', ['batch'], 'int32');
      const lookup = await engine.compile(
        { name: 'lookup', outputs: { rows: scope('table', () => embedding(parameters[0], index)) } },
        state,
      );
      await assert.rejects(lookup.run({ index: int32([2], [1, 5]) }), (error: Error) => {
        assert.ok(error instanceof JepaError && !error.message.includes('\n'));
        assert.match(error.message, /embedding.*table.*5/);
        return true;
      });
      await refused(state.write(new Map([['nothing', x]])), 'state: there is no parameter nothing');
      await refused(state.write(new Map([['fc1.bias', x]])), 'state: fc1.bias has shape [5], but [3,6] was given');
      await refused(
        engine.compile({ name: 'stray', outputs: { y: mul(parameter('stray', [1]), 2) } }, state),
        'stray: the parameter stray is not part of the state',
      );
      await lookup.close();
      await program.close();
    });

    test('cost and profile', async () => {
      const { program } = await adamProgram(engine);
      const feeds = batchOf(4, 1);
      // Forward two products; backward three (the first layer's input needs no gradient); 2 flops a multiply-add.
      assert.equal(program.flops(feeds), 2 * 4 * 5 * (2 * 6 + 2 * 6 + 6));
      assert.ok(program.peakBytes(feeds) > 4 * 4 * (6 + 5));
      const profile = await program.profile(feeds, 2, adamValues(1));
      assert.ok(profile.total > 0);
      if (engine.backend === 'cpu') {
        const named = profile.scopes.map((s) => s.name);
        assert.ok(
          ['fc1', 'fc2'].every((name) => named.includes(name)),
          `scopes ${named}`,
        );
        assert.ok(profile.operators.some((o) => o.name === 'Tanh' && o.calls > 0));
      }
      await program.close();
    });

    test('closed programs and engines say so', async () => {
      const { program } = await adamProgram(engine);
      await program.close();
      await program.close();
      await refused(program.run(batchOf(ROWS, 1)), 'adam: the program is closed');
      await refused(program.readSlots(), 'adam: the program is closed');
      const other = await target.start();
      const state = await other.createState([parameter('w', [1])]);
      await other.close();
      await other.close();
      await refused(state.read(), 'engine: it is closed');
    });
  });
}

// What the tests share -----------------------------------------------------------------------------------------------

const names = (parameters: readonly Tensor[]): string[] =>
  parameters.map((t) => (t.node.attrs as { name: string }).name);
const adamValues = (step: number): UpdateValues => ({
  step,
  groups: [hyper, { ...hyper, weightDecay: 0 }],
  momentum: 0.9,
  clipNorm: 0.5,
});

async function adamProgram(
  engine: Engine,
  rule: UpdateRule = adamw(),
): Promise<{ program: Program; state: State; parameters: Tensor[] }> {
  const parameters = networkParameters();
  const targets = networkParameters('target.');
  const loss = CASES.mean.loss(parameters);
  const state = await engine.createState([...parameters, ...targets]);
  await state.write(initial(parameters));
  const followers = parameters.map((online, i) => ({ online, target: targets[i] }));
  const update = { loss, rule, groups: [parameters.slice(0, 2), parameters.slice(2)], followers };
  return { program: await engine.compile({ name: 'adam', outputs: { loss }, update }, state), state, parameters };
}

/** AdamW with clipping and an exponential average of the weights, in double. */
function adamReference(steps: number) {
  const parameters = doubles(initial(networkParameters()));
  const zeros = (): Map<string, Float64Array> => new Map([...parameters].map(([n, p]) => [n, p.map(() => 0)]));
  const [m, v, followers] = [zeros(), zeros(), zeros()];
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const feeds = matricesOf(batchOf(ROWS, step));
    losses.push(LOSSES.mean(parameters, feeds));
    const gradient = gradientOf(LOSSES.mean, parameters, feeds);
    const scale = Math.min(1, 0.5 / (normOf(gradient) + 1e-6));
    for (const [n, g] of gradient) {
      const at = (map: Map<string, Float64Array>): Float64Array => map.get(n) as Float64Array;
      g.forEach((raw, i) => {
        const value = raw * scale;
        at(m)[i] = 0.9 * at(m)[i] + 0.1 * value;
        at(v)[i] = 0.999 * at(v)[i] + 0.001 * value * value;
        const change = at(m)[i] / (1 - 0.9 ** step) / (Math.sqrt(at(v)[i] / (1 - 0.999 ** step)) + 1e-8);
        const decay = n.endsWith('bias') ? 0 : hyper.weightDecay;
        at(parameters)[i] = at(parameters)[i] * (1 - hyper.lr * decay) - hyper.lr * change;
        at(followers)[i] = 0.9 * at(followers)[i] + 0.1 * at(parameters)[i];
      });
    }
  }
  return { parameters, followers, losses };
}

const computed = new Map<string, unknown>();
/** Exact values are the same for every target. */
function once<T>(key: string, compute: () => T): T {
  if (!computed.has(key)) computed.set(key, compute());
  return computed.get(key) as T;
}

const normOf = (values: ReadonlyMap<string, Float64Array>): number =>
  Math.sqrt([...values.values()].reduce((s, g) => g.reduce((a, b) => a + b * b, s), 0));
const matrix = ({ shape, data }: HostTensor): number[][] =>
  Array.from({ length: shape[0] }, (_, i) => Array.from(data as Float32Array).slice(i * shape[1], (i + 1) * shape[1]));

function close(got: unknown, expected: number, tolerance: number): void {
  const off = Math.abs(Number(got) - expected) / Math.abs(expected);
  assert.ok(off <= tolerance, `${got} is not ${expected} (relative difference ${off})`);
}

const refused = (action: Promise<unknown>, message: string): Promise<void> =>
  assert.rejects(action, (error: Error) => {
    assert.ok(error instanceof JepaError, error.stack);
    assert.equal(error.message, message);
    return true;
  });

// On which targets ---------------------------------------------------------------------------------------------------

if (process.env.JEPA_TEST_TARGET === WEBGPU.name) suite(WEBGPU);
else {
  for (const target of LOCAL_TARGETS) suite(target);
  // WebGPU in a process of its own: its driver may need another environment, and a failure of it can end the process.
  const env = webgpuEnvironment();
  test('webgpu', {
    skip: env ? false : 'no WebGPU adapter: neither a GPU nor the software driver of Debian chromium',
  }, () => {
    const file = fileURLToPath(import.meta.url);
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', file], {
      env: { ...env, JEPA_TEST_TARGET: WEBGPU.name, NODE_TEST_CONTEXT: undefined },
      encoding: 'utf8',
      timeout: 120_000,
    });
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.match(stdout, /# pass [1-9]/);
  });
}
