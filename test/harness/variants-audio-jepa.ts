import type { HostTensor } from '../../src/base/tensor.js';
import { kaldiFbank } from '../../src/data/audio/fbank.js';
import { type AudioFeatures, audioFeatures } from '../../src/data/audio/features.js';
import { melFilters, melMatrix } from '../../src/data/audio/mel.js';
import { windowValues } from '../../src/data/audio/stft.js';
import { type Distance, meanEnergy, tokenEnergy } from '../../src/energy/distance.js';
import { gradients } from '../../src/graph/autodiff.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { sampleRandom2d } from '../../src/masking/random2d.js';
import { competence } from '../../src/masking/spectrogram.js';
import { AUDIO_JEPA, audioVit } from '../../src/methods/audio-jepa.js';
import {
  type IjepaConfig,
  type IjepaInputs,
  type IjepaModules,
  ijepa,
  ijepaInputs,
  ijepaModules,
} from '../../src/methods/ijepa.js';
import { type MaskedOptions, type Normalisation, normaliseTargets } from '../../src/methods/masked.js';
import { vitTokens } from '../../src/nn/tokens.js';
import { gridOf } from '../../src/nn/vit.js';
import { adamw } from '../../src/optim/adam.js';
import { decayGroups } from '../../src/optim/groups.js';
import { cosineMomentum, cosineWeightDecay, linearMomentum, warmupCosine } from '../../src/optim/schedules.js';
import { createEngine, evaluate } from '../../src/runtime/index.js';
import { attempt, difference, type Harness, readCases, readTensors, type Tolerance } from './harness.js';
import { goldenBackend } from './target.js';

interface Case {
  readonly name: string;
  readonly file: string;
  // biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
  readonly config: any;
  readonly inputs?: readonly string[];
  readonly weights?: readonly string[];
  readonly expected: readonly string[];
  readonly tolerance: { readonly default: Tolerance; readonly keys?: Readonly<Record<string, Tolerance>> };
}

/** What a case computed: shape and values by expected key. Values without a shape have that which is expected. */
type Got = Record<string, { readonly shape?: readonly number[]; readonly data: ArrayLike<number | bigint> }>;

interface Files {
  /** A tensor of the case. */
  of(key: string): HostTensor;
  /** A weight by its official name, e.g. `encoder.norm.weight`. */
  weight(name: string): HostTensor<'float32'>;
}

const official = (name: string): string => name.replace('.qkv.', '.Wqkv.').replace(/\.attn\.proj\./, '.attn.out_proj.');

// biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
function featuresOf(c: any): AudioFeatures {
  return {
    spectrum: {
      kind: 'fbank',
      sampleRate: c.sr,
      mels: c.n_mels,
      low: c.f_min,
      high: c.f_max,
      frameMs: c.frame_length_ms,
      shiftMs: c.frame_shift_ms,
      window: 'hann',
    },
    level: 'as-is',
    frames: c.target_time_bins,
    mean: 0,
    scale: 1,
  };
}

function frontEnd({ config }: Case, files: Files): Got {
  const features = featuresOf(config);
  const clip = files.of('waveform').data as Float32Array;
  const spectrum = features.spectrum as Extract<AudioFeatures['spectrum'], { kind: 'fbank' }>;
  const { fft, frame, shift, compute, frames } = kaldiFbank(spectrum);
  const counts = { fft, window_samples: frame, shift_samples: shift, frames_of_10_s: frames(10 * config.sr) };
  for (const [key, value] of Object.entries(counts)) {
    if (config[key] !== undefined && config[key] !== value) throw new Error(`${key} is ${value}, not ${config[key]}`);
  }
  // Without the Nyquist bin, whose weight is always 0.
  const filters = melMatrix(melFilters({ ...spectrum, fft, scale: 'kaldi', straight: 'mel', norm: 'peak' }), fft / 2);
  return {
    fbank: compute(clip),
    ...(config.target_time_bins ? { spectrogram: { data: audioFeatures(features)(clip).data } } : {}),
    mel_bank: filters,
    window: { data: windowValues('hann', frame, false) },
  };
}

function randomMasks({ config, inputs = [] }: Case, files: Files): Got {
  const got: Got = {};
  const patches = config.input_size.reduce(
    (product: number, size: number, i: number) => (product * size) / config.patch_size[i],
    1,
  );
  for (const key of inputs.filter((name) => name.startsWith('u.'))) {
    const number = key.slice(2);
    const orders = files.of(`perm.${number}`).data as Int32Array;
    let next = 0;
    const masks = sampleRandom2d({ patches, ratio: config.ratio }, config.batch, {
      sizes: { uniform: () => Number(files.of(key).data[0]) },
      places: {
        permutation(n) {
          next += n;
          return orders.slice(next - n, next);
        },
      },
    });
    for (const part of ['context', 'target'] as const) {
      const { shape, data } = masks[part];
      got[`${part}.${number}`] = { shape: [shape[0], shape[2]], data };
    }
  }
  return got;
}

// biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
function configOf(c: any): IjepaConfig {
  const [patch, other] = c.patch_size;
  if (patch !== other) throw new Error(`patches of ${patch} x ${other} are not square`);
  const ratio = c.mlp_ratio ?? 4;
  const eps = c.norm_eps ?? audioVit({ imageSize: 16, patchSize: 16 }).eps;
  const encoder = {
    ...audioVit({
      imageSize: c.input_size,
      patchSize: patch,
      width: c.embed_dim,
      depth: c.depth,
      heads: c.heads,
      mlpWidth: ratio * c.embed_dim,
    }),
    eps,
  };
  const predictor = {
    width: c.pred_dim,
    depth: c.pred_depth,
    heads: c.pred_heads,
    mlpWidth: ratio * c.pred_dim,
    qkvBias: true,
    eps,
    encoderWidth: c.embed_dim,
    grid: gridOf(encoder),
  };
  return { encoder, predictor };
}

const parametersOf = (modules: IjepaModules) =>
  Object.values(modules as unknown as Record<string, IjepaModules['encoder']>).flatMap(({ prefix, tensors }) =>
    [...tensors].map(([name, tensor]) => ({ name: official(`${prefix}${name}`), full: `${prefix}${name}`, tensor })),
  );

function stepGraph(modules: IjepaModules, config: IjepaConfig) {
  const inputs = ijepaInputs(config, 1, 1);
  const forward = ijepa(inputs, modules, config, undefined, AUDIO_JEPA.options);
  return { inputs, forward, loss: meanEnergy(forward.prediction, forward.target, AUDIO_JEPA.distance) };
}

/** Inputs of a step; masks [batch, kept] of the reference as [batch, 1, kept]. */
function stepFeeds(files: Files, suffix = ''): Record<keyof IjepaInputs, HostTensor> {
  const list = (key: string): HostTensor => {
    const { shape, ...rest } = files.of(`${key}${suffix}`);
    return { ...rest, shape: [shape[0], 1, shape[1]] } as HostTensor;
  };
  return { images: files.of(`x${suffix}`), context: list('context_idx'), targets: list('target_idx') };
}

async function step(c: Case, files: Files): Promise<Got> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const { inputs, forward, loss } = stepGraph(modules, config);
  const plain: MaskedOptions = { ...AUDIO_JEPA.options, normalisation: 'none' };
  const outputs: Record<string, Tensor> = {
    'context tokens': forward.context, // `context` is an input.
    prediction: forward.prediction,
    target_full: vitTokens(inputs.images, config.encoder).encode(modules.target.weights),
    target: ijepa(inputs, modules, config, undefined, plain).target,
    loss,
  };
  const parameters = parametersOf(modules);
  const wanted = parameters.filter(({ name }) => c.expected.includes(`grad.${name}`));
  gradients(
    loss,
    wanted.map(({ tensor }) => tensor),
  ).forEach((gradient, i) => {
    if (gradient) outputs[`grad.${wanted[i].name}`] = gradient;
  });
  const feeds = new Map<Tensor, HostTensor>(parameters.map(({ name, tensor }) => [tensor, files.weight(name)]));
  for (const [key, value] of Object.entries(stepFeeds(files))) feeds.set(inputs[key as keyof IjepaInputs], value);
  const got = await evaluate(outputs, feeds, { backend: goldenBackend });
  const { 'context tokens': context, prediction, target } = got;
  // One context, one block.
  const rows = ({ shape, data }: HostTensor) => ({ shape: [shape[0], ...shape.slice(3)], data });
  return { ...got, context, prediction: rows(prediction), target: rows(target), loss: { data: got.loss.data } };
}

const NORMALISATIONS: Record<string, Normalisation> = { True: 'standardised', center: 'centred', False: 'none' };
const DISTANCES: Record<string, Distance> = { norm_mse: 'normalised-l2', smooth_l1: 'smooth-l1', mse: 'l2' };

async function losses(c: Case, files: Files): Promise<Got> {
  const [prediction, target] = ['prediction', 'target'].map((key) => input(key, files.of(key).shape));
  const outputs = Object.fromEntries(
    c.expected.map((key) => {
      const [kind, norm] = key.split('.');
      const [distance, normalisation] = [DISTANCES[kind], NORMALISATIONS[norm]];
      if (!distance || !normalisation) throw new Error(`the harness does not know the loss ${key}`);
      const normalised = normaliseTargets(target, normalisation);
      // The reference leaves `mse` unreduced.
      return [key, (kind === 'mse' ? tokenEnergy : meanEnergy)(prediction, normalised, distance)];
    }),
  );
  const feeds = new Map([prediction, target].map((t, i) => [t, files.of(i === 0 ? 'prediction' : 'target')]));
  const got = await evaluate(outputs, feeds, { backend: goldenBackend });
  return Object.fromEntries(
    Object.entries(got).map(([key, { shape, data }]) => [key, shape.length === 0 ? { data } : { shape, data }]),
  );
}

