import { sizeOf } from '../base/tensor.js';
import type { Dataset, RawImage } from '../data/dataset.js';
import { OBSERVATIONS } from '../data/episodes/preparation.js';
import type { Scaling } from '../data/episodes/scaling.js';
import type { ImageInput, PreparationInput } from '../data/plans.js';
import type { Fields } from '../data/preparation.js';
import type { SkeletonDataset } from '../data/skeleton/dataset.js';
import type { SkeletonLayout } from '../data/skeleton/layout.js';
import { SKELETONS } from '../data/skeleton/preparation.js';
import { openTokenizer } from '../data/text/plan.js';
import { DOCUMENTS, IDS } from '../data/text/preparation.js';
import type { Picture } from './data.js';
import { heatImage } from './images.js';

/** How prepared samples are shown: what a modality needs for its pictures in a report. Fields are [samples, ...]. */
export interface Look {
  /** What people look at. */
  pictures(fields: Fields): Picture[];
  /** Pictures on which the tokens of the encoder lie, where they do: `pictures` by default. */
  planes?(fields: Fields): RawImage[];
  readonly layout?: TokenLayout;
}

/** A picture cut into cells; `cells[token]` is row * columns + column. */
export interface TokenLayout {
  readonly rows: number;
  readonly columns: number;
  readonly cells: Int32Array;
}

/** How samples of a data set look to an encoder whose tokens form a grid. */
export function lookOf(preparation: PreparationInput, grid: readonly number[], dataset: Dataset): Look {
  switch (preparation.kind) {
    case 'video':
      return clipLook(preparation.transform, grid);
    case 'sound':
      return soundLook(grid);
    case 'skeleton':
      return skeletonLook((dataset as SkeletonDataset).layout, grid);
    case 'text':
      return textLook(preparation.tokenizer);
    case 'episodes':
      return observationLook(preparation.scaling);
    default:
      return imageLook(preparation, grid);
  }
}

/** The numbers of each sample of a field. */
function samplesOf({ shape, data }: Fields[string]): (Float32Array | Int32Array)[] {
  const [count, ...size] = shape;
  const values = sizeOf(size);
  return Array.from({ length: count }, (_, i) => data.subarray(i * values, (i + 1) * values));
}

// --- images and clips -------------------------------------------------------------------------------------------------

/** How values were normalised, one number for all channels or one for each. */
interface Statistics {
  readonly mean?: readonly number[];
  readonly std?: readonly number[];
}

function imageLook({ transforms }: ImageInput, [rows, columns]: readonly number[]): Look {
  const normalisation = transforms.find((step) => step.kind === 'normalize') ?? {};
  return {
    pictures: ({ images }) => samplesOf(images).map((data) => pixelsOf(data, images.shape.slice(1), normalisation)),
    layout: { rows, columns, cells: Int32Array.from({ length: rows * columns }, (_, i) => i) },
  };
}

/** Floats [channels, height, width] as bytes again, a normalisation undone. */
function pixelsOf(
  data: ArrayLike<number>,
  [channels, height, width]: readonly number[],
  statistics: Statistics,
): RawImage {
  const of = (values: readonly number[] | undefined, channel: number, otherwise: number): number =>
    values?.[values.length === 1 ? 0 : channel] ?? otherwise;
  const pixels = height * width;
  const bytes = new Uint8Array(pixels * channels);
  for (let c = 0; c < channels; c++) {
    const [mean, std] = [of(statistics.mean, c, 0), of(statistics.std, c, 1)];
    for (let p = 0; p < pixels; p++) {
      const value = data[c * pixels + p] * std + mean;
      bytes[p * channels + c] = Math.round(255 * Math.min(1, Math.max(0, value)));
    }
  }
  return { width, height, channels, data: bytes };
}

/** Frames in a row of a sheet: as many as leave no gap at its end where the sheet stays less than four times as wide as high. */
function sheetColumns(frames: number): number {
  const square = Math.sqrt(frames);
  for (let across = Math.ceil(square); across < 2 * square; across++) if (frames % across === 0) return across;
  return Math.ceil(square);
}

