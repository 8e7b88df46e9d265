import { float32, type HostTensor, int32, sizeOf } from '../../src/base/tensor.js';
import { averageScores, clipTokens } from '../../src/eval/clips.js';
import { crossEntropy } from '../../src/graph/ops/losses.js';
import { concat, stack } from '../../src/graph/ops/move.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import {
  type ClassifierConfig,
  classifierConfig,
  classifierSpec,
  classify,
  type PoolerConfig,
  pooler,
  poolerConfig,
  poolerSpec,
} from '../../src/nn/attentive.js';
import { interpolatePositions, type PositionRule } from '../../src/nn/interpolate.js';
import { predictAll, predictDense, predictorSpec, predictPair } from '../../src/nn/predictor.js';
import { tokenGrid, type VitForward, vit, vitLayers, vitRepresentation, vitSpec } from '../../src/nn/vit.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import { goldenBackend } from './target.js';
import {
  compare,
  encoderConfig,
  type Failures,
  type Feed,
  fed,
  filled,
  type Opened,
  outcome,
  predictorConfig,
  type VideoCase,
} from './video-case.js';

/** Checks of networks that V-JEPA and V-JEPA 2 have both. */

/** Numbers at the end of keys like `mask.1.0`; the key's first part must be `name`. */
const indexed = (keys: readonly string[], name: string): readonly string[] =>
  keys.filter((key) => key === name || key.startsWith(`${name}.`)).map((key) => key.slice(name.length));

/** An encoder: clips or images, masks, hidden states, listed layers, levels, other sizes, gradients. */
export async function checkEncoder(each: Opened, rule: PositionRule): Promise<Failures> {
  const config = encoderConfig(each.config);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'encoder.', vitSpec(config));
  const { weights } = module;
  const what = each.inputs[0].split('.')[0];
  const masks = new Map(indexed(each.inputs, 'mask').map((at) => [at, fed(each, feed, `mask${at}`)]));
  const outputs: Record<string, Tensor> = {};
  for (const at of indexed(each.inputs, what)) {
    const x = fed(each, feed, `${what}${at}`);
    const positions = tableFor(x, each, config, weights, rule);
    if (positions) outputs.table = positions;
    const options: VitForward = { positions };
    const own = [...masks].filter(([name]) => name.startsWith(at));
    const state = (visible?: Tensor): Tensor => {
      const onState = (tokens: Tensor, i: number): void => {
        if (each.expected.includes(`hidden.${i}`)) outputs[`hidden.${i}`] = tokens;
      };
      return vit(x, weights, config, { ...options, visible, onState });
    };
    if (each.config.out_layers) {
      vitLayers(x, weights, config, each.config.out_layers).forEach((tokens, i) => {
        outputs[`out.${i}`] = tokens;
      });
    } else if (own.length === 0) outputs[`out${at}`] = state();
    else if (each.expected.includes('out') || own.length === 1)
      outputs.out = concat(
        own.map(([, mask]) => state(mask)),
        0,
      );
    else for (const [name, mask] of own) outputs[`out${name}`] = state(mask);
    if (config.levels) {
      outputs.levels = vitRepresentation(x, weights, config);
      for (const mask of masks.values())
        outputs.levels_masked = vitRepresentation(x, weights, config, { visible: mask });
      if (masks.size > 0) outputs.out = vit(x, weights, config);
      for (const key of each.expected.filter((k) => k.startsWith('layer.')))
        [outputs[key]] = vitLayers(x, weights, config, [Number(key.slice(6))]);
    }
  }
  const upstream = each.inputs.includes('dout') ? each.value('dout') : undefined;
  const of = upstream && { output: outputs.out, upstream };
  return compare(each, await outcome(each, feed, outputs, of && { of, modules: [module], inputs: inputsOf(feed) }));
}

/** Inputs under their names in the case. */
const inputsOf = (feed: Feed): Record<string, Tensor> =>
  Object.fromEntries([...feed.keys()].map((t) => [(t.node.attrs as { name: string }).name.replace('input ', ''), t]));

function tableFor(
  x: Tensor,
  each: Opened,
  config: ReturnType<typeof encoderConfig>,
  weights: (name: string) => Tensor,
  rule: PositionRule,
): Tensor | undefined {
  if (typeof config.positions !== 'string' || !each.expected.includes('table')) return undefined;
  const { tubeletSize, patchSize } = config;
  const sizes = [...(tubeletSize === undefined ? [] : [tubeletSize]), patchSize, patchSize];
  const to = x.shape.slice(2).map((side, i) => (side as number) / sizes[i]);
  const own = tubeletSize === undefined ? 'vjepa-image' : rule;
  return interpolatePositions(weights('pos_embed'), tokenGrid(config), to, own);
}

