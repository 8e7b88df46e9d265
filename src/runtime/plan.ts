import { JepaError } from '../base/errors.js';
import { type HostTensor, sizeOf } from '../base/tensor.js';
import { gradients } from '../graph/autodiff.js';
import { type Dim, dimText, evaluateDim, mapDims, shapeText, symbolsOf } from '../graph/dims.js';
import { type Backend, lowerGraph, reachable } from '../graph/lower.js';
import { encodeModel, joinChunks } from '../graph/onnx.js';
import { add, mul } from '../graph/ops/elementwise.js';
import { checkRanges, collectRangeChecks } from '../graph/ops/index.js';
import { optimize } from '../graph/passes/optimize.js';
import { cutPhases } from '../graph/passes/phases.js';
import { batchAxis, type Placement } from '../graph/passes/placement.js';
import { type ExchangeAttrs, ROWS_INPUT, shardGraph, wholeBatch } from '../graph/passes/shard.js';
import {
  type DType,
  type InputAttrs,
  input,
  inputOperator,
  inScope,
  type Node,
  type Operator,
  parameterOperator,
  type Tensor,
} from '../graph/tensor.js';
import type { Feeds, ProgramSpec } from './program.js';
import { clipSetOf, MOST_CLIP_SETS, type UpdateRule } from './update.js';
import { PREVIOUS } from './worker-protocol.js';

/** A program's graph, differentiated, optimised and (for several workers) cut up: what every executor starts from. */
export interface Plan {
  readonly spec: ProgramSpec;
  readonly batch: string;
  readonly inputs: readonly { readonly name: string; readonly tensor: Tensor }[];
  readonly parameters: readonly { readonly name: string; readonly tensor: Tensor }[];
  readonly outputs: readonly { readonly name: string; readonly tensor: Tensor; readonly placement: Placement }[];
  /** Which of the outputs is minimised; -1 without an update. */
  readonly lossIndex: number;
  /** Gradients of the parameters that the loss reaches, with the group of each. */
  readonly gradients: readonly { readonly parameter: string; readonly group: number; readonly tensor: Tensor }[];
  readonly exchanges: readonly Tensor[];
  readonly sizes: ReadonlyMap<string, Dim>;
  /** The graph before it was cut up: inputs to outputs and gradients. */
  readonly whole: { readonly outputs: readonly Tensor[]; readonly gradients: readonly Tensor[] };
}

export function planProgram(spec: ProgramSpec, workers: number): Plan {
  const batch = spec.batch ?? 'batch';
  const named = Object.entries(spec.outputs);
  const trained = (spec.update?.groups ?? []).flatMap((group, index) =>
    group.map((tensor) => ({ tensor, group: index })),
  );
  const lossIndex = named.findIndex(([, tensor]) => tensor === spec.update?.loss);
  if (spec.update && lossIndex < 0) {
    throw new JepaError(`${spec.name}: the loss must be one of the program's outputs`);
  }
  if (spec.update && (clipSetOf(spec.update).includes(-1) || (spec.update.clipApart?.length ?? 0) > MOST_CLIP_SETS)) {
    throw new JepaError(
      `${spec.name}: every group must be in one of at most ${MOST_CLIP_SETS} sets that are clipped apart`,
    );
  }
  const all = spec.update
    ? gradients(
        spec.update.loss,
        trained.map((t) => t.tensor),
      )
    : [];
  const reached = trained.flatMap(({ tensor, group }, i) => {
    const gradient = all[i];
    return gradient ? [{ parameter: nameOf(tensor), group, tensor: gradient }] : [];
  });
  const optimized = optimize([...named.map(([, tensor]) => tensor), ...reached.map((g) => g.tensor)]);
  const whole = { outputs: optimized.slice(0, named.length), gradients: optimized.slice(named.length) };

  const { outputs, placements, exchanges, sizes, share } =
    workers > 1
      ? shardGraph(optimized, batch)
      : {
          outputs: optimized,
          placements: optimized.map(
            (t): Placement => (batchAxis(t.shape, batch) < 0 ? 'replicated' : batchAxis(t.shape, batch)),
          ),
          exchanges: [],
          sizes: new Map<string, Dim>(),
          share: undefined,
        };
  // Gradients are summed over workers: one that every worker has whole counts by its share.
  const parts = outputs.slice(named.length).map((gradient, i) => {
    if (!share || placements[named.length + i] === 'partial') return gradient;
    return inScope(gradient.node.scope, () => mul(gradient, share));
  });

  const leaves = (kind: Operator<InputAttrs>): { name: string; tensor: Tensor }[] =>
    reachable(optimized)
      .filter((node) => node.op === (kind as Operator))
      .map((node) => ({ name: (node.attrs as InputAttrs).name, tensor: node.outputs[0] }));
  return {
    spec,
    batch,
    inputs: unique(leaves(inputOperator), 'inputs', spec.name),
    parameters: unique(leaves(parameterOperator), 'parameters', spec.name),
    lossIndex,
    outputs: named.map(([name], i) => ({ name, tensor: outputs[i], placement: placements[i] })),
    gradients: reached.map((g, i) => ({ ...g, tensor: parts[i] })),
    exchanges,
    sizes,
    whole,
  };
}

