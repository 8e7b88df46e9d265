import { createRandom } from '../src/base/random.js';
import { sizeOf } from '../src/base/tensor.js';
import { readSettings } from '../src/cli/settings.js';
import { evaluateDim } from '../src/graph/dims.js';
import { reachable } from '../src/graph/lower.js';
import { smoothL1Loss } from '../src/graph/ops/losses.js';
import { type InputAttrs, inputOperator, type Operator, type Tensor } from '../src/graph/tensor.js';
import { type IjepaConfig, ijepa, ijepaInputs, ijepaModules, ijepaPredictor } from '../src/methods/ijepa.js';
import { type VitOptions, vitConfig } from '../src/nn/vit.js';
import { initialValues, type Module } from '../src/nn/weights.js';
import { adamw } from '../src/optim/adam.js';
import { decayGroups } from '../src/optim/groups.js';
import type { Engine, Feeds, Program } from '../src/runtime/index.js';
import { buildMethod } from '../src/train/build.js';

/** A training step that is timed. */
export interface BenchModel {
  readonly name: string;
  /** Images of a step. */
  readonly batch: number;
  /** The same step in PyTorch: a script of `bench/peers` and what it is told. */
  readonly peer: { readonly script: string; readonly model: object };
  open(engine: Engine): Promise<BenchStep>;
}

export interface BenchStep {
  readonly program: Program;
  readonly feeds: Feeds;
  /** Numbers that learn. */
  readonly parameters: number;
  run(step: number): Promise<void>;
}

export const BENCH_MODELS: Readonly<Record<string, () => BenchModel>> = {
  a: () =>
    ijepaModel({
      name: 'ViT-Ti/16 at 224, batch 16',
      encoder: { size: 'tiny', imageSize: 224, patchSize: 16 },
      predictor: { width: 192, depth: 6, heads: 3 },
      batch: 16,
      context: 60,
      blocks: 4,
      hidden: 35,
    }),
  b: () =>
    ijepaModel({
      name: 'ViT-S/16 at 224, batch 8',
      encoder: { size: 'small', imageSize: 224, patchSize: 16 },
      predictor: { width: 384, depth: 6, heads: 6 },
      batch: 8,
      context: 60,
      blocks: 4,
      hidden: 35,
    }),
  c: () =>
    ijepaModel({
      name: 'ViT 192 wide, 6 deep, patch 4 at 28, batch 128',
      encoder: { size: 'tiny', imageSize: 28, patchSize: 4, channels: 1, width: 192, depth: 6, heads: 6 },
      predictor: { width: 96, depth: 4, heads: 6 },
      batch: 128,
      context: 12,
      blocks: 4,
      hidden: 9,
    }),
  quickstart: () => recipeModel('quickstart'),
};

/** The whole official I-JEPA step at fixed numbers of context and target tokens. */
interface IjepaModel {
  readonly name: string;
  readonly encoder: VitOptions;
  readonly predictor: { readonly width: number; readonly depth: number; readonly heads: number };
  readonly batch: number;
  readonly context: number;
  readonly blocks: number;
  readonly hidden: number;
}

function ijepaModel(model: IjepaModel): BenchModel {
  const { name, predictor, batch, context, blocks, hidden } = model;
  const encoder = vitConfig(model.encoder);
  const { imageSize, patchSize, channels, width, depth, heads } = encoder;
  const shape = { image: imageSize[0], patch: patchSize, channels, width, depth, heads };
  return {
    name,
    batch,
    peer: { script: 'ijepa_step.py', model: { ...shape, predictor, batch, context, blocks, hidden } },
    open: async (engine) => {
      const config: IjepaConfig = {
        encoder,
        predictor: { ...ijepaPredictor(encoder, predictor.width, predictor.depth), heads: predictor.heads },
      };
      const modules = ijepaModules(config);
      const { prediction, target } = ijepa(ijepaInputs(config, 1, blocks), modules, config);
      const random = createRandom(1);
      const images = new Float32Array(batch * channels * imageSize[0] * imageSize[1]);
      random.split('images').fillNormal(images);
      const patches = (imageSize[0] / patchSize) * (imageSize[1] / patchSize);
      const pick = (lists: number, count: number, label: string): Int32Array => {
        const out = new Int32Array(batch * lists * count);
        const draws = random.split(label);
        for (let i = 0; i < batch * lists; i++) out.set(draws.permutation(patches).slice(0, count).sort(), i * count);
        return out;
      };
      const feeds: Feeds = {
        images: { dtype: 'float32', shape: [batch, channels, ...imageSize], data: images },
        context: { dtype: 'int32', shape: [batch, 1, context], data: pick(1, context, 'context') },
        targets: { dtype: 'int32', shape: [batch, blocks, hidden], data: pick(blocks, hidden, 'targets') },
      };
      const followers = [{ module: modules.target, online: modules.encoder }];
      const trained = [modules.encoder, modules.predictor];
      return openStep(engine, { loss: smoothL1Loss(prediction, target, 1), trained, followers }, feeds);
    },
  };
}

