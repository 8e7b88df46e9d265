import fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { withFileErrors, writeFully } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { decodeUtf8 } from '../base/json.js';
import { doubleOf, floatOf, type WireField, wire, wireFields, wireMessage } from './wire.js';

/** TensorBoard event files (specs/formats.md 11). */

const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = CRC32C[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** The checksum as records carry it: rotated and offset, so that checksums of checksums behave. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Appends to one event file. Every record is one write: a crash can cut only the last one, which readers ignore. */
export interface EventWriter {
  readonly path: string;
  /** Numbers by tag; names like `train/loss` are grouped by what stands before the slash. */
  scalars(step: number, values: Readonly<Record<string, number>>): void;
  /** Distribution of the finite values. */
  histogram(step: number, tag: string, values: ArrayLike<number>): void;
  /** An encoded PNG or JPEG; `channels` 1, 3 or 4. */
  image(
    step: number,
    tag: string,
    image: { height: number; width: number; channels: number; encoded: Uint8Array },
  ): void;
  /** Markdown. */
  text(step: number, tag: string, markdown: string): void;
  /** Flushes to the disk. */
  flush(): void;
  close(): void;
}

let opened = 0;

/**
 * Opens a new event file in an existing folder (a run, whose name TensorBoard takes from the folder). A resumed run opens
 * another one beside the old. Throws JepaError when the disk is full or not writable, here and at each record.
 */
export function openEventWriter(folder: string, now: () => number = () => Date.now() / 1000): EventWriter {
  const seconds = String(Math.floor(now())).padStart(10, '0');
  const path = join(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.${opened++}`);
  const fd = withFileErrors('create', path, () => fs.openSync(path, 'ax'));
  const write = (...fields: readonly Uint8Array[]) => {
    const event = wireMessage(wire.double(1, now()), ...fields);
    withFileErrors('write', path, () => writeFully(fd, record(event)));
  };
  const summary = (step: number, values: readonly Uint8Array[]) =>
    write(wire.integer(2, step), wire.message(5, ...values));
  write(wire.text(3, 'brain.Event:2'));
  return {
    path,
    scalars(step, values) {
      summary(
        step,
        Object.entries(values).map(([tag, value]) => wire.message(1, wire.text(1, tag), wire.float(2, value))),
      );
    },
    histogram(step, tag, values) {
      summary(step, [wire.message(1, wire.text(1, tag), wire.message(5, ...histogram(values)))]);
    },
    image(step, tag, { height, width, channels, encoded }) {
      const image = wire.message(
        4,
        wire.integer(1, height),
        wire.integer(2, width),
        wire.integer(3, channels),
        wire.bytes(4, encoded),
      );
      summary(step, [wire.message(1, wire.text(1, tag), image)]);
    },
    text(step, tag, markdown) {
      const metadata = wire.message(9, wire.message(1, wire.text(1, 'text')), wire.integer(4, 2));
      const tensor = wire.message(8, wire.integer(1, STRING), wire.message(2), wire.text(8, markdown));
      summary(step, [wire.message(1, wire.text(1, tag), tensor, metadata)]);
    },
    flush: () => withFileErrors('write', path, () => fs.fsyncSync(fd)),
    close: () => withFileErrors('write', path, () => fs.closeSync(fd)),
  };
}

const STRING = 7;

function record(payload: Uint8Array): Uint8Array {
  const framed = new Uint8Array(payload.length + 16);
  const view = new DataView(framed.buffer);
  view.setBigUint64(0, BigInt(payload.length), true);
  view.setUint32(8, maskedCrc32c(framed.subarray(0, 8)), true);
  framed.set(payload, 12);
  view.setUint32(12 + payload.length, maskedCrc32c(payload), true);
  return framed;
}

const BUCKETS = 50;

/** HistogramProto of the finite values, in equal buckets from the least to the greatest. */
function histogram(values: ArrayLike<number>): Uint8Array[] {
  const finite = Array.from(values).filter(Number.isFinite);
  let [min, max, sum, squares] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0];
  for (const value of finite) {
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
    squares += value * value;
  }
  if (finite.length === 0) [min, max] = [0, 0];
  const width = (max - min) / BUCKETS;
  const counts = new Array<number>(width > 0 ? BUCKETS : 1).fill(0);
  for (const value of finite) counts[width > 0 ? Math.min(BUCKETS - 1, Math.floor((value - min) / width)) : 0]++;
  const limits = counts.map((_, i) => (i === counts.length - 1 ? max : min + (i + 1) * width));
  return [
    wire.double(1, min),
    wire.double(2, max),
    wire.double(3, finite.length),
    wire.double(4, sum),
    wire.double(5, squares),
    wire.doubles(6, limits),
    wire.doubles(7, counts),
  ];
}

export type EventValue =
  | { readonly tag: string; readonly kind: 'scalar'; readonly value: number }
  | {
      readonly tag: string;
      readonly kind: 'image';
      readonly height: number;
      readonly width: number;
      readonly colorspace: number;
      readonly encoded: Uint8Array;
    }
  | {
      readonly tag: string;
      readonly kind: 'histogram';
      readonly min: number;
      readonly max: number;
      readonly num: number;
      readonly sum: number;
      readonly sumSquares: number;
      readonly limits: readonly number[];
      readonly counts: readonly number[];
    }
  | {
      readonly tag: string;
      readonly kind: 'tensor';
      readonly dtype: number;
      readonly plugin: string;
      readonly strings: readonly string[];
    };

export interface EventRecord {
  /** Where the record starts in the file, and the length of its payload. */
  readonly offset: number;
  readonly length: number;
  readonly wallTime: number;
  readonly step: number;
  readonly fileVersion?: string;
  readonly values: readonly EventValue[];
}

export interface EventFile {
  readonly records: EventRecord[];
  /** Byte at which a last record starts that a killed writer left incomplete. */
  readonly cutAt?: number;
}

/** Longest record that can be real. */
const LARGEST_RECORD = 1 << 30;

/**
 * Reads an event file. A last record that the file is too short for is reported, not an error; wrong checksums, absurd
 * lengths and malformed payloads throw JepaError with the number and byte of the record.
 */
export function parseEvents(bytes: Uint8Array, name: string): EventFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: EventRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    const where = `${name}: record ${records.length} (byte ${at})`;
    if (at + 12 > bytes.length) return { records, cutAt: at };
    if (view.getUint32(at + 8, true) !== maskedCrc32c(bytes.subarray(at, at + 8))) {
      throw new JepaError(`${where}: the checksum of its length is wrong; the file is damaged or no event file`);
    }
    const announced = view.getBigUint64(at, true);
    if (announced > BigInt(LARGEST_RECORD)) throw new JepaError(`${where}: a record of ${announced} bytes`);
    const length = Number(announced);
    const end = at + 12 + length;
    if (end + 4 > bytes.length) return { records, cutAt: at };
    const payload = bytes.subarray(at + 12, end);
    if (view.getUint32(end, true) !== maskedCrc32c(payload))
      throw new JepaError(`${where}: the checksum of its payload is wrong; the file is damaged`);
    records.push({ offset: at, length, ...parseEvent(payload, where) });
    at = end + 4;
  }
  return { records };
}

function parseEvent(payload: Uint8Array, name: string): Omit<EventRecord, 'offset' | 'length'> {
  let [wallTime, step] = [0, 0];
  let fileVersion: string | undefined;
  const values: EventValue[] = [];
  for (const field of wireFields(payload, name)) {
    if (is(field, 1, 1)) wallTime = doubleOf(field);
    else if (is(field, 2, 0)) step = Number(field.integer);
    else if (is(field, 3, 2)) fileVersion = decodeUtf8(field.bytes, name);
    else if (is(field, 5, 2)) {
      for (const inner of wireFields(field.bytes, name)) {
        const value = is(inner, 1, 2) ? parseValue(inner.bytes, name) : undefined;
        if (value) values.push(value);
      }
    }
  }
  return { wallTime, step, fileVersion, values };
}

function is(field: WireField, number: number, type: WireField['type']): boolean {
  return field.number === number && field.type === type;
}

function parseValue(bytes: Uint8Array, name: string): EventValue | undefined {
  let tag = '';
  let plugin = '';
  let value: ((tag: string, plugin: string) => EventValue) | undefined;
  for (const field of wireFields(bytes, name)) {
    if (is(field, 1, 2)) tag = decodeUtf8(field.bytes, name);
    else if (is(field, 2, 5)) {
      const number = floatOf(field);
      value = (tag) => ({ tag, kind: 'scalar', value: number });
    } else if (is(field, 4, 2)) {
      const image = parseImage(field.bytes, name);
      value = (tag) => ({ tag, kind: 'image', ...image });
    } else if (is(field, 5, 2)) {
      const histo = parseHistogram(field.bytes, name);
      value = (tag) => ({ tag, kind: 'histogram', ...histo });
    } else if (is(field, 8, 2)) {
      const tensor = parseTensor(field.bytes, name);
      value = (tag, plugin) => ({ tag, kind: 'tensor', plugin, ...tensor });
    } else if (is(field, 9, 2)) {
      for (const data of wireFields(field.bytes, name)) {
        if (!is(data, 1, 2)) continue;
        for (const inner of wireFields(data.bytes, name)) if (is(inner, 1, 2)) plugin = decodeUtf8(inner.bytes, name);
      }
    }
  }
  return value?.(tag, plugin);
}

function parseImage(bytes: Uint8Array, name: string) {
  const sizes = [0, 0, 0, 0];
  let encoded = new Uint8Array(0);
  for (const field of wireFields(bytes, name)) {
    if (field.type === 0 && field.number <= 3) sizes[field.number] = Number(field.integer);
    else if (is(field, 4, 2)) encoded = new Uint8Array(field.bytes);
  }
  const [, height, width, colorspace] = sizes;
  return { height, width, colorspace, encoded };
}

function parseHistogram(bytes: Uint8Array, name: string) {
  const moments = [0, 0, 0, 0, 0, 0];
  const lists: number[][] = [[], []];
  for (const field of wireFields(bytes, name)) {
    if (field.type === 1 && field.number <= 5) moments[field.number] = doubleOf(field);
    else if (field.number !== 6 && field.number !== 7) continue;
    else if (field.type === 1) lists[field.number - 6].push(doubleOf(field));
    else if (field.type === 2 && field.bytes.length % 8 === 0) {
      for (const value of new Float64Array(new Uint8Array(field.bytes).buffer)) lists[field.number - 6].push(value);
    }
  }
  const [, min, max, num, sum, sumSquares] = moments;
  const [limits, counts] = lists;
  return { min, max, num, sum, sumSquares, limits, counts };
}

function parseTensor(bytes: Uint8Array, name: string) {
  let dtype = 0;
  const strings: string[] = [];
  for (const field of wireFields(bytes, name)) {
    if (is(field, 1, 0)) dtype = Number(field.integer);
    else if (is(field, 8, 2)) strings.push(decodeUtf8(field.bytes, name));
  }
  return { dtype, strings };
}
