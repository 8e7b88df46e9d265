import type { HostTensor } from '../../src/base/tensor.js';
import { gradients } from '../../src/graph/autodiff.js';
import { add, mul, sqrt } from '../../src/graph/ops/elementwise.js';
import { smoothL1Loss } from '../../src/graph/ops/losses.js';
import { layerNorm } from '../../src/graph/ops/normalise.js';
import { sum } from '../../src/graph/ops/reduce.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { type IjepaConfig, type IjepaModules, ijepa, ijepaInputs, ijepaModules } from '../../src/methods/ijepa.js';
import { gridPositions } from '../../src/nn/positions.js';
import { predictor } from '../../src/nn/predictor.js';
import { vitTokens } from '../../src/nn/tokens.js';
import { vit } from '../../src/nn/vit.js';
import type { Module } from '../../src/nn/weights.js';
import { adamw } from '../../src/optim/adam.js';
import { decayGroups } from '../../src/optim/groups.js';
import * as schedules from '../../src/optim/schedules.js';
import { createEngine, evaluate } from '../../src/runtime/index.js';
import { attempt, difference, type Harness, readCases, readTensors, type Tolerance } from './harness.js';
import { goldenBackend } from './target.js';

// biome-ignore lint/suspicious/noExplicitAny: each kind has its own configuration
type Settings = any;

interface Case {
  name: string;
  kind: string;
  file: string;
  config: Settings;
  inputs: string[];
  expected: string[];
  rtol: number;
  atol: number;
  tolerances?: Record<string, Tolerance>;
  ignore_range?: Record<string, [number, number]>;
  decay_groups?: Record<string, string[]>;
}

type Values = Map<string, HostTensor>;

function configOf(c: Settings): IjepaConfig {
  const grid = c.grid as [number, number];
  const inputGrid = (c.input_grid as [number, number]) ?? grid;
  const mlp = (width: number): number => Math.round(width * c.mlp_ratio);
  return {
    encoder: {
      imageSize: [inputGrid[0] * c.patch, inputGrid[1] * c.patch],
      patchSize: c.patch,
      channels: c.channels,
      width: c.width,
      depth: c.depth,
      heads: c.heads,
      mlpWidth: mlp(c.width),
      qkvBias: c.qkv_bias,
      eps: c.eps,
    },
    predictor: {
      width: c.predictor_width,
      depth: c.predictor_depth,
      heads: c.predictor_heads,
      mlpWidth: mlp(c.predictor_width),
      qkvBias: c.qkv_bias,
      eps: c.eps,
      encoderWidth: c.width,
      grid,
    },
  };
}

/** Values of a module's parameters from the file, times the case's powers of two. */
function feedModule(
  feeds: Map<Tensor, HostTensor>,
  module: Module,
  tensors: Values,
  prefix: string,
  c: Settings,
  fallback?: string,
): void {
  for (const [name, tensor] of module.tensors) {
    const key = `${prefix}${name}`;
    const stored = tensors.get(key) ?? (fallback === undefined ? undefined : tensors.get(`${fallback}${name}`));
    if (!stored) throw new Error(`the file lacks ${key}`);
    const factor = c.multiply?.[key] ?? 1;
    feeds.set(tensor, {
      dtype: 'float32',
      shape: tensor.shape as number[],
      data: Float32Array.from(stored.data as Float32Array, (v) => v * factor),
    });
  }
}

const toleranceOf = (c: Case, key: string): Tolerance => {
  const prefixes = Object.keys(c.tolerances ?? {}).filter((k) => k.endsWith('*') && key.startsWith(k.slice(0, -1)));
  return c.tolerances?.[key] ?? (prefixes.length > 0 ? c.tolerances![prefixes[0]] : { rtol: c.rtol, atol: c.atol });
};

/** Lists [lists, batch, kept] of the reference as [batch, lists, kept]. */
function batchFirst({ shape: [lists, batch, kept], data }: HostTensor): HostTensor<'int32'> {
  const out = new Int32Array(lists * batch * kept);
  for (let l = 0; l < lists; l++)
    for (let b = 0; b < batch; b++)
      out.set(
        (data as Int32Array).subarray((l * batch + b) * kept, (l * batch + b + 1) * kept),
        (b * lists + l) * kept,
      );
  return { dtype: 'int32', shape: [batch, lists, kept], data: out };
}

