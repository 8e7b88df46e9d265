import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRandom, philox, type RandomState, torchRandom } from '../../src/base/random.js';

// The three lines `philox4x32 10` of the file kat_vectors in the Random123 distribution: counter, key, answer.
const KNOWN_ANSWERS = [
  '00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8',
  'ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd',
  '243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1',
];

test('philox gives the published answers', () => {
  for (const line of KNOWN_ANSWERS) {
    const words = line.split(' ').map((word) => Number.parseInt(word, 16));
    const out = new Uint32Array(4);
    philox(Uint32Array.from(words.slice(0, 4)), words[4], words[5], out);
    assert.deepEqual([...out], words.slice(6));
  }
});

test('a generator walks the counter of its seed', () => {
  const random = createRandom(0xa4093822n | (0x299f31d0n << 32n));
  const counter = new Uint32Array(4);
  const block = new Uint32Array(4);
  for (let index = 0; index < 3; index++) {
    counter[0] = index;
    philox(counter, 0xa4093822, 0x299f31d0, block);
    for (const word of block) assert.equal(random.bits(), word);
  }
});

test('positions beyond 2^32 blocks reach the second counter word', () => {
  const random = createRandom(0);
  random.restore({
    key: [0xa4093822, 0x299f31d0],
    stream: [0x13198a2e, 0x03707344],
    position: 4 * (0x100000000 * 5 + 7),
  });
  const block = new Uint32Array(4);
  philox(Uint32Array.of(7, 5, 0x13198a2e, 0x03707344), 0xa4093822, 0x299f31d0, block);
  assert.deepEqual([random.bits(), random.bits(), random.bits(), random.bits()], [...block]);
});

test('state, through JSON, continues bit for bit', () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat({ max: 50 }), (seed, draws) => {
      const random = createRandom(seed, 'data');
      for (let i = 0; i < draws; i++) [random.uniform, random.normal, () => random.integer(7)][i % 3]();
      const state = JSON.parse(JSON.stringify(random.state())) as RandomState;
      const wanted = [random.uniform(), random.normal(), random.integer(1000), ...random.permutation(9)];
      const resumed = createRandom(0);
      resumed.restore(state);
      assert.deepEqual([resumed.uniform(), resumed.normal(), resumed.integer(1000), ...resumed.permutation(9)], wanted);
    }),
    { numRuns: 30 },
  );
});

test('streams depend on labels, not on draws, and differ', () => {
  const first = createRandom(5);
  first.fillNormal(new Float32Array(33));
  assert.equal(first.split('masks').uniform(), createRandom(5, 'masks').uniform());
  assert.equal(createRandom(5).split('a').split(3).uniform(), createRandom(5, 'a', 3).uniform());
  const labels = ['', 'a', 'b', 'ab', 'a\0', 'abcdefgh', 'abcdefghi', 'ü', 0, 1, 10, 'masks', 'mask'];
  const starts = new Set(labels.map((label) => createRandom(5, label).uniform()));
  starts
    .add(createRandom(5).uniform())
    .add(createRandom(6).uniform())
    .add(createRandom(5, 'a', 'b').uniform());
  assert.equal(starts.size, labels.length + 3);
});

/** Largest distance between the empirical distribution and `cdf`, times sqrt(n): above 1.95 with probability 0.001. */
function kolmogorov(values: ArrayLike<number>, cdf: (x: number) => number): number {
  const sorted = Float64Array.from(values).sort();
  let worst = 0;
  for (let i = 0; i < sorted.length; i++) {
    const p = cdf(sorted[i]);
    worst = Math.max(worst, Math.abs(p - i / sorted.length), Math.abs(p - (i + 1) / sorted.length));
  }
  return worst * Math.sqrt(sorted.length);
}

/** Distribution function of the standard normal by numerical integration of its density. */
const NORMAL_STEP = 0.001;
const normalTable = (() => {
  const table = new Float64Array(16001);
  for (let i = 1; i < table.length; i++) {
    const x = -8 + (i - 0.5) * NORMAL_STEP;
    table[i] = table[i - 1] + (NORMAL_STEP * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
  }
  return table;
})();
const normalCdf = (x: number) => normalTable[Math.max(0, Math.min(16000, Math.round((x + 8) / NORMAL_STEP)))];

test('uniforms and normals have their distributions', () => {
  const random = createRandom(1, 'distribution');
  const one = <T>(f: () => T) => Array.from({ length: 20000 }, f);
  assert.ok(kolmogorov(one(random.uniform), (x) => x) < 1.95);
  assert.ok(kolmogorov(one(random.normal), normalCdf) < 1.95);
  const bulk = new Float32Array(20001);
  random.fillNormal(bulk, 3, 2);
  assert.ok(
    kolmogorov(
      bulk.map((x) => (x - 3) / 2),
      normalCdf,
    ) < 1.95,
  );
  random.fillUniform(bulk, -1, 3);
  assert.ok(kolmogorov(bulk, (x) => (x + 1) / 4) < 1.95);
});

test('integers are uniform and in range; permutations permute', () => {
  const random = createRandom(2);
  const counts = new Array(7).fill(0);
  for (let i = 0; i < 70000; i++) counts[random.integer(7)]++;
  const chiSquare = counts.reduce((sum, count) => sum + (count - 10000) ** 2 / 10000, 0);
  assert.ok(chiSquare < 22.5, `chi-square of 6 degrees ${chiSquare}`);
  fc.assert(
    fc.property(fc.nat({ max: 300 }), (n) => {
      assert.deepEqual(
        [...random.permutation(n)].sort((a, b) => a - b),
        Array.from({ length: n }, (_, i) => i),
      );
    }),
    { numRuns: 30 },
  );
  assert.equal(random.integer(1), 0);
  assert.ok(random.integer(2 ** 32) < 2 ** 32);
  for (const bound of [0, -1, 1.5, 2 ** 32 + 1, Number.NaN])
    assert.throws(() => random.integer(bound), /random: no integer/);
  assert.throws(() => createRandom(0.5), /seed 0.5 is not a whole number/);
});

test('every order of four is equally likely', () => {
  const random = createRandom(3);
  const counts = new Map<string, number>();
  for (let i = 0; i < 24000; i++) {
    const order = random.permutation(4).join();
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.equal(counts.size, 24);
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  assert.ok(chiSquare < 49.7, `chi-square of 23 degrees ${chiSquare}`);
});

test('the torch stream repeats what PyTorch prints for seed 0', () => {
  const near = (got: ArrayLike<number>, wanted: number[], digits: number) =>
    wanted.forEach((value, i) => {
      assert.equal(got[i].toFixed(digits), value.toFixed(digits));
    });
  const uniforms = torchRandom(0);
  near(
    [uniforms.uniform(), uniforms.uniform(), uniforms.uniform(), uniforms.uniform()],
    [0.49625659, 0.7682218, 0.08847743, 0.13203049],
    8,
  );
  near(torchRandom(0).normals(4), [1.541, -0.2934, -2.1788, 0.5684], 4);
  near(torchRandom(0).normals(20), [-1.1258, -1.1524, -0.2506, -0.4339], 4);
  assert.deepEqual([...torchRandom(0).permutation(10)], [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]);
  const pairs = torchRandom(0);
  assert.deepEqual([...pairs.normals(1), ...pairs.normals(3)], [...torchRandom(0).normals(4)]);
});
