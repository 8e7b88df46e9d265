import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { csvNumber, parseCsv } from '../data/csv.js';
import { parseIdx } from '../data/idx.js';
import { type PlyValues, parsePly } from '../data/points/ply.js';
import { isDescribed } from './checkpoint-layout.js';
import { officialLicence } from './encoder-files.js';
import { fileSource } from './files.js';
import { openHdf5 } from './hdf5-node.js';
import { parseJsonl } from './jsonl.js';
import { type NpyFile, openNpy, openNpz } from './npy.js';
import { openOnnx } from './onnx.js';
import { describeParquet } from './parquet.js';
import { describeTorchValue, isTorchTensor, openTorchFile } from './pth.js';
import { openSafetensors } from './safetensors.js';
import type { ByteSource } from './source.js';
import { maskedCrc32c, parseEvents } from './tfevents.js';
import { INDEX_FILE, openWeights, readJsonFile, SHARD } from './weights.js';
import { openZip } from './zip.js';

export interface InspectedTensor {
  readonly name: string;
  /** Type under the names of safetensors (F32, BF16, I64, ...). */
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}

/** What is in a file, as plain values that JSON can hold. */
export interface Inspection {
  readonly kind:
    | 'safetensors'
    | 'pytorch'
    | 'npy'
    | 'npz'
    | 'hdf5'
    | 'parquet'
    | 'onnx'
    | 'tensorboard'
    | 'jsonl'
    | 'json'
    | 'csv'
    | 'idx'
    | 'ply'
    | 'folder';
  readonly path: string;
  readonly bytes: number;
  /** Arrays and weights. */
  readonly tensors?: readonly InspectedTensor[];
  /** Elements of all of them. */
  readonly parameters?: number;
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** What only this kind has: rows and columns, inputs and outputs, operators, tags, ... */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Files of a folder. */
  readonly files?: readonly Inspection[];
  readonly warnings: readonly string[];
}

/**
 * Describes a file that this package reads or writes (recognised by its content), or every such file directly in a folder
 * (a checkpoint, a Hugging Face model, a run). Weights are not read, only what describes them. Throws JepaError for
 * damaged files, unknown kinds and folders without anything known.
 */
export async function inspectFile(path: string): Promise<Inspection> {
  const stat = withFileErrors('open', path, () => fs.statSync(path));
  return stat.isDirectory() ? inspectFolder(path) : inspectOne(path, stat.size);
}

/** Largest JSON Lines or event file that is read whole. */
const LARGEST_LOG = 1 << 30;

type Description = Omit<Inspection, 'path' | 'bytes' | 'warnings'> & { warnings?: string[] };

async function inspectOne(path: string, bytes: number): Promise<Inspection> {
  const source = fileSource(path);
  try {
    const describe = recognise(source);
    if (!describe) {
      throw new JepaError(
        `${path}: not a file that can be inspected; known are safetensors, PyTorch, NumPy (.npy, .npz), HDF5, Parquet, ONNX, TensorBoard, JSON, JSON Lines, CSV, IDX and PLY; and images, videos, recordings, skeletons, texts by their names`,
      );
    }
    const { warnings = [], ...description } = await describe(source);
    return { ...description, path, bytes, warnings };
  } finally {
    source.close();
  }
}

type Describe = (source: ByteSource) => Description | Promise<Description>;

