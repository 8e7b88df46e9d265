import { type Dim, mulDims } from '../dims.js';
import { operatorError, staticDim, type Tensor } from '../tensor.js';
import { add, mul, sigmoid, sub, tanh } from './elementwise.js';
import { reshape, split, stack } from './move.js';
import { linear } from './product.js';

/** Recurrent cells, and their unrolled sequences. */

/** Shapes: wIh [gates H, I], wHh [gates H, H], bIh and bHh [gates H]. */
export interface RecurrentWeights {
  readonly wIh: Tensor;
  readonly wHh: Tensor;
  readonly bIh?: Tensor;
  readonly bHh?: Tensor;
}

function requireCell(name: string, gates: number, x: Tensor, h: Tensor, weights: RecurrentWeights): void {
  const { wIh, wHh, bIh, bHh } = weights;
  const all = [x, h, wIh, wHh, ...[bIh, bHh].filter((t) => t !== undefined)];
  if (h.shape.length !== 2) throw operatorError(name, 'the state must be [B, H]', ...all);
  const rows: Dim = mulDims(h.shape[1], gates);
  if ([wIh, wHh].some((w) => w.shape.length !== 2 || w.shape[0] !== rows)) {
    throw operatorError(name, `the weights must have ${gates} times the state's width as rows`, ...all);
  }
  if (wIh.shape[1] !== x.shape[x.shape.length - 1] || wHh.shape[1] !== h.shape[1]) {
    throw operatorError(name, "the weights' columns differ from the widths of input and state", ...all);
  }
  if ([bIh, bHh].some((b) => b && (b.shape.length !== 1 || b.shape[0] !== rows))) {
    throw operatorError(name, 'the biases must have one value for each row of the weights', ...all);
  }
  if (x.shape[x.shape.length - 2] !== h.shape[0]) throw operatorError(name, 'batch sizes differ', ...all);
}

const gatesOf = (x: Tensor, count: number, width: Dim): readonly Tensor[] =>
  split(
    x,
    -1,
    Array.from({ length: count }, () => width),
  );

/** One step from the input's part of the gates, [B, 3H]. */
function gruStep(fromInput: Tensor, h: Tensor, { wHh, bHh }: RecurrentWeights): Tensor {
  const [xr, xz, xn] = gatesOf(fromInput, 3, h.shape[1]);
  const [hr, hz, hn] = gatesOf(linear(h, wHh, bHh), 3, h.shape[1]);
  const reset = sigmoid(add(xr, hr));
  const update = sigmoid(add(xz, hz));
  const candidate = tanh(add(xn, mul(reset, hn)));
  return add(candidate, mul(update, sub(h, candidate)));
}

/**
 * GRU cell. Row order of the weights: reset, update, new; the reset gate multiplies the recurrent part of the new gate
 * with its bias. Shapes: x [B, I], h [B, H].
 */
export function gruCell(x: Tensor, h: Tensor, weights: RecurrentWeights): Tensor {
  requireCell('gru_cell', 3, x, h, weights);
  return gruStep(linear(x, weights.wIh, weights.bIh), h, weights);
}

/** The input's part of the gates of every step, from one product. */
function steps(name: string, x: Tensor, weights: RecurrentWeights): Tensor[] {
  if (x.shape.length !== 3) throw operatorError(name, 'the input must be [T, B, I]', x);
  const length = staticDim(name, x.shape[0], 'the number of steps', x);
  const all = linear(x, weights.wIh, weights.bIh);
  const pieces = split(
    all,
    0,
    Array.from({ length }, () => 1),
  );
  return pieces.map((piece) => reshape(piece, all.shape.slice(1)));
}

/** GRU over x [T, B, I] from h [B, H]: all states [T, B, H] and the last one. */
export function gru(x: Tensor, h: Tensor, weights: RecurrentWeights): { out: Tensor; last: Tensor } {
  requireCell('gru', 3, x, h, weights);
  const states: Tensor[] = [];
  for (const fromInput of steps('gru', x, weights)) states.push(gruStep(fromInput, states.at(-1) ?? h, weights));
  return { out: stack(states, 0), last: states.at(-1) ?? h };
}

export interface LstmState {
  readonly h: Tensor;
  readonly c: Tensor;
}

function lstmStep(fromInput: Tensor, { h, c }: LstmState, { wHh, bHh }: RecurrentWeights): LstmState {
  const [i, f, g, o] = gatesOf(add(fromInput, linear(h, wHh, bHh)), 4, h.shape[1]);
  const cell = add(mul(sigmoid(f), c), mul(sigmoid(i), tanh(g)));
  return { h: mul(sigmoid(o), tanh(cell)), c: cell };
}

/** LSTM cell. Row order of the weights: input, forget, cell, output. Shapes: x [B, I], h and c [B, H]. */
export function lstmCell(x: Tensor, state: LstmState, weights: RecurrentWeights): LstmState {
  requireCell('lstm_cell', 4, x, state.h, weights);
  return lstmStep(linear(x, weights.wIh, weights.bIh), state, weights);
}

/** LSTM over x [T, B, I]: all states [T, B, H], and the last state and cell. */
export function lstm(x: Tensor, state: LstmState, weights: RecurrentWeights): LstmState & { readonly out: Tensor } {
  requireCell('lstm', 4, x, state.h, weights);
  const states: LstmState[] = [];
  for (const fromInput of steps('lstm', x, weights)) states.push(lstmStep(fromInput, states.at(-1) ?? state, weights));
  return {
    out: stack(
      states.map(({ h }) => h),
      0,
    ),
    ...(states.at(-1) ?? state),
  };
}
