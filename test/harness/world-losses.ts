import type { HostTensor } from '../../src/base/tensor.js';
import { inverseDynamics, straightening, temporalSimilarity } from '../../src/energy/dynamics.js';
import { bcsLoss, eppsPulley, lejepaLoss, sigreg, sigregStatistics, unitColumns } from '../../src/energy/sigreg.js';
import { covarianceTerm, varianceTerm, vicreg } from '../../src/energy/vicreg.js';
import { mseLoss } from '../../src/graph/ops/losses.js';
import { transpose } from '../../src/graph/ops/move.js';
import { mean, sum } from '../../src/graph/ops/reduce.js';
import type { Tensor } from '../../src/graph/tensor.js';
import { dense, projector, reluStack } from '../../src/nn/stacks.js';
import { under } from '../../src/nn/weights.js';
import {
  actionRegularizer,
  pldmObjective,
  type RowMap,
  sequenceError,
  varianceCovarianceOfPlaces,
  varianceCovarianceOverTime,
} from '../../src/world/losses.js';
import { attempt, type Harness, readCases } from './harness.js';
import { checkGraph, type Failures, type Leaves, rolesOf, type Tensors, type WorldCase } from './world-case.js';

type Config = WorldCase['config'];
type Build = (leaves: Leaves, config: Config) => Tensors;

/** By the part of the name before the first slash. `directions` are the drawn slices with unit columns. */
const FAMILIES: Record<string, Build> = {
  hinge_std: ({ given: { x } }, { std_margin, eps }) => ({ loss: varianceTerm(x, { margin: std_margin, eps }) }),
  covariance: ({ given: { x } }) => ({ loss: covarianceTerm(x, 'entries') }),
  vicreg: ({ given: { z1, z2 } }, { std_coeff, cov_coeff }) => {
    const terms = vicreg(z1, z2, { invariance: 1, variance: std_coeff, covariance: cov_coeff, form: 'eb-jepa' });
    const { loss, invariance, variance, covariance } = terms;
    return { loss, invariance_loss: invariance, var_loss: variance, cov_loss: covariance };
  },
  eb_epps_pulley: univariate,
  lejepa_epps_pulley: univariate,
  eb_bcs: ({ given: { z1, z2 }, rand }, { lmbd }) => {
    const { loss, invariance, bcs } = bcsLoss(z1, z2, rand[0], lmbd);
    return { loss, invariance_loss: invariance, bcs_loss: bcs };
  },
  lejepa_slicing: ({ given: { x }, rand }, { n_points, t_max, reduction, clip_value }): Tensors => {
    const stat = sigregStatistics(x, rand[0], { knots: n_points, to: t_max, clip: clip_value ?? undefined });
    if (reduction === null) return { stat };
    if (reduction !== 'mean' && reduction !== 'sum') throw new Error(`unknown reduction ${reduction}`);
    return { loss: reduction === 'mean' ? mean(stat) : sum(stat) };
  },
  lejepa_minimal: ({ given: { proj }, rand }, config) => {
    const terms = lejepaLoss(proj, rand[0], { lambda: config.lambda, knots: config.knots });
    return { loss: terms.loss, inv: terms.invariance, sigreg: terms.sigreg };
  },
  swm_sigreg: ({ given: { proj }, rand }, { knots }) => ({ loss: sigreg(proj, rand[0], { knots }) }),
  temporal_similarity: ({ given: { x } }) => ({ loss: temporalSimilarity(x) }),
  inverse_dynamics: ({ given: { x, actions }, w }) => ({
    loss: inverseDynamics(x, actions, (pairs) => reluStack(pairs, under(w, 'idm.model.'), 3)),
  }),
  square_seq: (leaves, config) => {
    const { state, predi } = leaves.given;
    return { loss: sequenceError(state, predi, projectorOf(leaves, config, 'proj.')) };
  },
  vc: (leaves, config) => {
    const coefficients = { variance: config.std_coeff, covariance: config.cov_coeff };
    const { loss, unweighted } = varianceCovarianceOfPlaces(
      leaves.given.x,
      coefficients,
      projectorOf(leaves, config, 'proj.'),
    );
    return { loss, unweighted };
  },
  vc_idm_sim: regularizer,
  swm_vcreg: ({ given: { z } }) => varianceCovarianceOverTime(z),
  swm_pldm_loss: ({ given: { z, a_pred, a_target } }) => ({
    idm_loss: mseLoss(a_pred, a_target),
    temp_align_loss: temporalSimilarity(transpose(z, [1, 0, 2])),
    ...varianceCovarianceOverTime(z),
  }),
  swm_straightening: ({ given: { x } }) => ({ loss: straightening(x) }),
  pldm_objective: ({ given: { encodings, predictions } }, config) => {
    if (!config.adjust_cov) throw new Error('covariances are per entry');
    const { loss, terms } = pldmObjective(encodings, predictions, {
      similarity: config.sim_coeff,
      variance: config.std_coeff,
      covariance: config.cov_coeff,
      varianceOverTime: config.std_coeff_t,
      covarianceOverTime: config.cov_coeff_t,
      similarityOverTime: config.sim_coeff_t,
    });
    return { loss, ...terms };
  },
};

function univariate({ given: { x } }: Leaves, { t_min, t_max, n_points, times_N }: Config): Tensors {
  return { stat: eppsPulley(x, { from: t_min ?? 0, to: t_max, knots: n_points, timesSamples: times_N }) };
}

function projectorOf({ w, mode }: Leaves, { projector: kind, spec }: Config, prefix: string): RowMap | undefined {
  if (kind === 'none') return undefined;
  if (kind === 'linear') return (rows) => dense(rows, under(w, prefix));
  if (kind !== 'projector') throw new Error(`unknown projector ${kind}`);
  return (rows) => projector(rows, under(w, `${prefix}net.`), spec.split('-').length - 1, mode);
}

function regularizer({ given: { x, actions }, w, mode }: Leaves, config: Config): Tensors {
  const layers = config.projector?.split('-').length - 1;
  const { loss, unweighted, terms } = actionRegularizer(x, actions, {
    covariance: config.cov_coeff,
    variance: config.std_coeff,
    similarity: config.sim_coeff_t,
    inverse: config.idm_coeff,
    margin: config.std_margin,
    firstOnly: config.first_t_only,
    placesAsRows: config.spatial_as_samples,
    projector: config.projector
      ? (rows: Tensor) => projector(rows, under(w, 'projector.net.'), layers, mode)
      : undefined,
    similarityAfterProjector: config.sim_t_after_proj,
    inverseAfterProjector: config.idm_after_proj,
    inverseModel: config.idm_coeff > 0 ? (pairs) => reluStack(pairs, under(w, 'idm_loss_fn.idm.model.'), 3) : undefined,
  });
  return { loss, unweighted, ...terms };
}

async function check(folder: string, name: string, each: WorldCase): Promise<Failures> {
  const build = FAMILIES[name.split('/')[0]];
  if (!build) return [`unknown case ${name}`];
  const roles = rolesOf(folder, name, each.file);
  if (roles.rand) {
    const [drawn] = Object.values(roles.rand);
    roles.rand = { 0: unitColumns(drawn as HostTensor<'float32'>) };
  }
  return checkGraph(roles, each, (leaves) => build(leaves, each.config));
}

const harness: Harness = async function* (folder) {
  for (const [name, each] of Object.entries(readCases<{ cases: Record<string, WorldCase> }>(folder).cases)) {
    yield await attempt(name, () => check(folder, name, each));
  }
};

export default harness;
