import { JepaError } from '../base/errors.js';
import { isCount, quoted } from '../base/json.js';
import { type PickleArray, type PickleGlobal, type PickleRules, type PickleValue, readPickle } from './pickle.js';
import { byteLengthOf, FILE_DTYPES, type FileDType, gatherStrided, type StoredTensor } from './raw.js';
import { concatBytes } from './safetensors.js';
import type { ByteSource } from './source.js';
import { openZip } from './zip.js';

/** A value in a PyTorch file: Map for dictionaries, arrays for lists and tuples, dtypes by name (`torch.float16`). */
export type TorchValue = PickleValue<StoredTensor>;

/** An open PyTorch file. Tensors are read when asked for; the source must stay open until then. */
export interface TorchFile {
  readonly format: 'zip' | 'legacy';
  readonly root: TorchValue;
  /** Every tensor by its path through dictionaries, lists and tuples: `encoder/module.norm.weight`, `opt/state/0/step`. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** A storage: elements in a row, of which tensors are views. */
interface Storage {
  readonly key: string;
  readonly dtype: FileDType;
  readonly count: number;
  /** Where the data are; known only after the object has been read in the older format. */
  source?: ByteSource;
  offset: number;
}

type Made = StoredTensor | Storage | NumpyDType;

/** A NumPy dtype while its pickle is read; `>` in the state swaps the bytes. */
interface NumpyDType {
  readonly numpy: string;
  bigEndian: boolean;
}

/** What PyTorch calls the storages of each type. */
export const STORAGES: Readonly<Record<string, FileDType>> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};

const DTYPES = new Set(
  'float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8 bool complex64'.split(' '),
);

/** Bytes that a view which repeats elements (stride 0) may take beyond those of its storage. */
const LARGEST_EXPANSION = 16 << 20;
/** Longest pickle that is read. The tensors' data are not part of it. */
const LARGEST_PICKLE = 32 << 20;
const LEGACY_START = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/**
 * Opens a file written by `torch.save`: the zip form of PyTorch 1.6 and later, or the older form of five pickles. Nothing
 * in the file is executed: see `readPickle`; of PyTorch only the functions that describe tensors are known. Throws
 * JepaError for anything else: other names, tensors outside of their storage, missing or cut data.
 */
export function openTorchFile(source: ByteSource): TorchFile {
  const start = source.read(0, Math.min(source.size, LEGACY_START.length));
  const isLegacy = LEGACY_START.every((byte, i) => start[i] === byte);
  const isZip = start[0] === 0x50 && start[1] === 0x4b;
  if (!isLegacy && !isZip) {
    throw new JepaError(
      `${source.name}: not a PyTorch file: it starts neither as a zip archive nor as the older form of torch.save`,
    );
  }
  const root = isZip ? readZipForm(source) : readLegacyForm(source);
  return { format: isZip ? 'zip' : 'legacy', root, tensors: tensorsByPath(root, source.name) };
}

function readZipForm(source: ByteSource): TorchValue {
  const members = openZip(source);
  const pickleName = [...members.keys()].find((name) => name.endsWith('/data.pkl'));
  if (pickleName === undefined)
    throw new JepaError(`${source.name}: a zip archive without data.pkl; torch.save did not write it`);
  const top = pickleName.slice(0, -'data.pkl'.length);
  const content = (name: string): Uint8Array => {
    const member = members.get(name)!;
    if (member.size > LARGEST_PICKLE)
      throw new JepaError(
        `${source.name}: ${quoted(name)} takes ${member.size} bytes, at most ${LARGEST_PICKLE} are read`,
      );
    return concatBytes([...member.pieces()]);
  };
  if (members.has(`${top}byteorder`)) {
    const order = new TextDecoder().decode(content(`${top}byteorder`));
    if (order !== 'little')
      throw new JepaError(`${source.name}: byte order ${quoted(order)}; only little-endian files are read`);
  }

  const storages = new Map<string, Storage>();
  const bind = (storage: Storage) => {
    const member = members.get(`${top}data/${storage.key}`);
    const bytes = storageBytes(storage);
    if (!member) throw new JepaError(`${source.name}: the data of storage ${quoted(storage.key)} are missing`);
    if (member.compressed)
      throw new JepaError(
        `${source.name}: storage ${quoted(storage.key)} is compressed; torch.save never does that, so pack the file anew without compression`,
      );
    if (member.size < bytes)
      throw new JepaError(
        `${source.name}: storage ${quoted(storage.key)} holds ${member.size} bytes where ${bytes} are announced`,
      );
    storage.source = member.stored();
  };
  const rules = torchRules(source.name, storages, bind);
  return onlyTorchValues(readPickle(content(pickleName), source.name, rules).value, source.name);
}