/** The kind of a file by its first bytes; ONNX, which has no mark of its own, by its name. */
function recognise(source: ByteSource): Describe | undefined {
  const { name, size } = source;
  const head = source.read(0, Math.min(size, 16));
  const view = new DataView(head.buffer);
  const text = String.fromCharCode(...head);
  if (text.startsWith('\x93NUMPY')) return inspectNpy;
  if (text.startsWith('PAR1')) return inspectParquet;
  if (/^ply\r?\n/.test(text)) return inspectPly;
  if (text.startsWith('PK')) return inspectZip;
  if (text.startsWith('\x89HDF') || /\.(h5|hdf5)$/.test(name)) return inspectHdf5;
  if (text.startsWith('\x80\x02\x8a\x0a')) return inspectTorch;
  if (name.endsWith('.onnx')) return (file) => inspectOnnx(file.name);
  if (name.endsWith('.json')) return inspectJson;
  if (/\.[ct]sv$/i.test(name)) return inspectCsv;
  if (IDX_NAME.test(name)) return inspectIdx;
  if (name.endsWith('.jsonl') || (text[0] === '{' && !name.endsWith('.safetensors'))) return inspectJsonl;
  if (size >= 12 && view.getUint32(8, true) === maskedCrc32c(head.subarray(0, 8))) return inspectEvents;
  if (name.includes('tfevents')) return inspectEvents;
  if (name.endsWith('.safetensors') || (size >= 9 && text[8] === '{')) return inspectSafetensors;
  // Files that are not what their names say: their readers tell why.
  return BY_NAME.find(([ending]) => ending.test(name))?.[1];
}

const IDX_NAME = /\.idx(\.gz)?$|idx[1-8]-(ubyte|byte|short|int|float|double)(\.gz)?$/i;

const BY_NAME: readonly (readonly [ending: RegExp, describe: Describe])[] = [
  [/\.npy$/i, inspectNpy],
  [/\.npz$/i, inspectZip],
  [/\.(pt|pth|ckpt|pth\.tar)$/i, inspectTorch],
  [/\.parquet$/i, inspectParquet],
  [/\.ply$/i, inspectPly],
];

function weigh(tensors: readonly InspectedTensor[]): Pick<Inspection, 'tensors' | 'parameters'> {
  const count = (shape: InspectedTensor['shape']) => shape.reduce<number>((product, size) => product * Number(size), 1);
  return { tensors, parameters: tensors.reduce((sum, { shape }) => sum + count(shape), 0) };
}

function listTensors(
  tensors: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>,
): Pick<Inspection, 'tensors' | 'parameters'> {
  return weigh(Array.from(tensors, ([name, { dtype, shape }]) => ({ name, dtype, shape })));
}

function inspectSafetensors(source: ByteSource): Description {
  const { tensors, metadata } = openSafetensors(source);
  return { kind: 'safetensors', ...listTensors(tensors), metadata };
}

function inspectNpy(source: ByteSource): Description {
  return inspectArrays('npy', new Map([['array', openNpy(source)]]));
}

function inspectZip(source: ByteSource): Description {
  const names = [...openZip(source).keys()];
  if (names.some((name) => name.endsWith('/data.pkl'))) return inspectTorch(source);
  if (!names.some((name) => name.endsWith('.npy'))) {
    throw new JepaError(
      `${source.name}: a zip archive that is neither of PyTorch (no data.pkl) nor of NumPy (no .npy member)`,
    );
  }
  const { arrays, others } = openNpz(source);
  return {
    ...inspectArrays('npz', arrays),
    ...(others.length > 0 && {
      warnings: [`${others.length} members are no arrays: ${others.slice(0, 5).join(', ')}`],
    }),
  };
}

async function inspectHdf5({ name }: ByteSource): Promise<Description> {
  const file = await openHdf5(name);
  try {
    const attributes = Array.from(file.attributes.get('') ?? [], ([key, value]): [string, unknown] => [
      key,
      typeof value === 'bigint' ? String(value) : value,
    ]);
    const { others } = file;
    return {
      kind: 'hdf5',
      ...listTensors(file.datasets),
      ...(attributes.length > 0 && { metadata: Object.fromEntries(attributes) }),
      ...(others.length > 0 && {
        warnings: [`${others.length} items are no arrays of numbers: ${others.slice(0, 5).join(', ')}`],
      }),
    };
  } finally {
    file.close();
  }
}

