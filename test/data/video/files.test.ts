import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import sharp from 'sharp';
import { JepaError } from '../../../src/base/errors.js';
import { frameOf } from '../../../src/data/video/clip.js';
import { streamVideo, type VideoDataset, type VideoFrames } from '../../../src/data/video/dataset.js';
import { findFfmpeg } from '../../../src/data/video/ffmpeg-node.js';
import { openVideoFiles } from '../../../src/data/video/open-node.js';

const scratch = mkdtempSync(join(tmpdir(), 'jepa-video-'));
after(() => rmSync(scratch, { recursive: true }));

const WIDTH = 48;
const HEIGHT = 32;

/** Frame n: the eight bits of n as white and black bars, the highest on the left, below a line of red. */
function frames(count: number): Buffer {
  const data = Buffer.alloc(count * HEIGHT * WIDTH * 3);
  for (let n = 0, at = 0; n < count; n++) {
    for (let y = 0; y < HEIGHT; y++) {
      for (let x = 0; x < WIDTH; x++, at += 3) {
        data.fill((n >> (7 - Math.floor((8 * x) / WIDTH))) & 1 ? 255 : 0, at, at + 3);
        if (y < 8) data[at] = 200;
      }
    }
  }
  return data;
}

/** Number of the frame that a picture shows. */
function numberOf(frame: Uint8Array, height: number, width: number, channels: number): number {
  let number = 0;
  for (let bit = 0; bit < 8; bit++) {
    const x = Math.floor(((bit + 0.5) * width) / 8);
    number = 2 * number + (frame[((height - 4) * width + x) * channels] > 127 ? 1 : 0);
  }
  return number;
}

function numbersOf(clip: VideoFrames): number[] {
  return Array.from({ length: clip.frames }, (_, i) =>
    numberOf(frameOf(clip, i), clip.height, clip.width, clip.channels),
  );
}

