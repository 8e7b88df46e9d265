import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { stripPrefixes } from './ijepa-names.js';
import { isTorchTensor, type TorchValue } from './pth.js';
import type { StoredTensor } from './raw.js';

/** What the readers of all checkpoints of PyTorch have in common. */

/** Tensors of a state dict by name. */
export type State = ReadonlyMap<string, StoredTensor>;

/** A state dict with the prefixes of wrappers removed; `what` is for messages. */
export function stateOf(value: TorchValue | undefined, what: string): Map<string, StoredTensor> {
  if (!(value instanceof Map)) throw new JepaError(`${what}: a state dict was expected`);
  const state = new Map(
    Array.from(value, ([name, tensor]): [string, StoredTensor] => {
      if (typeof name !== 'string' || !isTorchTensor(tensor))
        throw new JepaError(`${what}: entry ${quoted(String(name))} of the state dict is not a tensor`);
      return [name, tensor];
    }),
  );
  return stripPrefixes(state, what);
}

/** The shape of a tensor that tells something about the model; it must be there and have `rank` dimensions. */
export function shapeIn(state: State, name: string, rank: number, what: string): readonly number[] {
  const shape = state.get(name)?.shape;
  if (!shape)
    throw new JepaError(
      `${what}: no ${name}; the names start with ${[...state.keys()].slice(0, 4).map(quoted).join(', ')}`,
    );
  if (shape.length !== rank)
    throw new JepaError(`${what}: ${name} is ${quoted(shape)}, ${rank} dimensions were expected`);
  return shape;
}

/** How many different numbers follow `prefix.` in the names: blocks, mask tokens, levels. */
export function countIn(state: ReadonlyMap<string, unknown>, prefix: string): number {
  const start = `${prefix}.`;
  const numbers = Array.from(state.keys(), (name) =>
    name.startsWith(start) ? /^\d+(?=\.|$)/.exec(name.slice(start.length))?.[0] : undefined,
  );
  return new Set(numbers.filter((number) => number !== undefined)).size;
}

/**
 * Attention heads of weights of a width, which do not show them: those that were given, or those of a published model of that
 * width. Throws a `JepaError` that says how to give them (`option` of `jepa import`).
 */
export function headsOf(width: number, heads: number | undefined, what: string, option = '--heads'): number {
  if (heads === undefined)
    throw new JepaError(
      `${what}: weights of width ${width} do not tell the number of attention heads; say it (${option})`,
    );
  if (!Number.isInteger(heads) || width % heads !== 0)
    throw new JepaError(
      `${what}: weights of width ${width} cannot have ${heads} attention heads (${option}); it must divide the width`,
    );
  return heads;
}
