import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { bcsLoss, unitColumns } from '../../src/energy/sigreg.js';
import { vicreg } from '../../src/energy/vicreg.js';
import { gradients } from '../../src/graph/autodiff.js';
import { conv2d } from '../../src/graph/ops/convolution.js';
import { add, mul, relu } from '../../src/graph/ops/elementwise.js';
import { bceWithLogits, crossEntropy, mseLoss } from '../../src/graph/ops/losses.js';
import { narrow, reshape } from '../../src/graph/ops/move.js';
import { globalAvgPool } from '../../src/graph/ops/pool.js';
import { type DType, input, stopGradient, type Tensor } from '../../src/graph/tensor.js';
import { batchNorm, type NormMode, normMode } from '../../src/nn/batch-norm.js';
import { detectionHead, imageDecoder, residualBlock } from '../../src/nn/residual.js';
import { dense, projector, reluStack } from '../../src/nn/stacks.js';
import { under, type Weights } from '../../src/nn/weights.js';
import { adam, adamw } from '../../src/optim/adam.js';
import { clipNorm } from '../../src/optim/clip.js';
import { lars } from '../../src/optim/lars.js';
import { epochWarmupCosineLagged, warmupCosine } from '../../src/optim/schedules.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import type { GroupHyper, UpdateRule } from '../../src/runtime/update.js';
import { placeErrorInPixels } from '../../src/world/envs/two-rooms.js';
import { goldenBackend } from './target.js';
import {
  beforeNorm,
  compareWorld,
  type Failures,
  type Leaves,
  type rolesOf,
  type Tensors,
  type WorldCase,
} from './world-case.js';
import { actionLoss, actionModel, videoLoss } from './world-unroll.js';

/** Whole training runs of golden/world/unroll: one graph is a step, with its updates. */

type Roles = ReturnType<typeof rolesOf>;
type Config = WorldCase['config'];

/** What a step computes besides new weights. */
interface Step {
  /** Numbers that are logged. */
  readonly logs: Tensors;
  /** Gradients by parameter, before clipping. */
  readonly grads: ReadonlyMap<string, Tensor>;
  /** Gradients after clipping where the case asks for them. */
  readonly clipped?: ReadonlyMap<string, Tensor>;
}

interface Training {
  readonly w: Weights;
  readonly given: Tensors;
  readonly rand: Tensors;
  readonly mode: NormMode;
  /** Parameters (not statistics) whose name begins so. */
  names(prefix: string): string[];
  /** Updates a parameter by its gradient under a group's rule; returns its new value. */
  update(name: string, gradient: Tensor, group: string): Tensor;
}

interface Recipe {
  readonly rule: UpdateRule;
  /** Hyperparameters of a group at a step (0 is the first); `adapt` for tensors of 2 or more dimensions. */
  hyper(group: string, step: number, plain: boolean): GroupHyper;
  /** Numbers that are logged but not computed. */
  readonly rates?: Readonly<Record<string, (step: number) => number>>;
  build(training: Training): Step;
}

const scalar = (value: number): HostTensor<'float32'> => float32([], [value]);

