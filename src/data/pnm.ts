import { JepaError } from '../base/errors.js';
import type { RawImage } from './dataset.js';
import { checkPixels } from './image-format.js';

/**
 * Decodes a PBM, PGM or PPM file (P1 to P6) to RGB. Values are scaled to 0..255 by their maximum; of 16-bit values the
 * high byte is kept, as of every other 16-bit image. Own code: libvips as shipped with sharp has no reader for it.
 */
export function decodePnm(bytes: Uint8Array, where: string, maxPixels: number): RawImage {
  const fail = (why: string) => new JepaError(`${where}: damaged PNM, ${why}`);
  const kind = bytes[1] - 0x30;
  const plain = kind <= 3;
  const bilevel = kind === 1 || kind === 4;
  const channels = kind === 3 || kind === 6 ? 3 : 1;
  let at = 2;
  /** The next unsigned decimal number, after white space and `#` comments. Plain bitmaps need no space between digits. */
  const next = (what: string, oneDigit = false): number => {
    while (at < bytes.length && (bytes[at] <= 0x20 || bytes[at] === 0x23)) {
      if (bytes[at] === 0x23) while (at < bytes.length && bytes[at] !== 0x0a) at++;
      else at++;
    }
    const start = at;
    while (bytes[at] >= 0x30 && bytes[at] <= 0x39 && at - start < (oneDigit ? 1 : 10)) at++;
    if (at === start) throw fail(at >= bytes.length ? `the data end early at byte ${at}` : `no ${what} at byte ${at}`);
    return Number(String.fromCharCode(...bytes.subarray(start, at)));
  };
  const width = next('width');
  const height = next('height');
  checkPixels(width, height, maxPixels, where);
  const max = bilevel ? 1 : next('largest value');
  if (max < 1 || max > 65535) throw fail(`its largest value is ${max}`);
  const scale = (value: number) => {
    if (value > max) throw fail(`a value of ${value} is above its largest value ${max}`);
    if (bilevel) return value ? 0 : 255;
    return max === 65535 ? value >> 8 : Math.round((value * 255) / max);
  };

  const count = width * height * channels;
  // Where the data lie, and the least bytes they take: a digit a value in text, with a space between all but those of bitmaps.
  if (!plain) at++; // the one white-space byte after the header
  const size = max > 255 ? 2 : 1;
  const stride = bilevel ? Math.ceil(width / 8) : width * channels * size;
  const end = at + (plain ? (bilevel ? count : 2 * count - 1) : stride * height);
  if (end > bytes.length) throw fail(`the image data end early: byte ${bytes.length} instead of ${end}`);
  const values = new Uint8Array(count);
  if (plain) {
    for (let i = 0; i < count; i++) values[i] = scale(next('value', bilevel));
  } else {
    for (let y = 0, i = 0; y < height; y++) {
      const row = at + y * stride;
      for (let x = 0; x < width * channels; x++, i++) {
        if (bilevel) values[i] = scale((bytes[row + (x >> 3)] >> (7 - (x & 7))) & 1);
        else values[i] = scale(size === 1 ? bytes[row + x] : bytes[row + 2 * x] * 256 + bytes[row + 2 * x + 1]);
      }
    }
  }
  if (channels === 3) return { width, height, channels: 3, data: values };
  const data = new Uint8Array(count * 3);
  for (let i = 0; i < count; i++) data.fill(values[i], 3 * i, 3 * i + 3);
  return { width, height, channels: 3, data };
}
