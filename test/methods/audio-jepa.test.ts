import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { planSound, soundPreparation } from '../../src/data/audio/preparation.js';
import { tones } from '../../src/data/procedural/tones.js';
import { reshape } from '../../src/graph/ops/move.js';
import type { Tensor } from '../../src/graph/tensor.js';
import { type FutureConfig, futureAt } from '../../src/masking/future.js';
import type { SpectrogramMasks } from '../../src/masking/spectrogram.js';
import { A_JEPA, AUDIO_JEPA, AUDIO_STUDY, audioJepaMethod, audioVit } from '../../src/methods/audio-jepa.js';
import { forecast } from '../../src/methods/forecast.js';
import { ijepaModules, ijepaPredictor } from '../../src/methods/ijepa.js';
import { normaliseTargets } from '../../src/methods/masked.js';
import { vit } from '../../src/nn/vit.js';
import { initialValues, type Module } from '../../src/nn/weights.js';
import { adamw } from '../../src/optim/adam.js';
import { decayGroups } from '../../src/optim/groups.js';
import { createEngine, evaluate } from '../../src/runtime/index.js';

// 12 x 4 patches.
const encoder = audioVit({ imageSize: [48, 16], patchSize: 4, width: 16, depth: 2, heads: 2 });
const config = { encoder, predictor: { ...ijepaPredictor(encoder, 8, 1), eps: encoder.eps } };
const random = createRandom(3);
const data = tones({ count: 16, seed: 1 });

/** Spectrograms of tones [batch, 1, 48, 16]. */
async function spectrograms(batch: number): Promise<HostTensor<'float32'>> {
  const plan = planSound({ kind: 'sound', seconds: 3, features: { frames: 48, mels: 16 } }, data, 'tones');
  const { prepare } = soundPreparation(plan);
  const all = new Float32Array(batch * 768);
  for (let i = 0; i < batch; i++) prepare(await data.read(i), random.split(i), [all.subarray(i * 768, (i + 1) * 768)]);
  return float32([batch, 1, 48, 16], all);
}

const start = (modules: readonly Module[]): [Tensor, HostTensor<'float32'>][] =>
  modules.flatMap((module) => {
    const values = initialValues(module, random);
    return [...module.tensors].map(([name, tensor]): [Tensor, HostTensor<'float32'>] => [
      tensor,
      values.get(`${module.prefix}${name}`) as HostTensor<'float32'>,
    ]);
  });

const blocks = {
  kind: 'blocks',
  targets: 2,
  contexts: 1,
  targetScale: [0.15, 0.2],
  targetAspect: [0.75, 1.5],
  contextScale: [0.85, 1],
  minKeep: 2,
  allowOverlap: false,
} as const;
const stripes = { kind: 'stripes', stripes: 2, scale: [0.08, 0.1] } as const;

describe('training', () => {
  const kinds: [string, SpectrogramMasks, typeof AUDIO_JEPA][] = [
    ['Audio-JEPA: random masks', { kind: 'random', ratio: [0.4, 0.6] }, AUDIO_JEPA],
    [
      'A-JEPA: a curriculum whose masks have two blocks, then one',
      { kind: 'curriculum', easy: blocks, hard: stripes, start: 0.01 },
      A_JEPA,
    ],
    ['targets that see themselves only', blocks, AUDIO_STUDY],
    ['the future in three segments', { kind: 'future', context: 5, segment: 2, horizons: 3 }, AUDIO_JEPA],
  ];
  for (const [name, masks, { options, distance }] of kinds) {
    it(name, async () => {
      const method = audioJepaMethod({
        ...config,
        masks,
        options,
        distance,
        regularizer: { kind: 'none' },
        dropPath: 0,
        rescale: false,
      });
      const engine = await createEngine({ backend: 'cpu', workers: 1 });
      try {
        const { decay, noDecay } = decayGroups(method.trained);
        const modules = [...method.trained, ...method.followers.map(({ module }) => module)];
        const state = await engine.createState([
          ...new Set([...decay, ...noDecay, ...modules.flatMap((m) => [...m.tensors.values()])]),
        ]);
        const values = new Map(modules.flatMap((module) => [...initialValues(module, createRandom(1))]));
        for (const { module, online } of method.followers) {
          for (const key of module.tensors.keys())
            values.set(`${module.prefix}${key}`, values.get(`${online.prefix}${key}`) as HostTensor<'float32'>);
        }
        await state.write(values);
        // The target encoder stands still: then the energy must fall.
        const update = { loss: method.loss, rule: adamw(), groups: [decay, noDecay], followers: [] };
        const program = await engine.compile({ name, outputs: { loss: method.loss }, update }, state);
        const { shape, data: pixels } = await spectrograms(8);
        const batch = { views: [{ images: float32([shape[0], 1, ...shape.slice(1)], pixels) }] };
        const losses: number[] = [];
        const steps = 20;
        for (let step = 0; step < steps; step++) {
          const feeds = method.feeds(batch, random.split(step), step / steps);
          const hyper = { lr: 1e-2, weightDecay: 0 };
          const { outputs } = await program.run(feeds, { step: step + 1, groups: [hyper, hyper], momentum: 1 });
          losses.push(Number(outputs.loss.data[0]));
        }
        const mean = (part: number[]) => part.reduce((a, b) => a + b) / part.length;
        assert.ok(mean(losses.slice(-5)) < 0.9 * mean(losses.slice(0, 5)), `${losses[0]} to ${losses.at(-1)}`);
      } finally {
        await engine.close();
      }
    });
  }

  it('masks that do not fit are refused before', () => {
    const masks = { kind: 'future', context: 12, segment: 1, horizons: 1 } as const;
    assert.throws(
      () =>
        audioJepaMethod({
          ...config,
          ...AUDIO_JEPA,
          masks,
          regularizer: { kind: 'none' },
          dropPath: 0,
          rescale: false,
        }),
      /do not fit 12/,
    );
  });
});

