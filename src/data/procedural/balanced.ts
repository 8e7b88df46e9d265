import { createRandom } from '../../base/random.js';

/**
 * The value in 0 .. count - 1 of a named factor of sample `index`: in every round of `count` samples each value occurs once, in an
 * order of its own.
 */
export function balanced(seed: number, factor: string, index: number, count: number): number {
  const round = Math.floor(index / count);
  return createRandom(seed, 'balanced', factor, round).permutation(count)[index % count];
}
