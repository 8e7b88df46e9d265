import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { realFft } from '../../src/data/audio/fft.js';
import { CYCLE, INSTRUMENTS, onsets, open, RHYTHMS, TONE_FACTORS, tones } from '../../src/data/procedural/tones.js';

/** Shares of the phases of a rhythm at which a window of `units` shows each pattern of onsets; cells of 1/8 unit. */
function windows(rhythm: readonly number[], units: number): Map<string, number> {
  const cells = 8;
  const marked = new Set(onsets(rhythm, 0, CYCLE).map((time) => time * cells));
  const found = new Map<string, number>();
  for (let phase = 0; phase < CYCLE * cells; phase++) {
    let pattern = '';
    for (let i = 0; i < units * cells; i++) pattern += marked.has((phase + i) % (CYCLE * cells)) ? 'x' : '.';
    found.set(pattern, (found.get(pattern) ?? 0) + 1);
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

describe('rhythms', () => {
  it('are cycles of one length with the same intervals and neighbours, and different', () => {
    const pairs = RHYTHMS.map((rhythm) => {
      assert.equal(
        rhythm.reduce((a, b) => a + b, 0),
        CYCLE,
      );
      return rhythm.map((interval, i) => `${interval}${rhythm[(i + 1) % rhythm.length]}`).sort();
    });
    for (const one of pairs) assert.deepEqual(one, pairs[0]);
    const rotations = RHYTHMS.map((rhythm) =>
      rhythm.map((_, i) => [...rhythm.slice(i), ...rhythm.slice(0, i)].join('')).sort(),
    );
    assert.equal(new Set(rotations.map(([first]) => first)).size, RHYTHMS.length);
  });

  it('no window shorter than three units tells them apart, one of six does', () => {
    for (const units of [1, 2, 2.5, 2.875]) {
      const first = windows(RHYTHMS[0], units);
      for (const rhythm of RHYTHMS) assert.deepEqual([...windows(rhythm, units)], [...first]);
    }
    const long = RHYTHMS.map((rhythm) => JSON.stringify([...windows(rhythm, 6)]));
    assert.equal(new Set(long).size, RHYTHMS.length);
  });

  it('begin anywhere in the cycle', () => {
    assert.deepEqual(onsets([1, 2], 0, 5), [0, 1, 3, 4]);
    assert.deepEqual(onsets([1, 2], 2.5, 4), [0.5, 1.5, 3.5]);
  });
});

const silent = { noise: -300 };

describe('recordings', () => {
  it('are functions of the seed and their number, in any thread', async () => {
    const data = tones({ count: 5, seed: 3 });
    const one = await data.read(4);
    assert.equal(one.length, 24000);
    assert.deepEqual(one, await tones({ count: 9, seed: 3 }).read(4));
    assert.notDeepEqual(one, await tones({ count: 5, seed: 4 }).read(4));
    assert.ok(data.source?.kind === 'module');
    assert.deepEqual(one, await open(structuredClone(data.source.options)).read(4));
  });

  it('have notes where their factors say, and none elsewhere', async () => {
    const options = { count: 8, seed: 1, factors: { ...silent, decay: 0.02, glide: 0, unit: 0.15 } };
    const data = tones(options);
    for (let index = 0; index < data.length; index++) {
      const clip = await data.read(index);
      const rate = data.sampleRate;
      const sums = new Float64Array(clip.length + 1);
      for (let i = 0; i < clip.length; i++) sums[i + 1] = sums[i] + clip[i] * clip[i];
      const at = (seconds: number) => sums[Math.min(clip.length, Math.round(seconds * rate))];
      const energy = (from: number, seconds: number) => at(from + seconds) - at(from);
      // Onsets are steps of energy.
      const found: number[] = [];
      for (let t = 0.02; t < data.factors!.unit[index] * 18; t += 0.001) {
        if (energy(t, 0.01) > 20 * energy(t - 0.012, 0.01) + 1e-9 && (found.length === 0 || t - found.at(-1)! > 0.05))
          found.push(t);
      }
      const intervals = found.slice(1).map((t, i) => Math.round((t - found[i]) / 0.15));
      const cycle = RHYTHMS[data.labels![index]].join('');
      assert.ok(intervals.length > 8, `${intervals}`);
      assert.ok((cycle + cycle + cycle).includes(intervals.join('')), `${intervals} is not of ${cycle}`);
    }
  });

  it('have the partials of their instruments at multiples of their pitch', async () => {
    // 125 Hz at 8000 Hz: 64 samples a period, and partial m lies in bin 20 m of a transform of 1280 samples.
    const factors = { ...silent, pitch: 125, glide: 0, unit: 0.2, decay: 10 };
    const data = tones({ count: 40, seed: 2, labels: 'instrument', factors });
    const plan = realFft(1280);
    const [re, im] = [new Float64Array(plan.bins), new Float64Array(plan.bins)];
    const seen = new Set<number>();
    for (let index = 0; index < data.length; index++) {
      const { partials } = INSTRUMENTS[data.labels![index]];
      seen.add(data.labels![index]);
      const clip = await data.read(index);
      // The first note's begin, past its rise.
      const start = clip.findIndex((v) => Math.abs(v) > 1e-6) + 40;
      plan.transform(Float64Array.from(clip.subarray(start, start + 1280)), re, im);
      const magnitude = (multiple: number) => Math.hypot(re[20 * multiple], im[20 * multiple]);
      const strongest = magnitude(1);
      for (const { multiple, amplitude } of partials)
        assert.ok(Math.abs(magnitude(multiple) / strongest - amplitude) < 0.02, `${index} ${multiple}`);
      if (partials[1].multiple === 3) assert.ok(magnitude(2) / strongest < 0.02);
    }
    assert.equal(seen.size, INSTRUMENTS.length);
  });

  it('have the loudness and the noise that their factors say', async () => {
    const rms = (clip: Float32Array) => Math.sqrt(clip.reduce((sum, v) => sum + v * v, 0) / clip.length);
    const options = { count: 4, seed: 5 };
    const factors = { loudness: -20 };
    const pure = tones({ ...options, factors: { ...factors, ...silent } });
    const noisy = tones({ ...options, factors: { ...factors, noise: -10 } });
    for (let index = 0; index < 4; index++) {
      const [a, b] = [await pure.read(index), await noisy.read(index)];
      assert.ok(Math.abs(rms(a) - 0.1) < 1e-5);
      assert.ok(Math.abs(rms(b.map((v, i) => v - a[i])) / 10 ** -1.5 - 1) < 0.02);
    }
  });

  it('have factors within their intervals, evenly', () => {
    const data = tones({ count: 4000 });
    for (const [name, [low, high]] of Object.entries(TONE_FACTORS)) {
      const values = [...data.factors![name]];
      assert.ok(values.every((v) => v >= low - 1e-6 && v <= high + 1e-6));
      const middle = name === 'pitch' ? Math.sqrt(low * high) : (low + high) / 2;
      const above = values.filter((v) => v > middle).length;
      assert.ok(Math.abs(above - 2000) < 130, `${name} ${above}`);
    }
    for (const [classes, count] of [
      [data.labels!, RHYTHMS.length],
      [data.attributes!.instrument, INSTRUMENTS.length],
    ] as const) {
      for (let c = 0; c < count; c++) {
        const share = classes.filter((one) => one === c).length / 4000;
        assert.ok(Math.abs(share - 1 / count) < 0.03);
      }
    }
    const { pitch, glide, 'pitch at the end': end } = data.factors!;
    assert.ok(Math.abs(end[7] - pitch[7] * 2 ** (3 * glide[7])) < 1e-3);
  });

  it('that cannot hold a cycle are refused', () => {
    assert.throws(() => tones({ count: 1, seconds: 1 }), /a cycle of a rhythm lasts up to 1.92 s and a recording 1 s/);
    assert.throws(() => tones({ count: 0 }), /count must be 1 or more, not 0/);
    assert.equal(tones({ count: 1, seconds: 1, labels: 'instrument' }).classNames?.length, 6);
  });
});
