import type { Engine } from '../runtime/program.js';
import type { Imagined } from './actor.js';
import type { AgentStep } from './agent.js';

/**
 * A life: the parts of an agent are trained one after the other, then it is measured beside others in the same world. What
 * happens is told frame by frame, to be shown while it happens and to be replayed afterwards.
 */

export type Point = readonly [x: number, y: number];

/** Where a life takes place, as a plane seen from above. */
export interface Stage {
  readonly width: number;
  readonly height: number;
  /** What lies still. A danger is one only while a frame says so. */
  readonly places: readonly Place[];
  /** Names of what moves, besides the agent. */
  readonly movers: readonly string[];
  /** Names of the terms of the cost; the critics' is the last. */
  readonly terms: readonly string[];
  /** Names of levels from 0 to 1. */
  readonly levels: readonly string[];
}

export interface Place {
  readonly name: string;
  readonly kind: 'goal' | 'danger' | 'wall';
  /** The middle; a disc has a radius, a box half its width and height. */
  readonly at: Point;
  readonly radius?: number;
  readonly half?: Point;
  /** The parts of a life in which it is there; by default all. */
  readonly parts?: readonly string[];
}

/** A course that was imagined. */
export interface ImaginedPath {
  readonly points: readonly Point[];
  readonly energy: number;
  /** Steps that break a guardrail. */
  readonly violations: number;
}

/** One step of the agent, as it is shown. */
export interface Frame {
  readonly episode: number;
  readonly time: number;
  /** Of the agent itself, to be kept; not of those that it is compared with. */
  readonly own: boolean;
  /** The part of the life that it belongs to, and the world's clock if there is one, in words. */
  readonly phase: string;
  readonly clock?: string;
  /** Where the agent was, and where it thought it was, with the deviation of that. */
  readonly place: Point;
  readonly believed: Point;
  readonly deviation?: number;
  readonly movers: readonly Point[];
  readonly danger: boolean;
  readonly levels: readonly number[];
  /** Sensors that spoke, if some may be silent. */
  readonly heard?: readonly string[];
  /** What the eye saw: rows of grey values from 0 to 255. */
  readonly picture?: { readonly side: number; readonly values: Uint8Array };
  readonly subgoal?: Point;
  readonly proposal?: ImaginedPath;
  readonly plan?: ImaginedPath;
  /** Plans that were imagined. */
  readonly tried: number;
  /** Energy of each term of the stage, weighted. */
  readonly costs: readonly number[];
  readonly mode: 1 | 2;
  readonly reason: string;
  readonly verdict: 'kept' | 'moved' | 'fallback';
  readonly broken: readonly string[];
  readonly action: readonly number[];
  readonly surprise: number;
  readonly known: number;
  readonly remembered: number;
  readonly capacity: number;
}

/** What only the world knows of a step, and how states are seen from above. */
export interface View
  extends Pick<
    Frame,
    'episode' | 'own' | 'phase' | 'clock' | 'place' | 'movers' | 'danger' | 'levels' | 'picture' | 'capacity'
  > {
  readonly at: (state: ArrayLike<number>) => Point;
  readonly stage: Stage;
}

/** A step of the agent as a frame. */
export function frameOf(step: AgentStep, { at, stage, ...view }: View): Frame {
  const { configuration, cost, deliberation, perceived, shield } = step;
  const path = (imagined: Imagined): ImaginedPath => ({
    points: imagined.states.map(at),
    energy: imagined.energy,
    violations: imagined.violations.steps,
  });
  return {
    ...view,
    time: step.time,
    believed: at(step.state),
    deviation: perceived.deviation && Math.hypot(perceived.deviation[0], perceived.deviation[1]),
    heard: perceived.heard,
    subgoal: configuration.subgoal && at(configuration.subgoal),
    proposal: deliberation && path(deliberation.proposal),
    plan: deliberation && path(deliberation.plan),
    tried: deliberation?.tried ?? 0,
    costs: stage.terms.map((name) =>
      name in cost.terms ? (configuration.u[name] ?? 1) * cost.terms[name] : cost.critic,
    ),
    mode: step.mode,
    reason: configuration.reason,
    verdict: shield.verdict,
    broken: shield.broken,
    action: [...step.action],
    surprise: step.surprise,
    known: step.known,
    remembered: step.remembered,
  };
}

/** How thought searches for plans (cross-entropy method), as recipes say it. */
export interface PlannerSettings {
  readonly horizon: number;
  readonly samples: number;
  readonly elites: number;
  readonly iterations: number;
}

/** Where habit will do, and what it recalls from, as recipes say it. */
export interface HabitSettings {
  /** How well a state must be known, and how far the world may be from what was expected. */
  readonly known: number;
  readonly surprise: number;
  /** Cost from which on the agent thinks. */
  readonly cost: number;
  readonly width: number;
  readonly capacity: number;
}

/** A column of the result. */
export interface Measure {
  readonly name: string;
  /** How it is counted, in words. */
  readonly about: string;
  /** What is better. */
  readonly better: 'less' | 'more' | 'neither';
  /** Shown as per cent. */
  readonly share?: boolean;
}

/** Somebody who lived: the agent, a variant of it, or a floor that any agent must be better than. */
export interface Lived {
  readonly name: string;
  readonly kind: 'agent' | 'variant' | 'floor';
  /** By the name of a measure; absent where it has no meaning. */
  readonly values: Readonly<Record<string, number>>;
}

/** What should come out, and whether it did. */
export interface Check {
  readonly claim: string;
  readonly value: number;
  readonly passed: boolean;
}

export interface LifeResult {
  readonly lived: readonly Lived[];
  /** What the parts learned before, each beside what it must be better than. */
  readonly learned: readonly { readonly part: string; readonly value: number; readonly beside: string }[];
  readonly checks: readonly Check[];
}

export interface LifeRun {
  readonly seed: number;
  /** Raised when the life should end: `live` then throws the signal's reason at the next step. */
  readonly signal: AbortSignal;
  /** A part of the life begins, of so many steps. */
  readonly phase: (name: string, steps: number) => void;
  /** A step of it was made; with its frame if it was the agent's. */
  readonly step: (frame?: Frame) => void | Promise<void>;
  /** For lives with networks; opened when it is first asked for. */
  readonly engine: () => Promise<Engine>;
}

export interface Life {
  readonly title: string;
  readonly about: string;
  readonly stage: Stage;
  readonly measures: readonly Measure[];
  live(run: LifeRun): Promise<LifeResult>;
}
