import { Inflate } from 'fflate';
import { JepaError } from '../base/errors.js';
import { decodeUtf8, quoted } from '../base/json.js';
import { type ByteSource, sliceSource } from './source.js';

/** A member of an open zip archive. */
export interface ZipEntry {
  readonly name: string;
  /** Size of its content, as the central directory announces it. */
  readonly size: number;
  readonly compressed: boolean;
  readonly crc32: number;
  readonly comment: string;
  /** The content by range; only for members that are not compressed. */
  stored(): ByteSource;
  /** The content in pieces of at most a few MiB; throws when it is longer or shorter than announced. */
  pieces(): Generator<Uint8Array>;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const MARK32 = 0xffffffff;
/** Longest central directory that is read: 64 MiB, about half a million members. */
const LARGEST_DIRECTORY = 64 << 20;

/**
 * Opens a zip archive by its central directory (Zip64 included); contents are read when asked for. Throws JepaError when
 * the directory is missing or names members outside of the file, twice, encrypted or in an unknown compression.
 */
export function openZip(source: ByteSource): Map<string, ZipEntry> {
  const refuse = (what: string): never => {
    throw new JepaError(`${source.name}: not a valid zip archive: ${what}`);
  };
  const directory = findDirectory(source, refuse);
  if (directory.size > LARGEST_DIRECTORY) refuse(`a central directory of ${directory.size} bytes`);
  if (directory.offset + directory.size > source.size) refuse('its central directory lies outside of the file');
  const bytes = source.read(directory.offset, directory.size);
  const view = new DataView(bytes.buffer);

  const entries = new Map<string, ZipEntry>();
  let at = 0;
  while (at < bytes.length) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== CENTRAL)
      refuse(`the central directory is damaged at byte ${directory.offset + at}`);
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const crc32 = view.getUint32(at + 16, true);
    const nameLength = view.getUint16(at + 28, true);
    const extraLength = view.getUint16(at + 30, true);
    const commentLength = view.getUint16(at + 32, true);
    const next = at + 46 + nameLength + extraLength + commentLength;
    if (next > bytes.length) refuse('the central directory is cut');
    const comment = new TextDecoder().decode(bytes.subarray(next - commentLength, next));
    const name = decodeUtf8(bytes.subarray(at + 46, at + 46 + nameLength), `${source.name}: a name in the zip archive`);
    const extra = new DataView(bytes.buffer, at + 46 + nameLength, extraLength);
    const [size, packed, offset] = extendedSizes(
      [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)],
      extra,
      () => refuse(`the sizes of ${quoted(name)} are damaged`),
    );
    at = next;

    const what = `member ${quoted(name)}`;
    if (entries.has(name)) refuse(`${what} occurs twice`);
    if (flags & 1) refuse(`${what} is encrypted`);
    if (method !== 0 && method !== 8)
      refuse(`${what} uses compression method ${method}; only stored and deflated ones are read`);
    if (method === 0 && size !== packed) refuse(`${what} is stored, yet its two sizes differ`);
    if (offset + 30 + packed > directory.offset) refuse(`${what} lies outside of the file (byte ${offset})`);

    const content = (): ByteSource => {
      const local = new DataView(source.read(offset, 30).buffer);
      if (local.getUint32(0, true) !== LOCAL) refuse(`${what} has no local header at byte ${offset}`);
      const start = offset + 30 + local.getUint16(26, true) + local.getUint16(28, true);
      if (start + packed > directory.offset) refuse(`${what} lies outside of the file (byte ${start})`);
      return sliceSource(source, start, packed, `${source.name}: ${name}`);
    };
    entries.set(name, {
      name,
      size,
      compressed: method === 8,
      crc32,
      comment,
      stored: content,
      pieces: () => (method === 8 ? inflatePieces(content(), size) : storedPieces(content())),
    });
  }
  return entries;
}