/** Values in force during step i = 0, 1, ...; the reference computes the weight decay one step too early. */
// biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
function schedulesOf(c: any) {
  const totalSteps = c.total ?? c.total_steps;
  const [start, end] = c.tau ?? [0.996, 1];
  const lr = warmupCosine({
    startLr: c.start_lr,
    refLr: c.ref_lr,
    finalLr: c.final_lr ?? 0,
    warmupSteps: c.warmup ?? c.warmup_steps,
    totalSteps,
  });
  const decay = cosineWeightDecay({ refWd: c.wd[0], finalWd: c.wd[1], totalSteps });
  return {
    lr,
    weight_decay: (i: number) => decay(i - 1),
    tau_cos: cosineMomentum({ start, end, epochs: totalSteps, iterationsPerEpoch: 1 }),
    tau_lin: linearMomentum({ start, end, updates: totalSteps }),
  };
}

function schedules(c: Case, files: Files): Got {
  const made: Record<string, (step: number) => number> = schedulesOf(c.config);
  return Object.fromEntries(
    c.expected.map((key) => {
      if (!made[key]) throw new Error(`the harness does not know the schedule ${key}`);
      return [key, { data: Array.from({ length: files.of(key).data.length }, (_, i) => made[key](i)) }];
    }),
  );
}

function curriculum({ config }: Case, files: Files): Got {
  const f = Array.from(files.of('s').data as Int32Array, (s) => competence(s / config.S, config.c0));
  const u = files.of('u').data as Float32Array;
  return { f: { data: f }, hard: { data: f.map((value, i) => Number(u[i] < value)) } };
}

async function threeSteps(c: Case, files: Files): Promise<Got> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const { loss } = stepGraph(modules, config);
  const parameters = parametersOf(modules);
  const { decay, noDecay } = decayGroups([modules.encoder, modules.predictor]);
  const learned = new Set([...decay, ...noDecay]);
  const followers = [...modules.encoder.tensors]
    .filter(([, online]) => learned.has(online))
    .map(([name, online]) => ({ online, target: modules.target.tensors.get(name) as Tensor }));
  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    const state = await engine.createState(parameters.map(({ tensor }) => tensor));
    await state.write(new Map(parameters.map(({ name, full }) => [full, files.weight(name)])));
    const rule = adamw({ betas: c.config.betas, eps: c.config.eps });
    const update = { loss, rule, groups: [decay, noDecay], followers };
    const program = await engine.compile({ name: c.name, outputs: { loss }, update }, state);
    const { lr, weight_decay, tau_cos } = schedulesOf(c.config);
    const log: Record<'losses' | 'lr' | 'weight_decay' | 'tau', number[]> = {
      losses: [],
      lr: [],
      weight_decay: [],
      tau: [],
    };
    const steps = (c.inputs ?? []).filter((key) => key.startsWith('x.')).length;
    for (let i = 0; i < steps; i++) {
      const hyper = { lr: lr(i), weightDecay: weight_decay(i) };
      const { outputs } = await program.run(stepFeeds(files, `.${i}`) as never, {
        step: i + 1,
        groups: [hyper, { ...hyper, weightDecay: 0 }],
        momentum: tau_cos(i),
      });
      log.losses.push(Number(outputs.loss.data[0]));
      log.lr.push(hyper.lr);
      log.weight_decay.push(hyper.weightDecay);
      log.tau.push(tau_cos(i));
    }
    const after = await state.read();
    return {
      ...Object.fromEntries(Object.entries(log).map(([key, data]) => [key, { data }])),
      ...Object.fromEntries(parameters.map(({ name, full }) => [`after.${name}`, after.get(full) as HostTensor])),
    };
  } finally {
    await engine.close();
  }
}

const CHECKS: Readonly<Record<string, (c: Case, files: Files) => Got | Promise<Got>>> = {
  mel: frontEnd,
  random: randomMasks,
  step,
  losses,
  three_steps: threeSteps,
  schedules,
  ajepa_curriculum: curriculum,
};

const harness: Harness = async function* (folder) {
  for (const c of readCases<{ cases: Case[] }>(folder).cases) {
    yield await attempt(c.name, async () => {
      const check = CHECKS[c.name.startsWith('mel_') ? 'mel' : c.name];
      if (!check) return [`the harness does not know the case ${c.name}`];
      const tensors = readTensors(folder, c.file);
      const files: Files = {
        of(key) {
          const tensor = tensors.get(`${c.name}/${key}`);
          if (!tensor) throw new Error(`the file lacks ${c.name}/${key}`);
          return tensor;
        },
        weight(name) {
          const [from, prefix] = (c.weights?.[0] ?? '').includes(':')
            ? (c.weights as string[])[0].split(':')
            : [c.file, c.weights?.[0]];
          const tensor = readTensors(folder, from).get(`${prefix}/${name}`);
          if (!tensor) throw new Error(`the file ${from} lacks ${prefix}/${name}`);
          return tensor as HostTensor<'float32'>;
        },
      };
      const got = await check(c, files);
      return c.expected.map((key) => {
        const expected = files.of(key);
        if (!got[key]) return `${key}: no value`;
        const { shape = expected.shape, data } = got[key];
        if (data.length !== expected.data.length)
          return `${key}: ${data.length} values instead of ${expected.data.length}`;
        return difference(key, { shape, data }, expected, c.tolerance.keys?.[key] ?? c.tolerance.default);
      });
    });
  }
};

export default harness;
