import { JepaError } from '../base/errors.js';
import { type HostTensor, sizeOf } from '../base/tensor.js';
import { type Dim, dimText, symbolsOf } from './dims.js';
import { type Attributes, ELEMENT_TYPES, type OnnxNode, type OnnxTensor, type OnnxValue } from './onnx.js';
import type { DType, InputAttrs, Node, Tensor } from './tensor.js';

/** Where a graph runs. `cpu` is onnxruntime-node, `wasm` onnxruntime-web; `webgpu` is either with a GPU. */
export type Backend = 'cpu' | 'wasm' | 'webgpu';

/** What an operator's lowering sees: it adds ONNX nodes and returns the names of values. */
export interface Emitter {
  readonly backend: Backend;
  /** One ONNX node with one output. An empty input name leaves an optional input out. */
  node(opType: string, inputs: readonly string[], attributes?: Attributes, domain?: string): string;
  /** One ONNX node with several outputs. */
  nodes(opType: string, inputs: readonly string[], outputs: number, attributes?: Attributes, domain?: string): string[];
  input(type: InputAttrs): string;
  constant(value: HostTensor<DType>): string;
  /** A float32 constant; `shape` defaults to a vector, [] is a scalar. */
  floats(values: readonly number[], shape?: readonly number[]): string;
  /** An int64 vector constant (axes, pads, starts, ...). */
  ints(values: readonly number[]): string;
  /** An int64 vector with the value of each dimension, computed in the graph where they are symbolic. */
  shape(dims: readonly Dim[]): string;
  reshape(x: string, shape: readonly Dim[]): string;
  /** A dimension as a float32 scalar. */
  floatSize(dim: Dim): string;
  cast(x: string, dtype: DType): string;
}

