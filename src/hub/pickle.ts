import { JepaError } from '../base/errors.js';
import { decodeUtf8, quoted } from '../base/json.js';

/**
 * What a pickle may hold here. Dictionaries are Maps; tuples and lists are arrays; integers are numbers where exact and
 * bigints above 2^53. `T` is what the caller's whitelisted functions make (tensors, for instance).
 */
export type PickleValue<T> = null | boolean | number | bigint | string | Uint8Array | T | PickleArray<T> | PickleMap<T>;
export interface PickleArray<T> extends Array<PickleValue<T>> {}
export interface PickleMap<T> extends Map<PickleValue<T>, PickleValue<T>> {}

/** A name that a pickle refers to, which the whitelist has accepted: what happens when it is called or given a state. */
export interface PickleGlobal<T> {
  readonly name: string;
  /** Result of calling it with these arguments; undefined where the arguments are not what they should be. */
  call?(args: PickleArray<T>): PickleValue<T> | undefined;
  /** The value where the name itself stands for one (a dtype, for instance). */
  readonly value?: PickleValue<T>;
}

export interface PickleRules<T> {
  /** The whitelist: what a name stands for, or undefined to refuse it. */
  global(module: string, name: string): PickleGlobal<T> | undefined;
  /** Result of a persistent id, or undefined to refuse it. */
  persistent(id: PickleValue<T>): PickleValue<T> | undefined;
  /** Takes the state given to an object with BUILD; false to refuse. */
  build(object: PickleValue<T>, state: PickleValue<T>): boolean;
}

const DEEPEST = 200;
/** Longest integer, in bytes; PyTorch's magic number takes 10. */
const LONGEST_INTEGER = 256;
const MARK = Symbol('mark');

type Item<T> = PickleValue<T> | PickleGlobal<T> | typeof MARK;

/**
 * Reads one pickle (protocols 2 to 5) without ever executing anything: names are looked up in a whitelist, and what is
 * "called" are the few functions of that whitelist, which only make plain data. Returns the value and the number of bytes
 * read. Throws JepaError for any other name or opcode, for malformed data, and for values that contain themselves, nest
 * deeper than 200 levels or would unfold (through sharing) to far more than the file holds: what comes back can be walked
 * recursively without harm.
 */
