import { JepaError } from '../base/errors.js';
import { mean } from './samples.js';

type Values = ArrayLike<number>;

function checkPairs(what: string, x: Values, y: Values): void {
  if (x.length !== y.length || x.length < 2) {
    throw new JepaError(
      `${what}: ${x.length} and ${y.length} values; it needs two lists of the same length, at least 2`,
    );
  }
}

/** Pearson's correlation; NaN where one side is constant. */
export function pearson(x: Values, y: Values): number {
  checkPairs('correlation', x, y);
  const [meanX, meanY] = [mean(x), mean(y)];
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [x[i] - meanX, y[i] - meanY];
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  return xy / Math.sqrt(xx * yy);
}

/** Spearman's rank correlation: Pearson's of the ranks, ties sharing the average of theirs. */
export function spearman(x: Values, y: Values): number {
  checkPairs('rank correlation', x, y);
  return pearson(averageRanks(x), averageRanks(y));
}

/** Ranks from 1; equal values share the average of their ranks. */
export function averageRanks(x: Values): Float64Array {
  const order = Array.from({ length: x.length }, (_, i) => i).sort((i, j) => x[i] - x[j]);
  const ranks = new Float64Array(x.length);
  for (let from = 0; from < order.length; ) {
    let to = from + 1;
    while (to < order.length && x[order[to]] === x[order[from]]) to++;
    for (let i = from; i < to; i++) ranks[order[i]] = (from + 1 + to) / 2;
    from = to;
  }
  return ranks;
}

/** Kendall's tau-b: agreeing minus disagreeing pairs, over the pairs that are not tied on each side. Quadratic time. */
export function kendall(x: Values, y: Values): number {
  checkPairs('Kendall correlation', x, y);
  let agreement = 0;
  let [untiedX, untiedY] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    for (let j = 0; j < i; j++) {
      const [dx, dy] = [Math.sign(x[i] - x[j]), Math.sign(y[i] - y[j])];
      agreement += dx * dy;
      untiedX += Math.abs(dx);
      untiedY += Math.abs(dy);
    }
  }
  return agreement / Math.sqrt(untiedX * untiedY);
}
