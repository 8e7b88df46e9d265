import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { add, clip, erfinv, gelu, mul } from '../../src/graph/ops/elementwise.js';
import { concat } from '../../src/graph/ops/move.js';
import { layerNorm, softmax } from '../../src/graph/ops/normalise.js';
import type { Tensor } from '../../src/graph/tensor.js';
import { ijepaModules, ijepaPredictor } from '../../src/methods/ijepa.js';
import { dropFactor, dropPathRates } from '../../src/nn/drop-path.js';
import { interpolatePositions, type PositionRule } from '../../src/nn/interpolate.js';
import { cutPatches, projectPatches } from '../../src/nn/patches.js';
import { gridPositions, sineCosine } from '../../src/nn/positions.js';
import { attend, block, norm, type TransformerConfig } from '../../src/nn/transformer.js';
import { VIT_SIZES, type VitSize, vitConfig } from '../../src/nn/vit.js';
import { initialValues, type Module, under, type Weights } from '../../src/nn/weights.js';
import { attempt, difference, type Harness, readCases, readTensors, type Tolerance } from './harness.js';
import { evaluateLoss } from './loss-case.js';

interface Statistics {
  n: number;
  shape: number[];
  expected_std?: number;
  constant?: number;
}

interface Case extends Tolerance {
  name: string;
  kind: string;
  file: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: each kind has its own
  config: Record<string, any>;
  inputs: string[];
  weights: string[];
  expected: string[];
  tolerances?: Record<string, Tolerance>;
  rates?: Record<string, number[]>;
  encoder?: Record<string, Statistics>;
  predictor?: Record<string, Statistics>;
}

type Failures = (string | undefined)[];
type Values = Readonly<Record<string, HostTensor>>;
type Tensors = Readonly<Record<string, Tensor>>;

function toleranceOf({ tolerances = {}, rtol, atol }: Case, key: string): Tolerance {
  const prefix = Object.keys(tolerances).find((k) => k.endsWith('*') && key.startsWith(k.slice(0, -1)));
  return tolerances[key] ?? (prefix === undefined ? { rtol, atol } : tolerances[prefix]);
}

/** The case's tensors under their names without the case's own prefix. */
function local(folder: string, { file, inputs, weights, expected }: Case): { prefix: string; values: Values } {
  const tensors = readTensors(folder, file!);
  const all = [...inputs, ...weights, ...expected];
  const [first] = all;
  let prefix = first.slice(0, first.lastIndexOf('/') + 1);
  while (!all.every((key) => key.startsWith(prefix)))
    prefix = prefix.slice(0, prefix.lastIndexOf('/', prefix.length - 2) + 1);
  const values: Record<string, HostTensor> = {};
  for (const key of all) {
    const tensor = tensors.get(key);
    if (!tensor) throw new Error(`the file lacks ${key}`);
    values[key.slice(prefix.length)] = tensor;
  }
  return { prefix, values };
}

/** Compares what was computed, under local names, with everything that the case expects. */
function compare(each: Case, prefix: string, got: Values, expected: Values): Failures {
  return each.expected.map((key) => {
    const name = key.slice(prefix.length);
    return got[name] ? difference(key, got[name], expected[name], toleranceOf(each, key)) : `${key}: no such output`;
  });
}

/** Outputs and, for the upstream gradient `dy` of y, gradients of every other input, checked against the case. */
async function differentiated(
  folder: string,
  each: Case,
  build: (inputs: Tensors) => Tensors,
  prepare: (values: Values) => Values = (values) => values,
): Promise<Failures> {
  const { prefix, values } = local(folder, each);
  const { dy, ...inputs } = prepare(given(each, prefix, values));
  const wrt = each.expected.flatMap((key) => (key.startsWith(`${prefix}grad/`) ? [key.slice(prefix.length + 5)] : []));
  const result = await evaluateLoss(inputs, build, wrt, { y: dy });
  const grads = Object.entries(result.gradients).map(([name, value]) => [`grad/${name}`, value] as const);
  return compare(each, prefix, { ...result.outputs, ...Object.fromEntries(grads) }, values);
}

const given = ({ inputs, weights }: Case, prefix: string, values: Values): Values =>
  Object.fromEntries(
    [...inputs, ...weights].map((key) => [key.slice(prefix.length), values[key.slice(prefix.length)]]),
  );

// ---- kinds ------------------------------------------------------------------------------------------------------------

const withClassToken = (table: ArrayLike<number>, width: number, classToken: boolean): HostTensor => {
  const lead = classToken ? width : 0;
  const data = new Float32Array(lead + table.length);
  data.set(table, lead);
  return float32([data.length / width, width], data);
};

