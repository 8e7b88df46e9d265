import { JepaError } from '../base/errors.js';
import { averageRanks } from './correlation.js';
import type { Samples } from './samples.js';

/** How well scores order things: detection (labels 0 / 1) and retrieval (the rank of the right candidate). */

function countPositives(what: string, scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  if (scores.length !== labels.length)
    throw new JepaError(`${what}: ${scores.length} scores for ${labels.length} labels`);
  let positives = 0;
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] !== 0 && labels[i] !== 1)
      throw new JepaError(`${what}: label ${i} is ${labels[i]}; labels are 0 or 1`);
    positives += labels[i];
  }
  if (positives === 0 || positives === labels.length) {
    throw new JepaError(`${what}: all ${labels.length} labels are ${labels[0]}; it needs both classes`);
  }
  return positives;
}

/** Area under the ROC curve: chance that a positive scores above a negative, ties counting one half. */
export function auroc(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const positives = countPositives('AUROC', scores, labels);
  const ranks = averageRanks(scores);
  let sum = 0;
  for (let i = 0; i < labels.length; i++) if (labels[i] === 1) sum += ranks[i];
  return (sum - (positives * (positives + 1)) / 2) / (positives * (labels.length - positives));
}

/** Sum over distinct thresholds, high to low, of recall gained x precision; not interpolated. */
export function averagePrecision(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const positives = countPositives('average precision', scores, labels);
  const order = Array.from({ length: scores.length }, (_, i) => i).sort((i, j) => scores[j] - scores[i]);
  let [found, total] = [0, 0];
  for (let from = 0; from < order.length; ) {
    let to = from;
    const before = found;
    while (to < order.length && scores[order[to]] === scores[order[from]]) found += labels[order[to++]];
    total += ((found - before) / positives) * (found / to);
    from = to;
  }
  return total;
}

export interface RetrievalRanks {
  /** Rank of the right candidate for each prediction: 1 + candidates strictly closer. */
  readonly ranks: Int32Array;
  /** Mean of 1 / rank; shares of ranks at most 1 and 5. */
  readonly mrr: number;
  readonly hitsAt1: number;
  readonly hitsAt5: number;
}

/**
 * Ranks candidates by Euclidean distance to a prediction. predictions [n, d]; candidates [n, m, d]; `targets` holds the
 * index of the right candidate of each.
 */
export function retrievalRanks(predictions: Samples, candidates: Samples, targets: ArrayLike<number>): RetrievalRanks {
  const [n, count, width] = candidates.shape;
  if (predictions.shape.join() !== [n, width].join() || targets.length !== n) {
    throw new JepaError(
      `retrieval: predictions [${predictions.shape.join(', ')}], candidates [${candidates.shape.join(', ')}] and ${targets.length} targets do not fit`,
    );
  }
  const ranks = new Int32Array(n);
  const distances = new Float64Array(count);
  for (let i = 0; i < n; i++) {
    if (!(targets[i] >= 0 && targets[i] < count))
      throw new JepaError(`retrieval: target ${i} is ${targets[i]} of ${count} candidates`);
    for (let c = 0; c < count; c++) {
      let sum = 0;
      for (let j = 0; j < width; j++)
        sum += (predictions.data[i * width + j] - candidates.data[(i * count + c) * width + j]) ** 2;
      distances[c] = sum;
    }
    ranks[i] = 1 + distances.filter((distance) => distance < distances[targets[i]]).length;
  }
  const share = (score: (rank: number) => number) => ranks.reduce((sum, rank) => sum + score(rank), 0) / n;
  return {
    ranks,
    mrr: share((rank) => 1 / rank),
    hitsAt1: share((rank) => Number(rank <= 1)),
    hitsAt5: share((rank) => Number(rank <= 5)),
  };
}
