import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import { actionHead, anticipate, anticipatedTokens } from '../../src/eval/anticipation.js';
import { createAttentiveProbes, VJEPA2_PROBE } from '../../src/eval/attentive.js';
import { createClassRecall } from '../../src/eval/class-recall.js';
import { add, cast } from '../../src/graph/ops/elementwise.js';
import { oneHot } from '../../src/graph/ops/index.js';
import { sigmoidFocalLoss } from '../../src/graph/ops/losses.js';
import { constant, input, type Tensor } from '../../src/graph/tensor.js';
import { contextDistance } from '../../src/masking/context-distance.js';
import { type VjepaConfig, type VjepaInputs, type VjepaModules, vjepaModules } from '../../src/methods/vjepa.js';
import { vjepa2, vjepa2Inputs, vjepa2Loss } from '../../src/methods/vjepa2.js';
import { type AcForward, ac, acLoss, frameRepresentations } from '../../src/methods/vjepa2-ac.js';
import { contextWeight, vjepa21, vjepa21Loss } from '../../src/methods/vjepa21.js';
import {
  type AcPredictorConfig,
  acPredictor,
  acPredictorSpec,
  acRotary,
  seesEarlierFrames,
} from '../../src/nn/ac-predictor.js';
import { classifierConfig, classifierSpec, classifiers } from '../../src/nn/attentive.js';
import { predictorSpec } from '../../src/nn/predictor.js';
import { gridRotary, ropeAngles, rotate } from '../../src/nn/rope.js';
import { attend, linearSpec, type TransformerConfig } from '../../src/nn/transformer.js';
import { gridOf, vit, vitSpec } from '../../src/nn/vit.js';
import type { Module } from '../../src/nn/weights.js';
import { adamw } from '../../src/optim/adam.js';
import { decayGroups } from '../../src/optim/groups.js';
import * as schedules from '../../src/optim/schedules.js';
import { createEngine, type Engine } from '../../src/runtime/index.js';
import { type ArmIteration, armModel, finalPoses, moveGrid, planArm } from '../../src/world/arm.js';
import { actionBetween, inCamera, nextPose, POSE_WIDTH, trajectoryActions } from '../../src/world/pose.js';
import { attempt, difference, type Harness, readCases } from './harness.js';
import { goldenBackend } from './target.js';
import {
  type Check,
  compare,
  encoderConfig,
  expectedGradients,
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
  poolerOf,
  stacked,
  tokensOfViews,
} from './video-checks.js';

// ---- rotary positions -------------------------------------------------------------------------------------------------

async function checkRotate(each: Opened): Promise<Failures> {
  const { width, frequencies } = each.config;
  const positions = each.value('positions');
  const angles = ropeAngles(Array.from(positions.data, Number), width, frequencies);
  const table = (of: (angle: number) => number): Tensor =>
    constant(float32([...positions.shape, width], Float32Array.from(angles, of)));
  const feed: Feed = new Map();
  const out = rotate(fed(each, feed, 'x'), table(Math.cos), table(Math.sin));
  return compare(each, await outcome(each, feed, { out }));
}

function attentionModule(each: Opened, feed: Feed): { module: Module; config: TransformerConfig } {
  const { dim: width, num_heads: heads } = each.config;
  const config = { width, depth: 1, heads, mlpWidth: 1, qkvBias: true, eps: 1e-6 };
  const spec = new Map([...linearSpec('qkv', 3 * width, width), ...linearSpec('proj', width, width)]);
  return { module: filled(each, feed, 'attn.', spec), config };
}

async function checkAttention(each: Opened): Promise<Failures> {
  const { dim, num_heads, grid, frequencies = 'tiled', interpolate_rope, reference_grid } = each.config;
  const feed: Feed = new Map();
  const { module, config } = attentionModule(each, feed);
  const x = fed(each, feed, 'x');
  const ids = each.inputs.includes('ids') ? fed(each, feed, 'ids') : undefined;
  // Ids may lie beyond the clip: the grid then has more frames.
  const last = ids ? Math.max(...(each.value('ids').data as Int32Array)) : 0;
  const frames = Math.max(grid[0], Math.floor(last / (grid[1] * grid[2])) + 1);
  const rope = { frequencies, ...(interpolate_rope ? { referenceGrid: reference_grid } : {}) };
  const rotary = gridRotary([frames, grid[1], grid[2]], dim / num_heads, rope, ids);
  const { out } = attend(x, module.weights, config, { rotary });
  return compare(each, await outcome(each, feed, { out }, differentiated(each, out, [module], { x })));
}

