import type { SkeletonLayout } from './layout.js';

/** Changes of the poses of one body, [frames, joints, 3]; each gives new poses. */

type Vector = readonly [number, number, number];
/** Row-major 3 x 3. */
export type Matrix = readonly [Vector, Vector, Vector];

const at = (poses: Float32Array, index: number): Vector => [
  poses[3 * index],
  poses[3 * index + 1],
  poses[3 * index + 2],
];
const minus = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
const scaled = (a: Vector, factor: number): Vector => [a[0] * factor, a[1] * factor, a[2] * factor];
/** `a` with length 1, or as it is where it has none. */
const unit = (a: Vector): Vector => scaled(a, 1 / (Math.hypot(...a) + 1e-8));

/** The frames that `start` and `length` cut out (both may be fractions of a frame), resampled to `frames` by linear interpolation. */
export function resampleFrames(
  poses: Float32Array,
  row: number,
  frames: number,
  start = 0,
  length = poses.length / row,
): Float32Array {
  const last = poses.length / row - 1;
  const out = new Float32Array(frames * row);
  for (let frame = 0; frame < frames; frame++) {
    // Centres of frames, as pixels are resized.
    const place = Math.min(Math.max(start + ((frame + 0.5) * length) / frames - 0.5, 0), last);
    const before = Math.min(Math.floor(place), Math.max(0, last - 1));
    const share = place - before;
    const after = Math.min(before + 1, last);
    for (let i = 0; i < row; i++) {
      out[frame * row + i] = (1 - share) * poses[before * row + i] + share * poses[after * row + i];
    }
  }
  return out;
}

/** Poses relative to a joint: where it is in every frame, or in the first (which keeps how the body moves about). */
export function centred(poses: Float32Array, joints: number, joint: number, when: 'frame' | 'first'): Float32Array {
  const out = new Float32Array(poses.length);
  for (let frame = 0; frame * joints * 3 < poses.length; frame++) {
    const origin = at(poses, (when === 'frame' ? frame * joints : 0) + joint);
    for (let i = frame * joints * 3; i < (frame + 1) * joints * 3; i++) out[i] = poses[i] - origin[i % 3];
  }
  return out;
}

/** Every joint multiplied by a matrix. */
export function turned(poses: Float32Array, matrix: Matrix): Float32Array {
  const out = new Float32Array(poses.length);
  for (let i = 0; i < poses.length / 3; i++) {
    const joint = at(poses, i);
    for (let c = 0; c < 3; c++) out[3 * i + c] = dot(matrix[c], joint);
  }
  return out;
}

/** Rotation by an angle (radians) about an axis of length 1 (Rodrigues). */
export function rotation(axis: Vector, angle: number): Matrix {
  const [x, y, z] = axis;
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const k = 1 - c;
  return [
    [c + x * x * k, x * y * k - z * s, x * z * k + y * s],
    [y * x * k + z * s, c + y * y * k, y * z * k - x * s],
    [z * x * k - y * s, z * y * k + x * s, c + z * z * k],
  ];
}

/**
 * The rotation after which the body stands upright (spine along y) and faces the viewer (left shoulder on +x) in its first
 * frame, as NTU is usually normalised (Shahroudy et al. 2016).
 */
export function uprightRotation(poses: Float32Array, { spine, shoulders }: SkeletonLayout): Matrix {
  const up = unit(minus(at(poses, spine[1]), at(poses, spine[0])));
  const across = minus(at(poses, shoulders[0]), at(poses, shoulders[1]));
  const right = unit(minus(across, scaled(up, dot(across, up))));
  return [right, up, cross(right, up)];
}

/** Direction of the spine, averaged over the frames. */
export function spineAxis(poses: Float32Array, { names, spine }: SkeletonLayout): Vector {
  const frames = poses.length / 3 / names.length;
  const sum = [0, 0, 0];
  for (let frame = 0; frame < frames; frame++) {
    const bone = minus(at(poses, frame * names.length + spine[1]), at(poses, frame * names.length + spine[0]));
    for (let c = 0; c < 3; c++) sum[c] += bone[c] / frames;
  }
  return unit([sum[0], sum[1], sum[2]]);
}

/** x turned around, left and right joints exchanged. */
export function mirrored(poses: Float32Array, { names, pairs }: SkeletonLayout): Float32Array {
  const other = names.map((_, joint) => joint);
  for (const [left, right] of pairs) [other[left], other[right]] = [right, left];
  const out = new Float32Array(poses.length);
  for (let i = 0; i < poses.length / 3; i++) {
    const joint = i % names.length;
    const from = 3 * (i - joint + other[joint]);
    out[3 * i] = -poses[from];
    out[3 * i + 1] = poses[from + 1];
    out[3 * i + 2] = poses[from + 2];
  }
  return out;
}

/** How a view differs from its skeleton. */
export interface ViewChange {
  /** Radians about the spine. */
  readonly angle: number;
  readonly mirror: boolean;
  readonly shift: Vector;
}

/** A view of the student of S-JEPA: turned about the spine, then mirrored, then shifted. */
export function geometricView(
  poses: Float32Array,
  layout: SkeletonLayout,
  { angle, mirror, shift }: ViewChange,
): Float32Array {
  const rotated = turned(poses, rotation(spineAxis(poses, layout), angle));
  return (mirror ? mirrored(rotated, layout) : rotated).map((value, i) => value + shift[i % 3]);
}

/** Where each joint is beside its mean place over the frames: what moves is left, the pose that it moves about is not. */
export function moving(poses: Float32Array, row: number): Float32Array {
  const frames = poses.length / row;
  const means = new Float64Array(row);
  poses.forEach((value, i) => {
    means[i % row] += value / frames;
  });
  return poses.map((value, i) => value - means[i % row]);
}

/** Differences to the next frame, zero in the last (MAMP's motion). */
export function motionOf(poses: Float32Array, row: number): Float32Array {
  return poses.map((value, i) => (i + row < poses.length ? poses[i + row] - value : 0));
}
