import { UsageError } from '../base/errors.js';
import type { Dataset } from '../data/dataset.js';
import type { PreparationInput } from '../data/plans.js';
import type { VideoFrames } from '../data/video/dataset.js';
import type { Encoder } from '../methods/method.js';

/** Where the one object of each clip is, moment by moment: in the last frame of each tubelet, in shares of the frame. */
export interface Moments {
  readonly moments: number;
  /** [samples, moments, 4]: middle x and y, half width and half height. */
  readonly boxes: Float32Array;
}

/**
 * Boxes of samples of a data set, by their numbers; each sample is read once. Rejects with a `UsageError` where boxes are not
 * known, or where there is not just one object.
 */
export function knownBoxes(dataset: Dataset, tubelet: number): (indices: ArrayLike<number>) => Promise<Moments> {
  const kept = new Map<number, Float32Array>();
  const read = async (index: number): Promise<Float32Array> => {
    const { boxes, frames, facts } = (await dataset.read(index)) as VideoFrames;
    if (boxes?.length !== NUMBERS * frames || facts.width !== facts.height) {
      throw new UsageError(
        `${dataset.name}: this needs square videos in which it is known where their one object is, like procedural:motions`,
      );
    }
    const own = new Float32Array((frames / tubelet) * NUMBERS);
    for (let moment = 0; moment < frames / tubelet; moment++) {
      const last = (moment + 1) * tubelet - 1;
      for (let k = 0; k < NUMBERS; k++) own[moment * NUMBERS + k] = boxes[last * NUMBERS + k] / facts.width;
    }
    kept.set(index, own);
    return own;
  };
  return async (indices) => {
    let boxes = new Float32Array(0);
    for (let i = 0; i < indices.length; i++) {
      const own = kept.get(indices[i]) ?? (await read(indices[i]));
      if (i === 0) boxes = new Float32Array(indices.length * own.length);
      boxes.set(own, i * own.length);
    }
    return { moments: boxes.length / NUMBERS / indices.length, boxes };
  };
}

/** Frames of a moment of an encoder's grid. */
export const tubeletOf = ({ architecture }: Encoder): number =>
  architecture.kind === 'vit' ? (architecture.tubeletSize ?? 1) : 1;

/** Numbers of a box. */
const NUMBERS = 4;

/** The preparation of clips that shows whole frames, so that boxes are where they are said to be. */
export function wholeFrames(preparation: PreparationInput): PreparationInput {
  if (preparation.kind !== 'video' || preparation.transform.kind !== 'evaluate')
    throw new UsageError('only encoders of clips see where things are in time');
  const { transform } = preparation;
  return { ...preparation, transform: { ...transform, shortSide: transform.size } };
}
