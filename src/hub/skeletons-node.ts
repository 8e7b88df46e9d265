import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { type SkeletonDataset, skeletonArrays } from '../data/skeleton/dataset.js';
import { NTU_LAYOUT } from '../data/skeleton/layout.js';
import { NTU_JOINTS } from '../data/skeleton/ntu.js';
import { withFile } from './files.js';
import { type NpzFile, openNpz } from './npy.js';
import { loadFloat32, loadTensor } from './raw.js';

/**
 * Recordings in an `.npz` archive, as preparations of NTU RGB+D write them (`x_train`, `y_train`, `x_test`, `y_test`; or `x` and `y`, all
 * of it for training): x [samples, frames, 25 * 3] of one person, [samples, frames, 2 * 25 * 3] of two, or with axes of their own, in
 * metres; y [samples] or one-hot [samples, classes], and may be missing. Undefined where the archive has no such part. Throws a
 * `JepaError` for anything else.
 */
export function npzSkeletons(path: string, part: 'train' | 'test'): SkeletonDataset | undefined {
  return withFile(path, (source) => {
    const { arrays } = openNpz(source);
    const whole = arrays.has('x') && part === 'train';
    const [x, y] = whole ? ['x', 'y'] : [`x_${part}`, `y_${part}`];
    const stored = arrays.get(x)?.tensor;
    if (!stored) {
      if (part === 'test') return undefined;
      const found = [...arrays.keys()].slice(0, 8).join(', ');
      throw new JepaError(`${path}: no array "x_train" or "x" of skeletons in it; it has ${found || 'none'}`);
    }
    const { shape, data } = loadFloat32(stored, `${path}: ${x}`);
    const [samples, frames, values] = shape;
    const people = values / (3 * NTU_JOINTS);
    const flat = shape.length === 3 && Number.isInteger(people);
    return skeletonArrays({
      name: path,
      shape: flat ? [samples, frames, people, NTU_JOINTS, 3] : shape,
      data: shared(data),
      layout: NTU_LAYOUT,
      ...labelsOf(arrays, y, path),
    });
  });
}

/** In memory that threads see without copying. */
function shared(data: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(data.byteLength));
  copy.set(data);
  return copy;
}

function labelsOf(
  arrays: NpzFile['arrays'],
  name: string,
  path: string,
): Pick<SkeletonDataset, 'labels' | 'classNames'> {
  const stored = arrays.get(name)?.tensor;
  if (!stored) return {};
  const { shape, data } = loadTensor(stored, `${path}: ${name}`);
  const [samples, classes = 1] = shape;
  const numbers = Array.from(data as ArrayLike<number>, Number);
  const wrong = (): never => {
    throw new JepaError(
      `${path}: "${name}" must be whole numbers from 0 on, [samples], or one-hot rows [samples, classes], not ${quoted(shape)}`,
    );
  };
  if (shape.length > 2 || shape.length === 0) wrong();
  const labels = Int32Array.from({ length: samples }, (_, i) => {
    if (shape.length === 1) return numbers[i];
    const row = numbers.slice(i * classes, (i + 1) * classes);
    if (row.some((value) => value !== 0 && value !== 1) || row.reduce((a, b) => a + b, 0) !== 1) wrong();
    return row.indexOf(1);
  });
  if (shape.length === 1 && numbers.some((value) => !Number.isInteger(value) || value < 0 || value > 65_535)) wrong();
  const most = shape.length === 2 ? classes : labels.reduce((a, b) => Math.max(a, b), -1) + 1;
  return { labels, classNames: Array.from({ length: most }, (_, i) => `A${String(i + 1).padStart(3, '0')}`) };
}
