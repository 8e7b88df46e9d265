import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { unitColumns } from '../../src/energy/sigreg.js';
import { cast } from '../../src/graph/ops/elementwise.js';
import { concat, expandDims, narrow, reshape, transpose } from '../../src/graph/ops/move.js';
import { stopGradient, type Tensor } from '../../src/graph/tensor.js';
import { seesEarlierFrames } from '../../src/nn/ac-predictor.js';
import { adaLnPredictor } from '../../src/nn/adaln.js';
import {
  actionEmbedder,
  type CausalConfig,
  causalPredictor,
  causalTransformer,
  framePredictor,
  normedAttention,
  normedMlp,
  stepMap,
} from '../../src/nn/causal.js';
import { gruPredictor } from '../../src/nn/gru.js';
import { IMPALA, type ImpalaConfig, impala, impalaSpec, impalaStack } from '../../src/nn/impala.js';
import {
  convPair,
  detectionHead,
  eachFrame,
  imageDecoder,
  previousAndNext,
  residualBlock,
  resNet5,
  resNet18,
  resNet18Spec,
  resUnet,
} from '../../src/nn/residual.js';
import { fromTwoHot, nextScale, simNorm, simNormMlp, symexp, symlog, twoHot } from '../../src/nn/simnorm.js';
import { projector, reluStack } from '../../src/nn/stacks.js';
import { type ParameterSpec, under } from '../../src/nn/weights.js';
import {
  dinoWmLoss,
  dinoWmRollout,
  type FrameShape,
  joinFrames,
  lewmLoss,
  splitFrames,
  windowRollout,
} from '../../src/world/latent-models.js';
import { attempt, type Harness, readCases } from './harness.js';
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
type Build = (leaves: Leaves, config: Config) => Tensors;

const impalaConfig = (config: Config): ImpalaConfig => ({
  picture: config.input_shape,
  widths: config.stack_sizes.map((size: number) => size * config.width),
  blocks: config.num_blocks,
  width: config.mlp_output_dim,
  finalNorm: config.final_ln,
});

/** [batch, channels, time, height, width] -> [batch, width, time, 1, 1]. */
const perFrame = (x: Tensor, map: (images: Tensor) => Tensor): Tensor =>
  eachFrame(x, (images) => {
    const out = map(images);
    return reshape(out, [...out.shape, 1, 1]);
  });

const flat = (state: Tensor): Tensor => reshape(state, [state.shape[0], -1]);
const grown = (state: Tensor): Tensor => expandDims(state, [2, 3, 4]);
const stepOf = (actions: Tensor, t: number): Tensor => reshape(narrow(actions, 2, t, 1), [actions.shape[0], -1]);

function rnn({ given, w }: Leaves): Tensors {
  const actions = given.actions ?? given.action;
  const states: Tensor[] = [];
  for (let t = 0; t < (actions.shape[2] as number); t++) {
    states.push(
      gruPredictor(states.at(-1) ?? flat(given.state), stepOf(actions, t), under(w, 'rnn.'), under(w, 'final_ln.')),
    );
  }
  return { y: concat(states.map(grown), 2) };
}

const causalConfig = ({
  input_dim,
  hidden_dim,
  output_dim,
  depth,
  heads,
  dim_head,
  mlp_dim,
}: Config): CausalConfig => ({
  into: input_dim,
  width: hidden_dim,
  out: output_dim ?? input_dim,
  depth,
  heads,
  headWidth: dim_head,
  mlpWidth: mlp_dim,
});

/** Numbers after words: "depth 1 heads 2" -> { depth: 1, heads: 2 }. */
const spoken = (text: string): Record<string, number> =>
  Object.fromEntries([...text.matchAll(/([a-z_]+) (\d+)/g)].map(([, name, value]) => [name, Number(value)]));

function lewm({ w, mode }: Leaves, config: Config) {
  const { depth, heads, mlp, dim, dim_head } = spoken(config.predictor);
  const shape = { into: dim, width: dim, out: dim, depth, heads, headWidth: dim_head, mlpWidth: mlp };
  const rows = (x: Tensor, map: (flat: Tensor) => Tensor): Tensor => {
    const out = map(reshape(x, [-1, x.shape[x.shape.length - 1]]));
    return reshape(out, [...x.shape.slice(0, -1), out.shape[1]]);
  };
  return {
    /** Pixels [batch, time, ...] -> states. */
    encode: (pixels: Tensor): Tensor => {
      const features = reluStack(
        reshape(pixels, [pixels.shape[0], pixels.shape[1], -1]),
        (name) => w(`encoder.lin.${name.slice(2)}`),
        1,
      );
      return rows(features, (x) => normedMlp(x, under(w, 'projector.'), mode));
    },
    embed: (actions: Tensor): Tensor => actionEmbedder(actions, under(w, 'action_encoder.')),
    predict: (states: Tensor, actions: Tensor): Tensor =>
      rows(causalPredictor(states, actions, under(w, 'predictor.'), shape), (x) =>
        normedMlp(x, under(w, 'pred_proj.'), mode),
      ),
  };
}