async function checkAcAttention(each: Opened): Promise<Failures> {
  const { dim, num_heads, grid, grid_size, condition_tokens } = each.config;
  const feed: Feed = new Map();
  const { module, config } = attentionModule(each, feed);
  const x = fed(each, feed, 'x');
  const mask = seesEarlierFrames(grid[0], condition_tokens + grid[1] * grid[2]);
  const rotary = acRotary(grid, condition_tokens, dim / num_heads, grid_size);
  const { out } = attend(x, module.weights, config, { rotary, mask });
  const outputs = { out, allowed: cast(mask, 'float32') };
  return compare(each, await outcome(each, feed, outputs, differentiated(each, out, [module], { x })));
}

const differentiated = (
  each: Opened,
  output: Tensor,
  modules: readonly Module[],
  inputs: Readonly<Record<string, Tensor>>,
) => (each.inputs.includes('dout') ? { of: { output, upstream: each.value('dout') }, modules, inputs } : undefined);

// ---- training ---------------------------------------------------------------------------------------------------------

function configOf({ config }: Opened): VjepaConfig {
  return {
    encoder: encoderConfig(config.encoder, config.norm_eps),
    predictor: predictorConfig(config.predictor, config.norm_eps),
  };
}

function filledModules(each: Opened, feed: Feed, config: VjepaConfig): VjepaModules {
  const { encoder, predictor, target } = vjepaModules(config);
  return {
    encoder: filled(each, feed, encoder.prefix, encoder.spec),
    predictor: filled(each, feed, predictor.prefix, predictor.spec),
    target: filled(each, feed, target.prefix, target.spec),
  };
}

const masksOf = (each: Opened): number => each.inputs.filter((key) => key.startsWith('context_mask.0.0.')).length;

function stepFeeds(each: Opened, step: number): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = {};
  for (const key of each.inputs) {
    const [what, at, ...rest] = key.split('.');
    const names: Record<string, string> = { clip: 'clips', context_mask: 'context', target_mask: 'target' };
    if (Number(at) === step) feeds[[names[what], ...rest].join('.')] = each.value(key);
  }
  return feeds;
}

function stepInputs(each: Opened, feed: Feed, config: VjepaConfig): readonly VjepaInputs[] {
  const frames = each.config.groups.map((group: { frames: number }) => group.frames);
  const inputs = vjepa2Inputs(config, frames, masksOf(each));
  const values = stepFeeds(each, 0);
  inputs.forEach(({ clips, masks }, group) => {
    feed.set(clips, values[`clips.${group}`]);
    masks.forEach(({ context, target }, i) => {
      feed.set(context, values[`context.${group}.${i}`]);
      feed.set(target, values[`target.${group}.${i}`]);
    });
  });
  return inputs;
}

async function checkForward(each: Opened): Promise<Failures> {
  const config = configOf(each);
  const feed: Feed = new Map();
  const modules = filledModules(each, feed, config);
  const outputs: Record<string, Tensor> = {};
  vjepa2(stepInputs(each, feed, config), modules, config).forEach(({ representation, pairs }, group) => {
    outputs[`targets.${group}`] = representation;
    pairs.forEach(({ prediction }, i) => {
      outputs[`prediction.${group}.${i}`] = prediction;
    });
  });
  return compare(each, await outcome(each, feed, outputs));
}

const valuesOf = (feed: Feed, modules: readonly Module[]): Map<string, HostTensor<'float32'>> =>
  new Map(
    modules.flatMap((m) =>
      [...m.tensors].map(([name, t]) => [`${m.prefix}${name}`, feed.get(t) as HostTensor<'float32'>] as const),
    ),
  );

async function withEngine<T>(run: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    return await run(engine);
  } finally {
    await engine.close();
  }
}

