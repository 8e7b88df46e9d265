import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { strToU8, zipSync } from 'fflate';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { withFile } from '../../src/hub/files.js';
import { encodeNpy, encodeNpz, type NpyFile, openNpy, openNpz } from '../../src/hub/npy.js';
import { loadTensor } from '../../src/hub/raw.js';
import { bytesSource } from '../../src/hub/source.js';
import { crc32 } from '../../src/hub/zip.js';
import { difference } from '../harness/harness.js';
import { assertRefused, expectedArray, type FormatCase, fixtures, formatCases, fuzzParser } from './cases.js';

const exact = { rtol: 0, atol: 0 };
const load = ({ tensor }: NpyFile) => loadTensor(tensor!, 'array');

function checkArray(each: FormatCase, file: NpyFile) {
  const { expect, arrays, name } = each;
  for (const key of ['descr', 'shape', 'version'] as const) if (expect[key]) assert.deepEqual(file[key], expect[key]);
  if ('fortran_order' in expect) assert.equal(file.fortranOrder, expect.fortran_order);
  if (expect.integers) assert.deepEqual(Array.from(load(file).data, String), expect.integers);
  if ('value' in expect) assert.deepEqual(Array.from(load(file).data, Number), [expect.value]);
  if (expect.values) assert.deepEqual(file.text!(), expect.values);
  if (arrays.real) {
    const pairs = new Float32Array(file.tensor!.read().buffer);
    ['real', 'imag'].forEach((part, i) => {
      const got = { shape: file.shape, data: pairs.filter((_, at) => at % 2 === i) };
      assert.equal(difference(part, got, expectedArray(`${name}/${part}`), exact), undefined);
    });
  } else if (arrays.value) {
    assert.equal(difference(name, load(file), expectedArray(`${name}/value`), exact), undefined);
  }
}

for (const each of formatCases('npy', 'good')) {
  test(`read: ${each.name}`, () =>
    withFile(join(fixtures, each.files[0]), (source) => checkArray(each, openNpy(source))));
}

for (const { name, files, expect, arrays } of formatCases('npz', 'good')) {
  test(`read: ${name}`, () => {
    withFile(join(fixtures, files[0]), (source) => {
      const archive = openNpz(source);
      assert.deepEqual([...archive.arrays.keys()].sort(), expect.names);
      for (const key of Object.keys(arrays)) {
        assert.equal(
          difference(key, load(archive.arrays.get(key)!), expectedArray(`${name}/${key}`), exact),
          undefined,
        );
      }
      if (expect.second) assert.deepEqual(Array.from(load(archive.arrays.get('second')!).data, String), expect.second);
    });
  });
}

const REASONS: Record<string, RegExp> = {
  'truncated.npy': /takes \d+ bytes, \d+ follow the header/,
  'truncated_header.npy': /header announces 118 bytes, 20 follow/,
  'magic.npy': /does not start as one/,
  'version9.npy': /version 9\.0 is unknown/,
  'header_length.npy': /header announces 65535 bytes/,
  'absurd_shape.npy': /takes \d+ bytes|overflows/,
  'overflow_shape.npy': /overflows/,
  'negative_shape.npy': /negative/,
  'code_in_header.npy': /not a plain literal/,
  'missing_key.npy': /lacks fortran_order/,
  'unknown_descr.npy': /type "<q9" is unknown/,
  'object.npy': /pickles/,
  'structured.npy': /structured type/,
  'truncated.npz': /no central directory/,
  'offset.npz': /outside of the file/,
  'deflate_error.npz': /compressed data|checksum/,
  'bomb.npz': /takes 16 bytes|more than the|\d+ follow the header/,
};

for (const { name, files, limits } of formatCases('npy', 'bad')) {
  test(`refused: ${name}`, () => {
    const reason = REASONS[name.split('.').slice(2).join('.')];
    assert.ok(reason, `an expectation for ${name}`);
    const read = () =>
      withFile(join(fixtures, files[0]), (source) => {
        const found = files[0].endsWith('.npz') ? [...openNpz(source).arrays.values()] : [openNpy(source)];
        return found.map(load);
      });
    assertRefused(name, read, reason, limits);
  });
}

