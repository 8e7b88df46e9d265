import { JepaError } from '../base/errors.js';
import type { DecodeOptions } from './dataset.js';

export type ImageFormat = 'jpeg' | 'png' | 'webp' | 'gif' | 'tiff' | 'avif' | 'bmp' | 'pnm';

/** File name endings that a folder of images is searched for, in any case. The content decides how a file is read. */
export const IMAGE_EXTENSIONS = [
  'jpg',
  'jpeg',
  'png',
  'webp',
  'gif',
  'tif',
  'tiff',
  'avif',
  'bmp',
  'ppm',
  'pgm',
  'pbm',
] as const;

/** RGB, turned upright, at full size, refused above Pillow's limit for decompression bombs. */
export const DECODE_DEFAULTS: DecodeOptions = { channels: 3, orientation: 'upright', maxPixels: 178_956_970 };

/** Recognises an image by its first bytes; throws a `JepaError` that says what the bytes look like instead. */
export function imageFormat(bytes: Uint8Array, where: string): ImageFormat {
  if (bytes.length === 0) throw new JepaError(`${where}: the file is empty (0 bytes)`);
  const ascii = (from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return 'jpeg';
  if (ascii(0, 8) === '\x89PNG\r\n\x1a\n') return 'png';
  if (ascii(0, 4) === 'RIFF' && ascii(8, 12) === 'WEBP') return 'webp';
  if (ascii(0, 6) === 'GIF87a' || ascii(0, 6) === 'GIF89a') return 'gif';
  if (['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].includes(ascii(0, 4))) return 'tiff';
  if (ascii(4, 8) === 'ftyp' && /avi[fs]/.test(ascii(8, 64))) return 'avif';
  if (ascii(0, 2) === 'BM') return 'bmp';
  if (/^P[1-6]\s/.test(ascii(0, 3))) return 'pnm';
  throw new JepaError(`${where}: not an image that can be read; ${looksLike(ascii(0, 512), bytes)}`);
}

function looksLike(start: string, bytes: Uint8Array): string {
  const text = start.replace(/^\xef\xbb\xbf/, '').trimStart();
  if (/^(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*)?<svg/i.test(text))
    return 'it looks like SVG, a drawing: convert it to PNG';
  if (/^<(!doctype\s+html|html|head|body)/i.test(text)) return 'it looks like a web page: download the image again';
  if (start.slice(4, 8) === 'ftyp') return 'it looks like HEIC or a video: convert it to JPEG, PNG or AVIF';
  const hex = [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return `it starts with the bytes ${hex}`;
}

/** Refuses an image of no pixels or of more than `maxPixels`. */
export function checkPixels(width: number, height: number, maxPixels: number, where: string): void {
  if (!(width >= 1) || !(height >= 1)) throw new JepaError(`${where}: the image has ${width} x ${height} pixels`);
  if (width * height > maxPixels) {
    throw new JepaError(`${where}: ${width} x ${height} pixels are more than the limit of ${maxPixels}`);
  }
}

/** Grey as Pillow's `convert('L')`: (19595 R + 38470 G + 7471 B + 32768) >> 16. `rgb` is [pixels, 3]. */
export function rgbToGrey(rgb: Uint8Array): Uint8Array {
  const grey = new Uint8Array(rgb.length / 3);
  for (let i = 0, j = 0; i < grey.length; i++, j += 3) {
    grey[i] = (19595 * rgb[j] + 38470 * rgb[j + 1] + 7471 * rgb[j + 2] + 32768) >> 16;
  }
  return grey;
}
