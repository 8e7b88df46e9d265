import type { Random } from '../../base/random.js';
import { float32 } from '../../base/tensor.js';
import { add } from '../../graph/ops/elementwise.js';
import { mseLoss } from '../../graph/ops/losses.js';
import { broadcastTo, concat, expandDims, narrow, reshape } from '../../graph/ops/move.js';
import { input, type Tensor } from '../../graph/tensor.js';
import { mlpForward, mlpOnHost, mlpSpec } from '../../nn/mlp.js';
import { type Module, makeModule } from '../../nn/weights.js';
import { createFit } from '../../optim/fit.js';
import { rollOutPlans } from '../../world/planning/objectives.js';
import type { LifeRun } from '../life.js';
import type { WorldModel } from '../world-model.js';
import { distance } from './ways.js';

/** Foresight of somebody who sees representations: a network that foretells what follows an action. */

/** What was seen, done and seen then. */
export interface Deed {
  readonly s: Float64Array;
  readonly a: Float64Array;
  readonly next: Float64Array;
  readonly episode: number;
  readonly time: number;
}

export interface Foresight {
  /** Rolls out many plans in the engine, up to the horizon that was given. */
  readonly model: WorldModel;
  /** Learns from stretches of what happened, along which it foretells from its own predictions. */
  learn(deeds: readonly Deed[], updates: number, random: Random): Promise<void>;
  close(): Promise<void>;
}

/** Deeds of an episode. */
export const EPISODE = 40;
/** Steps that the model is trained to foretell, as far as its error is measured, and stretches of an update. */
const [AHEAD, BATCH] = [8, 128];
/** Share of the mean of weights that stays at an update. */
const SETTLING = 0.998;

/** Opens a model of representations of `width` numbers that knows nothing yet. */
export async function openForesight(run: LifeRun, width: number, horizon: number): Promise<Foresight> {
  // What is used is the mean of the last weights: it errs less than any of them, at a rate that does not fall.
  const [net, settled] = ['model.', 'settled.'].map((prefix) =>
    makeModule(prefix, mlpSpec([width + 2, 96, 96, width])),
  );
  const stepOf =
    ({ weights }: Module) =>
    (s: Tensor, a: Tensor): Tensor =>
      add(s, mlpForward(concat([s, a], 1), weights, 3));
  const [begin, deeds] = [input('begin', ['batch', width]), input('actions', ['batch', AHEAD, 2])];
  const truth = input('truth', ['batch', AHEAD, width]);
  const along = reshape(rollOutPlans(begin, expandDims(deeds, 1), stepOf(net)), [begin.shape[0], AHEAD + 1, width]);
  const fit = await createFit(await run.engine(), {
    name: 'model',
    modules: [net, settled],
    learn: [...net.tensors.values()],
    followers: [...settled.tensors].map(([name, target]) => ({ target, online: net.tensors.get(name) as Tensor })),
    momentum: SETTLING,
    loss: mseLoss(narrow(along, 1, 1, AHEAD), truth),
    seed: run.seed,
    lr: 1e-3,
  });
  const now = broadcastTo(expandDims(input('now', [width]), 0), ['batch', width]);
  const plans = expandDims(input('plans', ['batch', horizon, 2]), 1);
  const courses = rollOutPlans(now, plans, stepOf(settled));
  const rolling = await fit.program('roll-out', {
    states: narrow(reshape(courses, [courses.shape[0], horizon + 1, width]), 1, 1, horizon),
  });
  let predictor = mlpOnHost(await fit.state.read(), 'settled.', 3);
  const model: WorldModel = {
    predict: (state, action) => {
      const change = predictor(Float64Array.of(...Array.from(state), ...Array.from(action)));
      return change.map((v, i) => state[i] + v);
    },
    async rollOut(state, { shape: [count, length], data }) {
      // The graph has the longest horizon; what a shorter plan lacks is rest, and is cut off again.
      const padded = new Float32Array(count * horizon * 2);
      for (let i = 0; i < count; i++) padded.set(data.subarray(i * length * 2, (i + 1) * length * 2), i * horizon * 2);
      const { outputs } = await rolling.run({
        now: float32([width], Float32Array.from(state)),
        plans: float32([count, horizon, 2], padded),
      });
      const all = outputs.states.data as Float32Array;
      const states = new Float32Array(count * length * width);
      for (let i = 0; i < count; i++)
        states.set(all.subarray(i * horizon * width, (i * horizon + length) * width), i * length * width);
      return states;
    },
  };

  return {
    model,
    async learn(deeds, updates, random) {
      const begins = deeds.flatMap(({ time }, i) => (time + AHEAD <= EPISODE && i + AHEAD <= deeds.length ? [i] : []));
      for (let i = 0; i < updates; i++) {
        run.signal.throwIfAborted();
        const drawn = Array.from({ length: BATCH }, () => begins[random.integer(begins.length)]);
        const stretch = (of: (deed: Deed) => Float64Array): Float32Array =>
          Float32Array.from(drawn.flatMap((at) => deeds.slice(at, at + AHEAD).flatMap((deed) => [...of(deed)])));
        const [actions, followed] = [stretch(({ a }) => a), stretch(({ next }) => next)];
        await fit.step({
          begin: float32([BATCH, width], Float32Array.from(drawn.flatMap((at) => [...deeds[at].s]))),
          actions: float32([BATCH, AHEAD, 2], actions),
          truth: float32([BATCH, AHEAD, width], followed),
        });
        await run.step();
      }
      predictor = mlpOnHost(await fit.state.read(), 'settled.', 3);
    },
    async close() {
      await rolling.close();
      await fit.close();
    },
  };
}

/** Error of roll-outs of 8 steps along what was really done, as a share of that of standing still. */
export function rollOutError(model: WorldModel, deeds: readonly Deed[]): number {
  let [own, still] = [0, 0];
  for (let i = 0; i + AHEAD <= deeds.length; i++) {
    if (deeds[i].time + AHEAD > EPISODE) continue;
    let state = deeds[i].s;
    for (let k = 0; k < AHEAD; k++) state = model.predict(state, deeds[i + k].a);
    own += distance(state, deeds[i + AHEAD - 1].next) ** 2;
    still += distance(deeds[i].s, deeds[i + AHEAD - 1].next) ** 2;
  }
  return Math.sqrt(own / still);
}