function readLegacyForm(source: ByteSource): TorchValue {
  // The pickles are at the start, of unknown length: read up to the limit, or the whole file.
  const head = source.read(0, Math.min(source.size, LARGEST_PICKLE));
  let at = 0;
  const next = (rules: PickleRules<Made>): PickleValue<Made> => {
    const { value, length } = readPickle(head.subarray(at), source.name, rules);
    at += length;
    return value;
  };
  const storages = new Map<string, Storage>();
  const plain = torchRules(source.name, new Map(), () => {});
  next(plain); // the magic number, compared above
  const version = next(plain);
  if (version !== 1001)
    throw new JepaError(`${source.name}: version ${String(version)} of the older PyTorch form; only 1001 is known`);
  const system = next(plain);
  if (system instanceof Map && system.get('little_endian') === false)
    throw new JepaError(`${source.name}: only little-endian files are read`);
  const root = next(torchRules(source.name, storages, () => {}));
  const keys = next(plain);
  if (!Array.isArray(keys)) throw new JepaError(`${source.name}: the list of storages is missing`);

  let offset = at;
  for (const key of keys) {
    const storage = storages.get(String(key));
    if (!storage) throw new JepaError(`${source.name}: data of storage ${quoted(String(key))}, which no tensor uses`);
    const bytes = storageBytes(storage);
    if (offset + 8 + bytes > source.size) {
      throw new JepaError(
        `${source.name}: the data of storage ${quoted(storage.key)} end at byte ${source.size} instead of ${offset + 8 + bytes}; the file is cut`,
      );
    }
    const count = new DataView(source.read(offset, 8).buffer).getBigUint64(0, true);
    if (count !== BigInt(storage.count))
      throw new JepaError(
        `${source.name}: storage ${quoted(storage.key)} has ${count} elements where ${storage.count} are announced`,
      );
    storage.source = source;
    storage.offset = offset + 8;
    offset += 8 + bytes;
  }
  for (const { key, source: bound } of storages.values()) {
    if (!bound) throw new JepaError(`${source.name}: the data of storage ${quoted(key)} are missing`);
  }
  return onlyTorchValues(root, source.name);
}

function storageBytes(storage: Storage): number {
  return byteLengthOf(storage.dtype, [storage.count])!;
}

function isStorage(value: PickleValue<Made> | undefined): value is Storage {
  return typeof value === 'object' && value !== null && 'key' in value && 'count' in value;
}

function isNumpyDType(value: PickleValue<Made> | undefined): value is NumpyDType {
  return typeof value === 'object' && value !== null && 'numpy' in value;
}

export function isTorchTensor(value: TorchValue | undefined): value is StoredTensor {
  return typeof value === 'object' && value !== null && 'byteLength' in value && 'read' in value;
}

