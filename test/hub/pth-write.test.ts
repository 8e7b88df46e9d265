import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { unzipSync } from 'fflate';
import { float32 } from '../../src/base/tensor.js';
import { withFile } from '../../src/hub/files.js';
import { type PickleValue, readPickle } from '../../src/hub/pickle.js';
import { encodePickle, type PickleNode } from '../../src/hub/pickle-write.js';
import { describeTorchValue, openTorchFile, type TorchFile, type TorchValue } from '../../src/hub/pth.js';
import { type TorchWritable, torchFilePieces } from '../../src/hub/pth-write.js';
import { narrowFloat32, type StoredTensor } from '../../src/hub/raw.js';
import { concatBytes, openSafetensors } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { openZip } from '../../src/hub/zip.js';
import { assertRefused, fixtures, formatCases, fuzzParser, golden } from './cases.js';

const encode = (root: TorchWritable, stem?: string) => concatBytes([...torchFilePieces(root, stem)]);
const open = (bytes: Uint8Array) => openTorchFile(bytesSource(bytes, 'file.pth'));
const bits = ({ dtype, shape, read }: StoredTensor) => [dtype, [...shape], Buffer.from(read()).toString('hex')];

test('pickles are the bytes that the protocol says', () => {
  const cases: [PickleNode, string][] = [
    [null, '4e'],
    [true, '88'],
    [false, '89'],
    [0, '4b00'],
    [255, '4bff'],
    [256, '4d0001'],
    [65535, '4dffff'],
    [65536, '4a00000100'],
    [-1, '4affffffff'],
    [-(2 ** 31), '4a00000080'],
    // Python's `pickle.encode_long` gives these as examples.
    [255n, '8a02ff00'],
    [32767n, '8a02ff7f'],
    [-256n, '8a0200ff'],
    [-32768n, '8a020080'],
    [-128n, '8a0180'],
    [127n, '8a017f'],
    [2 ** 31, '8a050000008000'],
    [1.5, '473ff8000000000000'],
    [-0, '478000000000000000'],
    [Number.POSITIVE_INFINITY, '477ff0000000000000'],
    ['é', '5802000000c3a97100'],
    [['a', 'a'], '5d28580100000061710068' + '0065'],
    [[], '5d'],
    [new Map([['k', 1]]), '7d285801000000' + '6b71004b0175'],
    [new Map([[[1, 2], null]]), '7d284b014b02864e75'],
    [{ tuple: [] }, '29'],
    [{ tuple: [1] }, '4b0185'],
    [{ tuple: [1, 2, 3, 4] }, '284b014b024b034b0474'],
    [{ module: 'torch', member: 'Size' }, `63${Buffer.from('torch\nSize\n').toString('hex')}7100`],
    [{ persistent: 7 }, '4b0751'],
    [{ call: { module: 'm', member: 'f' }, args: [1] }, '636d0a660a7100' + '4b018552'],
  ];
  for (const [value, hex] of cases) assert.equal(Buffer.from(encodePickle(value)).toString('hex'), `8002${hex}2e`);
});

test('what is pickled is read back', () => {
  const { value: plain } = fc.letrec<{ value: PickleNode }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constant(null),
      fc.boolean(),
      fc.double({ noNaN: true }),
      fc.integer(),
      fc.bigInt({ min: -(1n << 90n), max: 1n << 90n }).filter((value) => !Number.isSafeInteger(Number(value))),
      fc.string({ unit: 'grapheme' }),
      fc.array(tie('value')),
      fc.array(fc.tuple(fc.string(), tie('value'))).map((pairs) => new Map(pairs)),
    ),
  }));
  const rules = { global: () => undefined, persistent: () => undefined, build: () => false };
  const read = (bytes: Uint8Array): PickleValue<never> => readPickle<never>(bytes, 'pickle', rules).value;
  fc.assert(
    fc.property(plain, (value) => {
      const bytes = encodePickle(value);
      assert.equal(readPickle<never>(bytes, 'pickle', rules).length, bytes.length);
      assert.deepEqual(read(bytes), value);
    }),
    { numRuns: 300 },
  );
  // More texts than one byte counts.
  const many = Array.from({ length: 700 }, (_, i) => `text ${i % 400}`);
  assert.deepEqual(read(encodePickle(many)), many);
});

