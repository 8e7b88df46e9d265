import { JepaError } from '../base/errors.js';
import { sharedBytes } from './dataset.js';

/** Images are 96 x 96. */
export const STL10_SIZE = 96;
const PLANE = STL10_SIZE * STL10_SIZE;

/** A file of STL-10 held in memory. */
export interface Stl10File {
  readonly bytes: Uint8Array;
  readonly where: string;
}

export interface Stl10Records {
  /** [n, 96, 96, RGB], in memory that threads share. */
  readonly pixels: Uint8Array;
  /** Classes 0 to 9 (the file counts from 1); absent for unlabelled images. */
  readonly labels?: Int32Array;
}

/**
 * Reads the binary files of STL-10: images as three planes, each column by column, and one byte a label.
 * Throws a `JepaError` naming the file and the record.
 */
export function parseStl10(images: Stl10File, labels?: Stl10File): Stl10Records {
  const { bytes, where } = images;
  if (bytes.length === 0 || bytes.length % (3 * PLANE) !== 0) {
    throw new JepaError(
      `${where}: ${bytes.length} bytes are not a multiple of ${3 * PLANE}, the size of an STL-10 image`,
    );
  }
  const count = bytes.length / (3 * PLANE);
  const pixels = sharedBytes(bytes.length);
  for (let n = 0, from = 0; n < count; n++) {
    for (let channel = 0; channel < 3; channel++) {
      for (let x = 0; x < STL10_SIZE; x++) {
        for (let y = 0; y < STL10_SIZE; y++)
          pixels[((n * STL10_SIZE + y) * STL10_SIZE + x) * 3 + channel] = bytes[from++];
      }
    }
  }
  if (!labels) return { pixels };
  if (labels.bytes.length !== count) {
    throw new JepaError(
      `${labels.where}: ${labels.bytes.length} labels for the ${count} images of ${where}; they differ in number`,
    );
  }
  const wrong = labels.bytes.findIndex((label) => label < 1 || label > 10);
  if (wrong >= 0) {
    throw new JepaError(`${labels.where}: record ${wrong} has label ${labels.bytes[wrong]}, outside of 1 to 10`);
  }
  return { pixels, labels: Int32Array.from(labels.bytes, (label) => label - 1) };
}
