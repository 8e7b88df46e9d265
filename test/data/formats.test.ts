import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseWav, toMono, wavLayout, wavSamples } from '../../src/data/audio/wav.js';
import { csvNumber, parseCsv } from '../../src/data/csv.js';
import { parsePly, plyPoints } from '../../src/data/points/ply.js';
import { ntuLabels, parseNtu } from '../../src/data/skeleton/ntu.js';
import { parseStl10 } from '../../src/data/stl10.js';
import { bpeTokenizer, parseTokenizer, tokenizerJson, trainBpe } from '../../src/data/text/bpe.js';
import { parseVideoList } from '../../src/data/video/list.js';
import { fixtures, fuzzParser } from '../hub/cases.js';

// What the golden area `formats` has is tested by its harness; here is what it lacks.

/** Time of the processor, which other programs do not use up. */
function cpuSeconds(): () => number {
  const start = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1e6;
  };
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const read = (...names: string[]) => names.map((name) => new Uint8Array(readFileSync(join(fixtures, name))));

describe('CSV', () => {
  const rows = (text: string, options = {}) => parseCsv(utf8(text), 'x.csv', { header: false, ...options }).rows;

  it('reads what RFC 4180 has, and what programs write beside it', () => {
    assert.deepEqual(rows('a,"b,\r\n""c""",\r\n,,\r\n'), [
      ['a', 'b,\r\n"c"', ''],
      ['', '', ''],
    ]);
    assert.deepEqual(rows('a;b,c;d\n1;2;3'), [
      ['a', 'b,c', 'd'],
      ['1', '2', '3'],
    ]);
    assert.deepEqual(rows('"a"\r'), [['a']]);
    assert.deepEqual(rows('a::b::c', { delimiter: '::' }), [['a', 'b', 'c']]);
    assert.deepEqual(rows('\n \n'), []);
    assert.throws(() => parseCsv(utf8('\n'), 'x.csv'), /x\.csv: the file has no rows/);
  });

  it('gives back any table that is written by the rules', () => {
    const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', 'é', ' ') });
    const table = fc
      .integer({ min: 2, max: 4 })
      .chain((width) =>
        fc.array(fc.array(field, { minLength: width, maxLength: width }), { minLength: 1, maxLength: 5 }),
      );
    fc.assert(
      fc.property(table, (lines) => {
        const text = lines.map((line) => line.map((each) => `"${each.replaceAll('"', '""')}"`).join(',')).join('\n');
        assert.deepEqual(rows(text, { delimiter: ',' }), lines);
      }),
      { numRuns: 300 },
    );
  });

  it('counts lines inside of quotes, and takes no quadratic time for many fields', () => {
    assert.throws(() => rows('a,b\n"1\n2",3\n4\n'), /line 4 has 1 fields instead of 2/);
    const spent = cpuSeconds();
    assert.equal(rows(`${'1,'.repeat(300_000)}2`)[0].length, 300_001);
    assert.ok(spent() < 3);
  });

  it('says what is a number', () => {
    const texts = ['1', ' -2.5e3 ', '.5', '', 'x', '0x10', '1_0', 'Infinity', '1e', 'nan'];
    assert.deepEqual(texts.map(csvNumber), [
      1,
      -2500,
      0.5,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
      Number.NaN,
    ]);
  });
});

describe('lists of videos', () => {
  const list = (text: string) => parseVideoList(utf8(text), 'list.csv').map(({ path, label }) => [path, label]);

  it('splits at the last space, commas by their header', () => {
    assert.deepEqual(list('a b  c.mp4 -1\r\n\r\nd.mp4 2'), [
      ['a b  c.mp4', -1],
      ['d.mp4', 2],
    ]);
    assert.deepEqual(list('label,path\n3,x y.mp4\n'), [['x y.mp4', 3]]);
    assert.deepEqual(list('x,1\ny,2'), [
      ['x', 1],
      ['y', 2],
    ]);
  });

  it('numbers classes that a list gives by name, in their order', () => {
    const entries = parseVideoList(utf8('path,label\nb.mp4,right\na.mp4, left\nc.mp4,right\n'), 'list.csv');
    assert.deepEqual(
      entries.map(({ path, label, className }) => [path, label, className]),
      [
        ['b.mp4', 1, 'right'],
        ['a.mp4', 0, 'left'],
        ['c.mp4', 1, 'right'],
      ],
    );
    // Numbers and names together are a mistake, and so is a missing one.
    assert.throws(() => list('path,label\na.mp4,left\nb.mp4,3\n'), /entry 1: the label "left" is not an integer/);
    assert.throws(() => list('path,label\na.mp4,left\nb.mp4,\n'), /list\.csv: an entry has no label/);
  });

  it('says which line is wrong', () => {
    assert.throws(() => list('a.mp4::1\nb.mp4 2'), /list\.csv: line 2 has no "::" between path and label/);
    assert.throws(() => list('a.mp4\nb.mp4'), /list\.csv: line 1 is neither/);
    assert.throws(() => list('path,class\na,1'), /header with the columns path and label/);
    assert.throws(() => list('path,label\n'), /no entries after its header/);
    assert.throws(() => list('a.mp4 1\nb.mp4 2.5'), /line 2: the label "2\.5" is not an integer/);
  });
});