/** Ours [batch, a, b, ...rest] in the reference's row order: a, b, batch (one leading axis). */
function referenceRows({ data }: HostTensor, batch: number, a: number, b: number, rest: readonly number[]): HostTensor {
  const row = rest.reduce((x, y) => x * y, 1);
  const out = new Float32Array(data.length);
  let at = 0;
  for (let i = 0; i < a; i++)
    for (let j = 0; j < b; j++)
      for (let k = 0; k < batch; k++, at += row)
        out.set((data as Float32Array).subarray(((k * a + i) * b + j) * row, ((k * a + i) * b + j + 1) * row), at);
  return { dtype: 'float32', shape: [a * b * batch, ...rest], data: out };
}

async function checkEncoder(c: Case, tensors: Values): Promise<(string | undefined)[]> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const feeds = new Map<Tensor, HostTensor>();
  const images = input('images', ['batch', config.encoder.channels, ...config.encoder.imageSize]);
  feeds.set(images, tensors.get(c.inputs[0])!);
  feedModule(feeds, modules.encoder, tensors, 'encoder.', c.config);
  const outputs: Record<string, Tensor> = {};
  const masksKey = c.inputs[1];
  const base = c.expected[0].replace(/\/[^/]*$/, '');
  const onState = (state: Tensor, i: number): void => {
    if (c.expected.includes(`${base}/state${i}`)) outputs[`${base}/state${i}`] = state;
  };
  let contexts = 1;
  if (masksKey) {
    const masks = batchFirst(tensors.get(masksKey)!);
    contexts = masks.shape[1];
    const visible = input('context', ['batch', contexts, 'visible'], 'int32');
    feeds.set(visible, masks);
    outputs[`${base}/y`] = vitTokens(images, config.encoder).encode(modules.encoder.weights, {
      visible,
      onState,
    });
  } else outputs[`${base}/y`] = vit(images, modules.encoder.weights, config.encoder, { onState });
  const results = await evaluate(outputs, feeds, { backend: goldenBackend });
  const failures =
    c.config.position_tables === 'exact' && !c.config.multiply && !c.config.input_grid
      ? [
          difference(
            'pos_embed',
            { shape: tensors.get('encoder.pos_embed')!.shape, data: gridPositions(c.config.grid, c.config.width) },
            tensors.get('encoder.pos_embed')!,
            { rtol: 0, atol: 1e-7 },
          ),
        ]
      : [];
  return [
    ...failures,
    ...c.expected.map((key) => {
      const [rows, ...rest] = results[key].shape;
      return difference(
        key,
        referenceRows(results[key], rows / contexts, contexts, 1, rest),
        tensors.get(key)!,
        toleranceOf(c, key),
      );
    }),
  ];
}

async function checkPredictor(c: Case, tensors: Values): Promise<(string | undefined)[]> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const { batch, nenc, npred } = {
    nenc: tensors.get(c.inputs[1])!.shape[0],
    batch: tensors.get(c.inputs[1])!.shape[1],
    npred: tensors.get(c.inputs[2])!.shape[0],
  };
  const context = tensors.get(c.inputs[0])!;
  const [, kept, width] = context.shape;
  const ours = new Float32Array(context.data.length);
  for (let e = 0; e < nenc; e++)
    for (let b = 0; b < batch; b++)
      ours.set(
        (context.data as Float32Array).subarray((e * batch + b) * kept * width, (e * batch + b + 1) * kept * width),
        (b * nenc + e) * kept * width,
      );
  const x = input('tokens', ['batch', nenc, 'visible', width]);
  const visible = input('context', ['batch', nenc, 'visible'], 'int32');
  const targets = input('targets', ['batch', npred, 'hidden'], 'int32');
  const feeds = new Map<Tensor, HostTensor>([
    [x, { dtype: 'float32', shape: [batch, nenc, kept, width], data: ours }],
    [visible, batchFirst(tensors.get(c.inputs[1])!)],
    [targets, batchFirst(tensors.get(c.inputs[2])!)],
  ]);
  feedModule(feeds, modules.predictor, tensors, 'predictor.', c.config);
  const { y } = await evaluate(
    { y: predictor(x, visible, targets, modules.predictor.weights, config.predictor) },
    feeds,
    { backend: goldenBackend },
  );
  const [key] = c.expected;
  return [
    difference(key, referenceRows(y, batch, npred, nenc, y.shape.slice(3)), tensors.get(key)!, toleranceOf(c, key)),
  ];
}

