import type { Actor, Deliberation } from './actor.js';
import { type Configuration, type Configurator, configurationOf, type Limits } from './configurator.js';
import type { CostModule, CostReport } from './cost.js';
import { type ShieldVerdict, shield } from './guardrails.js';
import type { AssociativeMemory, EpisodicLog } from './memory.js';

/** The agent: six modules in one loop (LeCun 2022, figure 2). Each is a file of its own and can be replaced alone. */
export interface AgentModules {
  /** Perception: what is shown, to an estimate of the state; told of the last action. */
  readonly perceive: (percept: ArrayLike<number>, action?: Float64Array) => Float64Array;
  readonly cost: CostModule;
  readonly actor: Actor;
  readonly log: EpisodicLog;
  /** Where Mode 1 recalls from; tells how well a state is known. */
  readonly memory: AssociativeMemory;
  readonly configurator: Configurator;
  readonly limits: Omit<Limits, 'intrinsic'>;
  /** Actions that the shield may take instead, and what is always safe. */
  readonly otherActions: readonly ArrayLike<number>[];
  readonly fallback: ArrayLike<number>;
  /** States that may follow, for the shield; by default what the actor's model expects. */
  readonly outcomes?: (state: Float64Array, action: ArrayLike<number>) => readonly ArrayLike<number>[];
}

/** Everything that happened in one step, to be looked at. */
export interface AgentStep {
  readonly time: number;
  readonly state: Float64Array;
  readonly surprise: number;
  readonly cost: CostReport & { readonly intrinsic: number; readonly critic: number };
  readonly configuration: Configuration;
  readonly mode: 1 | 2;
  /** Of Mode 2. */
  readonly deliberation?: Deliberation;
  readonly shield: ShieldVerdict;
  readonly action: Float64Array;
}

export interface Agent {
  step(percept: ArrayLike<number>): Promise<AgentStep>;
  /** A new episode: nothing that was expected or planned holds any more. */
  reset(): void;
}

export function createAgent(modules: AgentModules): Agent {
  const { perceive, cost, actor, log, memory, configurator, limits, otherActions, fallback } = modules;
  let [episode, time] = [0, 0];
  let expected: Float64Array | undefined;
  let last: Float64Array | undefined;
  const distance = (a: Float64Array, b: Float64Array): number =>
    Math.sqrt(a.reduce((d, v, i) => d + (v - b[i]) ** 2, 0));
  const outcomes = modules.outcomes ?? ((state, action) => [actor.model.predict(state, action)]);

  return {
    reset() {
      [episode, time, expected, last] = [episode + 1, 0, undefined, undefined];
      actor.forget();
    },
    async step(percept) {
      // 1. Perception, and how far the world was from what had been expected.
      const state = perceive(percept, last);
      const surprise = expected ? distance(state, expected) : Number.NaN;
      const felt = cost.intrinsic.evaluate(state, last);
      const situation = { time, state, cost: felt, surprise, known: memory.read(state).known };
      const configuration = configurationOf(configurator.configure(situation), {
        ...limits,
        intrinsic: cost.intrinsic,
      });
      // 2. to 5. Proposal, simulation, evaluation, planning: Mode 2. Mode 1 does without.
      const mode = configuration.mode === 1 && actor.hasPolicy ? 1 : 2;
      const deliberation = mode === 2 ? await actor.deliberate(state, cost, configuration) : undefined;
      const wish = deliberation ? deliberation.plan.actions[0] : actor.react(state).action;
      // 6. Acting, past the guardrails.
      const verdict = shield(configuration.guardrails, (a) => outcomes(state, a), wish, otherActions, fallback);
      const { action } = verdict;
      // 7. Memory: the state and what it cost, for the critic.
      const report = cost.evaluate(state, last, configuration.u, configuration.v);
      // The log has the plain intrinsic cost: with weights in it the critic would learn the configurator's moods.
      log.append({ episode, time, state, action, intrinsic: felt.total, critic: report.critic, surprise, real: true });
      expected = actor.model.predict(state, action);
      last = action;
      return {
        time: time++,
        state,
        surprise,
        cost: report,
        configuration,
        mode,
        deliberation,
        shield: verdict,
        action,
      };
    },
  };
}