export interface LoweredGraph {
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly OnnxTensor[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Scope of every ONNX node, by node name. */
  readonly scopes: ReadonlyMap<string, string>;
}

/** Node inputs before nodes, in the order in which the nodes were made (which is a valid order). */
export function reachable(outputs: Iterable<Tensor>): Node[] {
  const seen = new Set<Node>();
  const stack = [...outputs].map((t) => t.node);
  while (stack.length > 0) {
    const node = stack.pop() as Node;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const t of node.inputs) if (!seen.has(t.node)) stack.push(t.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/**
 * Lowers a graph to ONNX nodes. `inputs` are leaves (inputs, parameters) in the order of the model's inputs; every leaf
 * that the outputs reach must be among them. Rank-0 values become vectors of one element at the boundary, because the
 * WebGPU provider does not take rank-0 outputs.
 */
export function lowerGraph(
  inputs: readonly { name: string; tensor: Tensor }[],
  outputs: readonly { name: string; tensor: Tensor }[],
  order: readonly Node[],
  backend: Backend,
): LoweredGraph {
  const nodes: OnnxNode[] = [];
  const constants: OnnxTensor[] = [];
  const scopes = new Map<string, string>();
  const names = new Map<Tensor, string>();
  const constantNames = new Map<string, string>();
  const computed = new Map<string, string>();
  const symbolSources = new Map<string, { name: string; axis: number }>();
  let current: Node | undefined;
  let counter = 0;

  for (const { name, tensor } of inputs) {
    tensor.shape.forEach((dim, axis) => {
      const [symbol] = symbolsOf(dim);
      if (symbol !== undefined && dimText(dim) === symbol && !symbolSources.has(symbol)) {
        symbolSources.set(symbol, { name, axis });
      }
    });
  }

  const fresh = (opType: string): string => {
    const prefix = current ? `${current.scope === '' ? '' : `${current.scope}/`}${current.op.name}` : 'graph';
    return `${prefix}/${opType}_${counter++}`;
  };

  const addConstant = (
    key: string,
    dtype: keyof typeof ELEMENT_TYPES,
    shape: readonly number[],
    data: Uint8Array,
  ): string => {
    let name = constantNames.get(key);
    if (name === undefined) {
      name = `constant_${constantNames.size}`;
      constantNames.set(key, name);
      constants.push({ name, elementType: ELEMENT_TYPES[dtype], shape, data });
    }
    return name;
  };
  const bytesOf = (data: ArrayBufferView): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

  const emit: Emitter = {
    backend,
    node: (opType, ins, attributes, domain) => emit.nodes(opType, ins, 1, attributes, domain)[0],
    nodes: (opType, ins, count, attributes = {}, domain = '') => {
      const name = fresh(opType);
      const outs = Array.from({ length: count }, (_, i) => (count === 1 ? name : `${name}:${i}`));
      nodes.push({ name, opType, domain, inputs: ins, outputs: outs, attributes });
      if (current) scopes.set(name, current.scope);
      return outs;
    },
    input: ({ name }) => {
      throw new JepaError(`graph: the input ${name} is used but was not listed among the inputs of the program`);
    },
    constant: (value) => {
      const bytes = bytesOf(value.data);
      const small = bytes.length <= 4096;
      const key = small
        ? `${value.dtype}:${value.shape.join()}:${Array.from(bytes).join()}`
        : `large:${constants.length}`;
      return addConstant(key, value.dtype, value.shape, bytes);
    },
    floats: (values, shape = [values.length]) =>
      emit.constant({ dtype: 'float32', shape, data: Float32Array.from(values) }),
    ints: (values) =>
      addConstant(`int64:${values.join()}`, 'int64', [values.length], bytesOf(BigInt64Array.from(values, BigInt))),
    shape: (dims) => {
      if (dims.every((dim) => typeof dim === 'number')) return emit.ints(dims as number[]);
      const parts = dims.map((dim) => (typeof dim === 'number' ? emit.ints([dim]) : dimension(dim)));
      if (parts.length === 1) return parts[0];
      return memo(`shape:${dims.map(dimText)}`, () => emit.node('Concat', parts, { axis: 0 }));
    },
    reshape: (x, shape) => {
      const symbolic = shape.filter((dim) => typeof dim !== 'number');
      const one = symbolic.length === 1 && !shape.includes(0);
      const target = one ? emit.ints(shape.map((dim) => (typeof dim === 'number' ? dim : -1))) : emit.shape(shape);
      // A size of 0 means "as in the input" unless this is said.
      const zeros = !one && (symbolic.length > 0 || shape.includes(0));
      return emit.node('Reshape', [x, target], zeros ? { allowzero: 1 } : {});
    },
    floatSize: (dim) =>
      memo(`float:${dimText(dim)}`, () =>
        emit.node('Reshape', [emit.node('Cast', [emit.shape([dim])], { to: 1 }), emit.ints([])]),
      ),
    cast: (x, dtype) => emit.node('Cast', [x], { to: ELEMENT_TYPES[dtype] }),
  };

  /** Values that depend on symbols only are computed once. */
  function memo(key: string, make: () => string): string {
    let name = computed.get(key);
    if (name === undefined) {
      const saved = current;
      current = undefined;
      name = make();
      current = saved;
      computed.set(key, name);
    }
    return name;
  }

  /** An int64 vector of one element with the value of a symbolic dimension. */
  function dimension(dim: Exclude<Dim, number>): string {
    return memo(`dim:${dim.key}`, () => {
      const products = [...dim.terms].map(([symbols, coefficient]) => {
        const factors = symbols
          .split('*')
          .filter((s) => s !== '')
          .map(symbolValue);
        if (coefficient !== 1 || factors.length === 0) factors.push(emit.ints([coefficient]));
        return factors.reduce((a, b) => emit.node('Mul', [a, b]));
      });
      return products.reduce((a, b) => emit.node('Add', [a, b]));
    });
  }

  function symbolValue(symbol: string): string {
    const source = symbolSources.get(symbol);
    if (!source)
      throw new JepaError(`graph: no input has the dimension ${symbol}, so its value cannot be known at run time`);
    return memo(`symbol:${symbol}`, () =>
      emit.node('Shape', [source.name], { start: source.axis, end: source.axis + 1 }),
    );
  }

  const inputNames = new Map(inputs.map(({ name, tensor }) => [tensor, name]));
  const boundary = (t: Tensor): readonly Dim[] => (t.shape.length === 0 ? [1] : t.shape);

  for (const node of order) {
    current = node;
    // What was given is not computed; of a node with several outputs only those that are needed are given.
    const given = node.outputs.filter((t) => inputNames.has(t));
    if (given.length > 0) {
      for (const t of given) {
        const name = inputNames.get(t) as string;
        names.set(t, t.shape.length === 0 ? emit.node('Reshape', [name, emit.ints([])]) : name);
      }
      continue;
    }
    const ins = node.inputs.map((t) => names.get(t) as string);
    const outs = node.op.lower(node, ins, emit);
    node.outputs.forEach((t, i) => {
      names.set(t, outs[i]);
    });
  }
  current = undefined;

  // A model's outputs have names of their own: the node that makes a value takes the output's name, unless the value is
  // an input, a constant or already another output.
  const makers = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)));
  const renamed = new Map<string, string>();
  for (const { name, tensor } of outputs) {
    const value = names.get(tensor) as string;
    if (tensor.shape.length > 0 && makers.has(value) && !renamed.has(value)) {
      renamed.set(value, name);
    } else {
      const copied = tensor.shape.length === 0 ? emit.reshape(value, [1]) : emit.node('Identity', [value]);
      renamed.set(copied, name);
    }
  }
  const rename = (name: string): string => renamed.get(name) ?? name;
  const finalNodes = nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  }));

  const describe = ({ name, tensor }: { name: string; tensor: Tensor }): OnnxValue => ({
    name,
    elementType: ELEMENT_TYPES[tensor.dtype],
    shape: boundary(tensor).map((dim) => (typeof dim === 'number' ? dim : dim.key)),
  });
  return { nodes: finalNodes, constants, inputs: inputs.map(describe), outputs: outputs.map(describe), scopes };
}

export { sizeOf };