function positionTable(folder: string, each: Case): Failures {
  const { values } = local(folder, each);
  const { width, grid, order, length, class_token = false } = each.config;
  const orders: Record<string, 'column-first' | 'row-first'> = {
    'column,row': 'column-first',
    'row,column': 'row-first',
  };
  if (each.kind === 'sincos2d' && !orders[order]) return [`unknown order ${order}`];
  const make: Record<string, () => ArrayLike<number>> = {
    sincos2d: () => gridPositions(grid, width, orders[order]),
    sincos1d: () =>
      sineCosine(
        Array.from({ length }, (_, i) => i),
        width,
      ),
    sincos1d_positions: () => sineCosine(values.p.data as Float32Array, width),
  };
  return [difference('table', withClassToken(make[each.kind](), width, class_token), values.table, each)];
}

const embedding = (folder: string, each: Case): Promise<Failures> =>
  differentiated(folder, each, (t) => {
    const { patch, tubelet } = each.config;
    const sizes = each.kind === 'tubelet_embed' ? [tubelet, patch, patch] : [patch, patch];
    return { y: projectPatches(cutPatches(t.x, sizes), t['proj.weight'], t['proj.bias']) };
  });

function elementwise(folder: string, each: Case): Promise<Failures> | Failures {
  const form = each.name.split('/').at(-1);
  if (each.kind === 'softmax') return differentiated(folder, each, ({ x }) => ({ y: softmax(x) }));
  if (form !== 'erf' && form !== 'tanh') return [`unknown form of gelu ${form}`];
  return differentiated(folder, each, ({ x }) => ({ y: gelu(x, form === 'erf' ? 'none' : 'tanh') }));
}

/** Rows are stored apart: y0, y1, ... */
async function rowsOfNorm(folder: string, each: Case): Promise<Failures> {
  const { prefix, values } = local(folder, each);
  const { dy, ...inputs } = given(each, prefix, values);
  const build = ({ x, weight, bias }: Tensors): Tensors => ({
    y: layerNorm(x, { weight, bias, eps: each.config.eps }),
  });
  const { outputs, gradients } = await evaluateLoss(inputs, build, Object.keys(inputs), { y: dy });
  const rows = (name: string, { shape: [count, width], data }: HostTensor): [string, HostTensor][] =>
    Array.from({ length: count }, (_, i) => [
      `${name}${i}`,
      float32([width], (data as Float32Array).slice(i * width, (i + 1) * width)),
    ]);
  const { x, ...others } = gradients;
  const rest = Object.entries(others).map(([name, value]): [string, HostTensor] => [`grad/${name}`, value]);
  return compare(each, prefix, Object.fromEntries([...rows('y', outputs.y), ...rows('grad/x', x), ...rest]), values);
}

function transformerConfig(config: Case['config']): TransformerConfig {
  const { width, heads, mlp_ratio, mlp_hidden = width * mlp_ratio, qkv_bias, eps } = config;
  return { width, depth: 1, heads, mlpWidth: mlp_hidden, qkvBias: qkv_bias, eps };
}

function transformerBlock(folder: string, each: Case): Promise<Failures> {
  const config = transformerConfig(each.config);
  const factors = ({ data, shape }: HostTensor): HostTensor =>
    float32(
      [shape[0], 1, 1],
      Array.from(data as Float32Array, (u) => dropFactor(each.config.prob, u)),
    );
  return differentiated(
    folder,
    each,
    (t) => {
      const w: Weights = (name) => t[name];
      const drop = t.u_mlp && { attention: t.u_attention, mlp: t.u_mlp };
      const normed = norm(t.x, under(w, 'norm1.'), config.eps);
      return { y: block(t.x, w, config, { drop }), attention: attend(normed, under(w, 'attn.'), config).probabilities };
    },
    ({ u_attention, u_mlp, ...values }) =>
      u_mlp ? { ...values, u_attention: factors(u_attention), u_mlp: factors(u_mlp) } : values,
  );
}

async function dropPath(folder: string, each: Case): Promise<Failures> {
  const { prob } = each.config;
  const { prefix, values } = local(folder, each);
  const factors = Array.from(values.u.data as Float32Array, (u) => dropFactor(prob, u));
  const factor = float32([factors.length, ...values.x.shape.slice(1).map(() => 1)], factors);
  const inputs = { x: values.x, factor };
  const { outputs, gradients } = await evaluateLoss(inputs, (t) => ({ y: mul(t.x, t.factor) }), ['x'], {
    y: values.dy,
  });
  const keep = float32(
    values.keep.shape,
    factors.map((f) => Number(f > 0)),
  );
  return compare(each, prefix, { ...outputs, keep, 'grad/x': gradients.x }, values);
}

const dropPathRatesCase = ({ rates = {}, ...tolerance }: Case): Failures =>
  Object.entries(rates).map(([key, expected]) => {
    const [rate, depth] = key.split('/').map(Number);
    const got = dropPathRates(rate, depth);
    return difference(key, { shape: [got.length], data: got }, { shape: [expected.length], data: expected }, tolerance);
  });