describe('WAV', () => {
  it('is read in parts, from its first bytes', () => {
    const [bytes] = read('wav/pcm16_stereo.wav');
    const whole = parseWav(bytes, 'x');
    const layout = wavLayout(bytes.subarray(0, 60), 'x', bytes.length);
    const frame = (layout.channels * layout.bits) / 8;
    const from = layout.dataStart + 5 * frame;
    assert.deepEqual(wavSamples(layout, bytes.subarray(from, from + 3 * frame)), whole.samples.slice(10, 16));
    const mono = toMono(whole);
    assert.equal(mono[4], Math.fround((whole.samples[8] + whole.samples[9]) / 2));
  });

  it('damaged files give sound or one clear line', () => {
    const seeds = read(
      'wav/odd_chunks.wav',
      'wav/pcm24_stereo_extensible.wav',
      'wav/float64_mono.wav',
      'wav/streamed.wav',
    );
    fuzzParser(seeds, (bytes) => parseWav(bytes, 'x.wav'), 2000);
  });
});

describe('NTU skeletons', () => {
  const body = (id: string, x: number) =>
    [`${id} 0 1 0 0 1 0 0.5 0.5 2`, '25', ...Array.from({ length: 25 }, () => `${x}${' 1'.repeat(10)} 2`)].join('\n');

  it('keeps each person in its place when another one leaves', () => {
    const text = ['3', '2', body('7', 1), body('8', 2), '1', body('8', 3), '0', ''].join('\n');
    const { bodyIds, bodiesPerFrame, xyz } = parseNtu(utf8(text), 'x');
    assert.deepEqual(
      [bodyIds, bodiesPerFrame],
      [
        ['7', '8'],
        [2, 1, 0],
      ],
    );
    // x of the first joint: [frame, body]
    assert.deepEqual(
      Array.from({ length: 6 }, (_, i) => xyz[i * 75]),
      [1, 2, 0, 3, 0, 0],
    );
  });

  it('refuses a person twice in a frame, states that are none, more text, other names', () => {
    const one = (joints: string) => utf8(`1\n${joints}`);
    assert.throws(() => parseNtu(one(`2\n${body('7', 1)}\n${body('7', 1)}\n`), 'x'), /body 7 occurs twice/);
    assert.throws(() => parseNtu(one(`1\n${body('7', 1).replaceAll(/2$/gm, '3')}\n`), 'x'), /tracking state 3/);
    assert.throws(() => parseNtu(one(`1\n${body('7', 1)}\n1\n`), 'x'), /something after the last frame/);
    assert.deepEqual(ntuLabels('a/S001C002P003R002A013.skeleton'), {
      setup: 1,
      camera: 2,
      performer: 3,
      replication: 2,
      action: 13,
    });
    assert.throws(() => ntuLabels('a/b.skeleton'), /a\/b\.skeleton: the name is not one of NTU/);
  });

  it('damaged files give a recording or one clear line', () => {
    fuzzParser(read('ntu/S001C002P003R002A013.skeleton'), (bytes) => parseNtu(bytes, 'x.skeleton'), 500);
  });
});

describe('PLY', () => {
  it('keeps the type of every property and refuses what is out of its range', () => {
    const file = (rows: string) =>
      utf8(
        `ply\r\nformat ascii 1.0\r\nelement vertex 1\r\nproperty int x\r\nproperty uint8 y\r\nproperty float z\r\nend_header\r\n${rows}`,
      );
    const { xyz, properties } = plyPoints(parsePly(file('-3 255 1.5\r\n'), 'x'), 'x');
    assert.deepEqual([[...xyz], properties.size], [[-3, 255, 1.5], 0]);
    assert.throws(() => parsePly(file('0 256 0\n'), 'x'), /256 in the row of vertex 0 is out of range/);
    assert.throws(() => parsePly(file('0 1.5 0\n'), 'x'), /"1\.5" in the row of vertex 0 is not an integer/);
    assert.throws(() => parsePly(file('0 1 0 7\n'), 'x'), /has 4 numbers instead of 3/);
    assert.throws(() => parsePly(file('0 1 0\n1 1 1\n'), 'x'), /rows after its last element/);
  });

  it('damaged files give points or one clear line', () => {
    const seeds = read('ply/ascii.ply', 'ply/little.ply', 'ply/big.ply', 'ply/faces_first.ply');
    fuzzParser(seeds, (bytes) => plyPoints(parsePly(bytes, 'x.ply'), 'x.ply'), 2000);
  });
});

