import { JepaError } from '../../base/errors.js';

/** Values of one property of all items, in the type of the file. */
export type PlyValues =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array;

/** A property that is a list: the values of item i are `values[starts[i]]` up to `values[starts[i + 1]]`. */
export interface PlyLists {
  readonly starts: Uint32Array;
  readonly values: PlyValues;
}

export interface PlyElement {
  readonly count: number;
  /** By name, in the order of the file. */
  readonly scalars: ReadonlyMap<string, PlyValues>;
  readonly lists: ReadonlyMap<string, PlyLists>;
}

/** The elements of a PLY file (`vertex`, `face`, ...) by name, in the order of the file. */
export type PlyFile = ReadonlyMap<string, PlyElement>;

interface NumberType {
  readonly bytes: number;
  readonly read: (view: DataView, at: number, little: boolean) => number;
  readonly make: (values: ArrayLike<number>) => PlyValues;
  readonly integer: boolean;
}

const TYPES: Readonly<Record<string, NumberType>> = {
  int8: { bytes: 1, read: (v, at) => v.getInt8(at), make: (n) => Int8Array.from(n), integer: true },
  uint8: { bytes: 1, read: (v, at) => v.getUint8(at), make: (n) => Uint8Array.from(n), integer: true },
  int16: { bytes: 2, read: (v, at, le) => v.getInt16(at, le), make: (n) => Int16Array.from(n), integer: true },
  uint16: { bytes: 2, read: (v, at, le) => v.getUint16(at, le), make: (n) => Uint16Array.from(n), integer: true },
  int32: { bytes: 4, read: (v, at, le) => v.getInt32(at, le), make: (n) => Int32Array.from(n), integer: true },
  uint32: { bytes: 4, read: (v, at, le) => v.getUint32(at, le), make: (n) => Uint32Array.from(n), integer: true },
  float32: { bytes: 4, read: (v, at, le) => v.getFloat32(at, le), make: (n) => Float32Array.from(n), integer: false },
  float64: { bytes: 8, read: (v, at, le) => v.getFloat64(at, le), make: (n) => Float64Array.from(n), integer: false },
};

/** The other spelling of every type. */
const ALIASES: Readonly<Record<string, string>> = {
  char: 'int8',
  uchar: 'uint8',
  short: 'int16',
  ushort: 'uint16',
  int: 'int32',
  uint: 'uint32',
  float: 'float32',
  double: 'float64',
};

interface Property {
  readonly name: string;
  readonly type: NumberType;
  /** Type of the length, for lists. */
  readonly length?: NumberType;
}

interface Element {
  readonly name: string;
  readonly count: number;
  readonly properties: Property[];
}

/** A longer header is taken for one that never ends. */
const LONGEST_HEADER = 1 << 16;
const FORMATS = ['ascii', 'binary_little_endian', 'binary_big_endian'];

type Fail = (why: string) => JepaError;

/**
 * Reads a PLY file (Stanford polygon format: ASCII, or binary of either byte order). Throws a `JepaError` naming the file
 * and the element for anything that does not add up; counts are checked against the size of the file before they are used.
 */
export function parsePly(bytes: Uint8Array, where: string): PlyFile {
  const fail: Fail = (why) => new JepaError(`${where}: not a readable PLY file: ${why}`);
  const { format, elements, dataStart } = parseHeader(bytes, fail);
  const reader =
    format === 'ascii'
      ? asciiReader(bytes.subarray(dataStart), fail)
      : binaryReader(bytes.subarray(dataStart), format === 'binary_little_endian', fail);
  const file = new Map<string, PlyElement>();
  for (const element of elements) {
    if (file.has(element.name)) throw fail(`the element "${element.name}" occurs twice`);
    file.set(element.name, readElement(element, reader, fail));
  }
  reader.end();
  return file;
}

/** A point cloud: the vertices of a PLY file. */
export interface PlyPoints {
  /** [points, 3] */
  readonly xyz: Float32Array | Float64Array;
  /** Everything else known of each point (normals, colours, labels), by name. */
  readonly properties: ReadonlyMap<string, PlyValues>;
}

