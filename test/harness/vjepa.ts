import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { createAttentiveProbes, VJEPA_PROBE } from '../../src/eval/attentive.js';
import { gradients } from '../../src/graph/autodiff.js';
import { add, mul } from '../../src/graph/ops/elementwise.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { concatRows } from '../../src/masking/gather.js';
import {
  predictionStd,
  type VjepaConfig,
  type VjepaModules,
  varianceRegularizer,
  vjepa,
  vjepaInputs,
  vjepaLoss,
  vjepaModules,
} from '../../src/methods/vjepa.js';
import { classifierConfig } from '../../src/nn/attentive.js';
import { cutPatches, projectPatches } from '../../src/nn/patches.js';
import { clipPositions, gridPositions, sineCosine } from '../../src/nn/positions.js';
import { attend, block, blocksSpec, norm, type TransformerConfig } from '../../src/nn/transformer.js';
import { type Module, under } from '../../src/nn/weights.js';
import { adamw } from '../../src/optim/adam.js';
import { clipNorm } from '../../src/optim/clip.js';
import { decayGroups } from '../../src/optim/groups.js';
import * as schedules from '../../src/optim/schedules.js';
import { createEngine } from '../../src/runtime/index.js';
import { attempt, difference, type Harness, readCases } from './harness.js';
import { goldenBackend } from './target.js';
import {
  type Check,
  compare,
  encoderConfig,
  type Failures,
  type Feed,
  fed,
  filled,
  type Opened,
  openCase,
  outcome,
  parameterValue,
  predictorConfig,
  series,
  type VideoCase,
} from './video-case.js';
import {
  checkClassifier,
  checkClips,
  checkEncoder,
  checkPooler,
  checkPredictor,
  checkScores,
  poolerOf,
  stacked,
  tokensOfViews,
} from './video-checks.js';

function checkTable(each: Opened): Failures {
  const { kind, dim, grid, depth, uniform_power, length } = each.config;
  const make: Record<string, () => ArrayLike<number>> = {
    sincos3d: () => clipPositions([depth, grid, grid], dim, uniform_power ? 'uniform' : 'half-time'),
    sincos2d: () => gridPositions([grid, grid], dim, 'row-first'),
    sincos1d: () =>
      sineCosine(
        Array.from({ length }, (_, i) => i),
        dim,
      ),
  };
  if (!make[kind]) return [`unknown table ${kind}`];
  const table = Float32Array.from(make[kind]());
  const rows = each.has('rows') ? Array.from(each.value('rows').data, Number) : undefined;
  const data = rows ? rows.flatMap((row) => Array.from(table.subarray(row * dim, (row + 1) * dim))) : Array.from(table);
  return compare(each, { table: float32([data.length / dim, dim], data) });
}

async function checkTubelets(each: Opened): Promise<Failures> {
  const { patch_size: patch, tubelet_size: tubelet } = each.config;
  const values = each.set((each.weights as string[])[0]);
  const feed: Feed = new Map();
  const [weight, bias] = ['proj.weight', 'proj.bias'].map((name) => {
    const value = values.get(name) as HostTensor;
    const tensor = input(name, value.shape);
    feed.set(tensor, value);
    return tensor;
  });
  const clip = fed(each, feed, 'clip');
  const tokens = projectPatches(cutPatches(clip, [tubelet, patch, patch]), weight, bias);
  return compare(each, await outcome(each, feed, { tokens }));
}

async function checkBlock(each: Opened): Promise<Failures> {
  const { dim, num_heads: heads, mlp_ratio, norm_eps: eps } = each.config;
  const config: TransformerConfig = { width: dim, depth: 1, heads, mlpWidth: dim * mlp_ratio, qkvBias: true, eps };
  const feed: Feed = new Map();
  const spec = new Map(blocksSpec('b', config).map(([name, s]) => [name.slice(4), s]));
  const { weights } = filled(each, feed, 'block.', spec);
  const x = fed(each, feed, 'x');
  const attention = attend(norm(x, under(weights, 'norm1.'), eps), under(weights, 'attn.'), config).out;
  return compare(each, await outcome(each, feed, { attention, out: block(x, weights, config) }));
}

