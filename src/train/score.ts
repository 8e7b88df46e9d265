import { type Interval, wilson } from '../eval/intervals.js';
import { accuracy } from '../eval/logistic.js';

/** An accuracy and how sure it is. */
export interface Score {
  /** Share of the test images, and its 95 % interval (Wilson). */
  readonly accuracy: number;
  readonly interval: Interval;
}

/** Scores predicted classes by the right ones. */
export function scoreOf(predictions: Int32Array, labels: Int32Array): Score {
  const share = accuracy(predictions, labels);
  return { accuracy: share, interval: wilson(Math.round(share * labels.length), labels.length) };
}
