import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import { reachable } from '../../src/graph/lower.js';
import { type InputAttrs, input, type Tensor } from '../../src/graph/tensor.js';
import { futureAt } from '../../src/masking/future.js';
import { maskInputs } from '../../src/methods/masked.js';
import type { Method } from '../../src/methods/method.js';
import { changes, vjepaAhead, vjepaMethod, vjepaModules, vjepaPredictor } from '../../src/methods/vjepa.js';
import { VJEPA2_ROPE, vjepa2Method, vjepa2Predictor } from '../../src/methods/vjepa2.js';
import { VJEPA21_ROPE, vjepa21Levels, vjepa21Method, vjepa21Predictor } from '../../src/methods/vjepa21.js';
import { predictPair } from '../../src/nn/predictor.js';
import { vitConfig, vitRepresentation } from '../../src/nn/vit.js';
import { initialValues, type Module } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/index.js';

/** 4 tubelets of 2 x 2 patches. */
const size = { imageSize: 8, patchSize: 4, channels: 1, frames: 8, width: 24, depth: 2, heads: 2 } as const;
const masks = [
  { blocks: 1, spatialScale: [0.3, 0.5], temporalScale: [1, 1], aspect: [0.75, 1.5], maxTemporalKeep: 1 },
] as const;
const future = { context: 2, segment: 1, horizons: 2 };
const regularizer = { kind: 'none' } as const;
const random = createRandom(5);
const clips = (batch: number): HostTensor<'float32'> => {
  const data = new Float32Array(batch * 512);
  random.fillNormal(data);
  return float32([batch, 1, 8, 8, 8], data);
};

type Values = [Tensor, HostTensor][];
const weightsOf = (modules: readonly Module[]): Values =>
  modules.flatMap((module) => {
    const values = initialValues(module, random);
    return [...module.tensors].map(([name, tensor]): Values[number] => {
      const value = values.get(`${module.prefix}${name}`) as HostTensor<'float32'>;
      // Mask tokens, which begin at 0, are told apart.
      if (name.startsWith('mask_tokens')) random.fillNormal(value.data);
      return [tensor, value];
    });
  });

/** All outputs of a method on one batch of 3 clips, as its own feeds have them. */
async function outputsOf(method: Method, progress?: number) {
  const weights = weightsOf([...method.trained, ...method.followers.map(({ module }) => module)]);
  const seen = clips(3);
  const batch = { views: [{ clips: { ...seen, shape: [3, 1, 1, 8, 8, 8] } }] };
  const feeds = method.feeds(batch, createRandom(1), progress);
  const { prediction, target } = method.pair;
  const outputs = { loss: method.loss, 'pair prediction': prediction, target, ...method.scalars };
  const given = new Map<Tensor, HostTensor>(weights);
  for (const node of reachable(Object.values(outputs))) {
    const value = node.op.name === 'input' ? feeds[(node.attrs as InputAttrs).name] : undefined;
    if (value) given.set(node.outputs[0], value);
  }
  const got = await evaluate(outputs, given);
  return { feeds, got, number: (name: string): number => Number(got[name].data[0]) };
}

const near = (a: number, b: number, what: string): void =>
  assert.ok(Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b)), `${what}: ${a} instead of ${b}`);

const meanAway = (a: HostTensor, b: HostTensor): number => {
  const [x, y] = [a.data as Float32Array, b.data as Float32Array];
  return x.reduce((sum, value, i) => sum + Math.abs(value - y[i]), 0) / x.length;
};

describe('first weights', () => {
  const encoder = vitConfig({ ...size, width: 96, depth: 4, positions: 'uniform' });
  const config = { encoder, predictor: vjepaPredictor(encoder, 1, 48, 2) };
  const deviation = ({ data }: HostTensor) =>
    Math.sqrt((data as Float32Array).reduce((sum, value) => sum + value * value, 0) / data.length);

  it('have the deviation that is asked for; those that are rescaled keep their share of it, biases stay 0', () => {
    for (const [rescale, last] of [
      [false, 1],
      [true, 1 / Math.sqrt(8)],
    ] as const) {
      for (const [spread, module] of [
        [0.02, vjepaModules(config, rescale).encoder],
        [0.1, vjepaModules(config, rescale, 0.1).encoder],
        [0.1, vjepaModules(config, rescale, 0.1).target],
      ] as const) {
        const values = initialValues(module, createRandom(3));
        const of = (name: string) => values.get(`${module.prefix}${name}`) as HostTensor;
        // 9,216 and 36,864 numbers: deviations of a sample lie within 3 % of that of the distribution.
        const near = (name: string, wanted: number) =>
          assert.ok(Math.abs(deviation(of(name)) / wanted - 1) < 0.03, `${name}: ${deviation(of(name))}`);
        near('blocks.0.attn.qkv.weight', spread);
        near('blocks.3.attn.proj.weight', spread * last);
        near('blocks.3.mlp.fc2.weight', spread * last);
        assert.equal(deviation(of('blocks.0.attn.qkv.bias')), 0);
        assert.equal(deviation(of('norm.weight')), 1);
      }
    }
  });
});

