import sharp, { type Sharp } from 'sharp';
import { JepaError } from '../base/errors.js';
import { DECODE_DEFAULTS, type ImageFormat, imageFormat } from './image-format.js';

/** An image as its file has it: all channels, 16 bits where there are 16, all frames. */
export interface StoredImage {
  readonly format: ImageFormat;
  readonly width: number;
  readonly height: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (or cyan, magenta, yellow, black); palettes are expanded. */
  readonly channels: number;
  readonly frames: number;
  /** How long each frame of an animation is shown, in milliseconds. */
  readonly delays?: readonly number[];
  /** [frames, height, width, channels]; `Uint16Array` for images of 16 bits. */
  readonly data: Uint8Array | Uint16Array;
  /** Bits of a value in the file, where it says so. */
  readonly bits?: number;
  readonly hasPalette: boolean;
  readonly hasAlpha: boolean;
  /** Whether it comes coarse first: an interlaced PNG or progressive JPEG. */
  readonly isProgressive: boolean;
  /** EXIF orientation, 1 to 8; undefined where there is none. It is not applied. */
  readonly orientation?: number;
}

/**
 * Decodes an image file to what is stored in it, for what the 8-bit RGB of `decodeImage` would lose: depth and label maps of
 * 16 bits, masks in the alpha channel, the frames of a GIF. Throws a `JepaError` that starts with `where`; images of more
 * than `maxPixels` (of all frames together) are refused before they are decoded.
 */
export async function decodeStoredImage(
  bytes: Uint8Array,
  where: string,
  maxPixels = DECODE_DEFAULTS.maxPixels,
): Promise<StoredImage> {
  const format = imageFormat(bytes, where);
  if (format === 'bmp' || format === 'pnm') {
    throw new JepaError(`${where}: ${format.toUpperCase()} images have nothing beyond what decodeImage gives`);
  }
  const open = (): Sharp =>
    sharp(bytes, { failOn: 'error', limitInputPixels: maxPixels, ignoreIcc: true, animated: true });
  try {
    const about = await open().metadata();
    const wide = about.depth === 'ushort';
    // Of grey images with alpha the library would give the grey only: they are taken from red and alpha.
    const isGreyAlpha = about.channels === 2;
    const space = isGreyAlpha ? (wide ? 'rgb16' : 'srgb') : about.space;
    const { data, info } = await open()
      .pipelineColourspace(space)
      .toColourspace(space)
      .raw({ depth: wide ? 'ushort' : 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const frames = about.pages ?? 1;
    const raw = new Uint8Array(data);
    const values = wide ? new Uint16Array(raw.buffer) : raw;
    return {
      format,
      width: info.width,
      height: info.height / frames,
      channels: isGreyAlpha ? 2 : info.channels,
      frames,
      delays: frames > 1 ? about.delay : undefined,
      data: isGreyAlpha ? values.filter((_, i) => i % 4 === 0 || i % 4 === 3) : values,
      bits: about.bitsPerSample,
      hasPalette: about.isPalette,
      hasAlpha: about.hasAlpha,
      isProgressive: about.isProgressive,
      orientation: about.orientation,
    };
  } catch (error) {
    const reason = (error as Error).message.split('\n', 1)[0].replace(/:\s*$/, '');
    throw new JepaError(`${where}: the image cannot be decoded (${reason || 'damaged data'})`);
  }
}
