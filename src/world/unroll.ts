import { JepaError } from '../base/errors.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { concat, narrow, reshape } from '../graph/ops/move.js';
import { scope, type Tensor } from '../graph/tensor.js';

/**
 * Unrolls of latent predictors (EB-JEPA, `JEPA.unroll`). States are maps [batch, channels, time, height, width]; vectors have
 * height and width 1. Actions are [batch, numbers, time]; action t leads from state t to state t + 1.
 */

const timeOf = (x: Tensor): number => x.shape[2] as number;

/** The next state after each of those given, from them and their actions (undefined where the predictor takes none). */
export type StatesPredictor = (states: Tensor, actions?: Tensor) => Tensor;

/** Distance of target and prediction, both states. */
export type StatesCost = (target: Tensor, prediction: Tensor) => Tensor;

export interface Unrolled {
  /** States after the last step. */
  readonly states: Tensor;
  /** What each step predicted. */
  readonly steps: readonly Tensor[];
}

/**
 * Predicts all times at once, `steps` times over: after each step the predictions (without the last, which has no target)
 * follow the first `context` true states, and are predicted from in the next.
 */
export function unrollParallel(
  states: Tensor,
  predict: StatesPredictor,
  { steps, context, actions }: { readonly steps: number; readonly context: number; readonly actions?: Tensor },
): Unrolled {
  const all: Tensor[] = [];
  let current = states;
  for (let step = 0; step < steps; step++) {
    const predicted = scope(`step.${step}`, () => predict(current, actions));
    const kept = narrow(predicted, 2, 0, timeOf(predicted) - 1);
    all.push(kept);
    current = context > 0 ? concat([narrow(states, 2, 0, context), kept], 2) : kept;
  }
  return { states: current, steps: all };
}

/** Mean over the steps of the error of each; the true states in front count as predictions without error. */
export function parallelError(states: Tensor, { steps }: Unrolled, context: number, cost: StatesCost): Tensor {
  const errors = steps.map((kept) =>
    cost(states, context > 0 ? concat([narrow(states, 2, 0, context), kept], 2) : kept),
  );
  return mul(errors.reduce(add), 1 / steps.length);
}

/**
 * Predicts one step after another from the first `window` states: each from the last `window` ones and the actions that leave
 * them. Recurrent predictors have a window of 1. States have `window + steps` times in the end.
 */
export function unrollSteps(
  states: Tensor,
  predict: StatesPredictor,
  { steps, window = 1, actions }: { readonly steps: number; readonly window?: number; readonly actions?: Tensor },
): Unrolled {
  if (actions && timeOf(actions) < steps)
    throw new JepaError(`unroll: ${steps} steps need as many actions, not ${timeOf(actions)}`);
  const all: Tensor[] = [];
  const seen: Tensor[] = [];
  for (let t = 0; t < window; t++) seen.push(narrow(states, 2, t, 1));
  for (let step = 0; step < steps; step++) {
    const predicted = scope(`step.${step}`, () => {
      const last = seen.slice(-window);
      const context = last.length === 1 ? last[0] : concat(last, 2);
      const from = Math.max(0, step + 1 - window);
      return predict(context, actions && narrow(actions, 2, from, step + 1 - from));
    });
    const next = narrow(predicted, 2, timeOf(predicted) - 1, 1);
    all.push(next);
    seen.push(next);
  }
  return { states: concat(seen, 2), steps: all };
}

/**
 * Mean over the steps of their errors: step i against state `first + i`. EB-JEPA has `first` 1 for every window, which is right
 * for a window of 1 only; the default is the window.
 */
export function stepsError(states: Tensor, { steps }: Unrolled, cost: StatesCost, first = 1): Tensor {
  const errors = steps.map((predicted, i) => cost(narrow(states, 2, first + i, 1), predicted));
  return mul(errors.reduce(add), 1 / steps.length);
}

/** Maps [batch, channels, 1, 1, 1] -> vectors [batch, channels], and back. */
export const vectorOf = (state: Tensor): Tensor => reshape(state, state.shape.slice(0, 2));
export const stateOf = (vector: Tensor): Tensor => reshape(vector, [...vector.shape, 1, 1, 1]);
