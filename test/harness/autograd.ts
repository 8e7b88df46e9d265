import assert from 'node:assert';
import { type HostTensor, sizeOf } from '../../src/base/tensor.js';
import type { Backend, PerAxis, Tensor } from '../../src/graph/index.js';
import * as g from '../../src/graph/index.js';
import { reachable } from '../../src/graph/lower.js';
import { checkRanges, collectRangeChecks } from '../../src/graph/ops/index.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import {
  attempt,
  difference as differenceBeyond,
  type GoldenResult,
  type Harness,
  readCases,
  readTensors,
  type Tolerance,
} from './harness.js';

/** `JEPA_TARGET` chooses where the graphs run: cpu (default), wasm or webgpu. */
const backend = (process.env.JEPA_TARGET ?? 'cpu') as Backend;

/** Factor of every tolerance: 1, but on WebGPU 2, because drivers round differently; the software driver passes at 1. */
const SLACK = backend === 'webgpu' ? 2 : 1;

// biome-ignore lint/suspicious/noExplicitAny: attributes of a case are checked by the values that come out.
type Attrs = any;
type Named = Record<string, Tensor>;
type Build = (inputs: Named, attrs: Attrs) => Tensor | Named;

interface Case {
  readonly name: string;
  readonly file: string;
  readonly op: string;
  readonly attrs: Attrs;
  readonly inputs: Readonly<Record<string, string>>;
  readonly output: Readonly<Record<string, string>>;
  readonly upstream?: Readonly<Record<string, string>>;
  readonly grads?: Readonly<Record<string, string>>;
  readonly tolerance: { readonly output: Tolerance; readonly grads?: Tolerance };
  readonly tags?: readonly string[];
}

interface SecondCase {
  readonly name: string;
  readonly file: string;
  readonly attrs: Attrs;
  readonly inputs: Readonly<Record<string, string>>;
  readonly value: string;
  readonly squared: string;
  readonly grads: Readonly<Record<string, string>>;
  readonly squaredGrads: Readonly<Record<string, string>>;
  readonly vectors: Readonly<Record<string, string>>;
  readonly hvp: Readonly<Record<string, string>>;
  readonly tolerance: Readonly<Record<'value' | 'grads' | 'squared' | 'squaredGrads' | 'hvp', Tolerance>>;
}

interface BadCall {
  readonly op: string;
  readonly attrs: Attrs;
  readonly inputs: Readonly<Record<string, { shape: number[]; dtype: string; data?: number[] }>>;
  readonly reason: string;
  readonly when: 'build' | 'run';
  readonly mustMention: readonly (string | number[])[];
}

const difference: typeof differenceBeyond = (what, got, expected, { rtol, atol }) =>
  differenceBeyond(what, got, expected, { rtol: rtol * SLACK, atol: atol * SLACK });

// Operators ----------------------------------------------------------------------------------------------------------

const unary =
  (f: (x: Tensor) => Tensor): Build =>
  ({ x }) =>
    f(x);
const binary =
  (f: (a: Tensor, b: Tensor) => Tensor): Build =>
  ({ a, b }) =>
    f(a, b);
const reduction =
  (f: (x: Tensor, axes: number[] | null, keepdims: boolean) => Tensor): Build =>
  ({ x }, a) =>
    f(x, a.axes, a.keepdims);
const ordered = ({ values, indices }: g.Ordered): Named => ({ values, indices });
const weightsOf = ({ wIh, wHh, bIh, bHh }: Named): g.RecurrentWeights => ({ wIh, wHh, bIh, bHh });
const sequence = (inputs: Named): Tensor[] =>
  Object.keys(inputs)
    .filter((name) => /^x\d+$/.test(name))
    .map((name) => inputs[name]);

const lstmOutputs = ({ h, c }: g.LstmState): Named => ({ "h'": h, "c'": c });

type Conv = (x: Tensor, weight: Tensor, options: g.ConvTransposeOptions) => Tensor;
const conv =
  (f: Conv): Build =>
  ({ x, weight, bias }, a) =>
    f(x, weight, { ...a, bias });
type Pool = (x: Tensor, kernel: PerAxis, options: g.MaxPoolOptions & g.AvgPoolOptions) => Tensor;
const pool =
  (f: Pool): Build =>
  ({ x }, a) =>
    f(x, a.kernel, a);

