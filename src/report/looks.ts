import { sizeOf } from '../base/tensor.js';
import type { RawImage } from '../data/dataset.js';
import type { ImageInput, PreparationInput } from '../data/plans.js';
import type { Fields } from '../data/preparation.js';
import type { TransformInput } from '../data/transforms.js';

/** How prepared samples are shown: what a modality needs for its pictures in a report. */
export interface Look {
  /** A picture of each sample; fields are [samples, ...]. */
  pictures(fields: Fields): RawImage[];
  /** Where the tokens of an encoder lie on such a picture. */
  layout(grid: readonly number[]): TokenLayout;
}

/** A picture cut into cells; `cells[token]` is row * columns + column. */
export interface TokenLayout {
  readonly rows: number;
  readonly columns: number;
  readonly cells: Int32Array;
}

export function lookOf(preparation: PreparationInput): Look {
  return imageLook((preparation as ImageInput).transforms);
}

const identity = (count: number): Int32Array => Int32Array.from({ length: count }, (_, i) => i);

function imageLook(transforms: readonly TransformInput[]): Look {
  return {
    pictures({ images: { shape, data } }) {
      const [count, ...size] = shape;
      const values = sizeOf(size);
      return Array.from({ length: count }, (_, i) =>
        pixelsOf(data.subarray(i * values, (i + 1) * values), size, transforms),
      );
    },
    layout: ([rows, columns]) => ({ rows, columns, cells: identity(rows * columns) }),
  };
}

/** Floats [channels, height, width] as bytes again, a normalisation among the transforms undone. */
function pixelsOf(
  data: ArrayLike<number>,
  [channels, height, width]: readonly number[],
  transforms: readonly TransformInput[],
): RawImage {
  const normalisation = transforms.find((step) => step.kind === 'normalize');
  const of = (values: readonly number[] | undefined, channel: number, otherwise: number): number =>
    values?.[values.length === 1 ? 0 : channel] ?? otherwise;
  const pixels = height * width;
  const bytes = new Uint8Array(pixels * channels);
  for (let c = 0; c < channels; c++) {
    const [mean, std] = [of(normalisation?.mean, c, 0), of(normalisation?.std, c, 1)];
    for (let p = 0; p < pixels; p++) {
      const value = data[c * pixels + p] * std + mean;
      bytes[p * channels + c] = Math.round(255 * Math.min(1, Math.max(0, value)));
    }
  }
  return { width, height, channels, data: bytes };
}
