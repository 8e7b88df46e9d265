import { JepaError } from '../../base/errors.js';

/**
 * Planning while acting (stable-worldmodel, `policy.py`): a plan's first blocks of actions are carried out, then the next plan is
 * made, which may start from what the last one left over. Every environment runs at its own pace; those that need a plan at the
 * same time are planned for together.
 */
export interface ControlOptions {
  readonly count: number;
  /** Numbers of an action. */
  readonly width: number;
  /** Blocks of a plan, and how many of them are carried out before the next plan. */
  readonly horizon: number;
  readonly receding: number;
  /** Actions of a block: what the model takes as one step. */
  readonly block: number;
  /** The rest of a plan starts the next one. */
  readonly warmStart: boolean;
  /** Frames that the model sees, one a block. */
  readonly history: number;
}

/** What a planner is asked: one entry for each environment that needs a plan. */
export interface PlanRequest<F> {
  readonly envs: readonly number[];
  /** Frames at the last block boundaries, oldest first; where an episode is younger than others its first frame repeats. */
  readonly frames: readonly (readonly F[])[];
  /** Blocks of actions between those frames, [frames - 1][block * width]; 0 where there were none. */
  readonly past: readonly (readonly Float64Array[])[];
  /** What is left of the last plan, [rest * block * width] each; absent before the first plan and without a warm start. */
  readonly start?: readonly Float64Array[];
}

/** A plan [horizon * block * width] for each environment of a request. */
export type Plan<F> = (request: PlanRequest<F>) => Promise<readonly ArrayLike<number>[]>;

export interface ControlStep<F> {
  /** What every environment shows now. */
  readonly frames: readonly F[];
  /** Environments whose episode has just begun: plans and history of the last one are forgotten. */
  readonly begun?: readonly boolean[];
  /** Environments that need no action any more. */
  readonly over?: readonly boolean[];
}

export interface Controller<F> {
  /** The next action of every environment; undefined where it is over. */
  act(step: ControlStep<F>): Promise<(Float64Array | undefined)[]>;
}

interface Memory<F> {
  /** Frames with the action that led there. */
  entries: { readonly frame: F; readonly action: Float64Array }[];
  queue: Float64Array[];
  rest?: Float64Array;
  last: Float64Array;
}

export function controller<F>(options: ControlOptions, plan: Plan<F>): Controller<F> {
  const { count, width, horizon, receding, block, warmStart, history } = options;
  if (!(receding >= 1 && receding <= horizon))
    throw new JepaError(
      `control: ${receding} blocks of plans of ${horizon} cannot be carried out; set receding to 1 .. ${horizon}`,
    );
  const kept = (history - 1) * block + 1;
  const restSize = (horizon - receding) * block * width;
  const memories = Array.from(
    { length: count },
    (): Memory<F> => ({ entries: [], queue: [], last: new Float64Array(width) }),
  );
  let planned = false;

  const boundaries = ({ entries }: Memory<F>): number => Math.floor((entries.length - 1) / block) + 1;
  /** Entry `steps` before the newest. */
  const before = ({ entries }: Memory<F>, steps: number) => entries[entries.length - 1 - steps];

  function seen(memory: Memory<F>, frames: number): { frames: F[]; past: Float64Array[] } {
    const own = Math.min(frames, boundaries(memory));
    const real = Array.from({ length: own }, (_, i) => before(memory, (own - 1 - i) * block).frame);
    const blocks = Array.from({ length: own - 1 }, (_, i) => {
      const joined = new Float64Array(block * width);
      for (let k = 0; k < block; k++)
        joined.set(before(memory, (own - 2 - i) * block + block - 1 - k).action, k * width);
      return joined;
    });
    const missing = frames - own;
    return {
      frames: [...Array<F>(missing).fill(real[0]), ...real],
      past: [...Array.from({ length: missing }, () => new Float64Array(block * width)), ...blocks],
    };
  }

  async function replan(envs: readonly number[]): Promise<void> {
    const mine = envs.map((env) => memories[env]);
    const frames = Math.min(history, Math.max(...mine.map(boundaries)));
    const views = mine.map((memory) => seen(memory, frames));
    const start =
      warmStart && planned && restSize > 0 ? mine.map(({ rest }) => rest ?? new Float64Array(restSize)) : undefined;
    const plans = await plan({
      envs,
      frames: views.map((view) => view.frames),
      past: views.map((view) => view.past),
      start,
    });
    planned = true;
    for (const [i, memory] of mine.entries()) {
      const all = Float64Array.from(plans[i]);
      if (all.length !== horizon * block * width)
        throw new JepaError(`control: a plan of ${all.length} numbers is not ${horizon} x ${block} x ${width}`);
      for (let a = 0; a < receding * block; a++) memory.queue.push(all.slice(a * width, (a + 1) * width));
      if (warmStart) memory.rest = all.slice(receding * block * width);
    }
  }

  return {
    async act({ frames, begun, over }) {
      for (const [env, memory] of memories.entries()) {
        if (begun?.[env]) {
          memory.queue = [];
          memory.rest = undefined;
          memory.entries = [];
          memory.last = new Float64Array(width);
        }
        memory.entries.push({ frame: frames[env], action: memory.last });
        if (memory.entries.length > kept) memory.entries.shift();
      }
      const needed = memories.flatMap(({ queue }, env) => (queue.length === 0 && !over?.[env] ? [env] : []));
      if (needed.length > 0) await replan(needed);
      return memories.map((memory, env) => {
        if (over?.[env]) return undefined;
        memory.last = memory.queue.shift() as Float64Array;
        return memory.last;
      });
    },
  };
}
