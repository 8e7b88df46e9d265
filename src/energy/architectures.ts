import { square, sub } from '../graph/ops/elementwise.js';
import { mean } from '../graph/ops/reduce.js';
import { operatorError, type Tensor } from '../graph/tensor.js';

/**
 * The architectures whose ways of collapsing LeCun 2022, section 4.3 tells apart. With nothing to prevent it:
 * a generative model without latent cannot collapse; with a latent that can say everything its energy is flat;
 * an auto-encoder that learns the identity is flat too; a joint embedding becomes constant; a JEPA can do all of that.
 */
export type Architecture = 'generative' | 'latent-generative' | 'auto-encoder' | 'joint-embedding' | 'jepa';

export const ARCHITECTURES: readonly Architecture[] = [
  'generative',
  'latent-generative',
  'auto-encoder',
  'joint-embedding',
  'jepa',
];

/** The networks that an architecture is put together from; it must have those that it uses. */
export interface Parts {
  /** [batch, n] -> [batch, width] */
  readonly encodeX?: (x: Tensor) => Tensor;
  readonly encodeY?: (y: Tensor) => Tensor;
  /** Representation and latent -> y [batch, m]. */
  readonly decode?: (s: Tensor, z?: Tensor) => Tensor;
  /** Representation of x and latent -> representation of y. */
  readonly predict?: (s: Tensor, z?: Tensor) => Tensor;
  /** Amortised inference of the latent, from s_x and from s_y (or y where it has no representation). */
  readonly inferLatent?: (sx: Tensor, target: Tensor) => Tensor;
}

export interface PairEnergy {
  /** Mean squared distance of each pair [batch]. */
  readonly energy: Tensor;
  readonly sx?: Tensor;
  readonly sy?: Tensor;
  readonly z?: Tensor;
}

/** Energy of pairs x, y [batch, ...] under an architecture, with the representations and the latent that it went through. */
export function pairEnergy(architecture: Architecture, parts: Parts, x: Tensor, y: Tensor): PairEnergy {
  const part = <K extends keyof Parts>(name: K): NonNullable<Parts[K]> => {
    const found = parts[name];
    if (!found) throw operatorError('energy', `the architecture ${architecture} needs the part ${name}`, x, y);
    return found as NonNullable<Parts[K]>;
  };
  const distance = (a: Tensor, b: Tensor): Tensor => mean(square(sub(a, b)), -1);
  switch (architecture) {
    case 'generative': {
      const sx = part('encodeX')(x);
      return { energy: distance(part('decode')(sx), y), sx };
    }
    case 'latent-generative': {
      const sx = part('encodeX')(x);
      const z = part('inferLatent')(sx, y);
      return { energy: distance(part('decode')(sx, z), y), sx, z };
    }
    case 'auto-encoder': {
      const sy = part('encodeY')(y);
      return { energy: distance(part('decode')(sy), y), sy };
    }
    case 'joint-embedding': {
      const [sx, sy] = [part('encodeX')(x), part('encodeY')(y)];
      return { energy: distance(sx, sy), sx, sy };
    }
    case 'jepa': {
      const [sx, sy] = [part('encodeX')(x), part('encodeY')(y)];
      const z = parts.inferLatent?.(sx, sy);
      return { energy: distance(part('predict')(sx, z), sy), sx, sy, z };
    }
  }
}
