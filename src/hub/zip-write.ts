import { concatBytes } from './safetensors.js';

/** Writes zip archives whose members are stored, not compressed, and lie where a reader can map them. */
export interface ZipWriter {
  /**
   * What stands before the next member, whose content has this length and `crc32`; the content itself follows it in the
   * file and never passes through here, so that an archive may be larger than memory.
   */
  header(name: string, size: number, crc32: number): Uint8Array;
  /** The central directory, after the last member. */
  directory(): Uint8Array;
}

interface Member {
  readonly name: Uint8Array;
  readonly size: number;
  readonly crc32: number;
  readonly offset: number;
}

const MARK16 = 0xffff;
const MARK32 = 0xffffffff;
const ZIP64 = 1;
/** The extra field in which PyTorch puts what aligns its data. */
const PADDING = 0x4246;
/** Names are UTF-8. */
const FLAGS = 0x0800;
/** 1980-01-01, the earliest date: equal content gives equal bytes. */
const DATE = 0x0021;

/**
 * A writer whose contents begin at multiples of `alignment` bytes (a power of two). Sizes, offsets and counts that the
 * classic fields cannot hold go to those of Zip64 (APPNOTE.TXT 4.3.9, 4.3.14 to 4.5.3).
 */
export function zipWriter(alignment = 64): ZipWriter {
  const members: Member[] = [];
  let at = 0;
  return {
    header(text, size, crc32) {
      const name = new TextEncoder().encode(text);
      const member: Member = { name, size, crc32, offset: at };
      members.push(member);
      const large = size >= MARK32;
      const sizes = large ? extra64([size, size]) : new Uint8Array(0);
      // What is missing to the next multiple; a power of two divides the 2^32 by which `&` wraps.
      const missing = -(at + 30 + name.length + sizes.length + 4) & (alignment - 1);
      const padding = concatBytes([fields([2, PADDING], [2, missing]), new Uint8Array(missing)]);
      const header = concatBytes([
        fields(
          [4, 0x04034b50],
          ...common(member, large),
          [4, large ? MARK32 : size],
          [4, large ? MARK32 : size],
          [2, name.length],
          [2, sizes.length + padding.length],
        ),
        name,
        sizes,
        padding,
      ]);
      at += header.length + size;
      return header;
    },
    directory() {
      const entries = members.map(directoryEntry);
      const length = entries.reduce((sum, entry) => sum + entry.length, 0);
      const count = members.length;
      const large = count >= MARK16 || length >= MARK32 || at >= MARK32;
      const end64 = fields(
        [4, 0x06064b50],
        [8, 44],
        [2, 45],
        [2, 45],
        [4, 0],
        [4, 0],
        [8, count],
        [8, count],
        [8, length],
        [8, at],
      );
      const locator = fields([4, 0x07064b50], [4, 0], [8, at + length], [4, 1]);
      const [few, short, near] = large ? [MARK16, MARK32, MARK32] : [count, length, at];
      const end = fields([4, 0x06054b50], [2, 0], [2, 0], [2, few], [2, few], [4, short], [4, near], [2, 0]);
      return concatBytes([...entries, ...(large ? [end64, locator] : []), end]);
    },
  };
}

function directoryEntry(member: Member): Uint8Array {
  const { name, size, offset } = member;
  const large = [size, size, offset].filter((value) => value >= MARK32);
  const extra = large.length > 0 ? extra64(large) : new Uint8Array(0);
  const fit = (value: number): number => Math.min(value, MARK32);
  return concatBytes([
    fields(
      [4, 0x02014b50],
      [2, 45],
      ...common(member, large.length > 0),
      [4, fit(size)],
      [4, fit(size)],
      [2, name.length],
      [2, extra.length],
      [2, 0],
      [2, 0],
      [2, 0],
      [4, 0],
      [4, fit(offset)],
    ),
    name,
    extra,
  ]);
}

/** A number of so many bytes. */
type Field = readonly [bytes: 2 | 4 | 8, value: number];

/** What both headers of a member say, from the version that is needed to read it to its checksum. */
const common = ({ crc32 }: Member, large: boolean): Field[] => [
  [2, large ? 45 : 20],
  [2, FLAGS],
  [2, 0],
  [2, 0],
  [2, DATE],
  [4, crc32],
];

const extra64 = (values: readonly number[]): Uint8Array =>
  fields([2, ZIP64], [2, 8 * values.length], ...values.map((value): Field => [8, value]));

function fields(...list: readonly Field[]): Uint8Array {
  const bytes = new Uint8Array(list.reduce((sum, [length]) => sum + length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [length, value] of list) {
    if (length === 2) view.setUint16(at, value, true);
    else if (length === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += length;
  }
  return bytes;
}
