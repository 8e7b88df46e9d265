import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { encodePickle, type PickleName, type PickleNode, type PickleScalar } from './pickle-write.js';
import { STORAGES } from './pth.js';
import { byteLengthOf, type FileDType, type StoredTensor } from './raw.js';
import { toStored, type Writable } from './safetensors.js';
import { crc32 } from './zip.js';
import { zipWriter } from './zip-write.js';

/** What a PyTorch file is written from; a `TorchValue` that was read is one. */
export type TorchWritable =
  | PickleScalar
  | Writable
  | readonly TorchWritable[]
  | ReadonlyMap<TorchWritable, TorchWritable>;

/** As deep as what is read may nest. */
const DEEPEST = 200;

/**
 * A file as `torch.save` writes it since PyTorch 1.6, in pieces: a zip archive with the pickle of the value and a member for
 * each tensor, all stored, its data aligned to 64 bytes, with Zip64 fields where a file exceeds 4 GB. Tensors are read one
 * by one, when their turn comes; one that occurs several times is stored once, as PyTorch shares storages. Dictionaries of
 * nothing but tensors become an `OrderedDict`, as state dicts are. `torch.load(weights_only=True)` reads it. Equal values
 * give equal bytes. `stem` is the folder in the archive. Throws a `JepaError` before anything is written for tensors of types
 * that have no storage in PyTorch and for values that nest deeper than 200 levels.
 */
export function torchFilePieces(root: TorchWritable, stem = 'archive'): Iterable<Uint8Array> {
  const storages = new Map<Writable, Storage>();
  const pickle = encodePickle(nodeOf(root, storages, [], 0));
  return pieces(stem, pickle, [...storages.values()]);
}

interface Storage {
  readonly key: string;
  /** Where the tensor is in the value, for messages. */
  readonly where: string;
  readonly tensor: StoredTensor;
}

function* pieces(stem: string, pickle: Uint8Array, storages: readonly Storage[]): Generator<Uint8Array> {
  const zip = zipWriter();
  const sums = { names: 0, contents: 0 };
  function* put(name: string, content: Uint8Array): Generator<Uint8Array> {
    const sum = crc32(content);
    sums.names = crc32(ascii(name), sums.names);
    sums.contents = crc32(ascii(`${sum},`), sums.contents);
    yield zip.header(`${stem}/${name}`, content.length, sum);
    yield content;
  }
  yield* put('data.pkl', pickle);
  yield* put('.format_version', ascii('1'));
  yield* put('.storage_alignment', ascii('64'));
  yield* put('byteorder', ascii('little'));
  for (const { key, where, tensor } of storages) {
    const content = tensor.read();
    if (content.length !== tensor.byteLength)
      throw new JepaError(`tensor ${quoted(where)}: ${content.length} bytes where ${tensor.byteLength} are announced`);
    yield* put(`data/${key}`, content);
  }
  yield* put('version', ascii('3\n'));
  // Tells files apart: 20 digits of the names, 20 of the contents. PyTorch compares it with nothing.
  yield* put('.data/serialization_id', ascii([sums.names, sums.contents].map((sum) => pad20(sum)).join('')));
  yield zip.directory();
}

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const pad20 = (value: number): string => String(value).padStart(20, '0');

const STORAGE_OF = new Map(Object.entries(STORAGES).map(([name, dtype]): [FileDType, string] => [dtype, name]));
const ORDERED_DICT: PickleName = { module: 'collections', member: 'OrderedDict' };
const REBUILD: PickleName = { module: 'torch._utils', member: '_rebuild_tensor_v2' };

const isTensor = (value: TorchWritable | undefined): value is Writable =>
  typeof value === 'object' && value !== null && 'dtype' in value && 'shape' in value;

/** A value with its tensors as calls that make them, whose storages are collected. */
function nodeOf(
  value: TorchWritable,
  storages: Map<Writable, Storage>,
  path: readonly string[],
  depth: number,
): PickleNode {
  if (depth > DEEPEST)
    throw new JepaError(`${quoted(path.slice(0, 4).join('/'))}: values nest deeper than ${DEEPEST} levels`);
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  if (isTensor(value)) return tensorNode(value, storages, path.join('/'));
  const inside = (child: TorchWritable, key: unknown): PickleNode =>
    nodeOf(child, storages, [...path, String(key)], depth + 1);
  if (!(value instanceof Map)) return (value as readonly TorchWritable[]).map(inside);
  const items = new Map(
    Array.from(value as ReadonlyMap<TorchWritable, TorchWritable>, ([key, child]): [PickleNode, PickleNode] => [
      inside(key, key),
      inside(child, key),
    ]),
  );
  const isState = value.size > 0 && [...value].every(([key, child]) => typeof key === 'string' && isTensor(child));
  return isState ? { call: ORDERED_DICT, args: [], items } : items;
}

function tensorNode(value: Writable, storages: Map<Writable, Storage>, where: string): PickleNode {
  const { key, tensor } = storages.get(value) ?? { key: String(storages.size), tensor: toStored(value) };
  const { dtype, shape, byteLength } = tensor;
  const storage = STORAGE_OF.get(dtype);
  if (storage === undefined)
    throw new JepaError(`tensor ${quoted(where)}: PyTorch files have no storage for ${dtype}; convert it first`);
  if (byteLengthOf(dtype, shape) !== byteLength)
    throw new JepaError(`tensor ${quoted(where)}: ${byteLength} bytes do not fill ${dtype} ${quoted(shape)}`);
  storages.set(value, { key, where, tensor });
  const count = shape.reduce((product, size) => product * size, 1);
  const strides = shape.map((_, axis) =>
    shape.slice(axis + 1).reduce((product, size) => product * Math.max(size, 1), 1),
  );
  const persistent = { tuple: ['storage', { module: 'torch', member: storage }, key, 'cpu', count] };
  const hooks = { call: ORDERED_DICT, args: [] };
  return { call: REBUILD, args: [{ persistent }, 0, { tuple: shape }, { tuple: strides }, false, hooks] };
}
