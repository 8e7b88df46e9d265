/** The autonomous agent: six modules, each a file, and the loop that joins them. */
export * from './actor.js';
export * from './agent.js';
export * from './cem-planner.js';
export * from './configurator.js';
export * from './cost.js';
export * from './envs/homeostasis.js';
export * from './features.js';
export * from './guardrails.js';
export * from './life.js';
export * from './lives/day.js';
export * from './lives/shift.js';
export * from './lives/skill.js';
export * from './memory.js';
export * from './perception.js';
export * from './search.js';
export * from './world-model.js';
