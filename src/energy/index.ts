/** The energy view: free energies, inference by descent, losses that shape energies, and what keeps them from collapse. */
export * from './architectures.js';
export * from './contrastive.js';
export * from './criteria.js';
export * from './free-energy.js';
export * from './infer.js';
export * from './latent.js';
