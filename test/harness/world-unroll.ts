import { averagePrecision } from '../../src/eval/ranking.js';
import { add } from '../../src/graph/ops/elementwise.js';
import { mseLoss } from '../../src/graph/ops/losses.js';
import { reshape } from '../../src/graph/ops/move.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { gruPredictor } from '../../src/nn/gru.js';
import { impala } from '../../src/nn/impala.js';
import { detectionHead, eachFrame, previousAndNext, resNet5, resUnet } from '../../src/nn/residual.js';
import { projector, reluStack } from '../../src/nn/stacks.js';
import { under } from '../../src/nn/weights.js';
import { epochWarmupCosine, warmupCosine } from '../../src/optim/schedules.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import {
  actionRegularizer,
  type Regularized,
  sequenceError,
  varianceCovarianceOfPlaces,
} from '../../src/world/losses.js';
import {
  parallelError,
  type StatesPredictor,
  stateOf,
  stepsError,
  unrollParallel,
  unrollSteps,
  vectorOf,
} from '../../src/world/unroll.js';
import { attempt, type Harness, readCases } from './harness.js';
import { goldenBackend } from './target.js';
import {
  checkGraph,
  compareAll,
  type Failures,
  type Leaves,
  outTolerance,
  rolesOf,
  type Tensors,
  type WorldCase,
} from './world-case.js';

type Config = WorldCase['config'];
type Roles = ReturnType<typeof rolesOf>;

const layersOf = (spec: string): number => spec.split('-').length - 1;

const regularized = (reg: Regularized, pred: Tensor): Tensors => ({
  loss: add(reg.loss, pred),
  reg: reg.loss,
  reg_unweighted: reg.unweighted,
  pred,
  ...reg.terms,
});

/** The video example: ResNet-5, and a U-Net that predicts from two frames. */
export function videoModel({ w, mode }: Pick<Leaves, 'w' | 'mode'>, { dobs, henc, dstc, hpre }: Config, prefix = '') {
  const encoder = { channels: dobs, hidden: henc, out: dstc, strides: [1, 1, 1] as const, pooled: false };
  const own = under(w, prefix);
  const predict: StatesPredictor = (states) =>
    resUnet(previousAndNext(states), under(own, 'predictor.predictor.'), hpre, mode);
  return { encode: (x: Tensor): Tensor => resNet5(x, under(own, 'encoder.'), encoder, mode), predict };
}

export function videoLoss({ given: { x }, w, mode }: Leaves, config: Config) {
  const { encode, predict } = videoModel({ w, mode }, config);
  const states = encode(x);
  const rows = (flat: Tensor): Tensor =>
    projector(flat, under(w, 'regularizer.proj.net.'), layersOf(config.projector), mode);
  const coefficients = { variance: config.std_coeff, covariance: config.cov_coeff };
  const reg = varianceCovarianceOfPlaces(states, coefficients, rows);
  const unrolled = unrollParallel(states, predict, { steps: config.nsteps, context: config.context_length });
  const pred = parallelError(states, unrolled, config.context_length, (a, b) => sequenceError(a, b, rows));
  return { outputs: regularized(reg, pred), encode, steps: unrolled.steps };
}

function parallel(leaves: Leaves, config: Config): Tensors {
  const { outputs, steps } = videoLoss(leaves, config);
  return { ...outputs, ...Object.fromEntries(steps.map((step, i) => [`step${i}`, step])) };
}

function infer({ given: { x }, w, mode }: Leaves, config: Config): Tensors {
  const { encode, predict } = videoModel({ w, mode }, config);
  return { y: unrollParallel(encode(x), predict, { steps: 1, context: 0 }).steps[0] };
}

function windowOf2({ given: { x }, w, mode }: Leaves, config: Config): Tensors {
  const { encode, predict } = videoModel({ w, mode }, config);
  const states = encode(x);
  // The predictor of two frames answers for the pair: its last time is the next state.
  const unrolled = unrollSteps(states, predict, { steps: config.nsteps, window: config.ctxt_window_time });
  const rows = (flat: Tensor): Tensor => projector(flat, under(w, 'regularizer.proj.net.'), 2, mode);
  return {
    states: unrolled.states,
    reference_pred_loss: stepsError(states, unrolled, (a, b) => sequenceError(a, b, rows)),
  };
}

/** The action-conditioned example: IMPALA, and a GRU that shares its norm. */
export function actionModel({ w }: Pick<Leaves, 'w'>, { image, stack_sizes, latent }: Config) {
  const config = { picture: image, widths: stack_sizes, blocks: 2, width: latent, finalNorm: true };
  const encode = (x: Tensor): Tensor =>
    eachFrame(x, (images) => {
      const out = impala(images, under(w, 'encoder.'), config);
      return reshape(out, [...out.shape, 1, 1]);
    });
  const predict: StatesPredictor = (state, action) =>
    stateOf(
      gruPredictor(
        vectorOf(state),
        reshape(action as Tensor, (action as Tensor).shape.slice(0, 2)),
        under(w, 'predictor.rnn.'),
        under(w, 'encoder.final_ln.'),
      ),
    );
  return { encode, predict };
}

