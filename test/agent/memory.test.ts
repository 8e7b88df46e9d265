import assert from 'node:assert/strict';
import { test } from 'node:test';
import { associativeMemory, episodicLog } from '../../src/agent/memory.js';
import { createRandom, type Random } from '../../src/base/random.js';
import { float32 } from '../../src/base/tensor.js';
import { auroc } from '../../src/eval/ranking.js';
import { fitRidge, predictLinear } from '../../src/eval/ridge.js';
import { add } from '../../src/graph/ops/elementwise.js';
import { mseLoss } from '../../src/graph/ops/losses.js';
import { concat } from '../../src/graph/ops/move.js';
import { input } from '../../src/graph/tensor.js';
import { mlpForward, mlpOnHost, mlpSpec } from '../../src/nn/mlp.js';
import { makeModule } from '../../src/nn/weights.js';
import { createFit } from '../../src/optim/fit.js';
import { createEngine } from '../../src/runtime/engine.js';

const OPTIONS = { keys: 16, values: 8, capacity: 64, width: 0.15, unknown: 0.02 };
const unit = (random: Random, size: number): Float64Array => {
  const v = Float64Array.from({ length: size }, () => random.normal());
  const norm = Math.hypot(...v);
  return v.map((x) => x / norm);
};
const cosine = (a: Float64Array, b: Float64Array): number =>
  a.reduce((t, v, i) => t + v * b[i], 0) / (Math.hypot(...a) * Math.hypot(...b));

test('fifty pairs are recalled after one showing, and strangers are known as such (WM5)', () => {
  const random = createRandom(1);
  const memory = associativeMemory(OPTIONS);
  const keys: Float64Array[] = [];
  while (keys.length < 50) {
    const key = unit(random, 16);
    if (keys.every((other) => cosine(key, other) < 0.7)) keys.push(key);
  }
  const values = keys.map(() => unit(random, 8));
  for (const [i, key] of keys.entries()) memory.write(key, values[i]);
  assert.equal(memory.size, 50);
  const known = keys.map((key, i) => {
    const recall = memory.read(key);
    assert.ok(cosine(recall.value, values[i]) > 0.99);
    assert.ok(recall.weights.reduce((a, b) => a + b, 0) <= 1 + 1e-12);
    return recall.known;
  });
  const strange = keys.map(() => memory.read(unit(random, 16)).known);
  assert.ok(auroc([...known, ...strange], [...known.map(() => 1), ...strange.map(() => 0)]) > 0.95);
});

test('reading and its slope: an empty store, nearest neighbours, finite differences (M2)', () => {
  const random = createRandom(2);
  const small = associativeMemory({ keys: 3, values: 2, capacity: 5, width: 0.8, unknown: 0.3 });
  assert.deepEqual(small.read([0, 0, 0]), { value: new Float64Array(2), weights: new Float64Array(0), known: 0 });
  for (let i = 0; i < 5; i++) small.allocate(unit(random, 3), unit(random, 2));
  const query = unit(random, 3);
  const slope = small.slope(query);
  for (let k = 0; k < 3; k++) {
    const moved = (by: number): Float64Array => small.read(query.map((v, i) => (i === k ? v + by : v))).value;
    const [plus, minus] = [moved(1e-5), moved(-1e-5)];
    for (let i = 0; i < 2; i++) assert.ok(Math.abs((plus[i] - minus[i]) / 2e-5 - slope[i * 3 + k]) < 1e-6);
  }
  const sharp = associativeMemory({ keys: 1, values: 1, capacity: 3, width: 1e-3, unknown: 0 });
  for (const k of [0, 1, 2]) sharp.allocate([k], [10 * k]);
  assert.equal(sharp.read([1.2]).value[0], 10);
});

test('updates replace what matches fully and keep what does not; imagined writes stay imagined', () => {
  const memory = associativeMemory({ keys: 1, values: 1, capacity: 2, width: 0.1, unknown: 0 });
  memory.allocate([0], [1]);
  memory.allocate([5], [2]);
  const imagined = memory.overlay();
  imagined.update([0], [7]);
  assert.equal(imagined.read([0]).value[0], 7);
  assert.equal(imagined.read([5]).value[0], 2);
  assert.equal(memory.read([0]).value[0], 1);
  memory.update([5], [3]);
  memory.allocate([9], [4]);
  assert.deepEqual(memory.slots().map(({ key }) => key[0]).sort(), [5, 9], 'the least recently used made room'); // biome-ignore format: one claim
  assert.throws(() => memory.read([1, 2]), /a query of 2 numbers/);
});

