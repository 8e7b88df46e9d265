import { sizeOf } from '../base/tensor.js';
import { type Backend, lowerGraph, reachable } from '../graph/lower.js';
import { encodeModel, joinChunks } from '../graph/onnx.js';
import { add, div, minimum, mul, sqrt, square } from '../graph/ops/elementwise.js';
import { concat, expandDims, reshape, split } from '../graph/ops/move.js';
import { sum } from '../graph/ops/reduce.js';
import { input, inScope, parameter, type Tensor } from '../graph/tensor.js';
import { follow, nameOf, type Plan } from './plan.js';
import { clipSetOf, type UpdateSpec, type UpdateValues } from './update.js';

/** A whole training step, or a part of it, as one graph: what an executor with a single session runs. */

/**
 * What a model does: `outputs` computes the outputs only; `step` also differentiates and updates. With micro-batches,
 * `accumulate` adds the gradients to sums, and `update` updates from these.
 */
export type ModelKind = 'outputs' | 'step' | 'accumulate' | 'update';

/** A model whose inputs and outputs have prefixes that say what they are: "feed x", "parameter w", "slot ...", ... */
export interface StepModel {
  readonly model: Uint8Array;
  readonly inputs: readonly string[];
  /** Inputs that have a next value among the outputs, called `next <input>`. */
  readonly renewed: readonly string[];
}

/** Tensors that are updated as one: all 1-D parameters of a group, or one parameter. */
interface Vector {
  readonly group: number;
  readonly members: readonly { readonly parameter: string; readonly size: number; readonly shape: readonly number[] }[];
  readonly shape: readonly number[];
}

export interface Slot {
  /** Input of the model that holds it. */
  readonly input: string;
  readonly slot: string;
  readonly vector: Vector;
}

export const outputName = (name: string): string => `output ${name}`;
export const feedName = (name: string): string => `feed ${name}`;
export const parameterName = (name: string): string => `parameter ${name}`;
export const nextName = (name: string): string => `next ${name}`;
export const sumName = (parameter: string): string => `sum ${parameter}`;
export const NORM = 'norm of the gradient';
const SCALE = 'scale of the gradient';
const BOUND = 'bound on the norm';
const MOMENTUM = 'momentum';
const REST = '1 - momentum';
const scalarName = (group: number, name: string): string => `${name} of group ${group}`;
/** Stands for "no bound": far above any norm whose square is finite. */
const NO_BOUND = 1e30;

/** The vectors in which parameters are updated: 1-D ones of a group together, because each is little work. */
function vectorsOf(plan: Plan, update: UpdateSpec): Vector[] {
  const vectors: Vector[] = [];
  const short = new Map<number, Vector['members'][number][]>();
  for (const { parameter: name, group, tensor } of plan.gradients) {
    const shape = tensor.shape as readonly number[];
    const member = { parameter: name, size: sizeOf(shape), shape };
    if (update.rule.wholeTensors || shape.length > 1) {
      vectors.push({ group, members: [member], shape: update.rule.wholeTensors ? [member.size] : shape });
    } else short.set(group, [...(short.get(group) ?? []), member]);
  }
  for (const [group, members] of short) {
    vectors.push({ group, members, shape: [members.reduce((size, m) => size + m.size, 0)] });
  }
  return vectors;
}

export function slotsOf(plan: Plan, update: UpdateSpec): Slot[] {
  return vectorsOf(plan, update).flatMap((vector) =>
    update.rule.slots.map((slot) => ({ input: slotName(slot, vector), slot, vector })),
  );
}
const slotName = (slot: string, vector: Vector): string =>
  `slot ${slot}/${vector.members[0].parameter}${vector.members.length > 1 ? ` and ${vector.members.length - 1} more` : ''}`;

/** Values of the scalar inputs of an update. `count` micro-batches were summed. */
export function updateScalars(update: UpdateSpec, values: UpdateValues, count: number): Record<string, number> {
  const scalars: Record<string, number> = {
    [SCALE]: 1 / count,
    [BOUND]: values.clipNorm !== undefined && values.clipNorm > 0 ? values.clipNorm : NO_BOUND,
    [MOMENTUM]: values.momentum,
    [REST]: 1 - values.momentum,
  };
  update.groups.forEach((_, group) => {
    const named = update.rule.scalarsAt(values.step, values.groups[group]);
    for (const name of update.rule.scalars) scalars[scalarName(group, name)] = named[name];
  });
  return scalars;
}