function checkRepeat(each: Opened): Failures {
  const mask = each.value('mask');
  const asFloat = float32(mask.shape, Float32Array.from(mask.data as Int32Array));
  return compare(each, { out: concatRows(Array(each.config.num_clips).fill(asFloat)) });
}

function configOf({ config }: Opened): VjepaConfig {
  return {
    encoder: encoderConfig(config.encoder, config.norm_eps),
    predictor: predictorConfig(config.predictor, config.norm_eps),
  };
}

/** The modules of a training case, filled. */
function filledModules(each: Opened, feed: Feed, config: VjepaConfig): VjepaModules {
  const { encoder, predictor, target } = vjepaModules(config);
  return {
    encoder: filled(each, feed, encoder.prefix, encoder.spec),
    predictor: filled(each, feed, predictor.prefix, predictor.spec),
    target: filled(each, feed, target.prefix, target.spec),
  };
}

const masksOf = (each: Opened, step: number): number =>
  each.inputs.filter((key) => key.startsWith(`context_mask.${step}.`)).length;

function stepFeeds(each: Opened, step: number): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = { clips: each.value(`clip.${step}`) };
  for (let i = 0; i < masksOf(each, step); i++) {
    feeds[`context.${i}`] = each.value(`context_mask.${step}.${i}`);
    feeds[`target.${i}`] = each.value(`target_mask.${step}.${i}`);
  }
  return feeds;
}

/** Inputs of a step, and their values for step 0. */
function stepInputs(each: Opened, feed: Feed, config: VjepaConfig) {
  const inputs = vjepaInputs(config, masksOf(each, 0));
  const values = stepFeeds(each, 0);
  feed.set(inputs.clips, values.clips);
  inputs.masks.forEach(({ context, target }, i) => {
    feed.set(context, values[`context.${i}`]);
    feed.set(target, values[`target.${i}`]);
  });
  return inputs;
}

async function checkForward(each: Opened): Promise<Failures> {
  const config = configOf(each);
  const feed: Feed = new Map();
  const modules = filledModules(each, feed, config);
  const { representation, pairs } = vjepa(stepInputs(each, feed, config), modules, config);
  const predictions = Object.fromEntries(pairs.map(({ prediction }, i) => [`prediction.${i}`, prediction]));
  return compare(each, await outcome(each, feed, { targets: representation, ...predictions }));
}

const trainable = ({ spec, tensors }: Module): Tensor[] =>
  [...tensors].flatMap(([name, tensor]) => (spec.get(name)?.trainable ? [tensor] : []));

