import type { Tensor } from '../tensor.js';
import { shareCommon } from './cse.js';

/** The rewrite passes that every program goes through, in order. Each is exact up to rounding and has a file of its own. */
export function optimize(outputs: readonly Tensor[]): Tensor[] {
  return shareCommon(outputs);
}
