import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { createRandom } from '../../src/base/random.js';
import { open, soundArrays } from '../../src/data/audio/dataset.js';
import { open as openFolder, readSound, soundFolder } from '../../src/data/audio/folder-node.js';
import { cropClip, featureStatistics, planSound, soundPreparation } from '../../src/data/audio/preparation.js';
import { resampler } from '../../src/data/audio/resample.js';
import { subset } from '../../src/data/dataset.js';
import { ffmpegPrograms } from '../../src/data/ffmpeg-process-node.js';

const scratch = mkdtempSync(join(tmpdir(), 'jepa-sound-'));
after(() => rmSync(scratch, { recursive: true }));

/** A 16-bit WAV file of [frames, channels] integers; `notes` bytes stand before the samples. */
function wav(samples: Int16Array, channels: number, rate: number, notes = 0): Buffer {
  const chunk = (id: string, body: Buffer): Buffer => {
    const head = Buffer.alloc(8);
    head.write(id, 'latin1');
    head.writeUInt32LE(body.length, 4);
    return Buffer.concat([head, body]);
  };
  const format = Buffer.alloc(16);
  format.writeUInt16LE(1, 0);
  format.writeUInt16LE(channels, 2);
  format.writeUInt32LE(rate, 4);
  format.writeUInt32LE(rate * channels * 2, 8);
  format.writeUInt16LE(channels * 2, 12);
  format.writeUInt16LE(16, 14);
  const data = Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength);
  const body = Buffer.concat([
    Buffer.from('WAVE'),
    chunk('fmt ', format),
    ...(notes > 0 ? [chunk('note', Buffer.alloc(notes))] : []),
    chunk('data', data),
  ]);
  return chunk('RIFF', body);
}

const ramp = (frames: number, channels = 1) =>
  Int16Array.from({ length: frames * channels }, (_, i) => Math.floor(i / channels) + (i % channels) * 100);

function place(path: string, content: Buffer): string {
  const full = join(scratch, path);
  mkdirSync(join(full, '..'), { recursive: true });
  writeFileSync(full, content);
  return full;
}

const jepaError = (pattern: RegExp) => (error: Error) =>
  error instanceof JepaError && pattern.test(error.message) && !error.message.includes('\n');

describe('recordings in memory', () => {
  const clips = [Float32Array.of(1, 2, 3), Float32Array.of(4), Float32Array.of(5, 6)];
  const labels = Int32Array.of(0, 1, 0);

  it('are read back, in loader threads too', async () => {
    const data = soundArrays({ name: 'mine', sampleRate: 8000, clips, labels, classNames: ['a', 'b'] });
    assert.ok(data.source?.kind === 'module');
    const reader = open(structuredClone(data.source.options));
    for (const [i, clip] of clips.entries()) {
      assert.deepEqual(await data.read(i), clip);
      assert.deepEqual(await reader.read(i), clip);
    }
    await assert.rejects(data.read(3), jepaError(/mine: there is no recording 3, indices are 0 to 2/));
    const some = subset(data, [2, 1]);
    assert.deepEqual([await some.read(0), [...some.labels!], some.sampleRate], [clips[2], [0, 1], 8000]);
  });

  it('must be as many as their labels', () => {
    assert.throws(
      () => soundArrays({ name: 'mine', sampleRate: 8000, clips, labels: Int32Array.of(1) }),
      jepaError(/mine: 3 recordings but 1 labels/),
    );
  });
});