/** Runs training steps of a loss and adds the first one's gradients, what a log holds and the weights afterwards. */
async function trainSteps(
  each: Opened,
  feed: Feed,
  got: Record<string, HostTensor | undefined>,
  spec: {
    loss: Tensor;
    scalars: Readonly<Record<string, Tensor>>;
    trained: readonly Module[];
    target?: Module;
    lr: schedules.Schedule;
    wd: schedules.Schedule;
    ema?: schedules.Schedule;
    feeds(step: number): Record<string, HostTensor>;
  },
): Promise<void> {
  const { loss, scalars, trained, target, lr, wd, ema = () => 1 } = spec;
  const { config: c } = each;
  await withEngine(async (engine) => {
    const { decay, noDecay } = decayGroups(trained);
    const all = [...trained, ...(target ? [target] : [])];
    const frozen = [...feed.keys()].filter(
      (t) => t.node.op.name === 'parameter' && !all.some((m) => [...m.tensors.values()].includes(t)),
    );
    const state = await engine.createState([...all.flatMap((m) => [...m.tensors.values()]), ...frozen]);
    await state.write(valuesOf(feed, all));
    await state.write(
      new Map(frozen.map((t) => [(t.node.attrs as { name: string }).name, feed.get(t) as HostTensor<'float32'>])),
    );
    const followers = target
      ? [...trained[0].tensors].flatMap(([name, online]) =>
          trained[0].spec.get(name)?.trainable ? [{ online, target: target.weights(name) }] : [],
        )
      : [];
    const program = await engine.compile(
      {
        name: 'step',
        // Gradients of the same graph: to look at them costs no second one.
        outputs: { loss, ...scalars, ...expectedGradients(each, loss, trained) },
        update: { loss, rule: adamw({ betas: c.betas, eps: c.eps }), groups: [decay, noDecay], followers },
      },
      state,
    );
    const log: Record<string, number[]> = { lr: [], wd: [], ema: [] };
    for (let s = 0; s < c.steps; s++) {
      const hyper = { lr: lr(s + 1), weightDecay: wd(s + 1) };
      const { outputs } = await program.run(spec.feeds(s) as never, {
        step: s + 1,
        groups: [hyper, { ...hyper, weightDecay: 0 }],
        momentum: ema(s),
      });
      for (const [name, value] of Object.entries(outputs)) {
        if (!name.startsWith('grad.')) log[name] = [...(log[name] ?? []), Number(value.data[0])];
        else if (s === 0) got[name] = value;
      }
      log.lr.push(hyper.lr);
      log.wd.push(hyper.weightDecay);
      log.ema.push(ema(s));
    }
    for (const [key, values] of Object.entries(log)) got[key] = series(values);
    const after = await state.read();
    for (const key of each.expected.filter((k) => k.startsWith('after.')))
      got[key] = parameterValue(after, key.slice('after.'.length));
  });
}

async function checkTraining(each: Opened): Promise<Failures> {
  const c = each.config;
  const config = configOf(each);
  const feed: Feed = new Map();
  const modules = filledModules(each, feed, config);
  const loss = vjepa2Loss(vjepa2(stepInputs(each, feed, config), modules, config), c.loss_exp);
  const trained = [modules.encoder, modules.predictor];
  const got: Record<string, HostTensor | undefined> = {};
  const h = c.opt;
  const { warmupSteps, totalSteps } = schedules.scheduleSteps({
    iterationsPerEpoch: c.ipe,
    epochs: c.epochs,
    warmupEpochs: h.warmup,
    ipeScale: c.ipe_scale,
  });
  const at = { startLr: h.start_lr, refLr: h.ref_lr, finalLr: h.final_lr, warmupSteps, totalSteps };
  const constantAfter = h.final_lr === h.ref_lr ? schedules.warmupConstant(at) : schedules.warmupCosine(at);
  await trainSteps(each, feed, got, {
    loss,
    scalars: {},
    trained,
    target: modules.target,
    lr: c.is_anneal ? schedules.linearDecay(at) : constantAfter,
    wd: schedules.cosineWeightDecay({ refWd: h.wd, finalWd: h.final_wd, totalSteps }),
    ema: schedules.linearMomentum({ start: c.ema[0], end: c.ema[1], updates: c.ipe * c.epochs * c.ipe_scale }),
    feeds: (step) => stepFeeds(each, step),
  });
  return compare(each, got);
}