async function train(name: string, roles: Roles, each: WorldCase, recipe: Recipe): Promise<Failures> {
  const { in: given, w: first, gw, out, traj, rand = {}, gw_clipped = {} } = roles;
  const { steps, undetermined = [], tied = {} } = each.config;
  const leaves = new Map<string, Tensor>();
  const leaf = (key: string, shape: readonly number[], dtype: DType = 'float32'): Tensor => {
    const known = leaves.get(key);
    if (known) return known;
    const made = input(key, shape, dtype);
    leaves.set(key, made);
    return made;
  };
  const weights: Weights = (key) => {
    const own = key in first ? key : tied[key];
    if (own === undefined) throw new Error(`the case has no weight ${key}`);
    return leaf(`w ${own}`, first[own].shape);
  };
  const mode = normMode(true);
  const renewed = new Map<string, Tensor>();
  const scalars = new Map<string, { group: string; plain: boolean }>();
  const parameters = Object.keys(first).filter((key) => !/running_(mean|var)$/.test(key));
  const drawn = Object.keys(rand);
  const training: Training = {
    w: weights,
    mode,
    given: Object.fromEntries(
      Object.entries(given).map(([key, { shape, dtype }]) => [key, leaf(`in ${key}`, shape, dtype as DType)]),
    ),
    rand: drawn.length > 0 ? { 0: leaf('rand', rand[drawn[0]].shape) } : {},
    names: (prefix) => parameters.filter((key) => key.startsWith(prefix)),
    update(key, gradient, group) {
      const { shape } = first[key];
      const plain = shape.length < 2;
      const kind = `${group} ${plain}`;
      scalars.set(kind, { group, plain });
      const values = Object.fromEntries(recipe.rule.scalars.map((s) => [s, leaf(`scalar ${kind} ${s}`, [])]));
      const slots = Object.fromEntries(recipe.rule.slots.map((s) => [s, leaf(`slot ${s} ${key}`, shape)]));
      const updated = recipe.rule.update(weights(key), gradient, slots, values);
      renewed.set(`w ${key}`, updated.parameter);
      for (const s of recipe.rule.slots) renewed.set(`slot ${s} ${key}`, updated.slots[s]);
      return updated.parameter;
    },
  };
  const { logs, grads, clipped = new Map() } = recipe.build(training);
  for (const key of Object.keys(first)) {
    const fresh = mode.renewed.get(weights(key));
    if (fresh) renewed.set(`w ${key}`, fresh);
  }
  const named: Record<string, Tensor> = {};
  for (const [key, tensor] of Object.entries(logs)) named[`log ${key}`] = tensor;
  for (const [key, tensor] of grads) named[`grad ${key}`] = tensor;
  for (const [key, tensor] of clipped) named[`clipped ${key}`] = tensor;
  for (const [key, tensor] of renewed) named[`new ${key}`] = tensor;

  const values = new Map<string, HostTensor>();
  for (const [key, tensor] of leaves)
    values.set(key, float32(tensor.shape as number[], new Float32Array(sizeOf(tensor.shape as number[]))));
  for (const [key, value] of Object.entries(first)) values.set(`w ${key}`, value);
  for (const [key, value] of Object.entries(given)) values.set(`in ${key}`, value);
  if (each.tolerance === 'exact') return ['a tolerance is needed'];
  const { out: outs, grad = outs, traj: trajectory = outs } = each.tolerance;
  const failures: Failures = [];
  const logged: Record<string, number[]> = {};
  for (let step = 0; step < steps; step++) {
    if (drawn.length > 0) values.set('rand', unitColumns(rand[drawn[step]] as HostTensor<'float32'>));
    for (const [kind, { group, plain }] of scalars) {
      const numbers = recipe.rule.scalarsAt(step + 1, recipe.hyper(group, step, plain));
      for (const [s, value] of Object.entries(numbers))
        if (leaves.has(`scalar ${kind} ${s}`)) values.set(`scalar ${kind} ${s}`, scalar(value));
    }
    const feeds = new Map([...leaves].map(([key, tensor]) => [tensor, values.get(key) as HostTensor]));
    const got = await evaluate(named, feeds, { backend: goldenBackend });
    for (const key of Object.keys(logs)) {
      logged[key] ??= [];
      logged[key].push(Number(got[`log ${key}`].data[0]));
    }
    for (const [key, rate] of Object.entries(recipe.rates ?? {})) {
      logged[key] ??= [];
      logged[key].push(rate(step));
    }
    if (step === 0) {
      for (const [key, expected] of Object.entries(gw)) {
        const noise = beforeNorm(`gw.${key}`, first, each) || undetermined.includes(key);
        failures.push(
          compareWorld(`gw.${key}`, got[`grad ${key}`], expected, noise ? { ...grad, rel: undefined } : grad),
        );
      }
      for (const [key, expected] of Object.entries(gw_clipped))
        failures.push(compareWorld(`gw_clipped.${key}`, got[`clipped ${key}`], expected, grad));
    }
    for (const key of renewed.keys()) values.set(key, got[`new ${key}`]);
    for (const [key, expected] of Object.entries(traj)) {
      const [, after, weight] = /^after(\d+)\.(.*)$/.exec(key) ?? [];
      if (Number(after) === step + 1 && !undetermined.includes(weight))
        failures.push(compareWorld(`traj.${key}`, values.get(`w ${weight}`), expected, trajectory));
    }
  }
  for (const [key, expected] of Object.entries(out)) {
    const got = logged[key];
    failures.push(compareWorld(`out.${key}`, got && { shape: [got.length], data: got }, expected, outs));
  }
  return failures.length === 0 ? [`${name}: nothing is compared`] : failures;
}

