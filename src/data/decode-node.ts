import sharp, { type Sharp } from 'sharp';
import { JepaError } from '../base/errors.js';
import { decodeBmp } from './bmp.js';
import type { DecodeOptions, RawImage } from './dataset.js';
import { DECODE_DEFAULTS, imageFormat, rgbToGrey } from './image-format.js';
import { decodePnm } from './pnm.js';

// One image is small work: several at once, each on one thread, beat one image on several threads.
sharp.concurrency(1);
sharp.cache(false);

/**
 * Decodes an image file held in memory. The content decides the format, not its name. As Pillow's `convert('RGB')`: alpha
 * is dropped, palettes expand, CMYK is multiplied out, colour profiles are ignored, of an animation the first frame is
 * taken; 16-bit values keep their high byte. Throws a `JepaError` that starts with `where`.
 */
export async function decodeImage(
  bytes: Uint8Array,
  where: string,
  options: DecodeOptions = DECODE_DEFAULTS,
): Promise<RawImage> {
  const { channels, orientation, maxPixels, shortSide } = options;
  const format = imageFormat(bytes, where);
  let image: RawImage;
  if (format === 'bmp' || format === 'pnm') {
    image = (format === 'bmp' ? decodeBmp : decodePnm)(bytes, where, maxPixels);
    if (shortSide && Math.min(image.width, image.height) > shortSide) {
      const raw = { width: image.width, height: image.height, channels: 3 as const };
      image = await run(sharp(image.data, { raw }), where, shortSide);
    }
  } else {
    const cmyk = format === 'jpeg' && jpegComponents(bytes) === 4;
    // `error`: truncated or damaged data fail, harmless oddities (which libjpeg calls warnings) do not.
    let pipeline = sharp(bytes, { failOn: 'error', limitInputPixels: maxPixels, ignoreIcc: true });
    if (orientation === 'upright') pipeline = pipeline.autoOrient();
    if (cmyk)
      image = multiplyOut(await run(pipeline.pipelineColourspace('cmyk').toColourspace('cmyk'), where, shortSide));
    else image = await run(pipeline.removeAlpha(), where, shortSide);
  }
  return channels === 3 ? image : { ...image, channels: 1, data: rgbToGrey(image.data) };
}

async function run(pipeline: Sharp, where: string, shortSide?: number): Promise<RawImage> {
  if (shortSide) {
    pipeline = pipeline.resize({ width: shortSide, height: shortSide, fit: 'outside', withoutEnlargement: true });
  }
  try {
    const { data, info } = await pipeline.raw().toBuffer({ resolveWithObject: true });
    return {
      width: info.width,
      height: info.height,
      channels: info.channels,
      data: new Uint8Array(data.buffer, data.byteOffset, data.length),
    };
  } catch (error) {
    const reason = (error as Error).message.split('\n', 1)[0].replace(/:\s*$/, '');
    throw new JepaError(`${where}: the image cannot be decoded (${reason || 'damaged data'})`);
  }
}

/** Number of colour components that a JPEG's frame header announces; 0 where there is none. */
function jpegComponents(bytes: Uint8Array): number {
  for (let at = 2; at + 9 < bytes.length; ) {
    if (bytes[at] !== 0xff) return 0;
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at++; // fill byte
    } else if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return bytes[at + 9];
    } else {
      at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
    }
  }
  return 0;
}

/** Cyan, magenta, yellow and black as ink coverage to RGB: (1 - ink)(1 - black), without a colour profile. */
function multiplyOut(image: RawImage): RawImage {
  const { data, width, height } = image;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    const light = 255 - data[from + 3];
    for (let c = 0; c < 3; c++) rgb[to + c] = Math.round(((255 - data[from + c]) * light) / 255);
  }
  return { width, height, channels: 3, data: rgb };
}