/** Clips as sheets of frames, one for each step of the grid in time, row by row. */
function clipLook(statistics: Statistics, [times, rows, columns]: readonly number[]): Look {
  const across = sheetColumns(times);
  const down = Math.ceil(times / across);
  /** Where in a sheet of frames of rows x columns a cell of a frame lies. */
  const place = (time: number, row: number, column: number, [height, width]: readonly [number, number]): number =>
    (Math.floor(time / across) * height + row) * across * width + (time % across) * width + column;
  const cells = Int32Array.from({ length: times * rows * columns }, (_, i) => {
    const cell = i % (rows * columns);
    return place(Math.floor(i / rows / columns), Math.floor(cell / columns), cell % columns, [rows, columns]);
  });
  return {
    pictures({ clips }) {
      const [, channels, frames, height, width] = clips.shape;
      const pixels = height * width;
      return samplesOf(clips).map((clip) => {
        const sheet = new Uint8Array(down * across * pixels * channels);
        for (let time = 0; time < times; time++) {
          const frame = Math.floor((time * frames) / times);
          const own = Float32Array.from({ length: channels * pixels }, (_, i) => {
            return clip[(Math.floor(i / pixels) * frames + frame) * pixels + (i % pixels)];
          });
          const { data } = pixelsOf(own, [channels, height, width], statistics);
          for (let y = 0; y < height; y++) {
            const from = y * width * channels;
            sheet.set(data.subarray(from, from + width * channels), place(time, y, 0, [height, width]) * channels);
          }
        }
        const image = { width: across * width, height: down * height, channels, data: sheet };
        return channels === 2 ? inColour(image) : image;
      });
    },
    layout: { rows: down * rows, columns: across * columns, cells },
  };
}

/** Observations of worlds: pictures of one to three channels (of two the second is grey, the first red), or numbers as a row. */
function observationLook({ mean, std }: Scaling): Look {
  return {
    pictures: ({ [OBSERVATIONS]: seen }) => {
      const window = seen.shape.length === 5 || (seen.shape.length === 3 && mean.length === seen.shape[2]);
      const shape = seen.shape.slice(window ? 2 : 1);
      return samplesOf(seen).map((data) => {
        const first = data.subarray(0, sizeOf(shape));
        if (shape.length !== 3) return heatImage(first, 1, shape[0], -2, 2);
        const image = pixelsOf(first, shape, { mean, std });
        return image.channels === 2 ? inColour(image) : image;
      });
    },
  };
}

/** Two channels as three: what the first shows is red, what the second shows is grey. */
export function inColour({ width, height, data }: RawImage): RawImage {
  const bytes = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [dot, ground] = [data[2 * i], data[2 * i + 1] * 0.6];
    bytes[3 * i] = Math.max(dot, ground);
    bytes[3 * i + 1] = Math.max(dot * 0.2, ground);
    bytes[3 * i + 2] = Math.max(dot * 0.2, ground);
  }
  return { width, height, channels: 3, data: bytes };
}

// --- sound ------------------------------------------------------------------------------------------------------------

/** Standard deviations of the features that are told apart. */
const LOUDNESS = 2.5;

/** Spectrograms [1, time, frequency], time to the right and high sounds above. */
function soundLook([times, bands]: readonly number[]): Look {
  return {
    pictures: ({ images }) => {
      const [, , frames, mels] = images.shape;
      return samplesOf(images).map((data) => {
        const upright = Float32Array.from({ length: frames * mels }, (_, i) => {
          return data[(i % frames) * mels + mels - 1 - Math.floor(i / frames)];
        });
        return heatImage(upright, mels, frames, -LOUDNESS, LOUDNESS);
      });
    },
    layout: {
      rows: bands,
      columns: times,
      cells: Int32Array.from({ length: times * bands }, (_, i) => {
        return (bands - 1 - (i % bands)) * times + Math.floor(i / bands);
      }),
    },
  };
}

// --- skeletons --------------------------------------------------------------------------------------------------------

/** Moments of a sequence that are drawn side by side, and the size of each figure in pixels. */
const FIGURES = 4;
const FIGURE: readonly [width: number, height: number] = [48, 72];
/** Left, right and middle of the body. */
const SIDES = { left: [69, 168, 245], right: [255, 154, 46], middle: [200, 200, 210] } as const;

