import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatBytes,
  formatClock,
  formatDuration,
  formatFixed,
  formatMean,
  formatNumber,
  power,
} from '../../src/report/format.js';

test('numbers keep significant digits and lose noise', () => {
  const cases: [number, number, string][] = [
    [0, 3, '0'],
    [0.1368, 3, '0.137'],
    [33, 4, '33'],
    [79.04, 3, '79'],
    [1726.4, 3, '1,726'],
    [43710, 3, '43,710'],
    [999.96, 4, '1,000'],
    [-0.25, 3, '−0.25'],
    [1.5e-4, 3, '1.5 × 10⁻⁴'],
    [1e-5, 3, '10⁻⁵'],
    [-2e12, 3, '−2 × 10¹²'],
    [0.0009996, 3, '0.001'],
    [Number.NaN, 3, '–'],
    [Number.POSITIVE_INFINITY, 3, '∞'],
  ];
  for (const [value, digits, text] of cases) assert.equal(formatNumber(value, digits), text, `${value}`);
  assert.equal(formatFixed(-0.01, 1), '0.0');
  assert.equal(formatFixed(1234567.25, 1), '1,234,567.3');
  assert.equal(power(-12), '10⁻¹²');
});

test('times and sizes carry their units', () => {
  assert.equal(formatClock(7.4), '0:07');
  assert.equal(formatClock(125), '2:05');
  assert.equal(formatClock(3725), '1:02:05');
  assert.equal(formatClock(Number.NaN), '–:––');
  assert.equal(formatDuration(0.00085), '850 µs');
  assert.equal(formatDuration(0.0742), '74.2 ms');
  assert.equal(formatDuration(0.9996), '1 s');
  assert.equal(formatDuration(59.97), '1 min 00 s');
  assert.equal(formatDuration(185), '3 min 05 s');
  assert.equal(formatDuration(7800), '2 h 10 min');
  assert.equal(formatDuration(7199), '2 h 00 min');
  assert.equal(formatBytes(512), '512 B');
  assert.equal(formatBytes(1024 * 1024), '1 MiB');
  assert.equal(formatBytes(1023), '1,023 B');
});

test('a mean is as exact as two digits of its error', () => {
  assert.equal(formatMean(0.003471, 0.000208), '0.00347 ± 0.00021');
  assert.equal(formatMean(112.4, 37.9), '112 ± 38');
  assert.equal(formatMean(2, 0.0996), '2.00 ± 0.10');
  assert.equal(formatMean(1000, 0), '1,000');
  assert.equal(formatMean(0.25), '0.25');
});
