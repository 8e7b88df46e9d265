import { JepaError } from '../base/errors.js';

/**
 * Poses of a robot's hand (V-JEPA 2-AC, `app/vjepa_droid/droid.py`): [x, y, z, three Euler angles, gripper]. The angles are
 * radians about the fixed axes x, then y, then z; an action is the step from one pose to the next: the difference of
 * positions, the rotation R(next) R(pose)^T as angles, the difference of the gripper.
 */
export const POSE_WIDTH = 7;

/** Row-major [3, 3]. */
type Rotation = readonly number[];

/** R(z) R(y) R(x). */
function rotationOf(x: number, y: number, z: number): Rotation {
  const [cx, sx, cy, sy, cz, sz] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y), Math.cos(z), Math.sin(z)];
  return [
    cz * cy,
    cz * sy * sx - sz * cx,
    cz * sy * cx + sz * sx,
    sz * cy,
    sz * sy * sx + cz * cx,
    sz * sy * cx - cz * sx,
    -sy,
    cy * sx,
    cy * cx,
  ];
}

/** Angles in (-pi, pi], the second in [-pi / 2, pi / 2]; where that one is a right angle the third is 0. */
function anglesOf(r: Rotation): [number, number, number] {
  const y = Math.asin(Math.min(1, Math.max(-1, -r[6])));
  if (Math.abs(r[6]) > 1 - 1e-12) return [Math.atan2(-r[5], r[4]), y, 0];
  return [Math.atan2(r[7], r[8]), y, Math.atan2(r[3], r[0])];
}

const product = (a: Rotation, b: Rotation): Rotation =>
  Array.from({ length: 9 }, (_, i) => {
    const [row, column] = [Math.floor(i / 3) * 3, i % 3];
    return a[row] * b[column] + a[row + 1] * b[column + 3] + a[row + 2] * b[column + 6];
  });

const transposed = (r: Rotation): Rotation => [r[0], r[3], r[6], r[1], r[4], r[7], r[2], r[5], r[8]];

const turned = (r: Rotation, [x, y, z]: readonly number[]): number[] =>
  [0, 3, 6].map((row) => r[row] * x + r[row + 1] * y + r[row + 2] * z);

/** The pose after an action; the gripper stays within [0, 1]. */
export function nextPose(pose: ArrayLike<number>, action: ArrayLike<number>): number[] {
  const rotation = product(rotationOf(action[3], action[4], action[5]), rotationOf(pose[3], pose[4], pose[5]));
  return [
    pose[0] + action[0],
    pose[1] + action[1],
    pose[2] + action[2],
    ...anglesOf(rotation),
    Math.min(1, Math.max(0, pose[6] + action[6])),
  ];
}

/** The action that leads from one pose to another. */
export function actionBetween(pose: ArrayLike<number>, next: ArrayLike<number>): number[] {
  const rotation = product(rotationOf(next[3], next[4], next[5]), transposed(rotationOf(pose[3], pose[4], pose[5])));
  return [next[0] - pose[0], next[1] - pose[1], next[2] - pose[2], ...anglesOf(rotation), next[6] - pose[6]];
}

/** A pose seen from a camera whose own pose, without gripper, is `camera` [6]: inverse(E) P. */
export function inCamera(pose: ArrayLike<number>, camera: ArrayLike<number>): number[] {
  const back = transposed(rotationOf(camera[3], camera[4], camera[5]));
  const place = [0, 1, 2].map((i) => pose[i] - camera[i]);
  return [...turned(back, place), ...anglesOf(product(back, rotationOf(pose[3], pose[4], pose[5]))), pose[6]];
}

/** Actions between the poses of a trajectory, [poses, 7] row-major -> [poses - 1, 7]. */
export function trajectoryActions(poses: Float32Array | Float64Array): Float64Array {
  if (poses.length % POSE_WIDTH !== 0 || poses.length < POSE_WIDTH)
    throw new JepaError(`poses: ${poses.length} numbers are not rows of ${POSE_WIDTH}`);
  const at = (i: number) => poses.subarray(i * POSE_WIDTH, (i + 1) * POSE_WIDTH);
  const steps = poses.length / POSE_WIDTH - 1;
  return Float64Array.from(Array.from({ length: steps }, (_, i) => actionBetween(at(i), at(i + 1))).flat());
}