const hostOnly =
  (name: string): Build =>
  ({ x }) => {
    throw new Error(`${name} of ${x.shape} is not a graph operator`);
  };

const BUILD: Readonly<Record<string, Build>> = {
  add: binary(g.add),
  sub: binary(g.sub),
  mul: binary(g.mul),
  div: binary(g.div),
  pow: binary(g.pow),
  atan2: binary(g.atan2),
  maximum: binary(g.maximum),
  minimum: binary(g.minimum),
  equal: binary(g.equal),
  not_equal: binary(g.notEqual),
  less: binary(g.less),
  less_equal: binary(g.lessEqual),
  greater: binary(g.greater),
  greater_equal: binary(g.greaterEqual),
  where: ({ cond, a, b }) => g.where(cond, a, b),
  masked_fill: ({ x, mask }, { value }) => g.maskedFill(x, mask, value),
  neg: unary(g.neg),
  abs: unary(g.abs),
  sign: unary(g.sign),
  exp: unary(g.exp),
  log: unary(g.log),
  log1p: unary(g.log1p),
  expm1: unary(g.expm1),
  sqrt: unary(g.sqrt),
  rsqrt: unary(g.rsqrt),
  square: unary(g.square),
  reciprocal: unary(g.reciprocal),
  erf: unary(g.erf),
  erfinv: unary(g.erfinv),
  tanh: unary(g.tanh),
  sigmoid: unary(g.sigmoid),
  softplus: unary(g.softplus),
  sin: unary(g.sin),
  cos: unary(g.cos),
  floor: unary(g.floor),
  ceil: unary(g.ceil),
  round: unary(g.round),
  pow_scalar: ({ x }, { exponent }) => g.powScalar(x, exponent),
  clip: ({ x }, { min, max }) => g.clip(x, min, max),
  gelu: ({ x }, { approximate }) => g.gelu(x, approximate),
  quick_gelu: unary(g.quickGelu),
  silu: unary(g.silu),
  mish: unary(g.mish),
  relu: unary(g.relu),
  leaky_relu: ({ x }, { slope }) => g.leakyRelu(x, slope),
  elu: ({ x }, { alpha }) => g.elu(x, alpha),
  hardtanh: ({ x }, { min, max }) => g.hardtanh(x, min, max),
  relu6: unary(g.relu6),
  hardsigmoid: unary(g.hardsigmoid),
  hardswish: unary(g.hardswish),
  logsigmoid: unary(g.logSigmoid),
  sum: reduction(g.sum),
  mean: reduction(g.mean),
  max: reduction(g.max),
  min: reduction(g.min),
  logsumexp: reduction(g.logsumexp),
  var: ({ x }, a) => g.variance(x, a.axes, a.keepdims, a.correction),
  std: ({ x }, a) => g.std(x, a.axes, a.keepdims, a.correction),
  argmax: ({ x }, { axis, keepdims }) => g.argmax(x, axis, keepdims),
  argmin: ({ x }, { axis, keepdims }) => g.argmin(x, axis, keepdims),
  norm: ({ x }, { p, axes, keepdims }) => g.norm(x, p, axes, keepdims),
  cumsum: ({ x }, { axis, reverse, exclusive }) => g.cumsum(x, axis, { reverse, exclusive }),
  matmul: ({ a, b }, { transposeA, transposeB }) => g.matmul(a, b, { transposeA, transposeB }),
  linear: ({ x, weight, bias }) => g.linear(x, weight, bias),
  outer: binary(g.outer),
  einsum: (inputs, { equation }) => g.einsum(equation, ...sequence(inputs)),
  reshape: ({ x }, { shape }) => g.reshape(x, shape),
  transpose: ({ x }, { perm }) => g.transpose(x, perm),
  broadcast_to: ({ x }, { shape }) => g.broadcastTo(x, shape),
  expand_dims: ({ x }, { axes }) => g.expandDims(x, axes),
  squeeze: ({ x }, { axes }) => g.squeeze(x, axes),
  concat: (inputs, { axis }) => g.concat(sequence(inputs), axis),
  stack: (inputs, { axis }) => g.stack(sequence(inputs), axis),
  split: ({ x }, { axis, sizes }) => Object.fromEntries(g.split(x, axis, sizes).map((part, i) => [`part${i}`, part])),
  slice: ({ x }, { axes, starts, ends, steps }) =>
    g.slice(
      x,
      axes.map((axis: number, i: number) => ({ axis, start: starts[i], end: ends[i], step: steps[i] })),
    ),
  flip: ({ x }, { axes }) => g.flip(x, axes),
  pad: ({ x }, { pads, mode, value }) => g.pad(x, pads, mode, value),
  take_along_axis: ({ x, index }, { axis }) => g.takeAlongAxis(x, index, axis),
  batched_gather: ({ x, index }) => g.batchedGather(x, index),
  index_select: ({ x, index }, { axis }) => g.indexSelect(x, index, axis),
  embedding: ({ weight, index }) => g.embedding(weight, index),
  scatter_add: ({ x, index, src }, { axis }) => g.scatterAdd(x, index, src, axis),
  scatter: ({ x, index, src }, { axis }) => g.scatter(x, index, src, axis),
  one_hot: ({ index }, { depth }) => g.oneHot(index, depth),
  tril: ({ x }, { diagonal }) => g.tril(x, diagonal),
  triu: ({ x }, { diagonal }) => g.triu(x, diagonal),
  topk: ({ x }, { k, axis, largest }) => ordered(g.topk(x, k, axis, largest)),
  sort: ({ x }, { axis, descending }) => ordered(g.sort(x, axis, descending)),
  roll: ({ x }, { shifts, axes }) => g.roll(x, shifts, axes),
  tile: ({ x }, { repeats }) => g.tile(x, repeats),
  repeat_interleave: ({ x }, { repeats, axis }) => g.repeatInterleave(x, repeats, axis),
  softmax: ({ x }, { axis }) => g.softmax(x, axis),
  log_softmax: ({ x }, { axis }) => g.logSoftmax(x, axis),
  masked_softmax: ({ x, mask }, { axis }) => g.maskedSoftmax(x, mask, axis),
  layer_norm: ({ x, weight, bias }, { axes, eps }) => g.layerNorm(x, { axes, weight, bias, eps }),
  rms_norm: ({ x, weight }, { axes, eps }) => g.rmsNorm(x, { axes, weight, eps }),
  group_norm: ({ x, weight, bias }, { groups, eps }) => g.groupNorm(x, groups, { weight, bias, eps }),
  batch_norm_train: ({ x, weight, bias, runningMean, runningVar }, { eps, momentum }) => ({
    ...g.batchNormTrain(x, runningMean, runningVar, { weight, bias, eps, momentum }),
  }),
  batch_norm_eval: ({ x, weight, bias, runningMean, runningVar }, { eps }) =>
    g.batchNormEval(x, runningMean, runningVar, { weight, bias, eps }),
  instance_norm: ({ x, weight, bias }, { eps }) => g.instanceNorm(x, { weight, bias, eps }),
  l2_normalize: ({ x }, { axis, eps }) => g.l2Normalize(x, axis, eps),
  weight_norm: ({ v, g: scale }) => g.weightNorm(v, scale),
  attention: ({ q, k, v, mask, bias }, { scale, causal }) => g.attention(q, k, v, { mask, bias, scale, causal }),
  mha: ({ x, qkvWeight, qkvBias, projWeight, projBias }, { heads, causal }) =>
    g.mha(x, qkvWeight, projWeight, { heads, causal, qkvBias, projBias }),
  cross_attention: ({ x, context, qWeight, qBias, kvWeight, kvBias }, { heads }) =>
    g.crossAttention(x, context, qWeight, kvWeight, { heads, qBias, kvBias }),
  mse_loss: ({ x, target }, { reduction: r }) => g.mseLoss(x, target, r),
  l1_loss: ({ x, target }, { reduction: r }) => g.l1Loss(x, target, r),
  smooth_l1_loss: ({ x, target }, { beta, reduction: r }) => g.smoothL1Loss(x, target, beta, r),
  huber_loss: ({ x, target }, { delta, reduction: r }) => g.huberLoss(x, target, delta, r),
  cross_entropy: ({ logits, labels, classWeights }, { labelSmoothing, ignoreIndex, reduction: r }) =>
    g.crossEntropy(logits, labels, { classWeights, labelSmoothing, ignoreIndex, reduction: r }),
  soft_cross_entropy: ({ logits, target }, { labelSmoothing, reduction: r }) =>
    g.softCrossEntropy(logits, target, { labelSmoothing, reduction: r }),
  bce_with_logits: ({ logits, target, posWeight }, { reduction: r }) =>
    g.bceWithLogits(logits, target, { posWeight, reduction: r }),
  cosine_similarity: ({ a, b }, { axis, eps }) => g.cosineSimilarity(a, b, axis, eps),
  kl_div: ({ logInput, target }, { reduction: r, logTarget }) => g.klDiv(logInput, target, { reduction: r, logTarget }),
  conv1d: conv(g.conv1d),
  conv2d: conv(g.conv2d),
  conv3d: conv(g.conv3d),
  conv_transpose1d: conv(g.convTranspose1d),
  conv_transpose2d: conv(g.convTranspose2d),
  conv_transpose3d: conv(g.convTranspose3d),
  max_pool1d: pool(g.maxPool1d),
  max_pool2d: pool(g.maxPool2d),
  max_pool3d: pool(g.maxPool3d),
  avg_pool1d: pool(g.avgPool1d),
  avg_pool2d: pool(g.avgPool2d),
  avg_pool3d: pool(g.avgPool3d),
  adaptive_avg_pool2d: ({ x }, { size }) => g.adaptiveAvgPool2d(x, size),
  global_avg_pool: unary(g.globalAvgPool),
  resize: ({ x }, { size, mode, alignCorners, antialias }) => g.resize(x, size, { mode, alignCorners, antialias }),
  pixel_shuffle: ({ x }, { factor }) => g.pixelShuffle(x, factor),
  pixel_unshuffle: ({ x }, { factor }) => g.pixelUnshuffle(x, factor),
  im2col: ({ x }, a) => g.im2col(x, a.kernel, a),
  col2im: ({ x }, a) => g.col2im(x, a.size, a.kernel, a),
  grid_sample: ({ x, grid }, { mode, paddingMode, alignCorners }) =>
    g.gridSample(x, grid, { mode, paddingMode, alignCorners }),
  affine_grid: ({ theta }, { size, alignCorners }) => g.affineGrid(theta, size, alignCorners),
  gru_cell: (inputs) => g.gruCell(inputs.x, inputs.h, weightsOf(inputs)),
  lstm_cell: (inputs) => lstmOutputs(g.lstmCell(inputs.x, { h: inputs.h, c: inputs.c }, weightsOf(inputs))),
  gru: (inputs) => g.gru(inputs.x, inputs.h, weightsOf(inputs)),
  lstm: (inputs) => {
    const { out, ...state } = g.lstm(inputs.x, { h: inputs.h, c: inputs.c }, weightsOf(inputs));
    return { out, ...lstmOutputs(state) };
  },
  inverse: unary(g.inverse),
  logdet: unary(g.logdet),
  eigvalsh: hostOnly('eigvalsh'),
  svdvals: hostOnly('svdvals'),
  unrolled_descent: (inputs, { steps }) => unrolled(inputs, steps),
  unrolled_momentum: (inputs, { steps }) => unrolled(inputs, steps),
  mlp_classifier: mlpClassifier,
  transformer_block: ({ x, ...weights }, a) => transformerBlock(x, weights, '', a.heads, a.eps),
  tiny_vit: tinyVit,
  conv_net: convNet,
  conv_autoencoder: convAutoencoder,
  latent_rollout: latentRollout,
};

