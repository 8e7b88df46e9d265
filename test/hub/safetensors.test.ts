import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { JepaError } from '../../src/base/errors.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { withFile } from '../../src/hub/files.js';
import { loadFloat32, loadTensor, narrowFloat32, type StoredTensor } from '../../src/hub/raw.js';
import { encodeSafetensors, openSafetensors, parseSafetensors } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { openWeights, writeSafetensors, writeWeights } from '../../src/hub/weights.js';
import { difference } from '../harness/harness.js';
import { assertRefused, expectedArray, fixtures, formatCase, formatCases, fuzzParser, golden } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-safetensors-'));
after(() => rmSync(folder, { recursive: true }));

const readFixture = (path: string) => new Uint8Array(readFileSync(join(fixtures, path)));

test('every dtype of the reference writer is read, with the right bytes and values', () => {
  const { files, expect } = formatCase('safetensors.all_dtypes');
  const file = openSafetensors(bytesSource(readFixture(files[0])));
  assert.deepEqual(file.metadata, expect.metadata);
  assert.deepEqual([...file.tensors.keys()].sort(), Object.keys(expect.tensors).sort());
  for (const [name, facts] of Object.entries<{
    dtype: string;
    shape: number[];
    sha256: string;
    values: (number | string)[];
  }>(expect.tensors)) {
    const stored = file.tensors.get(name)!;
    assert.equal(stored.dtype, facts.dtype, name);
    assert.deepEqual(stored.shape, facts.shape, name);
    assert.equal(createHash('sha256').update(stored.read()).digest('hex'), facts.sha256, name);
    if (facts.dtype === 'U64') continue; // above 2^63: see below
    const values = Array.from(loadTensor(stored, name).data as ArrayLike<number | bigint>, String);
    assert.deepEqual(values, facts.values.map(String), name);
  }
  assert.throws(() => loadTensor(file.tensors.get('u64')!, 'u64'), /tensor "u64": U64 values above/);
});

test('offsets in any order, unpadded headers and misaligned tensors are read', () => {
  const { files, expect } = formatCase('safetensors.unpadded');
  const tensors = parseSafetensors(readFixture(files[0]));
  for (const [name, values] of Object.entries(expect.tensors)) {
    assert.deepEqual(Array.from(tensors.get(name)!.data as ArrayLike<number>), values);
  }
  assert.equal(tensors.size, Object.keys(expect.tensors).length);
});

test('sharded folders are read through their index', () => {
  const { arrays } = formatCase('safetensors.sharded');
  const weights = openWeights(join(fixtures, 'safetensors', 'sharded'));
  assert.equal(weights.files.length, 2);
  assert.deepEqual([...weights.tensors.keys()].sort(), Object.keys(arrays).sort());
  for (const [name, { rtol = 0, atol = 0 }] of Object.entries(arrays)) {
    const got = loadFloat32(weights.tensors.get(name)!, name);
    assert.equal(difference(name, got, expectedArray(`safetensors.sharded/${name}`), { rtol, atol }), undefined);
  }
  weights.close();
});

