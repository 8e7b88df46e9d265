import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { openJsonl, parseJsonl, readJsonl } from '../../src/hub/jsonl.js';
import { crc32c, type EventValue, maskedCrc32c, openEventWriter, parseEvents } from '../../src/hub/tfevents.js';
import { packedIntegers, wire, wireFields } from '../../src/hub/wire.js';
import { assertRefused, fixtures, formatCase, formatCases, fuzzParser } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-logs-'));
after(() => rmSync(folder, { recursive: true }));

// ---- JSON Lines

for (const { name, files, expect } of formatCases('jsonl', 'good')) {
  test(`read: ${name}`, () => {
    const log = readJsonl(join(fixtures, files[0]));
    assert.deepEqual(log.records, expect.records);
    assert.equal(log.incompleteLastLine, expect.incomplete_last_line ?? false);
  });
}

const JSONL_REASONS: Record<string, RegExp> = {
  middle: /line 2: /,
  trailing: /line 1: there is something after the value/,
  deep: /line 1: nesting too deep/,
  utf8: /line 1: the text is not UTF-8/,
};

for (const { name, files, limits } of formatCases('jsonl', 'bad')) {
  test(`refused: ${name}`, () => {
    const reason = JSONL_REASONS[name.split('.').at(-1)!];
    assert.ok(reason, `an expectation for ${name}`);
    assertRefused(name, () => readJsonl(join(fixtures, files[0])), reason, limits);
  });
}

test('a log is appended to, its cut tail removed, its end dropped on resume', () => {
  const path = join(folder, 'metrics.jsonl');
  let log = openJsonl(path);
  log.append({ step: 1, loss: 0.5 });
  log.append({ step: 2, loss: Number.NaN, peak: Number.POSITIVE_INFINITY });
  log.close();
  appendFileSync(path, '{"step": 3, "lo');
  assert.equal(readJsonl(path).incompleteLastLine, true);
  log = openJsonl(path);
  log.append({ step: 3, note: 'grün\n' });
  log.close();
  assert.deepEqual(readJsonl(path), {
    records: [
      { step: 1, loss: 0.5 },
      { step: 2, loss: 'NaN', peak: 'Infinity' },
      { step: 3, note: 'grün\n' },
    ],
    incompleteLastLine: false,
  });
  log = openJsonl(path, ({ step }) => Number(step) <= 1);
  log.append({ step: 2 });
  log.close();
  assert.deepEqual(readJsonl(path).records, [{ step: 1, loss: 0.5 }, { step: 2 }]);
  // What stays is not rewritten: numbers beyond 2^53 keep their digits.
  const exact = '{"big": 9007199254740993, "spaced" : 1}';
  writeFileSync(path, `${exact}\n\n{"cut`);
  openJsonl(path).close();
  assert.equal(readFileSync(path, 'utf8'), `${exact}\n`);
  assert.throws(() => openJsonl(join(folder, 'absent', 'x')), /cannot open .*: it does not exist/);
});

test('a log cut at any byte keeps all whole lines', () => {
  const records = Array.from({ length: 4 }, (_, i) => ({ step: i, text: 'äöü', list: [i] }));
  const bytes = Buffer.from(records.map((record) => JSON.stringify(record)).join('\n'));
  for (let cut = 0; cut <= bytes.length; cut++) {
    const { records: kept, incompleteLastLine } = parseJsonl(bytes.subarray(0, cut), 'x');
    const lines = bytes.subarray(0, cut).toString('latin1').split('\n');
    const last = lines.at(-1)!;
    const whole = lines.length - 1 + (last.endsWith(']}') ? 1 : 0);
    assert.deepEqual(kept, records.slice(0, whole));
    assert.equal(incompleteLastLine, whole < lines.length && last !== '');
  }
});

// ---- TensorBoard

