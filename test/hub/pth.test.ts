import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { unzipSync, zipSync } from 'fflate';
import { JepaError } from '../../src/base/errors.js';
import { withFile } from '../../src/hub/files.js';
import { describeTorchValue, openTorchFile, type TorchValue } from '../../src/hub/pth.js';
import { loadTensor } from '../../src/hub/raw.js';
import { bytesSource } from '../../src/hub/source.js';
import { difference } from '../harness/harness.js';
import { assertRefused, expectedArray, fixtures, formatCases, fuzzParser, golden } from './cases.js';

const open = (bytes: Uint8Array) => openTorchFile(bytesSource(bytes, 'file.pth'));

function plain(root: TorchValue, ...path: string[]): unknown {
  let value = root;
  for (const key of path) value = (value as Map<TorchValue, TorchValue>).get(key)!;
  return describeTorchValue(value);
}

const HOST_TYPES: Record<string, string> = {
  float16: 'F16',
  bfloat16: 'BF16',
  float32: 'F32',
  float64: 'F64',
  int64: 'I64',
  int32: 'I32',
  uint8: 'U8',
  bool: 'BOOL',
};

for (const { name, files, expect, arrays } of formatCases('pytorch checkpoint', 'good')) {
  test(`read: ${name}`, () => {
    withFile(join(fixtures, files[0]), (source) => {
      const { root, tensors } = openTorchFile(source);
      for (const key of [
        'epoch',
        'lr',
        'batch_size',
        'world_size',
        'names',
        'param_groups',
        'big',
        'neg',
        'flag',
        'text',
      ]) {
        const value = key === 'param_groups' ? plain(root, 'opt', key) : plain(root, key);
        assert.deepEqual(value, expect[key], key);
      }
      for (const [key, type] of Object.entries<string>(expect.dtypes))
        assert.equal(tensors.get(`encoder/${key}`)!.dtype, HOST_TYPES[type], key);
      for (const [key, { rtol = 0, atol = 0 }] of Object.entries(arrays)) {
        const got = loadTensor(tensors.get(key)!, key);
        assert.equal(difference(key, got, expectedArray(`${name}/${key}`), { rtol, atol }), undefined);
      }
    });
  });
}

const REASONS: Record<string, RegExp> = {
  foreign_global: /names "posix.getcwd"/,
  foreign_global_legacy: /names ".*builtin.*.eval"/,
  truncated_zip: /no central directory/,
  truncated_storage: /storage "\d+" holds \d+ bytes where \d+ are announced/,
  missing_storage: /the data of storage "\d+" are missing/,
  truncated_pickle: /the pickle ends early/,
  view_outside_storage: /reaches beyond its storage/,
  truncated_legacy: /storage .* the file is cut/,
  pickle_loop: /malformed pickle|the pickle ends early/,
  pickle_long: /an integer of \d+ bytes is announced/,
};

for (const { name, files, limits } of formatCases('pytorch checkpoint', 'bad')) {
  test(`refused: ${name}`, () => {
    const reason = REASONS[name.split('.').at(-1)!];
    assert.ok(reason, `an expectation for ${name}`);
    assertRefused(name, () => withFile(join(fixtures, files[0]), openTorchFile), reason, limits);
  });
}

/** A zip-form file around a pickle made by hand. */
function torchZip(pickle: number[] | Uint8Array, members: Record<string, Uint8Array> = {}): Uint8Array {
  return zipSync({ 'x/data.pkl': Uint8Array.from(pickle), ...members }, { level: 0 });
}
const ascii = (text: string) => [...Buffer.from(text)];
const global = (module: string, name: string) => ascii(`c${module}\n${name}\n`);

