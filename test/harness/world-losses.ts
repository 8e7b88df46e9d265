import type { HostTensor } from '../../src/base/tensor.js';
import { bcsLoss, eppsPulley, lejepaLoss, sigreg, sigregStatistics, unitColumns } from '../../src/energy/sigreg.js';
import { covarianceTerm, varianceTerm, vicreg } from '../../src/energy/vicreg.js';
import { mean, sum } from '../../src/graph/ops/reduce.js';
import type { Tensor } from '../../src/graph/tensor.js';
import { attempt, difference, type Harness, readCases, readTensors, type Tolerance } from './harness.js';
import { evaluateLoss } from './loss-case.js';

interface WorldTolerance extends Tolerance {
  /** Bound on the largest difference over the largest expected value, where that is above `zero`. */
  rel: number;
  zero: number;
}

interface Case {
  file: string;
  config: Record<string, unknown>;
  tolerance: { out: WorldTolerance; grad: WorldTolerance };
}

type Tensors = Readonly<Record<string, Tensor>>;
type Build = (inputs: Tensors, config: Record<string, never>) => Tensors;

/** By the part of the name before the first slash. `directions` are the drawn slices with unit columns. */
const FAMILIES: Record<string, Build> = {
  hinge_std: ({ x }, { std_margin, eps }) => ({ loss: varianceTerm(x, { margin: std_margin, eps }) }),
  covariance: ({ x }) => ({ loss: covarianceTerm(x, 'entries') }),
  vicreg: ({ z1, z2 }, { std_coeff, cov_coeff }) => {
    const terms = vicreg(z1, z2, { invariance: 1, variance: std_coeff, covariance: cov_coeff, form: 'eb-jepa' });
    const { loss, invariance, variance, covariance } = terms;
    return { loss, invariance_loss: invariance, var_loss: variance, cov_loss: covariance };
  },
  eb_epps_pulley: univariate,
  lejepa_epps_pulley: univariate,
  eb_bcs: ({ z1, z2, directions }, { lmbd }) => {
    const { loss, invariance, bcs } = bcsLoss(z1, z2, directions, lmbd);
    return { loss, invariance_loss: invariance, bcs_loss: bcs };
  },
  lejepa_slicing: ({ x, directions }, { n_points, t_max, reduction, clip_value }): Tensors => {
    const stat = sigregStatistics(x, directions, { knots: n_points, to: t_max, clip: clip_value ?? undefined });
    if (reduction === null) return { stat };
    if (reduction !== 'mean' && reduction !== 'sum') throw new Error(`unknown reduction ${reduction}`);
    return { loss: reduction === 'mean' ? mean(stat) : sum(stat) };
  },
  lejepa_minimal: ({ proj, directions }, config) => {
    const terms = lejepaLoss(proj, directions, { lambda: config['lambda'], knots: config.knots });
    return { loss: terms.loss, inv: terms.invariance, sigreg: terms.sigreg };
  },
  swm_sigreg: ({ proj, directions }, { knots }) => ({ loss: sigreg(proj, directions, { knots }) }),
};

function univariate({ x }: Tensors, { t_min, t_max, n_points, times_N }: Record<string, never>): Tensors {
  return { stat: eppsPulley(x, { from: t_min ?? 0, to: t_max, knots: n_points, timesSamples: times_N }) };
}

/** Losses of world models that come with them. */
const LATER = new Set(
  'temporal_similarity inverse_dynamics square_seq vc vc_idm_sim swm_vcreg swm_pldm_loss swm_straightening pldm_objective'.split(
    ' ',
  ),
);

const largest = ({ data }: HostTensor): number => Math.max(0, ...Array.from(data as Float32Array, Math.abs));

function compare(what: string, got: HostTensor, expected: HostTensor, tolerance: WorldTolerance): string | undefined {
  const elementwise = difference(what, got, expected, tolerance);
  const scale = largest(expected);
  if (elementwise || scale <= tolerance.zero) return elementwise;
  return difference(`${what} by the largest value`, got, expected, { rtol: 0, atol: tolerance.rel * scale });
}

async function check(folder: string, name: string, each: Case): Promise<(string | undefined)[]> {
  const build = FAMILIES[name.split('/')[0]];
  if (!build) return [`unknown case ${name}`];
  const roles: Record<string, Record<string, HostTensor>> = {};
  for (const [key, tensor] of readTensors(folder, each.file)) {
    if (!key.startsWith(`${name}/`)) continue;
    const [role, ...rest] = key.slice(name.length + 1).split('.');
    roles[role] ??= {};
    roles[role][rest.join('.')] = tensor;
  }
  const { in: given = {}, out = {}, gin = {}, ct, rand = {}, ...others } = roles;
  const unread = Object.keys(others).filter((role) => role !== 'f64');
  if (unread.length > 0 || Object.keys(out).length === 0)
    return [`roles [${unread}] are not read, or nothing is expected`];
  const directions = rand['0'] && { directions: unitColumns(rand['0'] as HostTensor<'float32'>) };
  const wrt = Object.keys(gin);
  const built = (leaves: Tensors): Tensors => build(leaves, each.config as Record<string, never>);
  const got = await evaluateLoss({ ...given, ...directions }, built, wrt, ct);
  const missing = Object.keys(out).filter((key) => !got.outputs[key]);
  if (missing.length > 0) return [`no output ${missing}`];
  return [
    ...Object.keys(out).map((key) => compare(`out.${key}`, got.outputs[key], out[key], each.tolerance.out)),
    ...wrt.map((key) => compare(`gin.${key}`, got.gradients[key], gin[key], each.tolerance.grad)),
  ];
}

const harness: Harness = async function* (folder) {
  for (const [name, each] of Object.entries(readCases<{ cases: Record<string, Case> }>(folder).cases)) {
    if (LATER.has(name.split('/')[0])) yield { name, notCovered: true };
    else yield await attempt(name, () => check(folder, name, each));
  }
};

export default harness;
