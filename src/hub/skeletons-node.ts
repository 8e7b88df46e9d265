import { JepaError } from '../base/errors.js';
import { isCount, quoted } from '../base/json.js';
import { sharedBytes } from '../data/dataset.js';
import { ntuClassName, type SkeletonDataset, skeletonArrays } from '../data/skeleton/dataset.js';
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

/** In memory that threads see without copying, where there is such. */
function shared(data: Float32Array): Float32Array {
  const copy = new Float32Array(sharedBytes(data.byteLength).buffer);
  copy.set(data);
  return copy;
}

const MOST_CLASSES = 65_536;

function labelsOf(
  arrays: NpzFile['arrays'],
  name: string,
  path: string,
): Pick<SkeletonDataset, 'labels' | 'classNames'> {
  const stored = arrays.get(name)?.tensor;
  if (!stored) return {};
  const { shape, data } = loadTensor(stored, `${path}: ${name}`);
  const numbers = Array.from(data as ArrayLike<number>, Number);
  const classes = shape.length === 2 ? oneHotClasses(numbers, shape[1]) : numbers;
  if (shape.length < 1 || shape.length > 2 || !classes.every((label) => isCount(label) && label < MOST_CLASSES))
    throw new JepaError(
      `${path}: "${name}" must be whole numbers from 0 on, [samples], or one-hot rows [samples, classes], not ${quoted(shape)}`,
    );
  const count = shape[1] ?? classes.reduce((a, b) => Math.max(a, b), -1) + 1;
  return {
    labels: Int32Array.from(classes),
    classNames: Array.from({ length: count }, (_, i) => ntuClassName(i + 1)),
  };
}

/** Where the 1 stands in each row; -1 for a row that is not one-hot. */
function oneHotClasses(numbers: readonly number[], width: number): number[] {
  return Array.from({ length: numbers.length / width }, (_, i) => {
    const row = numbers.slice(i * width, (i + 1) * width);
    const rest = row.filter((value) => value !== 0);
    return rest.length === 1 && rest[0] === 1 ? row.indexOf(1) : -1;
  });
}
