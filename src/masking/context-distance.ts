import { JepaError } from '../base/errors.js';
import { float32, type HostTensor } from '../base/tensor.js';

/**
 * How far every context token is from what is predicted (V-JEPA 2.1, `app/vjepa_2_1`): the square root of the Euclidean
 * distance, in tokens of time, row and column, to the nearest target token. Shapes: context [batch, Kc], target [batch, Kt] ->
 * [batch, Kc]. With `relative` the distance is measured in sixteenths of the grid's side first.
 */
export function contextDistance(
  context: HostTensor<'int32'>,
  target: HostTensor<'int32'>,
  [rows, columns]: readonly [number, number],
  relative = false,
): HostTensor<'float32'> {
  const [batch, kept] = context.shape;
  const [, hidden] = target.shape;
  const unit = relative ? Math.floor(rows / 16) : 1;
  if (unit === 0)
    throw new JepaError(`masks: relative distances need a grid of 16 rows or more, not ${rows}; use larger clips`);
  const place = (token: number): readonly [number, number, number] => [
    Math.floor(token / (rows * columns)),
    Math.floor(token / columns) % rows,
    token % columns,
  ];
  const data = new Float32Array(batch * kept);
  for (let b = 0; b < batch; b++) {
    const targets = Array.from(target.data.subarray(b * hidden, (b + 1) * hidden), place);
    for (let i = 0; i < kept; i++) {
      const [time, row, column] = place(context.data[b * kept + i]);
      let nearest = Number.POSITIVE_INFINITY;
      for (const [t, r, c] of targets) {
        nearest = Math.min(nearest, (time - t) ** 2 + (row - r) ** 2 + (column - c) ** 2);
      }
      data[b * kept + i] = Math.sqrt(Math.sqrt(nearest) / unit);
    }
  }
  return float32([batch, kept], data);
}