/** Values in the configuration: those of the step with that 0-based index. */
const inline = (key: string, schedule: schedules.Schedule, steps: readonly number[], expected: readonly number[]) =>
  difference(
    key,
    { shape: [steps.length], data: steps.map(schedule) },
    { shape: [expected.length], data: expected },
    // Differences of the reference's own order of operations; values near 0 are ends of a line.
    { rtol: 1e-9, atol: 1e-15 },
  );

function checkSchedule(make: (c: Opened['config']) => schedules.Schedule): Check {
  return ({ config: c }) => {
    const steps: number[] = c.step_index.map((i: number) => i + 1);
    return [inline('lr', make(c), steps, c.lr)];
  };
}

const wsd = (c: Opened['config']): schedules.Schedule =>
  schedules.warmupStableDecay({
    startLr: c.start_lr,
    refLr: c.ref_lr,
    finalLr: c.final_lr,
    warmupSteps: c.warmup_steps,
    annealSteps: c.anneal_steps,
    totalSteps: c.T_max,
  });

/** The reference gets there with its cosine; so must both of ours. */
function checkWarmupConstant({ config: c }: Opened): Failures {
  const steps: number[] = c.step_index.map((i: number) => i + 1);
  const at = {
    startLr: c.start_lr,
    refLr: c.ref_lr,
    finalLr: c.final_lr,
    warmupSteps: c.warmup_steps,
    totalSteps: c.T_max,
  };
  return [
    inline('lr', schedules.warmupConstant(at), steps, c.lr),
    inline('lr by the cosine', schedules.warmupCosine(at), steps, c.lr),
  ];
}

// ---- probes -----------------------------------------------------------------------------------------------------------

async function checkProbes(each: Opened): Promise<Failures> {
  const c = each.config;
  const total = c.num_epochs * c.iterations_per_epoch;
  const classifier = classifierConfig(poolerOf(c.classifier, 'before', c.encoder.embed_dim), c.num_classes);
  const heads = c.heads.map((h: Record<string, number>) => ({
    lr: schedules.warmupCosine({
      startLr: h.start_lr,
      refLr: h.ref_lr,
      finalLr: h.final_lr,
      warmupSteps: Math.trunc(h.warmup * c.iterations_per_epoch),
      totalSteps: total,
    }),
    weightDecay: schedules.cosineWeightDecay({ refWd: h.ref_wd, finalWd: h.final_wd, totalSteps: total }),
  }));
  return withEngine(async (engine) => {
    const probes = await createAttentiveProbes(
      engine,
      { ...VJEPA2_PROBE, classifier, heads },
      c.num_views,
      createRandom(1),
    );
    for (const [i] of heads.entries()) {
      const values = each.set(`w_head_${i}/classifier.`);
      await probes.write(
        new Map([...values].map(([name, value]) => [`head.${i}.${name}`, value as HostTensor<'float32'>])),
      );
    }
    const losses: number[] = [];
    for (let s = 0; s < c.steps; s++) {
      const tokens = stacked(await tokensOfViews(each, `step${s}.`)) as HostTensor<'float32'>;
      const step = await probes.step(tokens, each.value(`step${s}.labels`) as HostTensor<'int32'>);
      losses.push(...step.losses.flat());
    }
    const after = await probes.read();
    const got: Record<string, HostTensor | undefined> = {
      loss: series(losses, [c.steps, heads.length, c.num_views]),
      lr: series(heads.map((h: { lr: schedules.Schedule }) => h.lr(c.steps))),
      wd: series(heads.map((h: { weightDecay: schedules.Schedule }) => h.weightDecay(c.steps))),
    };
    for (const key of each.expected.filter((k) => k.startsWith('after.')))
      got[key] = after.get(key.replace('after.', 'head.'));
    return compare(each, got);
  });
}

