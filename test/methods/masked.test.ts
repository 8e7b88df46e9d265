import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import { meanEnergy } from '../../src/energy/distance.js';
import { gradients } from '../../src/graph/autodiff.js';
import { add, mul, sub } from '../../src/graph/ops/elementwise.js';
import { mean } from '../../src/graph/ops/reduce.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { ijepa, ijepaInputs, ijepaModules, ijepaPredictor } from '../../src/methods/ijepa.js';
import {
  encodeContext,
  encodeTargets,
  followingModule,
  IJEPA_OPTIONS,
  type MaskedOptions,
  masked,
  maskInputs,
  type Normalisation,
  normaliseTargets,
  predictInPlace,
} from '../../src/methods/masked.js';
import { type Tokens, vitTokens } from '../../src/nn/tokens.js';
import { vitConfig } from '../../src/nn/vit.js';
import { initialValues, type Module, makeModule } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/index.js';

const config = vitConfig({ imageSize: [8, 12], patchSize: 4, channels: 1, width: 8, depth: 2, heads: 2 });
const random = createRandom(5);

function normals(shape: readonly number[], label: string): HostTensor<'float32'> {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  random.split(label).fillNormal(data);
  return float32(shape, data);
}

/** Weights that are all noise, so that no part is neutral. */
function weightsOf(module: Module): [Tensor, HostTensor<'float32'>][] {
  const values = initialValues(module, random);
  return [...module.tensors].map(([name, tensor]) => {
    const value = values.get(`${module.prefix}${name}`) as HostTensor<'float32'>;
    if (!module.spec.get(name)?.trainable) return [tensor, value];
    const noise = normals(value.shape, `${module.prefix}${name} noise`).data;
    return [tensor, { ...value, data: value.data.map((v, i) => v + 0.3 * noise[i]) }];
  });
}

const near = (got: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5) => {
  assert.equal(got.length, expected.length);
  for (let i = 0; i < got.length; i++)
    assert.ok(
      Math.abs(got[i] - expected[i]) <= tolerance * (1 + Math.abs(expected[i])),
      `[${i}] ${got[i]} ${expected[i]}`,
    );
};
const floats = ({ data }: HostTensor): Float32Array => data as Float32Array;

describe('normalisation of targets', () => {
  const x = normals([2, 3, 4], 'x');
  const rows = Array.from({ length: 6 }, (_, i) => [...x.data.subarray(4 * i, 4 * i + 4)]);
  const average = (row: readonly number[]) => row.reduce((a, b) => a + b, 0) / row.length;
  const squares = (row: readonly number[]) => row.reduce((sum, v) => sum + (v - average(row)) ** 2, 0);
  const columns = [0, 1, 2, 3].map((k) => rows.map((row) => row[k]));
  const formulas: Record<string, (row: number[]) => number[]> = {
    layer: (row) => row.map((v) => (v - average(row)) / Math.sqrt(squares(row) / 4 + 1e-5)),
    standardised: (row) => row.map((v) => (v - average(row)) / Math.sqrt(squares(row) / 3 + 1e-6)),
    centred: (row) => row.map((v) => v - average(row)),
    batch: (row) => row.map((v, k) => (v - average(columns[k])) / Math.sqrt(squares(columns[k]) / 5 + 1e-6)),
    l2: (row) => row.map((v) => v / Math.hypot(...row)),
    none: (row) => row,
  };
  for (const [name, formula] of Object.entries(formulas)) {
    it(name, async () => {
      const t = input('t', x.shape);
      const { y } = await evaluate({ y: normaliseTargets(t, name as Normalisation) }, new Map([[t, x]]));
      near(floats(y), rows.flatMap(formula));
    });
  }

  it('softmax with a centre and a temperature', async () => {
    const t = input('t', x.shape);
    const c = input('c', [4]);
    const centre = normals([4], 'centre');
    const kind = { kind: 'softmax', temperature: 0.5, momentum: 0.9 } as const;
    const feeds = new Map([
      [t, x],
      [c, centre],
    ]);
    const { y } = await evaluate({ y: normaliseTargets(t, kind, c) }, feeds);
    near(
      floats(y),
      rows.flatMap((row) => {
        const powers = row.map((v, k) => Math.exp((v - centre.data[k]) / 0.5));
        return powers.map((p) => p / powers.reduce((a, b) => a + b));
      }),
    );
  });
});

