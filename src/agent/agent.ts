import { type Actor, type Deliberation, distil } from './actor.js';
import { type Configuration, type Configurator, configurationOf, type Limits, type Wish } from './configurator.js';
import { type CostModule, type CostReport, type CriticTarget, criticExamples } from './cost.js';
import { type ShieldVerdict, shield } from './guardrails.js';
import type { AssociativeMemory, EpisodicLog } from './memory.js';
import type { Perceived } from './perception.js';

/** The agent: six modules in one loop (LeCun 2022, figure 2). Each is a file of its own and can be replaced alone. */
export interface AgentModules<P> {
  /** Perception: what is shown, to an estimate of the state; told of the last action and primed by the last tokens. */
  readonly perceive: (
    percept: P,
    action: Float64Array | undefined,
    tokens: Configuration['tokens'],
  ) => Perceived | Promise<Perceived>;
  readonly cost: CostModule;
  readonly actor: Actor;
  readonly log: EpisodicLog;
  /** Where Mode 1 recalls from; tells how well a situation is known. */
  readonly memory: AssociativeMemory;
  /** What memory is asked with: by default the state itself. */
  readonly key?: (state: Float64Array, subgoal?: Float64Array) => ArrayLike<number>;
  readonly configurator: Configurator;
  readonly limits: Omit<Limits, 'intrinsic'>;
  /** Actions that the shield may take instead, and what is safe in a state whatever happens (stop, retreat). */
  readonly otherActions: readonly ArrayLike<number>[];
  readonly fallback: (state: Float64Array) => ArrayLike<number>;
  /** States that may follow, for the shield; by default what the actor's model expects. */
  readonly outcomes?: (state: Float64Array, action: ArrayLike<number>) => readonly ArrayLike<number>[];
  readonly learning?: Learning;
}

/** What is learned while living; nothing by default. */
export interface Learning {
  /** Corrects the world model by what followed an action. */
  readonly model?: (state: Float64Array, action: Float64Array, next: Float64Array) => void;
  /** All critics learn anew from the log, every so many steps. */
  readonly critics?: { readonly every: number; readonly target: CriticTarget };
  /** What Mode 2 did is written into the memory that Mode 1 recalls from. */
  readonly distil?: boolean;
}

/** Everything that happened in one step, to be looked at. */
export interface AgentStep {
  readonly time: number;
  readonly perceived: Perceived;
  readonly state: Float64Array;
  readonly surprise: number;
  /** How well memory knew the situation, 0 to 1, and how many it holds. */
  readonly known: number;
  readonly remembered: number;
  readonly cost: CostReport & { readonly intrinsic: number; readonly critic: number };
  readonly configuration: Configuration;
  readonly mode: 1 | 2;
  /** Of Mode 2. */
  readonly deliberation?: Deliberation;
  readonly shield: ShieldVerdict;
  readonly action: Float64Array;
}

export interface Agent<P> {
  step(percept: P): Promise<AgentStep>;
  /** A new episode: nothing that was expected or planned holds any more. */
  reset(): void;
}

export function createAgent<P>(modules: AgentModules<P>): Agent<P> {
  const { perceive, cost, actor, log, memory, configurator, limits, otherActions, fallback, learning = {} } = modules;
  const key = modules.key ?? ((state) => state);
  const outcomes = modules.outcomes ?? ((state, action) => [actor.model.predict(state, action)]);
  // A diary that somebody else began is gone on with.
  let [episode, time, lived] = [(log.moments().at(-1)?.episode ?? -1) + 1, 0, 0];
  /** The step before: its state and action, what was to follow, and how perception was primed. */
  let last: { state: Float64Array; action: Float64Array; expected: Float64Array } | undefined;
  let tokens: Configuration['tokens'] = {};

  return {
    reset() {
      [episode, time, last] = [episode + 1, 0, undefined];
      actor.forget();
    },
    async step(percept) {
      // 1. Perception; the world model learns from how far the world was from what it had expected.
      const perceived = await perceive(percept, last?.action, tokens);
      const { state } = perceived;
      const surprise = last ? distance(state, last.expected) : Number.NaN;
      if (last) learning.model?.(last.state, last.action, state);
      const felt = cost.intrinsic.evaluate(state, last?.action);
      const known = (subgoal?: Float64Array): number => memory.read(key(state, subgoal)).known;
      const configured = (wish: Wish): Configuration => configurationOf(wish, { ...limits, intrinsic: cost.intrinsic });
      const promise = (wish: Wish): number => actor.promise(state, cost, configured(wish));
      const configuration = configured(configurator.configure({ time, state, cost: felt, surprise, known, promise }));
      const { subgoal, mode: wanted, guardrails, u, v } = configuration;
      tokens = configuration.tokens;
      // 2. to 5. Proposal, simulation, evaluation, planning: Mode 2. Mode 1 does without.
      const mode = wanted === 1 && actor.hasPolicy ? 1 : 2;
      const deliberation = mode === 2 ? await actor.deliberate(state, cost, configuration) : undefined;
      const chosen = deliberation ? deliberation.plan.actions[0] : actor.react(state, subgoal).action;
      // 6. Acting, past the guardrails.
      const verdict = shield(guardrails, (a) => outcomes(state, a), chosen, otherActions, fallback(state));
      const { action } = verdict;
      // 7. Memory: the state and what it cost, for the critics.
      const report = cost.evaluate(state, last?.action, u, v);
      const step: AgentStep = {
        time,
        perceived,
        state,
        surprise,
        known: known(subgoal),
        remembered: memory.size,
        cost: report,
        configuration,
        mode,
        deliberation,
        shield: verdict,
        action,
      };
      // The log has the plain intrinsic cost: with weights in it the critic would learn the configurator's moods.
      log.append({ episode, time, state, action, intrinsic: felt.total, critic: report.critic, surprise, real: true });
      if (learning.distil && mode === 2) distil(memory, key(state, subgoal), action);
      if (learning.critics && ++lived % learning.critics.every === 0) learnCritics(cost, log, learning.critics.target);
      last = { state, action, expected: actor.model.predict(state, action) };
      time++;
      return step;
    },
  };
}

/** All critics learn anew from what the log holds; those of a log that is still too short stay as they are. */
export function learnCritics(cost: CostModule, log: EpisodicLog, target: CriticTarget): void {
  const examples = criticExamples(log.moments(), target);
  if (examples.length > 0) for (const critic of Object.values(cost.critics)) critic.learn(examples);
}

const distance = (a: Float64Array, b: Float64Array): number => Math.sqrt(a.reduce((d, v, i) => d + (v - b[i]) ** 2, 0));
