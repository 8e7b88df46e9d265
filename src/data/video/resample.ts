import { JepaError } from '../../base/errors.js';
import type { Box } from '../resample.js';
import { frameOf, type RawClip } from './clip.js';

/** The part of a resized frame that is wanted, in pixels of the resized frame. */
export interface Resized {
  /** Size to which the box is resized. */
  readonly height: number;
  readonly width: number;
  /** The part of it that is made. */
  readonly crop: Box;
}

/** The two input positions of every output position, and the weight of the second. */
interface Taps {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly weight: Float64Array;
}

/** Half-pixel centres, no antialiasing: `inSize` positions from `from` become `outSize`, of which `count` from `first`. */
function taps(from: number, inSize: number, outSize: number, first: number, count: number): Taps {
  const low = new Int32Array(count);
  const high = new Int32Array(count);
  const weight = new Float64Array(count);
  const scale = inSize / outSize;
  for (let i = 0; i < count; i++) {
    const at = Math.max(0, (first + i + 0.5) * scale - 0.5);
    const below = Math.min(Math.floor(at), inSize - 1);
    low[i] = from + below;
    high[i] = from + Math.min(below + 1, inSize - 1);
    weight[i] = at - below;
  }
  return { low, high, weight };
}

/**
 * Resizes a part of every frame with the bilinear filter and no antialiasing, as both versions of V-JEPA do
 * (specs/vjepa.md 5.2, 7.2), into channel-first values of 0..255. `boxOf` gives the part of a frame; `out` is [channels, frames, height, width]
 * of the crop. `bytes` rounds to whole levels, as where the published evaluation resizes 8-bit frames; `mirror` swaps left
 * and right.
 */
export function resizeClip(
  clip: RawClip,
  boxOf: (frame: number) => Box,
  { height, width, crop }: Resized,
  { bytes, mirror }: { readonly bytes: boolean; readonly mirror: boolean },
  out: Float32Array,
): void {
  const { channels, frames } = clip;
  const size = crop.height * crop.width;
  if (out.length !== channels * frames * size) {
    throw new JepaError(
      `clip transforms: ${out.length} values do not hold ${channels} x ${frames} x ${crop.height} x ${crop.width}`,
    );
  }
  let box: Box | undefined;
  let across: Taps | undefined;
  let down: Taps | undefined;
  for (let t = 0; t < frames; t++) {
    const next = boxOf(t);
    if (!box || !across || !down || !sameBox(box, next)) {
      box = checkBox(next, clip);
      across = taps(box.left, box.width, width, crop.left, crop.width);
      down = taps(box.top, box.height, height, crop.top, crop.height);
      if (mirror) for (const values of [across.low, across.high, across.weight]) values.reverse();
    }
    for (let c = 0; c < channels; c++) {
      const plane = out.subarray((c * frames + t) * size, (c * frames + t + 1) * size);
      resizePlane(frameOf(clip, t), clip.width, channels, c, across, down, plane);
      if (bytes) for (let i = 0; i < size; i++) plane[i] = Math.round(plane[i]);
    }
  }
}

function resizePlane(
  frame: Uint8Array,
  frameWidth: number,
  channels: number,
  channel: number,
  across: Taps,
  down: Taps,
  plane: Float32Array,
): void {
  const width = across.low.length;
  for (let y = 0, to = 0; y < down.low.length; y++) {
    const top = down.low[y] * frameWidth;
    const bottom = down.high[y] * frameWidth;
    const dy = down.weight[y];
    for (let x = 0; x < width; x++, to++) {
      const left = across.low[x];
      const right = across.high[x];
      const dx = across.weight[x];
      const a = frame[(top + left) * channels + channel];
      const b = frame[(top + right) * channels + channel];
      const c = frame[(bottom + left) * channels + channel];
      const d = frame[(bottom + right) * channels + channel];
      const above = a + dx * (b - a);
      plane[to] = above + dy * (c + dx * (d - c) - above);
    }
  }
}

const sameBox = (a: Box, b: Box) =>
  a.left === b.left && a.top === b.top && a.width === b.width && a.height === b.height;

function checkBox(box: Box, { height, width }: RawClip): Box {
  const { left, top } = box;
  const inside = left >= 0 && top >= 0 && left + box.width <= width && top + box.height <= height;
  if (!inside || box.width < 1 || box.height < 1) {
    throw new JepaError(
      `clip transforms: a box of ${box.width} x ${box.height} at ${left}, ${top} is not inside of frames of ${width} x ${height}`,
    );
  }
  return box;
}