describe('what the target encoder sees', () => {
  const images = input('images', ['batch', 1, 8, 12]);
  const targets = input('targets', ['batch', 2, 2], 'int32');
  const module = makeModule(
    'target_encoder.',
    ijepaModules({ encoder: config, predictor: ijepaPredictor(config, 8, 1) }).target.spec,
  );
  const weights = weightsOf(module);
  const blocks = int32([2, 2, 2], [0, 1, 4, 5, 1, 2, 3, 4]);
  const pictures = normals([2, 1, 8, 12], 'pictures');

  async function represent(options: Partial<MaskedOptions>, shown: HostTensor<'float32'>) {
    const { target } = encodeTargets(vitTokens(images, config), module.weights, targets, {
      ...IJEPA_OPTIONS,
      ...options,
    });
    const { y } = await evaluate(
      { y: target },
      new Map<Tensor, HostTensor>([...weights, [images, shown], [targets, blocks]]),
    );
    assert.deepEqual(y.shape, [2, 2, 2, 8]);
    return floats(y);
  }

  /** The pictures with the patches changed that are not in sample 0's first block, 0 and 1. */
  const changed: HostTensor<'float32'> = {
    ...pictures,
    data: pictures.data.map((v, i) => (Math.floor(i / 48) % 2 === 0 && i < 48 && i % 12 < 8 ? v : v + 1)),
  };

  it('of each block nothing else, or everything', async () => {
    const alone = await represent({ sight: 'targets' }, pictures);
    near((await represent({ sight: 'targets' }, changed)).subarray(0, 16), alone.subarray(0, 16), 1e-6);
    const whole = await represent({}, pictures);
    const wholeChanged = await represent({}, changed);
    assert.ok(whole.subarray(0, 16).some((v, i) => Math.abs(v - wholeChanged[i]) > 1e-2));
    assert.ok(whole.some((v, i) => Math.abs(v - alone[i]) > 1e-2));
  });

  it('a block alone is what the encoder makes of its patches alone', async () => {
    const visible = input('visible', ['batch', 1, 2], 'int32');
    const block = vitTokens(images, config).encode(module.weights, { visible });
    const feeds = new Map<Tensor, HostTensor>([
      ...weights,
      [images, pictures],
      [visible, int32([2, 1, 2], [4, 5, 3, 4])],
    ]);
    const { y } = await evaluate({ y: normaliseTargets(block, 'layer') }, feeds);
    const alone = await represent({ sight: 'targets' }, pictures);
    near([...alone.subarray(16, 32), ...alone.subarray(48)], floats(y));
  });

  it('queries of the targets alone give what all queries give', async () => {
    const all = vitTokens(images, config).encode(module.weights);
    const { y } = await evaluate(
      { y: normaliseTargets(all, 'layer') },
      new Map<Tensor, HostTensor>([...weights, [images, pictures]]),
    );
    const whole = await represent({}, pictures);
    blocks.data.forEach((patch, i) => {
      const from = (Math.floor(i / 4) * 6 + patch) * 8;
      near(whole.subarray(8 * i, 8 * i + 8), floats(y).subarray(from, from + 8));
    });
  });

  it('the mean of layer-normed outputs of the last blocks', async () => {
    const states: Tensor[] = [];
    vitTokens(images, config).encode(module.weights, { onState: (state) => states.push(state) });
    const outputs = Object.fromEntries(states.map((s, i) => [`s${i}`, normaliseTargets(s, 'layer')]));
    const got = await evaluate(outputs, new Map<Tensor, HostTensor>([...weights, [images, pictures]]));
    const two = await represent({ layers: 2, normalisation: 'none' }, pictures);
    blocks.data.forEach((patch, i) => {
      const from = (Math.floor(i / 4) * 6 + patch) * 8;
      for (let k = 0; k < 8; k++) {
        const expected = (floats(got.s1)[from + k] + floats(got.s2)[from + k]) / 2;
        near([two[8 * i + k]], [expected]);
      }
    });
    await assert.rejects(
      () => represent({ layers: 3 }, pictures),
      /targets of the last 3 blocks need as many; the encoder has 2/,
    );
  });

  it('a running centre takes in all tokens of the batch before it is used', async () => {
    const normalisation = { kind: 'softmax', temperature: 0.2, momentum: 0.75 } as const;
    const made = encodeTargets(vitTokens(images, config), module.weights, targets, {
      sight: 'everything',
      normalisation,
    });
    assert.deepEqual(made.memory.centre.input.shape, [8]);
    const before = normals([8], 'before');
    const all = vitTokens(images, config).encode(module.weights);
    const feeds = new Map<Tensor, HostTensor>([
      ...weights,
      [images, pictures],
      [targets, blocks],
      [made.memory.centre.input, before],
    ]);
    const { next, target, y } = await evaluate({ next: made.memory.centre.next, target: made.target, y: all }, feeds);
    const expected = Array.from({ length: 8 }, (_, k) => {
      let sum = 0;
      for (let token = 0; token < 12; token++) sum += floats(y)[8 * token + k];
      return 0.75 * before.data[k] + (0.25 * sum) / 12;
    });
    near(floats(next), expected);
    const first = floats(y).subarray(0, 8);
    const powers = Array.from(first, (v, k) => Math.exp((v - expected[k]) / 0.2));
    near(
      floats(target).subarray(0, 8),
      powers.map((p) => p / powers.reduce((a, b) => a + b)),
      1e-4,
    );
  });
});