test('headers are read as literals and nothing else', () => {
  const file = (header: string, data = new Uint8Array(0)) => {
    const text = strToU8(header);
    return Uint8Array.of(
      0x93,
      0x4e,
      0x55,
      0x4d,
      0x50,
      0x59,
      1,
      0,
      text.length & 255,
      text.length >> 8,
      ...text,
      ...data,
    );
  };
  const shape = (header: string) => openNpy(bytesSource(file(header, new Uint8Array(24)))).shape;
  assert.deepEqual(shape("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n"), [2, 3]);
  assert.deepEqual(shape(`{"shape":(6,),"descr":"<f4","fortran_order":True}`), [6]);
  assert.deepEqual(shape("{'descr': '<f8', 'fortran_order': False, 'shape': (3L,)}"), [3]);
  for (const header of [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'more': ()}",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': (6,)}",
    "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} + 1",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)",
    '',
    "('descr')",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 6}",
    "{'__proto__': '<f4', 'fortran_order': False, 'shape': (6,)}",
  ]) {
    assertRefused(header, () => shape(header), /not a readable .npy array/);
  }
});

test('arrays are written as NumPy writes them, byte for byte', () => {
  for (const name of [
    'dt_le_f4',
    'dt_le_f8',
    'dt_le_f2',
    'dt_i1',
    'dt_u1',
    'dt_le_i2',
    'dt_le_i8',
    'dt_b1',
    'scalar',
    'empty',
    'complex64',
  ]) {
    const bytes = readFileSync(join(fixtures, 'npy', `${name}.npy`));
    assert.deepEqual(Buffer.from(encodeNpy(openNpy(bytesSource(bytes)).tensor!)), bytes, name);
  }
  assert.throws(
    () => encodeNpy({ dtype: 'BF16', shape: [1], byteLength: 2, read: () => new Uint8Array(2) }),
    /NumPy has no type for BF16/,
  );
});

test('archives are written, deterministic, and read back', () => {
  const arrays = new Map<string, HostTensor>([
    ['b', float32([2, 2], [1, 2, 3, 4])],
    ['a/ü', { dtype: 'int64', shape: [1], data: BigInt64Array.of(-3n) }],
    ['zeros', float32([1000], new Float32Array(1000))],
  ]);
  for (const compress of [false, true]) {
    const bytes = encodeNpz(arrays, { compress });
    assert.deepEqual(bytes, encodeNpz(new Map([...arrays].reverse()), { compress }));
    const archive = openNpz(bytesSource(bytes));
    assert.equal(archive.arrays.size, 3);
    for (const [name, tensor] of arrays) assert.deepEqual(load(archive.arrays.get(name)!), tensor);
    assert.equal(bytes.length < 2000, compress);
  }
});

test('members that are no arrays are listed; damaged checksums are found', () => {
  const bytes = zipSync({ 'x.npy': encodeNpy(float32([1], [7])), 'notes.txt': strToU8('hello') }, { level: 0 });
  const archive = openNpz(bytesSource(bytes));
  assert.deepEqual(archive.others, ['notes.txt']);
  const at = Buffer.from(bytes).indexOf(Buffer.from(Float32Array.of(7).buffer));
  bytes[at] ^= 1;
  assertRefused('checksum', () => load(openNpz(bytesSource(bytes)).arrays.get('x')!), /x\.npy: its checksum is wrong/);
});

test('CRC-32 has its known values', () => {
  assert.equal(crc32(strToU8('123456789')), 0xcbf43926);
  assert.equal(crc32(strToU8('6789'), crc32(strToU8('12345'))), 0xcbf43926);
  assert.equal(crc32(new Uint8Array(0)), 0);
});

test('damaged files give a result or one clear line', () => {
  const seeds = ['dt_be_i8', 'fortran', 'unicode', 'version3', 'odd_header'].map((name) =>
    readFileSync(join(fixtures, 'npy', `${name}.npy`)),
  );
  fuzzParser(
    seeds,
    (bytes) => {
      const { tensor, text } = openNpy(bytesSource(bytes));
      return tensor ? loadTensor(tensor, 'x') : text!();
    },
    1500,
  );
  const archives = ['stored', 'deflated'].map((name) => readFileSync(join(fixtures, 'npy', `${name}.npz`)));
  fuzzParser(archives, (bytes) => [...openNpz(bytesSource(bytes)).arrays.values()].map(load), 1500);
});
