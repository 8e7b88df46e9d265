import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import { type Dim, type DimLike, dimText, sameShape, shapeText, toDim } from './dims.js';
import type { Emitter } from './lower.js';

/** Element types inside a graph. Indices and labels are int32; masks are bool. */
export type DType = 'float32' | 'int32' | 'bool';

export interface TensorType {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** A symbolic tensor: one output of a node, with a static rank and numeric or named dimensions. */
export interface Tensor extends TensorType {
  readonly node: Node;
  readonly index: number;
}

/** One operator application. Nodes are immutable and refer to their inputs; a graph is what its outputs reach. */
export interface Node<A = unknown> {
  readonly id: number;
  readonly op: Operator<A>;
  readonly inputs: readonly Tensor[];
  readonly attrs: A;
  readonly outputs: readonly Tensor[];
  /** Named scope in which the node was made ("encoder/blocks.3/attn"); gradients carry the scope of what they differentiate. */
  readonly scope: string;
}

/** An operator: its shape rule, its gradient rule and its ONNX lowering, side by side. */
export interface Operator<A = unknown> {
  readonly name: string;
  /** Types of the outputs; throws `operatorError` for inputs that do not fit. */
  infer(inputs: readonly Tensor[], attrs: A): readonly TensorType[];
  /**
   * Gradients with respect to the inputs, given those of the outputs (undefined = zero), built from operators, so that
   * they can be differentiated again. undefined = no gradient flows to that input. Absent: not differentiable.
   */
  vjp?(node: Node<A>, grads: readonly (Tensor | undefined)[]): readonly (Tensor | undefined)[];
  /** Emits ONNX nodes and returns the names of the outputs. */
  lower(node: Node<A>, inputs: readonly string[], emit: Emitter): readonly string[];
}

let nextId = 0;
let scopes: string[] = [];

/** Runs `body` with `name` appended to the scope of the nodes it makes. */
export function scope<T>(name: string, body: () => T): T {
  scopes.push(name);
  try {
    return body();
  } finally {
    scopes.pop();
  }
}

/** Runs `body` in exactly the scope `path` (used by autodiff and rewrite passes). */
export function inScope<T>(path: string, body: () => T): T {
  const saved = scopes;
  scopes = path === '' ? [] : [path];
  try {
    return body();
  } finally {
    scopes = saved;
  }
}

export const currentScope = (): string => scopes.join('/');

/** Applies an operator. */
export function apply<A>(op: Operator<A>, inputs: readonly Tensor[], attrs: A): readonly Tensor[] {
  const types = op.infer(inputs, attrs);
  const outputs: Tensor[] = [];
  const node = { id: nextId++, op: op as Operator, inputs, attrs, outputs, scope: currentScope() };
  types.forEach(({ dtype, shape }, index) => {
    outputs.push({ node, index, dtype, shape });
  });
  return outputs;
}

/** Applies an operator that has one output. */
export const apply1 = <A>(op: Operator<A>, inputs: readonly Tensor[], attrs: A): Tensor => apply(op, inputs, attrs)[0];

/** A bad call: names the operator, the scope and the shapes of its arguments. */
export function operatorError(name: string, problem: string, ...tensors: readonly TensorType[]): JepaError {
  const where = currentScope() === '' ? '' : ` (in ${currentScope()})`;
  const shapes = tensors.length === 0 ? '' : `; got ${tensors.map((t) => shapeText(t.shape)).join(' and ')}`;
  return new JepaError(`${name}${where}: ${problem}${shapes}`);
}

/** Turns a possibly negative axis into 0 .. rank - 1. */
export function axisOf(name: string, axis: number, rank: number, ...tensors: readonly TensorType[]): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw operatorError(name, `axis ${axis} is outside of rank ${rank}`, ...tensors);
  }
  return axis < 0 ? axis + rank : axis;
}

/** Sorted, distinct, non-negative axes; null means all. */
export function axesOf(name: string, axes: readonly number[] | number | null | undefined, x: Tensor): number[] {
  if (axes === null || axes === undefined) return x.shape.map((_, i) => i);
  const list = (typeof axes === 'number' ? [axes] : axes).map((axis) => axisOf(name, axis, x.shape.length, x));
  if (new Set(list).size !== list.length) throw operatorError(name, `axes [${axes}] repeat`, x);
  return list.sort((a, b) => a - b);
}

