import { JepaError } from '../base/errors.js';
import type { Samples } from './samples.js';

/** Scores of per-pixel predictions. */

export interface SegmentationScores {
  /** [target, prediction] pixel counts. */
  readonly confusion: Int32Array;
  /** Intersection over union of each class; NaN for a class that neither side has. */
  readonly iou: Float64Array;
  /** Means leave out classes without a value. meanAccuracy is the mean recall. */
  readonly meanIou: number;
  readonly pixelAccuracy: number;
  readonly meanAccuracy: number;
}

/** Class maps of equal shape; pixels whose target is `ignore` do not count. */
export function segmentationScores(
  prediction: Samples,
  target: Samples,
  classes: number,
  ignore?: number,
): SegmentationScores {
  if (prediction.shape.join() !== target.shape.join()) {
    throw new JepaError(
      `segmentation: predictions [${prediction.shape.join(', ')}] for targets [${target.shape.join(', ')}]`,
    );
  }
  const confusion = new Int32Array(classes * classes);
  let counted = 0;
  for (let i = 0; i < target.data.length; i++) {
    if (target.data[i] === ignore) continue;
    for (const label of [target.data[i], prediction.data[i]]) {
      if (!(label >= 0 && label < classes))
        throw new JepaError(`segmentation: pixel ${i} has class ${label} of ${classes}`);
    }
    confusion[target.data[i] * classes + prediction.data[i]]++;
    counted++;
  }
  const iou = new Float64Array(classes);
  const recall = new Float64Array(classes);
  let correct = 0;
  for (let c = 0; c < classes; c++) {
    let [wanted, got] = [0, 0];
    for (let other = 0; other < classes; other++) {
      wanted += confusion[c * classes + other];
      got += confusion[other * classes + c];
    }
    const hit = confusion[c * classes + c];
    correct += hit;
    iou[c] = hit / (wanted + got - hit);
    recall[c] = hit / wanted;
  }
  const meanOf = (values: Float64Array) => {
    const known = values.filter((value) => !Number.isNaN(value));
    return known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  return { confusion, iou, meanIou: meanOf(iou), pixelAccuracy: correct / counted, meanAccuracy: meanOf(recall) };
}

export interface FlowError {
  /** Mean length of the error vector, in the units of the flow (pixels). */
  readonly epe: number;
  /** KITTI's outliers: share of vectors wrong by more than 3 pixels and more than 5 % of the true length. */
  readonly f1: number;
}

/** Flow fields [..., 2]. */
export function flowError(prediction: Samples, target: Samples): FlowError {
  if (prediction.shape.join() !== target.shape.join() || target.shape.at(-1) !== 2) {
    throw new JepaError(
      `flow error: predictions [${prediction.shape.join(', ')}] for targets [${target.shape.join(', ')}]; both must be [..., 2]`,
    );
  }
  const vectors = target.data.length / 2;
  let [total, outliers] = [0, 0];
  for (let i = 0; i < vectors; i++) {
    const [u, v] = [target.data[2 * i], target.data[2 * i + 1]];
    const error = Math.hypot(prediction.data[2 * i] - u, prediction.data[2 * i + 1] - v);
    total += error;
    if (error > 3 && error > 0.05 * Math.hypot(u, v)) outliers++;
  }
  return { epe: total / vectors, f1: outliers / vectors };
}