/** Name of an input or parameter. */
export const nameOf = (leaf: Tensor): string => (leaf.node.attrs as InputAttrs).name;

function unique<T extends { name: string }>(leaves: T[], kind: string, program: string): T[] {
  const names = new Set<string>();
  for (const { name } of leaves) {
    if (names.has(name)) throw new JepaError(`${program}: two ${kind} are called ${name}`);
    names.add(name);
  }
  return leaves;
}

/** bool input of no other use than to have the size of the whole batch. */
export const WHOLE_INPUT = 'rows of the batch';

/** One session's model, with the names of the values that enter and leave it. */
export interface PhaseModel {
  readonly model: Uint8Array;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly exchanges: readonly { readonly value: string; readonly result: string; readonly attrs: ExchangeAttrs }[];
  /** Scope of each ONNX node, for profiles. */
  readonly scopes: ReadonlyMap<string, string>;
}

export interface PhaseModels {
  readonly phases: readonly PhaseModel[];
  readonly types: Readonly<Record<string, DType>>;
}

export const gradientName = (parameter: string): string => `gradient ${parameter}`;

export function buildPhases(plan: Plan, backend: Backend): PhaseModels {
  const finals = [
    ...plan.outputs.map(({ name, tensor }) => ({ name: `output ${name}`, tensor })),
    ...plan.gradients.map(({ parameter, tensor }) => ({ name: gradientName(parameter), tensor })),
  ];
  const types: Record<string, DType> = {};
  const carriedName = (t: Tensor): string => `value ${t.node.id}.${t.index}`;
  const cut = cutPhases(
    finals.map((f) => f.tensor),
    plan.exchanges,
  );
  const phases = cut.map((phase, p): PhaseModel => {
    const leaves = phase.nodes
      .filter((node) => node.op === (inputOperator as Operator) || node.op === (parameterOperator as Operator))
      .map((node) => ({ name: nameOf(node.outputs[0]), tensor: node.outputs[0] }));
    const carried = phase.carriedIn.map((tensor) => ({ name: carriedName(tensor), tensor }));
    const wanted = new Set<Tensor>(phase.produced);
    const outputs = [
      ...finals.filter(
        ({ tensor }) => wanted.has(tensor) || (p === cut.length - 1 && phase.carriedIn.includes(tensor)),
      ),
      ...cut.slice(p + 1).flatMap((later) => later.carriedIn.filter((t) => wanted.has(t))),
      ...phase.exchanges.map((e) => e.value),
    ].map((o) => ('node' in o ? { name: carriedName(o), tensor: o } : o));
    const distinct = [...new Map(outputs.map((o) => [o.name, o])).values()];
    const used = usedLeaves(
      distinct.map((o) => o.tensor),
      new Set(carried.map((c) => c.tensor)),
    );
    const given = [...leaves.filter((l) => used.has(l.tensor)), ...carried.filter((c) => used.has(c.tensor))];
    const inputs = [
      ...given,
      ...symbolInputs(
        plan,
        given,
        phase.nodes.filter((n) => used.has(n)),
      ),
    ];
    const nodes = phase.nodes.filter(
      (node) => node.op !== (inputOperator as Operator) && node.op !== (parameterOperator as Operator),
    );
    const graph = lowerGraph(
      inputs,
      distinct,
      [...inputs.map((i) => i.tensor.node), ...nodes.filter((n) => used.has(n))].filter(firstOnly()),
      backend,
    );
    for (const { name, tensor } of [...inputs, ...distinct]) types[name] = tensor.dtype;
    for (const e of phase.exchanges) types[carriedName(e.result)] = e.result.dtype;
    return {
      model: joinChunks(encodeModel(graph).model),
      inputs: inputs.map((i) => i.name),
      outputs: distinct.map((o) => o.name),
      exchanges: phase.exchanges.map((e) => ({
        value: carriedName(e.value),
        result: carriedName(e.result),
        attrs: e.attrs,
      })),
      scopes: graph.scopes,
    };
  });
  return { phases, types };
}