/** A recipe whose method learns from views of images alone, at its own batch size. */
function recipeModel(recipe: string): BenchModel {
  const { config } = readSettings(recipe);
  if (config.method.name !== 'viewjepa' || config.method.encoder.kind !== 'conv')
    throw new Error(`bench: ${recipe} is no recipe of views with a conv net`);
  const { projector, predictor, encoder } = config.method;
  const { widths, blocks, width } = encoder;
  const { batchSize: batch } = config.train;
  const method = buildMethod(config);
  const inputs = inputsOf(method.loss);
  const parameters = inputs.find(({ name }) => name === 'parameters')?.shape[2] ?? 0;
  const [channels, image] = method.encoder.inputs[0].shape;
  const net = { widths, blocks, width, image, channels };
  return {
    name: `recipe ${recipe}, batch ${batch} (two views an image)`,
    batch,
    peer: { script: 'viewjepa_step.py', model: { ...net, projector, predictor, parameters, batch } },
    open: (engine) => {
      const random = createRandom(1);
      const feeds = Object.fromEntries(
        inputs.map(({ name, shape: dims }) => {
          const shape = dims.map((dim) => evaluateDim(dim, new Map([['batch', batch]])) as number);
          const data = new Float32Array(sizeOf(shape));
          random.split(name).fillNormal(data);
          return [name, { dtype: 'float32' as const, shape, data }];
        }),
      );
      return openStep(engine, method, feeds);
    },
  };
}

const inputsOf = (loss: Tensor): InputAttrs[] =>
  reachable([loss])
    .filter((node) => node.op === (inputOperator as Operator))
    .map((node) => node.attrs as InputAttrs);

interface Learning {
  readonly loss: Tensor;
  readonly trained: readonly Module[];
  readonly followers: readonly { readonly module: Module; readonly online: Module }[];
}

/** Compiles the step with AdamW and moving averages, on weights as training starts from. */
async function openStep(engine: Engine, { loss, trained, followers }: Learning, feeds: Feeds): Promise<BenchStep> {
  const { decay, noDecay } = decayGroups(trained);
  const ordered = [...decay, ...noDecay];
  const pairs = followers.flatMap(({ module, online }) =>
    [...online.tensors].flatMap(([name, tensor]) => {
      const target = module.tensors.get(name);
      return target && ordered.includes(tensor) ? [{ online: tensor, target }] : [];
    }),
  );
  // Followers lie in the order of what they follow, so that both are updated in one go.
  const targetOf = new Map(pairs.map(({ online, target }) => [online, target]));
  const modules = [...trained, ...followers.map(({ module }) => module)];
  const everything = modules.flatMap(({ tensors }) => [...tensors.values()]);
  const state = await engine.createState([
    ...new Set([...ordered, ...ordered.flatMap((t) => targetOf.get(t) ?? []), ...everything]),
  ]);
  const random = createRandom(1);
  await state.write(new Map(modules.flatMap((module) => [...initialValues(module, random)])));
  const update = { loss, rule: adamw(), groups: [decay, noDecay], followers: pairs };
  const program = await engine.compile({ name: 'bench', outputs: { loss }, update }, state);
  return {
    program,
    feeds,
    parameters: ordered.reduce((sum, { shape }) => sum + sizeOf(shape as readonly number[]), 0),
    run: async (step) => {
      const hyper = { lr: 1e-4, weightDecay: 0.05 };
      await program.run(feeds, { step, groups: [hyper, { ...hyper, weightDecay: 0 }], momentum: 0.996 });
    },
  };
}