function lewmTraining(leaves: Leaves, config: Config): Tensors {
  const { encode, embed, predict } = lewm(leaves, config);
  const emb = encode(leaves.given.pixels);
  const { loss, prediction, sigreg, predicted } = lewmLoss(emb, embed(leaves.given.action), predict, leaves.rand[0], {
    history: config.history_size,
    weight: config.sigreg_weight,
    ahead: config.n_preds,
  });
  return { emb, loss, pred: predicted, pred_loss: prediction, sigreg_loss: sigreg };
}

function lewmRollout(leaves: Leaves, config: Config): Tensors {
  const { encode, embed, predict } = lewm(leaves, config);
  const { pixels, actions, history } = leaves.given;
  const [batch, samples, steps] = actions.shape as number[];
  const joined = (x: Tensor): Tensor => reshape(x, [batch * samples, ...x.shape.slice(2)]);
  const states = stopGradient(encode(joined(pixels)));
  const embedded = embed(joined(history ? concat([history, actions], 2) : actions));
  const all = windowRollout(states, embedded, steps, config.history_size, predict);
  return { predicted_emb: reshape(all, [batch, samples, ...all.shape.slice(1)]) };
}

function dinoWm({ given, w }: Leaves, config: Config) {
  const { depth, heads, dim_head } = spoken(config.predictor);
  const shape: FrameShape = {
    how: config.concat_dim === 0 ? 'tokens' : 'channels',
    proprio: config.proprio_emb,
    action: config.action_emb,
  };
  const embedded = stepMap(given.act, under(w, 'action_encoder.patch_embed.'));
  const proprio = stepMap(given.proprio, under(w, 'proprio_encoder.patch_embed.'));
  const predict = (z: Tensor): Tensor => {
    const [batch, frames, tokens, width] = z.shape as number[];
    const out = framePredictor(reshape(z, [batch, frames * tokens, width]), under(w, 'predictor.'), {
      tokens,
      depth,
      heads,
      headWidth: dim_head,
    });
    return reshape(out, z.shape);
  };
  return { shape, embedded, proprio, predict };
}

function dinoTraining(leaves: Leaves, config: Config): Tensors {
  const { shape, embedded, proprio, predict } = dinoWm(leaves, config);
  const z = joinFrames({ visual: leaves.given.visual, proprio, action: embedded }, shape.how);
  const {
    loss,
    visual,
    proprio: own,
    predicted,
  } = dinoWmLoss(z, predict, {
    history: config.num_hist,
    ahead: config.num_pred,
    ...shape,
  });
  return { loss, z_pred: predicted, z_visual_loss: visual, z_proprio_loss: own };
}

function dinoRollout(leaves: Leaves, config: Config): Tensors {
  const { shape, embedded, proprio, predict } = dinoWm(leaves, config);
  const { visual } = leaves.given;
  const observed = visual.shape[1] as number;
  const actions = embedded.shape[1] as number;
  const start = joinFrames({ visual, proprio, action: narrow(embedded, 1, 0, observed) }, shape.how);
  const z = dinoWmRollout(start, narrow(embedded, 1, observed, actions - observed), predict, {
    history: config.num_hist,
    ...shape,
  });
  const parts = splitFrames(z, shape);
  return { z, visual: parts.visual, proprio: parts.proprio };
}

function adaLn({ given: { x, actions, proprio }, w }: Leaves, config: Config): Tensors {
  const [batch, frames] = x.shape;
  const extra = config.use_proprio ? config.proprio_emb_dim : 0;
  const width = config.predictor_embed_dim + extra;
  const rows = config.img_size.map((side: number) => side / config.patch_size);
  const out = adaLnPredictor(
    reshape(x, [batch, frames, rows[0] * rows[1], x.shape[5]]),
    actions,
    w,
    {
      width,
      depth: config.depth,
      heads: config.num_heads,
      mlpWidth: Math.trunc(width * config.mlp_ratio),
      qkvBias: true,
      eps: config.norm_eps,
      grid: rows,
      rotary: config.use_rope,
      causal: config.local_window.some((side: number) => side > 0),
      proprioWidth: extra,
    },
    proprio,
  );
  return { y: out.patches, ...(out.proprio && { proprio: out.proprio }) };
}

const bins = ({ vmin, vmax, num_bins }: Config) => ({ low: vmin, high: vmax, count: num_bins });