export function actionLoss({ given: { x, a }, w, mode }: Leaves, config: Config): { outputs: Tensors; states: Tensor } {
  const { encode, predict } = actionModel({ w }, config);
  const states = encode(x);
  const layers = config.projector ? layersOf(config.projector) : 0;
  const reg = actionRegularizer(states, a, {
    covariance: config.cov_coeff,
    variance: config.std_coeff,
    similarity: config.sim_coeff_t,
    inverse: config.idm_coeff,
    margin: config.std_margin,
    firstOnly: config.first_t_only,
    placesAsRows: config.spatial_as_samples,
    projector: layers > 0 ? (rows) => projector(rows, under(w, 'regularizer.projector.net.'), layers, mode) : undefined,
    inverseModel: (pairs) => reluStack(pairs, under(w, 'regularizer.idm_loss_fn.idm.model.'), 3),
  });
  const unrolled = unrollSteps(states, predict, { steps: config.nsteps, actions: a });
  return { outputs: regularized(reg, stepsError(states, unrolled, mseLoss)), states: unrolled.states };
}

function autoregressive(leaves: Leaves, config: Config): Tensors {
  const { x, a } = leaves.given;
  if ((x.shape[2] as number) > 1) {
    const { outputs, states } = actionLoss(leaves, config);
    return { ...outputs, states };
  }
  const { encode, predict } = actionModel(leaves, config);
  return { states: unrollSteps(encode(x), predict, { steps: a.shape[2] as number, actions: a }).states };
}

/** Average precision of predictions by depth, on the cells of the detection head. */
async function detection(folder: string, name: string, each: WorldCase): Promise<Failures> {
  const roles = rolesOf(folder, name, each.file);
  const feeds = new Map<Tensor, Roles['in'][string]>();
  const leaf = (key: string, value: Roles['in'][string]): Tensor => {
    const tensor = input(key, value.shape);
    feeds.set(tensor, value);
    return tensor;
  };
  const weights = Object.fromEntries(Object.entries(roles.w).map(([key, value]) => [key, leaf(key, value)]));
  const depths = Object.keys(roles.in).filter((key) => key.startsWith('pred')).length;
  const outputs = Object.fromEntries(
    Array.from({ length: depths - 1 }, (_, s) => [
      `${s}`,
      detectionHead(leaf(`pred${s}`, roles.in[`pred${s}`]), (key) => weights[key], true),
    ]),
  );
  const scores = await evaluate(outputs, feeds, { backend: goldenBackend });
  const { targets } = roles.in;
  const [batch, frames, ...cells] = targets.shape;
  const size = cells.reduce((a, b) => a * b);
  const ap = Array.from({ length: depths - 1 }, (_, depth) => {
    const pick = (data: ArrayLike<number>): number[] =>
      Array.from({ length: batch }, (_, b) =>
        Array.from(data).slice((b * frames + depth) * size, (b + 1) * frames * size),
      ).flat();
    return averagePrecision(pick(scores[depth].data as Float32Array), pick(targets.data as Float32Array));
  });
  return compareAll('out', { ap: { shape: [ap.length], data: ap } }, roles.out, outTolerance(each));
}

const column = (data: readonly number[]) => ({ shape: [data.length], data });

function cosineSchedule({ in: given, 'f64.out': out }: Roles, each: WorldCase): Failures {
  const { total_steps: totalSteps, warmup_ratio, min_lr: finalLr, lr: refLr } = each.config;
  const warmupSteps = Math.trunc(warmup_ratio * totalSteps);
  const schedule = warmupCosine({ startLr: 1e-8 * refLr, refLr, finalLr, warmupSteps, totalSteps });
  const got = { lr: column(Array.from(given.step.data as Int32Array, schedule)) };
  return compareAll('out', got, out, outTolerance(each));
}

function epochSchedule({ 'f64.out': out }: Roles, each: WorldCase): Failures {
  const { warmup_epochs, max_epochs, base_lr, min_lr, warmup_start_lr } = each.config;
  const schedule = epochWarmupCosine({
    startLr: warmup_start_lr,
    baseLr: base_lr,
    minLr: min_lr,
    pi: Number(each.config.pi),
    warmupEpochs: warmup_epochs,
    epochs: max_epochs,
  });
  const got = { lr: column(Array.from({ length: out.lr.shape[0] }, (_, epoch) => schedule(epoch))) };
  return compareAll('out', got, out, outTolerance(each));
}

const GRAPHS: Record<string, (leaves: Leaves, config: Config) => Tensors> = {
  parallel,
  infer,
  autoregressive_window2: windowOf2,
  autoregressive,
};
const HOST: Record<string, (roles: Roles, each: WorldCase) => Failures> = {
  cosine_with_warmup: cosineSchedule,
  warmup_cosine_epochs: epochSchedule,
};

async function check(folder: string, name: string, each: WorldCase): Promise<Failures> {
  if (name === 'detection_ap') return detection(folder, name, each);
  const family = name.split('/')[0];
  const roles = rolesOf(folder, name, each.file);
  const { checkTraining, isTraining } = await import('./world-training.js');
  if (isTraining(name)) return checkTraining(name, roles, each);
  if (HOST[family]) return HOST[family](roles, each);
  if (!GRAPHS[family]) return [`unknown case ${name}`];
  return checkGraph(roles, each, (leaves) => GRAPHS[family](leaves, each.config));
}

const harness: Harness = async function* (folder) {
  for (const [name, each] of Object.entries(readCases<{ cases: Record<string, WorldCase> }>(folder).cases)) {
    yield await attempt(name, () => check(folder, name, each));
  }
};

export default harness;
