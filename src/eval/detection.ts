import { JepaError } from '../base/errors.js';

/** Boxes as rows of four numbers: middle x and y, half width and half height, in shares of the frame. */
const NUMBERS = 4;

/** What of a box lies inside of the frame, along one axis. */
const side = (boxes: ArrayLike<number>, at: number, axis: 0 | 1): readonly [number, number] => {
  const [middle, half] = [boxes[at + axis], Math.abs(boxes[at + 2 + axis])];
  const inside = (value: number): number => Math.min(1, Math.max(0, value));
  return [inside(middle - half), inside(middle + half)];
};

/** Intersection over union of what of two boxes lies inside of the frame; 0 where neither has any area there. */
export function boxIou(a: ArrayLike<number>, b: ArrayLike<number>, row = 0): number {
  const at = row * NUMBERS;
  let [both, first, second] = [1, 1, 1];
  for (const axis of [0, 1] as const) {
    const [[low, high], [otherLow, otherHigh]] = [side(a, at, axis), side(b, at, axis)];
    both *= Math.max(0, Math.min(high, otherHigh) - Math.max(low, otherLow));
    first *= high - low;
    second *= otherHigh - otherLow;
  }
  const union = first + second - both;
  return union > 0 ? both / union : 0;
}

/** Mean IoU over the moments of each tube: boxes [tubes, moments, 4] of both -> [tubes]. */
export function tubeIous(a: ArrayLike<number>, b: ArrayLike<number>, moments: number): Float64Array {
  if (a.length !== b.length || a.length % (moments * NUMBERS) !== 0)
    throw new JepaError(`tubes: ${a.length} and ${b.length} numbers are no equal numbers of tubes of ${moments} boxes`);
  return Float64Array.from({ length: a.length / (moments * NUMBERS) }, (_, tube) => {
    let sum = 0;
    for (let moment = 0; moment < moments; moment++) sum += boxIou(a, b, tube * moments + moment);
    return sum / moments;
  });
}

/**
 * Average precision of detections, each with a score and whether it is right, of which `positives` could be found: the mean over
 * all that could be found of the precision at the moment each is found (0 for those that are not). Equal scores keep their order.
 */
export function averagePrecision(scores: ArrayLike<number>, right: ArrayLike<boolean>, positives: number): number {
  const order = Array.from({ length: scores.length }, (_, i) => i).sort((i, j) => scores[j] - scores[i]);
  let [found, sum] = [0, 0];
  order.forEach((i, rank) => {
    if (right[i]) sum += ++found / (rank + 1);
  });
  return positives > 0 ? sum / positives : Number.NaN;
}

/**
 * Mean over classes of the average precision of tubes, one a video: for class c they are ranked by their score [videos, classes]
 * of it, and right where the video is of that class and the tube's IoU reaches `least` (video-mAP). Classes without a video are
 * left out.
 */
export function videoMap(
  scores: ArrayLike<number>,
  labels: ArrayLike<number>,
  ious: ArrayLike<number>,
  classes: number,
  least = 0.5,
): number {
  const videos = labels.length;
  if (scores.length !== videos * classes || ious.length !== videos)
    throw new JepaError(
      `video-mAP: ${scores.length} scores of ${classes} classes and ${ious.length} tubes for ${videos} videos`,
    );
  const precisions: number[] = [];
  for (let c = 0; c < classes; c++) {
    const own = Float64Array.from({ length: videos }, (_, i) => scores[i * classes + c]);
    const right = Array.from({ length: videos }, (_, i) => labels[i] === c && ious[i] >= least);
    const positives = Array.from(labels).filter((label) => label === c).length;
    if (positives > 0) precisions.push(averagePrecision(own, right, positives));
  }
  return precisions.reduce((a, b) => a + b, 0) / precisions.length;
}