/** Operators that run on the host. */
const HOST: Readonly<Record<string, (x: HostTensor) => HostTensor>> = { eigvalsh: g.eigvalsh, svdvals: g.svdvals };

// Programs -----------------------------------------------------------------------------------------------------------

/** Inner gradient descent on an energy of z, kept in the graph; with `mu`, with momentum. */
function unrolled({ z0, x, target, W1, b1, W2, lr, mu }: Named, steps: number): Named {
  const energy = (z: Tensor): Tensor => {
    const hidden = g.tanh(g.linear(g.concat([x, z], 1), W1, b1));
    const residual = g.sum(g.square(g.linear(hidden, W2)));
    return g.add(g.mul(residual, 0.5), g.mul(g.sum(g.square(z)), 0.05));
  };
  let z = z0;
  let velocity: Tensor | undefined;
  for (let k = 0; k < steps; k++) {
    const slope = g.gradients(energy(z), [z])[0] as Tensor;
    velocity = velocity && mu ? g.add(g.mul(velocity, mu), slope) : slope;
    z = g.sub(z, g.mul(velocity, lr));
  }
  return { loss: g.mseLoss(z, target), z };
}

function mlpClassifier(p: Named): Named {
  const layer = (x: Tensor, name: string): Tensor => g.linear(x, p[`${name}.weight`], p[`${name}.bias`]);
  const logits = layer(g.gelu(layer(g.gelu(layer(p.x, 'fc1')), 'fc2')), 'fc3');
  return { loss: g.crossEntropy(logits, p.labels), logits };
}