describe('prediction of the future', () => {
  const encoder = vitConfig({ ...size, positions: 'uniform' });

  it('is that of each segment alone, and weighs as much as one kind of masks', async () => {
    const config = { encoder, predictor: vjepaPredictor(encoder, 2, 12, 1), masks, future, exponent: 1, regularizer };
    const method = vjepaMethod(config);
    const { number } = await outputsOf(method);
    assert.deepEqual(Object.keys(method.scalars).sort(), ['ahead', 'prediction']);
    near(number('loss'), number('prediction'), 'loss');

    // Each segment by itself, with the mask token that comes after those of the masks.
    const modules = vjepaModules(config);
    const seen = input('clips', ['batch', 1, 8, 8, 8]);
    const [context, target] = [8, 4].map((length, i) => input(`tokens ${i}`, ['batch', length], 'int32'));
    const { weights } = modules.encoder;
    const tokens = vitRepresentation(seen, weights, encoder, { visible: context });
    const predict = (maskIndex: number) =>
      predictPair(tokens, context, target, modules.predictor.weights, config.predictor, { maskIndex });
    const values = new Map<Tensor, HostTensor>(weightsOf([modules.encoder, modules.predictor]));
    const samples = clips(2);
    const list = (from: number, length: number) =>
      int32(
        [2, length],
        Int32Array.from({ length: 2 * length }, (_, i) => from + (i % length)),
      );
    const ahead = vjepaAhead(seen, maskInputs(1), vitRepresentation(seen, weights, encoder), modules, config, 1);
    const places = futureAt(future, [4, 4], 2, 0);
    for (const node of reachable([ahead.prediction])) {
      if (node.op.name !== 'input' || node.outputs[0] === seen) continue;
      values.set(node.outputs[0], (node.attrs as InputAttrs).name === 'context' ? places.context : places.target);
    }
    values.set(seen, samples).set(context, list(0, 8));
    const whole = (await evaluate({ z: ahead.prediction }, values)).z;
    assert.deepEqual(whole.shape, [2, 2, 4, 24]);
    for (let horizon = 0; horizon < 2; horizon++) {
      values.set(target, list(8 + 4 * horizon, 4));
      const { own, other } = await evaluate({ own: predict(1), other: predict(0) }, values);
      const part = new Float32Array(own.data.length);
      for (let sample = 0; sample < 2; sample++) {
        const from = (2 * sample + horizon) * 96;
        part.set((whole.data as Float32Array).subarray(from, from + 96), sample * 96);
      }
      assert.ok(meanAway(float32(own.shape, part), own) < 1e-5, `segment ${horizon}`);
      assert.ok(meanAway(float32(own.shape, part), other) > 1e-3, 'another mask token gives something else');
    }
  });

  it('goes without masks, with rotary positions, and forecasts what it was trained on', async () => {
    const rotary = vitConfig({ ...size, positions: VJEPA2_ROPE });
    const config = { encoder: rotary, predictor: vjepa2Predictor(rotary, 1, 32, 1), exponent: 1, regularizer };
    assert.throws(() => vjepa2Method({ ...config, masks: [] }), /vjepa2: there is nothing to predict/);
    assert.throws(
      () => vjepa2Method({ ...config, masks: [], future: { ...future, horizons: 3 } }),
      /2 and 3 segments of 1 time steps do not fit 4/,
    );
    const method = vjepa2Method({ ...config, masks: [], future });
    const { feeds, got, number } = await outputsOf(method);
    assert.deepEqual(
      [feeds.context.shape, feeds.targets.shape],
      [
        [3, 1, 8],
        [3, 2, 4],
      ],
    );
    near(number('loss'), meanAway(got['pair prediction'], got.target), 'loss');
    assert.deepEqual(
      method.masks?.(feeds)[0].targets.map((tokens) => [...tokens]),
      [
        [8, 9, 10, 11],
        [12, 13, 14, 15],
      ],
    );
    const made = method.forecast?.();
    assert.deepEqual(made?.prediction.shape.slice(1), [2, 4, 24]);
    assert.equal(made?.field, 'clips');
  });
});

