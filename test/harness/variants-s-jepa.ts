import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import type { SkeletonLayout } from '../../src/data/skeleton/layout.js';
import { geometricView, motionOf } from '../../src/data/skeleton/transforms.js';
import { meanEnergy } from '../../src/energy/distance.js';
import { gradients } from '../../src/graph/autodiff.js';
import { add, mul, sqrt } from '../../src/graph/ops/elementwise.js';
import { sum } from '../../src/graph/ops/reduce.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { gatherTokens } from '../../src/masking/gather.js';
import {
  gumbelKeys,
  motionOfTokens,
  motionProbabilities,
  orderOfKeys,
  pathProbabilities,
  splitOrder,
} from '../../src/masking/skeleton.js';
import {
  meanEntropy,
  type SjepaConfig,
  type SjepaModules,
  sjepa,
  sjepaInputs,
  sjepaModules,
  sjepaPredictor,
} from '../../src/methods/s-jepa.js';
import { cutSegments, embedSegments, skeletonTokens } from '../../src/nn/skeleton.js';
import { adamw } from '../../src/optim/adam.js';
import { createEngine, type Engine, evaluate, type State } from '../../src/runtime/index.js';
import { attempt, type Harness, readCases } from './harness.js';
import { goldenBackend } from './target.js';
import { compare, feedModule, tensorOf, type VariantCase, weightsOf } from './variant-case.js';

const COORDINATES = 3;
const { trunc } = Math;

// biome-ignore lint/suspicious/noExplicitAny: what a case says is checked by the values that come out.
const configOf = (c: any): SjepaConfig => {
  const mlpWidth = trunc(c.dim * c.mlp_ratio);
  const encoder = {
    frames: c.num_frames,
    joints: c.joints,
    segment: c.segment,
    coordinates: COORDINATES,
    width: c.dim,
    depth: c.depth,
    heads: c.heads,
    mlpWidth,
    qkvBias: true,
    eps: c.norm_eps,
  };
  return {
    encoder,
    predictor: sjepaPredictor(encoder, { depth: c.pred_depth, heads: c.predictor_heads, mlpWidth }),
    views: true,
    options: {
      hiding: 'drop',
      sight: 'everything',
      normalisation: { kind: 'softmax', temperature: c.temp_t, momentum: c.center_momentum },
    },
    distance: { kind: 'cross-entropy', temperature: c.temp_s },
  };
};

const floats = (tensor: HostTensor, shape: readonly number[] = tensor.shape): HostTensor<'float32'> =>
  float32(shape, tensor.data as Float32Array);

/** What the graph is for a case, with its weights; steps feed `skeletons`. */
function modelOf(folder: string, c: VariantCase, config: SjepaConfig) {
  const inputs = sjepaInputs(config);
  const modules = sjepaModules(config);
  const forward = sjepa(inputs, modules, config);
  const weights = new Map<Tensor, HostTensor>();
  feedModule(weights, modules.encoder, weightsOf(folder, c, 'model.student_encoder.'));
  feedModule(weights, modules.target, weightsOf(folder, c, 'model.teacher_encoder.'));
  feedModule(weights, modules.predictor, weightsOf(folder, c, 'model.predictor.'));
  const centre = weightsOf(folder, c, 'model.teacher_center').get('')!;
  const loss = meanEnergy(forward.prediction, forward.target, config.distance);
  return { inputs, modules, forward, weights, centre: floats(centre, [config.encoder.width]), loss };
}

/** Skeletons [batch, frames, joints * 3] and one mask [batch, kept] of a step, by the names of the inputs. */
function stepOf(folder: string, c: VariantCase, { encoder }: SjepaConfig, suffix: string) {
  const given = (key: string): HostTensor => tensorOf(folder, c, `${key}${suffix}`);
  const skeletons = (key: string): HostTensor<'float32'> =>
    floats(given(key), [given(key).shape[0], encoder.frames, encoder.joints, COORDINATES]);
  const mask = (key: string): HostTensor<'int32'> => {
    const { shape, data } = given(key);
    return int32([shape[0], 1, shape[1]], data as Int32Array);
  };
  return {
    views: skeletons('x_student'),
    skeletons: skeletons('x_teacher'),
    context: mask('context_idx'),
    targets: mask('target_idx'),
  };
}

/** Runs something on an engine whose state holds the weights of a model. */
async function onEngine<T>(
  { encoder, predictor, target }: SjepaModules,
  weights: ReadonlyMap<Tensor, HostTensor>,
  body: (engine: Engine, state: State) => Promise<T>,
): Promise<T> {
  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    const state = await engine.createState(
      [encoder, predictor, target].flatMap(({ tensors }) => [...tensors.values()]),
    );
    const named = [...weights].map(([t, v]) => [(t.node.attrs as { name: string }).name, v] as const);
    await state.write(new Map(named) as Map<string, HostTensor<'float32'>>);
    return await body(engine, state);
  } finally {
    await engine.close();
  }
}