test('no name outside of the whitelist is accepted, however it is spelled', () => {
  const names = [
    ['os', 'system'],
    ['posix', 'system'],
    ['builtins', 'exec'],
    ['torch', 'load'],
    ['torch', 'storage.os.system'],
    ['torch._utils', '_rebuild_tensor_v2 '],
    ['torch._utils ', '_rebuild_tensor_v2'],
    ['Torch', 'Size'],
    ['torch', '__builtins__'],
    ['', ''],
    ['torch', 'FloatStorage.__class__'],
    ['collections', 'OrderedDict.__init__'],
    ['__proto__', 'constructor'],
    ['torch', 'toString'],
    ['torch', 'constructor'],
    ['torch.FloatStorage', ''],
  ];
  for (const [module, name] of names) {
    assertRefused(
      name,
      () => open(torchZip([...global(module, name), 0x2e])),
      /is not among the names that a checkpoint needs; .* nothing of it was executed/,
    );
  }
});

test('whitelisted names cannot be used for anything else', () => {
  const ordered = global('collections', 'OrderedDict');
  const cases: [string, number[], RegExp][] = [
    [
      'called with text',
      [...ordered, 0x8c, 1, 0x61, 0x85, 0x52, 0x2e],
      /"collections.OrderedDict" cannot be called this way/,
    ],
    ['a storage class called', [...global('torch', 'FloatStorage'), 0x29, 0x52, 0x2e], /cannot be called this way/],
    ['returned uncalled', [...ordered, 0x2e], /is used as a value/],
    ['a list called', [0x5d, 0x29, 0x52, 0x2e], /something that is not a name is called/],
    ['a state for a list', [0x5d, 0x29, 0x62, 0x2e], /sets the state of an object/],
    ['a made-up persistent id', [0x8c, 1, 0x61, 0x51, 0x2e], /not a storage/],
    ['extension registry', [0x82, 1, 0x2e], /opcode 0x82/],
    ['a self-containing list', [0x5d, 0x94, 0x68, 0, 0x61, 0x2e], /contains itself/],
    ['memo never set', [0x68, 7, 0x2e], /nothing was remembered as 7/],
    ['empty', [], /the pickle ends early/],
    [
      'numpy dtype left bare',
      [...global('numpy', 'dtype'), 0x8c, 2, 0x66, 0x38, 0x85, 0x52, 0x2e],
      /bare storage or NumPy dtype/,
    ],
  ];
  for (const [name, pickle, reason] of cases) assertRefused(name, () => open(torchZip(pickle)), reason);
});

test('compressed storages, foreign byte orders and other files are refused', () => {
  const good = readFileSync(join(golden, 'hf-ijepa/pth/control-good.pth'));
  assert.equal(open(good).tensors.size, 1);
  assertRefused(
    'big-endian',
    () => open(torchZip([0x4e, 0x2e], { 'x/byteorder': Buffer.from('big') })),
    /byte order "big"/,
  );
  assertRefused('no pickle', () => open(zipSync({ a: Uint8Array.of(1) })), /without data.pkl/);
  assertRefused('text', () => open(Buffer.from('hello')), /not a PyTorch file/);
  assertRefused('empty', () => open(new Uint8Array(0)), /not a PyTorch file/);
  assert.throws(() => withFile(join(golden, 'absent.pth'), openTorchFile), JepaError);
});

test('damaged files give a result or one clear line', () => {
  const seeds = ['pytorch/zip.pth.tar', 'pytorch/legacy.pth.tar'].map((path) => readFileSync(join(fixtures, path)));
  seeds.push(readFileSync(join(golden, 'hf-ijepa/pth/mixed-protocol4.pth')));
  fuzzParser(
    seeds,
    (bytes) => {
      for (const [name, stored] of open(bytes).tensors) loadTensor(stored, name);
    },
    1500,
  );
});

test('damaged pickles give a result or one clear line', () => {
  // Damage to the pickle alone, which always hits an opcode or its argument; the storages stay whole.
  const { 'mixed-zip/data.pkl': pickle, ...members } = unzipSync(
    readFileSync(join(golden, 'hf-ijepa/pth/mixed-zip.pth')),
  );
  const read = (bytes: Uint8Array) => {
    for (const [name, stored] of open(zipSync({ 'mixed-zip/data.pkl': bytes, ...members }, { level: 0 })).tensors)
      loadTensor(stored, name);
  };
  read(pickle);
  fuzzParser([pickle], read, 1500);
});