describe('V-JEPA 2.1', () => {
  const encoder = vitConfig({ ...size, depth: 4, heads: 1, positions: VJEPA21_ROPE, levels: vjepa21Levels(4) });

  it('adds the loss of visible tokens with a weight that rises over the training', async () => {
    const method = vjepa21Method({
      encoder,
      predictor: vjepa21Predictor(encoder, 1, 32, 1),
      masks,
      contextWeight: 0.5,
      contextRamp: [0.2, 0.4],
    });
    for (const [progress, weight] of [
      [0, 0],
      [0.3, 0.25],
      [1, 0.5],
    ]) {
      const { got, number } = await outputsOf(method, progress);
      near(number('loss'), number('prediction') + weight * number('context'), `loss at ${progress}`);
      near(number('prediction'), meanAway(got['pair prediction'], got.target), 'prediction');
    }
  });

  it('has the published levels, and others at equal distances', () => {
    assert.deepEqual([24, 48, 4, 6, 2].map(vjepa21Levels), [
      [5, 11, 17, 23],
      [11, 23, 37, 47],
      [0, 1, 2, 3],
      [1, 2, 4, 5],
      [0, 1],
    ]);
  });
});

describe('changes of tokens', () => {
  const grid = [3, 1, 2] as const;
  const index = [
    [0, 2, 4],
    [1, 3, 5],
    [0, 1, 4],
  ];
  const changesOf = async (tokens: ArrayLike<number>, places = index): Promise<Float32Array> => {
    const [x, at] = [input('x', ['batch', 3, 2]), input('at', ['batch', 3], 'int32')];
    const given = new Map<Tensor, HostTensor>([
      [x, float32([3, 3, 2], Float32Array.from(tokens))],
      [at, int32([3, 3], Int32Array.from(places.flat()))],
    ]);
    return (await evaluate({ z: changes(x, at, grid) }, given)).z.data as Float32Array;
  };

  it('are what is left less the means over time at a place and over clips at a place and time', async () => {
    const tokens = new Float32Array(18);
    random.fillNormal(tokens);
    // One by one: rows of the same clip and column, then rows of the same token of the grid.
    const less = (rows: number[][], groupOf: (clip: number, k: number) => string): number[][] =>
      rows.map((row, r) => {
        const own = groupOf(Math.floor(r / 3), r % 3);
        const group = rows.filter((_, other) => groupOf(Math.floor(other / 3), other % 3) === own);
        return row.map((value, i) => value - group.reduce((sum, member) => sum + member[i], 0) / group.length);
      });
    const rows = Array.from({ length: 9 }, (_, r) => [tokens[2 * r], tokens[2 * r + 1]]);
    const moved = less(rows, (clip, k) => `${clip} ${index[clip][k] % 2}`);
    const wanted = less(moved, (clip, k) => `${index[clip][k]}`).flat();
    (await changesOf(tokens)).forEach((value, i) => {
      near(value, wanted[i], `number ${i}`);
    });
  });

  it('are nothing where all stays as it is, wherever the tokens lie', async () => {
    const still = index.flatMap((places, clip) => places.flatMap((place) => [10 * clip + (place % 2), 3 - clip]));
    assert.ok((await changesOf(still)).every((value) => Math.abs(value) < 1e-5));
  });

  it('are nothing where all clips change alike', async () => {
    const tubes = [
      [0, 2, 4],
      [1, 3, 5],
      [0, 2, 4],
    ];
    const alike = tubes.flatMap((places) => places.flatMap((place) => [place ** 2, -place]));
    assert.ok((await changesOf(alike, tubes)).every((value) => Math.abs(value) < 1e-5));
    alike[0] += 1;
    assert.ok((await changesOf(alike, tubes)).some((value) => Math.abs(value) > 0.1));
  });
});
