import assert from 'node:assert/strict';
import { test } from 'node:test';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { reachable } from '../../src/graph/lower.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { fillInit, normSpec } from '../../src/nn/transformer.js';
import { makeModule } from '../../src/nn/weights.js';
import { adam, adamw } from '../../src/optim/adam.js';
import { clipNorm, clipValues } from '../../src/optim/clip.js';
import { decayGroups } from '../../src/optim/groups.js';
import { lars } from '../../src/optim/lars.js';
import { sgd } from '../../src/optim/sgd.js';
import { evaluate, type GroupHyper, type UpdateRule } from '../../src/runtime/index.js';

type Vector = readonly number[];

interface RuleState {
  readonly parameter: Vector;
  readonly slots: Readonly<Record<string, Vector>>;
}

function graphOf(rule: UpdateRule): { leaves: Record<string, Tensor>; outputs: Record<string, Tensor> } {
  const leaf = (name: string, shape: readonly string[]): Tensor => input(name, shape);
  const parameter = leaf('parameter', ['n']);
  const gradient = leaf('gradient', ['n']);
  const slots = Object.fromEntries(rule.slots.map((name) => [name, leaf(`slot ${name}`, ['n'])]));
  const scalars = Object.fromEntries(rule.scalars.map((name) => [name, leaf(`scalar ${name}`, [])]));
  const result = rule.update(parameter, gradient, slots, scalars);
  const named = (prefix: string, tensors: Record<string, Tensor>): [string, Tensor][] =>
    Object.entries(tensors).map(([name, t]) => [`${prefix} ${name}`, t]);
  return {
    leaves: { parameter, gradient, ...Object.fromEntries([...named('slot', slots), ...named('scalar', scalars)]) },
    outputs: { 'new parameter': result.parameter, ...Object.fromEntries(named('new', result.slots)) },
  };
}

/** One update of a vector. */
async function step(
  rule: UpdateRule,
  state: RuleState,
  gradient: Vector,
  at: number,
  hyper: GroupHyper,
): Promise<RuleState> {
  const { leaves, outputs } = graphOf(rule);
  const scalars = rule.scalarsAt(at, hyper);
  const vector = (values: Vector): HostTensor => float32([values.length], values);
  const feeds = new Map<Tensor, HostTensor>();
  for (const [name, leaf] of Object.entries(leaves)) {
    const [kind, key] = name.split(' ');
    if (kind === 'slot') feeds.set(leaf, vector(state.slots[key] ?? state.parameter.map(() => 0)));
    else if (kind === 'scalar') feeds.set(leaf, float32([], [scalars[key]]));
    else feeds.set(leaf, vector(name === 'parameter' ? state.parameter : gradient));
  }
  const got = await evaluate(outputs, feeds);
  const values = (name: string): number[] => [...(got[`new ${name}`].data as Float32Array)];
  return { parameter: values('parameter'), slots: Object.fromEntries(rule.slots.map((name) => [name, values(name)])) };
}

const near = (got: Vector, expected: Vector, rtol = 1e-6): void => {
  assert.equal(got.length, expected.length);
  got.forEach((value, i) => {
    assert.ok(
      Math.abs(value - expected[i]) <= rtol * Math.abs(expected[i]) + 1e-9,
      `[${i}] ${value}, not ${expected[i]}`,
    );
  });
};

const start = (parameter: Vector): RuleState => ({ parameter, slots: {} });
const length = (values: Vector): number => Math.hypot(...values);

test('the first step of Adam has the size of the rate, whatever the gradient', async () => {
  const hyper = { lr: 0.1, weightDecay: 0.5 };
  const { parameter } = await step(adamw(), start([1, -2, 3]), [1e-3, -20, 5], 1, hyper);
  near(parameter, [1 * 0.95 - 0.1, -2 * 0.95 + 0.1, 3 * 0.95 - 0.1], 2e-6);
  const coupled = await step(adam(), start([1, -2, 3]), [1e-3, -20, -0.7], 1, hyper);
  near(coupled.parameter, [0.9, -1.9, 2.9], 2e-6);
  near(coupled.slots.m, [0.1 * 0.501, 0.1 * -21, 0.1 * 0.8], 1e-5);
});