/** A lossless video with groups of twelve frames and frames that depend on later ones. */
function encode(path: string, count: number, rate: string, ...args: string[]): void {
  const input = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${WIDTH}x${HEIGHT}`, '-r', rate, '-i', 'pipe:0'];
  const made = spawnSync('ffmpeg', ['-v', 'error', '-y', ...input, ...args, path], { input: frames(count) });
  assert.equal(made.status, 0, String(made.stderr));
}
const X264 = ['-c:v', 'libx264', '-preset', 'ultrafast', '-qp', '0', '-bf', '2', '-g', '12', '-pix_fmt', 'yuv444p'];

/** Whether the tests of ffmpeg can run; says so where not. */
function haveFfmpeg(t: TestContext): boolean {
  const found = findFfmpeg() !== undefined;
  if (!found) t.diagnostic('not run: no ffmpeg');
  return found;
}

const every = (facts: { count: number }) => Array.from({ length: facts.count }, (_, i) => i);
const jepaError = (pattern: RegExp) => (error: Error) =>
  error instanceof JepaError && pattern.test(error.message) && !error.message.includes('\n');

async function collect(videos: VideoDataset, index: number, step: number, chunk: number): Promise<VideoFrames[]> {
  const pieces: VideoFrames[] = [];
  for await (const piece of streamVideo(videos, index, step, chunk)) pieces.push(piece);
  return pieces;
}

describe('ffmpeg', { concurrency: true }, () => {
  const one = async (name: string, options = {}) => openVideoFiles({ path: join(scratch, name), ...options });

  it('gives the frames that are asked for, from anywhere and in any order', async (t) => {
    if (!haveFfmpeg(t)) return;
    // 5 s at 24 frames a second: late frames are reached by seeking. Webm says not how many frames there are.
    encode(join(scratch, 'a.mp4'), 120, '24', ...X264);
    encode(
      join(scratch, 'b.webm'),
      120,
      '24000/1001',
      '-c:v',
      'libvpx-vp9',
      '-lossless',
      '1',
      '-cpu-used',
      '8',
      '-g',
      '12',
    );
    encode(join(scratch, 'c.mov'), 120, '30', '-c:v', 'mpeg4', '-q:v', '1', '-g', '12', '-bf', '2');
    for (const [name, fps] of [
      ['a.mp4', 24],
      ['b.webm', 24000 / 1001],
      ['c.mov', 30],
    ] as const) {
      const video = await one(name);
      for (const wanted of [every({ count: 120 }), [119], [110, 90, 100, 100, 5]]) {
        const clip = await video.read(0, () => wanted);
        assert.deepEqual(numbersOf(clip), wanted, name);
        assert.deepEqual([...clip.indices], wanted);
        const { count, width, height } = clip.facts;
        assert.deepEqual([count, width, height, clip.channels], [120, WIDTH, HEIGHT, 3]);
        assert.ok(Math.abs(clip.facts.fps - fps) < 0.01, `${clip.facts.fps}`);
      }
    }
  });

  it('reduces, turns grey and upright, and streams a whole video', async (t) => {
    if (!haveFfmpeg(t)) return;
    encode(join(scratch, 'd.mp4'), 40, '10', ...X264);
    const small = await one('d.mp4', { shortSide: 16, channels: 1 });
    const clip = await small.read(0, () => [7, 30]);
    assert.deepEqual([clip.height, clip.width, clip.channels, clip.data.length], [16, 24, 1, 2 * 16 * 24]);
    assert.deepEqual(numbersOf(clip), [7, 30]);
    const pieces = await collect(await one('d.mp4'), 0, 3, 5);
    assert.deepEqual(pieces.flatMap(numbersOf), [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39]);
    assert.deepEqual(
      pieces.flatMap(({ indices }) => [...indices]),
      pieces.flatMap(numbersOf),
    );
    assert.deepEqual(
      pieces.map((piece) => piece.frames),
      [5, 5, 4],
    );
    // Leaving early ends the decoder; the test would not end otherwise.
    for await (const piece of streamVideo(await one('d.mp4'), 0, 1, 2)) {
      assert.equal(piece.frames, 2);
      break;
    }
    spawnSync('ffmpeg', [
      '-v',
      'error',
      '-y',
      '-i',
      join(scratch, 'd.mp4'),
      '-c',
      'copy',
      '-metadata:s:v:0',
      'rotate=90',
      join(scratch, 'turned.mp4'),
    ]);
    const turned = await (await one('turned.mp4')).read(0, () => [4]);
    assert.deepEqual([turned.height, turned.width], [WIDTH, HEIGHT]);
  });

  it('a video with frames at irregular times is counted by frames', async (t) => {
    if (!haveFfmpeg(t)) return;
    // Every third frame left out, the times kept.
    encode(join(scratch, 'e.mkv'), 120, '24', '-vf', 'select=mod(n\\,3)', '-vsync', 'vfr', ...X264);
    const clip = await (await one('e.mkv')).read(0, () => [0, 1, 2, 3, 75, 79]);
    assert.deepEqual(numbersOf(clip), [1, 2, 4, 5, 113, 119]);
    assert.equal(clip.facts.count, 80);
  });

  it('damaged, empty and foreign files are one-line errors', async (t) => {
    if (!haveFfmpeg(t)) return;
    encode(join(scratch, 'cut.mkv'), 60, '24', ...X264);
    const whole = readFileSync(join(scratch, 'cut.mkv'));
    encode(join(scratch, 'short.mp4'), 60, '24', '-movflags', '+faststart', ...X264);
    truncateSync(join(scratch, 'short.mp4'), Math.floor(readFileSync(join(scratch, 'short.mp4')).length / 2));
    await assert.rejects(
      (await one('short.mp4')).read(0, () => [50]),
      jepaError(/short\.mp4: .*(damaged|decoded)/),
    );
    writeFileSync(
      join(scratch, 'noise.mp4'),
      whole.map((byte) => byte ^ 0x5a),
    );
    await assert.rejects(
      (await one('noise.mp4')).read(0, () => [0]),
      jepaError(/noise\.mp4: /),
    );
    writeFileSync(join(scratch, 'empty.mp4'), '');
    await assert.rejects(
      (await one('empty.mp4')).read(0, () => [0]),
      jepaError(/empty\.mp4: /),
    );
    // A playlist could name any other file: it is no container of frames.
    writeFileSync(
      join(scratch, 'list.mp4'),
      `#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n${join(scratch, 'cut.mkv')}\n#EXT-X-ENDLIST\n`,
    );
    await assert.rejects(
      (await one('list.mp4')).read(0, () => [0]),
      jepaError(/list\.mp4: /),
    );
    await assert.rejects(
      (await one('cut.mkv')).read(0, () => [60]),
      jepaError(/there is no frame 60, the video has 60/),
    );
    await assert.rejects(
      (await one('cut.mkv', { maxPixels: 1000 })).read(0, () => [0]),
      jepaError(/more than the limit/),
    );
    await assert.rejects(
      openVideoFiles(join(scratch, 'missing.mp4')),
      jepaError(/missing\.mp4: there is no such file/),
    );
  });

  it('decoded frames are kept: the next time the decoder is not asked', async (t) => {
    if (!haveFfmpeg(t)) return;
    const path = join(scratch, 'kept.mp4');
    encode(path, 50, '24', ...X264);
    const time = new Date(1.7e12);
    utimesSync(path, time, time);
    const cache = { folder: join(scratch, 'cache'), maxBytes: 1e7 };
    const request = () => [40, 20, 30];
    const first = await one('kept.mp4', { cache });
    const clip = await first.read(0, request);
    await first.close?.();
    const again = await one('kept.mp4', { cache });
    assert.deepEqual((await again.read(0, request)).data, clip.data);
    // Other content of the same time and size: only the cache still has the frames, and those between them.
    writeFileSync(path, new Uint8Array(readFileSync(path).length));
    utimesSync(path, time, time);
    assert.deepEqual((await again.read(0, request)).data, clip.data);
    assert.deepEqual(numbersOf(await again.read(0, () => [22, 39])), [22, 39]);
    await assert.rejects(
      again.read(0, () => [10]),
      jepaError(/kept\.mp4: /),
    );
    utimesSync(path, time, new Date(1.8e12));
    await assert.rejects(again.read(0, request), jepaError(/kept\.mp4: /));
    await again.close?.();
  });
});