test('checksums have their known values', () => {
  for (const { hex, crc32c: plain, masked } of formatCase('tensorboard.crc32c').expect.vectors) {
    const bytes = Buffer.from(hex, 'hex');
    assert.equal(crc32c(bytes), plain);
    assert.equal(maskedCrc32c(bytes), masked);
  }
});

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** A value in the words of the cases. */
function inTheirWords(value: EventValue): object {
  const { tag } = value;
  switch (value.kind) {
    case 'scalar':
      return { tag, kind: 'simple_value', value: Number.isNaN(value.value) ? 'nan' : value.value };
    case 'histogram': {
      const { min, max, num, sum, sumSquares, counts } = value;
      return { tag, kind: 'histo', value: { min, max, num, sum, sum_squares: sumSquares, buckets: counts.length } };
    }
    case 'image': {
      const { height, width, colorspace, encoded } = value;
      return { tag, kind: 'image', value: { height, width, colorspace, sha256: sha256(encoded) } };
    }
    case 'tensor':
      return { tag, kind: 'tensor', value: { dtype: value.dtype, plugin: value.plugin, strings: value.strings } };
  }
}

for (const { name, files, expect } of formatCases('tensorboard events', 'good')) {
  if (files.length === 0) continue;
  test(`read: ${name}`, () => {
    const bytes = readFileSync(join(fixtures, files[0]));
    const { records, cutAt } = parseEvents(bytes, files[0]);
    if (expect.whole_records) {
      assert.equal(records.length, expect.whole_records);
      assert.equal(cutAt, records.at(-1)!.offset + records.at(-1)!.length + 16);
      return;
    }
    assert.equal(cutAt, undefined);
    const got = records.map(({ offset, length, wallTime, step, fileVersion, values }) => ({
      length,
      length_crc: bytes.readUInt32LE(offset + 8),
      data_crc: bytes.readUInt32LE(offset + 12 + length),
      wall_time: wallTime,
      step,
      ...(fileVersion ? { file_version: fileVersion } : { values: values.map(inTheirWords) }),
    }));
    assert.deepEqual(got, expect.records);
  });
}

const EVENT_REASONS: Record<string, RegExp> = {
  data_crc: /record 1 \(byte 88\): the checksum of its payload/,
  length_crc: /record 1 \(byte 88\): the checksum of its length/,
  huge_length: /record \d+ \(byte \d+\): a record of 4611686018427387904 bytes/,
  protobuf: /record 0 \(byte 0\): not a valid protobuf message/,
};

for (const { name, files, limits } of formatCases('tensorboard events', 'bad')) {
  test(`refused: ${name}`, () => {
    const reason = EVENT_REASONS[name.split('.').at(-1)!];
    assert.ok(reason, `an expectation for ${name}`);
    const bytes = readFileSync(join(fixtures, files[0]));
    assertRefused(name, () => parseEvents(bytes, files[0]), reason, limits);
  });
}

test('records are written as the reference writers write them, byte for byte', () => {
  let time = 1700000000.25;
  const writer = openEventWriter(folder, () => time);
  assert.match(writer.path, /events\.out\.tfevents\.1700000000\.[^/]+\.\d+\.\d+$/);
  writer.scalars(0, { 'train/loss': 1 });
  time = 1700000001.25;
  writer.scalars(10, { 'train/loss': 0.5 });
  writer.flush();
  writer.close();
  const reference = readFileSync(join(fixtures, 'tensorboard/tensorboardX/events.out.tfevents.1700000000.host.1.0'));
  const written = readFileSync(writer.path);
  // tensorboardX omits step 0, which is the default; records 0 and 2 are the same, byte for byte.
  const [ours, theirs] = [written, reference].map((bytes) => {
    const { records } = parseEvents(bytes, 'x');
    return records.map(({ offset, length }) => bytes.subarray(offset, offset + length + 16));
  });
  assert.equal(ours.length, 3);
  assert.deepEqual(ours[0], theirs[0]);
  assert.deepEqual(ours[2], theirs[2]);
});