async function checkTarget(c: Case, tensors: Values): Promise<(string | undefined)[]> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const images = input('images', ['batch', config.encoder.channels, ...config.encoder.imageSize]);
  const feeds = new Map<Tensor, HostTensor>([[images, tensors.get(c.inputs[0])!]]);
  feedModule(feeds, modules.target, tensors, 'target_encoder.', c.config);
  const { y } = await evaluate(
    { y: layerNorm(vit(images, modules.target.weights, config.encoder), { eps: 1e-5 }) },
    feeds,
    { backend: goldenBackend },
  );
  return c.expected.map((key) => difference(key, y, tensors.get(key)!, toleranceOf(c, key)));
}

function stepGraph(nenc: number, npred: number, modules: IjepaModules, config: IjepaConfig) {
  const inputs = ijepaInputs(config, nenc, npred);
  const forward = ijepa(inputs, modules, config);
  return { inputs, ...forward, loss: smoothL1Loss(forward.prediction, forward.target, 1) };
}

async function checkGradients(c: Case, tensors: Values): Promise<(string | undefined)[]> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const [, enc, pred] = c.inputs.map((key) => tensors.get(key)!);
  const [nenc, batch] = enc.shape;
  const npred = pred.shape[0];
  const graph = stepGraph(nenc, npred, modules, config);
  const feeds = new Map<Tensor, HostTensor>([
    [graph.inputs.images, tensors.get(c.inputs[0])!],
    [graph.inputs.context, batchFirst(enc)],
    [graph.inputs.targets, batchFirst(pred)],
  ]);
  for (const [key, module] of Object.entries(modules))
    feedModule(feeds, module, tensors, key === 'target' ? 'target_encoder.' : `${key}.`, c.config);
  const base = `grad/${c.name.split('/').at(-1)}`;
  const outputs: Record<string, Tensor> = { [`${base}/loss`]: graph.loss };
  if (c.expected.includes(`${base}/prediction`)) outputs[`${base}/prediction`] = graph.prediction;
  if (c.expected.includes(`${base}/target`)) outputs[`${base}/target`] = graph.target;
  if (c.expected.includes(`${base}/target_all_tokens`))
    outputs[`${base}/target_all_tokens`] = layerNorm(vit(graph.inputs.images, modules.target.weights, config.encoder), {
      eps: 1e-5,
    });
  const trained = [modules.encoder, modules.predictor].flatMap((m) =>
    [...m.tensors].map(([name, tensor]) => ({ key: `${base}/${m.prefix}${name}`, tensor })),
  );
  const wanted = trained.filter(({ key }) => c.expected.includes(key));
  const grads = gradients(
    graph.loss,
    wanted.map((w) => w.tensor),
  );
  wanted.forEach(({ key }, i) => {
    if (grads[i]) outputs[key] = grads[i];
  });
  const results = await evaluate(outputs, feeds, { backend: goldenBackend });
  return c.expected.map((key) => {
    let got: HostTensor | undefined = results[key];
    if (!got) return `${key}: no value`;
    if (key.endsWith('/loss')) got = { ...got, shape: tensors.get(key)!.shape };
    if (/\/(prediction|target)$/.test(key)) got = referenceRows(got, batch, npred, nenc, got.shape.slice(3));
    return difference(key, got, tensors.get(key)!, toleranceOf(c, key));
  });
}

/** sqrt of the sum of squares of a module's gradients. */
function gradientNorm(loss: Tensor, module: Module): Tensor {
  const squares = gradients(
    loss,
    [...module.tensors].filter(([name]) => module.spec.get(name)!.trainable).map(([, t]) => t),
  ).flatMap((g) => (g ? [sum(mul(g, g))] : []));
  return sqrt(squares.reduce((a, b) => add(a, b)));
}

