import { concatBytes } from './safetensors.js';

const PROTO = 0x80;
const STOP = 0x2e;
const MARK = 0x28;
const NONE = 0x4e;
const NEWTRUE = 0x88;
const NEWFALSE = 0x89;
const BININT = 0x4a;
const BININT1 = 0x4b;
const BININT2 = 0x4d;
const LONG1 = 0x8a;
const LONG4 = 0x8b;
const BINFLOAT = 0x47;
const BINUNICODE = 0x58;
const EMPTY_LIST = 0x5d;
const EMPTY_TUPLE = 0x29;
const EMPTY_DICT = 0x7d;
const APPENDS = 0x65;
const SETITEMS = 0x75;
const TUPLE = 0x74;
const TUPLE1 = 0x85;
const REDUCE = 0x52;
const BINPERSID = 0x51;
const BINPUT = 0x71;
const LONG_BINPUT = 0x72;
const BINGET = 0x68;
const LONG_BINGET = 0x6a;

/** A name that a pickle refers to, `torch.FloatStorage` for instance. */
export interface PickleName {
  readonly module: string;
  readonly member: string;
}

/** What is written as it is. */
export type PickleScalar = null | boolean | number | bigint | string | Uint8Array;

/**
 * What is written to a pickle. Arrays become lists, Maps dictionaries, whole numbers integers and other numbers floats; the
 * rest has no counterpart in JavaScript.
 */
export type PickleNode =
  | PickleScalar
  | readonly PickleNode[]
  | ReadonlyMap<PickleNode, PickleNode>
  | PickleName
  | { readonly tuple: readonly PickleNode[] }
  /** What calling a name gives, with items that are then set in it. */
  | {
      readonly call: PickleName;
      readonly args: readonly PickleNode[];
      readonly items?: ReadonlyMap<PickleNode, PickleNode>;
    }
  | { readonly persistent: PickleNode };

/**
 * A pickle of protocol 2, which every Python 3 and PyTorch's restricted unpickler read. Texts and names are written once
 * and then referred to. What nests is the caller's to bound.
 */
export function encodePickle(root: PickleNode): Uint8Array {
  const out: Uint8Array[] = [];
  const known = new Map<string, number>();
  const op = (...bytes: number[]) => out.push(Uint8Array.from(bytes));
  const sized = (opcode: number, length: number) => op(opcode, ...u32(length));
  const once = (key: string, write: () => void) => {
    const index = known.get(key);
    if (index === undefined) {
      write();
      if (known.size < 256) op(BINPUT, known.size);
      else sized(LONG_BINPUT, known.size);
      known.set(key, known.size);
    } else if (index < 256) op(BINGET, index);
    else sized(LONG_BINGET, index);
  };
  const name = ({ module, member }: PickleName) =>
    once(`name ${module} ${member}`, () => out.push(utf8(`c${module}\n${member}\n`)));
  const tuple = (items: readonly PickleNode[]) => {
    if (items.length === 0) return op(EMPTY_TUPLE);
    if (items.length > 3) op(MARK);
    for (const item of items) write(item);
    return op(items.length > 3 ? TUPLE : TUPLE1 + items.length - 1);
  };
  const setItems = (items: ReadonlyMap<PickleNode, PickleNode>) => {
    if (items.size === 0) return;
    op(MARK);
    for (const [key, value] of items) {
      write(Array.isArray(key) ? { tuple: key } : key); // a list cannot be a key
      write(value);
    }
    op(SETITEMS);
  };
  const call = (target: PickleName, args: readonly PickleNode[]) => {
    name(target);
    tuple(args);
    op(REDUCE);
  };

  function write(node: PickleNode): void {
    if (node === null) op(NONE);
    else if (typeof node === 'boolean') op(node ? NEWTRUE : NEWFALSE);
    else if (typeof node === 'bigint') out.push(long(node));
    else if (typeof node === 'number') out.push(number(node));
    else if (typeof node === 'string')
      once(`text ${node}`, () => {
        const bytes = utf8(node);
        sized(BINUNICODE, bytes.length);
        out.push(bytes);
      });
    else if (node instanceof Uint8Array)
      // Protocol 2 has no bytes: Python spells them as text, too.
      call({ module: '_codecs', member: 'encode' }, [
        Array.from(node, (b) => String.fromCharCode(b)).join(''),
        'latin1',
      ]);
    else if (node instanceof Map) {
      op(EMPTY_DICT);
      setItems(node);
    } else if (isList(node)) {
      op(EMPTY_LIST);
      if (node.length === 0) return;
      op(MARK);
      for (const item of node) write(item);
      op(APPENDS);
    } else if ('tuple' in node) tuple(node.tuple);
    else if ('persistent' in node) {
      write(node.persistent);
      op(BINPERSID);
    } else if ('call' in node) {
      call(node.call, node.args);
      if (node.items) setItems(node.items);
    } else name(node as PickleName);
  }

  op(PROTO, 2);
  write(root);
  op(STOP);
  return concatBytes(out);
}

const isList = (node: object): node is readonly PickleNode[] => Array.isArray(node);
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Whole numbers that are exact are integers; -0 and what lies beyond 2^53 are floats. */
function number(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
    const bytes = Uint8Array.of(BINFLOAT, 0, 0, 0, 0, 0, 0, 0, 0);
    new DataView(bytes.buffer).setFloat64(1, value, false);
    return bytes;
  }
  if (value >= 0 && value < 2 ** 8) return Uint8Array.of(BININT1, value);
  if (value >= 0 && value < 2 ** 16) return Uint8Array.of(BININT2, value & 255, value >> 8);
  return value === (value | 0) ? Uint8Array.of(BININT, ...u32(value)) : long(BigInt(value));
}

/** An integer of any size: its two's complement in as few bytes as hold the sign too. */
function long(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 8n) {
    const byte = Number(rest & 255n);
    bytes.push(byte);
    if (rest >> 8n === (byte > 127 ? -1n : 0n)) break;
  }
  return bytes.length < 256
    ? Uint8Array.of(LONG1, bytes.length, ...bytes)
    : Uint8Array.of(LONG4, ...u32(bytes.length), ...bytes);
}