/** Gradients of a loss by parameter, undefined ones left out. */
function differentiate(loss: Tensor, names: readonly string[], w: Weights): Map<string, Tensor> {
  const grads = gradients(loss, names.map(w));
  return new Map(names.flatMap((name, i) => (grads[i] ? [[name, grads[i] as Tensor]] : [])));
}

// The three examples -------------------------------------------------------------------------------------------------------

function actions({ optimizer, schedule, probe, ...config }: Config): Recipe {
  const totalSteps = schedule.total_steps;
  const rate = warmupCosine({
    startLr: 1e-8 * optimizer.lr,
    refLr: optimizer.lr,
    finalLr: schedule.min_lr,
    warmupSteps: Math.trunc(schedule.warmup_ratio * totalSteps),
    totalSteps,
  });
  const [beta1, beta2] = optimizer.betas;
  const bound = Number(/global norm ([\d.]+)/.exec(config.clip)?.[1]);
  return {
    rule: adamw({ betas: [beta1, beta2], eps: optimizer.eps }),
    hyper: (group, step) => ({
      lr: rate(step),
      weightDecay: group === 'probe' ? probe.weight_decay : optimizer.weight_decay,
    }),
    rates: { lr: rate },
    build({ w, given, mode, names, update }) {
      const own = under(w, 'jepa.');
      const { outputs } = actionLoss({ given, w: own, mode, rand: {} } satisfies Leaves, config);
      const model = names('jepa.');
      const grads = differentiate(outputs.loss, model, w);
      const now = new Map(grads);
      const clip = (group: readonly string[]): Tensor => {
        const { norm, clipped } = clipNorm(
          group.map((name) => now.get(name) as Tensor),
          bound,
        );
        for (const [i, name] of group.entries()) now.set(name, clipped[i]);
        return norm;
      };
      const normEncoder = clip(names('jepa.encoder.'));
      const shared = names('jepa.encoder.final_ln.');
      const normPredictor = clip([...names('jepa.predictor.'), ...shared]);
      const fresh = new Map(model.map((name) => [name, update(name, now.get(name) as Tensor, 'model')]));
      // The probe sees the first frame through the encoder that has just been updated.
      const { encode } = actionModel({ w: (name) => fresh.get(`jepa.${name}`) ?? own(name) }, config);
      const [batch, , , ...rest] = given.x.shape;
      const code = stopGradient(encode(narrow(given.x, 2, 0, 1)));
      if (rest.length !== 2) throw new Error('pictures are needed');
      const head = names('').filter((name) => !name.startsWith('jepa.'));
      const [prefix] = /^.*mlp\./.exec(head[0]) ?? [''];
      const places = reluStack(reshape(code, [batch, -1]), under(w, prefix), 2);
      const target = reshape(narrow(given.loc, 2, 0, 1), [batch, 2]);
      const probeLoss = mul(mseLoss(places, target), placeErrorInPixels(1));
      const probeGrads = differentiate(probeLoss, head, w);
      for (const [name, gradient] of probeGrads) update(name, gradient, 'probe');
      return {
        logs: {
          ...outputs,
          norm_encoder: normEncoder,
          norm_predictor_after_encoder_clip: normPredictor,
          probe_loss: probeLoss,
        },
        grads: new Map([...grads, ...probeGrads]),
        clipped: new Map(shared.map((name) => [name, now.get(name) as Tensor])),
      };
    },
  };
}

