import { createRandom } from '../src/base/random.js';
import { smoothL1Loss } from '../src/graph/ops/losses.js';
import { type IjepaConfig, ijepa, ijepaInputs, ijepaModules, ijepaPredictor } from '../src/methods/ijepa.js';
import { type VitOptions, vitConfig } from '../src/nn/vit.js';
import { initialValues } from '../src/nn/weights.js';
import { adamw } from '../src/optim/adam.js';
import { decayGroups } from '../src/optim/groups.js';
import type { Engine, Feeds, Program, State } from '../src/runtime/index.js';

/** The I-JEPA steps that are timed: the whole official step at fixed numbers of context and target tokens. */
export interface BenchModel {
  readonly name: string;
  readonly encoder: VitOptions;
  readonly predictor: { readonly width: number; readonly depth: number; readonly heads: number };
  readonly batch: number;
  readonly context: number;
  readonly blocks: number;
  readonly hidden: number;
}

export const BENCH_MODELS: Readonly<Record<string, BenchModel>> = {
  a: {
    name: 'ViT-Ti/16 at 224, batch 16',
    encoder: { size: 'tiny', imageSize: 224, patchSize: 16 },
    predictor: { width: 192, depth: 6, heads: 3 },
    batch: 16,
    context: 60,
    blocks: 4,
    hidden: 35,
  },
  b: {
    name: 'ViT-S/16 at 224, batch 8',
    encoder: { size: 'small', imageSize: 224, patchSize: 16 },
    predictor: { width: 384, depth: 6, heads: 6 },
    batch: 8,
    context: 60,
    blocks: 4,
    hidden: 35,
  },
  c: {
    name: 'ViT 192 wide, 6 deep, patch 4 at 28, batch 128',
    encoder: { size: 'tiny', imageSize: 28, patchSize: 4, channels: 1, width: 192, depth: 6, heads: 6 },
    predictor: { width: 96, depth: 4, heads: 6 },
    batch: 128,
    context: 12,
    blocks: 4,
    hidden: 9,
  },
};

export interface BenchStep {
  readonly program: Program;
  readonly state: State;
  readonly feeds: Feeds;
  run(step: number): Promise<void>;
}

export async function benchStep(engine: Engine, model: BenchModel): Promise<BenchStep> {
  const encoder = vitConfig(model.encoder);
  const config: IjepaConfig = {
    encoder,
    predictor: {
      ...ijepaPredictor(encoder, model.predictor.width, model.predictor.depth),
      heads: model.predictor.heads,
    },
  };
  const modules = ijepaModules(config);
  const inputs = ijepaInputs(config, 1, model.blocks);
  const { prediction, target } = ijepa(inputs, modules, config);
  const loss = smoothL1Loss(prediction, target, 1);
  const { decay, noDecay } = decayGroups([modules.encoder, modules.predictor]);
  const trained = new Set([...decay, ...noDecay]);
  const followers = [...modules.encoder.tensors].flatMap(([name, online]) => {
    const follower = modules.target.tensors.get(name);
    return follower && trained.has(online) ? [{ online, target: follower }] : [];
  });
  const followerOf = new Map(followers.map((f) => [f.online, f.target]));
  const ordered = [...decay, ...noDecay];
  const targets = ordered.flatMap((t) => followerOf.get(t) ?? []);
  const others = [modules.encoder, modules.predictor, modules.target].flatMap((m) => [...m.tensors.values()]);
  const state = await engine.createState([...new Set([...ordered, ...targets, ...others])]);
  const random = createRandom(1);
  await state.write(
    new Map([modules.encoder, modules.predictor, modules.target].flatMap((m) => [...initialValues(m, random)])),
  );
  const program = await engine.compile(
    { name: 'bench', outputs: { loss }, update: { loss, rule: adamw(), groups: [decay, noDecay], followers } },
    state,
  );
  const [height, width] = encoder.imageSize;
  const images = new Float32Array(model.batch * encoder.channels * height * width);
  random.split('images').fillNormal(images);
  const patches = (height / encoder.patchSize) * (width / encoder.patchSize);
  const pick = (lists: number, count: number, label: string): Int32Array => {
    const out = new Int32Array(model.batch * lists * count);
    const draws = random.split(label);
    for (let i = 0; i < model.batch * lists; i++) out.set(draws.permutation(patches).slice(0, count).sort(), i * count);
    return out;
  };
  const feeds: Feeds = {
    images: { dtype: 'float32', shape: [model.batch, encoder.channels, height, width], data: images },
    context: { dtype: 'int32', shape: [model.batch, 1, model.context], data: pick(1, model.context, 'context') },
    targets: {
      dtype: 'int32',
      shape: [model.batch, model.blocks, model.hidden],
      data: pick(model.blocks, model.hidden, 'targets'),
    },
  };
  return {
    program,
    state,
    feeds,
    run: async (step) => {
      const hyper = { lr: 1e-4, weightDecay: 0.05 };
      await program.run(feeds, { step, groups: [hyper, { ...hyper, weightDecay: 0 }], momentum: 0.996 });
    },
  };
}