/** A predictor: mask tokens, groups, all tokens, V-JEPA 2.1's two outputs, gradients. */
export async function checkPredictor(each: Opened, tokenOf: (at: string) => number): Promise<Failures> {
  const config = predictorConfig(each.config);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'predictor.', predictorSpec(config));
  const { weights } = module;
  const outputs: Record<string, Tensor> = {};
  for (const at of indexed(each.inputs, 'context')) {
    const context = fed(each, feed, `context${at}`);
    const visible = fed(each, feed, `context_mask${at}`);
    const targets = fed(each, feed, `target_mask${at}`);
    const maskIndex = each.config.mask_index ?? tokenOf(at);
    if (config.dense) {
      const options = { maskIndex, still: each.config.modality === 'image' };
      const dense = predictDense(context, visible, targets, weights, config, options);
      Object.assign(outputs, { target_out: dense.targets, context_out: dense.context });
    } else if (each.config.return_all_tokens) {
      const kept = sortedTokens(each, each.config.chop_last_n_tokens ?? 0);
      const keep = input('keep', kept.shape, 'int32');
      feed.set(keep, kept);
      outputs.out = predictAll(context, visible, targets, keep, weights, config, { maskIndex });
    } else outputs[`out${at}`] = predictPair(context, visible, targets, weights, config, { maskIndex });
  }
  const upstream = each.inputs.includes('dout') ? each.value('dout') : undefined;
  const of = upstream && { output: outputs.out, upstream };
  const differentiate = of && { of, modules: [module], inputs: inputsOf(feed) };
  return compare(each, await outcome(each, feed, outputs, differentiate));
}

/** Positions in the sequence of context and targets, ordered by their ids, without the last `chop`. */
function sortedTokens(each: Opened, chop: number): HostTensor<'int32'> {
  const [context, target] = [each.value('context_mask'), each.value('target_mask')];
  const [batch, kept] = context.shape;
  const hidden = target.shape[1];
  const rows = Array.from({ length: batch }, (_, b) => {
    const ids = [
      ...(context.data as Int32Array).subarray(b * kept, (b + 1) * kept),
      ...(target.data as Int32Array).subarray(b * hidden, (b + 1) * hidden),
    ];
    const order = ids.map((_, i) => i).sort((i, j) => ids[i] - ids[j]);
    return order.slice(0, order.length - chop);
  });
  return int32([batch, rows[0].length], Int32Array.from(rows.flat()));
}

export function poolerOf(c: VideoCase['config'], blocks: PoolerConfig['blocks'], width = c.embed_dim): PoolerConfig {
  return poolerConfig(width, c.num_heads, {
    depth: c.depth - 1,
    mlpWidth: Math.trunc(width * (c.mlp_ratio ?? 4)),
    eps: c.norm_eps,
    queries: c.num_queries ?? 1,
    blocks,
    ...(c.complete_block === false ? { bare: true } : {}),
  });
}

export async function checkPooler(each: Opened, blocks: PoolerConfig['blocks']): Promise<Failures> {
  const config = poolerOf(each.config, blocks);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'pooler.', poolerSpec(config));
  const x = fed(each, feed, 'x');
  const out = pooler(x, module.weights, config);
  const of = { output: out, upstream: each.value('dout') };
  return compare(each, await outcome(each, feed, { out }, { of, modules: [module], inputs: { x } }));
}

export async function checkClassifier(each: Opened, blocks: PoolerConfig['blocks']): Promise<Failures> {
  const config = classifierConfig(poolerOf(each.config, blocks), each.config.num_classes);
  const feed: Feed = new Map();
  const module = filled(each, feed, 'classifier.', classifierSpec(config));
  const logits = classify(fed(each, feed, 'x'), module.weights, config);
  const loss = crossEntropy(logits, fed(each, feed, 'labels'));
  return compare(each, await outcome(each, feed, { logits, loss }, { of: loss, modules: [module] }));
}

/** Clips [batch, clips, channels, frames, height, width] of one view, from keys `<prefix>clip.<clip>.<view>`. */
export function viewClips(each: Opened, view: number, prefix = ''): HostTensor<'float32'> {
  const count = indexed(each.inputs, `${prefix}clip`).filter((at) => at.endsWith(`.${view}`)).length;
  const parts = Array.from({ length: count }, (_, clip) => each.value(`${prefix}clip.${clip}.${view}`));
  return stacked(parts) as HostTensor<'float32'>;
}

/** Tensors [batch, ...] as one [batch, parts, ...]. */
export function stacked(parts: readonly HostTensor[]): HostTensor {
  const [batch, ...rest] = parts[0].shape;
  const row = sizeOf(rest);
  const Data = parts[0].data.constructor as typeof Float32Array;
  const data = new Data(batch * parts.length * row);
  parts.forEach((part, p) => {
    for (let b = 0; b < batch; b++)
      data.set((part.data as Float32Array).subarray(b * row, (b + 1) * row), (b * parts.length + p) * row);
  });
  return { dtype: parts[0].dtype, shape: [batch, parts.length, ...rest], data } as HostTensor;
}