describe('replacing hidden tokens', () => {
  // Tokens that see each other through their mean: y_i = content_i + place_i + mean.
  const x = input('x', ['batch', 5, 3]);
  const place = normals([1, 5, 3], 'place');
  const module = makeModule(
    'encoder.',
    new Map([['mask_token', { shape: [1, 1, 3], init: { kind: 'fill', value: 0 }, trainable: true }]]),
  );
  const places = input('places', [1, 5, 3]);
  const toy: Tokens = {
    count: 5,
    encode(w, { replaced } = {}) {
      const content = replaced ? add(mul(x, sub(1, replaced)), mul(w('mask_token'), replaced)) : x;
      const tokens = add(content, places);
      return add(tokens, mean(tokens, 1, true));
    },
  };
  const visible = input('visible', ['batch', 1, 2], 'int32');
  const hidden = int32([2, 1, 3], [0, 2, 4, 1, 2, 3]);
  const values = normals([2, 5, 3], 'values');
  const token = float32([1, 1, 3], [7, -8, 9]);
  const feeds = new Map<Tensor, HostTensor>([
    [x, values],
    [places, place],
    [visible, int32([2, 1, 2], [1, 3, 0, 4])],
    [module.tensors.get('mask_token') as Tensor, token],
  ]);
  const shown = [1, 3, 5, 9];
  const expected = Array.from({ length: 2 }, (_, b) => {
    const tokens = Array.from({ length: 5 }, (_, i) =>
      [0, 1, 2].map(
        (k) => (shown.includes(5 * b + i) ? values.data[(5 * b + i) * 3 + k] : token.data[k]) + place.data[3 * i + k],
      ),
    );
    return tokens.map((t) => t.map((v, k) => v + tokens.reduce((sum, o) => sum + o[k], 0) / 5));
  });

  it('keeps their places and shows the vector', async () => {
    const { y } = await evaluate({ y: encodeContext(toy, module.weights, visible, 'replace') }, feeds);
    near(floats(y), expected.flat(2));
  });

  it('predicts at their places', async () => {
    const targets = input('targets', ['batch', 1, 3], 'int32');
    const context = input('tokens', ['batch', 1, 5, 3]);
    const made = predictInPlace(context, targets, (t) => mul(t, 2));
    const all = new Map<Tensor, HostTensor>([
      [context, float32([2, 1, 5, 3], expected.flat(2))],
      [targets, hidden],
    ]);
    const { y } = await evaluate({ y: made }, all);
    assert.deepEqual(y.shape, [2, 1, 1, 3, 3]);
    near(
      floats(y),
      [0, 1].flatMap((b) =>
        [...hidden.data.subarray(3 * b, 3 * b + 3)].flatMap((i) => expected[b][i].map((v) => 2 * v)),
      ),
    );
  });

  it('several contexts cannot be replaced at once', () => {
    assert.throws(
      () => encodeContext(toy, module.weights, input('v', ['batch', 2, 2], 'int32'), 'replace'),
      /replaces hidden tokens for one context only/,
    );
  });
});