describe('forecasts', () => {
  const future: FutureConfig = { context: 4, segment: 2, horizons: 3 };

  it('of persistence repeat the last moment heard, and know nothing of the future', async () => {
    const modules = ijepaModules(config);
    const weights = start(Object.values(modules as unknown as Record<string, Module>));
    const made = forecast({ ...modules, ...AUDIO_JEPA, config }, future);
    const { context, target } = futureAt(future, [12, 4], 2, 2);
    const pictures = await spectrograms(2);
    // Silence from the end of the context on: time step 6, frame 24.
    const silent = { ...pictures, data: pictures.data.map((v, i) => (Math.floor((i % 768) / 16) < 24 ? v : 0)) };
    const run = async (shown: HostTensor<'float32'>) =>
      evaluate(
        {
          persistence: made.persistence,
          target: made.target,
          ...Object.fromEntries(made.persisted.map((energy, h) => [`persisted ${h}`, energy])),
          ...Object.fromEntries(made.predicted.map((energy, h) => [`predicted ${h}`, energy])),
          prediction: made.prediction,
        },
        new Map<Tensor, HostTensor>([
          ...weights,
          [made.inputs.samples, shown],
          [made.inputs.context, context],
          [made.inputs.targets, target],
        ]),
      );
    const [full, cut] = [await run(pictures), await run(silent)];
    assert.deepEqual(full.persistence.shape, [2, 3, 8, 16]);
    assert.deepEqual(full.persistence.data, cut.persistence.data);
    assert.deepEqual(full.prediction.data, cut.prediction.data);
    assert.notDeepEqual(full.target.data, cut.target.data);

    // The representation of the context alone, its last four patches.
    const alone = vit(made.inputs.samples, modules.target.weights, encoder, {
      visible: reshape(made.inputs.context, ['batch', 16]),
    });
    const { heard } = await evaluate(
      { heard: normaliseTargets(alone, 'standardised') },
      new Map<Tensor, HostTensor>([...weights, [made.inputs.samples, pictures], [made.inputs.context, context]]),
    );
    const values = (t: HostTensor) => t.data as Float32Array;
    for (let sample = 0; sample < 2; sample++) {
      for (let token = 0; token < 24; token++) {
        const from = (sample * 16 + 12 + (token % 4)) * 16;
        const at = (sample * 24 + token) * 16;
        for (let k = 0; k < 16; k++)
          assert.ok(Math.abs(values(full.persistence)[at + k] - values(heard)[from + k]) < 1e-4);
      }
    }
    // 2 - 2 cosine, by hand, horizon by horizon.
    for (const [name, guess] of [
      ['persisted', full.persistence],
      ['predicted', full.prediction],
    ] as const) {
      for (let h = 0; h < 3; h++) {
        let sum = 0;
        for (let sample = 0; sample < 2; sample++) {
          for (let token = 0; token < 8; token++) {
            const at = ((sample * 3 + h) * 8 + token) * 16;
            const [a, b] = [values(guess), values(full.target)].map((v) => v.subarray(at, at + 16));
            const dot = a.reduce((total, v, k) => total + v * b[k], 0);
            sum += 2 - (2 * dot) / (Math.hypot(...a) * Math.hypot(...b));
          }
        }
        assert.ok(Math.abs(values(full[`${name} ${h}`])[0] - sum / 16) < 1e-4);
      }
    }
  });
});