/** The points of a PLY file. Throws a `JepaError` that says which coordinate is missing. */
export function plyPoints(file: PlyFile, where: string): PlyPoints {
  const vertex = file.get('vertex');
  if (!vertex) throw new JepaError(`${where}: no element "vertex"; the file has ${[...file.keys()].join(', ')}`);
  const properties = new Map(vertex.scalars);
  const axes = ['x', 'y', 'z'].map((name) => {
    const values = vertex.scalars.get(name);
    if (!values) {
      throw new JepaError(`${where}: the vertices have no ${name}; they have ${[...vertex.scalars.keys()].join(', ')}`);
    }
    properties.delete(name);
    return values;
  });
  const isDouble = axes.some((values) => values instanceof Float64Array);
  const xyz = isDouble ? new Float64Array(3 * vertex.count) : new Float32Array(3 * vertex.count);
  for (let i = 0; i < xyz.length; i++) xyz[i] = axes[i % 3][Math.floor(i / 3)];
  return { xyz, properties };
}

function parseHeader(bytes: Uint8Array, fail: Fail): { format: string; elements: Element[]; dataStart: number } {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, LONGEST_HEADER));
  if (!/^ply\r?\n/.test(text)) throw fail('it does not start with the line "ply"');
  const end = /\nend_header\r?\n/.exec(text);
  if (!end) throw fail('its header never ends (no line "end_header")');
  let format: string | undefined;
  const elements: Element[] = [];
  for (const [i, line] of text.slice(0, end.index).split(/\r?\n/).entries()) {
    const words = line.trim().split(/\s+/);
    const wrong = (why: string) => fail(`line ${i + 1} of its header ${why}: "${line.slice(0, 80)}"`);
    const typeOf = (name: string) => {
      const type = ALIASES[name] ?? name;
      if (!Object.hasOwn(TYPES, type)) throw wrong(`has the unknown type ${name}`);
      return TYPES[type];
    };
    if (i === 0 || ['comment', 'obj_info', ''].includes(words[0])) continue;
    if (words[0] === 'format') {
      if (words.length !== 3 || !FORMATS.includes(words[1]) || words[2] !== '1.0') throw wrong('has an unknown format');
      format = words[1];
    } else if (words[0] === 'element' && words.length === 3) {
      if (/^-\d+$/.test(words[2])) throw wrong('has a negative count');
      if (!/^\d{1,15}$/.test(words[2])) throw wrong('has a count that is no number');
      elements.push({ name: words[1], count: Number(words[2]), properties: [] });
    } else if (words[0] === 'property' && elements.length > 0) {
      const properties = elements[elements.length - 1].properties;
      const isList = words[1] === 'list';
      if (words.length !== (isList ? 5 : 3)) throw wrong('is no property');
      const [name, type] = [words[words.length - 1], typeOf(words[words.length - 2])];
      const length = isList ? typeOf(words[2]) : undefined;
      if (length && !length.integer) throw wrong('has a list length that is no integer');
      if (properties.some((other) => other.name === name)) throw wrong('names a property for the second time');
      properties.push({ name, type, length });
    } else throw wrong('is unknown');
  }
  if (!format) throw fail('its header says no format');
  return { format, elements, dataStart: end.index + end[0].length };
}

/** Gives the numbers of the data one after the other. */
interface Reader {
  /** Refuses an element that the rest of the file cannot hold. */
  check(element: Element): void;
  /** Before the properties of an item, and after them. */
  beginItem(what: string): void;
  endItem(what: string): void;
  next(type: NumberType, what: string): number;
  /** Refuses a list that the rest of the file cannot hold. */
  checkList(length: number, type: NumberType, what: string): void;
  /** Refuses anything after the last element. */
  end(): void;
}