/** By the whole name, or the part before the first slash. */
const FAMILIES: Record<string, Build> = {
  conv3d2: ({ given: { x }, w }, { pad, ts, ss }) => ({
    y: convPair(x, w, { same: pad === 'same', stride: [ts, ss, ss] }),
  }),
  residual_block: ({ given: { x }, w, mode }, { out, stride }) => ({ y: residualBlock(x, w, out, stride, mode) }),
  resnet5: ({ given: { x }, w, mode }, { in_d, h_d, out_d, strides, avg_pool }) => ({
    y: resNet5(x, w, { channels: in_d, hidden: h_d, out: out_d, strides, pooled: avg_pool }, mode),
  }),
  resunet: ({ given: { x }, w, mode }, { h_d }) => ({ y: resUnet(x, w, h_d, mode) }),
  state_only_predictor: ({ given: { x }, w, mode }, { h_d }) => ({
    y: resUnet(previousAndNext(x), under(w, 'predictor.'), h_d, mode),
  }),
  simple_predictor: ({ given: { x, a }, w, mode }, { h_d }) => ({
    y: resUnet(concat([x, a], 1), under(w, 'predictor.'), h_d, mode),
  }),
  projector: ({ given: { x }, w, mode }, { spec }) => ({
    y: projector(x, under(w, 'net.'), spec.split('-').length - 1, mode),
  }),
  det_head: ({ given: { x }, w }) => ({ y: detectionHead(x, w) }),
  image_decoder: ({ given: { x }, w }) => ({ y: imageDecoder(x, w) }),
  'impala/stacks': stacks,
  impala: ({ given: { x }, w }, config) => ({ y: perFrame(x, (images) => impala(images, w, impalaConfig(config))) }),
  rnn_predictor: rnn,
  inverse_dynamics_model: ({ given: { s0, s1 }, w }) => ({ y: reluStack(concat([s0, s1], 1), under(w, 'model.'), 3) }),
  xy_head: ({ given: { x }, w }) => {
    const [batch, width, time] = x.shape;
    const rows = reshape(transpose(reshape(x, [batch, width, time]), [0, 2, 1]), [-1, width]);
    return { y: transpose(reshape(reluStack(rows, under(w, 'mlp.'), 2), [batch, time, 2]), [0, 2, 1]) };
  },
  image_ssl_projector: ({ given: { x }, w, mode }) => ({
    features: x,
    projections: projector(x, under(w, 'projector.'), 3, mode, true),
  }),
  predictor: ({ given: { x, c }, w }, config) => ({ y: causalPredictor(x, c, w, causalConfig(config)) }),
  transformer_plain: ({ given: { x }, w }, config) => ({ y: causalTransformer(x, w, causalConfig(config)) }),
  attention_single_head: ({ given: { x }, w }, { heads, dim_head }) => {
    const tokens = x.shape[1] as number;
    const seen = (mask: Tensor) => normedAttention(x, w, { heads, headWidth: dim_head }, mask);
    // One frame of all tokens: all see all.
    return { causal: seen(seesEarlierFrames(tokens, 1)), full: seen(seesEarlierFrames(1, tokens)) };
  },
  embedder: ({ given: { x }, w }) => ({ y: actionEmbedder(x, w) }),
  mlp: ({ given: { x }, w, mode }, { norm }) => ({ y: normedMlp(x, w, norm === 'batchnorm' ? mode : undefined) }),
  lewm_training_loss: lewmTraining,
  lewm_rollout: lewmRollout,
  causal_predictor: ({ given: { x }, w }, { num_patches, depth, heads, dim_head }) => ({
    y: framePredictor(x, w, { tokens: num_patches, depth, heads, headWidth: dim_head }),
  }),
  block_causal_mask: (_, { num_patches, num_frames }) => ({
    mask: cast(seesEarlierFrames(num_frames, num_patches), 'float32'),
  }),
  dino_wm_loss: dinoTraining,
  dino_wm_rollout: dinoRollout,
  jepa_wms_adaln: adaLn,
  simnorm: ({ given: { x } }, { simnorm_dim }) => ({ y: simNorm(x, simnorm_dim) }),
  mlp_simnorm: ({ given: { x }, w }, { widths }) => ({ y: simNormMlp(x, w, widths.length - 1, 3) }),
  two_hot: ({ given: { x, logits } }, config) => ({
    symlog: symlog(x),
    symexp: symexp(logits),
    two_hot: twoHot(x, bins(config)),
    inverse: fromTwoHot(logits, bins(config)),
  }),
};

