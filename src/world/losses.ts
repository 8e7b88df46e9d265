import { type InverseModel, inverseDynamics, temporalSimilarity } from '../energy/dynamics.js';
import { covarianceTerm, varianceTerm } from '../energy/vicreg.js';
import { productOf, subDims } from '../graph/dims.js';
import { add, div, mul, relu, sqrt, square, sub } from '../graph/ops/elementwise.js';
import { mseLoss } from '../graph/ops/losses.js';
import { narrow, reshape, transpose, triu } from '../graph/ops/move.js';
import { matmul } from '../graph/ops/product.js';
import { mean, sum, variance } from '../graph/ops/reduce.js';
import { constant, operatorError, sizeTensor, type Tensor } from '../graph/tensor.js';

/** What keeps world models from collapsing, and their prediction losses. Maps are [batch, channels, time, height, width]. */

/** Applied to rows [rows, channels]. */
export type RowMap = (rows: Tensor) => Tensor;

/** Every place and time as a row: [batch, channels, time, height, width] -> [batch * time * height * width, channels]. */
export function placesAsRows(x: Tensor): Tensor {
  if (x.shape.length !== 5) throw operatorError('rows', 'needs [batch, channels, time, height, width]', x);
  return reshape(transpose(x, [0, 2, 3, 4, 1]), [-1, x.shape[1]]);
}

/** Mean squared error of two sequences after an optional projection of their rows (each by itself, the target first). */
export function sequenceError(target: Tensor, prediction: Tensor, projector?: RowMap): Tensor {
  if (!projector) return mseLoss(target, prediction);
  const [a, b] = [projector(placesAsRows(target)), projector(placesAsRows(prediction))];
  return mseLoss(a, b);
}

/** Terms before their coefficients, and their weighted and plain sums. */
export interface Regularized {
  readonly loss: Tensor;
  readonly unweighted: Tensor;
  readonly terms: Readonly<Record<string, Tensor>>;
}

function weighted(parts: readonly (readonly [name: string, coefficient: number, term: Tensor])[]): Regularized {
  return {
    loss: parts.map(([, coefficient, term]) => mul(term, coefficient)).reduce(add),
    unweighted: parts.map(([, , term]) => term).reduce(add),
    terms: Object.fromEntries(parts.map(([name, , term]) => [name, term])),
  };
}

/** Variance and covariance of all places and times (EB-JEPA, `VCLoss`). */
export function varianceCovarianceOfPlaces(
  x: Tensor,
  { variance: std, covariance: cov }: { readonly variance: number; readonly covariance: number },
  projector: RowMap = (rows) => rows,
): Regularized {
  const rows = projector(placesAsRows(x));
  return weighted([
    ['std_loss', std, varianceTerm(rows)],
    ['cov_loss', cov, covarianceTerm(rows, 'entries')],
  ]);
}

export interface ActionRegularizer {
  readonly covariance: number;
  readonly variance: number;
  readonly similarity: number;
  readonly inverse: number;
  readonly margin?: number;
  /** Variance and covariance of the first time only. */
  readonly firstOnly?: boolean;
  /** Places are rows of their own (otherwise a row is a whole map). */
  readonly placesAsRows?: boolean;
  readonly projector?: RowMap;
  readonly similarityAfterProjector?: boolean;
  readonly inverseAfterProjector?: boolean;
  /** Absent: no inverse dynamics. */
  readonly inverseModel?: InverseModel;
}

/**
 * The regulariser of action-conditioned models (EB-JEPA, `VC_IDM_Sim_Regularizer`): variance, covariance, temporal similarity
 * and inverse dynamics. Shapes: x [batch, channels, time, height, width], actions [batch, numbers, time].
 */
