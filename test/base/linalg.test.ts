import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  cholesky,
  choleskySolve,
  eigh,
  eigvalsh,
  forwardSubstitute,
  type Matrix,
  matrix,
  multiply,
  svdvals,
  transpose,
} from '../../src/base/linalg.js';
import { createRandom, type Random } from '../../src/base/random.js';

function randomMatrix(random: Random, rows: number, columns: number): Matrix {
  return matrix(rows, columns, Float64Array.from({ length: rows * columns }, random.normal));
}

function assertNear(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number, what = ''): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < wanted.length; i++) {
    assert.ok(Math.abs(got[i] - wanted[i]) <= tolerance, `${what}[${i}]: ${got[i]} instead of ${wanted[i]}`);
  }
}

const identity = (n: number) =>
  matrix(
    n,
    n,
    Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
  );
const sizes = fc.tuple(fc.nat(), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }));

test('eigenvectors are orthonormal and rebuild the matrix', () => {
  fc.assert(
    fc.property(sizes, ([seed, n, rank]) => {
      // Of any rank, so that repeated zeros occur.
      const x = randomMatrix(createRandom(seed), rank, n);
      const a = multiply(x, x, true);
      const { values, vectors } = eigh(a);
      const scale = values[n - 1];
      assertNear(multiply(vectors, transpose(vectors)).data, identity(n).data, 1e-13, 'orthonormal');
      const scaled = matrix(
        n,
        n,
        vectors.data.map((value, i) => value * values[Math.floor(i / n)]),
      );
      assertNear(multiply(vectors, scaled, true).data, a.data, 1e-13 * scale, 'rebuilt');
      assertNear(eigvalsh(a), values, 1e-13 * scale, 'values');
      for (let i = 1; i < n; i++) assert.ok(values[i] >= values[i - 1]);
    }),
    { numRuns: 60 },
  );
});

// Eigenvalues of the 8 x 8 Hilbert matrix, computed with 40 digits (mpmath).
const HILBERT = [
  1.11153896637244e-10, 1.79887374581758e-8, 1.29433209187281e-6, 5.43694336974994e-5, 0.00146768811774187,
  0.026212843578119, 0.298125211316931, 1.69593899692195,
];

test('Hilbert matrix: eigenvalues and singular values to the last digits of the largest', () => {
  const hilbert = matrix(
    8,
    8,
    Float64Array.from({ length: 64 }, (_, i) => 1 / ((i >> 3) + (i & 7) + 1)),
  );
  assertNear(eigvalsh(hilbert), HILBERT, 4e-15);
  assertNear(svdvals(hilbert), HILBERT.toReversed(), 4e-15);
});

test('singular values: tall, wide, deficient and graded matrices', () => {
  fc.assert(
    fc.property(sizes, ([seed, rows, columns]) => {
      const x = randomMatrix(createRandom(seed), rows, columns);
      const got = svdvals(x);
      assert.equal(got.length, Math.min(rows, columns));
      const squares = eigvalsh(multiply(x, x, true))
        .reverse()
        .slice(0, got.length);
      assertNear(
        got.map((s) => s * s),
        squares,
        1e-12 * squares[0],
      );
      assertNear(svdvals(transpose(x)), got, 1e-13 * got[0]);
    }),
    { numRuns: 60 },
  );
  // U diag(s) V with singular values over 14 decades: the Gram matrix would lose everything below 1e-8.
  const random = createRandom(9);
  const n = 15;
  const orthogonal = (size: number) => eigh(multiply(randomMatrix(random, size, size), identity(size))).vectors;
  const wanted = Array.from({ length: n }, (_, i) => 10 ** -i);
  const left = orthogonal(n);
  const right = orthogonal(n);
  const graded = multiply(
    left,
    matrix(
      n,
      n,
      right.data.map((value, i) => value * wanted[Math.floor(i / n)]),
    ),
    true,
  );
  assertNear(svdvals(graded), wanted, 1e-14);
  const tall = matrix(4 * n, n);
  for (let copy = 0; copy < 4; copy++) tall.data.set(graded.data, copy * n * n);
  assertNear(
    svdvals(tall),
    wanted.map((s) => 2 * s),
    2e-14,
  );
  assert.deepEqual([...svdvals(matrix(5, 3))], [0, 0, 0]);
  assertNear(svdvals(matrix(1, 1, [-2])), [2], 1e-15);
});

test('Cholesky solves and names what is not positive definite', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 25 }), (seed, n) => {
      const random = createRandom(seed);
      const x = randomMatrix(random, n + 5, n);
      const a = multiply(x, x, true);
      const lower = cholesky(a);
      assertNear(multiply(lower, transpose(lower)).data, a.data, 1e-12);
      const wanted = randomMatrix(random, n, 3);
      assertNear(choleskySolve(lower, multiply(a, wanted)).data, wanted.data, 1e-6);
      assertNear(multiply(lower, forwardSubstitute(lower, wanted)).data, wanted.data, 1e-10);
    }),
    { numRuns: 40 },
  );
  assert.throws(() => cholesky(matrix(2, 2, [1, 2, 2, 1])), /not positive definite \(pivot 1 is -3\)/);
});

test('bad input is named', () => {
  assert.throws(() => eigvalsh(matrix(2, 3)), /\[2, 3\] is not square/);
  assert.throws(() => eigvalsh(matrix(1, 1, [Number.NaN])), /element \(0, 0\) is NaN/);
  assert.throws(
    () => svdvals(matrix(2, 1, [1, Number.POSITIVE_INFINITY])),
    /element 1 of the matrix of \[2, 1\] is Infinity/,
  );
  assert.throws(() => matrix(2, 2, [1]), /1 values do not fill \[2, 2\]/);
});
