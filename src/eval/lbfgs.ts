/** Smooth minimisation by L-BFGS (Nocedal and Wright, Numerical Optimization, chapter 7), in double. */

export interface Minimum {
  readonly point: Float64Array;
  readonly value: number;
  readonly iterations: number;
  /** False when the iterations ran out or rounding left no way down before the gradient was small enough. */
  readonly converged: boolean;
}

export interface MinimiseOptions {
  /** Stop when no element of the gradient is larger. */
  readonly tolerance: number;
  readonly maxIterations: number;
  /**
   * Replaces a vector by its product with a rough inverse of the Hessian (symmetric, positive definite), which the
   * history then refines. Worth having where variables are strongly correlated.
   */
  readonly precondition: (vector: Float64Array) => void;
}

/** Value at x; the gradient is written to `gradient`. */
export type Objective = (x: Float64Array, gradient: Float64Array) => number;

export interface Evaluation {
  readonly value: number;
  readonly gradient: Float64Array;
}

/** Minimises a function that is computed at once. */
export function minimise(objective: Objective, start: Float64Array, options: MinimiseOptions): Minimum {
  const search = descend(start, options);
  let turn = search.next();
  while (!turn.done) {
    const gradient = new Float64Array(start.length);
    turn = search.next({ value: objective(turn.value, gradient), gradient });
  }
  return turn.value;
}

/** Minimises a function that is computed elsewhere. */
export async function minimiseAsync(
  objective: (x: Float64Array) => Promise<Evaluation>,
  start: Float64Array,
  options: MinimiseOptions,
): Promise<Minimum> {
  const search = descend(start, options);
  let turn = search.next();
  while (!turn.done) turn = search.next(await objective(turn.value));
  return turn.value;
}

const HISTORY = 10;
/** Conditions on a step: enough decrease of the value, enough decrease of the slope (weak Wolfe conditions). */
const DECREASE = 1e-4;
const CURVATURE = 0.9;
const MOST_TRIALS = 40;

/** The search itself: yields points, is given what the objective is there, and returns the minimum. */
function* descend(
  start: Float64Array,
  { tolerance, maxIterations, precondition }: MinimiseOptions,
): Generator<Float64Array, Minimum, Evaluation> {
  let x = start.slice();
  let { value, gradient } = yield x;
  const history: { step: Float64Array; change: Float64Array; curvature: number }[] = [];
  for (let iterations = 0; ; iterations++) {
    if (largest(gradient) <= tolerance) return { point: x, value, iterations, converged: true };
    if (iterations === maxIterations) return { point: x, value, iterations, converged: false };

    const direction = newtonDirection(gradient, history, precondition);
    const slope = dot(direction, gradient);
    let next = x;
    let there: Evaluation = { value, gradient };
    // Bisection between steps that are too long and too short; doubling while none was too long.
    let [low, high] = [0, Number.POSITIVE_INFINITY];
    let length = 1;
    let accepted = false;
    for (let trial = 0; trial < MOST_TRIALS && !accepted; trial++) {
      next = x.slice();
      addScaled(next, direction, length);
      there = yield next;
      if (!(there.value <= value + DECREASE * length * slope)) high = length;
      else if (dot(direction, there.gradient) < CURVATURE * slope) low = length;
      else accepted = true;
      if (!accepted) length = high === Number.POSITIVE_INFINITY ? 2 * low : (low + high) / 2;
    }
    if (!accepted) return { point: x, value, iterations, converged: false };

    const step = next.slice();
    addScaled(step, x, -1);
    const change = there.gradient.slice();
    addScaled(change, gradient, -1);
    history.push({ step, change, curvature: dot(step, change) });
    if (history.length > HISTORY) history.shift();
    x = next;
    ({ value, gradient } = there);
  }
}

/** - H g with the inverse Hessian H of the history (the two-loop recursion). */
function newtonDirection(
  gradient: Float64Array,
  history: readonly { step: Float64Array; change: Float64Array; curvature: number }[],
  precondition: (vector: Float64Array) => void,
): Float64Array {
  const direction = gradient.map((component) => -component);
  const weights: number[] = [];
  for (const { step, change, curvature } of history.toReversed()) {
    const weight = dot(step, direction) / curvature;
    weights.push(weight);
    addScaled(direction, change, -weight);
  }
  precondition(direction);
  const last = history.at(-1);
  if (last) {
    // The scale at which the preconditioner agrees with the last step.
    const change = last.change.slice();
    precondition(change);
    const scale = last.curvature / dot(last.change, change);
    for (let i = 0; i < direction.length; i++) direction[i] *= scale;
  }
  for (const { step, change, curvature } of history) {
    addScaled(direction, step, weights.pop()! - dot(change, direction) / curvature);
  }
  return direction;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** a += factor x b. */
function addScaled(a: Float64Array, b: Float64Array, factor: number): void {
  for (let i = 0; i < a.length; i++) a[i] += factor * b[i];
}

function largest(values: Float64Array): number {
  let result = 0;
  for (let i = 0; i < values.length; i++) result = Math.max(result, Math.abs(values[i]));
  return result;
}