export function actionRegularizer(x: Tensor, actions: Tensor | undefined, options: ActionRegularizer): Regularized {
  const [batch, , time, height, width] = x.shape;
  const { projector, firstOnly = false } = options;
  const raw = reshape(transpose(x, [2, 0, 1, 3, 4]), [time, batch, -1]);
  const rows = projector ? projector(placesAsRows(x)) : placesAsRows(x);
  const out = rows.shape[1];
  const projected = reshape(rows, [batch, time, height, width, out]);
  // The reference brings the axes into the order height, batch, time, width, channels and reads that as time, batch, ...: its
  // neighbours in time are partly neighbours in the batch. Kept, so that published settings mean the same.
  const scrambled = reshape(transpose(projected, [2, 0, 1, 3, 4]), [time, batch, -1]);
  const similarity = temporalSimilarity(options.similarityAfterProjector ? scrambled : raw);
  const inverse =
    options.inverse > 0 && options.inverseModel && actions
      ? inverseDynamics(options.inverseAfterProjector ? scrambled : raw, actions, options.inverseModel)
      : constant(0);
  const kept = firstOnly ? narrow(projected, 1, 0, 1) : projected;
  const statistics = options.placesAsRows
    ? reshape(kept, [-1, out])
    : reshape(transpose(kept, [0, 1, 4, 2, 3]), [-1, productOf([out, height, width])]);
  return weighted([
    ['cov_loss', options.covariance, covarianceTerm(statistics, 'entries')],
    ['std_loss', options.variance, varianceTerm(statistics, { margin: options.margin ?? 1 })],
    ['sim_loss_t', options.similarity, similarity],
    ['idm_loss', options.inverse, inverse],
  ]);
}

/** mean max(0, 1 - std) along an axis, with the unbiased variance and 1e-4 under the root. */
const spreadAlong = (x: Tensor, axis: number): Tensor => mean(relu(sub(1, sqrt(add(variance(x, axis), 1e-4)))));

/** Mean over groups of the mean squared entry off the diagonal of x^T x / (samples - 1). Shape: x [groups, samples, width]. */
function overlapInGroups(x: Tensor): Tensor {
  const product = div(matmul(x, x, { transposeA: true }), sub(sizeTensor(x.shape[1]), 1));
  const width = sizeTensor(x.shape[2]);
  const above = sum(square(triu(product, 1)), [1, 2]);
  return div(mul(mean(above), 2), mul(width, sub(width, 1)));
}

const centredAlong = (x: Tensor, axis: number): Tensor => sub(x, mean(x, axis, true));

/**
 * Variance and covariance over the batch for each time, and over time for each sample (stable-worldmodel, `VCReg`) of z
 * [batch, time, width]. The mean over the batch is taken off once; covariances over time are not centred again.
 */
export function varianceCovarianceOverTime(
  z: Tensor,
): Readonly<Record<'std_loss' | 'std_t_loss' | 'cov_loss' | 'cov_t_loss', Tensor>> {
  const centred = centredAlong(z, 0);
  return {
    std_loss: spreadAlong(centred, 0),
    std_t_loss: spreadAlong(centred, 1),
    cov_loss: overlapInGroups(transpose(centred, [1, 0, 2])),
    cov_t_loss: overlapInGroups(centred),
  };
}

export interface PldmCoefficients {
  readonly similarity: number;
  readonly variance: number;
  readonly covariance: number;
  readonly varianceOverTime: number;
  readonly covarianceOverTime: number;
  readonly similarityOverTime: number;
}

/**
 * PLDM's objective (`pldm/objectives/vicreg.py`) of encodings and predictions [time, batch, width]; predictions at time 0 are
 * the encodings. Statistics over the batch are those of the first time.
 */
export function pldmObjective(encodings: Tensor, predictions: Tensor, weights: PldmCoefficients): Regularized {
  const later = (x: Tensor): Tensor => narrow(x, 0, 1, subDims(x.shape[0], 1));
  const first = narrow(encodings, 0, 0, 1);
  const alongTime = transpose(later(encodings), [1, 0, 2]);
  return weighted([
    ['sim', weights.similarity, mseLoss(later(encodings), later(predictions))],
    ['cov', weights.covariance, overlapInGroups(centredAlong(first, 1))],
    ['std', weights.variance, spreadAlong(first, 1)],
    ['cov_t', weights.covarianceOverTime, overlapInGroups(centredAlong(alongTime, 1))],
    ['std_t', weights.varianceOverTime, spreadAlong(alongTime, 1)],
    ['sim_t', weights.similarityOverTime, temporalSimilarity(encodings)],
  ]);
}