it('a video is asked for its facts once, however many clips are read of it', async (t) => {
  if (!haveFfmpeg(t) || process.platform === 'win32') return;
  encode(join(scratch, 'once.mp4'), 24, '24', ...X264);
  const [path, bin, log] = [process.env.PATH, join(scratch, 'bin'), join(scratch, 'probes.txt')];
  mkdirSync(bin);
  for (const program of ['ffmpeg', 'ffprobe']) {
    const real = String(spawnSync('which', [program]).stdout).trim();
    writeFileSync(join(bin, program), `#!/bin/sh\necho ${program} >> ${log}\nexec ${real} "$@"\n`, { mode: 0o755 });
  }
  process.env.PATH = `${bin}:${path}`;
  try {
    const videos = await openVideoFiles(join(scratch, 'once.mp4'));
    for (const first of [0, 8, 16]) assert.deepEqual(numbersOf(await videos.read(0, () => [first])), [first]);
    assert.deepEqual(readFileSync(log, 'utf8').trim().split('\n').sort(), ['ffmpeg', 'ffmpeg', 'ffmpeg', 'ffprobe']);
  } finally {
    process.env.PATH = path;
  }
});

describe('without ffmpeg', () => {
  async function gif(path: string, count: number, delay: number): Promise<void> {
    const raw = { width: WIDTH, height: HEIGHT * count, channels: 3, pageHeight: HEIGHT } as const;
    await sharp(frames(count), { raw })
      .gif({ delay: new Array(count).fill(delay), colours: 256 })
      .toFile(path);
  }

  it('a video is an error that says what to install', async () => {
    writeFileSync(join(scratch, 'x.mp4'), 'x');
    const path = process.env.PATH;
    process.env.PATH = scratch;
    try {
      const videos = await openVideoFiles(join(scratch, 'x.mp4'));
      await assert.rejects(
        videos.read(0, () => [0]),
        jepaError(/x\.mp4: no video decoder was found; install ffmpeg/),
      );
    } finally {
      process.env.PATH = path;
    }
  });

  it('GIF animations', async () => {
    const path = join(scratch, 'moving.gif');
    await gif(path, 20, 80);
    const videos = await openVideoFiles(path);
    const clip = await videos.read(0, () => [3, 4, 5, 19, 0, 19]);
    assert.deepEqual(numbersOf(clip), [3, 4, 5, 19, 0, 19]);
    assert.deepEqual(clip.facts, { count: 20, fps: 12.5, height: HEIGHT, width: WIDTH });
    const whole = await collect(await openVideoFiles({ path, channels: 1, shortSide: 16 }), 0, 2, 4);
    assert.deepEqual(
      whole.map(({ frames, height, width, channels }) => [frames, height, width, channels]),
      [
        [4, 16, 24, 1],
        [4, 16, 24, 1],
        [2, 16, 24, 1],
      ],
    );
    assert.deepEqual(whole.flatMap(numbersOf), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    writeFileSync(path, readFileSync(path).subarray(0, 60));
    await assert.rejects(
      (await openVideoFiles(path)).read(0, every),
      jepaError(/moving\.gif: the animation cannot be decoded/),
    );
  });

  it('folders of pictures, with classes and parts', async () => {
    const root = join(scratch, 'pictures');
    const write = async (folder: string, count: number) => {
      mkdirSync(join(root, folder), { recursive: true });
      for (let n = 0; n < count; n++) {
        const data = frames(count).subarray(n * HEIGHT * WIDTH * 3, (n + 1) * HEIGHT * WIDTH * 3);
        const raw = { width: WIDTH, height: HEIGHT, channels: 3 } as const;
        await sharp(data, { raw })
          .png()
          .toFile(join(root, folder, `frame${n}.png`));
      }
    };
    await write('train/run/one', 12);
    await write('train/walk/two', 3);
    await write('train/walk/three', 2);
    await write('val/walk/four', 2);
    const train = await openVideoFiles({ path: root, fps: 12 });
    assert.deepEqual([...train.labels!], [0, 1, 1]);
    assert.deepEqual(train.classNames, ['run', 'walk']);
    const clip = await train.read(0, every);
    // Frame 10 comes after frame 9.
    assert.deepEqual(numbersOf(clip), every({ count: 12 }));
    assert.equal(clip.facts.fps, 12);
    const test = await openVideoFiles({ path: root, split: 'test' });
    assert.deepEqual([...test.labels!], [1]);
    const flat = await openVideoFiles(join(root, 'train', 'walk'));
    assert.equal(flat.labels, undefined);
    assert.equal(flat.length, 2);
    assert.match(flat.nameOf!(0), /three$/);
    cpSync(join(root, 'train/run/one/frame0.png'), join(root, 'train/walk/two/frame9.png'));
    await sharp(join(root, 'train/run/one/frame0.png')).resize(10, 10).toFile(join(root, 'train/walk/two/frame9.png'));
    await assert.rejects(
      (await openVideoFiles(join(root, 'train'))).read(2, every),
      jepaError(/frame9\.png: 10 x 10, the first/),
    );
  });

  it('lists and class folders', async () => {
    const root = join(scratch, 'lists');
    mkdirSync(join(root, 'b', 'deep'), { recursive: true });
    mkdirSync(join(root, 'a'));
    await gif(join(root, 'a', 'first clip.gif'), 4, 100);
    await gif(join(root, 'b', 'deep', 'second.gif'), 6, 100);
    await sharp(frames(1), { raw: { width: WIDTH, height: HEIGHT, channels: 3 } }).toFile(join(root, 'still.png'));
    writeFileSync(join(root, 'list.csv'), `a/first clip.gif 3\nstill.png 1\n${join(root, 'b/deep/second.gif')} 0\n`);
    const list = await openVideoFiles(join(root, 'list.csv'));
    assert.deepEqual([...list.labels!], [3, 1, 0]);
    const counts: number[] = [];
    for (let i = 0; i < 3; i++) counts.push((await list.read(i, () => [0])).facts.count);
    assert.deepEqual(counts, [4, 1, 6]);
    rmSync(join(root, 'still.png'));
    const folder = await openVideoFiles(root);
    assert.deepEqual([...folder.labels!], [0, 1]);
    assert.deepEqual(folder.classNames, ['a', 'b']);
    assert.equal((await openVideoFiles({ path: root, labels: 'none' })).labels, undefined);
    mkdirSync(join(root, 'c'));
    await assert.rejects(openVideoFiles(root), jepaError(/the class folder "c" holds no video/));
    assert.deepEqual(readdirSync(root).sort(), ['a', 'b', 'c', 'list.csv']);
  });
});
