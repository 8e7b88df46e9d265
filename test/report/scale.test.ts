import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import {
  linearTicks,
  logTicks,
  movingAverage,
  niceDomain,
  position,
  thin,
  tickLabels,
} from '../../src/report/scale.js';

test('linear ticks of known intervals', () => {
  assert.deepEqual(linearTicks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(linearTicks(0, 100), [0, 20, 40, 60, 80, 100]);
  assert.deepEqual(linearTicks(-0.3, 0.3, 6), [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]);
  assert.deepEqual(linearTicks(0, 2400), [0, 500, 1000, 1500, 2000]);
  assert.deepEqual(linearTicks(3, 3), [3]);
});

test('linear ticks of any interval are round, even, inside, and neither few nor many', () => {
  const random = createRandom(1);
  for (let i = 0; i < 2000; i++) {
    const low = random.normal() * 10 ** (random.integer(16) - 8);
    const high = low + random.uniform() * 10 ** (random.integer(16) - 8);
    // Steps finer than a double resolves at this size have no round values to find.
    if (high - low < Math.abs(low) * 1e-8) continue;
    const ticks = linearTicks(low, high, 5);
    const where = `[${low}, ${high}]: ${ticks}`;
    assert.ok(ticks.length >= 2 && ticks.length <= 9, where);
    const rough = (ticks[ticks.length - 1] - ticks[0]) / (ticks.length - 1);
    const step = Number(rough.toPrecision(1));
    assert.ok(Math.abs(rough / step - 1) < 1e-6, where);
    assert.match(step.toExponential(), /^[125]e/, where);
    for (const [j, tick] of ticks.entries()) {
      assert.ok(tick >= low - step * 1e-6 && tick <= high + step * 1e-6, where);
      assert.ok(Math.abs(tick / step - Math.round(tick / step)) < 1e-6, where);
      if (j) assert.ok(Math.abs(tick - ticks[j - 1] - step) < step * 1e-6, where);
    }
    const [from, to] = niceDomain(low, high, 5);
    assert.ok(from <= low + step * 1e-6 && to >= high - step * 1e-6 && to - from < high - low + 4 * step, where);
  }
});

test('log ticks are powers of ten over many decades, with 2 and 5 over few', () => {
  assert.deepEqual(logTicks(1e-4, 1), [1e-4, 1e-3, 1e-2, 1e-1, 1]);
  assert.deepEqual(logTicks(0.9, 101), [1, 2, 5, 10, 20, 50, 100]);
  assert.deepEqual(logTicks(1.1, 1.9), [1.2, 1.4, 1.6, 1.8]);
  const many = logTicks(1e-12, 1e12);
  assert.ok(many.length >= 4 && many.length <= 8, many.join());
});

test('labels of one axis agree in decimals, and share a factor where numbers are tiny', () => {
  assert.deepEqual(tickLabels([0, 0.5, 1], 'linear'), { labels: ['0.0', '0.5', '1.0'] });
  assert.deepEqual(tickLabels([0, 500, 1000], 'linear'), { labels: ['0', '500', '1,000'] });
  assert.deepEqual(tickLabels([0, 20000, 40000], 'linear'), { labels: ['0', '20k', '40k'] });
  assert.deepEqual(tickLabels([0, 5e-5, 1e-4], 'linear'), { labels: ['0.0', '0.5', '1.0'], factor: '× 10⁻⁴' });
  assert.deepEqual(tickLabels([1e-5, 2e-5, 0.01, 1, 100], 'log').labels, ['10⁻⁵', '2×10⁻⁵', '0.01', '1', '100']);
});

test('positions are linear in the value or in its logarithm', () => {
  assert.equal(position({ kind: 'linear', domain: [0, 10], range: [100, 0] }, 2.5), 75);
  assert.equal(position({ kind: 'log', domain: [1, 1e4], range: [0, 40] }, 100), 20);
});

test('a niced single value has room on both sides', () => {
  const [low, high] = niceDomain(0.5, 0.5);
  assert.ok(low < 0.5 && high > 0.5);
  const [below, above] = niceDomain(0, 0);
  assert.ok(below < 0 && above > 0);
});

test('thinning keeps ends, spikes and order', () => {
  const x = Array.from({ length: 10000 }, (_, i) => i);
  const y = x.map((i) => (i === 4321 ? 99 : i === 7777 ? -99 : Math.sin(i)));
  const less = thin(x, y, 300);
  assert.ok(less.x.length <= 300 && less.x.length > 100);
  assert.equal(less.x[0], 0);
  assert.equal(less.x.at(-1), 9999);
  assert.equal(less.y[less.x.indexOf(4321)], 99);
  assert.equal(less.y[less.x.indexOf(7777)], -99);
  assert.ok(less.x.every((value, i) => i === 0 || value > less.x[i - 1]));
  assert.deepEqual(thin([1, 2], [3, 4], 300), { x: [1, 2], y: [3, 4] });
});

test('a moving average leaves straight lines alone and skips what is not a number', () => {
  const line = Array.from({ length: 50 }, (_, i) => 3 * i + 1);
  for (const [i, value] of movingAverage(line, 9).entries()) assert.ok(Math.abs(value - line[i]) < 1e-9);
  assert.deepEqual(movingAverage([1, Number.NaN, 3], 3), [1, 2, 3]);
});