function skeletonLook(layout: SkeletonLayout, [segments, joints]: readonly number[]): Look {
  return {
    pictures: ({ [SKELETONS]: field }) => samplesOf(field).map((poses) => stickFigures(poses, field.shape[1], layout)),
    planes: ({ [SKELETONS]: field }) => samplesOf(field).map((poses) => motionPlane(poses, field.shape[1], joints)),
    layout: {
      rows: joints,
      columns: segments,
      cells: Int32Array.from({ length: segments * joints }, (_, i) => {
        return (i % joints) * segments + Math.floor(i / joints);
      }),
    },
  };
}

/** Poses [frames, joints, 3] as figures side by side, seen along the last axis, the second upwards. */
function stickFigures(poses: ArrayLike<number>, frames: number, { names, parents }: SkeletonLayout): RawImage {
  const [width, height] = FIGURE;
  const joints = names.length;
  let reach = 1e-6;
  for (let i = 0; i < poses.length; i++) if (i % 3 < 2) reach = Math.max(reach, Math.abs(poses[i]));
  const scale = (0.47 * Math.min(2 * width, height)) / reach;
  const data = new Uint8Array(FIGURES * width * height * 3).fill(24);
  for (let figure = 0; figure < FIGURES; figure++) {
    const frame = Math.floor((figure * frames) / FIGURES);
    const at = (joint: number): readonly [number, number] => {
      const from = (frame * joints + joint) * 3;
      return [(figure + 0.5) * width + scale * poses[from], height / 2 - scale * poses[from + 1]];
    };
    parents.forEach((parent, joint) => {
      const side = /^(left|right)/.exec(names[joint])?.[1] as 'left' | 'right' | undefined;
      drawLine(data, FIGURES * width, height, at(parent), at(joint), SIDES[side ?? 'middle']);
    });
  }
  return { width: FIGURES * width, height, channels: 3, data };
}

function drawLine(
  data: Uint8Array,
  width: number,
  height: number,
  [x0, y0]: readonly [number, number],
  [x1, y1]: readonly [number, number],
  color: readonly number[],
): void {
  const steps = Math.max(1, Math.ceil(2 * Math.hypot(x1 - x0, y1 - y0)));
  for (let i = 0; i <= steps; i++) {
    const x = Math.round(x0 + ((x1 - x0) * i) / steps);
    const y = Math.round(y0 + ((y1 - y0) * i) / steps);
    if (x >= 0 && y >= 0 && x < width && y < height) data.set(color, (y * width + x) * 3);
  }
}

/** How much each joint (down) moves in each frame (across). */
function motionPlane(poses: ArrayLike<number>, frames: number, joints: number): RawImage {
  const motion = new Float32Array(joints * frames);
  let largest = 0;
  for (let frame = 1; frame < frames; frame++) {
    for (let joint = 0; joint < joints; joint++) {
      const now = (frame * joints + joint) * 3;
      const before = now - joints * 3;
      const moved = Math.hypot(...[0, 1, 2].map((axis) => poses[now + axis] - poses[before + axis]));
      motion[joint * frames + frame] = moved;
      largest = Math.max(largest, moved);
    }
  }
  return heatImage(motion, joints, frames, 0, largest);
}

// --- text -------------------------------------------------------------------------------------------------------------

function textLook(tokenizer: string): Look {
  const bpe = openTokenizer(tokenizer, 'report');
  return {
    pictures: ({ [IDS]: ids, [DOCUMENTS]: documents }) => {
      const seen = samplesOf(documents);
      return samplesOf(ids).map((row, i) => bpe.decode(Array.from(row).filter((_, token) => seen[i][token] > 0)));
    },
  };
}

/** The words of texts, token by token; empty for padding. */
export function wordsOfTokens(tokenizer: string, { [IDS]: ids, [DOCUMENTS]: documents }: Fields): string[][] {
  const bpe = openTokenizer(tokenizer, 'report');
  const seen = samplesOf(documents);
  return samplesOf(ids).map((row, i) => Array.from(row, (id, token) => (seen[i][token] > 0 ? bpe.decode([id]) : '')));
}