/** Every tensor by its path with its bytes, and the rest as JSON. */
function contentOf({ root, tensors }: TorchFile): unknown {
  return [describeTorchValue(root), Array.from(tensors, ([path, tensor]) => [path, bits(tensor)])];
}

const FILES = [
  ...formatCases('pytorch checkpoint', 'good').map(({ files }) => join(fixtures, files[0])),
  ...[
    'mixed-zip.pth',
    'mixed-legacy.pth',
    'mixed-protocol4.pth',
    'official-zip.pth.tar',
    'official-legacy.pth.tar',
  ].map((name) => join(golden, 'hf-ijepa', 'pth', name)),
  ...['meta_vjepa2.pt', 'meta_ac.pt', 'meta_probe.pt'].map((name) => join(golden, 'hf-vjepa2', name)),
];

for (const path of FILES) {
  test(`read, written and read again: ${path.slice(golden.length + 1)}`, () => {
    withFile(path, (source) => {
      const file = openTorchFile(source);
      assert.ok(file.tensors.size > 10);
      assert.deepEqual(contentOf(open(encode(file.root))), contentOf(file));
    });
  });
}

test('all types and strides come out as PyTorch says they are', () => {
  for (const name of ['mixed-zip.pth', 'mixed-protocol4.pth', 'official-zip.pth.tar'] as const) {
    const expected = name.startsWith('mixed') ? 'mixed-expected' : 'official-expected';
    const values = openSafetensors(
      bytesSource(readFileSync(join(golden, 'hf-ijepa', 'pth', `${expected}.safetensors`))),
    );
    withFile(join(golden, 'hf-ijepa', 'pth', name), (source) => {
      const { tensors } = open(encode(openTorchFile(source).root));
      for (const [path, tensor] of values.tensors) assert.deepEqual(bits(tensors.get(path)!), bits(tensor), path);
    });
  }
});

test('the archive is laid out as torch.save does', () => {
  const bytes = readFileSync(join(golden, 'hf-vjepa2', 'meta_ac.pt'));
  const theirs = unzipSync(bytes);
  const ours = encode(open(bytes).root, 'meta_ac');
  const members = unzipSync(ours);
  const kept = (all: Record<string, Uint8Array>) =>
    new Map(Object.entries(all).filter(([name]) => !/data\.pkl|serialization_id/.test(name)));
  assert.deepEqual([...Object.keys(members)].sort(), [...Object.keys(theirs)].sort());
  // Storages under the same numbers with the same bytes, version, byte order and alignment.
  assert.ok(kept(theirs).size > 50);
  assert.deepEqual(kept(members), kept(theirs));
  assert.match(Buffer.from(members['meta_ac/.data/serialization_id']).toString(), /^\d{40}$/);
  const source = bytesSource(ours);
  for (const { name, size, compressed, stored } of openZip(source).values()) {
    assert.ok(!compressed, name);
    if (size === 0) continue;
    const content = Buffer.from(stored().read(0, size));
    const found = [...Array(Math.ceil(ours.length / 64)).keys()].some((block) =>
      content.equals(Buffer.from(ours.subarray(block * 64, block * 64 + size))),
    );
    assert.ok(found, `${name} begins at a multiple of 64`);
  }
  assert.deepEqual(encode(open(bytes).root, 'meta_ac'), ours, 'equal values, equal bytes');
});

/** A tensor that tells when it is read. */
function spied(name: string, log: string[], values: number[] = [1, 2]): StoredTensor {
  const data = Float32Array.from(values);
  const read = () => {
    log.push(name);
    return new Uint8Array(data.slice().buffer);
  };
  return { dtype: 'F32', shape: [values.length], byteLength: data.byteLength, read };
}

