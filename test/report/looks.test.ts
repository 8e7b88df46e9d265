import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32, int32 } from '../../src/base/tensor.js';
import type { Dataset, RawImage } from '../../src/data/dataset.js';
import { stickFigures } from '../../src/data/procedural/stick-figures.js';
import { learnTokenizer, openTokenizer } from '../../src/data/text/plan.js';
import { lookOf, wordsOfTokens } from '../../src/report/looks.js';

const nothing = {} as Dataset;

/** The mean of each cell of a picture of one channel. */
function cellMeans({ width, height, data }: RawImage, rows: number, columns: number): number[] {
  const [h, w] = [height / rows, width / columns];
  return Array.from({ length: rows * columns }, (_, cell) => {
    let sum = 0;
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        sum += data[(Math.floor(cell / columns) * h + y) * width + (cell % columns) * w + x];
      }
    }
    return sum / (h * w);
  });
}

test('tokens of a clip lie on the frames of its sheet', () => {
  // Three steps of two frames, 2 x 2 patches of 2 x 2 pixels: every pixel holds the number of its token.
  const clip = new Float32Array(6 * 4 * 4);
  for (let i = 0; i < clip.length; i++) {
    const [frame, y, x] = [Math.floor(i / 16), Math.floor(i / 4) % 4, i % 4];
    clip[i] = (20 * (Math.floor(frame / 2) * 4 + Math.floor(y / 2) * 2 + Math.floor(x / 2))) / 255;
  }
  const transform = { kind: 'evaluate' as const, size: 4, mean: [0], std: [1] };
  const look = lookOf({ kind: 'video', transform }, [3, 2, 2], nothing);
  const [sheet] = look.pictures({ clips: float32([1, 1, 6, 4, 4], clip) }) as RawImage[];
  assert.deepEqual([sheet.width, sheet.height, sheet.channels], [12, 4, 1]);
  const { rows, columns, cells } = look.layout!;
  const means = cellMeans(sheet, rows, columns);
  assert.deepEqual(
    Array.from(cells, (cell) => means[cell]),
    Array.from({ length: 12 }, (_, token) => 20 * token),
  );
});

test('spectrograms have time to the right and high sounds above', () => {
  // Two steps of two frames and three bands of one mel; brighter with the band, and with time.
  const values = Array.from({ length: 4 * 3 }, (_, i) => -2 + (i % 3) + 0.4 * Math.floor(i / 3));
  const look = lookOf({ kind: 'sound', seconds: 1, features: { frames: 4, mels: 3 } }, [2, 3], nothing);
  const [picture] = look.pictures({ images: float32([1, 1, 4, 3], values) }) as RawImage[];
  assert.deepEqual([picture.width, picture.height], [4, 3]);
  const brightness = (x: number, y: number): number =>
    picture.data.subarray((y * 4 + x) * 3, (y * 4 + x) * 3 + 3).reduce((a, b) => a + b, 0);
  assert.ok(brightness(0, 0) > brightness(0, 1) && brightness(0, 1) > brightness(0, 2));
  assert.ok(brightness(3, 2) > brightness(0, 2));
  // Token time * bands + band: the lowest band of the first step is at the bottom left.
  assert.deepEqual([...look.layout!.cells], [4, 2, 0, 5, 3, 1]);
});

test('skeletons are drawn, and their tokens lie on joints (down) and segments (across)', async () => {
  const dataset = stickFigures({ count: 1 });
  const { frames, joints, data } = await dataset.read(0);
  const fields = { skeletons: float32([1, frames, joints, 3], data) };
  const look = lookOf({ kind: 'skeleton', frames }, [frames / 4, joints], dataset);
  const [figure] = look.pictures(fields) as RawImage[];
  const colours = new Set(Array.from({ length: figure.data.length / 3 }, (_, i) => figure.data[3 * i]));
  assert.deepEqual(
    [...colours].sort((a, b) => a - b),
    [24, 69, 200, 255],
  );
  const [plane] = look.planes!(fields);
  assert.deepEqual([plane.width, plane.height], [frames, joints]);
  assert.deepEqual([look.layout!.cells[1], look.layout!.cells[joints]], [frames / 4, 1]);
});

test('texts are shown without padding, token by token where they are masked', () => {
  const tokenizer = learnTokenizer([{ text: 'the cat sat on the mat, the cat sat' }], 300);
  const ids = openTokenizer(tokenizer, 'test').encode('the cat');
  const fields = {
    ids: int32([1, ids.length + 2], [...ids, 0, 0]),
    documents: int32([1, ids.length + 2], [...ids.map(() => 1), 0, 0]),
  };
  const look = lookOf({ kind: 'text', tokens: ids.length + 2, tokenizer }, [ids.length + 2], nothing);
  assert.deepEqual(look.pictures(fields), ['the cat']);
  const [words] = wordsOfTokens(tokenizer, fields);
  assert.equal(words.join(''), 'the cat');
  assert.deepEqual(words.slice(-2), ['', '']);
});
