import { JepaError } from '../base/errors.js';
import type { RawImage } from './dataset.js';

/** Triangle, or cubic with a = -1/2; both antialiased: stretched by old / new size when shrinking. */
export type Filter = 'bilinear' | 'bicubic';

/** Part of an image, in pixels. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

interface Weights {
  /** First input position of each output position. */
  readonly start: Int32Array;
  /** Number of input positions of each output position, at most `taps`. */
  readonly count: Int32Array;
  readonly taps: number;
  /** [outputs, taps], each row adds up to 1. */
  readonly values: Float64Array;
}

function kernel(filter: Filter, x: number): number {
  const d = Math.abs(x);
  if (filter === 'bilinear') return d < 1 ? 1 - d : 0;
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

/** Which input positions make each of `outSize` positions, and with what weights (half-pixel centres, cut at the edges). */
function resampleWeights(inSize: number, outSize: number, filter: Filter): Weights {
  const scale = inSize / outSize;
  const stretch = Math.max(1, scale);
  const support = (filter === 'bilinear' ? 1 : 2) * stretch;
  const taps = Math.ceil(support) * 2 + 1;
  const start = new Int32Array(outSize);
  const count = new Int32Array(outSize);
  const values = new Float64Array(outSize * taps);
  for (let i = 0; i < outSize; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inSize, Math.trunc(centre + support + 0.5));
    let sum = 0;
    for (let j = first; j < end; j++) {
      const weight = kernel(filter, (j + 0.5 - centre) / stretch);
      values[i * taps + j - first] = weight;
      sum += weight;
    }
    for (let j = 0; j < end - first; j++) values[i * taps + j] /= sum;
    start[i] = first;
    count[i] = end - first;
  }
  return { start, count, taps, values };
}

/** Bits after the point of the whole-number weights of `resizeBytes`: 8-bit values, two bits for overshoot, 22 remain. */
const FIXED_POINT = 22;

/**
 * Resizes bytes as Pillow and torchvision do: horizontal pass first, whole-number weights, rounded and clamped to 0..255
 * after each pass (specs/ijepa.md 7.4). For features that must equal those of other software.
 */
export function resizeBytes(image: RawImage, width: number, height: number, filter: Filter): RawImage {
  const { channels } = image;
  checkSize(image, width, height);
  const wide =
    width === image.width ? image.data : bytePass(image.data, image.height, image.width, width, channels, filter);
  const data = height === image.height ? wide : bytePass(wide, 1, image.height, height, width * channels, filter);
  return { width, height, channels, data };
}

/** Resamples the middle axis of [outer, inSize, inner] bytes. */
function bytePass(
  data: Uint8Array,
  outer: number,
  inSize: number,
  outSize: number,
  inner: number,
  filter: Filter,
): Uint8Array {
  const { start, count, taps, values } = resampleWeights(inSize, outSize, filter);
  const fixed = Int32Array.from(values, (weight) =>
    Math.trunc(weight * (1 << FIXED_POINT) + (weight < 0 ? -0.5 : 0.5)),
  );
  const out = new Uint8ClampedArray(outer * outSize * inner);
  const half = 1 << (FIXED_POINT - 1);
  for (let o = 0, to = 0; o < outer; o++) {
    for (let i = 0; i < outSize; i++) {
      const from = (o * inSize + start[i]) * inner;
      for (let c = 0; c < inner; c++, to++) {
        let sum = half;
        for (let w = i * taps, end = w + count[i], at = from + c; w < end; w++, at += inner) {
          sum = (sum + Math.imul(fixed[w], data[at])) | 0;
        }
        out[to] = sum >> FIXED_POINT;
      }
    }
  }
  return new Uint8Array(out.buffer);
}

/** Grows as needed and is kept: crops come in thousands, and nothing here waits, so one caller uses it at a time. */
let rows = new Float32Array(0);

/**
 * Resizes a part of an image in floating point, into channel-first values 0..1 (bicubic overshoots are not clamped).
 * `out` is [channels, height, width].
 */
