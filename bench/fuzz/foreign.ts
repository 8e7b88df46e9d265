import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeSound } from '../../src/data/audio/ffmpeg-node.js';
import { decodeImage } from '../../src/data/decode-node.js';
import { DECODE_DEFAULTS } from '../../src/data/image-format.js';
import { videoFiles } from '../../src/data/video/files-node.js';
import { openHdf5 } from '../../src/hub/hdf5-node.js';
import { readParquet } from '../../src/hub/parquet.js';
import { bytesSource } from '../../src/hub/source.js';
import { crc32 } from '../../src/hub/zip.js';
import { golden, type Reader, WHERE } from './reader.js';

/** Libraries of others, behind our errors and limits. */
export const ALL: readonly Reader[] = [
  {
    name: 'image',
    seeds: () => golden(['formats/images'], /\.(jpe?g|png|webp|gif|tiff)$/),
    repair: repairPng,
    foreign: true,
    read: (bytes) => decodeImage(bytes, WHERE, { ...DECODE_DEFAULTS, maxPixels: 1 << 22 }),
  },
  {
    name: 'hdf5',
    seeds: () => golden(['formats/hdf5'], /\.(h5|hdf5)$/),
    foreign: true,
    async read(bytes, tools) {
      const file = await openHdf5(tools.file(bytes, '.h5'));
      try {
        return [...file.datasets.values()].map((dataset) => dataset.read());
      } finally {
        file.close();
      }
    },
  },
  {
    name: 'parquet',
    seeds: () => golden(['formats/table'], /\.parquet$/),
    foreign: true,
    read: (bytes) => readParquet(bytesSource(bytes, WHERE)),
  },
  {
    name: 'video',
    seeds: () => {
      const { files } = golden(['formats/images'], /animated\.gif$/);
      return { files: [...files, ...['mp4', 'webm'].map((ending) => madeBy(ending, TEST_VIDEO))] };
    },
    foreign: true,
    async read(bytes, tools) {
      const path = tools.file(bytes, bytes[0] === 0x47 ? '.gif' : '.mp4');
      const decode = { channels: 3, maxPixels: 1 << 20, timeout: 10 } as const;
      const videos = videoFiles({ name: WHERE, paths: [path], decode, fps: 30 });
      const { frames } = await videos.read(0, ({ count }) =>
        Int32Array.from({ length: Math.min(8, count) }, (_, i) => i),
      );
      return frames;
    },
  },
  {
    name: 'sound',
    seeds: () => ({ files: ['flac', 'ogg', 'mp3', 'm4a'].map((ending) => madeBy(ending, TEST_SOUND)) }),
    foreign: true,
    read: (bytes, tools) => decodeSound(tools.file(bytes, '.audio'), { seconds: 10, maxSeconds: 60 }, 0.5),
  },
];

/** Eight frames of 32 x 32 pixels. */
const TEST_VIDEO = 'testsrc=size=32x32:rate=8:duration=1';
/** A tone of half a second. */
const TEST_SOUND = 'sine=frequency=440:sample_rate=8000:duration=0.5';

/** What ffmpeg makes of one of its sources. */
function madeBy(ending: string, source: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'jepa-fuzz-'));
  try {
    const path = join(folder, `seed.${ending}`);
    const { status } = spawnSync('ffmpeg', ['-v', 'error', '-f', 'lavfi', '-i', source, path]);
    if (status !== 0) throw new Error(`ffmpeg cannot write ${ending}; install ffmpeg to fuzz what it decodes`);
    return new Uint8Array(readFileSync(path));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Checksums of the chunks of a PNG file. */
function repairPng(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[1] !== 0x50) return;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (at + 12 + length > bytes.length) return;
    view.setUint32(at + 8 + length, crc32(bytes.subarray(at + 4, at + 8 + length)));
    at += 12 + length;
  }
}
