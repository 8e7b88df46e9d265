import { ELEMENT_TYPES, encodeModel, joinChunks, type OnnxNode, type OnnxValue } from '../graph/onnx.js';

/** A model that adds `count` vectors part0, part1, ... and also gives the sum of the result's squares. */
export function reduceModel(count: number): Uint8Array {
  const value = (name: string, dim: number | string): OnnxValue => ({
    name,
    elementType: ELEMENT_TYPES.float32,
    shape: [dim],
  });
  const node = (opType: string, inputs: string[], output: string): OnnxNode => ({
    name: output,
    opType,
    domain: '',
    inputs,
    outputs: [output],
    attributes: {},
  });
  const nodes: OnnxNode[] = [];
  let sum = 'part0';
  for (let i = 1; i < count; i++) {
    const next = i === count - 1 ? 'sum' : `sum${i}`;
    nodes.push(node('Add', [sum, `part${i}`], next));
    sum = next;
  }
  if (count === 1) nodes.push(node('Identity', ['part0'], 'sum'));
  // A product of the vector with itself is the cheapest sum of squares.
  const axes = {
    name: 'axes',
    elementType: ELEMENT_TYPES.int64,
    shape: [1],
    data: new Uint8Array(BigInt64Array.of(0n).buffer),
  };
  nodes.push(
    { ...node('Mul', ['sum', 'sum'], 'square') },
    { ...node('ReduceSum', ['square', 'axes'], 'squares'), attributes: { keepdims: 1 } },
  );
  const inputs = Array.from({ length: count }, (_, i) => value(`part${i}`, 'n'));
  return joinChunks(
    encodeModel({ nodes, constants: [axes], inputs, outputs: [value('sum', 'n'), value('squares', 1)] }).model,
  );
}