function transformerBlock(x: Tensor, p: Named, prefix: string, heads: number, eps: number): Tensor {
  const at = (name: string): Tensor => p[`${prefix}${name}`];
  const norm = (t: Tensor, name: string): Tensor =>
    g.layerNorm(t, { weight: at(`${name}.weight`), bias: at(`${name}.bias`), eps });
  const attended = g.mha(norm(x, 'norm1'), at('attn.qkv.weight'), at('attn.proj.weight'), {
    heads,
    qkvBias: at('attn.qkv.bias'),
    projBias: at('attn.proj.bias'),
  });
  const middle = g.add(x, attended);
  const hidden = g.gelu(g.linear(norm(middle, 'norm2'), at('mlp.fc1.weight'), at('mlp.fc1.bias')));
  return g.add(middle, g.linear(hidden, at('mlp.fc2.weight'), at('mlp.fc2.bias')));
}

function tinyVit(p: Named, { heads, patch, eps }: Attrs): Named {
  const patches = g.conv2d(p.image, p['patch.weight'], { bias: p['patch.bias'], stride: patch });
  const [batch, width, rows, columns] = patches.shape as number[];
  const tokens = g.transpose(g.reshape(patches, [batch, width, rows * columns]), [0, 2, 1]);
  const blocks = Object.keys(p).filter((name) => /^blocks\.\d+\.norm1\.weight$/.test(name)).length;
  let x = g.add(tokens, p.pos);
  for (let i = 0; i < blocks; i++) x = transformerBlock(x, p, `blocks.${i}.`, heads, eps);
  const pooled = g.mean(g.layerNorm(x, { weight: p['norm.weight'], bias: p['norm.bias'], eps }), 1);
  return { loss: g.smoothL1Loss(pooled, p.target), pooled };
}

