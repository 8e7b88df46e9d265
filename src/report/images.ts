import sharp from 'sharp';
import type { RawImage } from '../data/dataset.js';
import { centreBox, resizeBytes } from '../data/resample.js';

/** Pictures up to this side keep their exact pixels (PNG); larger ones are photographs for all we know (WebP). */
const LOSSLESS_SIDE = 64;

/**
 * An image as a data URI, its longer side reduced to `side` pixels. Channels: 1 grey, 2 the first, 3 and more RGB. Drawings are
 * coded without loss whatever their size.
 */
export async function dataUri(image: RawImage, side = 192, isDrawing = false): Promise<string> {
  const reduced = reduce(displayable(image), side / Math.max(image.width, image.height));
  return encode(reduced, 80, isDrawing || isSmall(reduced));
}

async function encode(image: RawImage, quality: number, lossless: boolean): Promise<string> {
  const { width, height } = image;
  const pixels = sharp(image.data, { raw: { width, height, channels: image.channels as 1 | 3 } });
  const bytes = lossless
    ? await pixels.png({ compressionLevel: 9 }).toBuffer()
    : await pixels.webp({ quality, effort: 5 }).toBuffer();
  return `data:image/${lossless ? 'png' : 'webp'};base64,${bytes.toString('base64')}`;
}

/** Whether a browser should show the pixels of an image as squares rather than blur them. */
export function isSmall(image: RawImage): boolean {
  return Math.max(image.width, image.height) <= LOSSLESS_SIDE;
}

/** Reduces an image to one or three channels. */
function displayable(image: RawImage): RawImage {
  const { width, height, channels, data } = image;
  if (channels === 1 || channels === 3) return image;
  const kept = channels === 2 ? 1 : 3;
  const out = new Uint8Array(width * height * kept);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < kept; c++) out[i * kept + c] = data[i * channels + c];
  }
  return { width, height, channels: kept, data: out };
}

/** An image reduced by `scale`, or as it is where that would enlarge it. */
function reduce(image: RawImage, scale: number): RawImage {
  if (scale >= 1) return image;
  const [width, height] = [image.width, image.height].map((size) => Math.max(1, Math.round(size * scale)));
  return resizeBytes(image, width, height, 'bilinear');
}

/** Many thumbnails in one image, row by row, `columns` to a row, each the middle of its image in `cell` x `cell` pixels. */
export interface SpriteSheet {
  readonly uri: string;
  readonly cell: number;
  readonly columns: number;
}

/**
 * Draws thumbnails into one sheet. It is a PNG where that stays below `maxBytes` of text (drawings, letters), else a
 * WebP, with smaller thumbnails until it fits.
 */
export async function spriteSheet(images: readonly RawImage[], cell = 32, maxBytes = 1_300_000): Promise<SpriteSheet> {
  const largest = images.reduce((side, image) => Math.max(side, Math.min(image.width, image.height)), 1);
  const side = Math.min(cell, largest);
  const columns = Math.ceil(Math.sqrt(images.length));
  const sheet = drawSheet(images, side, columns);
  const png = await encode(sheet, 0, true);
  if (png.length <= maxBytes) return { uri: png, cell: side, columns };
  for (let smaller = side, quality = 75; ; smaller = Math.floor(smaller * 0.8), quality = 60) {
    const uri = await encode(smaller === side ? sheet : drawSheet(images, smaller, columns), quality, false);
    if (uri.length <= maxBytes || smaller <= 8) return { uri, cell: smaller, columns };
  }
}

function drawSheet(images: readonly RawImage[], cell: number, columns: number): RawImage {
  const thumbs = images.map((image) => reduce(displayable(image), cell / Math.min(image.width, image.height)));
  const channels = thumbs.every((thumb) => thumb.channels === 1) ? 1 : 3;
  const width = columns * cell;
  const height = Math.ceil(images.length / columns) * cell;
  const data = new Uint8Array(width * height * channels);
  thumbs.forEach((thumb, i) => {
    const { left, top } = centreBox(thumb, cell, cell);
    for (let y = Math.max(0, -top); y < Math.min(cell, thumb.height - top); y++) {
      for (let x = Math.max(0, -left); x < Math.min(cell, thumb.width - left); x++) {
        const from = ((top + y) * thumb.width + left + x) * thumb.channels;
        const to = ((Math.floor(i / columns) * cell + y) * width + (i % columns) * cell + x) * channels;
        for (let c = 0; c < channels; c++) data[to + c] = thumb.data[from + (thumb.channels === 1 ? 0 : c)];
      }
    }
  });
  return { width, height, channels, data };
}

/** Dark violet over red to pale yellow: lightness rises evenly, so it also reads in grey and for colour-blind eyes. */
const HEAT = [
  [13, 8, 36],
  [66, 18, 106],
  [130, 33, 121],
  [190, 55, 98],
  [233, 98, 66],
  [250, 160, 82],
  [252, 235, 170],
] as const;

/** A grid of values as an image of rows x columns pixels, colours running from `low` to `high`. */
export function heatImage(
  values: ArrayLike<number>,
  rows: number,
  columns: number,
  low: number,
  high: number,
): RawImage {
  const data = new Uint8Array(rows * columns * 3);
  for (let i = 0; i < rows * columns; i++) {
    const share = high > low ? Math.min(1, Math.max(0, (values[i] - low) / (high - low))) : 0;
    const at = share * (HEAT.length - 1);
    const from = HEAT[Math.floor(at)];
    const to = HEAT[Math.min(HEAT.length - 1, Math.floor(at) + 1)];
    for (let c = 0; c < 3; c++) data[i * 3 + c] = Math.round(from[c] + (to[c] - from[c]) * (at - Math.floor(at)));
  }
  return { width: columns, height: rows, channels: 3, data };
}
