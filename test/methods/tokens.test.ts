import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { type HostTensor, sizeOf } from '../../src/base/tensor.js';
import type { Preparation } from '../../src/data/preparation.js';
import { grammarTexts } from '../../src/data/procedural/grammar.js';
import { stickFigures } from '../../src/data/procedural/stick-figures.js';
import { planSkeletons, skeletonPreparation } from '../../src/data/skeleton/preparation.js';
import { trainBpe } from '../../src/data/text/bpe.js';
import { textPreparation } from '../../src/data/text/preparation.js';
import type { Tensor } from '../../src/graph/tensor.js';
import { type LlmJepaConfig, llmJepaMethod } from '../../src/methods/llm-jepa.js';
import { encoderInputs, type Method, type MethodBatch, type WideForm } from '../../src/methods/method.js';
import {
  SJEPA_DISTANCE,
  SJEPA_FEATURES,
  SJEPA_OPTIONS,
  sjepaMethod,
  sjepaModules,
  sjepaPredictor,
  skeletonBackbone,
} from '../../src/methods/s-jepa.js';
import {
  TEXT_DISTANCE,
  TEXT_MASKS,
  type TextJepaTraining,
  textJepaMethod,
  textJepaOptions,
  textJepaPredictor,
} from '../../src/methods/text-jepa.js';
import { skeletonConfig, skeletonSpec, skeletonTokens } from '../../src/nn/skeleton.js';
import { textConfig } from '../../src/nn/text.js';
import { initialValues, makeModule } from '../../src/nn/weights.js';
import { adamw } from '../../src/optim/adam.js';
import { decayGroups } from '../../src/optim/groups.js';
import { createEngine } from '../../src/runtime/index.js';

/** A batch of the first samples of a data set. */
async function batchOf<T>(
  read: (index: number) => Promise<T>,
  preparation: Preparation<T>,
  count: number,
): Promise<MethodBatch> {
  const arrays = preparation.fields.map(({ dtype, shape }) =>
    dtype === 'float32' ? new Float32Array(count * sizeOf(shape)) : new Int32Array(count * sizeOf(shape)),
  );
  for (let i = 0; i < count; i++) {
    const out = preparation.fields.map(({ shape }, f) =>
      arrays[f].subarray(i * sizeOf(shape), (i + 1) * sizeOf(shape)),
    );
    preparation.prepare(await read(i), createRandom(i), out);
  }
  const fields = preparation.fields.map(({ name, dtype, shape }, f) => [
    name,
    { dtype, shape: [count, 1, ...shape], data: arrays[f] },
  ]);
  return { views: [Object.fromEntries(fields)] };
}

/** Losses and scalars of steps on one batch. */
async function steps(
  method: Omit<Method, 'encoder'>,
  batch: MethodBatch,
  count: number,
): Promise<Record<string, number>[]> {
  const engine = await createEngine({ backend: 'cpu', workers: 2 });
  try {
    const { decay, noDecay } = decayGroups(method.trained);
    const followers = method.followers.flatMap(({ module, online }) =>
      [...module.tensors].map(([name, target]) => ({ target, online: online.weights(name) })),
    );
    const state = await engine.createState([...decay, ...noDecay, ...followers.map(({ target }) => target)]);
    const values = new Map<string, HostTensor<'float32'>>();
    for (const module of method.trained)
      for (const [name, value] of initialValues(module, createRandom(1))) values.set(name, value);
    for (const { module, online } of method.followers)
      for (const name of module.tensors.keys())
        values.set(`${module.prefix}${name}`, values.get(`${online.prefix}${name}`) as HostTensor<'float32'>);
    await state.write(values);
    const memory = Object.entries(method.memory ?? {});
    const kept: Record<string, HostTensor<'float32'>> = {};
    for (const [name, { next }] of memory) {
      const shape = next.shape as number[];
      kept[name] = { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) };
    }
    const program = await engine.compile(
      {
        name: method.name,
        outputs: {
          loss: method.loss,
          ...method.scalars,
          ...Object.fromEntries(memory.map(([name, { next }]) => [`next ${name}`, next])),
        },
        update: { loss: method.loss, rule: adamw(), groups: [decay, noDecay], followers },
      },
      state,
    );
    const log: Record<string, number>[] = [];
    for (let step = 1; step <= count; step++) {
      const feeds = method.feeds(batch, createRandom(7, step));
      const hyper = { lr: 3e-3, weightDecay: 0 };
      const result = await program.run({ ...feeds, ...kept }, { step, groups: [hyper, hyper], momentum: 0.99 });
      for (const [name] of memory) kept[name] = result.outputs[`next ${name}`] as HostTensor<'float32'>;
      log.push(Object.fromEntries(Object.entries(result.outputs).map(([name, { data }]) => [name, Number(data[0])])));
    }
    return log;
  } finally {
    await engine.close();
  }
}