function convNet(p: Named, { eps }: Attrs): Named {
  const norm = (x: Tensor, name: string): Tensor => {
    const still = g.zeros([x.shape[1]]);
    return g.batchNormTrain(x, still, still, { weight: p[`${name}.weight`], bias: p[`${name}.bias`], eps }).out;
  };
  const first = g.maxPool2d(g.relu(norm(g.conv2d(p.x, p['conv1.weight'], { padding: 1 }), 'bn1')), 2);
  const second = g.relu(norm(g.conv2d(first, p['conv2.weight'], { stride: 2, padding: 1 }), 'bn2'));
  const logits = g.linear(g.globalAvgPool(second), p['fc.weight'], p['fc.bias']);
  return { loss: g.crossEntropy(logits, p.labels), logits };
}

function convAutoencoder(p: Named, { groups }: Attrs): Tensor {
  const code = g.conv1d(p.x, p['enc.weight'], { bias: p['enc.bias'], stride: 2, padding: 1 });
  const hidden = g.silu(g.groupNorm(code, groups, { weight: p['gn.weight'], bias: p['gn.bias'] }));
  const back = g.convTranspose1d(hidden, p['dec.weight'], { bias: p['dec.bias'], stride: 2, padding: 1 });
  return g.mseLoss(back, p.x);
}

function latentRollout(p: Named): Named {
  const actions = g.linear(p.actions, p['action.weight'], p['action.bias']);
  const states: Tensor[] = [];
  for (let t = 0; t < (p.actions.shape[0] as number); t++) {
    const action = g.squeeze(g.narrow(actions, 0, t, 1), 0);
    states.push(g.gruCell(action, states.at(-1) ?? p.z0, weightsOf(p)));
  }
  const all = g.stack(states, 0);
  return { loss: g.mseLoss(all, p.targets), states: all };
}

