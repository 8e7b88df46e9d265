import { JepaError } from '../../base/errors.js';
import type { ImageDataset } from '../dataset.js';
import type { VideoDataset } from '../video/dataset.js';
import { modulo } from './draw.js';
import { balancedLabels, drawnVideos, fullSize, type ProceduralVideos, type VideoSize, videoRandom } from './videos.js';

export interface DigitOptions extends VideoSize {
  /** Digits a video; 2 by default. */
  readonly digits?: number;
}

/** Pictures of digits: white on black, of one size. */
export interface DigitPictures {
  readonly width: number;
  readonly height: number;
  /** [pictures, height, width] */
  readonly pixels: Uint8Array;
  /** 0 to 9. */
  readonly labels: Int32Array;
}

const FRAMES = 20;
const CLASSES = 10;
const MOST_DIGITS = 4;

/** The pictures of the classes 0 to 9 of a set of labelled grey images (Glyphs, MNIST). Throws a `JepaError` without them. */
export async function digitPictures(images: ImageDataset): Promise<DigitPictures> {
  const { size, labels, channels, name } = images;
  if (!size || !labels || channels !== 1) throw new JepaError(`${name}: digits must be grey, of one size and labelled`);
  const chosen = Array.from(labels.keys()).filter((index) => labels[index] >= 0 && labels[index] < CLASSES);
  const bytes = size.width * size.height;
  const pixels = new Uint8Array(chosen.length * bytes);
  for (const [i, index] of chosen.entries()) pixels.set((await images.read(index)).data, i * bytes);
  return { ...size, pixels, labels: Int32Array.from(chosen, (index) => labels[index]) };
}

/**
 * Digits that move straight and bounce off the walls, through each other (Moving MNIST, Srivastava et al. 2015). Classes are
 * those of the first digit, each as often as the others; the others are attributes. Throws a `JepaError` for options that
 * cannot be.
 */
export function digitVideos(pictures: DigitPictures, options: DigitOptions): ProceduralVideos {
  const full = fullSize('digits', options, FRAMES);
  const { digits = 2 } = options;
  const { width, height, pixels } = pictures;
  const { size, channels } = full;
  if (!Number.isInteger(digits) || digits < 1 || digits > MOST_DIGITS) {
    throw new JepaError(`digits: ${digits} digits a video cannot be; from 1 to ${MOST_DIGITS}`);
  }
  if (size < Math.max(width, height)) {
    throw new JepaError(`digits: frames of ${size} pixels are smaller than the digits of ${width} x ${height}`);
  }
  const members = Array.from({ length: CLASSES }, (_, digit) =>
    Array.from(pictures.labels.keys()).filter((index) => pictures.labels[index] === digit),
  );
  const empty = members.findIndex((indices) => indices.length === 0);
  if (empty >= 0) throw new JepaError(`digits: there is no picture of a ${empty}`);
  const randomOf = videoRandom('digits', full);
  const labels = balancedLabels('digits', full, CLASSES);

  const digitsOf = (index: number) => {
    const random = randomOf(index);
    return Array.from({ length: digits }, (_, k) => {
      const digit = k === 0 ? labels[index] : random.integer(CLASSES);
      const angle = 2 * Math.PI * random.uniform();
      const speed = (0.03 + 0.03 * random.uniform()) * size;
      return {
        digit,
        picture: members[digit][random.integer(members[digit].length)],
        // Uniform on the way there and back: any place and either direction are as likely, at any time.
        phaseX: 2 * random.uniform(),
        phaseY: 2 * random.uniform(),
        vx: speed * Math.cos(angle),
        vy: speed * Math.sin(angle),
      };
    });
  };
  type Digit = ReturnType<typeof digitsOf>[number];
  /** Left and top edge, in pixels. */
  const cornerOf = ({ phaseX, phaseY, vx, vy }: Digit, t: number) => [
    thereAndBack(phaseX, vx * t, size - width),
    thereAndBack(phaseY, vy * t, size - height),
  ];
  const all = Array.from(labels, (_, index) => digitsOf(index).map(({ digit }) => digit));
  return drawnVideos(
    full,
    {
      name: `digits (${full.split})`,
      labels,
      classNames: Array.from({ length: CLASSES }, (_, digit) => String(digit)),
      attributes: Object.fromEntries(
        Array.from({ length: digits }, (_, k) => [`digit${k + 1}`, Int32Array.from(all, (of) => of[k])]),
      ),
      factors: {},
      fps: 8,
      scene(index) {
        const shown = digitsOf(index);
        return {
          background: new Uint8Array(size * size * channels),
          draw(t, frame) {
            for (const digit of shown) {
              const [left, top] = cornerOf(digit, t);
              const bytes = width * height;
              const picture = pixels.subarray(digit.picture * bytes, (digit.picture + 1) * bytes);
              drawPicture(picture, width, height, left, top, frame, size, channels);
            }
          },
          boxes: (t) =>
            shown.flatMap((digit) => {
              const [left, top] = cornerOf(digit, t);
              return [left + width / 2, top + height / 2, width / 2, height / 2];
            }),
        };
      },
    },
    { module: import.meta.url, options: { pictures, options } },
  );
}

/** Opens what `digitVideos` gives as its source. */
export function openVideoSource(source: unknown): VideoDataset {
  const { pictures, options } = source as { pictures: DigitPictures; options: DigitOptions };
  return digitVideos(pictures, options);
}

/** A place between 0 and `room` after moving `way` from a phase of 0..2 (to the far wall and back). */
function thereAndBack(phase: number, way: number, room: number): number {
  if (room === 0) return 0;
  const at = modulo(phase + way / room, 2);
  return room * (at < 1 ? at : 2 - at);
}

/** Lays a picture over a frame at a place between pixels; the brighter of both stays. */
function drawPicture(
  picture: Uint8Array,
  width: number,
  height: number,
  left: number,
  top: number,
  frame: Uint8Array,
  size: number,
  channels: number,
): void {
  const [x0, y0] = [Math.floor(left), Math.floor(top)];
  const [fx, fy] = [left - x0, top - y0];
  const at = (x: number, y: number) => (x >= 0 && y >= 0 && x < width && y < height ? picture[y * width + x] : 0);
  for (let y = 0; y <= height && y0 + y < size; y++) {
    for (let x = 0; x <= width && x0 + x < size; x++) {
      const above = fx * at(x - 1, y - 1) + (1 - fx) * at(x, y - 1);
      const here = fx * at(x - 1, y) + (1 - fx) * at(x, y);
      const value = Math.round(fy * above + (1 - fy) * here);
      const to = ((y0 + y) * size + x0 + x) * channels;
      for (let c = 0; c < channels; c++) frame[to + c] = Math.max(frame[to + c], value);
    }
  }
}
