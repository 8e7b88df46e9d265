import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { fileErrorOf } from '../../base/atomic.js';
import { JepaError } from '../../base/errors.js';
import { decodeImage } from '../decode-node.js';
import { folderEntries } from '../image-folder-node.js';
import { DECODE_DEFAULTS, IMAGE_EXTENSIONS, rgbToGrey } from '../image-format.js';
import { frameSize, type VideoDecoder, wantedFrames } from './decoder.js';

/** Videos that the image library decodes: animated GIF and WebP, a folder with a picture a frame, a single picture. */

/** GIF and animated WebP. Frames come at times of their own; the rate is their mean. */
export const animationDecoder: VideoDecoder = {
  name: 'sharp',
  async open(path, decode) {
    const settings = { limitInputPixels: decode.maxPixels, ignoreIcc: true, failOn: 'error' } as const;
    const failed = (error: unknown) => {
      const reason = (error as Error).message.split('\n', 1)[0].replace(/:\s*$/, '');
      return new JepaError(`${path}: the animation cannot be decoded (${reason || 'damaged data'})`);
    };
    const file = await readFile(path).catch(fileErrorOf('read', path));
    const {
      pages = 1,
      delay = [],
      width,
      height,
    } = await sharp(file, settings)
      .metadata()
      .catch((error) => Promise.reject(failed(error)));
    const milliseconds = delay.reduce((sum, one) => sum + one, 0);
    const fps = milliseconds > 0 ? (1000 * delay.length) / milliseconds : 0;
    const facts = { count: pages, fps, ...frameSize({ width, height }, decode) };
    return {
      facts,
      async frames(indices) {
        const wanted = wantedFrames(path, facts, indices, decode);
        // Runs of frames that follow each other are decoded together.
        for (const [first, count] of runs(wanted.numbers)) {
          const { data, info } = await sharp(file, { ...settings, page: first, pages: count })
            .removeAlpha()
            .toColourspace('srgb')
            .resize({ width: facts.width, height: facts.height, fit: 'fill' })
            .raw()
            .toBuffer({ resolveWithObject: true })
            .catch((error) => Promise.reject(failed(error)));
          const rgb =
            info.channels === 3 ? data : Buffer.from(Array.from(data, (value) => [value, value, value]).flat());
          const frames = decode.channels === 3 ? rgb : rgbToGrey(rgb);
          for (let i = 0; i < count; i++) {
            wanted.take(first + i, frames.subarray(i * wanted.bytes, (i + 1) * wanted.bytes));
          }
        }
        return wanted.finish();
      },
    };
  },
};

/** Most frames that are decoded in one piece. */
const RUN = 32;

function* runs(numbers: Int32Array): Generator<[first: number, count: number]> {
  for (let from = 0; from < numbers.length; ) {
    let count = 1;
    while (count < RUN && from + count < numbers.length && numbers[from + count] === numbers[from] + count) count++;
    yield [numbers[from], count];
    from += count;
  }
}

/** Order of frame names: numbers by their value, so that 10 comes after 9. */
const inOrder = new Intl.Collator('en', { numeric: true });

/** A folder with an image a frame, at `fps` frames a second, or (one frame) an image file. Images must be equally large. */
export function pictureDecoder(fps: number): VideoDecoder {
  return {
    name: 'images',
    async open(path, decode) {
      const isImage = (IMAGE_EXTENSIONS as readonly string[]).includes(
        path.slice(path.lastIndexOf('.') + 1).toLowerCase(),
      );
      const files = isImage ? [path] : (await folderEntries(path, IMAGES)).files.map((name) => join(path, name));
      if (files.length === 0) throw new JepaError(`${path}: there are no images in this folder`);
      files.sort(inOrder.compare);
      const { channels, maxPixels, shortSide } = decode;
      const read = async (index: number) => {
        const file = files[index];
        const bytes = await readFile(file).catch(fileErrorOf('read', file));
        return decodeImage(bytes, file, { ...DECODE_DEFAULTS, channels, maxPixels, shortSide });
      };
      const { width, height } = await read(0);
      const facts = { count: files.length, fps, width, height };
      return {
        facts,
        async frames(indices) {
          const wanted = wantedFrames(path, facts, indices, decode);
          for (const number of wanted.numbers) {
            const image = await read(number);
            if (image.width !== width || image.height !== height) {
              throw new JepaError(
                `${files[number]}: ${image.width} x ${image.height}, the first frame has ${width} x ${height}; all must be alike`,
              );
            }
            wanted.take(number, image.data);
          }
          return wanted.finish();
        },
      };
    },
  };
}

/** Images as the files of a folder. */
export const IMAGES = { one: 'image', extensions: IMAGE_EXTENSIONS } as const;
