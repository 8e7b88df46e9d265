import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { strToU8, unzipSync, zipSync } from 'fflate';
import { withFile } from '../../src/hub/files.js';
import { openTorchFile } from '../../src/hub/pth.js';
import { loadTensor } from '../../src/hub/raw.js';
import { concatBytes } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { crc32, openZip } from '../../src/hub/zip.js';
import { zipWriter } from '../../src/hub/zip-write.js';
import { assertRefused, fuzzParser, golden } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-zip-'));
after(() => rmSync(folder, { recursive: true }));

const content = (bytes: Uint8Array) =>
  new Map(Array.from(openZip(bytesSource(bytes)), ([name, entry]) => [name, concatBytes([...entry.pieces()])]));

test('stored and deflated members are read', () => {
  const files = { 'a.txt': strToU8('hello '.repeat(1000)), 'ü/b': Uint8Array.of(1, 2, 3), empty: new Uint8Array(0) };
  for (const level of [0, 6] as const) {
    const zip = zipSync(files, { level, comment: 'a comment' });
    assert.deepEqual(content(zip), new Map(Object.entries(files)));
    const entry = openZip(bytesSource(zip)).get('a.txt')!;
    assert.deepEqual([entry.size, entry.compressed, entry.crc32], [6000, level > 0, crc32(files['a.txt'])]);
  }
});

/** Sizes and offsets above 4 GiB stand in a Zip64 field; here they always do. */
function zip64Entry(name: string, size: number, offset: number): Buffer {
  const encoded = Buffer.from(name);
  const entry = Buffer.alloc(46 + encoded.length + 28);
  entry.writeUInt32LE(0x02014b50, 0);
  entry.writeUInt32LE(0xffffffff, 20);
  entry.writeUInt32LE(0xffffffff, 24);
  entry.writeUInt16LE(encoded.length, 28);
  entry.writeUInt16LE(28, 30);
  entry.writeUInt32LE(0xffffffff, 42);
  encoded.copy(entry, 46);
  const extra = 46 + encoded.length;
  entry.writeUInt16LE(1, extra);
  entry.writeUInt16LE(24, extra + 2);
  entry.writeBigUInt64LE(BigInt(size), extra + 4);
  entry.writeBigUInt64LE(BigInt(size), extra + 12);
  entry.writeBigUInt64LE(BigInt(offset), extra + 20);
  return entry;
}

test('a PyTorch file above 4 GB is read by range through its Zip64 directory', () => {
  const members = Object.entries(unzipSync(readFileSync(join(golden, 'hf-ijepa/pth/control-good.pth'))));
  const path = join(folder, 'large.pth');
  const fd = openSync(path, 'w');
  const directory: Buffer[] = [];
  let at = 0;
  const local = (name: string, size: number, bytes?: Uint8Array) => {
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt16LE(Buffer.byteLength(name), 26);
    writeSync(fd, Buffer.concat([header, Buffer.from(name), bytes ?? Buffer.alloc(0)]), 0, null, at);
    directory.push(zip64Entry(name, size, at));
    at += 30 + Buffer.byteLength(name) + size;
  };
  local('filler', 5 * 2 ** 30); // a hole in the file
  for (const [name, bytes] of members) local(name, bytes.length, bytes);
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(56 + 20 + 22, 0);
  end.writeUInt32LE(0x06064b50, 0);
  end.writeBigUInt64LE(BigInt(central.length), 40);
  end.writeBigUInt64LE(BigInt(at), 48);
  end.writeUInt32LE(0x07064b50, 56);
  end.writeBigUInt64LE(BigInt(at + central.length), 64);
  end.writeUInt32LE(0x06054b50, 76);
  end.fill(0xff, 84, 96);
  writeSync(fd, Buffer.concat([central, end]), 0, null, at);
  closeSync(fd);
  withFile(path, (source) => {
    assert.ok(source.size > 5 * 2 ** 30);
    const { tensors } = openTorchFile(source);
    assert.deepEqual(Array.from(loadTensor(tensors.get('w')!, 'w').data, Number), [0, 1, 2, 3]);
  });
  rmSync(path);
});

test('checksums of any length are those of one bit after the other', () => {
  const bytes = Uint8Array.from({ length: 41 }, (_, i) => (i * 89 + 7) & 255);
  let remainder = 0xffffffff;
  for (let length = 0; length <= bytes.length; length++) {
    assert.equal(crc32(bytes.subarray(0, length)), ~remainder >>> 0, `${length} bytes`);
    for (let bit = 0; bit < 8; bit++) {
      const out = (remainder ^ (bytes[length] >> bit)) & 1;
      remainder = (remainder >>> 1) ^ (out ? 0xedb88320 : 0);
    }
  }
});