function inspectArrays(kind: 'npy' | 'npz', arrays: ReadonlyMap<string, NpyFile>): Description {
  return {
    kind,
    ...weigh(
      Array.from(arrays, ([name, { tensor, descr, shape }]) => ({ name, dtype: tensor?.dtype ?? descr, shape })),
    ),
    details: Object.fromEntries(
      Array.from(arrays, ([name, { descr, fortranOrder, version }]) => [
        name,
        { descr, fortranOrder, version: version.join('.') },
      ]),
    ),
  };
}

function inspectTorch(source: ByteSource): Description {
  const { format, root, tensors } = openTorchFile(source);
  // Tensors are listed by path; of the rest, what stands at the top level and is not a container of tensors.
  const metadata =
    root instanceof Map
      ? Object.fromEntries(
          Array.from(root)
            .filter(([, value]) => !isTorchTensor(value) && !Array.isArray(value) && !(value instanceof Map))
            .map(([key, value]) => [String(key), describeTorchValue(value)]),
        )
      : {};
  const isOfficial = root instanceof Map && ['encoder', 'predictor', 'target_encoder'].every((key) => root.has(key));
  return {
    kind: 'pytorch',
    ...listTensors(tensors),
    metadata,
    details: { format, entries: root instanceof Map ? [...root.keys()].map(String) : [] },
    warnings:
      isOfficial && !isDescribed(root)
        ? [`the layout of a checkpoint of Meta's code: ${officialLicence(tensors)}`]
        : [],
  };
}

async function inspectParquet(source: ByteSource): Promise<Description> {
  const { metadata, ...details } = await describeParquet(source);
  return { kind: 'parquet', metadata, details };
}

function inspectOnnx(path: string): Description {
  const { graph, metadata, ...model } = openOnnx(path);
  const operators: Record<string, number> = {};
  for (const { opType, domain } of graph.nodes) {
    const name = domain === '' || domain === 'ai.onnx' ? opType : `${domain}.${opType}`;
    operators[name] = (operators[name] ?? 0) + 1;
  }
  const weights = Array.from(graph.initializers, ([name, { type, shape }]) => ({ name, dtype: type, shape }));
  const values = (list: typeof graph.inputs) =>
    list.map(({ name, type, shape }) => ({ name, dtype: type, shape: shape ?? ['?'] }));
  const foreign = Object.keys(model.opsets).filter((domain) => domain !== '' && domain !== 'ai.onnx');
  return {
    kind: 'onnx',
    ...weigh(weights),
    metadata,
    details: {
      ...model,
      name: graph.name,
      inputs: values(graph.inputs),
      outputs: values(graph.outputs),
      nodes: graph.nodes.length,
      operators: Object.fromEntries(Object.entries(operators).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))),
      externalFiles: [...new Set([...graph.initializers.values()].flatMap(({ external }) => external ?? []))],
    },
    warnings:
      foreign.length > 0 ? [`it needs the operators of ${foreign.join(', ')}, which not every runtime has`] : [],
  };
}

function inspectEvents(source: ByteSource): Description {
  const { records, cutAt } = parseEvents(wholeLog(source), source.name);
  const tags: Record<string, { kind: string; count: number; firstStep: number; lastStep: number; last?: unknown }> = {};
  for (const { step, values } of records) {
    for (const value of values) {
      const known = Object.hasOwn(tags, value.tag) ? tags[value.tag] : undefined;
      const entry = {
        kind: value.kind,
        count: (known?.count ?? 0) + 1,
        firstStep: known?.firstStep ?? step,
        lastStep: step,
      };
      tags[value.tag] = value.kind === 'scalar' ? { ...entry, last: printable(value.value) } : entry;
    }
  }
  return {
    kind: 'tensorboard',
    details: { records: records.length, tags },
    warnings: cutAt === undefined ? [] : [`the last record, at byte ${cutAt}, is cut; the writer was stopped`],
  };
}

function inspectJsonl(source: ByteSource): Description {
  const { records, incompleteLastLine } = parseJsonl(wholeLog(source), source.name);
  return {
    kind: 'jsonl',
    details: {
      records: records.length,
      keys: [...new Set(records.flatMap(Object.keys))],
      last: records.at(-1) ?? null,
    },
    warnings: incompleteLastLine ? ['the last line is cut; the writer was stopped'] : [],
  };
}

