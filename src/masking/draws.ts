/**
 * Where mask samplers get their random numbers: a `Random`, a `TorchRandom`, or recorded draws in a test. Samplers say
 * which kinds they need and in which order they draw.
 */
export interface UniformDraws {
  /** The next uniform number in [0, 1). */
  uniform(): number;
}

export interface IntegerDraws {
  /** The next uniform integer in [0, bound). */
  integer(bound: number): number;
}

export interface PermutationDraws {
  /** The next random order of 0 .. n - 1. */
  permutation(n: number): Int32Array;
}

/** An interval from which something is drawn uniformly. */
export type Range = readonly [low: number, high: number];

export function between([low, high]: Range, uniform: number): number {
  return low + uniform * (high - low);
}