test('members are written where they are found, aligned', () => {
  const files: Record<string, Uint8Array> = {
    'a.txt': strToU8('hello '.repeat(30)),
    'ü/b': Uint8Array.of(1, 2, 3),
    empty: new Uint8Array(0),
  };
  const zip = zipWriter(64);
  const pieces: Uint8Array[] = [];
  const starts: number[] = [];
  for (const [name, bytes] of Object.entries(files)) {
    pieces.push(zip.header(name, bytes.length, crc32(bytes)));
    starts.push(concatBytes(pieces).length);
    pieces.push(bytes);
  }
  const archive = concatBytes([...pieces, zip.directory()]);
  assert.deepEqual(unzipSync(archive), files);
  assert.deepEqual(content(archive), new Map(Object.entries(files)));
  assert.ok(starts.every((start) => start % 64 === 0));
});

test('members, sizes and offsets above 4 GiB are written to Zip64 fields', () => {
  const path = join(folder, 'written.zip');
  const fd = openSync(path, 'w');
  let at = 0;
  const put = (bytes: Uint8Array) => {
    writeSync(fd, bytes, 0, bytes.length, at);
    at += bytes.length;
  };
  const zip = zipWriter();
  const after = strToU8('what comes after');
  put(zip.header('large', 5 * 2 ** 30, 0));
  assert.equal(at % 64, 0);
  at += 5 * 2 ** 30; // a hole in the file
  put(zip.header('after', after.length, crc32(after)));
  assert.equal(at % 64, 0);
  put(after);
  put(zip.directory());
  closeSync(fd);
  withFile(path, (source) => {
    const members = openZip(source);
    assert.equal(members.get('large')!.size, 5 * 2 ** 30);
    assert.equal(members.get('large')!.stored().size, 5 * 2 ** 30);
    assert.deepEqual(concatBytes([...members.get('after')!.pieces()]), after);
  });
  rmSync(path);
});

test('more members than 16 bits count', () => {
  const zip = zipWriter(1);
  const headers = Array.from({ length: 70_000 }, (_, i) => zip.header(`m${i}`, 0, 0));
  const members = openZip(bytesSource(concatBytes([...headers, zip.directory()])));
  assert.equal(members.size, 70_000);
  assert.equal(members.get('m69999')!.stored().size, 0);
});

test('directories that lie are refused', () => {
  const good = zipSync({ a: strToU8('x'.repeat(100)), b: strToU8('y') });
  const central = Buffer.from(good).indexOf(Buffer.from('504b0102', 'hex'));
  const changed = (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(good);
    change(bytes);
    return () => content(bytes);
  };
  assertRefused(
    'announces less',
    changed((bytes) => bytes.writeUInt32LE(5, central + 24)),
    /inflates to more than the 5 bytes announced/,
  );
  assertRefused(
    'announces more',
    changed((bytes) => bytes.writeUInt32LE(101, central + 24)),
    /end 1 bytes early/,
  );
  assertRefused(
    'outside',
    changed((bytes) => bytes.writeUInt32LE(1 << 30, central + 42)),
    /"a" lies outside of the file/,
  );
  assertRefused(
    'no local header',
    changed((bytes) => bytes.writeUInt32LE(3, central + 42)),
    /"a" has no local header at byte 3/,
  );
  assertRefused(
    'encrypted',
    changed((bytes) => bytes.writeUInt16LE(1, central + 8)),
    /"a" is encrypted/,
  );
  assertRefused(
    'another method',
    changed((bytes) => bytes.writeUInt16LE(93, central + 10)),
    /compression method 93/,
  );
  assertRefused(
    'twice',
    changed((bytes) => bytes.write('a', bytes.lastIndexOf('b'))),
    /"a" occurs twice/,
  );
  assertRefused('no directory', () => content(good.subarray(0, good.length - 1)), /no central directory/);
});

test('damaged archives give a result or one clear line', () => {
  const seeds = ([0, 6] as const).map((level) =>
    zipSync({ a: strToU8('hello '.repeat(50)), 'b/c': Uint8Array.of(1, 2, 3) }, { level }),
  );
  fuzzParser(seeds, content, 3000);
});
