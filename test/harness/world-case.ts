import type { HostTensor } from '../../src/base/tensor.js';
import { gradients } from '../../src/graph/autodiff.js';
import { zeros } from '../../src/graph/ops/elementwise.js';
import { constant, type DType, input, type Tensor } from '../../src/graph/tensor.js';
import { type NormMode, normMode } from '../../src/nn/batch-norm.js';
import type { Weights } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import { difference, readTensors, type Tolerance } from './harness.js';
import { goldenBackend } from './target.js';

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

export type Tensors = Readonly<Record<string, Tensor>>;

/** A bias in front of a batch norm that trains has no gradient but rounding noise (README): its scale says nothing. */
export function beforeNorm(key: string, weights: Values, { config }: WorldCase): boolean {
  const [, stem, place] = /^gw\.(.*\.)(\d+)\.bias$/.exec(key) ?? [];
  return config.train_mode !== false && stem !== undefined && `${stem}${Number(place) + 1}.running_mean` in weights;
}

/** What a case's graph is built from. */
export interface Leaves {
  readonly given: Tensors;
  readonly w: Weights;
  readonly mode: NormMode;
  readonly rand: Tensors;
}

type Grouped = Readonly<Record<string, Values>>;

/**
 * Builds the graph of a case, and compares outputs, renewed statistics and all gradients. The scalar differentiated is the
 * loss, or else the sum of outputs times their cotangents, or without any the sum of the scalars.
 */
export async function checkGraph(
  roles: Grouped,
  each: WorldCase,
  build: (leaves: Leaves) => Tensors,
  ignored: readonly string[] = [],
): Promise<Failures> {
  const { in: given = {}, w = {}, rand = {}, out = {}, gin = {}, gw = {}, ct = {}, after = {}, ...others } = roles;
  const unread = Object.keys(others).filter((role) => !role.startsWith('f64') && !ignored.includes(role));
  if (unread.length > 0 || Object.keys(out).length === 0)
    return [`roles [${unread}] are not read, or nothing is expected`];
  const feeds = new Map<Tensor, HostTensor>();
  const leaf = (kind: string, values: Values): Record<string, Tensor> =>
    Object.fromEntries(
      Object.entries(values).map(([name, value]) => {
        const tensor = input(`${kind} ${name}`, value.shape, value.dtype as DType);
        feeds.set(tensor, value);
        return [name, tensor];
      }),
    );
  const [givenLeaves, weightLeaves, randLeaves] = [leaf('in', given), leaf('w', w), leaf('rand', rand)];
  const tied: Record<string, string> = each.config.tied ?? {};
  const weights: Weights = (name) => {
    const tensor = weightLeaves[name] ?? weightLeaves[tied[name]];
    if (!tensor) throw new Error(`the case has no weight ${name}`);
    return tensor;
  };
  const mode = normMode(each.config.train_mode !== false);
  const built = build({ given: givenLeaves, w: weights, mode, rand: randLeaves });
  const missing = Object.keys(out).filter((name) => !built[name]);
  if (missing.length > 0) return [`no output ${missing}`];
  const wrt = [
    ...Object.keys(gin).map((name) => ({ key: `gin.${name}`, leaf: givenLeaves[name], expected: gin[name] })),
    ...Object.keys(gw).map((name) => ({ key: `gw.${name}`, leaf: weightLeaves[name], expected: gw[name] })),
  ];
  const scalars = Object.keys(ct).length > 0 ? [] : Object.keys(out).filter((name) => out[name].shape.length === 0);
  const seeds = out.loss
    ? built.loss
    : [
        ...Object.entries(ct).map(([name, upstream]) => ({
          output: built[name],
          upstream: constant(upstream as HostTensor<DType>),
        })),
        ...scalars.map((name) => ({ output: built[name], upstream: constant(1) })),
      ];
  const grads =
    wrt.length === 0
      ? []
      : gradients(
          seeds,
          wrt.map(({ leaf: tensor }) => tensor),
        );
  const named: Record<string, Tensor> = {};
  for (const name of Object.keys(out)) named[`out.${name}`] = built[name];
  for (const [i, { key, leaf: tensor }] of wrt.entries()) named[key] = grads[i] ?? zeros(tensor.shape);
  for (const name of Object.keys(after)) {
    const renewed = mode.renewed.get(weights(name));
    if (!renewed) return [`${name} is not renewed`];
    named[`after.${name}`] = renewed;
  }
  const got = await evaluate(named, feeds, { backend: goldenBackend });
  const { out: outs, grad = outs } = each.tolerance === 'exact' ? { out: EXACT, grad: EXACT } : each.tolerance;
  return [
    ...Object.keys(out).map((name) => compareWorld(`out.${name}`, got[`out.${name}`], out[name], outs)),
    ...Object.keys(after).map((name) => compareWorld(`after.${name}`, got[`after.${name}`], after[name], outs)),
    ...wrt.map(({ key, expected }) =>
      compareWorld(key, got[key], expected, beforeNorm(key, w, each) ? { ...grad, rel: undefined } : grad),
    ),
  ];
}