async function truncatedNormal(folder: string, each: Case): Promise<Failures> {
  const { mean, std, a, b } = each.config;
  const { prefix, values } = local(folder, each);
  const build = ({ u }: Tensors): Tensors => ({ y: clip(add(mul(erfinv(u), std * Math.SQRT2), mean), a, b) });
  return compare(each, prefix, (await evaluateLoss({ u: values.u }, build, [])).outputs, values);
}

/** Fresh parameters have the reference's names, shapes, constants and spread. */
function initStatistics({ config, encoder = {}, predictor = {} }: Case): Failures {
  const size = String(config.encoder).replace('vit_', '') as VitSize;
  if (!(size in VIT_SIZES)) return [`unknown encoder ${config.encoder}`];
  const rescale = /^constructor/.test(config.stage);
  if (!rescale && !/^after the training helper/.test(config.stage)) return [`unknown stage ${config.stage}`];
  const vit = vitConfig({ size, imageSize: config.crop, patchSize: config.patch, heads: config.heads });
  const predicting = ijepaPredictor(vit, config.predictor_width, config.predictor_depth);
  const modules = ijepaModules({ encoder: vit, predictor: predicting }, rescale);
  return [...moduleStatistics(modules.encoder, encoder), ...moduleStatistics(modules.predictor, predictor)];
}

function moduleStatistics(module: Module, expected: Record<string, Statistics>): Failures {
  const values = initialValues(module, createRandom(1));
  const names = [...module.spec].flatMap(([name, { trainable }]) => (trainable ? [name] : []));
  const failures: Failures = [
    ...names.filter((name) => !expected[name]).map((name) => `${name}: unexpected`),
    ...Object.keys(expected)
      .filter((name) => !names.includes(name))
      .map((name) => `${name}: missing`),
  ];
  for (const name of names.filter((n) => expected[n])) {
    const { n, shape, expected_std, constant } = expected[name];
    const { data, shape: ours } = values.get(`${module.prefix}${name}`)!;
    if (ours.join() !== shape.join() || sizeOf(ours) !== n) failures.push(`${name}: shape [${ours}], not [${shape}]`);
    if (expected_std === undefined) {
      failures.push(data.every((v) => v === constant) ? undefined : `${name}: not all ${constant}`);
      continue;
    }
    const mean = data.reduce((a, b) => a + b, 0) / n;
    const std = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1));
    if (!(Math.abs(mean) < (5 * expected_std) / Math.sqrt(n))) failures.push(`${name}: mean ${mean}`);
    if (!(Math.abs(std / expected_std - 1) < 5 / Math.sqrt(2 * n))) failures.push(`${name}: std ${std}`);
  }
  return failures;
}

const RULES: Record<string, PositionRule> = {
  'bicubic by size': 'hugging-face',
  'bicubic by size, antialias': 'antialiased',
  'bicubic by scale factor': 'vjepa-image',
  'bicubic by scale factor with 0.1 offset': 'dino',
  'trilinear by scale factor': 'linear',
};

async function interpolate(folder: string, each: Case): Promise<Failures> {
  const { rule, grid, to, prefix_tokens = 0 } = each.config;
  if (!RULES[rule]) return [`unknown rule ${rule}`];
  if (each.inputs.length !== (prefix_tokens > 0 ? 2 : 1)) return [`${each.inputs.length} inputs`];
  const { prefix, values } = local(folder, each);
  const [table, token] = each.inputs.map((key) => key.slice(prefix.length));
  const name = each.expected[0].slice(prefix.length);
  const { outputs } = await evaluateLoss(
    given(each, prefix, values),
    (t) => {
      const resized = interpolatePositions(t[table], grid, to, RULES[rule]);
      return { [name]: token ? concat([t[token], resized], 1) : resized };
    },
    [],
  );
  return compare(each, prefix, outputs, values);
}

const KINDS: Record<string, (folder: string, each: Case) => Promise<Failures> | Failures> = {
  sincos2d: positionTable,
  sincos1d: positionTable,
  sincos1d_positions: positionTable,
  patch_embed: embedding,
  tubelet_embed: embedding,
  gelu: elementwise,
  softmax: elementwise,
  layer_norm: rowsOfNorm,
  block: transformerBlock,
  drop_path: dropPath,
  drop_path_block: transformerBlock,
  drop_path_rates: (_, each) => dropPathRatesCase(each),
  trunc_normal: truncatedNormal,
  init_statistics: (_, each) => initStatistics(each),
  interpolate,
};

const harness: Harness = async function* (folder) {
  for (const each of readCases<{ cases: Case[] }>(folder).cases) {
    yield await attempt(each.name, () => KINDS[each.kind]?.(folder, each) ?? [`unknown kind ${each.kind}`]);
  }
};

export default harness;
