export { createEngine, type EngineOptions } from './engine.js';
export { evaluate } from './evaluate.js';
export type { Engine, Feeds, Profile, Program, ProgramSpec, RunResult, State } from './program.js';
export type { GroupHyper, UpdateRule, UpdateSpec, UpdateValues } from './update.js';