/** What the line must say, by case. */
const REASONS: Record<string, RegExp> = {
  truncated_data: /ends at byte \d+, the file already at \d+/,
  truncated_header: /header announces \d+ bytes, at most \d+/,
  empty_file: /no header, the file has only 0 bytes/,
  seven_bytes: /no header, the file has only 7 bytes/,
  huge_header_length: /header announces \d+ bytes, at most \d+/,
  header_length_flipped: /header/,
  trailing_bytes: /\d+ bytes follow the last tensor/,
  hole: /gap of \d+ bytes/,
  overlap: /overlaps/,
  wrong_size: /takes \d+ bytes, its offsets say \d+/,
  absurd_shape: /overflows|non-negative integers/,
  negative_offset: /data_offsets that are not two non-negative integers/,
  reversed_offsets: /before it begins/,
  fraction: /non-negative integers/,
  unknown_dtype: /unknown dtype/,
  metadata_number: /metadata values must be strings/,
  metadata_nested: /metadata values must be strings/,
  duplicate_name: /occurs twice/,
  not_an_object: /does not start with \{|not an object/,
  invalid_utf8: /not UTF-8/,
  deep_json: /nesting too deep/,
  index_escapes: /leaves the folder/,
  index_missing: /shard .* is missing/,
};

for (const { name, files, limits } of formatCases('safetensors', 'bad')) {
  test(`refused: ${name}`, () => {
    const reason = REASONS[name.split('.').at(-1)!];
    assert.ok(reason, `an expectation for ${name}`);
    assertRefused(name, () => openWeights(join(fixtures, files[0])), reason, limits);
    assertRefused(name, () => openWeights(join(fixtures, files[0])), /golden/, limits);
  });
}

test('an index that names a tensor elsewhere, or not at all, is refused', () => {
  const shards = join(folder, 'wrong-index');
  mkdirSync(shards);
  writeSafetensors(join(shards, 'a.safetensors'), new Map([['x', float32([1], [1])]]));
  writeSafetensors(join(shards, 'b.safetensors'), new Map([['y', float32([1], [1])]]));
  const index = (map: object) =>
    writeFileSync(join(shards, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  index({ x: 'a.safetensors', y: 'a.safetensors' });
  assertRefused('wrong shard', () => openWeights(shards), /tensor "y" is not in a.safetensors/);
  index({ x: 'a.safetensors', z: 'b.safetensors' });
  assertRefused('unknown tensor', () => openWeights(shards), /tensor "z" is not in b.safetensors/);
  index({ x: 'a.safetensors' });
  assert.deepEqual([...openWeights(shards).tensors.keys()], ['x']);
  for (const outside of ['../a.safetensors', '/etc/passwd', 'sub/a', 'C:\\x', '..', 'a\0b']) {
    index({ x: outside });
    assertRefused(outside, () => openWeights(shards), /leaves the folder/);
  }
});

test('files of the reference writer are reproduced byte for byte', () => {
  for (const path of [
    join(fixtures, 'safetensors/sharded/model-00001-of-00002.safetensors'),
    join(golden, 'hf-ijepa/model/model.safetensors'),
    join(golden, 'hf-ijepa/bfloat16/model.safetensors'),
    join(golden, 'hf-ijepa/pth/mixed-expected.safetensors'),
  ]) {
    const bytes = readFileSync(path);
    const { tensors, metadata } = openSafetensors(bytesSource(bytes));
    assert.deepEqual(Buffer.from(encodeSafetensors(tensors, metadata)), bytes, path);
  }
  // This one has three metadata entries, whose order the reference writer leaves to chance: compare all that follows.
  const all = readFixture('safetensors/all_dtypes.safetensors');
  const { tensors, metadata } = openSafetensors(bytesSource(all));
  const again = openSafetensors(bytesSource(encodeSafetensors(tensors, metadata)));
  assert.deepEqual([...again.tensors.keys()], [...tensors.keys()]);
  assert.deepEqual(again.metadata, metadata);
});

test('data of written files is aligned', () => {
  const tensors = new Map<string, HostTensor>([
    ['b', { dtype: 'bool', shape: [3], data: Uint8Array.of(1, 0, 1) }],
    ['i', { dtype: 'int64', shape: [1], data: BigInt64Array.of(-5n) }],
    ['f', float32([3], [1, 2, 3])],
    ['d', { dtype: 'float64', shape: [1], data: Float64Array.of(Math.PI) }],
  ]);
  const bytes = encodeSafetensors(tensors, { z: 'last', a: 'first' });
  const header = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  assert.equal(header % 8, 0);
  const described = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + header)));
  assert.equal(described.f.data_offsets[0] % 4, 0);
  assert.equal(described.d.data_offsets[0] % 8, 0);
  assert.deepEqual(
    parseSafetensors(bytes),
    new Map([...tensors].sort(([a], [b]) => 'idfb'.indexOf(a) - 'idfb'.indexOf(b))),
  );
});

