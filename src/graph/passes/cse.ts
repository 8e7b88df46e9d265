import type { HostTensor } from '../../base/tensor.js';
import {
  type ConstantAttrs,
  constantOperator,
  inputOperator,
  type Operator,
  parameterOperator,
  type Tensor,
} from '../tensor.js';
import { keep, transform } from './transform.js';

/** Common subexpressions: two applications of one operator to the same inputs with the same attributes become one. */
export function shareCommon(outputs: readonly Tensor[]): Tensor[] {
  const known = new Map<string, readonly Tensor[]>();
  return transform(outputs, (node, inputs) => {
    if (node.op === (inputOperator as Operator) || node.op === (parameterOperator as Operator)) return node.outputs;
    const key = `${node.op.name}|${inputs.map((t) => `${t.node.id}.${t.index}`)}|${attrsKey(node.op, node.attrs, node.id)}`;
    const existing = known.get(key);
    if (existing) return existing;
    const results = keep(node, inputs);
    known.set(key, results);
    return results;
  });
}

/** Large constants are equal only to themselves. */
const LARGE = 1024;

function attrsKey(op: Operator, attrs: unknown, id: number): string {
  if (op === (constantOperator as Operator)) {
    const { value } = attrs as ConstantAttrs;
    return value.data.length > LARGE ? `constant ${id}` : constantKey(value);
  }
  return JSON.stringify(attrs, (_, value) => (isDim(value) ? `dim ${value.key}` : value)) ?? '';
}

const constantKey = (value: HostTensor): string => {
  const { buffer, byteOffset, byteLength } = value.data;
  return `${value.dtype}[${value.shape}]${new Uint8Array(buffer, byteOffset, byteLength).join()}`;
};

const isDim = (value: unknown): value is { key: string } =>
  typeof value === 'object' && value !== null && 'terms' in value && 'key' in value;