async function checkTraining(each: Opened): Promise<Failures> {
  const c = each.config;
  const config = configOf(each);
  const feed: Feed = new Map();
  const modules = filledModules(each, feed, config);
  const inputs = stepInputs(each, feed, config);
  const { pairs } = vjepa(inputs, modules, config);
  const prediction = vjepaLoss(pairs, c.loss_exp);
  const regularizer = varianceRegularizer(pairs.map((p) => p.prediction));
  const loss = add(prediction, mul(regularizer, c.reg_coeff));
  const trained = [modules.encoder, modules.predictor];
  const got: Record<string, HostTensor | undefined> = {};

  // Gradients of the first step; clipped, where clipping is on.
  const grads = trained.map((module) => gradients(loss, trainable(module)).map((g) => g as Tensor));
  const clipped = grads.map((list) => clipNorm(list, c.clip_active ? c.clip_grad : 1e30).clipped);
  const named = Object.fromEntries(
    trained.flatMap((module, m) =>
      [...module.tensors].flatMap(([name, tensor]) => {
        const at = trainable(module).indexOf(tensor);
        return at < 0 ? [] : [[`grad.${module.prefix}${name}`, clipped[m][at]] as const];
      }),
    ),
  );

  const h = c.opt;
  const { warmupSteps, totalSteps } = schedules.scheduleSteps({
    iterationsPerEpoch: c.ipe,
    epochs: c.epochs,
    warmupEpochs: h.warmup,
    ipeScale: c.ipe_scale,
  });
  const lr = schedules.warmupCosine({
    startLr: h.start_lr,
    refLr: h.ref_lr,
    finalLr: h.final_lr,
    warmupSteps,
    totalSteps,
  });
  const wd = schedules.cosineWeightDecay({ refWd: h.wd, finalWd: h.final_wd, totalSteps });
  const ema = schedules.linearMomentum({ start: c.ema[0], end: c.ema[1], updates: c.ipe * c.epochs * c.ipe_scale });

  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    const groups = trained.map((module) => decayGroups([module]));
    const state = await engine.createState([...trained, modules.target].flatMap((m) => [...m.tensors.values()]));
    await state.write(
      new Map(
        [...trained, modules.target].flatMap((m) =>
          [...m.tensors].map(([name, t]) => [`${m.prefix}${name}`, feed.get(t) as HostTensor<'float32'>]),
        ),
      ),
    );
    const norms = Object.fromEntries(grads.map((list, i) => [`norm${i}`, clipNorm(list, 1).norm]));
    const program = await engine.compile(
      {
        name: 'vjepa',
        outputs: { loss, prediction, regularizer, ...norms, ...named },
        update: {
          loss,
          rule: adamw({ betas: c.betas, eps: c.eps }),
          groups: groups.flatMap(({ decay, noDecay }) => [decay, noDecay]),
          followers: trainable(modules.encoder).map((online) => ({
            online,
            target: modules.target.weights((online.node.attrs as { name: string }).name.slice('encoder.'.length)),
          })),
          clipApart: [
            [0, 1],
            [2, 3],
          ],
        },
      },
      state,
    );
    const log: Record<string, number[]> = {
      loss: [],
      loss_jepa: [],
      loss_reg: [],
      lr: [],
      wd: [],
      ema: [],
      grad_norms: [],
    };
    for (let s = 0; s < c.steps; s++) {
      const rates = [lr(s + 1), wd(s + 1), ema(s)];
      const hyper = { lr: rates[0], weightDecay: rates[1] };
      const { outputs } = await program.run(stepFeeds(each, s) as never, {
        step: s + 1,
        groups: [hyper, { ...hyper, weightDecay: 0 }, hyper, { ...hyper, weightDecay: 0 }],
        momentum: rates[2],
        ...(c.clip_active ? { clipNorm: c.clip_grad } : {}),
      });
      if (s === 0) for (const name of Object.keys(named)) got[name] = outputs[name];
      const number = (name: string): number => Number(outputs[name].data[0]);
      log.loss.push(number('loss'));
      log.loss_jepa.push(number('prediction'));
      log.loss_reg.push(number('regularizer'));
      log.lr.push(rates[0]);
      log.wd.push(rates[1]);
      log.ema.push(rates[2]);
      log.grad_norms.push(number('norm0'), number('norm1'));
    }
    for (const [key, values] of Object.entries(log)) got[key] = series(values);
    const after = await state.read();
    for (const key of each.expected.filter((k) => k.startsWith('after.')))
      got[key] = parameterValue(after, key.slice('after.'.length));
  } finally {
    await engine.close();
  }
  return compare(each, got);
}

async function checkRegularizer(each: Opened): Promise<Failures> {
  const feed: Feed = new Map();
  const z = each.inputs.map((key) => fed(each, feed, key));
  return compare(each, await outcome(each, feed, { std: predictionStd(z), loss: varianceRegularizer(z) }));
}

/**
 * Numbers are in the configuration itself. The peak rate, the first weight decay and the ends of the momentum are not: they
 * come from one (momentum: two) of the values, which the others then confirm.
 */
function checkSchedules(each: Opened): Failures {
  const c = each.config;
  const steps: number[] = c.step_index.map((i: number) => i + 1);
  const { warmupSteps, totalSteps } = schedules.scheduleSteps({
    iterationsPerEpoch: c.ipe,
    epochs: c.epochs,
    warmupEpochs: c.warmup,
    ipeScale: c.ipe_scale,
  });
  const top = steps.findLastIndex((step) => step <= warmupSteps);
  const refLr = c.start_lr + ((c.lr[top] - c.start_lr) * warmupSteps) / steps[top];
  const risen = (1 + Math.cos((Math.PI * steps[0]) / totalSteps)) / 2;
  const refWd = c.final_wd + (c.wd[0] - c.final_wd) / risen;
  const updates = c.ipe * c.epochs * c.ipe_scale;
  const last = steps.length - 1;
  const slope = (c.ema[last] - c.ema[0]) / (steps[last] - steps[0]);
  const start = c.ema[0] - (steps[0] - 1) * slope;
  const made: Record<string, schedules.Schedule> = {
    lr: schedules.warmupCosine({ startLr: c.start_lr, refLr, finalLr: c.final_lr, warmupSteps, totalSteps }),
    wd: schedules.cosineWeightDecay({ refWd, finalWd: c.final_wd, totalSteps }),
    ema: (step) => schedules.linearMomentum({ start, end: start + slope * updates, updates })(step - 1),
  };
  return Object.entries(made).map(([key, schedule]) =>
    difference(
      key,
      { shape: [steps.length], data: steps.map(schedule) },
      { shape: [c[key].length], data: c[key] },
      { rtol: 1e-9, atol: 0 },
    ),
  );
}