async function checkTrajectory(c: Case, tensors: Values): Promise<(string | undefined)[]> {
  const config = configOf(c.config);
  const modules = ijepaModules(config);
  const { decay, noDecay } = decayGroups([modules.encoder, modules.predictor]);
  const engine = await createEngine({ backend: goldenBackend, ...(goldenBackend === 'cpu' ? { workers: 2 } : {}) });
  try {
    const all = [...decay, ...noDecay];
    const fixed = [...modules.encoder.tensors.values(), ...modules.predictor.tensors.values()].filter(
      (t) => !all.includes(t),
    );
    const state = await engine.createState([...all, ...fixed, ...modules.target.tensors.values()]);
    const start = new Map<Tensor, HostTensor>();
    feedModule(start, modules.encoder, tensors, 'init/encoder.', {});
    feedModule(start, modules.predictor, tensors, 'init/predictor.', {});
    feedModule(start, modules.target, tensors, 'init/target_encoder.', {}, 'init/encoder.');
    await state.write(
      new Map([...start].map(([t, v]) => [(t.node.attrs as { name: string }).name, v as HostTensor<'float32'>])),
    );
    const followers = [...modules.encoder.tensors]
      .filter(([, t]) => all.includes(t))
      .map(([name, online]) => ({ online, target: modules.target.tensors.get(name)! }));
    const rule = adamw({ betas: c.config.adamw.betas, eps: c.config.adamw.eps });
    const programs = new Map<string, Awaited<ReturnType<typeof engine.compile>>>();
    const h = c.config.hyper;
    const length = { iterationsPerEpoch: h.ipe, epochs: h.epochs, warmupEpochs: h.warmup, ipeScale: h.ipe_scale };
    const { warmupSteps, totalSteps } = schedules.scheduleSteps(length);
    const lr = schedules.warmupCosine({
      startLr: h.start_lr,
      refLr: h.ref_lr,
      finalLr: h.final_lr,
      warmupSteps,
      totalSteps,
    });
    const wd = schedules.cosineWeightDecay({ refWd: h.wd, finalWd: h.final_wd, totalSteps });
    const momentum = schedules.linearMomentum({
      start: h.ema[0],
      end: h.ema[1],
      updates: h.ipe * h.epochs * h.ipe_scale,
    } as never);
    const log: Record<string, number[]> = {
      loss64: [],
      lr64: [],
      wd64: [],
      momentum64: [],
      grad_norm64: [],
      param_norm64: [],
    };
    const images = tensors.get('images')!;
    const index = tensors.get('image_index')!;
    const [steps, batch] = index.shape;
    const pixels = images.data.length / images.shape[0];
    for (let s = 0; s < steps; s++) {
      const enc = batchFirst(tensors.get(`step${s}/masks_enc`)!);
      const pred = batchFirst(tensors.get(`step${s}/masks_pred`)!);
      const key = `${enc.shape[1]},${pred.shape[1]}`;
      let program = programs.get(key);
      if (!program) {
        const graph = stepGraph(enc.shape[1], pred.shape[1], modules, config);
        program = await engine.compile(
          {
            name: 'ijepa',
            outputs: {
              loss: graph.loss,
              encoder: gradientNorm(graph.loss, modules.encoder),
              predictor: gradientNorm(graph.loss, modules.predictor),
            },
            update: { loss: graph.loss, rule, groups: [decay, noDecay], followers },
          },
          state,
        );
        // Both programs continue one optimizer state.
        for (const other of programs.values()) await program.writeSlots(await other.readSlots());
        programs.set(key, program);
      }
      const data = new Float32Array(batch * pixels);
      for (let b = 0; b < batch; b++) {
        const from = Number(index.data[s * batch + b]) * pixels;
        data.set((images.data as Float32Array).subarray(from, from + pixels), b * pixels);
      }
      const values = {
        step: s + 1,
        groups: [
          { lr: lr(s + 1), weightDecay: wd(s + 1) },
          { lr: lr(s + 1), weightDecay: 0 },
        ],
        momentum: momentum(s),
      };
      const result = await program.run(
        { images: { dtype: 'float32', shape: [batch, ...images.shape.slice(1)], data }, context: enc, targets: pred },
        values,
      );
      for (const other of programs.values()) if (other !== program) await other.writeSlots(await program.readSlots());
      log.loss64.push(Number(result.outputs.loss.data[0]));
      log.lr64.push(lr(s + 1));
      log.wd64.push(wd(s + 1));
      log.momentum64.push(momentum(s));
      const norms = [result.outputs.encoder, result.outputs.predictor].map((t) => Number(t.data[0]));
      log.grad_norm64.push(...norms);
      if (!(Math.abs(Math.hypot(...norms) - result.gradientNorm) <= 1e-5 * result.gradientNorm))
        return [`step ${s}: the engine's gradient norm is ${result.gradientNorm}, not ${Math.hypot(...norms)}`];
      const now = await state.read();
      for (const prefix of ['encoder.', 'predictor.', 'target_encoder.']) {
        let squares = 0;
        for (const [name, { data }] of now) if (name.startsWith(prefix)) for (const v of data) squares += v * v;
        log.param_norm64.push(Math.sqrt(squares));
      }
    }
    const final = await state.read();
    const slots = await programs.values().next().value!.readSlots();
    return c.expected.map((key) => {
      const expected = tensors.get(key)!;
      const [area, ...rest] = key.split('/');
      const name = rest.join('/');
      let got: { shape: readonly number[]; data: ArrayLike<number | bigint> } | undefined;
      if (area === 'log') {
        got = log[name] && { shape: expected.shape, data: log[name] };
      } else if (area === 'final') got = final.get(name);
      else if (area === 'adam')
        got = slots.get(`${name.startsWith('exp_avg_sq/') ? 'v' : 'm'}/${name.replace(/^exp_avg(_sq)?\//, '')}`);
      if (!got) return `${key}: no value`;
      const skip = c.ignore_range?.[key];
      if (skip)
        got = {
          shape: got.shape,
          data: Array.from(got.data as Float32Array, (v, i) =>
            i >= skip[0] && i < skip[1] ? Number(expected.data[i]) : v,
          ),
        };
      return difference(key, got, expected, toleranceOf(c, key));
    });
  } finally {
    await engine.close();
  }
}

