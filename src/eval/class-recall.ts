import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';

/** Mean over classes of the share of samples whose class was among the best `k` (EPIC-KITCHENS' mean-class recall), in percent. */
export interface ClassRecall {
  /**
   * Counts a batch: logits [batch, classes], labels [batch]. Classes that are not `valid` are never among the best, all others
   * being above them.
   */
  add(logits: HostTensor<'float32'>, labels: ArrayLike<number>, valid?: readonly number[]): void;
  /** Classes that never occurred are left out of the mean; `accuracy` is over samples. */
  value(): { readonly recall: number; readonly accuracy: number };
}

export function createClassRecall(classes: number, k: number): ClassRecall {
  if (!(k >= 1 && k <= classes)) throw new JepaError(`class recall: k = ${k} is outside of 1 .. ${classes} classes`);
  const found = new Float64Array(classes);
  const seen = new Float64Array(classes);
  return {
    add: ({ shape, data }, labels, valid) => {
      if (shape[1] !== classes || shape[0] !== labels.length)
        throw new JepaError(`class recall: logits [${shape}] for ${labels.length} labels of ${classes} classes`);
      const allowed = valid && new Set(valid);
      for (let row = 0; row < labels.length; row++) {
        const label = labels[row];
        if (!(label >= 0 && label < classes)) throw new JepaError(`class recall: label ${label} of ${classes} classes`);
        const scores = Array.from(data.subarray(row * classes, (row + 1) * classes), (score, c) =>
          allowed === undefined || allowed.has(c) ? score : Number.NEGATIVE_INFINITY,
        );
        const above = scores.filter((score, c) => score > scores[label] || (score === scores[label] && c < label));
        seen[label]++;
        if (above.length < k) found[label]++;
      }
    },
    value: () => {
      const present = Array.from(seen.keys()).filter((c) => seen[c] > 0);
      const sum = (of: (c: number) => number): number => present.reduce((total, c) => total + of(c), 0);
      return {
        recall: (100 * sum((c) => found[c] / seen[c])) / present.length,
        accuracy: (100 * sum((c) => found[c])) / sum((c) => seen[c]),
      };
    },
  };
}
