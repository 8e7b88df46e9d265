import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { type HostTensor, int32 } from '../../src/base/tensor.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { textConfig, textSpec, textTokens, textTransformer } from '../../src/nn/text.js';
import { initialValues, makeModule } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/index.js';

const options = { vocabulary: 11, width: 16, depth: 2, heads: 2, keyHeads: 1, maxTokens: 16 };

/** Weights far from their start, so that nothing is small. */
function model(causal: boolean) {
  const config = textConfig({ ...options, causal });
  const module = makeModule('', textSpec(config));
  const feeds = new Map<Tensor, HostTensor>();
  for (const [name, value] of initialValues(module, createRandom(1)))
    feeds.set(module.tensors.get(name) as Tensor, { ...value, data: value.data.map((v) => (v === 1 ? 1 : 8 * v)) });
  return { config, module, feeds };
}

async function states(causal: boolean, ids: number[][], documents: number[][]): Promise<number[][][]> {
  const { config, module, feeds } = model(causal);
  const shape = [ids.length, ids[0].length];
  const [i, d] = ['ids', 'documents'].map((name) => input(name, ['batch', 'tokens'], 'int32'));
  feeds.set(i, int32(shape, ids.flat())).set(d, int32(shape, documents.flat()));
  const { y } = await evaluate({ y: textTransformer(i, module.weights, config, { documents: d }) }, feeds);
  return ids.map((row, r) =>
    row.map((_, t) => [...(y.data.subarray((r * row.length + t) * 16, (r * row.length + t + 1) * 16) as Float32Array)]),
  );
}

const close = (a: number[][], b: number[][]): void => {
  assert.equal(a.length, b.length);
  a.forEach((row, t) => {
    row.forEach((value, i) => {
      assert.ok(Math.abs(value - b[t][i]) < 2e-5, `token ${t}: ${value} against ${b[t][i]}`);
    });
  });
};

test('texts in one row have the states that they have alone; padding changes nothing', async () => {
  for (const causal of [true, false]) {
    const [[packed], [first], [second], [padded]] = await Promise.all([
      states(causal, [[3, 4, 5, 6, 7, 8, 9]], [[1, 1, 1, 2, 2, 2, 2]]),
      states(causal, [[3, 4, 5]], [[1, 1, 1]]),
      states(causal, [[6, 7, 8, 9]], [[1, 1, 1, 1]]),
      states(causal, [[3, 4, 5, 0, 1]], [[1, 1, 1, 0, -1]]),
    ]);
    close(packed.slice(0, 3), first);
    close(packed.slice(3), second);
    close(padded.slice(0, 3), first);
    assert.ok(padded.flat().every(Number.isFinite));
  }
});

test('a causal state knows nothing of what follows, a bidirectional one does', async () => {
  for (const causal of [true, false]) {
    const [a, b] = await states(
      causal,
      [
        [3, 4, 5, 6],
        [3, 4, 5, 9],
      ],
      [
        [1, 1, 1, 1],
        [1, 1, 1, 1],
      ],
    );
    if (causal) close(a.slice(0, 3), b.slice(0, 3));
    else assert.throws(() => close(a.slice(0, 3), b.slice(0, 3)));
  }
});

test('visible tokens keep their places: hiding padding, or nothing, changes no state', async () => {
  const { config, module, feeds } = model(false);
  const ids = input('ids', ['batch', 6], 'int32');
  const documents = input('documents', ['batch', 6], 'int32');
  const visible = input('visible', ['batch', 1, 4], 'int32');
  feeds.set(ids, int32([1, 6], [3, 4, 5, 6, 0, 0])).set(documents, int32([1, 6], [1, 1, 1, 1, 0, 0]));
  feeds.set(visible, int32([1, 1, 4], [2, 0, 3, 1]));
  const tokens = textTokens(ids, documents, config);
  const { all, some } = await evaluate(
    { all: tokens.encode(module.weights), some: tokens.encode(module.weights, { visible }) },
    feeds,
  );
  const row = (t: HostTensor, i: number): number[] => [...(t.data.subarray(i * 16, (i + 1) * 16) as Float32Array)];
  close(
    [2, 0, 3, 1].map((i) => row(all, i)),
    [0, 1, 2, 3].map((i) => row(some, i)),
  );
});

test('widths that do not divide are refused', () => {
  assert.throws(() => textConfig({ vocabulary: 5, width: 18, heads: 4, causal: true }), /does not divide into 4 heads/);
  assert.throws(() => textConfig({ vocabulary: 5, heads: 4, keyHeads: 3, causal: true }), /groups for 3 heads/);
});