test('objects that nothing happened to stay where they are (WM4)', async () => {
  // Thirty objects, sixty events that move one each. What is seen of an event is a mixture of which and where to. Learned from the
  // same events: what to write and where (1056 numbers), or all places anew (5052 numbers, five times as large).
  const [objects, seenSize, rows] = [30, 32, 2000];
  const random = createRandom(3);
  const mix = Float64Array.from({ length: seenSize ** 2 }, () => random.normal() / Math.sqrt(seenSize));
  const name = (i: number): Float64Array => Float64Array.from({ length: objects }, (_, k) => (k === i ? 1 : 0));
  const event = (among: number) => {
    const [which, place] = [random.integer(among), [random.normal(), random.normal()]];
    const told = [...name(which), ...place];
    const seen = Float32Array.from({ length: seenSize }, (_, o) =>
      told.reduce((total, v, i) => total + mix[o * seenSize + i] * v, 0.01 * random.normal()),
    );
    return { which, place, told, seen };
  };
  const practice = Array.from({ length: rows }, () => event(objects));
  const table = (width: number, of: (e: (typeof practice)[number]) => ArrayLike<number>) =>
    float32([rows, width], Float32Array.from(practice.flatMap((e) => Array.from(of(e)))));
  const change = fitRidge(table(seenSize, (e) => e.seen), table(seenSize, (e) => e.told), 1e-3); // biome-ignore format: short

  const engine = await createEngine({ workers: 1 });
  const net = makeModule('whole.', mlpSpec([2 * objects + seenSize, 32, 2 * objects]));
  const [s, seen, next] = [2 * objects, seenSize, 2 * objects].map((width, i) => input(`in ${i}`, ['batch', width]));
  const loss = mseLoss(add(s, mlpForward(concat([s, seen], 1), net.weights, 2)), next);
  const fit = await createFit(engine, { name: 'whole', modules: [net], loss, seed: 1, lr: 3e-3 });
  for (let step = 0; step < 800; step++) {
    const drawn = Array.from({ length: 64 }, () => practice[random.integer(rows)]);
    const before = Float32Array.from({ length: 64 * 2 * objects }, () => random.normal());
    const after = before.slice();
    for (const [row, { which, place }] of drawn.entries()) after.set(place, row * 2 * objects + 2 * which);
    await fit.step({
      'in 0': float32([64, 2 * objects], before),
      'in 1': float32([64, seenSize], Float32Array.from(drawn.flatMap((e) => [...e.seen]))),
      'in 2': float32([64, 2 * objects], after),
    });
  }
  const whole = mlpOnHost(await fit.state.read(), 'whole.', 2);
  await fit.close();
  await engine.close();

  const memory = associativeMemory({ keys: objects, values: 2, capacity: objects, width: 0.2, unknown: 0 });
  const first = Array.from({ length: objects }, () => [random.normal(), random.normal()]);
  for (const [i, place] of first.entries()) memory.allocate(name(i), place);
  let all = Float64Array.from(first.flat());
  const last = new Map<number, number[]>();
  for (let t = 0; t < 60; t++) {
    const { which, place, seen } = event(objects / 2);
    last.set(which, place);
    const write = predictLinear(change, { shape: [1, seenSize], data: seen }).data;
    memory.update(write.subarray(0, objects), write.subarray(objects));
    const moved = whole([...all, ...seen]);
    all = all.map((v, i) => v + moved[i]);
  }
  const errors = { touched: [0, 0], untouched: [0, 0] };
  for (let i = 0; i < objects; i++) {
    const [x, y] = last.get(i) ?? first[i];
    const [now, sum] = [memory.read(name(i)).value, errors[last.has(i) ? 'touched' : 'untouched']];
    sum[0] += Math.hypot(now[0] - x, now[1] - y) / objects;
    sum[1] += Math.hypot(all[2 * i] - x, all[2 * i + 1] - y) / objects;
  }
  const told = `of written changes and of whole predictions ${JSON.stringify(errors)}`;
  assert.ok(errors.untouched[0] <= errors.untouched[1] / 5, told);
  // Nor is that for want of moving anything.
  assert.ok(errors.touched[0] < 0.1, told);
});

test('the log keeps order, finds the near, the dear and the surprising', () => {
  const log = episodicLog(50);
  for (let t = 0; t < 120; t++)
    log.append({ episode: 0, time: t, state: Float64Array.of(t), intrinsic: t % 7, critic: 0, surprise: t === 119 ? 1e9 : 0, real: true }); // biome-ignore format: one row
  assert.equal(log.moments().length, 50);
  assert.equal(log.nearest([100.2], 1)[0].time, 100);
  assert.equal(log.byCost(1, 'most')[0].intrinsic, 6);
  assert.ok(log.sample(20, createRandom(1), 'surprise').every(({ time }) => time === 119));
  assert.throws(
    () => log.append({ episode: 0, time: 3, state: Float64Array.of(0), intrinsic: 0, critic: 0, surprise: 0, real: true }), // biome-ignore format: one row
    /comes after/,
  );
});

test('a shell game: eight swaps, seen one at a time, are followed by memory; without it one can only guess (M3)', () => {
  const random = createRandom(9);
  const cup = (i: number): number[] => [0, 1, 2].map((j) => (i === j ? 1 : 0));
  const games = 300;
  let [recalled, guessed] = [0, 0];
  for (let game = 0; game < games; game++) {
    const memory = associativeMemory({ keys: 3, values: 1, capacity: 3, width: 0.2, unknown: 1e-6 });
    let ball = random.integer(3);
    // The ball is seen once; afterwards only hands that swap two cups.
    for (let i = 0; i < 3; i++) memory.allocate(cup(i), [i === ball ? 1 : 0]);
    for (let swap = 0; swap < 8; swap++) {
      const i = random.integer(3);
      const j = (i + 1 + random.integer(2)) % 3;
      const [under, other] = [memory.read(cup(i)).value, memory.read(cup(j)).value];
      memory.update(cup(i), other);
      memory.update(cup(j), under);
      if (ball === i || ball === j) ball = i + j - ball;
    }
    const beliefs = [0, 1, 2].map((i) => memory.read(cup(i)).value[0]);
    if (beliefs.indexOf(Math.max(...beliefs)) === ball) recalled++;
    // What is seen in the end is three equal cups, whatever happened before: any fixed answer is as good as another.
    if (ball === 0) guessed++;
  }
  assert.ok(recalled >= 0.95 * games, `${recalled} of ${games}`);
  assert.ok(Math.abs(guessed / games - 1 / 3) < 0.1, `${guessed} of ${games}`);
});