/** Scalar functions of the second-derivative cases. */
const SECOND: Readonly<Record<string, (p: Named, a: Attrs) => Tensor>> = {
  tanh_mlp: ({ x, W1, b1, W2, b2, y }) => g.mseLoss(g.linear(g.tanh(g.linear(x, W1, b1)), W2, b2), y),
  gelu_mlp: ({ x, W1, W2, y }) => g.mseLoss(g.linear(g.gelu(g.linear(x, W1)), W2), y),
  softmax_attention: ({ q, k, v, w }) => {
    // q, k and v may have any leading axes.
    const width = q.shape.at(-1) as number;
    const scores = g.matmul(q, k, { transposeB: true, alpha: 1 / Math.sqrt(width) });
    return g.sum(g.mul(w, g.matmul(g.softmax(scores), v)));
  },
  layer_norm: ({ x, g: weight, c: bias, w }, { eps }) =>
    g.sum(g.mul(w, g.square(g.layerNorm(x, { weight, bias, eps })))),
  rms_norm: ({ x, g: weight, w }, { eps }) => g.sum(g.mul(w, g.powScalar(g.rmsNorm(x, { weight, eps }), 3))),
  conv2d: ({ x, w, c }, { stride, padding }) => g.mean(g.square(g.silu(g.conv2d(x, w, { bias: c, stride, padding })))),
  conv_transpose2d: ({ x, w }, { stride, padding, outputPadding }) =>
    g.mean(g.square(g.tanh(g.convTranspose2d(x, w, { stride, padding, outputPadding })))),
  logsumexp: ({ x, w }) => g.sum(g.mul(w, g.square(g.logsumexp(x, 1)))),
  cross_entropy: ({ x, W, labels }) => g.crossEntropy(g.linear(x, W), labels),
  division: ({ a, b, w }) => g.sum(g.mul(w, g.div(a, b))),
  cosine: ({ a, b }, { eps }) => g.mean(g.cosineSimilarity(a, b, -1, eps)),
  variance_hinge: ({ z }) => {
    const [n, d] = z.shape as number[];
    const hinge = g.mean(g.relu(g.sub(2, g.sqrt(g.add(g.variance(z, 0), 1e-4)))));
    const centred = g.sub(z, g.mean(z, 0));
    const squares = g.square(g.matmul(centred, centred, { transposeA: true, alpha: 1 / (n - 1) }));
    const off = g.sub(1, g.oneHot(g.iota(d), d));
    return g.add(hinge, g.div(g.sum(g.mul(squares, off)), d * (d - 1)));
  },
  batch_norm: ({ x, g: weight, c: bias, w }, { eps }) => {
    const still = g.zeros([x.shape[1]]);
    return g.mean(g.mul(w, g.tanh(g.batchNormTrain(x, still, still, { weight, bias, eps }).out)));
  },
  gru: (p) => g.mean(g.square(g.gru(p.x, p.h, weightsOf(p)).last)),
  pow_exp: ({ x, y }) => g.sum(g.add(g.mul(g.exp(g.neg(g.square(x))), g.powScalar(y, 1.5)), g.mul(g.log(y), x))),
  gather: ({ x, index, w }) => g.sum(g.mul(w, g.powScalar(g.indexSelect(x, index, 0), 3))),
};

// Checks -------------------------------------------------------------------------------------------------------------

const asBool = (t: HostTensor): HostTensor => (t.dtype === 'uint8' ? ({ ...t, dtype: 'bool' } as HostTensor) : t);

class Inputs {
  readonly tensors: Named = {};
  readonly feeds = new Map<Tensor, HostTensor>();

  add(name: string, value: HostTensor): Tensor {
    const host = asBool(value);
    const tensor = g.input(name, host.shape, host.dtype as g.DType);
    this.feeds.set(tensor, host);
    return tensor;
  }
}

function load(source: ReadonlyMap<string, HostTensor>, keys: Readonly<Record<string, string>>): Inputs {
  const inputs = new Inputs();
  for (const [name, key] of Object.entries(keys)) inputs.tensors[name] = inputs.add(name, find(source, key));
  return inputs;
}

function find(source: ReadonlyMap<string, HostTensor>, key: string): HostTensor {
  const value = source.get(key);
  assert(value, `no tensor ${key}`);
  return value;
}

const outputsOf = (built: Tensor | Named): Named => ('node' in built ? { out: built as Tensor } : (built as Named));

function zerosLike(shape: readonly number[]): HostTensor {
  return { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) };
}