export function readPickle<T>(
  bytes: Uint8Array,
  name: string,
  rules: PickleRules<T>,
): { value: PickleValue<T>; length: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: Item<T>[] = [];
  const memo = new Map<number, PickleValue<T> | PickleGlobal<T>>();
  let at = 0;

  const refuse = (what: string): never => {
    throw new JepaError(`${name}: ${what} (byte ${at} of the pickle)`);
  };
  const take = (length: number): number => {
    if (length > bytes.length - at)
      refuse(`the pickle ends early: ${length} bytes announced, ${bytes.length - at} left`);
    at += length;
    return at - length;
  };
  const u8 = () => bytes[take(1)];
  const u32 = () => view.getUint32(take(4), true);
  const u64 = () => {
    const value = view.getBigUint64(take(8), true);
    return value > BigInt(Number.MAX_SAFE_INTEGER) ? refuse('a length that is absurd') : Number(value);
  };
  const blob = (length: number) => {
    const start = take(length);
    return bytes.subarray(start, start + length);
  };
  const text = (length: number) => decodeUtf8(blob(length), `${name}: a string of the pickle`);
  const line = () => {
    const end = bytes.indexOf(10, at);
    if (end < 0 || end - at > 1000) refuse('a line of the pickle does not end');
    const found = text(end - at);
    at++;
    return found;
  };

  const pop = (): Item<T> => (stack.length > 0 ? stack.pop()! : refuse('malformed pickle: the stack is empty'));
  const isGlobal = (item: Item<T>): item is PickleGlobal<T> =>
    typeof item === 'object' && item !== null && globals.has(item);
  const globals = new Set<unknown>();
  const popGlobal = () => {
    const item = pop();
    return isGlobal(item) ? item : refuse('malformed pickle: something that is not a name is called');
  };
  const toValue = (item: Item<T>): PickleValue<T> => {
    if (item === MARK) return refuse('malformed pickle: a mark where a value was expected');
    if (!isGlobal(item)) return item as PickleValue<T>;
    return item.value !== undefined ? item.value : refuse(`the name ${quoted(item.name)} is used as a value`);
  };
  const popValue = () => toValue(pop());
  const popArray = () => {
    const value = popValue();
    return Array.isArray(value) ? value : refuse('malformed pickle: a tuple or list was expected');
  };
  const popToMark = () => {
    const start = stack.lastIndexOf(MARK);
    if (start < 0) refuse('malformed pickle: a mark is missing');
    return stack.splice(start).slice(1).map(toValue);
  };
  const popTuple = (count: number) => {
    const items: PickleValue<T>[] = [];
    for (let i = 0; i < count; i++) items.unshift(popValue());
    return items;
  };
  const top = <K>(accept: (value: Item<T> | undefined) => K | undefined, what: string): K =>
    accept(stack.at(-1)) ?? refuse(`malformed pickle: ${what} was expected`);
  const topList = () => top((item) => (Array.isArray(item) ? item : undefined), 'a list');
  const topMap = () => top((item) => (item instanceof Map ? item : undefined), 'a dictionary');
  const setItems = (map: PickleMap<T>, items: PickleValue<T>[]) => {
    if (items.length % 2 === 1) refuse('malformed pickle: a key without a value');
    for (let i = 0; i < items.length; i += 2) {
      if (items[i] instanceof Map) refuse('malformed pickle: a dictionary as a key');
      map.set(items[i], items[i + 1]);
    }
  };
  const find = (module: string, member: string) => {
    const found = rules.global(module, member);
    if (!found) {
      return refuse(
        `it names ${quoted(`${module}.${member}`)}, which is not among the names that a checkpoint needs; such a file could run code, nothing of it was executed`,
      );
    }
    globals.add(found);
    return found;
  };
  const remember = (index: number) => {
    const item = stack.at(-1);
    if (item === undefined || item === MARK) refuse('malformed pickle: nothing to remember');
    memo.set(index, item as PickleValue<T>);
  };
  const recall = (index: number) =>
    memo.has(index) ? memo.get(index)! : refuse(`malformed pickle: nothing was remembered as ${index}`);
  const integer = (length: number) => {
    if (length > LONGEST_INTEGER) refuse(`an integer of ${length} bytes is announced`);
    const digits = blob(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(digits[i]);
    if (length > 0 && digits[length - 1] > 127) value -= 1n << BigInt(8 * length);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  };
  const call = (target: PickleGlobal<T>, args: PickleArray<T>) => {
    const result = target.call?.(args);
    return result === undefined ? refuse(`${quoted(target.name)} cannot be called this way`) : result;
  };

  for (;;) {
    const opcode = u8();
    switch (opcode) {
      case 0x80: // PROTO
        if (u8() > 5) refuse('a pickle protocol above 5');
        break;
      case 0x95: // FRAME: only a hint for reading ahead
        take(8);
        break;
      case 0x2e: {
        // STOP
        const value = popValue();
        if (stack.length > 0) refuse(`malformed pickle: ${stack.length} values or open marks are left at its end`);
        checkUnfolds(value, bytes.length, refuse);
        return { value, length: at };
      }

      case 0x4e: // NONE
        stack.push(null);
        break;
      case 0x88: // NEWTRUE
        stack.push(true);
        break;
      case 0x89: // NEWFALSE
        stack.push(false);
        break;
      case 0x4a: // BININT
        stack.push(view.getInt32(take(4), true));
        break;
      case 0x4b: // BININT1
        stack.push(u8());
        break;
      case 0x4d: // BININT2
        stack.push(view.getUint16(take(2), true));
        break;
      case 0x8a: // LONG1
        stack.push(integer(u8()));
        break;
      case 0x8b: // LONG4
        stack.push(integer(u32()));
        break;
      case 0x47: // BINFLOAT, big-endian
        stack.push(view.getFloat64(take(8), false));
        break;
      case 0x8c: // SHORT_BINUNICODE
        stack.push(text(u8()));
        break;
      case 0x58: // BINUNICODE
        stack.push(text(u32()));
        break;
      case 0x8d: // BINUNICODE8
        stack.push(text(u64()));
        break;
      case 0x43: // SHORT_BINBYTES
        stack.push(new Uint8Array(blob(u8())));
        break;
      case 0x42: // BINBYTES
        stack.push(new Uint8Array(blob(u32())));
        break;
      case 0x8e: // BINBYTES8
        stack.push(new Uint8Array(blob(u64())));
        break;

      case 0x28: // MARK
        stack.push(MARK);
        break;
      case 0x30: // POP
        pop();
        break;
      case 0x5d: // EMPTY_LIST
      case 0x29: // EMPTY_TUPLE
        stack.push([]);
        break;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map());
        break;
      case 0x74: // TUPLE
      case 0x6c: // LIST
        stack.push(popToMark());
        break;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        stack.push(popTuple(opcode - 0x84));
        break;
      case 0x61: {
        // APPEND
        const item = popValue();
        topList().push(item);
        break;
      }
      case 0x65: {
        // APPENDS
        const items = popToMark();
        const list = topList();
        for (const item of items) list.push(item);
        break;
      }
      case 0x73: {
        // SETITEM
        const items = popTuple(2);
        setItems(topMap(), items);
        break;
      }
      case 0x75: {
        // SETITEMS
        const items = popToMark();
        setItems(topMap(), items);
        break;
      }

      case 0x71: // BINPUT
        remember(u8());
        break;
      case 0x72: // LONG_BINPUT
        remember(u32());
        break;
      case 0x94: // MEMOIZE
        remember(memo.size);
        break;
      case 0x68: // BINGET
        stack.push(recall(u8()));
        break;
      case 0x6a: // LONG_BINGET
        stack.push(recall(u32()));
        break;

      case 0x63: // GLOBAL
        stack.push(find(line(), line()));
        break;
      case 0x93: {
        // STACK_GLOBAL
        const [module, member] = popTuple(2);
        if (typeof module !== 'string' || typeof member !== 'string')
          return refuse('malformed pickle: a name that is no text');
        stack.push(find(module, member));
        break;
      }
      case 0x69: // INST
        find(line(), line());
        refuse('it makes an object in a way (INST) that no checkpoint needs');
        break;
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const args = popArray();
        stack.push(call(popGlobal(), args));
        break;
      }
      case 0x62: {
        // BUILD
        const state = popValue();
        const object = top((item) => (item === MARK ? undefined : item), 'an object');
        if (!rules.build(toValue(object), state)) refuse('it sets the state of an object that has none here');
        break;
      }
      case 0x51: {
        // BINPERSID
        const value = rules.persistent(popValue());
        stack.push(value === undefined ? refuse('a reference to data that is not a storage') : value);
        break;
      }
      default:
        refuse(`opcode 0x${opcode.toString(16)} is not one that checkpoints need`);
    }
  }
}