test('groups may have betas and eps of their own', async () => {
  const rule = adamw({ betas: [0.9, 0.999], eps: 1e-8 });
  const hyper = { lr: 1, weightDecay: 0, betas: [0, 0] as const, eps: 1 };
  const { parameter } = await step(rule, start([0, 0]), [1, -3], 1, hyper);
  near(parameter, [-1 / 2, 3 / 4]);
});

test('an AdamW update takes at most 14 passes over the parameters, with the scaling of the gradient', () => {
  const { leaves, outputs } = graphOf(adamw());
  const passes = reachable(Object.values(outputs)).filter(
    (node) => !Object.values(leaves).some((t) => t.node === node),
  );
  assert.ok(passes.length <= 13, `${passes.length}: ${passes.map((node) => node.op.name)}`);
});

test('momentum sums gradients; dampening spares the first', async () => {
  const hyper = { lr: 0.1, weightDecay: 0 };
  const heavy = sgd({ momentum: 0.9 });
  const first = await step(heavy, start([0]), [1], 1, hyper);
  const second = await step(heavy, first, [1], 2, hyper);
  near([...first.parameter, ...second.parameter], [-0.1, -0.29]);
  const damped = sgd({ momentum: 0.5, dampening: 0.25 });
  const one = await step(damped, start([0]), [4], 1, hyper);
  const two = await step(damped, one, [4], 2, hyper);
  near([...one.slots.buffer, ...two.slots.buffer], [4, 5]);
  assert.throws(() => sgd({ nesterov: true }), /sgd: nesterov needs a positive momentum and no dampening, not 0 and 0/);
});

test('LARS moves a tensor by rate x trust x its norm, and a left out group as momentum does', async () => {
  const rule = lars({ trustCoefficient: 0.01 });
  const parameter = [3, -4, 12];
  const moved = await step(rule, start(parameter), [7, 1, -2], 1, { lr: 2, weightDecay: 0.3 });
  near([length(moved.parameter.map((v, i) => v - parameter[i]))], [2 * 0.01 * 13], 1e-5);
  const hyper = { lr: 2, weightDecay: 0.3, trustRatio: false };
  near((await step(rule, start(parameter), [7, 1, -2], 1, hyper)).parameter, [3 - 14, -4 - 2, 12 + 4]);
  const added = lars({ variant: 'norms-added', trustCoefficient: 0.01 });
  const still = await step(added, start(parameter), [0, 0, 0], 1, { lr: 2, weightDecay: 0.3 });
  near(still.parameter, parameter);
});

test('clipping', async () => {
  const plain = { lr: 1, weightDecay: 0 };
  const { parameter } = await step(clipValues(sgd(), 0.5), start([0, 0, 0]), [2, -0.1, -7], 1, plain);
  near(parameter, [-0.5, 0.1, 0.5]);
  const leaves = [input('a', [2]), input('b', [1])];
  const values = [float32([2], [3, 0]), float32([1], [-4])];
  for (const [bound, factor] of [
    [10, 1],
    [2, 0.4],
  ]) {
    const { norm, clipped } = clipNorm(leaves, bound);
    const got = await evaluate(
      { norm, first: clipped[0], second: clipped[1] },
      new Map(leaves.map((t, i) => [t, values[i]])),
    );
    near([...(got.norm.data as Float32Array)], [5]);
    near([...(got.first.data as Float32Array), ...(got.second.data as Float32Array)], [3 * factor, 0, -4 * factor]);
  }
});

test('biases, gains and fixed tables are not decayed', () => {
  const spec = new Map([
    ['table', { ...fillInit([1, 4, 2], 0), trainable: false }],
    ['proj.weight', fillInit([2, 2], 0)],
    ['proj.bias', fillInit([2], 0)],
    ['relative_position_bias_table', fillInit([9, 2], 0)],
    ...normSpec('norm', 2),
  ]);
  const module = makeModule('', spec);
  const names = (tensors: Tensor[]): string[] =>
    [...module.tensors].flatMap(([name, t]) => (tensors.includes(t) ? [name] : []));
  const { decay, noDecay } = decayGroups([module]);
  assert.deepEqual(names(decay), ['proj.weight']);
  assert.deepEqual(names(noDecay), ['proj.bias', 'relative_position_bias_table', 'norm.weight', 'norm.bias']);
});