async function checkAnticipation(each: Opened): Promise<Failures> {
  const c = each.config;
  const { encoder, predictor } = configOf(each);
  const feed: Feed = new Map();
  const seen = filled(each, feed, 'encoder.', vitSpec(encoder));
  const guess = filled(each, feed, 'predictor.', predictorSpec(predictor));
  const clip = fed(each, feed, 'clip');
  const tubelet = encoder.tubeletSize as number;
  const [rows, columns] = gridOf(encoder);
  const grid = [(clip.shape[2] as number) / tubelet, rows, columns] as const;
  const ids = anticipatedTokens(
    {
      grid,
      tubeletSize: tubelet,
      framesPerSecond: c.frames_per_second,
      outputFrames: c.num_output_frames ?? 2,
    },
    each.value('seconds').data as Float32Array,
  );
  const [context, targets] = [ids.context, ids.targets].map((value, i) => {
    const tensor = input(`ids ${i}`, value.shape, 'int32');
    feed.set(tensor, value);
    return tensor;
  });
  const tokens = vit(clip, seen.weights, encoder);
  const out = anticipate(tokens, context, targets, guess.weights, predictor, {
    steps: c.num_steps ?? 1,
    predictionsOnly: c.no_encoder ?? false,
    maskIndex: c.mask_index,
  });
  return compare(each, await outcome(each, feed, { out }));
}

const ones = (labels: Tensor, classes: number): Tensor => cast(oneHot(labels, classes), 'float32');

async function checkActionHead(each: Opened): Promise<Failures> {
  const { classes, focal } = each.config;
  const config = actionHead(poolerOf({ ...each.config, num_queries: 3 }, 'before'), classes);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'head.', classifierSpec(config));
  const logits = classifiers(fed(each, feed, 'x'), module.weights, config);
  const outputs: Record<string, Tensor> = {};
  ['verb', 'noun', 'action'].forEach((kind, i) => {
    const own = logits[`${kind}_classifier`];
    const target = ones(fed(each, feed, `labels.${kind}`), classes[i]);
    outputs[`logits.${kind}`] = own;
    outputs[`loss.${kind}`] = sigmoidFocalLoss(own, target, { ...focal, reduction: 'sum' });
  });
  const of = add(add(outputs['loss.verb'], outputs['loss.noun']), outputs['loss.action']);
  return compare(each, await outcome(each, feed, outputs, { of, modules: [module] }));
}

async function checkFocal(each: Opened): Promise<Failures> {
  const { alpha, gamma, reduction } = each.config;
  const feed: Feed = new Map();
  const logits = fed(each, feed, 'logits');
  const target = ones(fed(each, feed, 'labels'), each.value('logits').shape[1]);
  const loss = sigmoidFocalLoss(logits, target, { ...(alpha < 0 ? {} : { alpha }), gamma, reduction });
  return compare(each, await outcome(each, feed, { loss }, { of: loss, inputs: { logits } }));
}

function checkRecall(each: Opened): Failures {
  const { classes, k, valid_classes_in_last_batch: valid } = each.config;
  const recall = createClassRecall(classes, k);
  const batches = each.inputs.filter((key) => key.startsWith('logits.')).length;
  const rows: number[] = [];
  for (let i = 0; i < batches; i++) {
    const logits = each.value(`logits.${i}`) as HostTensor<'float32'>;
    recall.add(logits, each.value(`labels.${i}`).data as Int32Array, i === batches - 1 ? valid : undefined);
    rows.push(recall.value().recall, recall.value().accuracy);
  }
  return compare(each, { recall_and_accuracy: series(rows, [batches, 2]) });
}

// ---- action-conditioned -----------------------------------------------------------------------------------------------

function acConfig(c: Opened['config'], eps: number): AcPredictorConfig {
  const size = typeof c.img_size === 'number' ? [c.img_size, c.img_size] : c.img_size;
  return {
    width: c.predictor_embed_dim,
    depth: c.depth,
    heads: c.num_heads,
    mlpWidth: Math.trunc(c.predictor_embed_dim * c.mlp_ratio),
    qkvBias: true,
    eps,
    encoderWidth: c.embed_dim,
    grid: [size[0] / c.patch_size, size[1] / c.patch_size],
    actionWidth: c.action_embed_dim,
    extrinsics: c.use_extrinsics ?? false,
  };
}

async function checkAcPredictor(each: Opened): Promise<Failures> {
  const config = acConfig(each.config, each.config.norm_eps);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'predictor.', acPredictorSpec(config));
  const of = (key: string): Tensor => fed(each, feed, key);
  const inputs = { features: of('features'), actions: of('actions'), states: of('states') };
  const extrinsics = each.inputs.includes('extrinsics') ? { extrinsics: of('extrinsics') } : {};
  const out = acPredictor(inputs.features, { ...inputs, ...extrinsics }, module.weights, config);
  return compare(each, await outcome(each, feed, { out }, differentiated(each, out, [module], inputs)));
}