/** The whitelist: what checkpoints refer to, by whole names. */
function torchRules(file: string, storages: Map<string, Storage>, bind: (storage: Storage) => void): PickleRules<Made> {
  const refuse = (what: string): never => {
    throw new JepaError(`${file}: ${what}`);
  };
  const globals = new Map<string, PickleGlobal<Made>>();
  const add = (name: string, call: PickleGlobal<Made>['call']) =>
    globals.set(name, { name: name.replace(' ', '.'), call });
  add('collections OrderedDict', (args) => {
    if (args.length === 0) return new Map();
    const [pairs] = args;
    if (args.length > 1 || !Array.isArray(pairs) || !pairs.every((pair) => Array.isArray(pair) && pair.length === 2))
      return undefined;
    return new Map(pairs as [PickleValue<Made>, PickleValue<Made>][]);
  });
  add('torch Size', ([sizes]) => (Array.isArray(sizes) ? sizes : undefined));
  const rebuild = ([storage, offset, sizes, strides]: PickleArray<Made>) =>
    isStorage(storage) && isCount(offset) && isCounts(sizes) && isCounts(strides)
      ? tensorView(storage, offset, sizes, strides, refuse)
      : refuse('a tensor has an offset, sizes or strides that are not non-negative integers');
  add('torch._utils _rebuild_tensor', rebuild);
  add('torch._utils _rebuild_tensor_v2', rebuild);
  add('torch._utils _rebuild_parameter', ([tensor]) => (isTorchTensor(tensor as TorchValue) ? tensor : undefined));
  for (const name of Object.keys(STORAGES))
    globals.set(`torch ${name}`, { name: `torch.${name}`, value: `torch.${name}` });
  for (const name of DTYPES) globals.set(`torch ${name}`, { name: `torch.${name}`, value: `torch.${name}` });
  for (const module of ['numpy.core.multiarray', 'numpy._core.multiarray']) {
    add(`${module} scalar`, ([dtype, bytes]) =>
      isNumpyDType(dtype) && bytes instanceof Uint8Array ? numpyScalar(dtype, bytes) : undefined,
    );
  }
  add('numpy dtype', ([numpy]) => (typeof numpy === 'string' ? { numpy, bigEndian: false } : undefined));
  add('_codecs encode', ([text, encoding]) =>
    typeof text === 'string' && (encoding === 'latin1' || encoding === 'latin-1') && /^[\0-\xff]*$/.test(text)
      ? Uint8Array.from(text, (char) => char.charCodeAt(0))
      : undefined,
  );

  return {
    global: (module, name) => globals.get(`${module} ${name}`),
    persistent(id) {
      if (!Array.isArray(id) || id.length < 5 || id.length > 6 || id[0] !== 'storage') return undefined;
      const [, type, key, , count, view] = id;
      const dtype =
        typeof type === 'string' && type.startsWith('torch.') ? STORAGES[type.slice('torch.'.length)] : undefined;
      if (dtype === undefined || typeof key !== 'string' || (view ?? null) !== null) return undefined;
      if (!isCount(count) || byteLengthOf(dtype, [count]) === undefined)
        return refuse(`storage ${quoted(key)} announces ${String(count)} elements`);
      const known = storages.get(key);
      if (known)
        return known.dtype === dtype && known.count === count
          ? known
          : refuse(`storage ${quoted(key)} is described in two ways`);
      const storage: Storage = { key, dtype, count, offset: 0 };
      bind(storage);
      storages.set(key, storage);
      return storage;
    },
    build(object, state) {
      if (object instanceof Map) return true; // attributes of an OrderedDict (_metadata of state dicts): dropped
      if (!isNumpyDType(object) || !Array.isArray(state)) return false;
      object.bigEndian = state[1] === '>';
      return true;
    },
  };
}

function isCounts(value: PickleValue<Made> | undefined): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}

