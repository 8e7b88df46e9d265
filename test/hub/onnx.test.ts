import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as ort from 'onnxruntime-node';
import type { HostTensor } from '../../src/base/tensor.js';
import { type OnnxGraph, type OnnxInitializer, openOnnx, parseOnnx } from '../../src/hub/onnx.js';
import { loadTensor } from '../../src/hub/raw.js';
import { wire, wireMessage } from '../../src/hub/wire.js';
import { assertRefused, expectedArray, fixtures, formatCase, formatCases, fuzzParser } from './cases.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-onnx-'));
after(() => rmSync(folder, { recursive: true }));

for (const { name, files, expect, arrays } of formatCases('onnx', 'good')) {
  test(`read: ${name}`, async () => {
    const path = join(fixtures, files[0]);
    const model = openOnnx(path);
    assert.deepEqual(
      model.graph.inputs.map((input) => input.name),
      expect.inputs,
    );
    assert.equal(model.opsets[''], expect.opset);
    assert.equal(model.irVersion, expect.ir);
    if (expect.metadata) assert.deepEqual(model.metadata, expect.metadata);
    assert.deepEqual(model.graph.outputs.map((output) => output.name).sort(), Object.keys(arrays).sort());
    // ONNX Runtime's own reading of the same file.
    const session = await ort.InferenceSession.create(path);
    assert.deepEqual(session.inputNames, expect.inputs);
    for (const { name, shape } of [...session.inputMetadata, ...session.outputMetadata].filter(
      (each) => each.isTensor,
    )) {
      const ours = [...model.graph.inputs, ...model.graph.outputs].find((value) => value.name === name);
      // The runtime replaces symbolic dimensions by what it infers; numbers must agree.
      assert.equal(ours?.shape?.length, shape.length);
      ours?.shape?.forEach((size, axis) => {
        if (typeof size === 'number') assert.equal(size, shape[axis]);
      });
    }
    await session.release();
  });
}

const loaded = (tensor: OnnxInitializer | undefined) => loadTensor(tensor!.tensor!, 'x');

test('weights are the same as raw data, typed lists and external files', () => {
  const raw = openOnnx(join(fixtures, 'onnx/raw_data.onnx')).graph;
  const typed = openOnnx(join(fixtures, 'onnx/float_data.onnx')).graph;
  const outside = openOnnx(join(fixtures, 'onnx/external.onnx')).graph;
  assert.ok(raw.initializers.size > 0);
  assert.deepEqual([...typed.initializers.keys()], [...raw.initializers.keys()]);
  for (const [name, tensor] of raw.initializers) assert.deepEqual(loaded(typed.initializers.get(name)), loaded(tensor));
  assert.ok([...outside.initializers.values()].some(({ external }) => external === 'external.onnx_data'));
  for (const tensor of outside.initializers.values()) assert.ok(loaded(tensor).data.length > 0);
});

test('a product computed from the weights that were read is the one ONNX Runtime computes', () => {
  const { graph } = openOnnx(join(fixtures, 'onnx/raw_data.onnx'));
  const { arrays } = formatCase('onnx.raw_data');
  assert.deepEqual(Object.keys(arrays), ['y']);
  const x = expectedArray('onnx.raw_data/input.x');
  const y = evaluate(graph, x);
  const expected = expectedArray('onnx.raw_data/y');
  assert.deepEqual(y.shape, expected.shape);
  y.data.forEach((value, i) => {
    assert.ok(Math.abs(value - Number(expected.data[i])) < 1e-5);
  });
});

/** MatMul and Add of a [..., n] input, which is what that model is made of. */
function evaluate(graph: OnnxGraph, x: HostTensor): { shape: number[]; data: number[] } {
  let shape = [...x.shape];
  let data = Array.from(x.data as Float32Array);
  for (const { opType, inputs } of graph.nodes) {
    const weights = inputs.map((name) => graph.initializers.get(name)).find(Boolean);
    const w = weights && loaded(weights);
    if (opType === 'MatMul' && w) {
      const [n, m] = w.shape;
      const rows = data.length / n;
      const from = data;
      data = Array.from({ length: rows * m }, (_, i) => {
        let sum = 0;
        for (let k = 0; k < n; k++) sum += from[Math.floor(i / m) * n + k] * Number(w.data[k * m + (i % m)]);
        return sum;
      });
      shape = [...shape.slice(0, -1), m];
    } else if (opType === 'Add' && w) data = data.map((value, i) => value + Number(w.data[i % w.data.length]));
    else if (opType === 'Relu') data = data.map((value) => Math.max(0, value));
    else assert.fail(`this test does not know ${opType}`);
  }
  return { shape, data };
}

test('subgraphs, attributes and half-precision weights are read', () => {
  const { graph } = openOnnx(join(fixtures, 'onnx/subgraph.onnx'));
  const branches = graph.nodes
    .flatMap(({ attributes }) => [...attributes.values()])
    .filter((value) => typeof value === 'object' && 'nodes' in value);
  assert.ok(branches.length >= 2);
  const half = openOnnx(join(fixtures, 'onnx/float16_weights.onnx')).graph.initializers;
  assert.ok([...half.values()].some(({ type }) => type === 'F16'));
  const conv = openOnnx(join(fixtures, 'onnx/patch_embed.onnx')).graph.nodes.find(({ opType }) => opType === 'Conv');
  assert.ok(Array.isArray(conv?.attributes.get('strides')));
});