function readElement({ name, count, properties }: Element, reader: Reader, fail: Fail): PlyElement {
  reader.check({ name, count, properties });
  const values = properties.map(() => [] as number[]);
  const starts = properties.map(() => [0]);
  for (let item = 0; item < count; item++) {
    const what = `${name} ${item}`;
    reader.beginItem(what);
    for (let p = 0; p < properties.length; p++) {
      const { type, length } = properties[p];
      if (length) {
        const announced = reader.next(length, what);
        if (announced < 0) throw fail(`${what} has a list of negative length ${announced}`);
        reader.checkList(announced, type, what);
        for (let i = 0; i < announced; i++) values[p].push(reader.next(type, what));
        starts[p].push(values[p].length);
      } else values[p].push(reader.next(type, what));
    }
    reader.endItem(what);
  }
  const scalars = new Map<string, PlyValues>();
  const lists = new Map<string, PlyLists>();
  properties.forEach(({ name, type, length }, p) => {
    const data = type.make(values[p]);
    if (length) lists.set(name, { starts: Uint32Array.from(starts[p]), values: data });
    else scalars.set(name, data);
  });
  return { count, scalars, lists };
}

function binaryReader(bytes: Uint8Array, little: boolean, fail: Fail): Reader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const need = (size: number, what: string) => {
    if (size > bytes.length - at) {
      throw fail(`the data end early: ${what} needs ${size} bytes, ${bytes.length - at} are left`);
    }
  };
  return {
    check({ name, count, properties }) {
      const least = properties.reduce((sum, { type, length }) => sum + (length ?? type).bytes, 0);
      if (least === 0 && count > 0) throw fail(`the element "${name}" has no properties`);
      need(least * count, `the element "${name}" of ${count} items`);
    },
    beginItem() {},
    endItem() {},
    next(type, what) {
      need(type.bytes, what);
      const value = type.read(view, at, little);
      at += type.bytes;
      return value;
    },
    checkList: (length, type, what) => need(length * type.bytes, `the list of ${length} values of ${what}`),
    end() {
      if (at < bytes.length) throw fail(`${bytes.length - at} bytes follow its last element`);
    },
  };
}

function asciiReader(bytes: Uint8Array, fail: Fail): Reader {
  const text = new TextDecoder('latin1').decode(bytes);
  let at = 0;
  let words: string[] = [];
  let used = 0;
  return {
    check({ name, count, properties }) {
      if (properties.length === 0 && count > 0) throw fail(`the element "${name}" has no properties`);
      // A number takes a character, and another one between it and the next.
      if (count * properties.length * 2 > text.length - at + 1) {
        throw fail(
          `rows are missing: the element "${name}" of ${count} items is not in the ${text.length - at} bytes left`,
        );
      }
    },
    beginItem(what) {
      if (at >= text.length) throw fail(`rows are missing: the file ends before ${what}`);
      const end = text.indexOf('\n', at);
      const line = text.slice(at, end < 0 ? text.length : end).trim();
      words = line === '' ? [] : line.split(/\s+/);
      used = 0;
      at = end < 0 ? text.length : end + 1;
    },
    endItem(what) {
      if (used < words.length) throw fail(`the row of ${what} has ${words.length} numbers instead of ${used}`);
    },
    next(type, what) {
      if (used >= words.length) throw fail(`the row of ${what} has too few numbers (${words.length})`);
      const word = words[used++];
      const pattern = type.integer ? /^[+-]?\d+$/ : /^([+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity))$/i;
      if (!pattern.test(word)) {
        throw fail(`"${word.slice(0, 40)}" in the row of ${what} is not ${type.integer ? 'an integer' : 'a number'}`);
      }
      const value = Number(word.replace(/^([+-]?)inf(inity)?$/i, '$1Infinity'));
      if (type.integer && type.make([value])[0] !== value) throw fail(`${word} in the row of ${what} is out of range`);
      return value;
    },
    checkList(length, _, what) {
      if (length > words.length - used) {
        throw fail(`the row of ${what} announces a list of ${length} values and has ${words.length - used}`);
      }
    },
    end() {
      if (text.slice(at).trim() !== '') throw fail('there are rows after its last element');
    },
  };
}