async function checkStep(folder: string, c: VariantCase): Promise<(string | undefined)[]> {
  const config = configOf(c.config);
  const { inputs, modules, forward, weights, centre, loss } = modelOf(folder, c, config);
  const { encoder, target, predictor } = modules;
  const outputs: Record<string, Tensor> = {
    tokens: embedSegments(inputs.views, encoder.weights, config.encoder),
    teacher: skeletonTokens(inputs.skeletons, config.encoder).encode(target.weights),
    context: forward.context,
    prediction: forward.prediction,
    loss,
    center_after: forward.memory.centre.next,
    target_entropy: meanEntropy(forward.target),
  };
  const trained = [
    ...[...encoder.tensors].map(([name, tensor]) => [`grad.student.${name}`, tensor] as const),
    ...[...predictor.tensors].map(([name, tensor]) => [`grad.predictor.${name}`, tensor] as const),
  ];
  const grads = gradients(
    loss,
    trained.map(([, tensor]) => tensor),
  );
  trained.forEach(([name], i) => {
    if (grads[i]) outputs[name] = grads[i];
  });
  const step = stepOf(folder, c, config, '');
  const got = await onEngine(modules, weights, async (engine, state) => {
    const program = await engine.compile({ name: 's-jepa', outputs }, state);
    const result = await program.run({ ...step, centre });
    return { ...result.outputs } as Record<string, HostTensor>;
  });
  const [batch, , hidden] = step.targets.shape;
  got.prediction = { ...got.prediction, shape: [batch, hidden, config.encoder.width] };
  got.center_after = { ...got.center_after, shape: [1, 1, config.encoder.width] };
  return compare(folder, c, got);
}

// biome-ignore lint/suspicious/noExplicitAny: what a case says is checked by the values that come out.
async function checkSteps(folder: string, c: VariantCase, model: any): Promise<(string | undefined)[]> {
  const config = configOf(model);
  const { modules, forward, weights, centre, loss } = modelOf(folder, c, config);
  const { encoder, predictor, target } = modules;
  const learned = [...encoder.tensors.values(), ...predictor.tensors.values()];
  const norm = sqrt(
    gradients(loss, learned)
      .map((g) => sum(mul(g as Tensor, g as Tensor)))
      .reduce((a, b) => add(a, b)),
  );
  const { lr, weight_decay: weightDecay, betas, eps, clip, momentum } = c.config;
  return onEngine(modules, weights, async (engine, state) => {
    const program = await engine.compile(
      {
        name: 's-jepa',
        outputs: { loss, norm, centre: forward.memory.centre.next },
        update: {
          loss,
          rule: adamw({ betas, eps }),
          groups: [learned],
          followers: [...encoder.tensors].map(([name, online]) => ({ online, target: target.tensors.get(name)! })),
        },
      },
      state,
    );
    const log: number[] = [];
    let before = centre;
    for (let s = 0; s < momentum.length; s++) {
      const result = await program.run(
        { ...stepOf(folder, c, config, `.${s}`), centre: before },
        { step: s + 1, groups: [{ lr, weightDecay }], momentum: momentum[s], clipNorm: clip },
      );
      before = result.outputs.centre as HostTensor<'float32'>;
      log.push(Number(result.outputs.loss.data[0]), Number(result.outputs.norm.data[0]));
    }
    const after = [...(await state.read())].map(([name, value]) => [
      name.replace('target_encoder.', 'after.teacher.'),
      value,
    ]);
    return compare(folder, c, {
      ...Object.fromEntries(after),
      loss_and_gradnorm: { shape: [momentum.length, 2], data: log },
      center: { ...before, shape: [1, 1, config.encoder.width] },
    });
  });
}

function checkView(folder: string, c: VariantCase): (string | undefined)[] {
  const skeleton = tensorOf(folder, c, 'skeleton');
  const joints = skeleton.shape[1];
  const axis = /^mean over frames of joint (\d+) - joint (\d+)$/.exec(c.config.axis);
  if (!axis || c.config.order !== 'rotate, mirror x and swap, translate') return ['unknown rule of the view'];
  const layout: SkeletonLayout = {
    names: Array.from({ length: joints }, String),
    parents: [],
    root: 0,
    spine: [Number(axis[2]), Number(axis[1])],
    shoulders: [0, 0],
    pairs: c.config.swap_pairs,
  };
  const [x, y, z] = tensorOf(folder, c, 'shift').data as Float32Array;
  const view = geometricView(skeleton.data as Float32Array, layout, {
    angle: (c.config.angle_deg * Math.PI) / 180,
    mirror: c.config.flip === 1,
    shift: [x, y, z],
  });
  return compare(folder, c, { view: float32(skeleton.shape, view) });
}

