/** Worlds, models of them that know actions, and planners. */
export * from './collect.js';
export * from './distance.js';
export * from './envs/index.js';
export * from './envs/world.js';
export * from './episodes.js';
export * from './latent.js';
export * from './measure.js';
export * from './planning/control.js';
export * from './planning/discrete.js';
export * from './planning/gradient.js';
export * from './planning/objectives.js';
export * from './planning/planner.js';
export * from './planning/sampling.js';
export * from './play.js';
export * from './surprise.js';
export * from './variation.js';
export * from './world-model.js';
