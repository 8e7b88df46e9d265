import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import * as ort from 'onnxruntime-node';
import type { HostTensor } from '../../../src/base/tensor.js';
import { withFile } from '../../../src/hub/files.js';
import { type NpyFile, openNpy, openNpz } from '../../../src/hub/npy.js';
import { type OnnxAttribute, type OnnxGraph, type OnnxInitializer, openOnnx } from '../../../src/hub/onnx.js';
import { describeTorchValue, openTorchFile, type TorchValue } from '../../../src/hub/pth.js';
import { type FileDType, loadFloat32, loadTensor, type StoredTensor } from '../../../src/hub/raw.js';
import { openSafetensors } from '../../../src/hub/safetensors.js';
import { openWeights } from '../../../src/hub/weights.js';
import { wire, wireMessage } from '../../../src/hub/wire.js';
import { type FormatCase, type FormatCheck, same, type Tools } from './case.js';

const loadAll = (tensors: Iterable<[string, StoredTensor]>) =>
  Array.from(tensors, ([name, stored]) => loadTensor(stored, name));

/** Values as the cases have them: 64-bit integers as text. U64 has no type of the host, so its bits are read here. */
function valuesOf(stored: StoredTensor, name: string): (string | number)[] {
  if (stored.dtype === 'U64') return Array.from(new BigUint64Array(stored.read().buffer), String);
  return Array.from(loadTensor(stored, name).data as ArrayLike<number | bigint>, (value) =>
    stored.dtype === 'I64' ? String(value) : Number(value),
  );
}

interface StoredFacts {
  readonly dtype: string;
  readonly shape: number[];
  readonly sha256: string;
  readonly values: (string | number)[];
}