const falls = (log: Record<string, number>[], by: number): void => {
  const mean = (part: Record<string, number>[]): number => part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
  assert.ok(log.every(({ loss }) => Number.isFinite(loss)));
  const [early, late] = [mean(log.slice(0, 4)), mean(log.slice(-4))];
  assert.ok(late < by * early, `from ${early} to ${late}`);
};

test('S-JEPA learns: its loss falls towards the entropy of its targets, or with features and what holds them apart', async () => {
  const figures = stickFigures({ count: 6, frames: 8 });
  const preparation = skeletonPreparation(planSkeletons({ kind: 'skeleton', frames: 8, view: {} }, figures, 'data'));
  const encoder = skeletonConfig({ frames: 8, joints: 15, segment: 4, width: 16, depth: 1, heads: 2 });
  const base = {
    encoder,
    predictor: sjepaPredictor(encoder, { depth: 1 }),
    views: true,
    masks: { kind: 'motion', ratio: 0.8, temperature: 0.8 },
  } as const;
  const batch = await batchOf((i) => figures.read(i), preparation, 6);
  const published = { options: SJEPA_OPTIONS, distance: SJEPA_DISTANCE, regularizer: { kind: 'none' } } as const;
  const log = await steps(sjepaMethod({ ...base, ...published }), batch, 24);
  falls(log, 0.9);
  for (const { loss, entropy } of log)
    assert.ok(entropy >= 0 && entropy <= Math.log(16) + 1e-5 && loss > entropy - 1e-4);

  const regularizer = { kind: 'vicreg', invariance: 0, variance: 2, covariance: 0.5 } as const;
  const kept = await steps(sjepaMethod({ ...base, ...SJEPA_FEATURES, regularizer }), batch, 24);
  falls(kept, 0.9);
  for (const { loss, prediction, variance, covariance, entropy } of kept) {
    assert.equal(entropy, undefined, 'features have none');
    assert.ok(Math.abs(loss - (prediction + 2 * variance + 0.5 * covariance)) < 1e-4);
  }
  const drawn = { ...regularizer, invariance: 3 };
  const near = await steps(sjepaMethod({ ...base, ...SJEPA_FEATURES, regularizer: drawn, spread: 0.1 }), batch, 24);
  falls(near, 0.9);
  for (const { loss, prediction, invariance, variance, covariance } of near)
    assert.ok(Math.abs(loss - (prediction + 3 * invariance + 2 * variance + 0.5 * covariance)) < 1e-4);
});

test('first weights have the spread that a method is given', () => {
  const encoder = skeletonConfig({ frames: 8, joints: 15, segment: 4, width: 64, depth: 2, heads: 2 });
  const config = { encoder, predictor: sjepaPredictor(encoder, { depth: 1 }) };
  const values = (spread?: number) => {
    const modules = sjepaModules({ ...config, spread });
    return [modules.encoder, modules.predictor].map((module) => initialValues(module, createRandom(1)));
  };
  const [wide, usual] = [values(0.1), values()];
  usual.forEach((module, i) => {
    for (const [name, { data }] of module) {
      const own = (wide[i].get(name) as HostTensor<'float32'>).data;
      const size = (numbers: ArrayLike<number>): number =>
        Math.sqrt(Array.from(numbers).reduce((a, b) => a + b * b, 0) / numbers.length);
      if (data.every((value) => value === data[0])) assert.deepEqual(own, data, name);
      else assert.ok(Math.abs(size(own) / size(data) - 5) < 1e-4, name);
    }
  });
});

