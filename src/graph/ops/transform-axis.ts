import type { HostTensor } from '../../base/tensor.js';
import { productOf } from '../dims.js';
import { apply1, type Operator, operatorError, requireType, type Tensor } from '../tensor.js';

/** A constant linear function of the vectors along an axis. */

export interface TransformAttrs {
  readonly axis: number;
  /** [out, in] */
  readonly matrix: HostTensor<'float32'>;
}

/**
 * out[..., i, ...] = sum over j of matrix[i, j] x[..., j, ...]. One product for each place before the axis, over all that
 * comes after it.
 */
export const transformAxisOperator: Operator<TransformAttrs> = {
  name: 'transform_axis',
  infer: ([x], { axis, matrix }) => {
    requireType('transform_axis', 'float32', x);
    if (axis < 0 || axis >= x.shape.length - 1 || x.shape[axis] !== matrix.shape[1]) {
      throw operatorError('transform_axis', `needs size ${matrix.shape[1]} along axis ${axis}, not the last`, x);
    }
    return [{ dtype: 'float32', shape: x.shape.with(axis, matrix.shape[0]) }];
  },
  vjp: ({ attrs: { axis, matrix } }, [grad]) => [grad && transformAxis(grad, axis, turned(matrix))],
  lower: ({ inputs: [x], outputs: [y], attrs: { axis, matrix } }, [data], emit) => {
    const product = (flat: string): string => emit.node('MatMul', [emit.constant(matrix), flat]);
    if (axis === x.shape.length - 2) return [product(data)];
    const flat = emit.reshape(data, [...x.shape.slice(0, axis + 1), productOf(x.shape.slice(axis + 1))]);
    return [emit.reshape(product(flat), y.shape)];
  },
};

/** The matrix [out, in] applied along an axis of x whose size is `in` and which is not the last. */
export const transformAxis = (x: Tensor, axis: number, matrix: HostTensor<'float32'>): Tensor =>
  apply1(transformAxisOperator, [x], { axis, matrix });

function turned({ shape: [rows, columns], data }: HostTensor<'float32'>): HostTensor<'float32'> {
  const result = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = data[i * columns + j];
  return { dtype: 'float32', shape: [columns, rows], data: result };
}