export function resizeToFloat(
  image: RawImage,
  box: Box,
  width: number,
  height: number,
  filter: Filter,
  out: Float32Array,
): void {
  const { channels, data } = image;
  checkSize(image, width, height);
  const across = resampleWeights(box.width, width, filter);
  const down = resampleWeights(box.height, height, filter);
  const plane = box.height * width;
  if (rows.length < plane * channels) rows = new Float32Array(plane * channels);
  const stride = image.width * channels;
  for (let y = 0; y < box.height; y++) {
    const row = (box.top + y) * stride + box.left * channels;
    if (channels === 3) acrossThree(data, row, across, y * width, plane, width);
    else for (let c = 0; c < channels; c++) acrossOne(data, row + c, channels, across, c * plane + y * width, width);
  }
  for (let c = 0; c < channels; c++) downOne(c * plane, width, down, height, out, c * height * width);
}

/** Horizontal pass over one row of RGB, into three planes of `rows`. */
function acrossThree(data: Uint8Array, row: number, weights: Weights, to: number, plane: number, width: number): void {
  const { start, count, taps, values } = weights;
  const planes = rows;
  for (let x = 0; x < width; x++, to++) {
    let at = row + 3 * start[x];
    let red = 0;
    let green = 0;
    let blue = 0;
    const first = x * taps;
    const end = first + count[x];
    for (let w = first; w < end; w++, at += 3) {
      const weight = values[w];
      red += weight * data[at];
      green += weight * data[at + 1];
      blue += weight * data[at + 2];
    }
    planes[to] = red;
    planes[to + plane] = green;
    planes[to + 2 * plane] = blue;
  }
}

/** Horizontal pass over one channel of one row. */
function acrossOne(data: Uint8Array, row: number, step: number, weights: Weights, to: number, width: number): void {
  const { start, count, taps, values } = weights;
  for (let x = 0; x < width; x++, to++) {
    let sum = 0;
    for (let w = x * taps, at = row + step * start[x], end = w + count[x]; w < end; w++, at += step)
      sum += values[w] * data[at];
    rows[to] = sum;
  }
}

/** Vertical pass over one plane of `rows`, scaled from 0..255 to 0..1. */
function downOne(from: number, width: number, weights: Weights, height: number, out: Float32Array, to: number): void {
  const { start, count, taps, values } = weights;
  for (let y = 0; y < height; y++, to += width) {
    for (let j = 0; j < count[y]; j++) {
      const weight = values[y * taps + j] / 255;
      const row = from + (start[y] + j) * width;
      if (j === 0) for (let x = 0; x < width; x++) out[to + x] = weight * rows[row + x];
      else for (let x = 0; x < width; x++) out[to + x] += weight * rows[row + x];
    }
  }
}

function checkSize(image: RawImage, width: number, height: number): void {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new JepaError(`resize: ${image.width} x ${image.height} pixels cannot become ${width} x ${height}`);
  }
}

/** Size after scaling the shorter edge to `edge`: the other is trunc(edge * long / short), as torchvision computes it. */
export function shortEdgeSize(
  image: { width: number; height: number },
  edge: number,
): { width: number; height: number } {
  const { width, height } = image;
  return width <= height
    ? { width: edge, height: Math.trunc((edge * height) / width) }
    : { width: Math.trunc((edge * width) / height), height: edge };
}

/** The box of `width` x `height` in the middle; offsets trunc((size - crop) / 2), as torchvision and Hugging Face. */
export function centreBox(image: { width: number; height: number }, width: number, height: number): Box {
  const left = Math.trunc((image.width - width) / 2);
  const top = Math.trunc((image.height - height) / 2);
  return { left, top, width, height };
}

/** [height, width] of a size given as one number (a square) or as both. */
export function heightWidth(value: number | readonly [number, number]): readonly [number, number] {
  return typeof value === 'number' ? [value, value] : value;
}
