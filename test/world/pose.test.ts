import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { actionBetween, inCamera, nextPose, trajectoryActions } from '../../src/world/pose.js';

const near = (got: ArrayLike<number>, expected: readonly number[], tolerance = 1e-12): void => {
  assert.equal(got.length, expected.length);
  expected.forEach((value, i) => {
    assert.ok(Math.abs(got[i] - value) <= tolerance, `[${i}]: ${got[i]} instead of ${value}`);
  });
};

test('a turn about z after one about x is about the fixed axis', () => {
  // Quarter turns: x carries y to z, then z carries x to y.
  const pose = [0, 0, 0, Math.PI / 2, 0, 0, 0.5];
  near(nextPose(pose, [1, 2, 3, 0, 0, Math.PI / 2, 0.25]), [1, 2, 3, Math.PI / 2, 0, Math.PI / 2, 0.75]);
});

test('the gripper stays between open and closed', () => {
  assert.equal(nextPose([0, 0, 0, 0, 0, 0, 0.9], [0, 0, 0, 0, 0, 0, 0.5])[6], 1);
  assert.equal(nextPose([0, 0, 0, 0, 0, 0, 0.1], [0, 0, 0, 0, 0, 0, -0.5])[6], 0);
});

test('the action between two poses leads from one to the other', () => {
  const random = createRandom(5);
  for (let i = 0; i < 200; i++) {
    const draw = (width: number): number => (2 * random.uniform() - 1) * width;
    const pose = (): number[] => [draw(1), draw(1), draw(1), draw(3), draw(1.5), draw(3), random.uniform()];
    const [from, to] = [pose(), pose()];
    near(nextPose(from, actionBetween(from, to)), to, 1e-9);
  }
});

test('angles where the middle one is a right angle still give the same rotation', () => {
  const from = [0, 0, 0, 0.3, Math.PI / 2, 0.8, 0];
  const still = nextPose(from, [0, 0, 0, 0, 0, 0, 0]);
  // Only the difference of the outer angles is determined.
  near([still[4], still[3] - still[5]], [Math.PI / 2, 0.3 - 0.8], 1e-6);
});

test('a camera at a pose sees that pose at its origin', () => {
  const pose = [0.4, -0.2, 0.7, 0.5, -0.3, 1.2, 0.6];
  near(inCamera(pose, pose.slice(0, 6)), [0, 0, 0, 0, 0, 0, 0.6]);
});

test('trajectories must be rows of seven numbers', () => {
  assert.throws(() => trajectoryActions(new Float64Array(10)), /10 numbers are not rows of 7/);
  assert.equal(trajectoryActions(new Float64Array(7)).length, 0);
});