/** Modules and graph of a step: clips, actions and states to targets and predictions. */
function acGraph(each: Opened, feed: Feed): { module: Module; targets: Tensor; forward: AcForward } {
  const c = each.config;
  const encoder = encoderConfig(c.encoder, c.norm_eps);
  const config = acConfig(c.predictor, c.norm_eps);
  const frozen = filled(
    each,
    feed,
    'encoder.',
    vitSpec(encoder),
    each.weights?.find((w) => w.endsWith('/encoder.')),
  );
  const module = filled(each, feed, 'predictor.', acPredictorSpec(config));
  const named = (name: string): Tensor => {
    const value = each.value(`${name}.0`);
    const tensor = input(name, ['batch', ...value.shape.slice(1)]);
    feed.set(tensor, value);
    return tensor;
  };
  const targets = frameRepresentations(named('clips'), frozen.weights, encoder);
  const conditions = { actions: named('actions'), states: named('states') };
  return { module, targets, forward: ac(targets, conditions, c.auto_steps, module.weights, config) };
}

async function checkAcForward(each: Opened): Promise<Failures> {
  const feed: Feed = new Map();
  const { targets, forward } = acGraph(each, feed);
  const outputs = { targets, teacher_forced: forward.teacherForced, rollout: forward.rollout };
  return compare(each, await outcome(each, feed, outputs));
}

async function checkAcTraining(each: Opened): Promise<Failures> {
  const c = each.config;
  const feed: Feed = new Map();
  const { module, targets, forward } = acGraph(each, feed);
  const { loss, teacherForcing, rollout } = acLoss(forward, targets, c.loss_exp);
  const got: Record<string, HostTensor | undefined> = {};
  const totalSteps = Math.trunc(c.num_epochs * c.iterations_per_epoch);
  await trainSteps(each, feed, got, {
    loss,
    scalars: { loss_teacher_forcing: teacherForcing, loss_rollout: rollout },
    trained: [module],
    lr: schedules.warmupStableDecay({
      startLr: c.start_lr,
      refLr: c.ref_lr,
      finalLr: c.final_lr,
      warmupSteps: Math.trunc(c.warmup * c.iterations_per_epoch),
      annealSteps: Math.trunc(c.anneal * c.iterations_per_epoch),
      totalSteps,
    }),
    wd: schedules.cosineWeightDecay({ refWd: c.wd, finalWd: c.final_wd, totalSteps }),
    feeds: (step) => ({
      clips: each.value(`clips.${step}`),
      actions: each.value(`actions.${step}`),
      states: each.value(`states.${step}`),
    }),
  });
  return compare(each, got);
}

// ---- planning ---------------------------------------------------------------------------------------------------------

/** A frame [1, tokens, width] without its batch. */
const single = ({ shape, data }: HostTensor): HostTensor<'float32'> => float32(shape.slice(1), data as Float32Array);

async function withArm<T>(
  each: Opened,
  horizon: number,
  run: (model: Awaited<ReturnType<typeof armModel>>, task: Parameters<typeof planArm>[1]) => Promise<T>,
): Promise<T> {
  const config = acConfig(each.config.predictor, each.config.norm_eps);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'predictor.', acPredictorSpec(config));
  return withEngine(async (engine) => {
    const state = await engine.createState([...module.tensors.values()]);
    await state.write(valuesOf(feed, [module]));
    const model = await armModel(engine, state, module, config, horizon);
    return run(model, {
      now: single(each.value('context')),
      goal: single(each.value('goal')),
      pose: each.value('pose').data as Float32Array,
    });
  });
}