async function checkProbe(each: Opened): Promise<Failures> {
  const c = each.config;
  const total = c.num_epochs * c.iterations_per_epoch;
  const classifier = classifierConfig(poolerOf(c.classifier, 'after', c.encoder.embed_dim), c.num_classes);
  const warmupSteps = c.warmup * c.iterations_per_epoch;
  const lr = schedules.warmupCosine({
    startLr: c.start_lr,
    refLr: c.ref_lr,
    finalLr: c.final_lr,
    warmupSteps,
    totalSteps: total,
  });
  const weightDecay = schedules.cosineWeightDecay({ refWd: c.wd, finalWd: c.final_wd, totalSteps: total });
  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    const options = { ...VJEPA_PROBE, clipNorm: c.clip_grad, classifier, heads: [{ lr, weightDecay }] };
    const probes = await createAttentiveProbes(engine, options, c.num_views, createRandom(1));
    const prefix = (each.weights as string[]).find((name) => name.endsWith('classifier.')) as string;
    await probes.write(
      new Map([...each.set(prefix)].map(([name, value]) => [`head.0.${name}`, value as HostTensor<'float32'>])),
    );
    const losses: number[] = [];
    const norms: number[] = [];
    for (let s = 0; s < c.steps; s++) {
      const tokens = stacked(await tokensOfViews(each, `step${s}.`)) as HostTensor<'float32'>;
      const { losses: now, gradientNorm } = await probes.step(
        tokens,
        each.value(`step${s}.labels`) as HostTensor<'int32'>,
      );
      losses.push(now[0].reduce((a, b) => a + b) / now[0].length);
      norms.push(gradientNorm);
    }
    const after = await probes.read();
    const got: Record<string, HostTensor | undefined> = { loss: series(losses), grad_norm: series(norms) };
    for (const key of each.expected.filter((k) => k.startsWith('after.classifier.')))
      got[key] = after.get(key.replace('after.classifier.', 'head.0.'));
    return compare(each, got);
  } finally {
    await engine.close();
  }
}

/** By the module or kind that a case names, else by its group. */
const CHECKS: Record<string, Check> = {
  sincos3d: checkTable,
  sincos2d: checkTable,
  sincos1d: checkTable,
  encoder: (each) => checkEncoder(each, 'linear'),
  tubelet: checkTubelets,
  block: checkBlock,
  masks_repeated_per_clip: checkRepeat,
  predictor: (each) => checkPredictor(each, (at) => Number(at.slice(1))),
  forward_two_masks: checkForward,
  train_steps: checkTraining,
  train_steps_clipped_regularised: checkTraining,
  variance_regulariser: checkRegularizer,
  schedules: checkSchedules,
  'attentive pooler': (each) => checkPooler(each, 'after'),
  'attentive classifier': (each) => checkClassifier(each, 'after'),
  clips_apart: checkClips,
  clips_across: checkClips,
  clips_across_time_embedding: checkClips,
  frames: checkClips,
  frames_time_embedding: checkClips,
  multi_view_scores: (each) => checkScores(each, 'after'),
  probe_training: checkProbe,
};

const harness: Harness = async function* (folder) {
  for (const each of readCases<{ cases: VideoCase[] }>(folder).cases) {
    yield await attempt(each.name, () => {
      const check = CHECKS[each.config.module] ?? CHECKS[each.config.kind] ?? CHECKS[each.group];
      return check ? check(openCase(folder, each)) : [`unknown group ${each.group}`];
    });
  }
};

export default harness;