test('the wide form of a probe: means of the last blocks, each token layer-normed', async () => {
  const config = skeletonConfig({ frames: 8, joints: 15, segment: 4, width: 16, depth: 2, heads: 2 });
  const encoder = skeletonBackbone(makeModule('', skeletonSpec(config)), config);
  const inputs = encoderInputs(encoder);
  const states: Tensor[] = [];
  skeletonTokens(inputs.skeletons, config).encode(encoder.module.weights, { onState: (state) => states.push(state) });
  const engine = await createEngine({ backend: 'cpu', workers: 1 });
  try {
    const state = await engine.createState(
      [...encoder.module.tensors.values()],
      initialValues(encoder.module, createRandom(2)),
    );
    const outputs = { wide: (encoder.wide as WideForm).represent(inputs), first: states[1], second: states[2] };
    const program = await engine.compile({ name: 'wide', outputs }, state);
    const data = Float32Array.from({ length: 360 }, (_, i) => Math.sin(i));
    const result = (await program.run({ skeletons: { dtype: 'float32', shape: [1, 8, 15, 3], data } })).outputs;
    const wanted = [result.first, result.second].flatMap(({ data: tokens }) => {
      const sum = new Float64Array(16);
      for (let at = 0; at < tokens.length; at += 16) {
        const row = Array.from(tokens.subarray(at, at + 16), Number);
        const mean = row.reduce((a, b) => a + b) / 16;
        const deviation = Math.sqrt(row.reduce((a, b) => a + (b - mean) ** 2, 0) / 16 + 1e-5);
        for (let i = 0; i < 16; i++) sum[i] += (row[i] - mean) / deviation / 30;
      }
      return [...sum];
    });
    assert.equal(encoder.wide?.name, 'last 2 layers');
    assert.equal(result.wide.data.length, 32);
    wanted.forEach((value, i) => {
      assert.ok(Math.abs(Number(result.wide.data[i]) - value) < 1e-5);
    });
  } finally {
    await engine.close();
  }
});

const texts = grammarTexts({ count: 8 });
const samples = await Promise.all(Array.from({ length: 8 }, (_, i) => texts.read(i)));
const tokenizer = trainBpe(
  samples.flatMap(({ text, code }) => [text, code as string]),
  { vocabSize: 300, special: ['<pad>', '<end>', '<user>', '<assistant>', '<predict>'] },
);
const { vocab, merges, added } = tokenizer;
const plan = { kind: 'text' as const, tokenizer: { vocab, merges, added }, tokens: 160, pad: 0 };

test('masked-span JEPA learns, with hidden tokens dropped or replaced', async () => {
  const encoder = textConfig({
    vocabulary: tokenizer.size,
    width: 16,
    depth: 2,
    heads: 2,
    maxTokens: 160,
    causal: false,
  });
  const batch = await batchOf((i) => texts.read(i), textPreparation(plan), 6);
  const base: TextJepaTraining = {
    encoder,
    tokens: 160,
    predictor: textJepaPredictor(encoder, 16, 1),
    options: textJepaOptions(2),
    distance: TEXT_DISTANCE,
    masks: TEXT_MASKS,
    regularizer: { kind: 'none' },
  };
  falls(await steps(textJepaMethod(base), batch, 40), 0.8);
  const replaced = textJepaMethod({
    ...base,
    predictor: { hidden: 32 },
    options: { ...base.options, hiding: 'replace' },
    regularizer: { kind: 'vicreg', variance: 1, covariance: 0.04 },
  });
  falls(await steps(replaced, batch, 40), 0.8);
});

test('LLM-JEPA learns next tokens; a batch without views has the dialogue alone', async () => {
  const dialogue = { begin: [], user: [2], assistant: [3], end: 1, predictors: [4], pad: 0 };
  const model = textConfig({ vocabulary: tokenizer.size, width: 16, depth: 1, heads: 2, maxTokens: 512, causal: true });
  const config: LlmJepaConfig = { model, distance: 'cosine', gamma: 1, lambda: 1, dropout: 0.5, form: 'packed' };
  const pairs = { ...plan, tokens: 256, dialogue };
  const method = llmJepaMethod(config, pairs);
  const batch = await batchOf((i) => texts.read(i), textPreparation(pairs), 4);
  const rows = Array.from({ length: 20 }, (_, step) => method.feeds(batch, createRandom(step)));
  const counts = rows.map(({ ids }) => ids.shape[1]);
  assert.ok(counts.includes(1) && counts.includes(2) && counts.every((count) => count === 1 || count === 2));
  for (const { ids, weight } of rows) assert.equal(weight.data[0], ids.shape[1] === 1 ? 0 : 2);
  const log = await steps(method, batch, 16);
  assert.ok(log[15]['next token'] < 0.9 * log[0]['next token']);
});