describe('STL-10', () => {
  const images = { bytes: new Uint8Array(2 * 3 * 96 * 96), where: 'X.bin' };

  it('refuses cut files and labels that are none', () => {
    const labels = (...bytes: number[]) => parseStl10(images, { bytes: Uint8Array.from(bytes), where: 'y.bin' });
    assert.deepEqual([...labels(1, 10).labels!], [0, 9]);
    assert.throws(() => labels(1), /y\.bin: 1 labels for the 2 images of X\.bin/);
    assert.throws(() => labels(1, 11), /y\.bin: record 1 has label 11/);
    assert.throws(
      () => parseStl10({ bytes: new Uint8Array(100), where: 'X.bin' }),
      /X\.bin: 100 bytes are not a multiple/,
    );
  });
});

describe('byte-level BPE', () => {
  const [bytes] = read('tokenizer/tokenizer.json');
  const reference = parseTokenizer(bytes, 'tokenizer.json');

  it('gives back any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        // Lone surrogates have no UTF-8.
        const whole = new TextDecoder().decode(utf8(text));
        const ids = reference.encode(whole);
        assert.equal(reference.decode(ids), whole);
        const characters = [...whole].length;
        for (const [from, to] of reference.offsets(whole, ids)) assert.ok(from >= 0 && from < to && to <= characters);
      }),
      { numRuns: 300 },
    );
  });

  it('writes the file that it has read', () => {
    assert.deepEqual(JSON.parse(tokenizerJson(reference)), JSON.parse(new TextDecoder().decode(bytes)));
    const again = parseTokenizer(utf8(tokenizerJson(reference)), 'again');
    assert.deepEqual([again.vocab, again.merges, again.added], [reference.vocab, reference.merges, reference.added]);
  });

  it('merges by rank, then from the left; of added tokens the longest counts', () => {
    const letters = new Map(['a', 'b', 'c', 'ab', 'bc', 'aa', 'abc'].map((token, id) => [token, id]));
    const merges = [
      ['b', 'c'],
      ['a', 'b'],
      ['a', 'a'],
    ] as const;
    const added = [
      { id: 7, content: '<x>', special: true },
      { id: 8, content: '<x>a', special: false },
    ];
    const small = bpeTokenizer({ vocab: letters, merges, added }, 'small');
    const tokens = (text: string) => small.encode(text).map((id) => small.token(id));
    assert.deepEqual(tokens('abc'), ['a', 'bc']);
    assert.deepEqual(tokens('aaab'), ['aa', 'ab']);
    assert.deepEqual(tokens('aaa'), ['aa', 'a']);
    assert.deepEqual(tokens('<x>aa<x>'), ['<x>a', 'a', '<x>']);
    assert.equal(small.decode([7, 0, 8], { skipSpecial: true }), 'a<x>a');
    assert.equal(small.size, 9);
    assert.throws(() => small.encode('é'), /no token for the byte 195/);
    assert.throws(() => small.decode([9]), /there is no token 9, ids are 0 to 8/);
  });

  it('reads merges of older files, refuses what would be encoded otherwise', () => {
    const file = JSON.parse(new TextDecoder().decode(bytes));
    const variant = (change: (root: typeof file) => void) => {
      const copy = structuredClone(file);
      change(copy);
      return parseTokenizer(utf8(JSON.stringify(copy)), 'x.json');
    };
    const old = variant((root) => {
      root.model.merges = root.model.merges.map((pair: string[]) => pair.join(' '));
    });
    assert.deepEqual(old.merges, reference.merges);
    assert.throws(() => variant((root) => Object.assign(root, { normalizer: { type: 'NFC' } })), /normalizes text/);
    assert.throws(() => variant((root) => Object.assign(root.pre_tokenizer, { use_regex: false })), /pre-tokenizer/);
    assert.throws(() => variant((root) => Object.assign(root.added_tokens[0], { lstrip: true })), /sets lstrip/);
    assert.throws(() => variant((root) => root.model.merges.push('a b c')), /not a pair of tokens/);
  });

  it('learns what occurs most often, and nothing that occurs once', () => {
    const trained = trainBpe(['low low low lower', 'newest newest'], { vocabSize: 1000, special: ['<e>'] });
    // By hand: "ow" and "lo" occur 4 times; l, o and w have ids in this order, so "lo" comes first.
    assert.deepEqual(trained.merges.slice(0, 2), [
      ['l', 'o'],
      ['lo', 'w'],
    ]);
    assert.ok(trained.vocab.has('newest') && !trained.vocab.has('Ġlower'));
    assert.deepEqual(trained.added, [{ id: 0, content: '<e>', special: true }]);
    assert.throws(() => trainBpe([], { vocabSize: 256, special: ['<e>'] }), /cannot hold 256 bytes and 1 special/);
  });

  it('takes time in proportion to long words', () => {
    const spent = cpuSeconds();
    assert.equal(reference.decode(reference.encode('ab'.repeat(100_000))).length, 200_000);
    assert.ok(spent() < 3);
  });

  it('damaged files give a tokenizer or one clear line', () => {
    fuzzParser([bytes], (damaged) => parseTokenizer(damaged, 'x.json').encode('the cat'), 300);
  });
});