test('any names, metadata and shapes survive writing and reading', () => {
  const tensor = fc.array(fc.nat(4), { maxLength: 4 }).chain((shape) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return fc.float32Array({ minLength: size, maxLength: size }).map((data) => float32(shape, data));
  });
  const name = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', 'constructor', '0', '12', ''));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, tensor)),
      fc.dictionary(name, fc.string({ unit: 'binary' })),
      (entries, notes) => {
        const tensors = new Map(entries.filter(([key]) => key !== '__metadata__'));
        const metadata = Object.fromEntries(Object.entries(notes));
        const file = openSafetensors(bytesSource(encodeSafetensors(tensors, metadata)));
        assert.deepEqual(Object.entries(file.metadata).sort(), Object.entries(metadata).sort());
        assert.equal(file.tensors.size, tensors.size);
        for (const [key, expected] of tensors) assert.deepEqual(loadTensor(file.tensors.get(key)!, key), expected);
      },
    ),
    { numRuns: 100 },
  );
});

test('half precision and bfloat16: all 65,536 patterns widen and narrow back', () => {
  // The expected value comes from the definition of the format, in doubles.
  const defined = (bits: number, exponentBits: number, fractionBits: number) => {
    const sign = bits >> (exponentBits + fractionBits) ? -1 : 1;
    const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1);
    const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
    const bias = 2 ** (exponentBits - 1) - 1;
    if (exponent === 2 ** exponentBits - 1) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - bias) : fraction * 2 ** (1 - bias));
  };
  const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
  for (const [dtype, exponent, fraction] of [
    ['F16', 5, 10],
    ['BF16', 8, 7],
  ] as const) {
    const stored: StoredTensor = {
      dtype,
      shape: [65536],
      byteLength: 131072,
      read: () => new Uint8Array(patterns.slice().buffer),
    };
    const wide = loadFloat32(stored, dtype);
    for (let i = 0; i < 65536; i++) assert.ok(Object.is(wide.data[i], defined(i, exponent, fraction)), `${dtype} ${i}`);
    const back = new Uint16Array(narrowFloat32(wide, dtype).read().buffer);
    for (let i = 0; i < 65536; i++) {
      if (!Number.isNaN(wide.data[i])) assert.equal(back[i], i, `${dtype} ${i}`);
      else assert.ok(Number.isNaN(defined(back[i], exponent, fraction)), `${dtype} ${i} stays NaN`);
    }
  }
});

test('narrowing rounds to the nearest, ties to even', () => {
  const lattice = (dtype: 'F16' | 'BF16', count: number) =>
    loadFloat32(
      {
        dtype,
        shape: [count],
        byteLength: 2 * count,
        read: () => new Uint8Array(Uint16Array.from({ length: count }, (_, i) => i).buffer),
      },
      '',
    ).data;
  for (const [dtype, infinity] of [
    ['F16', 0x7c00],
    ['BF16', 0x7f80],
  ] as const) {
    const values = lattice(dtype, infinity);
    fc.assert(
      fc.property(fc.nat(infinity - 2), fc.double({ min: 0, max: 1, noNaN: true }), (i, share) => {
        const x = Math.fround(values[i] + share * (values[i + 1] - values[i]));
        const middle = (values[i] + values[i + 1]) / 2;
        const nearest = x < middle ? i : x > middle ? i + 1 : i % 2 === 0 ? i : i + 1;
        const [got, negative] = new Uint16Array(narrowFloat32(float32([2], [x, -x]), dtype).read().buffer);
        assert.equal(got, nearest);
        assert.equal(negative, nearest | 0x8000);
      }),
      { numRuns: 2000 },
    );
    for (const i of [0, 1, 2, 3, 1023, 1024, 1025, infinity - 2]) {
      const tie = (values[i] + values[i + 1]) / 2;
      const [got] = new Uint16Array(narrowFloat32(float32([1], [tie]), dtype).read().buffer);
      assert.equal(got, i % 2 === 0 ? i : i + 1, `${dtype} tie above ${i}`);
    }
  }
  const [half, top] = new Uint16Array(narrowFloat32(float32([2], [65519.99, 65520]), 'F16').read().buffer);
  assert.deepEqual([half, top], [0x7bff, 0x7c00]);
});