describe('folders of recordings', () => {
  const frames = ramp(1000);
  const folder = join(scratch, 'folder');
  place('folder/low/a.wav', wav(frames, 1, 8000));
  place('folder/low/b.WAV', wav(ramp(1000, 2), 2, 8000));
  place('folder/other/c.wav', wav(frames, 1, 16000, 70_000));
  const values = Float32Array.from(frames, (v) => v / 0x8000);

  it('are classes; channels are averaged, rates are brought to one', async () => {
    const data = await soundFolder(folder);
    assert.deepEqual(
      [data.length, data.sampleRate, data.classNames, [...data.labels!]],
      [3, 8000, ['low', 'other'], [0, 0, 1]],
    );
    assert.deepEqual(await data.read(0), values);
    assert.deepEqual(
      await data.read(1),
      values.map((v) => v + 50 / 0x8000),
    );
    assert.deepEqual(await data.read(2), resampler(16000, 8000)(values));
    assert.deepEqual((await soundFolder(folder, { labels: 'none', sampleRate: 16000 })).sampleRate, 16000);
  });

  it('one recording is a set of one', async () => {
    const data = await soundFolder(join(folder, 'low', 'a.wav'));
    assert.deepEqual([data.length, data.sampleRate, data.labels], [1, 8000, undefined]);
    assert.deepEqual(await data.read(0), values);
    await assert.rejects(
      soundFolder(join(folder, 'none.wav')),
      jepaError(/cannot open .*none\.wav: it does not exist/),
    );
  });

  it('are read in part', async () => {
    const data = await soundFolder(folder, { seconds: 0.05 });
    assert.deepEqual(await data.read(0), values.subarray(0, 400));
    const starts = new Set<number>();
    assert.ok(data.source?.kind === 'module');
    const reader = openFolder(structuredClone(data.source.options));
    for (let i = 0; i < 40; i++) {
      const clip = await data.read(0, createRandom(i));
      const start = Math.round(clip[0] * 0x8000);
      assert.deepEqual(clip, values.subarray(start, start + 400));
      assert.deepEqual(await reader.read(0, createRandom(i)), clip);
      starts.add(start);
    }
    assert.ok(starts.size > 30 && Math.max(...starts) > 500 && Math.max(...starts) <= 600);
  });

  it('say what is wrong with a file', async () => {
    const reading = { sampleRate: 8000 };
    const cut = place('cut.wav', wav(frames, 1, 8000).subarray(0, 500));
    await assert.rejects(readSound(cut, reading), jepaError(/cut\.wav: not a readable WAV file: .*the file is cut/));
    await assert.rejects(readSound(join(scratch, 'none.wav'), reading), jepaError(/none\.wav/));
    const long = place('long.wav', wav(frames, 1, 100));
    await assert.rejects(
      readSound(long, { ...reading, maxSeconds: 9 }),
      jepaError(/long\.wav: 10 s are more than the limit of 9 s; set seconds/),
    );
    const fast = place('fast.wav', wav(frames, 1, 4e8));
    await assert.rejects(readSound(fast, reading), jepaError(/fast\.wav: resample: 400000000 Hz is no sampling rate/));
    // A float that is no number.
    const float = wav(new Int16Array(new Float32Array([0, Number.NaN]).buffer), 1, 8000);
    float.writeUInt16LE(3, 20);
    float.writeUInt16LE(4, 32);
    float.writeUInt16LE(32, 34);
    await assert.rejects(readSound(place('nan.wav', float), reading), jepaError(/nan\.wav: .*no finite numbers/));
    mkdirSync(join(scratch, 'empty'));
    await assert.rejects(soundFolder(join(scratch, 'empty')), jepaError(/this folder holds no recording/));
  });
});

describe('other formats', () => {
  /** Whether the tests of ffmpeg can run; says so where not. */
  function haveFfmpeg(t: TestContext): boolean {
    const found = ffmpegPrograms() !== undefined;
    if (!found) t.diagnostic('not run: no ffmpeg');
    return found;
  }

  it('come through ffmpeg, at their own rate, whole or in part', async (t) => {
    if (!haveFfmpeg(t)) return;
    const frames = ramp(24000, 2);
    const from = place('tone.wav', wav(frames, 2, 12000));
    const path = join(scratch, 'tone.flac');
    const made = spawnSync('ffmpeg', ['-v', 'error', '-y', '-i', from, path]);
    assert.equal(made.status, 0, String(made.stderr));
    for (const sampleRate of [12000, 8000]) {
      assert.deepEqual(await readSound(path, { sampleRate }), await readSound(from, { sampleRate }));
    }
    const reading = { sampleRate: 12000, seconds: 0.5 };
    for (const seed of [1, 2, 3]) {
      const clip = await readSound(path, reading, createRandom(seed));
      const start = Math.round(clip[0] * 0x8000 - 50);
      assert.equal(clip.length, 6000);
      assert.ok(Math.abs(start - createRandom(seed).uniform() * 18000) < 2);
      assert.ok(clip.every((v, i) => Math.round(v * 0x8000) === start + i + 50));
    }
    await assert.rejects(
      readSound(path, { sampleRate: 12000, maxSeconds: 1 }),
      jepaError(/tone\.flac: more than the limit of 1 s/),
    );
  });

  it('that are damaged or no sound are errors', async (t) => {
    if (!haveFfmpeg(t)) return;
    const path = place('noise.mp3', Buffer.from('this is no sound, and never was'));
    await assert.rejects(readSound(path, { sampleRate: 8000 }), jepaError(/noise\.mp3: /));
  });

  it('need ffmpeg', async () => {
    const file = place('x.flac', Buffer.from('x'));
    const path = process.env.PATH;
    process.env.PATH = scratch;
    try {
      await assert.rejects(
        readSound(file, { sampleRate: 8000 }),
        jepaError(/x\.flac: no decoder for this format was found; convert the file to WAV, or install ffmpeg/),
      );
    } finally {
      process.env.PATH = path;
    }
  });
});