function inspectCsv(source: ByteSource): Description {
  const { delimiter, columns = [], rows } = parseCsv(wholeLog(source), source.name);
  const isNumbers = (column: number) => rows.every((row) => row[column] === '' || csvNumber(row[column]) !== undefined);
  return {
    kind: 'csv',
    details: {
      rows: rows.length,
      delimiter,
      columns: Object.fromEntries(columns.map((name, i) => [name, isNumbers(i) ? 'numbers' : 'text'])),
    },
  };
}

async function inspectIdx(source: ByteSource): Promise<Description> {
  const { shape, data } = await parseIdx(wholeLog(source), source.name);
  return { kind: 'idx', ...weigh([{ name: 'array', dtype: TYPE_OF[data.constructor.name], shape }]) };
}

const TYPE_OF: Readonly<Record<string, string>> = {
  Int8Array: 'I8',
  Uint8Array: 'U8',
  Int16Array: 'I16',
  Uint16Array: 'U16',
  Int32Array: 'I32',
  Uint32Array: 'U32',
  Float32Array: 'F32',
  Float64Array: 'F64',
};

function inspectPly(source: ByteSource): Description {
  const elements = [...parsePly(wholeLog(source), source.name)];
  const typed = (name: string, values: PlyValues) => ({
    name,
    dtype: TYPE_OF[values.constructor.name],
    shape: [values.length],
  });
  const tensors = elements.flatMap(([element, { scalars, lists }]) => [
    ...Array.from(scalars, ([name, values]) => typed(`${element}.${name}`, values)),
    ...Array.from(lists, ([name, { values }]) => typed(`${element}.${name}[]`, values)),
  ]);
  return {
    kind: 'ply',
    ...weigh(tensors),
    details: { elements: Object.fromEntries(elements.map(([name, { count }]) => [name, count])) },
  };
}

function wholeLog(source: ByteSource): Uint8Array {
  if (source.size > LARGEST_LOG)
    throw new JepaError(`${source.name}: ${source.size} bytes are too many to inspect a file of this kind`);
  return source.read(0, source.size);
}

/** JSON has no NaN and no infinities. */
function printable(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}

function inspectJson(source: ByteSource): Description {
  if (source.name.endsWith('.index.json')) {
    const weights = openWeights(source.name);
    weights.close();
    return {
      kind: 'safetensors',
      ...listTensors(weights.tensors),
      metadata: weights.metadata,
      details: { shards: weights.files.length },
    };
  }
  return { kind: 'json', details: readJsonFile(source.name) };
}

/** Files of a folder that say something: weights, configurations, logs. */
const FOLDER_FILES = /\.(safetensors|json|jsonl|npy|npz|h5|hdf5|parquet|onnx|pth|pt|tar|ckpt|ply)$|tfevents/;

async function inspectFolder(path: string): Promise<Inspection> {
  const names = withFileErrors('open', path, () => fs.readdirSync(path, { withFileTypes: true }));
  // An index speaks for its shards.
  const sharded = names.some(({ name }) => name === INDEX_FILE);
  const wanted = names
    .filter((entry) => !entry.isDirectory() && FOLDER_FILES.test(entry.name) && !(sharded && SHARD.test(entry.name)))
    .map(({ name }) => name)
    .sort();
  if (wanted.length === 0)
    throw new JepaError(
      `${path}: nothing here that can be inspected; looked for weights, configurations, embeddings and logs`,
    );
  const files: Inspection[] = [];
  const warnings: string[] = [];
  for (const name of wanted) {
    try {
      files.push(await inspectFile(join(path, name)));
    } catch (error) {
      if (!(error instanceof JepaError)) throw error;
      warnings.push(error.message);
    }
  }
  return {
    kind: 'folder',
    path,
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    parameters: files.reduce((sum, file) => sum + (file.parameters ?? 0), 0),
    files,
    warnings,
  };
}