test('tensors are read one at a time, in their turn; those that occur twice are stored once', () => {
  const log: string[] = [];
  const [a, b] = [spied('a', log), spied('b', log, [3, 4, 5])];
  const state = new Map([
    ['a', a],
    ['b', b],
  ]);
  const root = new Map<TorchWritable, TorchWritable>([
    ['encoder', state],
    ['target_encoder', state],
    ['list', [b]],
  ]);
  const pieces = torchFilePieces(root);
  assert.deepEqual(log, []);
  const seen: Uint8Array[] = [];
  for (const piece of pieces) {
    // Data of 8 and 12 bytes: of at most one tensor they were read and not yet given away.
    assert.ok(log.length - seen.filter(({ length }) => length === 8 || length === 12).length <= 1);
    seen.push(piece);
  }
  assert.deepEqual(log, ['a', 'b']);
  const bytes = concatBytes(seen);
  assert.deepEqual(
    Object.keys(unzipSync(bytes)).filter((name) => name.includes('/data/')),
    ['archive/data/0', 'archive/data/1'],
  );
  const { tensors } = open(bytes);
  assert.deepEqual([...tensors.keys()], ['encoder/a', 'encoder/b', 'target_encoder/a', 'target_encoder/b', 'list/0']);
  assert.deepEqual(bits(tensors.get('target_encoder/b')!), bits(tensors.get('encoder/b')!));
});

test('tensors of the host, half precision, scalars and empty ones', () => {
  const values = [1, -2, 0.5, 65504, 2 ** -24, Number.NaN, Number.POSITIVE_INFINITY, -0];
  const tensor = float32([2, 4], Float32Array.from(values));
  const root = new Map<string, TorchWritable>([
    ['full', tensor],
    ['half', narrowFloat32(tensor, 'F16')],
    ['brain', narrowFloat32(tensor, 'BF16')],
    ['scalar', float32([], [7])],
    ['empty', float32([0, 3], [])],
  ]);
  const { tensors } = open(encode(root));
  const hex = (name: string) => Buffer.from(tensors.get(name)!.read()).toString('hex');
  assert.deepEqual(
    Array.from(tensors.values(), ({ dtype, shape }) => [dtype, ...shape]),
    [['F32', 2, 4], ['F16', 2, 4], ['BF16', 2, 4], ['F32'], ['F32', 0, 3]],
  );
  // IEEE 754: 1 is 3c00, the largest half 7bff, the smallest 0001, infinity 7c00; bfloat16 is the upper half of float32.
  assert.match(hex('half'), /^003c00c00038ff7b0100..7e007c0080$/);
  assert.match(hex('brain'), /^803f00c0003f80478033..7f807f0080$/);
  assert.equal(hex('scalar'), '0000e040');
  assert.equal(hex('empty'), '');
});

test('what cannot be written is refused before anything is', () => {
  const tensor = float32([2], [1, 2]);
  const of = (dtype: StoredTensor['dtype'], byteLength: number): StoredTensor => ({
    dtype,
    shape: [2],
    byteLength,
    read: () => new Uint8Array(byteLength),
  });
  assertRefused('type', () => torchFilePieces(new Map([['w', of('U32', 8)]])), /tensor "w": .* no storage for U32/);
  assertRefused('size', () => torchFilePieces([of('F32', 7)]), /tensor "0": 7 bytes do not fill F32 \[2\]/);
  let deep: TorchWritable = tensor;
  for (let i = 0; i < 300; i++) deep = [deep];
  assertRefused('depth', () => torchFilePieces(deep), /nest deeper than 200/);
  const loop: TorchWritable[] = [];
  loop.push(loop);
  assertRefused('a loop', () => torchFilePieces(loop), /nest deeper than 200/);
  const lies: StoredTensor = { ...of('F32', 8), read: () => new Uint8Array(4) };
  assertRefused('short data', () => encode([lies]), /tensor "0": 4 bytes where 8 are announced/);
});

test('damaged files of our own give a result or one clear line', () => {
  const root: TorchValue = new Map<TorchValue, TorchValue>([
    ['encoder', new Map([['module.w', { ...spied('w', []), shape: [1, 2] }]])],
    ['epoch', 3],
    ['jepa', new Map([['family', 'ijepa']])],
  ]);
  fuzzParser(
    [encode(root)],
    (bytes) => {
      for (const tensor of open(bytes).tensors.values()) tensor.read();
    },
    1500,
  );
});