describe('what follows', () => {
  const online = makeModule(
    'encoder.',
    ijepaModules({ encoder: config, predictor: ijepaPredictor(config, 8, 1) }).encoder.spec,
  );

  it('everything, or what is named; the rest is the encoder itself', () => {
    const all = followingModule('target_encoder.', online);
    assert.deepEqual([...all.module.spec.keys()], [...online.spec.keys()]);
    assert.notEqual(all.weights('norm.weight'), online.weights('norm.weight'));
    const some = followingModule('target_encoder.', online, (name) => !name.startsWith('patch_embed.'));
    assert.equal(some.module.tensors.has('patch_embed.proj.weight'), false);
    assert.equal(some.weights('patch_embed.proj.weight'), online.weights('patch_embed.proj.weight'));
    assert.equal(some.weights('norm.weight'), some.module.weights('norm.weight'));
  });

  it('no gradient reaches a shared part through the targets', () => {
    const some = followingModule('target_encoder.', online, (name) => !name.startsWith('patch_embed.'));
    const images = input('images', ['batch', 1, 8, 12]);
    const inputs = maskInputs(1, 1);
    const predicted = input('predicted', ['batch', 1, 1, 'hidden', 8]);
    const forward = masked(
      { tokens: vitTokens(images, config), encoder: online.weights, target: some.weights, predict: () => predicted },
      inputs,
      IJEPA_OPTIONS,
    );
    const [gradient] = gradients(meanEnergy(forward.prediction, forward.target), [
      online.weights('patch_embed.proj.weight'),
    ]);
    assert.equal(gradient, undefined);
  });
});

it('several contexts of one image are those contexts one by one', async () => {
  const both = { encoder: config, predictor: ijepaPredictor(config, 8, 1) };
  const modules = ijepaModules(both);
  const weights = Object.values(modules as unknown as Record<string, Module>).flatMap(weightsOf);
  const pictures = normals([2, 1, 8, 12], 'two contexts');
  const targets = int32([2, 1, 2], [4, 5, 0, 1]);
  const contexts = [int32([2, 1, 3], [0, 1, 2, 3, 4, 5]), int32([2, 1, 3], [1, 2, 3, 2, 3, 4])];
  const run = async (context: HostTensor<'int32'>): Promise<Float32Array> => {
    const inputs = ijepaInputs(both, context.shape[1], 1);
    const { prediction } = ijepa(inputs, modules, both);
    const feeds = new Map<Tensor, HostTensor>([
      ...weights,
      [inputs.images, pictures],
      [inputs.context, context],
      [inputs.targets, targets],
    ]);
    return floats((await evaluate({ y: prediction }, feeds)).y);
  };
  const pair = int32(
    [2, 2, 3],
    [0, 1].flatMap((b) => contexts.flatMap(({ data }) => [...data.subarray(3 * b, 3 * b + 3)])),
  );
  const [first, second] = [await run(contexts[0]), await run(contexts[1])];
  near(
    await run(pair),
    [0, 1].flatMap((b) => [...first.subarray(16 * b, 16 * b + 16), ...second.subarray(16 * b, 16 * b + 16)]),
  );
});
