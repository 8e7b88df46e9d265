import { JepaError } from '../base/errors.js';
import type { HostTensor } from '../base/tensor.js';
import type { Dataset } from '../data/dataset.js';
import { ACTIONS, STATES } from '../data/episodes/preparation.js';
import type { Fields } from '../data/preparation.js';
import { abs, sub } from '../graph/ops/elementwise.js';
import { broadcastTo, expandDims, narrow, reshape } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import type { Tensor } from '../graph/tensor.js';
import { type AcMethod, acInputs, observedFrames, rollOut } from '../methods/vjepa2-ac.js';
import type { Engine, State } from '../runtime/index.js';
import { episodeWindows } from './build.js';
import type { Config } from './config.js';
import type { DataFacts } from './facts.js';
import { type FeatureOptions, sampleBatches } from './features.js';

/** How far ahead V-JEPA 2-AC sees: mean absolute differences of predicted frames, by steps from the first of a window. */
export interface ActionScores {
  readonly windows: number;
  /** Entry d is d + 1 steps ahead. */
  readonly ahead: readonly {
    /** From the first frame, the predictions after it, and what was done. */
    readonly predicted: number;
    /** Told what was done in another window: its actions, and its poses after the first. */
    readonly misled: number;
    /** The first frame itself. */
    readonly still: number;
  }[];
}

export interface ActionOptions {
  readonly engine: Engine;
  readonly method: AcMethod;
  /** Holds the weights of its modules. */
  readonly state: State;
  readonly config: Config;
  readonly facts: DataFacts;
  /** Held-out episodes. */
  readonly test: Dataset;
  readonly loading?: Pick<FeatureOptions, 'threads' | 'maxCorrupt' | 'log'>;
}

/** Rolls held-out windows out to their ends. Throws a `JepaError` where there are fewer than two. */
export async function actionScores(options: ActionOptions): Promise<ActionScores> {
  const { engine, method, state, config, facts, test, loading } = options;
  const { encoder, predictor, frames } = method.config;
  const { observations, conditions } = acInputs(method.config);
  const all = observedFrames(observations, method.modules.encoder.weights, encoder);
  const steps = frames - 1;
  const each = predictor.grid[0] * predictor.grid[1];
  const [batch] = all.shape;
  const apart = (x: Tensor): Tensor => reshape(x, [batch, steps, each, encoder.width]);
  const first = narrow(all, 1, 0, each);
  const truth = apart(narrow(all, 1, each, steps * each));
  const rolled = apart(rollOut(first, conditions, steps, method.modules.predictor.weights, predictor));
  const still = broadcastTo(expandDims(first, 1), truth.shape);
  const errors = (x: Tensor): Tensor => mean(abs(sub(x, truth)), [2, 3]); // [batch, steps]
  const outputs = { predicted: errors(rolled), still: errors(still) };
  const program = await engine.compile({ name: 'frames ahead', outputs }, state);
  const sums = { predicted: new Float64Array(steps), misled: new Float64Array(steps), still: new Float64Array(steps) };
  const add = (to: Float64Array, { data }: HostTensor): void => {
    for (let i = 0; i < data.length; i++) to[i % steps] += Number(data[i]);
  };
  let windows = 0;
  try {
    for await (const { fields, indices } of sampleBatches(
      test,
      episodeWindows(config, facts),
      config.train.batchSize,
      loading,
    )) {
      if (indices.length < 2) continue; // Nobody to be mistaken for.
      const own = await program.run(fields);
      const other = await program.run(ofOthers(fields));
      add(sums.predicted, own.outputs.predicted);
      add(sums.still, own.outputs.still);
      add(sums.misled, other.outputs.predicted);
      windows += indices.length;
    }
  } finally {
    await program.close();
  }
  if (windows === 0) throw new JepaError(`${test.name}: two readable windows or more are needed`);
  const at = (values: Float64Array, d: number): number => values[d] / windows;
  return {
    windows,
    ahead: Array.from({ length: steps }, (_, d) => ({
      predicted: at(sums.predicted, d),
      misled: at(sums.misled, d),
      still: at(sums.still, d),
    })),
  };
}

/** Every window with the actions of the next one of the batch, and with its states but for the first. */
function ofOthers(fields: Fields): Fields {
  const shifted = (name: string, kept: number): Fields => {
    const given = fields[name] as HostTensor<'float32'> | undefined;
    if (!given) return {};
    const { shape, data } = given;
    const row = data.length / shape[0];
    const width = row / shape[1];
    const turned = Float32Array.from(data, (_, i) =>
      i % row < kept * width ? data[i] : data[(i + row) % data.length],
    );
    return { [name]: { dtype: 'float32', shape, data: turned } };
  };
  return { ...fields, ...shifted(ACTIONS, 0), ...shifted(STATES, 1) };
}