const REASONS: Record<string, RegExp> = {
  truncated: /ends early/,
  varint: /integer longer than 10 bytes/,
  length: /ends early: 2147483648 bytes announced|ends early: \d+ bytes announced/,
  text: /not a valid protobuf message/,
  no_graph: /it has no graph/,
  deep: /its graph has a field 7/,
  raw_short: /takes \d+ bytes, \d+ are there/,
  dims: /dimensions that overflow/,
  negative_dim: /negative dimension/,
  external_traversal: /outside of the model's folder/,
  external_absolute: /outside of the model's folder/,
  external_missing: /its data file "[^"]+" is missing/,
  external_short: /which has 8; the file is cut/,
  external_offset: /external offset "-\d+"/,
  external_length: /external length "\d+"|said to have \d+/,
};

for (const { name, files, limits } of formatCases('onnx', 'bad')) {
  test(`refused: ${name}`, () => {
    const reason = REASONS[name.split('.').at(-1)!];
    assert.ok(reason, `an expectation for ${name}`);
    assertRefused(name, () => openOnnx(join(fixtures, files[0])), reason, limits);
  });
}

test('graphs in graphs in graphs are read to a limit', () => {
  const output = wire.message(12, wire.text(1, 'y'));
  let graph = wireMessage(wire.text(2, 'innermost'), output);
  const nest = () => {
    graph = wireMessage(
      wire.message(1, wire.text(4, 'If'), wire.message(5, wire.text(1, 'then_branch'), wire.bytes(6, graph))),
      output,
    );
  };
  for (let i = 0; i < 16; i++) nest();
  assert.equal(parseOnnx(wire.bytes(7, graph), 'x').graph.nodes.length, 1);
  nest();
  assertRefused('nested', () => parseOnnx(wire.bytes(7, graph), 'x'), /graphs nest deeper than 16/);
});

test('typed lists of every kind are read', () => {
  const tensor = (code: number, dims: number[], ...fields: Uint8Array[]) =>
    wire.message(5, ...dims.map((dim) => wire.integer(1, dim)), wire.integer(2, code), wire.text(8, 't'), ...fields);
  const read = (code: number, dims: number[], ...fields: Uint8Array[]) =>
    parseOnnx(wire.message(7, wire.text(2, 'g'), tensor(code, dims, ...fields)), 'x').graph.initializers.get('t')!;
  const values = (initializer: OnnxInitializer) => Array.from(loaded(initializer).data, Number);
  assert.deepEqual(values(read(3, [2], wire.integer(5, -3), wire.integer(5, 4))), [-3, 4]);
  assert.deepEqual(values(read(7, [1], wire.integer(7, -5n))), [-5]);
  assert.deepEqual(values(read(10, [2], wire.bytes(5, Uint8Array.of(0x80, 0x78, 0x80, 0x80, 2)))), [
    1,
    Number.parseFloat('-0'),
  ]);
  assert.deepEqual(values(read(11, [2], wire.doubles(10, [0.25, -1]))), [0.25, -1]);
  assert.deepEqual(values(read(9, [3], wire.integer(5, 1), wire.integer(5, 0), wire.integer(5, 1))), [1, 0, 1]);
  assert.deepEqual(values(read(13, [1], wire.integer(11, 7))), [7]);
  assert.deepEqual(read(8, [1], wire.text(6, 'text')), { type: 'STRING', shape: [1] });
  assert.deepEqual(read(22, [2], wire.bytes(9, Uint8Array.of(1))).type, 'type 22');
});

test('locations of external data cannot leave the folder', () => {
  for (const location of ['../x', 'a/../../x', '/etc/passwd', 'C:\\x', '\\\\host\\x', 'a\\..\\..\\x', 'x\0y']) {
    const pair = (key: string, value: string) => wire.message(13, wire.text(1, key), wire.text(2, value));
    const tensor = wire.message(
      5,
      wire.integer(1, 1),
      wire.integer(2, 1),
      wire.text(8, 't'),
      pair('location', location),
      wire.integer(14, 1),
    );
    writeFileSync(join(folder, 'm.onnx'), wire.message(7, tensor));
    assertRefused(location, () => openOnnx(join(folder, 'm.onnx')), /outside of the model's folder/);
  }
});

test('damaged files give a result or one clear line', () => {
  const names = [
    'raw_data',
    'float_data',
    'layernorm_gelu',
    'shapes',
    'float16_weights',
    'patch_embed',
    'subgraph',
    'external',
  ];
  const seeds = names.map((name) => readFileSync(join(fixtures, `onnx/${name}.onnx`)));
  const read = (bytes: Uint8Array) => {
    for (const [name, { tensor }] of parseOnnx(bytes, 'x').graph.initializers) if (tensor) loadTensor(tensor, name);
  };
  fuzzParser(seeds, read, 3000);
});