/** Inputs that a model needs only because a dimension of theirs is used: a phase may lack the values that had it. */
function symbolInputs(
  plan: Plan,
  inputs: readonly { readonly tensor: Tensor }[],
  nodes: readonly Node[],
): { name: string; tensor: Tensor }[] {
  const plain = (tensor: Tensor): string[] =>
    tensor.shape.flatMap((dim) =>
      symbolsOf(dim).length === 1 && symbolsOf(dim)[0] === dimText(dim) ? [dimText(dim)] : [],
    );
  const missing = new Set<string>();
  const need = (dim: Dim): Dim => {
    for (const symbol of symbolsOf(dim)) missing.add(symbol);
    return dim;
  };
  for (const node of nodes) {
    for (const t of node.outputs) t.shape.forEach(need);
    mapDims(node.attrs, need);
  }
  for (const { tensor } of inputs) for (const symbol of plain(tensor)) missing.delete(symbol);
  const sources = [
    { name: ROWS_INPUT, tensor: input(ROWS_INPUT, [plan.batch], 'int32') },
    { name: WHOLE_INPUT, tensor: input(WHOLE_INPUT, [wholeBatch(plan.batch)], 'bool') },
    ...plan.inputs,
  ];
  return sources.filter(({ tensor }) => plain(tensor).filter((symbol) => missing.delete(symbol)).length > 0);
}

const firstOnly = (): ((node: Node) => boolean) => {
  const seen = new Set<Node>();
  return (node) => !seen.has(node) && seen.add(node) !== undefined;
};

/** Leaves and nodes that outputs reach without looking behind `given` values. */
function usedLeaves(outputs: readonly Tensor[], given: ReadonlySet<Tensor>): Set<Tensor | Node> {
  const used = new Set<Tensor | Node>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const t = stack.pop() as Tensor;
    if (used.has(t)) continue;
    used.add(t);
    if (given.has(t)) continue;
    used.add(t.node);
    stack.push(...t.node.inputs);
  }
  return used;
}

/** The update of a vector of parameters as a model, with or without a follower. */
export function updateModel(rule: UpdateRule, following: boolean, backend: Backend): Uint8Array {
  const n = ['n'] as const;
  const parameter = input('parameter', n);
  const gradient = input('gradient', n);
  const scale = input('scale', []);
  const slots = Object.fromEntries(rule.slots.map((name) => [name, input(name, n)]));
  const scalars = Object.fromEntries(rule.scalars.map((name) => [name, input(name, [])]));
  const result = rule.update(parameter, mul(gradient, scale), slots, scalars);
  const outputs = [
    { name: 'parameter out', tensor: result.parameter },
    ...rule.slots.map((name) => ({ name: `${name} out`, tensor: result.slots[name] })),
  ];
  const leaves = [parameter, gradient, scale, ...Object.values(slots), ...Object.values(scalars)];
  if (following) {
    const target = input('target', n);
    const momentum = input('momentum', []);
    const rest = input('rest', []);
    outputs.push({ name: 'target out', tensor: follow(target, result.parameter, momentum, rest) });
    leaves.push(target, momentum, rest);
  }
  const inputs = leaves.map((tensor) => ({ name: nameOf(tensor), tensor }));
  return joinChunks(
    encodeModel(lowerGraph(inputs, outputs, reachable([...outputs.map((o) => o.tensor), ...leaves]), backend)).model,
  );
}