test('histograms, images and text are written and read back', () => {
  const writer = openEventWriter(folder, () => 12);
  writer.histogram(3, 'h', Float32Array.of(-1, 0, 0.5, 3, Number.NaN));
  writer.histogram(3, 'constant', [2, 2]);
  writer.histogram(3, 'nothing', []);
  writer.image(4, 'i', { height: 2, width: 3, channels: 1, encoded: Uint8Array.of(9, 8) });
  writer.text(5, 't', '**größer**');
  writer.scalars(-1, { a: Number.NaN, 'b/c': Number.NEGATIVE_INFINITY });
  writer.close();
  const { records } = parseEvents(readFileSync(writer.path), 'x');
  assert.deepEqual(
    records.map(({ step }) => step),
    [0, 3, 3, 3, 4, 5, -1],
  );
  const [histogram, constant, nothing, image, text] = records.slice(1).map(({ values }) => values[0]);
  assert.ok(histogram.kind === 'histogram' && constant.kind === 'histogram' && nothing.kind === 'histogram');
  assert.deepEqual(
    [histogram.min, histogram.max, histogram.num, histogram.sum, histogram.sumSquares],
    [-1, 3, 4, 2.5, 10.25],
  );
  assert.equal(histogram.limits.length, 50);
  // Every value is counted in the bucket whose right edge is the first one not below it.
  for (const [value, at] of [
    [-1, 0],
    [0, 12],
    [0.5, 18],
    [3, 49],
  ])
    assert.equal(histogram.counts[at], 1, `${value}`);
  assert.deepEqual([constant.limits, constant.counts], [[2], [2]]);
  assert.deepEqual([nothing.num, nothing.counts], [0, [0]]);
  assert.deepEqual(image, {
    tag: 'i',
    kind: 'image',
    height: 2,
    width: 3,
    colorspace: 1,
    encoded: Uint8Array.of(9, 8),
  });
  assert.deepEqual(text, { tag: 't', kind: 'tensor', dtype: 7, plugin: 'text', strings: ['**größer**'] });
  assert.deepEqual(records[6].values, [
    { tag: 'a', kind: 'scalar', value: Number.NaN },
    { tag: 'b/c', kind: 'scalar', value: Number.NEGATIVE_INFINITY },
  ]);
});

test('an event file cut at any byte keeps all whole records', () => {
  const bytes = readFileSync(join(fixtures, 'tensorboard/torch/events.out.tfevents.1700000000.host.1.0'));
  const { records } = parseEvents(bytes, 'x');
  for (let cut = 0; cut < bytes.length; cut += 7) {
    const some = parseEvents(bytes.subarray(0, cut), 'x');
    const whole = records.filter(({ offset, length }) => offset + length + 16 <= cut);
    assert.deepEqual(some.records, whole);
    const end = whole.length ? whole.at(-1)!.offset + whole.at(-1)!.length + 16 : 0;
    assert.equal(some.cutAt, cut === end ? undefined : end);
  }
});

test('protobuf fields are written and read back', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 0x1fffffff }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.uint8Array(),
      (number, value, bytes) => {
        assert.deepEqual(
          [...wireFields(wire.integer(number, value), 'x')],
          [{ number, type: 0, integer: value, bytes: new Uint8Array(0) }],
        );
        assert.deepEqual([...wireFields(wire.bytes(number, bytes), 'x')], [{ number, type: 2, integer: 0n, bytes }]);
      },
    ),
  );
  assert.deepEqual(packedIntegers(Uint8Array.of(3, 0x8e, 2, 0x9e, 0xa7, 5), 'x'), [3n, 270n, 86942n]);
});

test('damaged logs give a result or one clear line', () => {
  const events = ['torch', 'tensorboardX'].map((name) =>
    readFileSync(join(fixtures, `tensorboard/${name}/events.out.tfevents.1700000000.host.1.0`)),
  );
  fuzzParser(events, (bytes) => parseEvents(bytes, 'x'), 500);
  const payloads = events.flatMap((bytes) =>
    parseEvents(bytes, 'x').records.map(({ offset, length }) => bytes.subarray(offset + 12, offset + 12 + length)),
  );
  // Payloads with right checksums, so that damage reaches the messages inside.
  const framed = (payload: Uint8Array) => {
    const bytes = Buffer.alloc(payload.length + 16);
    bytes.writeBigUInt64LE(BigInt(payload.length));
    bytes.writeUInt32LE(maskedCrc32c(bytes.subarray(0, 8)), 8);
    bytes.set(payload, 12);
    bytes.writeUInt32LE(maskedCrc32c(payload), 12 + payload.length);
    return bytes;
  };
  fuzzParser(payloads, (payload) => parseEvents(framed(payload), 'x'), 1500);
  const logs = ['log', 'crlf_blank'].map((name) => readFileSync(join(fixtures, `table/${name}.jsonl`)));
  fuzzParser(logs, (bytes) => parseJsonl(bytes, 'x'), 1500);
});