async function checkCem(each: Opened): Promise<Failures> {
  const c = each.config;
  const noise = each.value('noise'); // [iterations, horizon, samples, 4]
  const [, horizon, samples, width] = noise.shape;
  const drawn = (iteration: number): Float32Array => {
    const numbers = new Float32Array(samples * horizon * width);
    for (let h = 0; h < horizon; h++) {
      for (let s = 0; s < samples; s++) {
        const from = ((iteration * horizon + h) * samples + s) * width;
        numbers.set((noise.data as Float32Array).subarray(from, from + width), (s * horizon + h) * width);
      }
    }
    return numbers;
  };
  const log: ArmIteration[] = [];
  return withArm(each, c.rollout, async (model, task) => {
    const action = await planArm(
      model,
      task,
      {
        horizon: c.rollout,
        samples: c.samples,
        elites: c.topk,
        iterations: c.cem_steps,
        maxMove: c.maxnorm,
        keep: {
          mean: c.momentum_mean,
          std: c.momentum_std,
          meanGripper: c.momentum_mean_gripper,
          stdGripper: c.momentum_std_gripper,
        },
        fixed: c.fixed_axis,
        ...(c.close_gripper_from_step === null ? {} : { closeFrom: c.close_gripper_from_step }),
      },
      drawn,
      (iteration) => log.push(iteration),
    );
    const rows = (of: (iteration: ArmIteration) => ArrayLike<number>, shape: readonly number[]): HostTensor =>
      series(
        log.flatMap((iteration) => Array.from(of(iteration))),
        [log.length, ...shape],
      );
    return compare(each, {
      action,
      energies: rows(({ costs }) => costs, [c.samples]),
      samples: rows(({ plans }) => plans.data, [c.samples, c.rollout, POSE_WIDTH]),
      final_poses: rows(({ plans }) => finalPoses(task.pose, plans).data, [c.samples, POSE_WIDTH]),
      elite: int32(
        [log.length, c.topk],
        log.flatMap(({ elites }) => [...elites].sort((a, b) => a - b)),
      ),
    });
  });
}

async function checkLandscape(each: Opened): Promise<Failures> {
  const { samples_per_axis: count, grid_size: reach, action_repeat: repeat } = each.config;
  return withArm(each, repeat, async (model, task) => {
    const plans = moveGrid(reach, count, repeat);
    const moved = finalPoses(task.pose, plans);
    const still = finalPoses(new Float64Array(POSE_WIDTH), plans);
    const delta = Array.from({ length: plans.shape[0] }, (_, i) =>
      Array.from(still.data.subarray(i * POSE_WIDTH, i * POSE_WIDTH + 3)),
    ).flat();
    const energy = await model.costs(task, plans);
    return compare(each, {
      energy: series(Array.from(energy)),
      delta: series(delta, [plans.shape[0], 3]),
      final_pose: moved,
    });
  });
}

/** Rows of 7 of a tensor. */
const posesOf = (each: Opened, key: string, width = POSE_WIDTH): number[][] => {
  const { data } = each.value(key);
  return Array.from({ length: data.length / width }, (_, i) =>
    Array.from(data.slice(i * width, (i + 1) * width), Number),
  );
};
const rowsOf = (rows: readonly (readonly number[])[]): HostTensor => series(rows.flat(), [rows.length, rows[0].length]);

function checkPoses(each: Opened): Failures {
  const actions = posesOf(each, 'action');
  const poses = posesOf(each, 'pose');
  const next = poses.map((pose, i) => nextPose(pose, actions[i]));
  const recovered = poses.map((pose, i) => actionBetween(pose, next[i]));
  return compare(each, { next_pose: rowsOf(next), recovered_action: rowsOf(recovered) });
}

function checkTrajectory(each: Opened): Failures {
  const poses = posesOf(each, 'poses');
  const cameras = posesOf(each, 'extrinsics', POSE_WIDTH - 1);
  const seen = poses.map((pose, i) => inCamera(pose, cameras[i]));
  const actions = (rows: readonly (readonly number[])[]): HostTensor =>
    series(Array.from(trajectoryActions(Float64Array.from(rows.flat()))), [rows.length - 1, POSE_WIDTH]);
  return compare(each, { actions: actions(poses), camera_poses: rowsOf(seen), camera_actions: actions(seen) });
}

// ---- V-JEPA 2.1 -------------------------------------------------------------------------------------------------------

function checkDistance(each: Opened): Failures {
  const { grid, offset } = each.config;
  const [context, target] = ['context_mask', 'target_mask'].map((key) => each.value(key) as HostTensor<'int32'>);
  return compare(each, { sqrt_distance: contextDistance(context, target, [grid, grid], offset) });
}