function stacks({ given: { x }, w }: Leaves, config: Config): Tensors {
  const { stack_sizes, num_blocks } = config;
  const [batch, channels, , ...size] = x.shape;
  let y = reshape(narrow(x, 2, 0, 1), [batch, channels, ...size]);
  return Object.fromEntries(
    stack_sizes.map((_: number, i: number) => {
      y = impalaStack(y, under(w, `stack_blocks.${i}.`), num_blocks);
      return [`stack${i}`, y];
    }),
  );
}

// Weights and inputs by formula (README) -------------------------------------------------------------------------------

function formulaWeight(p: number, name: string, shape: readonly number[], scale: number): HostTensor<'float32'> {
  const fanIn = shape.length > 1 ? shape.slice(1).reduce((a, b) => a * b) : 1;
  return float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => {
      const u = ((1103 * i + 7919 * p + 12345) % 65537) / 65537 - 0.5;
      if (shape.length > 1) return 2 * u * scale * Math.sqrt(3 / fanIn);
      return name.endsWith('weight') ? 1 + 0.2 * u : 0.2 * u;
    }),
  );
}

const formulaInput = (shape: readonly number[]): HostTensor<'float32'> =>
  float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => (((7919 * i + 17) % 10007) / 10007) * 2 - 1),
  );

function formulaWeights(
  spec: readonly [string, ParameterSpec][],
  prefix: string,
  scale: number,
): Record<string, HostTensor> {
  let p = 0;
  return Object.fromEntries(
    spec.map(([name, { shape, trainable, init }]) => {
      if (trainable) return [`${prefix}${name}`, formulaWeight(p++, name, shape, scale)];
      return [
        `${prefix}${name}`,
        float32(shape, new Float32Array(sizeOf(shape)).fill(init.kind === 'fill' ? init.value : 0)),
      ];
    }),
  );
}

/** The shape in "formula_input [2, 2, 1, 65, 65]". */
const inputShape = ({ input }: Config): number[] => JSON.parse(/\[.*\]/.exec(input)?.[0] as string);

const scaleOf = ({ scale, weights }: Config): number => scale ?? Number(/scale ([\d.]+)/.exec(weights)?.[1]);

async function fullSize(folder: string, name: string, each: WorldCase): Promise<Failures> {
  const roles = rolesOf(folder, name, each.file);
  roles.in = { x: formulaInput(inputShape(each.config)) };
  if (name.startsWith('impala')) {
    const spec = impalaSpec(IMPALA);
    const count = spec.reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0);
    if (count !== each.config.parameters) return [`${count} parameters instead of ${each.config.parameters}`];
    roles.w = formulaWeights(spec, '', scaleOf(each.config));
    return checkGraph(roles, each, ({ given: { x }, w }) => ({
      y: perFrame(x, (images) => impala(images, w, IMPALA)),
    }));
  }
  roles.w = formulaWeights(resNet18Spec(), 'backbone.', scaleOf(each.config));
  return checkGraph(roles, each, ({ given: { x }, w, mode }) => ({ y: resNet18(x, under(w, 'backbone.'), mode) }));
}

/** One scale after another, on the host. */
function runningScale({ in: given, out }: Roles, each: WorldCase): Failures {
  const [rows, width] = given.x.shape;
  const x = given.x.data as Float32Array;
  let value = each.config.initial;
  const y = new Float32Array(x.length);
  for (let row = 0; row < rows; row++) {
    const own = x.subarray(row * width, (row + 1) * width);
    value = nextScale(value, own, each.config.tau);
    y.set(
      own.map((v) => v / value),
      row * width,
    );
  }
  return compareAll('out', { value: float32([1], [value]), y: float32(given.x.shape, y) }, out, outTolerance(each));
}

async function check(folder: string, name: string, each: WorldCase, all: Record<string, WorldCase>): Promise<Failures> {
  if (name.includes('full_size')) return fullSize(folder, name, each);
  const roles = rolesOf(folder, name, each.file);
  if (name === 'running_scale') return runningScale(roles, each);
  const build = FAMILIES[name] ?? FAMILIES[name.split('/')[0]];
  if (!build) return [`unknown case ${name}`];
  const same = each.config['same weights as'];
  if (same) roles.w = rolesOf(folder, same, each.file).w;
  if (roles.rand) roles.rand = { 0: unitColumns(Object.values(roles.rand)[0] as HostTensor<'float32'>) };
  const config = same ? { ...all[same].config, ...each.config } : each.config;
  return checkGraph(roles, each, (leaves) => build(leaves, config));
}

const harness: Harness = async function* (folder) {
  const { cases } = readCases<{ cases: Record<string, WorldCase> }>(folder);
  for (const [name, each] of Object.entries(cases)) yield await attempt(name, () => check(folder, name, each, cases));
};

export default harness;