/** The step of a follower whose online parameter is not updated. */
export function followModel(backend: Backend): Uint8Array {
  const [target, online] = ['target', 'parameter'].map((name) => input(name, ['n']));
  const [momentum, rest] = ['momentum', 'rest'].map((name) => input(name, []));
  const inputs = [target, online, momentum, rest].map((tensor) => ({ name: nameOf(tensor), tensor }));
  const out = follow(target, online, momentum, rest);
  return joinChunks(
    encodeModel(lowerGraph(inputs, [{ name: 'target out', tensor: out }], reachable([out]), backend)).model,
  );
}

/** target <- momentum * target + (1 - momentum) * online. */
export const follow = (target: Tensor, online: Tensor, momentum: Tensor, rest: Tensor): Tensor =>
  add(mul(target, momentum), mul(online, rest));

/** Binds the symbols of the inputs' shapes; checks every input's presence, type, shape and range of indices. */
export function bindInputs(
  plan: Plan,
  checks: ReturnType<typeof collectRangeChecks>,
  feeds: Feeds,
): Map<string, number> {
  const symbols = new Map<string, number>();
  const program = plan.spec.name;
  for (const { name, tensor } of plan.inputs) {
    const value = feeds[name];
    if (!value) throw new JepaError(`${program}: no value was given for the input ${name} ${shapeText(tensor.shape)}`);
    const got = `${value.dtype} [${value.shape.join(', ')}]`;
    const expected = `${tensor.dtype} ${shapeText(tensor.shape)}`;
    if (value.dtype !== tensor.dtype || value.shape.length !== tensor.shape.length) {
      throw new JepaError(`${program}: the input ${name} is ${got}, but the program takes ${expected}`);
    }
    if (value.data.length !== sizeOf(value.shape)) {
      throw new JepaError(
        `${program}: the input ${name} holds ${value.data.length} values, too few or many for ${got}`,
      );
    }
    tensor.shape.forEach((dim, axis) => {
      if (
        typeof dim !== 'number' &&
        evaluateDim(dim, symbols) === undefined &&
        symbolsOf(dim).length === 1 &&
        symbolsOf(dim)[0] === dimText(dim)
      ) {
        symbols.set(dim.key, value.shape[axis]);
      }
    });
  }
  for (const { name, tensor } of plan.inputs) {
    const value = feeds[name] as HostTensor<DType>;
    tensor.shape.forEach((dim, axis) => {
      if (evaluateDim(dim, symbols) !== value.shape[axis]) {
        const bound = [...symbols].map(([s, v]) => `${s} = ${v}`).join(', ');
        throw new JepaError(
          `${program}: the input ${name} has shape [${value.shape.join(', ')}], but the program takes ${shapeText(tensor.shape)}${bound === '' ? '' : ` with ${bound}`}`,
        );
      }
    });
  }
  if (symbols.get(plan.batch) === 0) throw new JepaError(`${program}: the batch is empty (${plan.batch} = 0)`);
  checkRanges(checks, new Map(Object.entries(feeds)), symbols);
  return symbols;
}

export { collectRangeChecks };

/** The plan of a program that adds its gradients to inputs: `previous <gradient>`. */
export function addingPlan(plan: Plan): Plan {
  const gradients = plan.gradients.map((g) => {
    const previous = input(`${PREVIOUS}${gradientName(g.parameter)}`, g.tensor.shape);
    return { ...g, tensor: inScope(g.tensor.node.scope, () => add(g.tensor, previous)) };
  });
  return { ...plan, gradients };
}