async function checkMotion(folder: string, c: VariantCase): Promise<(string | undefined)[]> {
  const { frames_per_segment: segment, joints, mask_ratio: ratio, tau } = c.config;
  const skeletons = floats(tensorOf(folder, c, 'x'));
  const [batch, frames] = skeletons.shape;
  const x = input('x', ['batch', frames, joints, COORDINATES]);
  const { patches } = await evaluate(
    { patches: cutSegments(x, { frames, joints, segment, coordinates: COORDINATES }) },
    new Map([[x, skeletons]]),
    { backend: goldenBackend },
  );
  const motion = motionOfTokens(skeletons, segment);
  const prob = motionProbabilities(motion, tau);
  const order = orderOfKeys(gumbelKeys(prob, floats(tensorOf(folder, c, 'uniform'))));
  const tokens = motion.shape[1];
  const keep = trunc(tokens * (1 - ratio));
  if (keep !== c.config.keep) return [`${keep} tokens are kept instead of ${c.config.keep}`];
  const rows = Array.from({ length: batch }, (_, i) => order.data.subarray(i * tokens, (i + 1) * tokens));
  const kept = int32([batch, keep], Int32Array.from(rows.flatMap((row) => [...row.subarray(0, keep)])));
  const masked = splitOrder(order, keep);
  const mask = new Int32Array(batch * tokens);
  masked.targets.data.forEach((token, i) => {
    mask[Math.floor(i / (tokens - keep)) * tokens + token] = 1;
  });
  const restore = rows.flatMap((row) => Array.from(row, (_, token) => row.indexOf(token)));
  return compare(folder, c, {
    patches,
    motion,
    prob,
    mask: int32([batch, tokens], mask),
    ids_restore: int32([batch, tokens], restore),
    ids_keep: kept,
    kept: gatherTokens(floats(tensorOf(folder, c, 'tokens')), kept),
  });
}

function checkDifferences(folder: string, c: VariantCase): (string | undefined)[] {
  const { shape, data } = tensorOf(folder, c, 'x');
  const clip = shape.slice(1).reduce((a, b) => a * b, 1);
  const row = clip / shape[1];
  const motion = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += clip)
    motion.set(motionOf((data as Float32Array).subarray(at, at + clip), row), at);
  return compare(folder, c, { motion_target: float32(shape, motion) });
}

function checkPaths(folder: string, c: VariantCase): (string | undefined)[] {
  const { segment, bodies, mask_ratio: ratio } = c.config;
  const { shape, data } = tensorOf(folder, c, 'skeleton');
  const [frames, values] = shape;
  const row = values / bodies;
  // The bodies' coordinates are added.
  const added = Float32Array.from({ length: frames * row }, (_, i) => {
    let total = 0;
    for (let body = 0; body < bodies; body++)
      total += Number(data[Math.floor(i / row) * values + body * row + (i % row)]);
    return total;
  });
  const prob = pathProbabilities(float32([1, frames, row / COORDINATES, COORDINATES], added), segment);
  const tokens = prob.shape[1];
  // The most probable are hidden, so the least come first.
  const { context, targets } = splitOrder(orderOfKeys(prob), tokens - trunc(tokens * ratio));
  return compare(folder, c, {
    prob: { ...prob, shape: [tokens] },
    target_idx: { ...targets, shape: targets.shape.slice(2) },
    context_idx: { ...context, shape: context.shape.slice(2) },
  });
}

type Check = (
  folder: string,
  c: VariantCase,
  all: readonly VariantCase[],
) => Promise<(string | undefined)[]> | (string | undefined)[];

const CASES: Record<string, Check> = {
  step: checkStep,
  three_steps: (folder, c, all) => checkSteps(folder, c, all.find(({ name }) => name === 'step')?.config),
  geometric_flip0: checkView,
  geometric_flip1: checkView,
  motion_aware_0: checkMotion,
  motion_aware_1: checkMotion,
  motion_stride1: checkDifferences,
  reimpl_probabilities: checkPaths,
};

const harness: Harness = async function* (folder) {
  const { cases } = readCases<{ cases: VariantCase[] }>(folder);
  for (const c of cases) {
    yield attempt(c.name, () => CASES[c.name]?.(folder, c, cases) ?? [`unknown case ${c.name}`]);
  }
};
export default harness;
