import type { Tensor } from '../tensor.js';
import { absorbTransposes } from './absorb-transposes.js';
import { adjointWindows } from './adjoint-windows.js';
import { shareCommon } from './cse.js';

/**
 * The rewrite passes that every program goes through, in order. Each is exact up to rounding and has a file of its own.
 * Constants are folded as operators are applied; what no output reaches is never written.
 */
export function optimize(outputs: readonly Tensor[]): Tensor[] {
  return shareCommon(adjointWindows(absorbTransposes(shareCommon(outputs))));
}
