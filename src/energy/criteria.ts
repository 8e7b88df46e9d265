import { add, mul } from '../graph/ops/elementwise.js';
import { mean } from '../graph/ops/reduce.js';
import { constant, type Tensor } from '../graph/tensor.js';
import { type Distance, tokenEnergy } from './distance.js';
import { sigreg } from './sigreg.js';
import { varianceCovariance } from './vicreg.js';

/** How the information of a representation is kept up. */
export type Information =
  | { readonly kind: 'vicreg'; readonly variance?: number; readonly covariance?: number }
  /** directions [width, slices], fresh at every step. */
  | { readonly kind: 'sigreg'; readonly directions: Tensor };

/** Weights of the four criteria; 0 switches one off. */
export interface CriteriaWeights {
  readonly informationX: number;
  readonly informationY: number;
  readonly predictability: number;
  readonly latentInformation: number;
}

export const ALL_CRITERIA: CriteriaWeights = {
  informationX: 1,
  informationY: 1,
  predictability: 25,
  latentInformation: 1,
};

export interface CriteriaTerms {
  readonly loss: Tensor;
  /** Each before its weight; `informationX` and `informationY` fall as the information rises. */
  readonly informationX: Tensor;
  readonly informationY: Tensor;
  readonly predictability: Tensor;
  readonly latentInformation: Tensor;
}

/**
 * The four criteria that a JEPA is trained by (LeCun 2022, section 4.5): the representation s_x tells much about x, s_y about
 * y, s_y can be predicted from s_x, and the latent that helps with it carries little. Without the first, the second or the
 * last a JEPA collapses in its own way. sx, sy and prediction [batch, width]; `latent` [batch] is R(z), see latent.ts.
 */
export function jepaCriteria(
  parts: { readonly sx: Tensor; readonly sy: Tensor; readonly prediction: Tensor; readonly latent?: Tensor },
  information: Information,
  weights: CriteriaWeights = ALL_CRITERIA,
  distance: Distance = 'l2',
): CriteriaTerms {
  const lack = (s: Tensor): Tensor =>
    information.kind === 'sigreg' ? sigreg(s, information.directions) : varianceCovariance(s, information).loss;
  const terms = {
    informationX: lack(parts.sx),
    informationY: lack(parts.sy),
    predictability: mean(tokenEnergy(parts.prediction, parts.sy, distance)),
    latentInformation: parts.latent ? mean(parts.latent) : constant(0),
  };
  // A term that is off must not even reach the graph: 0 times a gradient that is not finite is not finite.
  const loss = (Object.keys(terms) as (keyof typeof terms)[])
    .filter((name) => weights[name] !== 0)
    .reduce<Tensor>((total, name) => add(total, mul(terms[name], weights[name])), constant(0));
  return { loss, ...terms };
}