function video(config: Config): Recipe {
  const { optimizer } = config;
  return {
    rule: adam(),
    hyper: (group) => ({ lr: optimizer.lr[optimizer.groups.indexOf(group)], weightDecay: 0 }),
    build({ w, given, mode, names, update }) {
      const { outputs, encode } = videoLoss(
        { given, w: under(w, 'jepa.'), mode, rand: {} },
        { ...config, context_length: 2 },
      );
      const recon = mseLoss(imageDecoder(stopGradient(encode(given.x)), under(w, 'pixel_decoder.')), given.x);
      const det = bceWithLogits(
        detectionHead(stopGradient(encode(given.x)), under(w, 'det_head.'), true),
        given.loc_map,
      );
      const total = add(add(outputs.loss, recon), det);
      const grads = differentiate(total, names(''), w);
      for (const [name, gradient] of grads) update(name, gradient, name.split('.')[0]);
      return { logs: { ...outputs, recon, det, total }, grads };
    },
  };
}

function images(config: Config): Recipe {
  const { lars: options, schedule } = config;
  const at = (initialLr: number) =>
    epochWarmupCosineLagged({
      startLr: schedule.warmup_start_lr,
      baseLr: schedule.base_lr,
      minLr: schedule.min_lr,
      // The recipe's own, cut off.
      pi: Number('3.14159'),
      warmupEpochs: schedule.warmup_epochs,
      epochs: schedule.max_epochs,
      initialLr,
    });
  const rates = { model: at(schedule.base_lr), probe: at(0.1) };
  return {
    rule: lars({
      variant: 'norms-added',
      momentum: options.momentum,
      trustCoefficient: options.eta,
      eps: options.eps,
      clip: options.clip_lr,
    }),
    hyper: (group, step, plain) => ({
      lr: rates[group as keyof typeof rates](step),
      weightDecay: options.weight_decay,
      trustRatio: !(plain && options.exclude_bias_n_norm),
    }),
    rates: { lr_model: rates.model, lr_probe: rates.probe },
    build({ w, given, rand, mode, names, update }) {
      const back = under(w, 'model.backbone.');
      const bn = (x: Tensor, name: string): Tensor => batchNorm(x, under(back, name), mode);
      const features = (x: Tensor): Tensor => {
        const stem = relu(bn(conv2d(x, back('0.weight'), { padding: 2 }), '1.'));
        const width = (name: string): number => back(`${name}.conv1.weight`).shape[0] as number;
        const middle = residualBlock(stem, under(back, '3.'), width('3'), 1, mode);
        return globalAvgPool(residualBlock(middle, under(back, '4.'), width('4'), 2, mode, 'downsample'));
      };
      const project = (x: Tensor): Tensor =>
        projector(x, under(w, 'model.projector.'), config.projector.split('-').length - 1, mode, true);
      const seen = features(given.view1);
      const z1 = project(seen);
      const z2 = project(features(given.view2));
      const terms =
        config.loss === 'bcs'
          ? bcsLoss(z1, z2, rand[0], config.lmbd)
          : vicreg(z1, z2, {
              invariance: 1,
              variance: config.std_coeff,
              covariance: config.cov_coeff,
              form: 'eb-jepa',
            });
      const linearLoss = crossEntropy(dense(stopGradient(seen), under(w, 'probe.classifier.')), given.target);
      const grads = differentiate(add(terms.loss, linearLoss), names(''), w);
      for (const [name, gradient] of grads) update(name, gradient, name.split('.')[0]);
      const parts: Tensors =
        'bcs' in terms ? { bcs_loss: terms.bcs } : { var_loss: terms.variance, cov_loss: terms.covariance };
      return {
        logs: { loss: terms.loss, invariance_loss: terms.invariance, linear_loss: linearLoss, ...parts },
        grads,
      };
    },
  };
}

const RECIPES: Record<string, (config: Config) => Recipe> = {
  train_ac: actions,
  train_video: video,
  train_image: images,
};

export const isTraining = (name: string): boolean => name.split('/')[0] in RECIPES;

export const checkTraining = (name: string, roles: Roles, each: WorldCase): Promise<Failures> =>
  train(name, roles, each, RECIPES[name.split('/')[0]](each.config));
