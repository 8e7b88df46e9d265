import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32 } from '../../src/base/tensor.js';
import { add, input, mean, mul, parameter, sum } from '../../src/graph/index.js';
import { sgd } from '../../src/optim/sgd.js';
import { LOCAL_TARGETS } from './targets.js';

/** loss = mean(x) (3 a + 4 b) + 12 c: the gradients at mean(x) = 1 are 3, 4 and 12. */
function graph() {
  const [a, b, c] = ['a', 'b', 'c'].map((name) => parameter(name, [1]));
  const x = input('x', ['batch']);
  const loss = add(mul(mean(x), sum(add(mul(a, 3), mul(b, 4)))), sum(mul(c, 12)));
  return { a, b, c, loss };
}

const rows = { x: float32([6], [0.5, 1.5, 1, 1, 0.25, 1.75]) };

for (const { name, start } of LOCAL_TARGETS) {
  test(`sets of groups are clipped by their own norms: ${name}`, async () => {
    const engine = await start();
    try {
      const step = async (clipApart: number[][] | undefined, micro: number): Promise<number[]> => {
        const { a, b, c, loss } = graph();
        const state = await engine.createState([a, b, c]);
        const program = await engine.compile(
          {
            name: 'clip',
            outputs: { loss },
            update: { loss, rule: sgd(), groups: [[a], [b], [c]], followers: [], clipApart },
          },
          state,
        );
        const groups = [1, 1, 1].map((lr) => ({ lr, weightDecay: 0 }));
        for (let index = 0; index < micro; index++) {
          const result = await program.run(
            rows,
            { step: 1, groups, momentum: 1, clipNorm: 2 },
            { index, count: micro },
          );
          if (index === micro - 1) assert.ok(Math.abs(result.gradientNorm - 13) < 1e-5);
        }
        const values = await state.read();
        await program.close();
        return ['a', 'b', 'c'].map((key) => -(values.get(key)?.data[0] as number));
      };
      const near = (got: number[], expected: number[]): void =>
        expected.forEach((value, i) => {
          assert.ok(Math.abs(got[i] - value) < 1e-5, `${got} instead of ${expected}`);
        });
      for (const micro of [1, 2]) {
        near(
          await step(undefined, micro),
          [3, 4, 12].map((g) => (g * 2) / 13),
        );
        near(await step([[0, 1], [2]], micro), [1.2, 1.6, 2]);
        near(await step([[2], [0, 1]], micro), [1.2, 1.6, 2]);
      }
      await assert.rejects(step([[0], [1]], 1), /every group must be in one of at most 64 sets/);
    } finally {
      await engine.close();
    }
  });
}