function tensorView(
  storage: Storage,
  offset: number,
  shape: number[],
  strides: number[],
  refuse: (what: string) => never,
): StoredTensor {
  const where = `${quoted(shape)} with strides ${quoted(strides)} from element ${offset} of storage ${quoted(storage.key)} (${storage.count} elements)`;
  const { dtype } = storage;
  const byteLength = byteLengthOf(dtype, shape);
  if (strides.length !== shape.length || byteLength === undefined) return refuse(`a tensor ${where} makes no sense`);
  let last = offset;
  shape.forEach((size, axis) => {
    last += (size - 1) * strides[axis];
  });
  const isEmpty = shape.includes(0);
  if (!isEmpty && last >= storage.count) refuse(`a tensor ${where} reaches beyond its storage, to element ${last}`);
  if (byteLength > Math.max(storageBytes(storage), LARGEST_EXPANSION)) {
    refuse(`a tensor ${where} repeats few elements to ${byteLength} bytes`);
  }
  const item = FILE_DTYPES[dtype] / 8;
  return {
    dtype,
    shape,
    byteLength,
    read() {
      if (isEmpty) return new Uint8Array(0);
      const bytes = storage.source!.read(storage.offset + offset * item, (last - offset + 1) * item);
      return gatherStrided(bytes, item, shape, strides);
    },
  };
}

function numpyScalar({ numpy, bigEndian }: NumpyDType, bytes: Uint8Array): PickleValue<Made> | undefined {
  if (bytes.length !== Number(numpy.slice(1))) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const exact = (value: bigint) => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
  switch (numpy) {
    case 'f8':
      return view.getFloat64(0, !bigEndian);
    case 'f4':
      return view.getFloat32(0, !bigEndian);
    case 'i8':
      return exact(view.getBigInt64(0, !bigEndian));
    case 'u8':
      return exact(view.getBigUint64(0, !bigEndian));
    case 'i4':
      return view.getInt32(0, !bigEndian);
    case 'u4':
      return view.getUint32(0, !bigEndian);
    case 'i2':
      return view.getInt16(0, !bigEndian);
    case 'u2':
      return view.getUint16(0, !bigEndian);
    case 'i1':
      return view.getInt8(0);
    case 'u1':
      return view.getUint8(0);
    case 'b1':
      return view.getUint8(0) !== 0;
    default:
      return undefined;
  }
}

/** Refuses values that only make sense inside of a tensor or scalar. */
function onlyTorchValues(root: PickleValue<Made>, file: string): TorchValue {
  const seen = new Set<unknown>();
  const work: PickleValue<Made>[] = [root];
  while (work.length > 0) {
    const value = work.pop()!;
    if (isStorage(value) || isNumpyDType(value))
      throw new JepaError(`${file}: a bare storage or NumPy dtype where a tensor or value was expected`);
    if (seen.has(value) || !(Array.isArray(value) || value instanceof Map)) continue;
    seen.add(value);
    for (const child of Array.isArray(value) ? value : [...value.keys(), ...value.values()]) work.push(child);
  }
  return root as TorchValue;
}

function tensorsByPath(root: TorchValue, file: string): Map<string, StoredTensor> {
  const found = new Map<string, StoredTensor>();
  const walk = (value: TorchValue, path: string) => {
    if (isTorchTensor(value)) {
      if (found.has(path)) throw new JepaError(`${file}: two tensors have the path ${quoted(path)}`);
      found.set(path, value);
    } else if (Array.isArray(value) || value instanceof Map) {
      const entries: Iterable<[TorchValue, TorchValue]> = value.entries();
      for (const [key, child] of entries) walk(child, path === '' ? String(key) : `${path}/${String(key)}`);
    }
  };
  walk(root, '');
  return found;
}

/** A value without tensors' data, as JSON can hold it: tensors as `F32 [2, 3]`, big integers as decimal text, bytes by length. */
export function describeTorchValue(value: TorchValue): unknown {
  if (isTorchTensor(value)) return `${value.dtype} [${value.shape.join(', ')}]`;
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (Array.isArray(value)) return value.map(describeTorchValue);
  if (value instanceof Map)
    return Object.fromEntries(Array.from(value, ([key, child]) => [String(key), describeTorchValue(child)]));
  return value;
}
