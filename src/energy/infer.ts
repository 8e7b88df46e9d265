import { gradients } from '../graph/autodiff.js';
import { abs, add, div, less, mul, relu, sign, sqrt, square, sub, where } from '../graph/ops/elementwise.js';
import { indexSelect } from '../graph/ops/index.js';
import { broadcastTo, expandDims, narrow, squeeze, stack } from '../graph/ops/move.js';
import { argmin, min, sum } from '../graph/ops/reduce.js';
import { operatorError, stopGradient, type Tensor } from '../graph/tensor.js';

/**
 * Inference by minimising an energy. Everything is unrolled into the graph: one execution finds the answers of a whole
 * batch. To run longer than is wise to unroll, feed the result of one execution to the next.
 */

/** Energy of each row: x [..., n], y [..., m], z [..., d] of one leading shape -> that shape. Rows must not mix. */
export type Energy = (x: Tensor, y: Tensor, z: Tensor) => Tensor;

export type DescentMethod =
  /** v <- v - rate * dE/dv */
  | { readonly kind: 'gradient' }
  /** The best of no step and rate * 2^-j for j < halvings, for each row: the energy never rises. */
  | { readonly kind: 'line-search'; readonly halvings: number }
  /** Gradient step on E, then soft threshold by rate * alpha: minimises E + alpha |v|_1 (ISTA). */
  | { readonly kind: 'proximal'; readonly alpha: number }
  /** Steps of `adam` with the usual averages; good where curvatures differ much. */
  | { readonly kind: 'adam' }
  /** v <- v - rate dE/dv + sqrt(2 rate / beta) noise: samples of exp(-beta E). noise [steps, ...v], standard normal. */
  | { readonly kind: 'langevin'; readonly beta: number; readonly noise: Tensor };

export interface DescentOptions {
  readonly steps: number;
  readonly rate: number;
  /** Default: plain gradient steps. */
  readonly method?: DescentMethod;
  /**
   * Whether gradients flow back through the steps. Off by default: at the minimum the slope of F with respect to anything
   * else is the slope of E there, and only a search that stops early has more to say.
   */
  readonly differentiable?: boolean;
}

export interface Descent {
  /** Where the search ended, of the shape of its start. */
  readonly value: Tensor;
  /** Energy there. With `differentiable` off its gradient is that of E at the value. */
  readonly energy: Tensor;
  /** Energies before each step and at the end [steps + 1, ...rows]. */
  readonly trace: Tensor;
}

/** Minimises (or samples) `energy` over a variable [..., d] from `start`. The energy gives one number for each row. */
export function descend(energy: (v: Tensor) => Tensor, start: Tensor, options: DescentOptions): Descent {
  const { steps, rate, method = { kind: 'gradient' }, differentiable = false } = options;
  if (!(Number.isInteger(steps) && steps >= 0 && rate > 0))
    throw operatorError('inference', `needs 0 or more steps and a positive rate, not ${steps} and ${rate}`, start);
  const cut = (t: Tensor): Tensor => (differentiable ? t : stopGradient(t));
  let v = differentiable ? start : stopGradient(start);
  const trace: Tensor[] = [];
  let m: Tensor | undefined;
  let s: Tensor | undefined;
  for (let step = 0; step < steps; step++) {
    const e = energy(v);
    if (e.shape.length !== v.shape.length - 1)
      throw operatorError('inference', 'an energy must give one number for each row', v, e);
    trace.push(cut(e));
    const slope = gradients(sum(e), [v])[0];
    if (!slope) throw operatorError('inference', 'the energy does not depend on its variable', v, e);
    const g = cut(slope);
    switch (method.kind) {
      case 'gradient':
        v = sub(v, mul(g, rate));
        break;
      case 'proximal':
        v = shrink(sub(v, mul(g, rate)), rate * method.alpha);
        break;
      case 'langevin': {
        const kick = squeeze(narrow(method.noise, 0, step, 1), 0);
        v = add(sub(v, mul(g, rate)), mul(kick, Math.sqrt((2 * rate) / method.beta)));
        break;
      }
      case 'adam': {
        // Not the rule of optimizers: gradients flow back through the root where steps are differentiable, also at 0.
        m = m ? add(mul(m, 0.9), mul(g, 0.1)) : mul(g, 0.1);
        s = s ? add(mul(s, 0.99), mul(square(g), 0.01)) : mul(square(g), 0.01);
        const [c1, c2] = [1 - 0.9 ** (step + 1), 1 - 0.99 ** (step + 1)];
        v = sub(v, div(mul(m, rate / c1), add(sqrt(add(mul(s, 1 / c2), 1e-24)), 1e-8)));
        break;
      }
      case 'line-search': {
        let [best, lowest] = [v, e];
        for (let j = 0; j < method.halvings; j++) {
          const tried = sub(v, mul(g, rate * 2 ** -j));
          const there = energy(tried);
          const better = less(there, lowest);
          best = where(broadcastTo(expandDims(better, better.shape.length), v.shape), tried, best);
          lowest = where(better, there, lowest);
        }
        v = cut(best);
        break;
      }
    }
  }
  const last = energy(v);
  return { value: v, energy: last, trace: stack([...trace, cut(last)], 0) };
}

/** Soft threshold: moves numbers towards 0 by `by`, and those nearer than that to 0. */
export const shrink = (v: Tensor, by: number): Tensor => mul(sign(v), relu(sub(abs(v), by)));

/** F(x, y) = min over z of E by descent from `start`; the y whose energy is asked may itself be searched for. */
export const inferLatent = (energy: Energy, x: Tensor, y: Tensor, start: Tensor, options: DescentOptions): Descent =>
  descend((z) => energy(x, y, z), start, options);

/** argmin over y of F(x, y): prediction by inference. `start` is a first guess of y. */
export const inferTarget = (
  free: (x: Tensor, y: Tensor) => Tensor,
  x: Tensor,
  start: Tensor,
  options: DescentOptions,
): Descent => descend((y) => free(x, y), start, options);

/** Energies of every one of K codes: x [batch, n], y [batch, m], codes [K, d] -> [batch, K]. */
export function energiesOfCodes(energy: Energy, x: Tensor, y: Tensor, codes: Tensor): Tensor {
  const count = codes.shape[0];
  const spread = (t: Tensor): Tensor => broadcastTo(expandDims(t, 1), [t.shape[0], count, t.shape[1]]);
  return energy(spread(x), spread(y), broadcastTo(expandDims(codes, 0), [x.shape[0], count, codes.shape[1]]));
}

/** The best code of each row, by trying all: z [batch, d], F = min E [batch] and its number (int32). */
export function bestCode(
  energy: Energy,
  x: Tensor,
  y: Tensor,
  codes: Tensor,
): { readonly z: Tensor; readonly energy: Tensor; readonly index: Tensor } {
  const all = energiesOfCodes(energy, x, y, codes);
  const index = argmin(all, 1);
  return { z: indexSelect(codes, index, 0), energy: min(all, 1), index };
}