async function checkDense(each: Opened): Promise<Failures> {
  const c = each.config;
  const config: VjepaConfig = {
    encoder: encoderConfig(c.encoder, c.norm_eps),
    predictor: predictorConfig(c.predictor, c.norm_eps),
  };
  const feed: Feed = new Map();
  const specs = vjepaModules(config);
  const online = each.weights?.find((name) => name.endsWith('/encoder.'));
  const modules: VjepaModules = {
    encoder: filled(each, feed, 'encoder.', specs.encoder.spec),
    predictor: filled(each, feed, 'predictor.', specs.predictor.spec),
    // The target encoder has the encoder's weights except for those that are stored.
    target: filled(each, feed, 'target_encoder.', specs.target.spec, undefined, online),
  };
  const [context, target] = ['context_mask', 'target_mask'].map((key) => fed(each, feed, key));
  const near = contextDistance(
    each.value('context_mask') as HostTensor<'int32'>,
    each.value('target_mask') as HostTensor<'int32'>,
    [c.grid, c.grid],
  );
  const distance = input('distance', near.shape);
  feed.set(distance, near);
  const inputs = { clips: fed(each, feed, 'clip'), masks: [{ context, target, distance }] };
  const forward = vjepa21(inputs, modules, config, () => c.mask_index);
  const loss = vjepa21Loss(forward, c.lambda);
  const { representation: targets, prediction: loss_prediction, context: loss_context } = forward;
  const trained = [modules.encoder, modules.predictor];
  return compare(
    each,
    await outcome(each, feed, { targets, loss_prediction, loss_context, loss }, { of: loss, modules: trained }),
  );
}

const checkLambda = ({ config: c }: Opened): Failures => [
  inline('value', contextWeight(c.lambda), c.iteration, c.value),
];

/** By the module that a case names, else by its group. */
const CHECKS: Record<string, Check> = {
  rotate: checkRotate,
  'rope attention': checkAttention,
  'ac rope attention': checkAcAttention,
  encoder: (each) => checkEncoder(each, 'vjepa2'),
  // Keys are .group.mask: the token is the group's.
  predictor: (each) => checkPredictor(each, (at) => Number(at.split('.')[1])),
  forward_groups: checkForward,
  train_steps: checkTraining,
  cooldown_steps: checkTraining,
  schedule_wsd: checkSchedule(wsd),
  schedule_warmup_constant: checkWarmupConstant,
  schedule_linear: checkSchedule((c) =>
    schedules.linearDecay({ refLr: c.ref_lr, finalLr: c.final_lr, totalSteps: c.T_max }),
  ),
  'attentive pooler': (each) => checkPooler(each, 'before'),
  'attentive classifier': (each) => checkClassifier(each, 'before'),
  clips: checkClips,
  clips_time_embedding: checkClips,
  clips_multi_level: checkClips,
  probes_side_by_side: checkProbes,
  anticipation_one_step: checkAnticipation,
  anticipation_two_steps: checkAnticipation,
  anticipation_prediction_only_4_frames: checkAnticipation,
  action_head: checkActionHead,
  focal_sum: checkFocal,
  focal_mean: checkFocal,
  mean_class_recall: checkRecall,
  'ac predictor': checkAcPredictor,
  ac_rollout_forward: checkAcForward,
  ac_train_steps: checkAcTraining,
  ac_gradients_long_rollout: checkAcTraining,
  cem_one_step: checkCem,
  cem_two_steps: checkCem,
  cem_fixed_axis_close_gripper: checkCem,
  poses: checkPoses,
  trajectory_actions: checkTrajectory,
  energy_landscape_repeat_1: checkLandscape,
  energy_landscape_repeat_2: checkLandscape,
  context_distance: checkDistance,
  context_distance_offset: checkDistance,
  dense_loss: checkDense,
  lambda_schedule: checkLambda,
};

const harness: Harness = async function* (folder) {
  for (const each of readCases<{ cases: VideoCase[] }>(folder).cases) {
    yield await attempt(each.name, () => {
      const check = CHECKS[each.config.module] ?? CHECKS[each.group];
      return check ? check(openCase(folder, each)) : [`unknown group ${each.group}`];
    });
  }
};

export default harness;