async function checkCase(folder: string, c: Case): Promise<(string | undefined)[]> {
  const source = readTensors(folder, c.file);
  const host = HOST[c.op];
  if (host) {
    const out = host(find(source, c.inputs.x));
    return [difference('out', out, find(source, c.output.out), c.tolerance.output)];
  }
  const build = BUILD[c.op];
  if (!build) return [`unknown operator ${c.op}`];
  const inputs = load(source, c.inputs);
  const outputs = outputsOf(build(inputs.tensors, c.attrs));
  const wanted: Named = {};
  for (const name of Object.keys(c.output)) {
    if (!outputs[name]) return [`no output ${name}`];
    wanted[`output ${name}`] = outputs[name];
  }
  const graded = Object.keys(c.grads ?? {});
  const upstream = Object.entries(c.upstream ?? {}).map(([name, key]) => ({
    output: outputs[name],
    upstream: inputs.add(`upstream ${name}`, find(source, key)),
  }));
  const flows = g.gradients(
    upstream,
    graded.map((name) => inputs.tensors[name]),
  );
  graded.forEach((name, i) => {
    const flow = flows[i];
    if (flow) wanted[`grad ${name}`] = flow;
  });
  const got = await evaluate(wanted, inputs.feeds, { backend });
  const failures: (string | undefined)[] = [];
  const { tags = [] } = c;
  for (const [name, key] of Object.entries(c.output)) {
    const value = got[`output ${name}`];
    const expected = find(source, key);
    if (tags.includes('unspecified') && value.dtype === 'int32') {
      failures.push(sameValues(find(source, c.inputs.x), value, expected, c.attrs));
    } else {
      failures.push(difference(name, value, expected, c.tolerance.output));
    }
  }
  for (const name of graded) {
    const expected = find(source, (c.grads as Record<string, string>)[name]);
    const value = got[`grad ${name}`] ?? zerosLike(expected.shape);
    assert(c.tolerance.grads);
    const problem = difference(`grad ${name}`, value, expected, c.tolerance.grads);
    if (!problem || !tags.includes('unspecified')) failures.push(problem);
    else failures.push(sameSums(`grad ${name}`, value, expected, find(source, c.inputs[name]), c));
  }
  return failures;
}

/** Ties: indices may differ where they point at equal values of x. */
function sameValues(
  x: HostTensor,
  got: HostTensor,
  expected: HostTensor,
  { axis, keepdims }: Attrs,
): string | undefined {
  const rank = x.shape.length;
  const at = axis < 0 ? axis + rank : axis;
  const ranked = (t: HostTensor): HostTensor =>
    t.shape.length === rank || keepdims ? t : { ...t, shape: t.shape.toSpliced(at, 0, 1) };
  const picked = (index: HostTensor): HostTensor => {
    const { shape, data } = ranked(index);
    const out = new Float32Array(data.length);
    for (let i = 0; i < data.length; i++) {
      let rest = i;
      let offset = 0;
      let stride = 1;
      for (let d = rank - 1; d >= 0; d--) {
        const position = d === at ? Number(data[i]) : rest % shape[d];
        if (position < 0 || position >= x.shape[d]) return { dtype: 'float32', shape, data: out.fill(Number.NaN) };
        offset += position * stride;
        stride *= x.shape[d];
        rest = Math.floor(rest / shape[d]);
      }
      out[i] = Number(x.data[offset]);
    }
    return { dtype: 'float32', shape, data: out };
  };
  return difference('values at the indices', picked(got), picked(expected), { rtol: 0, atol: 0 });
}

/** Ties: the gradient may be distributed in another way over equal entries of one row or window; its sum is fixed. */
function sameSums(what: string, got: HostTensor, expected: HostTensor, x: HostTensor, c: Case): string | undefined {
  if (got.shape.join() !== expected.shape.join()) return `${what}: shape [${got.shape}]`;
  const group = groupOf(x, c.attrs);
  const sums = (t: HostTensor): HostTensor => {
    const totals = new Map<string, number>();
    t.data.forEach((value: number | bigint, i: number) => {
      const key = `${group(i)}:${x.data[i]}`;
      totals.set(key, (totals.get(key) ?? 0) + Number(value));
    });
    const data = Float64Array.from(
      [...totals].sort(([a], [b]) => (a < b ? -1 : 1)),
      ([, total]) => total,
    );
    return { dtype: 'float64', shape: [data.length], data };
  };
  return difference(`${what} summed over ties`, sums(got), sums(expected), c.tolerance.grads as Tolerance);
}