test('files above 4 GB are read by range', () => {
  // A sparse file: a header that announces 5 GB, and real bytes only in its last tensor.
  const path = join(folder, 'large.safetensors');
  const filler = 5 * 2 ** 30;
  const json = JSON.stringify({
    filler: { dtype: 'U8', shape: [filler], data_offsets: [0, filler] },
    last: { dtype: 'F32', shape: [2], data_offsets: [filler, filler + 8] },
  });
  const header = Buffer.alloc(8 + json.length);
  header.writeBigUInt64LE(BigInt(json.length));
  header.write(json, 8);
  writeFileSync(path, header);
  truncateSync(path, header.length + filler + 8);
  const fd = openSync(path, 'r+');
  writeSync(fd, new Uint8Array(Float32Array.of(1.5, -2).buffer), 0, 8, header.length + filler);
  closeSync(fd);
  withFile(path, (source) => {
    const file = openSafetensors(source);
    assert.equal(file.tensors.get('filler')!.byteLength, filler);
    assert.deepEqual(loadTensor(file.tensors.get('last')!, 'last'), float32([2], [1.5, -2]));
  });
  rmSync(path);
});

test('writeWeights shards by size, in names that openWeights and the index agree on', () => {
  const target = join(folder, 'sharding');
  mkdirSync(target);
  const tensors = new Map(
    Array.from({ length: 5 }, (_, i) => [`t${i}`, float32([10], new Float32Array(10).fill(i))] as const),
  );
  const check = (files: number) => {
    const weights = openWeights(target);
    assert.equal(weights.files.length, files);
    assert.deepEqual(weights.metadata, { format: 'pt', producer: 'jepa' });
    for (const [name, tensor] of tensors) assert.deepEqual(loadTensor(weights.tensors.get(name)!, name), tensor);
    weights.close();
  };
  writeWeights(target, tensors);
  check(1);
  writeWeights(target, tensors, { maxShardBytes: 80 });
  check(3);
  const index = JSON.parse(readFileSync(join(target, 'model.safetensors.index.json'), 'utf8'));
  assert.deepEqual(index.metadata, { total_parameters: 50, total_size: 200 });
  assert.equal(index.weight_map.t4, 'model-00003-of-00003.safetensors');
  writeWeights(target, tensors, { maxShardBytes: 40 });
  check(5);
  assert.equal(readdirSync(target).length, 6);
  writeWeights(target, tensors);
  check(1);
  assert.deepEqual(readdirSync(target), ['model.safetensors']);
});

test('mistakes of the writer are refused', () => {
  assert.throws(
    () => encodeSafetensors(new Map([['__metadata__', float32([1], [1])]])),
    /cannot be called __metadata__/,
  );
  assert.throws(
    () => encodeSafetensors(new Map([['x', { dtype: 'float32', shape: [3], data: new Float32Array(2) }]])),
    /tensor "x": 8 bytes do not fill F32 \[3\]/,
  );
  assert.throws(
    () => openWeights(join(folder, 'absent')),
    new JepaError(`cannot open ${join(folder, 'absent')}: it does not exist; check the path`),
  );
  assert.throws(
    () => openWeights(folder),
    /no weights here; looked for model.safetensors and model.safetensors.index.json/,
  );
});

test('damaged files give a result or one clear line', () => {
  const seeds = ['all_dtypes', 'unpadded_misaligned'].map((name) => readFixture(`safetensors/${name}.safetensors`));
  fuzzParser(seeds, parseSafetensors, 2000);
});
