import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { float32, type HostTensor } from '../base/tensor.js';
import { add, cast, div, greaterEqual, mul, square, sub } from '../graph/ops/elementwise.js';
import { harmonicSums } from '../graph/ops/harmonics.js';
import { mseLoss } from '../graph/ops/losses.js';
import { narrow } from '../graph/ops/move.js';
import { matmul } from '../graph/ops/product.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { axisOf, constant, sizeTensor, type Tensor } from '../graph/tensor.js';

/**
 * SIGReg (LeJEPA, Balestriero and LeCun 2025): embeddings are projected on random directions, and each projection is held
 * to a standard normal distribution by the test of Epps and Pulley.
 */

export interface EppsPulleyOptions {
  /** Points of the trapezoid rule on [from, to], which is symmetric or starts at 0 (and is then doubled). */
  readonly knots?: number;
  readonly from?: number;
  readonly to?: number;
  /** Multiply by the number of samples, as a test statistic. LeJEPA does, EB-JEPA does not. */
  readonly timesSamples?: boolean;
}

/** EB-JEPA's form of the statistic (`BCS`). */
export const EB_QUADRATURE: EppsPulleyOptions = { knots: 10, from: -3, to: 3, timesSamples: false };

interface Grid {
  readonly step: number;
  /** Knots are first * step, (first + 1) * step, ... */
  readonly first: 0.5 | 1;
  readonly knots: readonly number[];
  /** Weights of the rule times the normal density's window exp(-t^2 / 2). */
  readonly weights: readonly number[];
}

/** The positive half of the grid, with doubled weights: the integrand is even, and 0 at t = 0. */
function positiveHalf({ knots = 17, from = 0, to = 3 }: EppsPulleyOptions): Grid {
  if (!(Number.isInteger(knots) && knots > 1 && to > 0 && (from === 0 || from === -to))) {
    throw new JepaError(
      `sigreg: needs 2 or more knots on [0, to] or [-to, to], not ${knots} on [${from}, ${to}]: set from and to`,
    );
  }
  const step = (to - from) / (knots - 1);
  const first = from < 0 && knots % 2 === 0 ? 0.5 : 1;
  const points = Array.from({ length: Math.round(to / step - first) + 1 }, (_, j) => (first + j) * step);
  const weights = points.map((t, j) => (j === points.length - 1 ? 1 : 2) * step * Math.exp((-t * t) / 2));
  return { step, first, knots: points, weights };
}

/**
 * The statistic of samples x [..., samples, columns] along `axis` (default -2), one value for each of the others:
 * integral of exp(-t^2/2) |mean exp(i t x) - exp(-t^2/2)|^2 dt. About 1.05 for normal samples of any number.
 */
export function eppsPulley(x: Tensor, options: EppsPulleyOptions & { readonly axis?: number } = {}): Tensor {
  const grid = positiveHalf(options);
  return statistic(mul(x, grid.step), axisOf('epps_pulley', options.axis ?? -2, x.shape.length, x), grid, options);
}

function statistic(angles: Tensor, axis: number, grid: Grid, { timesSamples = true }: EppsPulleyOptions): Tensor {
  const { knots, weights, first } = grid;
  const column = (values: readonly number[]): Tensor =>
    constant(float32([values.length, ...angles.shape.slice(axis + 1).map(() => 1)], values));
  const samples = sizeTensor(angles.shape[axis]);
  const sums = harmonicSums(angles, axis, knots.length, first);
  const expected = column([...knots.map((t) => Math.exp((-t * t) / 2)), ...knots.map(() => 0)]);
  const deviations = sub(div(sums, samples), expected);
  const integral = sum(mul(square(deviations), column([...weights, ...weights])), axis);
  return timesSamples ? mul(integral, samples) : integral;
}

export interface SigRegOptions extends EppsPulleyOptions {
  /** Axis of the samples in z; the statistic is taken for each index of the others apart. Default: -2. */
  readonly axis?: number;
  /** Statistics below this count as 0. */
  readonly clip?: number;
}

/**
 * Statistics of z [..., samples, width] along `directions` [width, slices] (unit columns; an input, no gradient):
 * [..., slices]. Their mean is the regulariser.
 */
export function sigregStatistics(z: Tensor, directions: Tensor, options: SigRegOptions = {}): Tensor {
  const grid = positiveHalf(options);
  const axis = axisOf('sigreg', options.axis ?? -2, z.shape.length, z);
  const values = statistic(matmul(z, directions, { alpha: grid.step }), axis, grid, options);
  return options.clip === undefined ? values : mul(values, cast(greaterEqual(values, options.clip), 'float32'));
}

/** Mean statistic over slices (and views). Its floor, reached by normal embeddings, is about 1.05. */
export const sigreg = (z: Tensor, directions: Tensor, options: SigRegOptions = {}): Tensor =>
  mean(sigregStatistics(z, directions, options));

/** Fresh directions [width, slices] for one step: normal columns of unit length. */
export function randomDirections(random: Random, width: number, slices: number): HostTensor<'float32'> {
  const data = new Float32Array(width * slices);
  random.fillNormal(data, 0, 1);
  return unitColumns(float32([width, slices], data));
}

/** A matrix with its columns scaled to unit length. */
export function unitColumns({ shape, data }: HostTensor<'float32'>): HostTensor<'float32'> {
  const [rows, columns] = shape;
  const scaled = new Float32Array(data.length);
  for (let c = 0; c < columns; c++) {
    let squares = 0;
    for (let r = 0; r < rows; r++) squares += data[r * columns + c] ** 2;
    for (let r = 0; r < rows; r++) scaled[r * columns + c] = data[r * columns + c] / Math.sqrt(squares);
  }
  return { dtype: 'float32', shape, data: scaled };
}

export interface LejepaOptions extends SigRegOptions {
  /** Axis of the views in z. Default: 0. */
  readonly views?: number;
  /** How many views, the first ones, make the centre that all are drawn to: the global crops. Default: all. */
  readonly globals?: number;
  /** Share of SIGReg in the loss. */
  readonly lambda?: number;
}

/**
 * LeJEPA's loss of projected views, z [views, samples, width] (or another order, see `views` and `axis`):
 * lambda SIGReg + (1 - lambda) mean (centre - z)^2, with the statistic per view.
 */
export function lejepaLoss(
  z: Tensor,
  directions: Tensor,
  { views = 0, globals, lambda = 0.05, ...options }: LejepaOptions = {},
): { readonly loss: Tensor; readonly invariance: Tensor; readonly sigreg: Tensor } {
  const centre = mean(globals === undefined ? z : narrow(z, views, 0, globals), views, true);
  const invariance = mean(square(sub(centre, z)));
  const normality = sigreg(z, directions, options);
  const loss = add(mul(normality, lambda), mul(invariance, 1 - lambda));
  return { loss, invariance, sigreg: normality };
}

/** EB-JEPA's loss of two views x, y [batch, width]: mean squared error + lambda * the mean of their statistics. */
export function bcsLoss(
  x: Tensor,
  y: Tensor,
  directions: Tensor,
  lambda = 10,
): { readonly loss: Tensor; readonly invariance: Tensor; readonly bcs: Tensor } {
  const invariance = mseLoss(x, y);
  const both = add(sigreg(x, directions, EB_QUADRATURE), sigreg(y, directions, EB_QUADRATURE));
  const bcs = mul(both, 0.5);
  return { loss: add(invariance, mul(bcs, lambda)), invariance, bcs };
}