/** Which row (operators along an axis) or which window (pooling without overlap) an element belongs to. */
function groupOf({ shape }: HostTensor, { axis, kernel, stride, padding }: Attrs): (index: number) => string {
  if (kernel) assert(String(kernel) === String(stride) && padding.every((p: number) => p === 0), 'windows overlap');
  return (index) => {
    let rest = index;
    const position = shape.map(() => 0);
    for (let d = shape.length - 1; d >= 0; d--) {
      position[d] = rest % shape[d];
      rest = Math.floor(rest / shape[d]);
    }
    if (kernel) return position.map((p, d) => (d < 2 ? p : Math.floor(p / kernel[d - 2]))).join();
    return position.toSpliced(axis < 0 ? axis + shape.length : axis, 1).join();
  };
}

async function checkSecond(folder: string, c: SecondCase): Promise<(string | undefined)[]> {
  const build = SECOND[c.name];
  if (!build) return [`unknown program ${c.name}`];
  const source = readTensors(folder, c.file);
  const inputs = load(source, c.inputs);
  const names = Object.keys(c.grads);
  const variables = names.map((name) => inputs.tensors[name]);
  const value = build(inputs.tensors, c.attrs);
  const grads = g.gradients(value, variables) as Tensor[];
  const squared = grads.map((t) => g.sum(g.square(t))).reduce((a, b) => g.add(a, b));
  const alongVector = grads
    .map((t, i) => g.sum(g.mul(t, inputs.add(`vector ${names[i]}`, find(source, c.vectors[names[i]])))))
    .reduce((a, b) => g.add(a, b));
  const squaredGrads = g.gradients(squared, variables);
  const hvp = g.gradients(alongVector, variables);
  const wanted: Named = { value, squared };
  names.forEach((name, i) => {
    wanted[`grads ${name}`] = grads[i];
    if (squaredGrads[i]) wanted[`squaredGrads ${name}`] = squaredGrads[i];
    if (hvp[i]) wanted[`hvp ${name}`] = hvp[i];
  });
  const got = await evaluate(wanted, inputs.feeds, { backend });
  const failures = (['value', 'squared'] as const).map((key) =>
    difference(key, got[key], find(source, c[key]), c.tolerance[key]),
  );
  for (const key of ['grads', 'squaredGrads', 'hvp'] as const) {
    for (const name of names) {
      const expected = find(source, c[key][name]);
      const what = `${key} ${name}`;
      failures.push(difference(what, got[what] ?? zerosLike(expected.shape), expected, c.tolerance[key]));
    }
  }
  return failures;
}

/** A bad call must be refused, when built or before it runs, in words that name the operator and the listed shapes. */
function checkBadCall(c: BadCall): string[] {
  const build = BUILD[c.op];
  if (!build) return [`unknown operator ${c.op}`];
  let message: string | undefined;
  try {
    const inputs: Named = {};
    const values = new Map<string, HostTensor>();
    for (const [name, { shape, dtype, data }] of Object.entries(c.inputs)) {
      const type = (dtype === 'uint8' ? 'bool' : dtype) as g.DType;
      inputs[name] = g.input(name, shape, type);
      if (data) values.set(name, { dtype: 'int32', shape, data: Int32Array.from(data) });
    }
    const outputs = outputsOf(build(inputs, c.attrs));
    if (c.when === 'run') checkRanges(collectRangeChecks(reachable(Object.values(outputs))), values, new Map());
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'JepaError') return [`not a JepaError: ${error}`];
    message = error.message;
  }
  if (message === undefined) return ['was accepted'];
  if (message.includes('\n')) return [`more than one line: ${message}`];
  const text = message;
  return c.mustMention
    .filter((item) =>
      typeof item === 'string'
        ? !text.includes(item)
        : !new RegExp(`(?<![\\d,x] *)${item.join(' *[,x] *')}(?! *[,x] *\\d|\\d)`).test(text),
    )
    .map((item) => `the message does not mention ${item}: ${text}`);
}

const harness: Harness = async function* (folder): AsyncIterable<GoldenResult> {
  const { cases, second, errors } = readCases<{ cases: Case[]; second: SecondCase[]; errors: BadCall[] }>(folder);
  for (const c of cases) yield attempt(c.name, () => checkCase(folder, c));
  for (const c of second) yield attempt(`second/${c.name}`, () => checkSecond(folder, c));
  for (const [i, c] of errors.entries()) {
    yield attempt(`errors/${i} ${c.op}: ${c.reason}`, () => checkBadCall(c));
  }
};

export default harness;
