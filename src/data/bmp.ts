import { JepaError } from '../base/errors.js';
import type { RawImage } from './dataset.js';
import { checkPixels } from './image-format.js';

/**
 * Decodes a Windows or OS/2 bitmap (1, 4, 8, 16, 24 or 32 bits, uncompressed or with bit masks) to RGB; alpha is dropped.
 * Own code because libvips as shipped with sharp has no reader for it.
 */
export function decodeBmp(bytes: Uint8Array, where: string, maxPixels: number): RawImage {
  const fail = (why: string) => new JepaError(`${where}: damaged BMP, ${why}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 26) throw fail(`${bytes.length} bytes are too few for its header`);
  const dataStart = view.getUint32(10, true);
  const headerSize = view.getUint32(14, true);
  const old = headerSize === 12;
  if (!old && headerSize < 40) throw fail(`its header size is ${headerSize}`);
  if (bytes.length < 14 + headerSize) throw fail(`the file ends inside its header (byte ${bytes.length})`);
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true);
  const signedHeight = old ? view.getUint16(20, true) : view.getInt32(22, true);
  const height = Math.abs(signedHeight);
  const bits = view.getUint16(old ? 24 : 28, true);
  const compression = old ? 0 : view.getUint32(30, true);
  checkPixels(width, height, maxPixels, where);
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw fail(`it has ${bits} bits a pixel`);
  const masked = compression === 3 || compression === 6;
  if (masked ? bits !== 16 && bits !== 32 : compression !== 0) {
    throw new JepaError(`${where}: BMP compression ${compression} at ${bits} bits is not supported, save it as PNG`);
  }
  const stride = Math.ceil((width * bits) / 32) * 4;
  const dataEnd = dataStart + stride * height;
  if (dataEnd > bytes.length) throw fail(`the image data end early: byte ${bytes.length} instead of ${dataEnd}`);

  const data = new Uint8Array(width * height * 3);
  const rowStart = (y: number) => dataStart + (signedHeight > 0 ? height - 1 - y : y) * stride;
  if (bits <= 8) {
    const entry = old ? 3 : 4;
    const declared = old ? 0 : view.getUint32(46, true);
    const colours = declared === 0 ? 1 << bits : declared;
    const palette = 14 + headerSize;
    if (colours > 256 || palette + colours * entry > bytes.length)
      throw fail(`its palette of ${colours} colours does not fit`);
    for (let y = 0, to = 0; y < height; y++) {
      const row = rowStart(y);
      for (let x = 0; x < width; x++, to += 3) {
        const bit = x * bits;
        const index = (bytes[row + (bit >> 3)] >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
        if (index >= colours) throw fail(`pixel ${x}, ${y} has colour ${index} of ${colours}`);
        const from = palette + index * entry;
        data[to] = bytes[from + 2];
        data[to + 1] = bytes[from + 1];
        data[to + 2] = bytes[from];
      }
    }
  } else if (masked || bits === 16) {
    // Masks follow the 40 bytes of the oldest header, or are its next fields; 16 bits without masks are 5-5-5.
    if (masked && bytes.length < 66) throw fail('the file ends inside its colour masks');
    const masks = masked ? [54, 58, 62].map((at) => view.getUint32(at, true)) : [0x7c00, 0x3e0, 0x1f];
    const fields = masks.map((mask) => {
      const shift = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
      return { shift, max: mask >>> shift };
    });
    for (let y = 0, to = 0; y < height; y++) {
      const row = rowStart(y);
      for (let x = 0; x < width; x++) {
        const value = bits === 16 ? view.getUint16(row + 2 * x, true) : view.getUint32(row + 4 * x, true);
        for (const { shift, max } of fields) {
          data[to++] = max === 0 ? 0 : Math.floor(((((value >>> shift) & max) >>> 0) * 255) / max);
        }
      }
    }
  } else {
    const step = bits / 8;
    for (let y = 0, to = 0; y < height; y++) {
      for (let x = 0, from = rowStart(y); x < width; x++, from += step, to += 3) {
        data[to] = bytes[from + 2];
        data[to + 1] = bytes[from + 1];
        data[to + 2] = bytes[from];
      }
    }
  }
  return { width, height, channels: 3, data };
}
