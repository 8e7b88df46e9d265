import { UsageError } from '../base/errors.js';
import type { Dataset } from '../data/dataset.js';
import type { PreparationInput } from '../data/plans.js';
import type { VideoFrames } from '../data/video/dataset.js';

/** Where the one object of each clip is, moment by moment: in the last frame of each tubelet, in shares of the frame. */
export interface Moments {
  readonly moments: number;
  /** [samples, moments, 4]: middle x and y, half width and half height. */
  readonly boxes: Float32Array;
}

/** Reads the boxes of some samples. Throws a `UsageError` where they are not known, or where there is not just one object. */
export async function boxesOf(dataset: Dataset, indices: ArrayLike<number>, tubelet: number): Promise<Moments> {
  let boxes = new Float32Array(0);
  let moments = 0;
  for (let i = 0; i < indices.length; i++) {
    const { boxes: known, frames, facts } = (await dataset.read(indices[i])) as VideoFrames;
    if (known?.length !== 4 * frames || facts.width !== facts.height) {
      throw new UsageError(
        `${dataset.name}: this needs square videos in which it is known where their one object is, like procedural:motions`,
      );
    }
    moments = frames / tubelet;
    if (i === 0) boxes = new Float32Array(indices.length * moments * 4);
    for (let moment = 0; moment < moments; moment++) {
      for (let k = 0; k < 4; k++) {
        boxes[(i * moments + moment) * 4 + k] = known[((moment + 1) * tubelet - 1) * 4 + k] / facts.width;
      }
    }
  }
  return { moments, boxes };
}

/** The preparation of clips that shows whole frames, so that boxes are where they are said to be. */
export function wholeFrames(preparation: PreparationInput): PreparationInput {
  if (preparation.kind !== 'video' || preparation.transform.kind !== 'evaluate')
    throw new UsageError('only encoders of clips see where things are in time');
  const { transform } = preparation;
  return { ...preparation, transform: { ...transform, shortSide: transform.size } };
}
