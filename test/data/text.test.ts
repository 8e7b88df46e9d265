import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { GRAMMAR_FACTORS, type GrammarFactor, grammarTexts, open } from '../../src/data/procedural/grammar.js';
import { trainBpe } from '../../src/data/text/bpe.js';
import { packTexts } from '../../src/data/text/dataset.js';
import {
  type DialogueTemplate,
  dialogueRows,
  dialogueTokens,
  drawSpan,
  NO_LABEL,
  spanIncrements,
  spanWeight,
  turnWeights,
} from '../../src/data/text/dialogue.js';
import { textFiles } from '../../src/data/text/files.js';
import { textFolder } from '../../src/data/text/folder-node.js';
import { bareTokens, textPreparation } from '../../src/data/text/preparation.js';
import { accuracy, fitLogistic, predictedClasses, predictProbabilities } from '../../src/eval/logistic.js';

const TEMPLATE: DialogueTemplate = {
  begin: [1],
  user: [4, 5],
  assistant: [6, 5],
  end: 2,
  predictors: [28, 27],
  pad: 0,
};
const PAIR = { text: [19, 14], code: [14, 19, 7] };

test('the rows of a pair: dialogue, text with predictors, code; views packed into one row', () => {
  const list = dialogueTokens(PAIR, TEMPLATE);
  assert.deepEqual(list.dialogue, [1, 4, 5, 19, 14, 2, 6, 5, 14, 19, 7, 2]);
  assert.deepEqual(list.labels, [...Array(8).fill(NO_LABEL), 14, 19, 7, 2]);
  assert.deepEqual(list.text, [1, 4, 5, 19, 14, 28, 27, 2]);
  assert.deepEqual(list.code, [1, 6, 5, 14, 19, 7, 2]);
  const options = { pad: 0, maxTokens: 32 };
  const packed = dialogueRows([list], { ...options, form: 'packed' });
  assert.deepEqual(packed.ids.shape, [1, 2, 13]);
  assert.deepEqual([...packed.ids.data.subarray(13)], [1, 4, 5, 19, 14, 28, 27, 1, 6, 5, 14, 19, 7]);
  assert.deepEqual([...packed.documents.data.subarray(13)], [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
  assert.deepEqual([...packed.last.data], [13 + 6, 13 + 12]);
  const separate = dialogueRows([list], { ...options, form: 'separate' });
  assert.deepEqual(
    [...separate.last.data].map((at) => separate.ids.data[at]),
    [27, 7],
  );
  assert.throws(
    () => dialogueRows([list], { form: 'packed', pad: 0, maxTokens: 12 }),
    /takes 13 tokens, the model reads 12/,
  );
});

test('spans: parts of the whole, uniform where asked, increments that add up', () => {
  const random = createRandom(1);
  const counts = new Map<string, number>();
  for (let i = 0; i < 4000; i++) {
    const [start, end] = drawSpan(4, random.integer, 'uniform');
    counts.set(`${start},${end}`, (counts.get(`${start},${end}`) ?? 0) + 1);
    const other = drawSpan(4, random.integer);
    assert.ok(other[0] >= 0 && other[0] < other[1] && other[1] <= 4 && other[1] - other[0] < 4);
  }
  // Ten pairs of ends, less the whole.
  assert.equal(counts.size, 9);
  for (const count of counts.values()) assert.ok(Math.abs(count - 4000 / 9) < 100);
  assert.deepEqual(
    (['none', 'cosine-like', 'jaccard-like'] as const).map((kind) => spanWeight(4, 1, kind)),
    [1, 0.6, 0.5],
  );
  // User [1, 4), assistant [6, 8): a span over the end of one and the start of the other.
  const rows = spanIncrements([{ user: [1, 4], assistant: [6, 8], spans: [[2, 4]] }], 9).data;
  assert.deepEqual([...rows.subarray(9)], [0, 0, -1, 1, 0, -1, 1, 0, 0]);
  assert.deepEqual([...rows.subarray(0, 9)], [-1, 0, 1, 0, 0, 0, -1, 1, 0]);
  const turns = turnWeights([{ user: [1, 4], assistant: [6, 8] }], 9).data;
  assert.ok([...turns].every((w, i) => Math.abs(w - ([0, 1, 5].includes(i) ? 1 / 3 : 0)) < 1e-6));
});

test('texts are packed without padding; rows number their texts', async () => {
  const packed = packTexts('x', [[5, 6, 7], [8], [9, 10, 11, 12]], 0, 4);
  assert.equal(packed.length, 2);
  assert.deepEqual([...(await packed.read(1)).ids], [8, 0, 9, 10]);
  assert.deepEqual([...(await packed.read(1)).documents], [1, 1, 2, 2]);
  assert.deepEqual([...(await packed.read(0)).documents], [1, 1, 1, 1]);
  assert.throws(() => packTexts('x', [[1]], 0, 4), /2 tokens of text do not fill a row of 4/);
});

test('text, pairs and rows of tokens are prepared', () => {
  const tokenizer = trainBpe(['aa bb aa bb aa'], { vocabSize: 262, special: ['<p>', '<e>'] });
  const prepare = (
    dialogue: DialogueTemplate | undefined,
    sample: Parameters<ReturnType<typeof textPreparation>['prepare']>[0],
  ) => {
    const preparation = textPreparation({ kind: 'text', tokenizer, tokens: 8, pad: 0, dialogue });
    const out = preparation.fields.map(() => new Int32Array(8).fill(99));
    preparation.prepare(sample, createRandom(1), out);
    return out.map((array) => [...array]);
  };
  const ids = tokenizer.encode('aa bb');
  assert.deepEqual(prepare(undefined, { text: 'aa bb' }), [
    [...ids, ...Array(8 - ids.length).fill(0)],
    [...ids.map(() => 1), ...Array(8 - ids.length).fill(0)],
  ]);
  assert.deepEqual(prepare(undefined, { text: 'abcdefghijkl' })[1], Array(8).fill(1));
  const row = { ids: Int32Array.from({ length: 8 }, (_, i) => i), documents: new Int32Array(8).fill(2) };
  assert.deepEqual(prepare(undefined, row)[0], [...row.ids]);
  const template = { begin: [], user: [], assistant: [], end: 1, predictors: [7], pad: 0 };
  const [text, documents, bare, code] = prepare(template, { text: 'aa', code: 'bb' });
  const [a, b] = ['aa', 'bb'].map((part) => tokenizer.encode(part));
  assert.deepEqual(text.slice(0, a.length + 1), [...a, 7]);
  assert.equal(documents.filter((d) => d === 1).length, a.length + 1);
  assert.deepEqual(bareTokens(Int32Array.from([...bare, ...code]), 8), [a, b]);
  assert.throws(() => prepare(template, { text: 'aa' }), /without its other form/);
});

test('files of text: paragraphs, lines, JSONL with labels and dialogues; errors name the line', async () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const plain = textFiles('x', [{ where: 'a.txt', bytes: bytes('one\r\ntwo\r\n\r\n three \n\n\n') }]);
  assert.deepEqual([(await plain.read(0)).text, (await plain.read(1)).text], ['one\ntwo', 'three']);
  assert.equal(textFiles('x', [{ where: 'a.txt', bytes: bytes('one\ntwo') }], { split: 'lines' }).length, 2);
  const lines = [
    { text: 'first', label: 'b' },
    { content: 'second', label: 'a' },
    {
      messages: [
        { role: 'system', content: 's' },
        { role: 'user', content: 'u' },
        { role: 'assistant', content: 'v' },
      ],
    },
  ];
  const jsonl = textFiles('x', [
    { where: 'a.jsonl', bytes: bytes(lines.map((line) => JSON.stringify(line)).join('\n')) },
  ]);
  assert.deepEqual(jsonl.classNames, ['a', 'b']);
  assert.deepEqual([...(jsonl.labels ?? [])], [1, 0, -1]);
  assert.deepEqual(await jsonl.read(2), { text: 'u', code: 'v' });
  for (const [line, message] of [
    ['{"text": 3}', /a\.jsonl, line 2: it has no text/],
    ['{"messages": [{"role": "user"}]}', /line 2: its messages lack/],
    ['[1]', /line 2: neither a text/],
    ['{', /line 2/],
  ] as const) {
    assert.throws(() => textFiles('x', [{ where: 'a.jsonl', bytes: bytes(`{"text": "x"}\n${line}`) }]), message);
  }
  const folder = mkdtempSync(join(tmpdir(), 'texts-'));
  mkdirSync(join(folder, 'b'));
  writeFileSync(join(folder, 'b', 'z.jsonl'), '{"text": "from below"}\n');
  writeFileSync(join(folder, 'a.txt'), 'from above');
  const all = await textFolder(folder);
  assert.deepEqual([(await all.read(0)).text, (await all.read(1)).text], ['from above', 'from below']);
  await assert.rejects(textFolder(join(folder, 'none')), /cannot read .*none: it does not exist/);
});

const FACTOR_CLASSES: Record<GrammarFactor, number> = {
  topic: 6,
  tense: 3,
  number: 2,
  agent: 8,
  verb: 4,
  order: 2,
  sentiment: 2,
};

test('grammar: the same for a seed, balanced, two wordings of one meaning', async () => {
  const options = { count: 48, seed: 3 };
  const [texts, again] = [grammarTexts(options), grammarTexts(options)];
  assert.deepEqual(await texts.read(5), await again.read(5));
  assert.deepEqual(await texts.read(5), await open(options).read(5));
  for (const factor of GRAMMAR_FACTORS) {
    const values = [...(texts.attributes?.[factor] ?? [])];
    for (let value = 0; value < FACTOR_CLASSES[factor]; value++)
      assert.equal(values.filter((v) => v === value).length, 48 / FACTOR_CLASSES[factor], factor);
  }
  const paraphrased = await grammarTexts({ ...options, code: 'paraphrase' }).read(5);
  assert.equal(paraphrased.text, (await texts.read(5)).text);
  assert.notEqual(paraphrased.code, paraphrased.text);
  // The formal code depends on the meaning alone.
  const codes = new Set(await Promise.all(Array.from({ length: 48 }, async (_, i) => (await texts.read(i)).code)));
  assert.ok(codes.size > 40);
  assert.throws(() => grammarTexts({ count: 3, label: 'colour' as never }), /no factor 'colour'/);
});

test('grammar: words alone tell topic and tense, but not who acts, what comes first or what is thought', async () => {
  const sets = await Promise.all(
    [0, 1].map(async (half) => {
      const dataset = grammarTexts({ count: half ? 240 : 720, seed: half });
      const texts = await Promise.all(
        Array.from({ length: dataset.length }, async (_, i) => (await dataset.read(i)).text),
      );
      return { dataset, words: texts.map((text) => text.replace(/[.,]/g, '').split(' ')) };
    }),
  );
  const vocabulary = [...new Set(sets[0].words.flat())];
  const bags = sets.map(({ words }) => ({
    shape: [words.length, vocabulary.length],
    data: Float32Array.from(words.flatMap((text) => vocabulary.map((word) => text.filter((w) => w === word).length))),
  }));
  const right = (factor: GrammarFactor): number => {
    const [train, held] = sets.map(({ dataset }) => dataset.attributes?.[factor] as Int32Array);
    const model = fitLogistic(bags[0], train, FACTOR_CLASSES[factor], { C: 0.01, tolerance: 1e-3 });
    return accuracy(predictedClasses(predictProbabilities(model, bags[1])), held);
  };
  assert.ok(right('topic') > 0.95);
  assert.ok(right('tense') > 0.8);
  for (const factor of ['order', 'sentiment'] as const) assert.ok(Math.abs(right(factor) - 0.5) < 0.12, factor);
  assert.ok(right('agent') < 0.62);
});
