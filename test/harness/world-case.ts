import type { HostTensor } from '../../src/base/tensor.js';
import { difference, readTensors, type Tolerance } from './harness.js';

/** Tensors of cases of golden/world: `<case>/<role>.<name>`. */

export interface WorldTolerance extends Tolerance {
  /** Bound on the largest difference over the largest expected value, where that is above `zero`. */
  rel?: number;
  zero?: number;
}

export interface WorldCase {
  file: string;
  // biome-ignore lint/suspicious/noExplicitAny: each family has its own
  config: Record<string, any>;
  tolerance: 'exact' | { out: WorldTolerance; grad?: WorldTolerance; traj?: WorldTolerance };
}

export type Values = Readonly<Record<string, HostTensor>>;
export type Failures = (string | undefined)[];

/** The case's tensors by role. Those of role `f64` are under `f64.<role>`. */
export function rolesOf(folder: string, name: string, file: string): Record<string, Record<string, HostTensor>> {
  const roles: Record<string, Record<string, HostTensor>> = {};
  for (const [key, tensor] of readTensors(folder, file)) {
    if (!key.startsWith(`${name}/`)) continue;
    const parts = key.slice(name.length + 1).split('.');
    const role = parts[0] === 'f64' ? parts.splice(0, 2).join('.') : (parts.shift() as string);
    roles[role] ??= {};
    roles[role][parts.join('.')] = tensor;
  }
  return roles;
}

const largest = ({ data }: HostTensor): number =>
  Array.from(data as Float32Array).reduce((m, v) => Math.max(m, Math.abs(v)), 0);

type Loose = { shape: readonly number[]; data: ArrayLike<number | bigint> };

/** Element by element, and by the largest value where the tolerance has `rel`. */
export function compareWorld(
  what: string,
  got: Loose | undefined,
  expected: HostTensor,
  tolerance: WorldTolerance,
): string | undefined {
  if (!got) return `no output ${what}`;
  const elementwise = difference(what, got, expected, tolerance);
  if (elementwise || tolerance.rel === undefined) return elementwise;
  const scale = largest(expected);
  if (scale <= (tolerance.zero ?? 0)) return undefined;
  return difference(`${what} by the largest value`, got, expected, { rtol: 0, atol: tolerance.rel * scale });
}

export const EXACT: WorldTolerance = { rtol: 0, atol: 0 };

export const outTolerance = ({ tolerance }: WorldCase): WorldTolerance =>
  tolerance === 'exact' ? EXACT : tolerance.out;

/** Everything of a role against what was computed. */
export const compareAll = (
  role: string,
  got: Readonly<Record<string, Loose>>,
  expected: Values,
  tolerance: WorldTolerance,
): Failures => Object.keys(expected).map((key) => compareWorld(`${role}.${key}`, got[key], expected[key], tolerance));
