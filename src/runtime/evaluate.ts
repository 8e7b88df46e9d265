import { JepaError } from '../base/errors.js';
import { type HostData, type HostTensor, sizeOf } from '../base/tensor.js';
import { evaluateDim, shapeText } from '../graph/dims.js';
import { type Backend, lowerGraph, reachable } from '../graph/lower.js';
import { encodeModel, joinChunks } from '../graph/onnx.js';
import type { DType, InputAttrs, Tensor } from '../graph/tensor.js';
import { explained, loadOrt } from './ort.js';

/** Computes outputs of a graph once, in a session made for it. `feeds` gives every input and parameter they need. */
export async function evaluate(
  outputs: Readonly<Record<string, Tensor>>,
  feeds: ReadonlyMap<Tensor, HostTensor>,
  { backend = 'cpu' }: { backend?: Backend } = {},
): Promise<Record<string, HostTensor<DType>>> {
  const ort = await loadOrt(backend);
  // Sizes may be those of inputs that the outputs themselves do not depend on.
  const inputs = [...feeds.keys()].filter(({ node }) => node.op.name === 'input');
  const order = reachable([...Object.values(outputs), ...inputs]);
  const leaves = order
    .filter((node) => node.op.name === 'input' || node.op.name === 'parameter')
    .map((node) => ({ name: (node.attrs as InputAttrs).name, tensor: node.outputs[0] }));
  const named = Object.entries(outputs).map(([name, tensor]) => ({ name, tensor }));
  const graph = lowerGraph(leaves, named, order, backend);
  const model = joinChunks(encodeModel(graph).model);
  const session = await explained(() =>
    ort.InferenceSession.create(model, {
      executionProviders: [backend],
      graphOptimizationLevel: 'disabled',
      intraOpNumThreads: 1,
      logSeverityLevel: 4,
    }),
  );
  const symbols = new Map<string, number>();
  const ortFeeds: Record<string, InstanceType<typeof ort.Tensor>> = {};
  for (const { name, tensor } of leaves) {
    const value = feeds.get(tensor);
    if (!value) throw new JepaError(`evaluate: no value was given for ${name} ${shapeText(tensor.shape)}`);
    tensor.shape.forEach((dim, axis) => {
      if (typeof dim !== 'number' && evaluateDim(dim, symbols) === undefined) symbols.set(dim.key, value.shape[axis]);
    });
    ortFeeds[name] = new ort.Tensor(
      tensor.dtype,
      value.data as Float32Array,
      value.shape.length === 0 ? [1] : value.shape,
    );
  }
  const results = await explained(() => session.run(ortFeeds));
  const values: Record<string, HostTensor<DType>> = {};
  for (const { name, tensor } of named) {
    const result = results[name];
    const shape = tensor.shape.length === 0 ? [] : [...result.dims];
    const data = (await result.getData()) as HostData[DType];
    values[name] = { dtype: tensor.dtype, shape, data: data.slice(0, sizeOf(shape)) as HostData[DType] };
  }
  await session.release();
  return values;
}