export const safetensors: FormatCheck = {
  good({ files, expect, arrays }, tools) {
    if (files.length > 1) {
      const weights = openWeights(dirname(tools.path(files[0])));
      try {
        const total = [...weights.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
        return [
          same('names', [...weights.tensors.keys()].sort(), Object.keys(arrays).sort()),
          same('total_size', total, expect.total_size),
          ...Object.keys(arrays).map((name) => tools.array(name, loadFloat32(weights.tensors.get(name)!, name))),
        ];
      } finally {
        weights.close();
      }
    }
    return withFile(tools.path(files[0]), (source) => {
      const { metadata, tensors } = openSafetensors(source);
      return [
        expect.metadata && same('metadata', { ...metadata }, expect.metadata),
        same('names', [...tensors.keys()].sort(), Object.keys(expect.tensors).sort()),
        ...Object.entries<StoredFacts | number[]>(expect.tensors).flatMap(([name, facts]) => {
          const stored = tensors.get(name)!;
          if (Array.isArray(facts)) return [same(name, valuesOf(stored, name).map(Number), facts)];
          return [
            same(`${name}: dtype`, stored.dtype, facts.dtype),
            same(`${name}: shape`, [...stored.shape], facts.shape),
            same(`${name}: bytes`, createHash('sha256').update(stored.read()).digest('hex'), facts.sha256),
            same(`${name}: values`, valuesOf(stored, name), facts.values),
          ];
        }),
      ];
    });
  },
  bad({ files }, tools) {
    const weights = openWeights(tools.path(files[0]));
    try {
      return loadAll(weights.tensors);
    } finally {
      weights.close();
    }
  },
  reasons: {
    truncated_data: /ends at byte \d+, the file already at \d+/,
    truncated_header: /header announces \d+ bytes, at most \d+/,
    empty_file: /no header, the file has only 0 bytes/,
    seven_bytes: /no header, the file has only 7 bytes/,
    huge_header_length: /header announces \d+ bytes, at most \d+/,
    header_length_flipped: /header of the safetensors file: .* of the JSON|header announces/,
    trailing_bytes: /\d+ bytes follow the last tensor/,
    hole: /gap of \d+ bytes/,
    overlap: /overlaps/,
    wrong_size: /takes \d+ bytes, its offsets say \d+/,
    absurd_shape: /overflows|non-negative integers/,
    negative_offset: /data_offsets that are not two non-negative integers/,
    reversed_offsets: /before it begins/,
    fraction: /non-negative integers/,
    unknown_dtype: /unknown dtype/,
    metadata_number: /metadata values must be strings/,
    metadata_nested: /metadata values must be strings/,
    duplicate_name: /occurs twice/,
    not_an_object: /does not start with \{|not an object/,
    invalid_utf8: /not UTF-8/,
    deep_json: /nesting too deep/,
    index_escapes: /leaves the folder/,
    index_missing: /shard .* is missing/,
  },
};

const TORCH_DTYPES: Readonly<Record<string, FileDType>> = {
  float16: 'F16',
  bfloat16: 'BF16',
  float32: 'F32',
  float64: 'F64',
  int64: 'I64',
  int32: 'I32',
  uint8: 'U8',
  bool: 'BOOL',
};

export const pytorch: FormatCheck = {
  good({ files, expect, arrays }, tools) {
    return withFile(tools.path(files[0]), (source) => {
      const { root, tensors } = openTorchFile(source);
      const at = (...path: string[]): unknown =>
        describeTorchValue(path.reduce((value, key) => (value as Map<TorchValue, TorchValue>).get(key)!, root));
      const { dtypes, param_groups, ...facts } = expect;
      return [
        ...Object.entries(facts).map(([key, value]) => same(key, at(key), value)),
        same('param_groups', at('opt', 'param_groups'), param_groups),
        ...Object.entries<string>(dtypes).map(([key, type]) =>
          same(`${key}: dtype`, tensors.get(`encoder/${key}`)?.dtype, TORCH_DTYPES[type]),
        ),
        ...Object.keys(arrays).map((key) => tools.array(key, loadTensor(tensors.get(key)!, key))),
      ];
    });
  },
  bad: ({ files }, tools) => withFile(tools.path(files[0]), (source) => loadAll(openTorchFile(source).tensors)),
  reasons: {
    foreign_global: /names "\w+\.getcwd", .*nothing of it was executed/,
    foreign_global_legacy: /names "\w+\.eval", .*nothing of it was executed/,
    truncated_zip: /no central directory/,
    truncated_storage: /storage "\d+" holds \d+ bytes where \d+ are announced/,
    missing_storage: /the data of storage "\d+" are missing/,
    truncated_pickle: /the pickle ends early/,
    view_outside_storage: /reaches beyond its storage/,
    truncated_legacy: /storage .* the file is cut/,
    pickle_loop: /malformed pickle|the pickle ends early/,
    pickle_long: /an integer of \d+ bytes is announced/,
  },
};

const load = ({ tensor }: NpyFile): HostTensor => loadTensor(tensor!, 'array');
const numbers = (file: NpyFile) => Array.from(load(file).data as ArrayLike<number | bigint>, String);

const NPY_REASONS = {
  'truncated.npy': /takes \d+ bytes, \d+ follow the header/,
  'truncated_header.npy': /header announces \d+ bytes, \d+ follow/,
  'magic.npy': /does not start as one/,
  'version9.npy': /version \d+\.\d+ is unknown/,
  'header_length.npy': /header announces \d+ bytes/,
  'absurd_shape.npy': /takes \d+ bytes|overflows/,
  'overflow_shape.npy': /overflows/,
  'negative_shape.npy': /negative/,
  'code_in_header.npy': /not a plain literal/,
  'missing_key.npy': /lacks fortran_order/,
  'unknown_descr.npy': /type ".*" is unknown/,
  'object.npy': /pickles/,
  'structured.npy': /structured type/,
  'truncated.npz': /no central directory/,
  'offset.npz': /outside of the file/,
  'deflate_error.npz': /compressed data|checksum/,
  'bomb.npz': /takes \d+ bytes|more than the|\d+ follow the header/,
};

export const npy: FormatCheck = {
  good({ files, expect, arrays }, tools) {
    return withFile(tools.path(files[0]), (source) => {
      const file = openNpy(source);
      const pairs = arrays.real && new Float32Array(file.tensor!.read().buffer);
      const part = (offset: number) => ({ shape: file.shape, data: pairs!.filter((_, i) => i % 2 === offset) });
      return [
        ...(['descr', 'shape', 'version'] as const)
          .filter((key) => key in expect)
          .map((key) => same(key, file[key], expect[key])),
        'fortran_order' in expect ? same('fortran_order', file.fortranOrder, expect.fortran_order) : undefined,
        expect.integers && same('integers', numbers(file), expect.integers),
        'value' in expect ? same('value', numbers(file), [String(expect.value)]) : undefined,
        expect.values && same('values', file.text!(), expect.values),
        arrays.value && tools.array('value', load(file)),
        ...(pairs ? [tools.array('real', part(0)), tools.array('imag', part(1))] : []),
      ];
    });
  },
  bad({ files }, tools) {
    return withFile(tools.path(files[0]), (source) => {
      const found = files[0].endsWith('.npz') ? [...openNpz(source).arrays.values()] : [openNpy(source)];
      return found.map(load);
    });
  },
  reasons: NPY_REASONS,
};

export const npz: FormatCheck = {
  ...npy,
  good({ files, expect, arrays }, tools) {
    return withFile(tools.path(files[0]), (source) => {
      const archive = openNpz(source);
      return [
        same('names', [...archive.arrays.keys()].sort(), [...expect.names].sort()),
        ...Object.keys(arrays).map((key) => tools.array(key, load(archive.arrays.get(key)!))),
        expect.second && same('second', numbers(archive.arrays.get('second')!), expect.second),
      ];
    });
  },
};

/** Numbers of ONNX's element types; the reader gives them names. */
const ONNX_TYPES: Readonly<Record<string, number>> = {
  F32: 1,
  U8: 2,
  I8: 3,
  I32: 6,
  I64: 7,
  BOOL: 9,
  F16: 10,
  F64: 11,
};

/** Writes what the reader has made of a tensor as a TensorProto. */
function tensorProto(name: string, { type, shape, tensor }: OnnxInitializer): Uint8Array {
  const dims = shape.map((size) => wire.integer(1, size));
  return wireMessage(...dims, wire.integer(2, ONNX_TYPES[type]), wire.text(8, name), wire.bytes(9, tensor!.read()));
}

function attributeProto(name: string, value: OnnxAttribute): Uint8Array {
  const field = (): Uint8Array[] => {
    if (typeof value === 'number') return [wire.float(2, value), wire.integer(20, 1)];
    if (typeof value === 'bigint') return [wire.integer(3, value), wire.integer(20, 2)];
    if (typeof value === 'string') return [wire.text(4, value), wire.integer(20, 3)];
    if (Array.isArray(value)) {
      const each = value.map((item) => {
        if (typeof item === 'bigint') return wire.integer(8, item);
        return typeof item === 'number' ? wire.float(7, item) : wire.text(9, item);
      });
      return [...each, wire.integer(20, typeof value[0] === 'bigint' ? 7 : typeof value[0] === 'number' ? 6 : 8)];
    }
    if ('nodes' in value) return [wire.bytes(6, graphProto(value)), wire.integer(20, 5)];
    return [wire.bytes(5, tensorProto('', value as OnnxInitializer)), wire.integer(20, 4)];
  };
  return wireMessage(wire.text(1, name), ...field());
}

/** Writes what the reader has made of a graph as a GraphProto: what it lost or misread changes the outputs. */
function graphProto({ name, nodes, initializers, inputs, outputs }: OnnxGraph): Uint8Array {
  const values = (field: number, list: OnnxGraph['inputs']) =>
    list.map(({ name, type, shape }) => {
      const dims = shape?.map((size) =>
        wire.message(1, typeof size === 'number' ? wire.integer(1, size) : wire.text(2, size)),
      );
      const tensor = wireMessage(wire.integer(1, ONNX_TYPES[type]), ...(dims ? [wire.message(2, ...dims)] : []));
      return wire.message(field, wire.text(1, name), wire.message(2, wire.bytes(1, tensor)));
    });
  return wireMessage(
    ...nodes.map((node) =>
      wire.message(
        1,
        ...node.inputs.map((input) => wire.text(1, input)),
        ...node.outputs.map((output) => wire.text(2, output)),
        wire.text(3, node.name),
        wire.text(4, node.opType),
        wire.text(7, node.domain),
        ...[...node.attributes].map(([key, value]) => wire.bytes(5, attributeProto(key, value))),
      ),
    ),
    wire.text(2, name),
    ...[...initializers].map(([key, tensor]) => wire.bytes(5, tensorProto(key, tensor))),
    ...values(11, inputs),
    ...values(12, outputs),
  );
}

async function outputsOf(model: Uint8Array | string, each: FormatCase, tools: Tools) {
  const session = await (typeof model === 'string'
    ? ort.InferenceSession.create(model)
    : ort.InferenceSession.create(model));
  const feeds: Record<string, ort.Tensor> = {};
  for (const name of each.expect.inputs as string[]) {
    const { shape, data } = tools.input(name);
    feeds[name] = new ort.Tensor('float32', Float32Array.from(data as Float32Array), [...shape]);
  }
  const outputs = await session.run(feeds);
  await session.release();
  return outputs;
}

export const onnx: FormatCheck = {
  async good(each, tools) {
    const { files, expect, arrays } = each;
    const path = tools.path(files[0]);
    const model = openOnnx(path);
    const opsets = Object.entries(model.opsets).map(([domain, version]) =>
      wire.message(8, wire.text(1, domain), wire.integer(2, version)),
    );
    const rewritten = wireMessage(wire.integer(1, model.irVersion), wire.bytes(7, graphProto(model.graph)), ...opsets);
    const outputs = await outputsOf(rewritten, each, tools);
    const original = await outputsOf(path, each, tools);
    return [
      same(
        'inputs',
        model.graph.inputs.map(({ name }) => name),
        expect.inputs,
      ),
      same('outputs', model.graph.outputs.map(({ name }) => name).sort(), Object.keys(arrays).sort()),
      same('opset', model.opsets[''], expect.opset),
      same('ir', model.irVersion, expect.ir),
      expect.metadata && same('metadata', model.metadata, expect.metadata),
      ...Object.keys(arrays).flatMap((name) =>
        [outputs[name], original[name]].map(({ dims, data }) =>
          tools.array(name, { shape: dims, data: data as Float32Array }),
        ),
      ),
    ];
  },
  bad({ files }, tools) {
    const { graph } = openOnnx(tools.path(files[0]));
    return Array.from(graph.initializers, ([name, { tensor }]) => tensor && loadTensor(tensor, name));
  },
  reasons: {
    truncated: /ends early/,
    varint: /integer longer than 10 bytes/,
    length: /ends early: \d+ bytes announced/,
    text: /not a valid protobuf message/,
    no_graph: /it has no graph/,
    deep: /its graph has a field \d+, which graphs do not have|graphs nest deeper/,
    raw_short: /takes \d+ bytes, \d+ are there/,
    dims: /dimensions that overflow/,
    negative_dim: /negative dimension/,
    external_traversal: /outside of the model's folder/,
    external_absolute: /outside of the model's folder/,
    external_missing: /data file ".*" is missing/,
    external_short: /which has \d+; the file is cut/,
    external_offset: /external offset "-\d+"/,
    external_length: /external length "\d+"|said to have \d+/,
  },
};