/** Builds one of a program's models. */
export function stepModel(plan: Plan, kind: ModelKind, backend: Backend): StepModel {
  const leaves = new Map<string, Tensor>();
  for (const { name, tensor } of plan.inputs) leaves.set(feedName(name), tensor);
  for (const { name, tensor } of plan.parameters) leaves.set(parameterName(name), tensor);
  const leaf = (
    name: string,
    shape: readonly number[],
    make: (name: string, shape: readonly number[]) => Tensor = input,
  ): Tensor => {
    const tensor = leaves.get(name) ?? make(name, shape);
    leaves.set(name, tensor);
    return tensor;
  };
  const outputs: { name: string; tensor: Tensor }[] = [];
  const renewed: string[] = [];
  const renew = (name: string, tensor: Tensor): void => {
    renewed.push(name);
    outputs.push({ name: nextName(name), tensor });
  };

  if (kind !== 'update') for (const { name, tensor } of plan.outputs) outputs.push({ name: outputName(name), tensor });
  const { update } = plan.spec;
  const sumOf = ({ parameter: name, tensor }: Plan['gradients'][number]): Tensor =>
    leaf(sumName(name), tensor.shape as readonly number[]);
  if (kind === 'accumulate') for (const g of plan.gradients) renew(sumName(g.parameter), add(sumOf(g), g.tensor));
  if (update && (kind === 'step' || kind === 'update')) {
    const gradients = new Map(plan.gradients.map((g) => [g.parameter, kind === 'step' ? g.tensor : sumOf(g)]));
    inScope('update', () => {
      addUpdate(plan, update, gradients, leaf, outputs, renew);
    });
  }

  const order = reachable(outputs.map((o) => o.tensor));
  const used = new Set(order);
  // Inputs stay even if nothing uses their values: others may need the sizes of their dimensions.
  const inputs = [...leaves]
    .filter(([name, tensor]) => used.has(tensor.node) || (kind !== 'update' && name.startsWith(feedName(''))))
    .map(([name, tensor]) => ({ name, tensor }));
  return {
    model: joinChunks(encodeModel(lowerGraph(inputs, outputs, order, backend)).model),
    inputs: inputs.map((i) => i.name),
    renewed,
  };
}

function addUpdate(
  plan: Plan,
  update: UpdateSpec,
  gradients: ReadonlyMap<string, Tensor>,
  leaf: (name: string, shape: readonly number[], make?: typeof parameter) => Tensor,
  outputs: { name: string; tensor: Tensor }[],
  renew: (name: string, tensor: Tensor) => void,
): void {
  const clipSets = clipSetOf(update);
  const sets = [...new Set(plan.gradients.map(({ group }) => clipSets[group]))].sort((a, b) => a - b);
  const squares = sets.map((set) =>
    sumOfSquares(
      plan.gradients.flatMap(({ group, parameter: name }) =>
        clipSets[group] === set ? [gradients.get(name) as Tensor] : [],
      ),
    ),
  );
  const normOf = (sum: Tensor): Tensor => mul(sqrt(sum), leaf(SCALE, []));
  outputs.push({ name: NORM, tensor: normOf(squares.reduce((a, b) => add(a, b))) });
  const scales = new Map(
    sets.map((set, i) => [set, mul(leaf(SCALE, []), minimum(1, div(leaf(BOUND, []), add(normOf(squares[i]), 1e-6))))]),
  );
  const renewed = new Map<string, Tensor>();
  for (const vector of vectorsOf(plan, update)) {
    const { group, members, shape } = vector;
    const join = (parts: readonly Tensor[]): Tensor =>
      parts.length > 1 || parts[0].shape.length !== shape.length
        ? concatenated(parts.map((t, i) => reshape(t, [members[i].size])))
        : parts[0];
    const old = join(members.map((m) => leaf(parameterName(m.parameter), m.shape, parameter)));
    const gradient = join(members.map((m) => gradients.get(m.parameter) as Tensor));
    const slots = Object.fromEntries(update.rule.slots.map((slot) => [slot, leaf(slotName(slot, vector), shape)]));
    const scalars = Object.fromEntries(update.rule.scalars.map((name) => [name, leaf(scalarName(group, name), [])]));
    const result = update.rule.update(old, mul(gradient, scales.get(clipSets[group]) as Tensor), slots, scalars);
    for (const slot of update.rule.slots) renew(slotName(slot, vector), result.slots[slot]);
    const parts =
      members.length > 1
        ? split(
            result.parameter,
            0,
            members.map((m) => m.size),
          )
        : [result.parameter];
    members.forEach((m, i) => {
      renewed.set(m.parameter, reshape(parts[i], m.shape));
    });
  }
  for (const [name, tensor] of renewed) renew(parameterName(name), tensor);
  for (const { target, online } of update.followers) {
    const shape = online.shape as readonly number[];
    const now = renewed.get(nameOf(online)) ?? leaf(parameterName(nameOf(online)), shape, parameter);
    const before = leaf(parameterName(nameOf(target)), shape, parameter);
    renew(parameterName(nameOf(target)), follow(before, now, leaf(MOMENTUM, []), leaf(REST, [])));
  }
}

const concatenated = (parts: readonly Tensor[]): Tensor => (parts.length > 1 ? concat(parts, 0) : parts[0]);

/** Rows are summed before rows are added up: one long float32 sum would lose digits. */
function sumOfSquares(gradients: readonly Tensor[]): Tensor {
  const sums = gradients.map((g) => {
    const squares = square(g);
    return expandDims(sum(squares.shape.length > 1 ? sum(squares, -1) : squares), 0);
  });
  return sum(concatenated(sums));
}