/** Requires a number: for what can only be built from static sizes. */
export function staticDim(name: string, dim: Dim, what: string, ...tensors: readonly TensorType[]): number {
  if (typeof dim !== 'number') throw operatorError(name, `${what} must be a number, not ${dimText(dim)}`, ...tensors);
  return dim;
}

export function requireType(name: string, dtype: DType, ...tensors: readonly Tensor[]): void {
  for (const t of tensors) {
    if (t.dtype !== dtype) throw operatorError(name, `needs ${dtype} inputs, not ${t.dtype}`, ...tensors);
  }
}

/** NumPy broadcasting of shapes. */
export function broadcastShapes(name: string, ...tensors: readonly TensorType[]): Dim[] {
  const rank = Math.max(0, ...tensors.map((t) => t.shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    let result: Dim = 1;
    for (const t of tensors) {
      const dim = t.shape[axis - rank + t.shape.length] ?? 1;
      if (dim === 1 || dim === result) continue;
      if (result !== 1) throw operatorError(name, 'shapes do not broadcast', ...tensors);
      result = dim;
    }
    return result;
  });
}

// Leaves -------------------------------------------------------------------------------------------------------------

export interface InputAttrs extends TensorType {
  readonly name: string;
}

const leaf = (kind: string): Operator<InputAttrs> => ({
  name: kind,
  infer: (_, { dtype, shape }) => [{ dtype, shape }],
  lower: (node, _, emit) => [emit.input(node.attrs)],
});

export const inputOperator = leaf('input');
export const parameterOperator = leaf('parameter');

/** A value given at every run. */
export const input = (name: string, shape: readonly DimLike[], dtype: DType = 'float32'): Tensor =>
  apply1(inputOperator, [], { name, dtype, shape: shape.map(toDim) });

/** A float32 value that lives between runs: a weight, an optimizer moment, an EMA copy. Its shape is static. */
export const parameter = (name: string, shape: readonly number[]): Tensor =>
  apply1(parameterOperator, [], { name, dtype: 'float32', shape });

export interface ConstantAttrs {
  readonly value: HostTensor<DType>;
}

export const constantOperator: Operator<ConstantAttrs> = {
  name: 'constant',
  infer: (_, { value }) => [{ dtype: value.dtype, shape: value.shape }],
  vjp: () => [],
  lower: (node, _, emit) => [emit.constant(node.attrs.value)],
};

/** A constant, from a host tensor or (a scalar) a number. */
export function constant(value: HostTensor<DType> | number): Tensor {
  const tensor: HostTensor<DType> =
    typeof value === 'number' ? { dtype: 'float32', shape: [], data: Float32Array.of(value) } : value;
  return apply1(constantOperator, [], { value: tensor });
}

/** The number, if `t` is a one-element constant. */
export function scalarValue(t: Tensor): number | undefined {
  if (t.node.op !== (constantOperator as Operator)) return undefined;
  const { value } = (t.node as Node<ConstantAttrs>).attrs;
  return value.data.length === 1 ? Number(value.data[0]) : undefined;
}

export type TensorLike = Tensor | number;
export const tensorOf = (x: TensorLike): Tensor => (typeof x === 'number' ? constant(x) : x);

const dimSizeOperator: Operator<{ dim: Dim }> = {
  name: 'size',
  infer: () => [{ dtype: 'float32', shape: [] }],
  vjp: () => [],
  lower: (node, _, emit) => [emit.floatSize(node.attrs.dim)],
};

/** A dimension as a float32 scalar (a constant where it is a number). */
export const sizeTensor = (dim: Dim): Tensor =>
  typeof dim === 'number' ? constant(dim) : apply1(dimSizeOperator, [], { dim });

export const sizeOperator = dimSizeOperator;

const stopGradientOperator: Operator<null> = {
  name: 'stop_gradient',
  infer: ([x]) => [x],
  vjp: () => [undefined],
  lower: (_, [x]) => [x],
};

/** The same value; no gradient flows back through it. */
export const stopGradient = (x: Tensor): Tensor => apply1(stopGradientOperator, [x], null);

export { sameShape };