describe('preparation', () => {
  const random = createRandom(1);
  const sounds = Array.from({ length: 12 }, (_, i) => {
    const clip = new Float32Array(3000 + 500 * i);
    random.fillNormal(clip, 0, 0.1 + 0.05 * i);
    return clip;
  });
  const data = soundArrays({ name: 'noise', sampleRate: 8000, clips: sounds });
  const input = { kind: 'sound', seconds: 0.5, features: { frames: 32, mels: 16 } } as const;

  it('cuts longer recordings and fills up shorter ones', () => {
    const clip = Float32Array.from({ length: 10 }, (_, i) => i + 1);
    assert.deepEqual([...cropClip(clip, 4, 'start', random)], [1, 2, 3, 4]);
    assert.deepEqual([...cropClip(clip, 4, 'middle', random)], [4, 5, 6, 7]);
    assert.deepEqual([...cropClip(clip, 12, 'random', random)], [...clip, 0, 0]);
    const starts = Array.from({ length: 200 }, () => cropClip(clip, 4, 'random', random)[0]);
    assert.deepEqual(
      [...new Set(starts)].sort((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7],
    );
  });

  it('gives spectrograms of the data set mean 0 and deviation 1', async () => {
    const plan = planSound(input, data, 'data.views[0]');
    const statistics = await featureStatistics(data, plan);
    const { fields, prepare } = soundPreparation(planSound({ ...input, statistics }, data, 'data.views[0]'));
    assert.deepEqual(fields, [{ name: 'images', dtype: 'float32', shape: [1, 32, 16] }]);
    const all: number[] = [];
    for (let i = 0; i < data.length; i++) {
      const out = new Float32Array(512);
      prepare(await data.read(i), random.split(i), [out]);
      all.push(...out);
    }
    const mean = all.reduce((a, b) => a + b) / all.length;
    const std = Math.sqrt(all.reduce((sum, v) => sum + (v - mean) ** 2, 0) / all.length);
    // Other parts of the recordings are seen, hence the room.
    assert.ok(Math.abs(mean) < 0.05 && Math.abs(std - 1) < 0.05, `${mean} ${std}`);
  });

  it('has as many frames as asked for, the last ones of sound', async () => {
    const { prepare } = soundPreparation(planSound({ ...input, crop: 'start' }, data, 'x'));
    const out = new Float32Array(512);
    // Silence, then a click in the last quarter of the last of 32 frames of 125 samples.
    const clip = new Float32Array(4000);
    clip[3990] = 1;
    prepare(clip, random, [out]);
    const last = out.subarray(31 * 16);
    assert.ok(Math.min(...last) > Math.max(...out.subarray(0, 28 * 16)) + 0.3);
  });

  it('erases stripes only where asked', async () => {
    const specAugment = { timeStripes: 1, timeWidth: 8, frequencyStripes: 1, frequencyWidth: 4 };
    const { prepare } = soundPreparation(planSound({ ...input, specAugment }, data, 'x'));
    const counts = [];
    for (let i = 0; i < 20; i++) {
      const out = new Float32Array(512);
      prepare(sounds[3], random.split(i), [out]);
      counts.push(out.filter((v) => v === 0).length);
    }
    assert.ok(Math.max(...counts) > 60 && counts.every((n) => n <= 7 * 16 + 3 * 32));
  });

  it('refuses what does not fit', () => {
    assert.throws(
      () => planSound({ ...input, seconds: 0 }, data, 'd'),
      jepaError(/d\.seconds must be positive, not 0/),
    );
    assert.throws(
      () => planSound({ ...input, features: 'audiojepa' }, data, 'd'),
      jepaError(/d\.features: audiojepa is defined for 32000 Hz, but noise has 8000 Hz; open it with sampleRate 32000/),
    );
    assert.throws(
      () => planSound({ ...input, features: { frames: 5000, mels: 8 } }, data, 'd'),
      jepaError(/d\.features: 5000 frames do not fit a clip of 4000 samples/),
    );
    assert.throws(
      () => planSound({ ...input, statistics: { mean: 0, std: 0 } }, data, 'd'),
      jepaError(/d\.statistics\.std must be positive/),
    );
  });

  it('a published front end takes its own rate', () => {
    const plan = planSound(
      { kind: 'sound', seconds: 10, features: 'audiojepa' },
      { name: 'x', sampleRate: 32000 },
      'd',
    );
    assert.deepEqual(soundPreparation(plan).fields[0].shape, [1, 512, 96]);
  });
});