async function checkSmoothL1(c: Case, tensors: Values): Promise<(string | undefined)[]> {
  const z = input('z', tensors.get(c.inputs[0])!.shape as number[]);
  const h = input('h', z.shape as number[]);
  const loss = smoothL1Loss(z, h, c.config.beta, c.config.reduction);
  const [dz] = gradients(loss, [z]);
  const results = await evaluate(
    { loss, dz: dz! },
    new Map([
      [z, tensors.get(c.inputs[0])!],
      [h, tensors.get(c.inputs[1])!],
    ]),
    { backend: goldenBackend },
  );
  return c.expected.map((key) =>
    difference(
      key,
      key.endsWith('loss') ? { ...results.loss, shape: tensors.get(key)!.shape } : results.dz,
      tensors.get(key)!,
      toleranceOf(c, key),
    ),
  );
}

function checkSchedules(c: Case, tensors: Values): (string | undefined)[] {
  const h = c.config;
  const { warmupSteps, totalSteps } = schedules.scheduleSteps({
    iterationsPerEpoch: h.ipe,
    epochs: h.epochs,
    warmupEpochs: h.warmup_epochs,
    ipeScale: h.ipe_scale,
  });
  const made: Record<string, schedules.Schedule> = {
    lr64: schedules.warmupCosine({ startLr: h.start_lr, refLr: h.lr, finalLr: h.final_lr, warmupSteps, totalSteps }),
    wd64: schedules.cosineWeightDecay({ refWd: h.wd, finalWd: h.final_wd, totalSteps }),
    momentum64: schedules.linearMomentum({
      start: h.ema[0],
      end: h.ema[1],
      updates: h.ipe * h.epochs * h.ipe_scale,
    } as never),
  };
  return c.expected.map((key) => {
    const name = key.split('/').at(-1)!;
    const expected = tensors.get(key)!;
    const first = name === 'momentum64' ? 0 : 1;
    return difference(
      key,
      { shape: expected.shape, data: Array.from({ length: expected.data.length }, (_, i) => made[name](i + first)) },
      expected,
      toleranceOf(c, key),
    );
  });
}

const KINDS: Record<string, (c: Case, tensors: Values) => Promise<(string | undefined)[]> | (string | undefined)[]> = {
  encoder: checkEncoder,
  predictor: checkPredictor,
  target: checkTarget,
  loss_grad: checkGradients,
  smooth_l1: checkSmoothL1,
  schedules: checkSchedules,
  trajectory: checkTrajectory,
};

const harness: Harness = async function* (folder) {
  for (const c of readCases<{ cases: Case[] }>(folder).cases) {
    yield attempt(c.name, () => {
      const check = KINDS[c.kind];
      return check ? check(c, readTensors(folder, c.file)) : [`unknown kind ${c.kind}`];
    });
  }
};
export default harness;