function findDirectory(source: ByteSource, refuse: (what: string) => never): { offset: number; size: number } {
  // The end record is 22 bytes and a comment of at most 65,535.
  const length = Math.min(source.size, 22 + 65535);
  const start = source.size - length;
  const view = new DataView(source.read(start, length).buffer);
  let at = length - 22;
  while (at >= 0 && !(view.getUint32(at, true) === END && at + 22 + view.getUint16(at + 20, true) === length)) at--;
  if (at < 0) return refuse('it has no central directory; the file is cut or something else');
  const size = view.getUint32(at + 12, true);
  const offset = view.getUint32(at + 16, true);
  if (size !== MARK32 && offset !== MARK32 && view.getUint16(at + 10, true) !== 0xffff) return { offset, size };

  const end = start + at;
  if (end < 20) return refuse('its Zip64 record is missing');
  const locator = new DataView(source.read(end - 20, 20).buffer);
  if (locator.getUint32(0, true) !== LOCATOR64) return refuse('its Zip64 record is missing');
  const record = exact(locator.getBigUint64(8, true));
  if (record === undefined || record + 56 > end - 20) return refuse('its Zip64 record lies outside of the file');
  const end64 = new DataView(source.read(record, 56).buffer);
  const size64 = exact(end64.getBigUint64(40, true));
  const offset64 = exact(end64.getBigUint64(48, true));
  if (end64.getUint32(0, true) !== END64 || size64 === undefined || offset64 === undefined)
    return refuse('its Zip64 record is damaged');
  return { offset: offset64, size: size64 };
}

/** Size, packed size and offset, of which those that are all ones stand in the Zip64 extra field, in that order. */
function extendedSizes(
  sizes: [number, number, number],
  extra: DataView,
  refuse: () => never,
): [number, number, number] {
  if (!sizes.includes(MARK32)) return sizes;
  let at = 0;
  while (at + 4 <= extra.byteLength && extra.getUint16(at, true) !== 1) at += 4 + extra.getUint16(at + 2, true);
  if (at + 4 > extra.byteLength) return refuse();
  const end = at + 4 + extra.getUint16(at + 2, true);
  at += 4;
  return sizes.map((size) => {
    if (size !== MARK32) return size;
    if (at + 8 > Math.min(end, extra.byteLength)) return refuse();
    const extended = exact(extra.getBigUint64(at, true));
    at += 8;
    return extended ?? refuse();
  }) as [number, number, number];
}

function exact(value: bigint): number | undefined {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}

function* storedPieces(content: ByteSource): Generator<Uint8Array> {
  for (let at = 0; at < content.size; at += 1 << 22) yield content.read(at, Math.min(1 << 22, content.size - at));
}

/** Inflates in steps: 4 KiB of input give at most about 4 MiB, so a bomb is noticed before it has grown. */
function* inflatePieces(content: ByteSource, size: number): Generator<Uint8Array> {
  const ready: Uint8Array[] = [];
  let ended = false;
  const inflate = new Inflate((piece, final) => {
    ready.push(piece);
    ended = final;
  });
  let left = size;
  for (let at = 0; at < content.size; at += 4096) {
    const length = Math.min(4096, content.size - at);
    try {
      inflate.push(content.read(at, length), at + length === content.size);
    } catch (error) {
      if (error instanceof JepaError) throw error;
      throw new JepaError(`${content.name}: the compressed data are damaged (${(error as Error).message})`);
    }
    for (const piece of ready.splice(0)) {
      left -= piece.length;
      if (left < 0) throw new JepaError(`${content.name}: inflates to more than the ${size} bytes announced`);
      if (piece.length > 0) yield piece;
    }
  }
  if (!ended || left > 0) throw new JepaError(`${content.name}: the compressed data end ${left} bytes early`);
}

/** Table k * 256 + byte: what a byte does to the checksum k bytes later. */
const CRC32 = new Int32Array(8 * 256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  CRC32[byte] = crc;
}
for (let i = 256; i < CRC32.length; i++) CRC32[i] = (CRC32[i - 256] >>> 8) ^ CRC32[CRC32[i - 256] & 255];

/** Continues the CRC-32 of zip files over more bytes; start with 0. Eight bytes at a time: models have gigabytes. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  const t = CRC32;
  let crc = ~previous;
  let i = 0;
  for (; i + 8 <= bytes.length; i += 8) {
    crc ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    crc =
      t[1792 + (crc & 255)] ^
      t[1536 + ((crc >>> 8) & 255)] ^
      t[1280 + ((crc >>> 16) & 255)] ^
      t[1024 + (crc >>> 24)] ^
      t[768 + bytes[i + 4]] ^
      t[512 + bytes[i + 5]] ^
      t[256 + bytes[i + 6]] ^
      t[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]) & 255];
  return ~crc >>> 0;
}
