import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';

/** Bytes that can be read anywhere: a file, or memory. */
export interface RandomAccess {
  readonly size: number;
  /** The bytes from `offset` to `offset + length`, fewer only at the end. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** A regular file inside a tar archive; `offset` is where its data start. */
export interface TarMember {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

const BLOCK = 512;
/** Names and PAX records are read whole; no honest one is longer. */
const MAX_EXTENSION = 1 << 20;

/**
 * Lists the regular files of a tar archive (ustar, PAX, GNU long names) without reading their data; links, folders and
 * devices are passed over. Every name is relative and stays inside. Throws a `JepaError` naming archive and byte.
 */
export async function* tarMembers(file: RandomAccess, where: string): AsyncGenerator<TarMember> {
  const text = new TextDecoder();
  if (file.size === 0) throw new JepaError(`${where}: the file is empty (0 bytes), not a tar archive`);
  let globals = new Map<string, string>();
  let next = new Map<string, string>();
  let at = 0;
  while (true) {
    const fail = (why: string) => new JepaError(`${where}: damaged tar archive at byte ${at}, ${why}`);
    if (at >= file.size) throw fail('it ends without its two blocks of zeros; it was probably cut');
    const header = await file.read(at, BLOCK);
    if (header.length < BLOCK) throw fail(`a header block is cut, the file ends at byte ${file.size}`);
    if (header.every((byte) => byte === 0)) return;
    const field = (from: number, length: number) => {
      const bytes = header.subarray(from, from + length);
      const end = bytes.indexOf(0);
      return text.decode(end < 0 ? bytes : bytes.subarray(0, end));
    };
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
    if (Number.parseInt(field(148, 8).trim(), 8) !== sum) {
      if (at === 0 && field(257, 5) !== 'ustar')
        throw new JepaError(`${where}: not a tar archive (the first 512 bytes are no tar header)`);
      throw fail('the header checksum is wrong');
    }
    const type = String.fromCharCode(header[156]);
    const override = (key: string) => next.get(key) ?? globals.get(key);
    const prefix = field(257, 5) === 'ustar' && header[262] === 0 ? field(345, 155) : '';
    const name = override('path') ?? (prefix ? `${prefix}/${field(0, 100)}` : field(0, 100));
    const pax = override('size');
    if (pax !== undefined && !/^\d{1,15}$/.test(pax)) throw fail(`its PAX record gives the size ${quoted(pax)}`);
    // Extensions describe the member after them; a `size` in force is that member's, not theirs.
    const extension = type === 'x' || type === 'g' || type === 'L' || type === 'K';
    const size = pax !== undefined && !extension ? Number(pax) : numberField(header.subarray(124, 136), fail);
    const offset = at + BLOCK;
    if (offset + size > file.size) {
      throw fail(`the member ${quoted(name)} of ${size} bytes is cut: the file ends at byte ${file.size}`);
    }
    if (extension) {
      if (size > MAX_EXTENSION) throw fail(`it has a name or PAX record of ${size} bytes`);
      const bytes = await file.read(offset, size);
      if (type === 'L') next.set('path', text.decode(bytes).replace(/\0[\s\S]*$/, ''));
      else if (type === 'x') next = new Map([...next, ...paxRecords(bytes, fail)]);
      else if (type === 'g') globals = new Map([...globals, ...paxRecords(bytes, fail)]);
    } else {
      next = new Map();
      if (type === '0' || type === '7' || (type === '\0' && !name.endsWith('/'))) {
        if (name.startsWith('/')) throw fail(`the member name ${quoted(name)} is absolute`);
        if (name.includes('\\') || /^[a-z]:/i.test(name)) {
          throw fail(`the member name ${quoted(name)} has a backslash or a drive letter`);
        }
        if (name.split('/').includes('..')) throw fail(`the member name ${quoted(name)} leaves the archive`);
        yield { name, offset, size };
      }
    }
    at = offset + Math.ceil(size / BLOCK) * BLOCK;
  }
}

/** A number of a header: octal text, or base 256 where the top bit is set. */
function numberField(bytes: Uint8Array, fail: (why: string) => JepaError): number {
  if (bytes[0] & 0x80) {
    if (bytes[0] & 0x40) throw fail('a size is negative (base 256)');
    const value = bytes.reduce((total, byte, i) => total * 256 + (i === 0 ? byte & 0x7f : byte), 0);
    if (!Number.isSafeInteger(value)) throw fail(`a size is ${value} bytes (base 256)`);
    return value;
  }
  const digits = String.fromCharCode(...bytes)
    .replace(/[\0 ]+$/, '')
    .trimStart();
  if (!/^[0-7]*$/.test(digits)) throw fail(`a size field is not octal: "${digits.replace(/[^ -~]/g, '?')}"`);
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

/** PAX records: "length key=value\n", the length counting all of it. */
function paxRecords(bytes: Uint8Array, fail: (why: string) => JepaError): Map<string, string> {
  const text = new TextDecoder();
  const records = new Map<string, string>();
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 ? '' : text.decode(bytes.subarray(at, space));
    if (!/^[1-9]\d{0,7}$/.test(digits)) throw fail('a PAX record is damaged');
    const end = at + Number(digits);
    if (end > bytes.length) throw fail('a PAX record is longer than its block');
    const equals = bytes.indexOf(0x3d, space);
    if (end <= space + 2 || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end)
      throw fail('a PAX record is damaged');
    records.set(text.decode(bytes.subarray(space + 1, equals)), text.decode(bytes.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}