export const viewsOf = (each: Opened): number[] => Array.from({ length: each.config.num_views }, (_, view) => view);

/** Tokens of all clips of each view, [batch, tokens, width] each. */
export async function tokensOfViews(
  each: Opened,
  prefix = '',
  clipsOf: (view: number) => HostTensor<'float32'> = (view) => viewClips(each, view, prefix),
): Promise<HostTensor<'float32'>[]> {
  const { config } = each;
  const encoder = encoderConfig(config.encoder, config.norm_eps);
  const feed: Feed = new Map();
  const { weights } = filled(each, feed, 'encoder.', vitSpec(encoder));
  const outputs = Object.fromEntries(
    viewsOf(each).map((view) => {
      const value = clipsOf(view);
      const clips = input(`clips ${view}`, value.shape);
      feed.set(clips, value);
      let times: { index: Tensor; maxFrames: number } | undefined;
      if (config.use_pos_embed) {
        const numbers = stacked(indexed(each.inputs, 'indices').map((at) => each.value(`indices${at}`)));
        const index = input(`indices ${view}`, numbers.shape, 'int32');
        feed.set(index, numbers);
        times = { index, maxFrames: config.max_frames };
      }
      return [`${view}`, clipTokens(clips, weights, encoder, { layers: config.out_layers, times })];
    }),
  );
  const values = await evaluate(outputs, feed, { backend: goldenBackend });
  return viewsOf(each).map((view) => values[`${view}`] as HostTensor<'float32'>);
}

/** Tokens of several clips: joined (`out.<view>`) or, encoded one at a time, apart (`out.<view>.<clip>`). */
export async function checkClips(each: Opened): Promise<Failures> {
  const got: Record<string, HostTensor> = {};
  if (each.config.attend_across_segments === false) {
    for (let clip = 0; clip < each.config.num_clips; clip++) {
      const tokens = await tokensOfViews(
        each,
        '',
        (view) => stacked([each.value(`clip.${clip}.${view}`)]) as HostTensor<'float32'>,
      );
      tokens.forEach((value, view) => {
        got[`out.${view}.${clip}`] = value;
      });
    }
  } else {
    (await tokensOfViews(each)).forEach((value, view) => {
      got[`out.${view}`] = value;
    });
  }
  return compare(each, got);
}

/** Logits of views and clips, the scores that are averaged over them, and the loss of training. */
export async function checkScores(each: Opened, blocks: PoolerConfig['blocks']): Promise<Failures> {
  const { config } = each;
  const probe: ClassifierConfig = classifierConfig(
    poolerOf(config.classifier, blocks, config.encoder.embed_dim),
    config.num_classes,
  );
  const across = await tokensOfViews(each);
  const apart: HostTensor<'float32'>[] = [];
  for (const view of viewsOf(each)) {
    for (let clip = 0; clip < config.num_clips; clip++) {
      const one = stacked([each.value(`clip.${clip}.${view}`)]) as HostTensor<'float32'>;
      apart.push((await tokensOfViews({ ...each, config: { ...config, num_views: 1 } }, '', () => one))[0]);
    }
  }
  const score = async (tokens: readonly HostTensor<'float32'>[]) => {
    const feed: Feed = new Map();
    const { weights } = filled(each, feed, 'classifier.', classifierSpec(probe));
    const labels = fed(each, feed, 'labels');
    const logits = tokens.map((value, i) => {
      const x = input(`tokens ${i}`, value.shape);
      feed.set(x, value);
      return classify(x, weights, probe);
    });
    const losses = stack(
      logits.map((l) => crossEntropy(l, labels)),
      0,
    );
    const all = Object.fromEntries(logits.map((l, i) => [`${i}`, l]));
    const values = await evaluate({ ...all, losses }, feed, { backend: goldenBackend });
    const computed = logits.map((_, i) => values[`${i}`] as HostTensor<'float32'>);
    const lost = Array.from(values.losses.data as Float32Array);
    return { logits: computed, loss: lost.reduce((a, b) => a + b) / lost.length };
  };
  const [a, b] = [await score(across), await score(apart)];
  const joined = (logits: readonly HostTensor<'float32'>[], shape: readonly number[]): HostTensor =>
    float32([...shape, ...logits[0].shape], Float32Array.from(logits.flatMap((l) => Array.from(l.data))));
  const { num_views: views, num_clips: clips } = config;
  return compare(each, {
    logits_across: joined(a.logits, [views]),
    probs_across: averageScores(a.logits),
    loss_across: float32([1], [a.loss]),
    logits_apart: joined(b.logits, [views, clips]),
    probs_apart: averageScores(b.logits),
    loss_apart: float32([1], [b.loss]),
  });
}