/**
 * Refuses values that contain themselves, nest too deeply or unfold to many times the size of the file. Walks every
 * container once, without recursion, children before parents.
 */
function checkUnfolds<T>(root: PickleValue<T>, fileBytes: number, refuse: (what: string) => never): void {
  const most = 1_000_000 + fileBytes;
  const done = new Map<object, { depth: number; size: number }>();
  const open = new Set<object>();
  const children = (value: PickleArray<T> | PickleMap<T>): PickleValue<T>[] =>
    Array.isArray(value) ? value : [...value.keys(), ...value.values()];
  const isContainer = (value: unknown): value is PickleArray<T> | PickleMap<T> =>
    Array.isArray(value) || value instanceof Map;

  const work: PickleValue<T>[] = [root];
  while (work.length > 0) {
    const value = work.at(-1)!;
    if (!isContainer(value) || done.has(value)) {
      work.pop();
    } else if (!open.has(value)) {
      open.add(value);
      for (const child of children(value)) {
        if (!isContainer(child) || done.has(child)) continue;
        if (open.has(child)) refuse('a value contains itself');
        work.push(child);
      }
    } else {
      let depth = 1;
      let size = 1;
      for (const child of children(value)) {
        const inner = isContainer(child) ? done.get(child)! : { depth: 0, size: 1 };
        depth = Math.max(depth, 1 + inner.depth);
        size += inner.size;
      }
      if (depth > DEEPEST) refuse(`values nest deeper than ${DEEPEST} levels`);
      if (size > most) refuse(`shared values unfold to more than ${most}`);
      done.set(value, { depth, size });
      open.delete(value);
      work.pop();
    }
  }
}
