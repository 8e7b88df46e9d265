import { float32, type HostTensor } from '../../src/base/tensor.js';
import { add, mul, relu, sub } from '../../src/graph/ops/elementwise.js';
import { gatherComputed, topk } from '../../src/graph/ops/index.js';
import { concat, expandDims, narrow, reshape, stack, transpose } from '../../src/graph/ops/move.js';
import { softmax } from '../../src/graph/ops/normalise.js';
import { linear } from '../../src/graph/ops/product.js';
import { argmax, max, mean, std, sum } from '../../src/graph/ops/reduce.js';
import { constant, input, stopGradient, type Tensor } from '../../src/graph/tensor.js';
import { gruPredictor } from '../../src/nn/gru.js';
import { impala } from '../../src/nn/impala.js';
import { under, type Weights } from '../../src/nn/weights.js';
import { adam } from '../../src/optim/adam.js';
import { rmsprop } from '../../src/optim/rmsprop.js';
import { sgd } from '../../src/optim/sgd.js';
import { evaluate } from '../../src/runtime/evaluate.js';
import { normalizePictures, twoRooms } from '../../src/world/envs/two-rooms.js';
import { openBatch } from '../../src/world/envs/world.js';
import { controller } from '../../src/world/planning/control.js';
import { augmentedLagrangian, descend, simplexProjection } from '../../src/world/planning/gradient.js';
import {
  controlPenalty,
  type Distance,
  goalDistances,
  type OverTime,
  overTime,
  rollOutPlans,
  type StepModel,
  weightedSum,
  weightedTimes,
} from '../../src/world/planning/objectives.js';
import {
  boxLimit,
  categoricalStep,
  cemStep,
  colouredNoise,
  type Distribution,
  mppiStep,
  normLimit,
  type PlanCost,
  type PlanLimit,
  predictiveSampling,
  type Searched,
} from '../../src/world/planning/sampling.js';
import { attempt, type Harness, readCases } from './harness.js';
import { goldenBackend } from './target.js';
import {
  checkGraph,
  compareWorld,
  EXACT,
  type Failures,
  type Leaves,
  rolesOf,
  type Tensors,
  type WorldCase,
} from './world-case.js';

type Config = WorldCase['config'];
type Roles = ReturnType<typeof rolesOf>;

// Objectives -----------------------------------------------------------------------------------------------------------

const overTimeOf = (summed: boolean, kept: boolean): OverTime =>
  summed ? (kept ? 'to-go' : 'sum') : kept ? 'each' : 'last';

function ebObjective(
  { given: { encodings, target } }: Leaves,
  { sum_all_diffs = false, keepdims = false }: Config,
): Tensors {
  const time = transpose(encodings, [0, 2, 1, 3, 4]);
  const goal = transpose(target, [0, 2, 1, 3, 4]);
  // Here the sum wins over keeping the times.
  return { cost: overTime(goalDistances(time, goal, 2), 1, overTimeOf(sum_all_diffs, keepdims && !sum_all_diffs)) };
}

const jepaWms =
  (distance: Distance) =>
  ({ given }: Leaves, { sum_all_diffs, keepdims, alpha }: Config): Tensors => {
    const part = (name: string): Tensor => goalDistances(given[name], given[`${name}_target`], 2, distance);
    return {
      cost: overTime(
        weightedSum([
          [1, part('visual')],
          [alpha, part('proprio')],
        ]),
        0,
        overTimeOf(sum_all_diffs, keepdims),
      ),
    };
  };

function dinoObjective({ given }: Leaves, { alpha, base, mode }: Config): Tensors {
  const part = (name: string): Tensor => {
    const distances = goalDistances(given[name], given[`${name}_target`], 2);
    return mode === 'all' ? weightedTimes(distances, 1, base) : overTime(distances, 1, 'last');
  };
  return {
    cost: weightedSum([
      [1, part('visual')],
      [alpha, part('proprio')],
    ]),
  };
}

function goalMse({ given: { pred, goal, actions } }: Leaves): Tensors {
  const times = goal.shape[1] as number;
  const last = expandDims(stopGradient(narrow(goal, 1, times - 1, 1)), 1);
  const distances = overTime(goalDistances(pred, last, 3), 2, 'last');
  const total = mul(distances, pred.shape[3] as number);
  const control = controlPenalty(actions);
  return {
    sum: total,
    mean: distances,
    control,
    weighted: weightedSum([
      [1, total],
      [0.3, control],
    ]),
  };
}

const OBJECTIVES: Record<string, (leaves: Leaves, config: Config) => Tensors> = {
  eb_repr_dist: ebObjective,
  jepa_wms_l2: jepaWms('squared'),
  jepa_wms_l1: jepaWms('absolute'),
  jepa_wms_cos: jepaWms('cosine'),
  dino_wm: dinoObjective,
  swm_goal_mse: goalMse,
  simplex_projection: ({ given: { x } }, { n }) => ({ y: simplexProjection(n)(x) }),
};

// Planners ---------------------------------------------------------------------------------------------------------------

/** A planner's graph, with what it computed by role and name. */
type Results = Record<string, Tensor>;

interface Case {
  readonly roles: Roles;
  readonly config: Config;
  readonly given: Tensors;
  readonly w: Weights;
  readonly rand: readonly Tensor[];
}

const linearModel =
  (w: Weights): StepModel =>
  (state, action) =>
    add(linear(state, w('A')), linear(action, w('B'), w('c')));

const stacked = (items: readonly Tensor[]): Tensor => stack(items, 0);
const alone = (x: Tensor): Tensor => reshape(x, x.shape.slice(1));
const filledLike = (shape: readonly number[], value: number): Tensor =>
  constant(float32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value)));

/** EB-JEPA's planners: one environment; noise and plans are [time, samples, numbers] there. */
function ebPlanner({ config, given, w, rand, roles }: Case): Results {
  const horizon = Math.min(config.plan_length, config.steps_left ?? config.plan_length);
  const gru = config.stack_sizes !== undefined;
  const state = gru ? encodePicture(w, given.obs, config) : reshape(given.obs, [1, -1]);
  const step: StepModel = gru
    ? (s, a) => gruPredictor(s, a, under(w, 'predictor.rnn.'), under(w, 'encoder.final_ln.'))
    : linearModel(w);
  const goal = reshape(given.target, [-1]);
  const cost: PlanCost = (plans) =>
    overTime(goalDistances(rollOutPlans(state, plans, step), goal, 3), 2, config.sum_all_diffs ? 'sum' : 'last');
  const cem = config.planner === 'CEMPlanner';
  const limit: PlanLimit | undefined = config.max_norms && normLimit(config.max_norms[0], true);
  let at: Distribution = {
    mean: filledLike([1, horizon, config.action_dim], 0),
    std: filledLike([1, horizon, config.action_dim], cem ? config.var_scale : config.max_std),
  };
  const means = [at.mean];
  const stds = [at.std];
  const found: (Searched & { weights?: Tensor })[] = [];
  for (let i = 0; i < config.n_iters; i++) {
    const noise = expandDims(transpose(rand[i], [1, 0, 2]), 0);
    const next = cem
      ? cemStep(at, noise, cost, { elites: config.num_elites, limit })
      : mppiStep(at, noise, cost, {
          elites: config.num_elites,
          temperature: config.temperature,
          rule: 'multiply',
          spread: 'weighted',
        });
    found.push(next);
    means.push(next.mean);
    stds.push(next.std);
    at = next;
  }
  const last = found[found.length - 1];
  const choice = roles.idx.choice ? Number(roles.idx.choice.data[0]) : 0;
  const chosen = narrow(last.elitePlans, 1, choice, 1);
  return {
    'out.actions': cem ? alone(at.mean) : reshape(chosen, [horizon, config.action_dim]),
    'out.losses': concat(
      found.map(({ eliteCosts }) => reshape(narrow(eliteCosts, 1, 0, 1), [1])),
      0,
    ),
    'out.elite_mean': concat(
      found.map(({ eliteCosts }) => mean(eliteCosts, 1)),
      0,
    ),
    'out.elite_std': concat(
      found.map(({ eliteCosts }) => std(eliteCosts, 1)),
      0,
    ),
    'traj.cost': concat(
      found.map(({ costs }) => costs),
      0,
    ),
    'traj.mean': concat(means, 0),
    'traj.std': concat(stds, 0),
    'idx.elites': concat(
      found.map(({ elites }) => elites),
      0,
    ),
    ...(last.weights && { 'traj.final_weights': alone(last.weights) }),
    ...(roles.idx.choice && { 'idx.choice': given.choice ? reshape(given.choice, [1]) : constant(int(choice)) }),
  };
}

const int = (value: number): HostTensor<'int32'> => ({ dtype: 'int32', shape: [1], data: Int32Array.of(value) });

/** A picture [1, channels, 1, height, width] -> its code [1, width]. */
function encodePicture(w: Weights, picture: Tensor, { image, stack_sizes, latent }: Config): Tensor {
  const config = { picture: image, widths: stack_sizes, blocks: 2, width: latent, finalNorm: true };
  return impala(reshape(picture, [1, ...image]), under(w, 'encoder.'), config);
}

/** The cost of stable-worldmodel's cases: squared distance of the last state, and the actions'. */
function swmCost({ config, given, w }: Case): { cost: PlanCost; states: (plans: Tensor) => Tensor } {
  const states = (plans: Tensor): Tensor => rollOutPlans(given.state, plans, linearModel(under(w, 'world.')));
  const goal = expandDims(given.goal, [1, 2]);
  const cost: PlanCost = (plans) => {
    const path = states(plans);
    const distances = overTime(goalDistances(path, goal, 3), 2, 'last');
    const far = mul(distances, path.shape[3] as number);
    // Choices have no effort: one-hot rows are all of one length.
    return config.n_actions === undefined
      ? weightedSum([
          [1, far],
          [0.05, controlPenalty(plans)],
        ])
      : far;
  };
  return { cost, states };
}

/** Given first steps, then zeros: [envs, horizon, width]. */
function started(init: Tensor | undefined, envs: number, horizon: number, width: number): Tensor {
  if (!init) return filledLike([envs, horizon, width], 0);
  const rest = horizon - (init.shape[1] as number);
  return rest > 0 ? concat([init, filledLike([envs, rest, width], 0)], 1) : init;
}

function swmSampling(family: string, each: Case, name: string): Results {
  const { config, given, rand } = each;
  const { cost } = swmCost(each);
  const { n_envs: envs, horizon, topk: elites, n_steps } = config;
  const width = config.action_dim * config.action_block;
  let at: Distribution = {
    // This one case stores first steps that its solver was not given.
    mean: started(name === 'swm_icem/mean' ? undefined : given.init, envs, horizon, width),
    std: filledLike([envs, horizon, width], config.var_scale),
  };
  const means = [at.mean];
  const found: Searched[] = [];
  let kept: Tensor | undefined;
  for (let i = 0; i < n_steps; i++) {
    let next: Searched;
    if (family === 'swm_mppi') {
      next = mppiStep(at, rand[i], cost, {
        elites,
        temperature: config.temperature,
        rule: 'divide',
        spread: 'fixed',
        meanFirst: true,
      });
    } else if (family === 'swm_icem') {
      const limit = boxLimit(config.low, config.high);
      const share = config.alpha;
      next = cemStep(at, rand[i], cost, { elites, limit, meanFirst: true, keepMean: share, keepStd: share }, kept);
      kept = narrow(next.elitePlans, 1, 0, Math.min(config.n_elite_keep, elites));
    } else next = cemStep(at, rand[i], cost, { elites, meanFirst: true });
    found.push(next);
    means.push(next.mean);
    at = next;
  }
  const last = found[found.length - 1];
  const best = config.return_mean === false;
  const mppi = family === 'swm_mppi';
  return {
    'out.actions': best ? reshape(narrow(last.elitePlans, 1, 0, 1), [envs, horizon, width]) : at.mean,
    'out.costs': best ? reshape(narrow(last.eliteCosts, 1, 0, 1), [envs]) : mean(last.eliteCosts, 1),
    'traj.cost': stacked(found.map(({ costs }) => costs)),
    'traj.mean': stacked(mppi ? means : means.slice(1)),
    'traj.var': stacked(found.map((f) => f.std)),
    'idx.elites': stacked(found.map((f) => f.elites)),
  };
}

const RULES: Record<string, () => ReturnType<typeof sgd>> = { sgd, adam, rmsprop };

/** The cheapest of the samples, by environment. */
function cheapest(plans: Tensor, costs: Tensor): { plan: Tensor; cost: Tensor; index: Tensor } {
  const { values, indices } = topk(costs, 1, 1, false);
  const [envs] = plans.shape;
  return {
    plan: reshape(gatherComputed(plans, indices), [envs, ...plans.shape.slice(2)]),
    cost: reshape(values, [envs]),
    index: indices,
  };
}

/** Samples about a first plan: itself, then with noise. */
const perturbed = (first: Tensor, noise: Tensor, scale: number): Tensor => {
  const own = expandDims(first, 1);
  return (noise.shape[1] as number) > 0 ? concat([own, add(own, mul(noise, scale))], 1) : own;
};

function swmGradient(each: Case): Results {
  const { config, given, rand } = each;
  const { cost } = swmCost(each);
  const width = config.action_dim * config.action_block;
  const first = started(given.init, config.n_envs, config.horizon, width);
  const { plans, history } = descend(perturbed(first, rand[0], config.var_scale), cost, {
    rule: RULES[config.optimizer](),
    lr: config.lr,
    steps: config.n_steps,
    clip: config.grad_clip,
    noise: rand.slice(1),
    noiseScale: config.action_noise ?? 0,
  });
  const chosen = cheapest(plans, cost(plans));
  return {
    'out.actions': chosen.plan,
    'out.costs': chosen.cost,
    'traj.cost': stacked(history.map(({ costs }) => costs)),
    'traj.params': stacked([...history.map((step) => step.plans), plans]),
  };
}

function swmPgd(each: Case): Results {
  const { config, rand } = each;
  const { cost } = swmCost(each);
  const { n_actions: choices, action_block: block, n_envs: envs, horizon } = config;
  const first = started(undefined, envs, horizon, choices * block);
  const { plans } = descend(perturbed(first, rand[0], config.var_scale), cost, {
    rule: sgd(),
    lr: config.lr,
    steps: config.n_steps,
    noise: rand.slice(1),
    noiseScale: config.action_noise,
    project: simplexProjection(choices),
  });
  const chosen = cheapest(plans, cost(plans));
  return {
    'out.costs': chosen.cost,
    'traj.simplex': plans,
    'idx.actions': argmax(reshape(chosen.plan, [envs, horizon, block, choices]), -1),
  };
}

function swmCategorical(each: Case): Results {
  const { config, rand } = each;
  const { cost } = swmCost(each);
  const { n_envs: envs, horizon, action_block: block, n_actions: choices, topk: elites, smoothing, alpha } = config;
  let probabilities = filledLike([envs, horizon, block, choices], 1 / choices);
  const found = rand.map((uniform) => {
    const next = categoricalStep(probabilities, uniform, cost, { elites, smoothing, keep: alpha });
    probabilities = next.probabilities;
    return next;
  });
  return {
    'out.costs': mean(found[found.length - 1].eliteCosts, 1),
    'traj.cost': stacked(found.map(({ costs }) => costs)),
    'traj.probs': stacked(found.map((f) => f.probabilities)),
    'idx.elites': stacked(found.map((f) => f.elites)),
    'idx.actions': argmax(probabilities, -1),
  };
}

function swmPredictive(each: Case): Results {
  const { config, given, rand } = each;
  const { cost } = swmCost(each);
  const nominal = started(given.init, config.n_envs, config.horizon, config.action_dim * config.action_block);
  const { mean: best, costs, elites, eliteCosts } = predictiveSampling(nominal, rand[0], cost, config.noise_scale);
  return {
    'out.actions': best,
    'out.costs': reshape(eliteCosts, [config.n_envs]),
    'traj.cost': costs,
    'idx.best': reshape(elites, [config.n_envs]),
  };
}

function swmLagrangian(each: Case): Results {
  const { config, given, rand } = each;
  const { cost, states } = swmCost(each);
  const width = config.action_dim * config.action_block;
  const first = started(given.init, config.n_envs, config.horizon, width);
  const constraints = (plans: Tensor): Tensor => {
    const path = states(plans);
    const [envs, samples, times] = path.shape as number[];
    const coordinate = reshape(narrow(narrow(path, 2, times - 1, 1), 3, 0, 1), [envs, samples]);
    return stack([sub(mean(plans, [2, 3]), 0.1), sub(coordinate, 0.3)], 2);
  };
  const {
    plans,
    history,
    multipliers,
    constraints: broken,
  } = augmentedLagrangian(
    perturbed(first, filledLike([config.n_envs, config.num_samples - 1, config.horizon, width], 0), 0),
    cost,
    constraints,
    {
      rule: adam(),
      lr: 0.1,
      outer: config.n_outer_steps,
      inner: config.n_steps,
      penalty: config.rho_init,
      penaltyGrowth: config.rho_scale,
      penaltyMost: config.rho_max,
    },
  );
  if ((rand[0]?.shape[1] ?? 0) !== config.num_samples - 1) throw new Error('another number of samples');
  const final = cost(plans);
  const chosen = cheapest(plans, final);
  return {
    'out.actions': chosen.plan,
    'out.costs': chosen.cost,
    'out.lambdas': multipliers,
    'out.violation': reshape(mean(relu(broken)), [1]),
    'traj.cost': stacked([...history.map(({ costs }) => costs), final]),
    'traj.params': stacked([...history.map((step) => step.plans), plans]),
  };
}

/** Bounds of each number of an action, from groups of them. */
function bounds({ max_norms, max_norm_dims, action_dim }: Config): number[] {
  const limits = new Array<number>(action_dim).fill(Number.MAX_VALUE);
  max_norm_dims.forEach((dims: number[], group: number) => {
    for (const dim of dims) limits[dim] = max_norms[group];
  });
  return limits;
}

const boxOf = (config: Config): PlanLimit =>
  boxLimit(
    bounds(config).map((b) => -b),
    bounds(config),
  );

const lastDistance =
  (state: Tensor, goal: Tensor, model: StepModel): PlanCost =>
  (plans) =>
    overTime(goalDistances(rollOutPlans(state, plans, model), goal, 3), 2, 'last');

function jepaWmsSampling(name: string, { config, given, w, rand, roles }: Case): Results {
  const cost = lastDistance(reshape(given.obs, [1, -1]), reshape(given.target, [-1]), linearModel(w));
  const cem = name === 'jepa_wms_cem';
  const { horizon, action_dim: width, num_elites: elites } = config;
  let at: Distribution = {
    mean: filledLike([1, horizon, width], 0),
    std: filledLike([1, horizon, width], cem ? config.var_scale : config.max_std),
  };
  const visited = [at];
  const found: (Searched & { weights?: Tensor })[] = [];
  for (let i = 0; i < config.iterations; i++) {
    const noise = expandDims(transpose(rand[i], [1, 0, 2]), 0);
    const next = cem
      ? cemStep(at, noise, cost, {
          elites,
          meanFirst: true,
          limit: boxOf(config),
          keepMean: config.momentum_mean,
          keepStd: config.momentum_std,
        })
      : mppiStep(at, noise, cost, {
          elites,
          // The case says how it enters, not its value: the planner's own (0.5).
          temperature: 0.5,
          rule: 'multiply',
          spread: 'weighted',
        });
    found.push(next);
    visited.push(next);
    at = next;
  }
  const last = found[found.length - 1];
  const choice = roles.idx.choice ? Number(roles.idx.choice.data[0]) : 0;
  const picked = reshape(narrow(last.elitePlans, 1, choice, 1), [horizon, width]);
  return {
    'out.actions': cem ? alone(at.mean) : add(picked, mul(alone(at.std), rand[config.iterations])),
    'out.losses': concat(
      found.map(({ eliteCosts }) => reshape(narrow(eliteCosts, 1, 0, 1), [1])),
      0,
    ),
    'traj.cost': concat(
      found.map(({ costs }) => costs),
      0,
    ),
    'traj.mean': concat(
      visited.map((v) => v.mean),
      0,
    ),
    'traj.std': concat(
      visited.map((v) => v.std),
      0,
    ),
    'idx.elites': concat(
      found.map((f) => f.elites),
      0,
    ),
    ...(last.weights && { 'traj.final_weights': alone(last.weights) }),
    ...(roles.idx.choice && { 'idx.choice': constant(int(choice)) }),
  };
}

function jepaWmsGradient({ config, given, w, rand }: Case): Results {
  const cost = lastDistance(reshape(given.obs, [1, -1]), reshape(given.target, [-1]), linearModel(w));
  const { plans, history } = descend(expandDims(mul(rand[0], config.var_scale), 0), cost, {
    rule: sgd(),
    lr: config.lr,
    steps: config.iterations,
    noise: rand.slice(1).map((noise) => expandDims(noise, 0)),
    noiseScale: config.action_noise,
    project: boxOf(config),
  });
  return {
    'out.actions': reshape(plans, plans.shape.slice(2)),
    'out.losses': concat(
      history.map(({ costs }) => reshape(costs, [1])),
      0,
    ),
  };
}

/** Mean squared distance of states and of what the matrix P reads from them, at the last time. */
function dinoCost({ config, given, w }: Case): PlanCost {
  const state = reshape(given.obs, [config.n_evals, -1]);
  const goal = expandDims(reshape(given.goal, [config.n_evals, -1]), [1, 2]);
  return (plans) => {
    const path = rollOutPlans(state, plans, linearModel(under(w, 'world.')));
    const visual = overTime(goalDistances(path, goal, 3), 2, 'last');
    const proprio = overTime(goalDistances(linear(path, w('P')), linear(goal, w('P')), 3), 2, 'last');
    return weightedSum([
      [1, visual],
      [config.alpha ?? 1, proprio],
    ]);
  };
}

function dinoCem(each: Case): Results {
  const { config, given, rand } = each;
  const cost = dinoCost(each);
  const { n_evals: envs, horizon, action_dim: width, opt_steps, topk: elites } = config;
  let at: Distribution = {
    mean: started(given.init, envs, horizon, width),
    std: filledLike([envs, horizon, width], config.var_scale ?? 1),
  };
  for (let i = 0; i < opt_steps; i++) {
    const noise = stack(rand.slice(i * envs, (i + 1) * envs), 0);
    at = cemStep(at, noise, cost, { elites, meanFirst: true });
  }
  return { 'out.mu': at.mean, 'out.sigma': at.std };
}

function dinoGradient(each: Case): Results {
  const { config, given, rand } = each;
  const start = expandDims(concat([given.init, rand[0]], 1), 1);
  const { plans } = descend(start, dinoCost(each), {
    rule: sgd(),
    lr: config.lr,
    steps: config.opt_steps,
    noise: rand.slice(1).map((noise) => expandDims(noise, 1)),
    noiseScale: config.action_noise,
  });
  return { 'out.actions': reshape(plans, [config.n_evals, config.horizon, config.action_dim]) };
}

function pldm({ config, given, w, rand }: Case): Results {
  const goal = reshape(given.target, [-1]);
  const spread = Math.sqrt(config.noise_variance);
  const norm = Number(/norm <= ([\d.]+)/.exec(config.normalizer)?.[1]);
  let nominal = expandDims(given.U0, 0);
  const results: Results = {};
  for (const [i, obs] of [given.obs, given.obs2].entries()) {
    const cost: PlanCost = (plans) => {
      const distances = goalDistances(rollOutPlans(reshape(obs, [1, -1]), plans, linearModel(w)), goal, 3);
      return sum(narrow(distances, 2, 1, (distances.shape[2] as number) - 1), 2);
    };
    const at = { mean: nominal, std: filledLike(nominal.shape as number[], spread) };
    const next = mppiStep(at, expandDims(rand[i], 0), cost, {
      elites: config.num_samples,
      temperature: config.lambda,
      rule: 'divide',
      spread: 'fixed',
      control: config.lambda / config.noise_variance,
      limit: normLimit(norm),
    });
    results[`traj.cost${i}`] = alone(next.costs);
    // Weights in the order of the samples.
    const raw = mul(next.costs, -1 / config.lambda);
    const shifted = sub(raw, max(raw, 1, true));
    results[`traj.omega${i}`] = alone(softmax(shifted));
    results[`out.U${i}`] = alone(next.mean);
    const horizon = nominal.shape[1] as number;
    nominal = narrow(next.mean, 1, 1, horizon - 1);
  }
  return results;
}

const PLANNERS: Record<string, (each: Case, name: string) => Results> = {
  swm_cem: (each, name) => swmSampling('swm_cem', each, name),
  swm_icem: (each, name) => swmSampling('swm_icem', each, name),
  swm_mppi: (each, name) => swmSampling('swm_mppi', each, name),
  swm_gradient: swmGradient,
  swm_pgd: swmPgd,
  swm_categorical_cem: swmCategorical,
  swm_predictive_sampling: swmPredictive,
  swm_lagrangian: swmLagrangian,
  jepa_wms_cem: (each, name) => jepaWmsSampling(name, each),
  jepa_wms_mppi: (each, name) => jepaWmsSampling(name, each),
  jepa_wms_gd: jepaWmsGradient,
  jepa_wms_adam: jepaWmsGradient,
  dino_wm_cem: dinoCem,
  dino_wm_gd: dinoGradient,
  pldm_mppi: pldm,
};

/** Coloured noise of white noise [envs, samples, width, horizon], transposed. */
function colouredInputs(rand: Roles[string], { horizon, noise_beta }: Config): Roles[string] {
  return Object.fromEntries(
    Object.entries(rand).map(([key, white]) => {
      const [envs, samples, width] = white.shape;
      const { noise } = colouredNoise(white.data as Float32Array, horizon, noise_beta);
      const turned = new Float32Array(noise.length);
      for (let row = 0; row < envs * samples; row++)
        for (let a = 0; a < width; a++)
          for (let t = 0; t < horizon; t++)
            turned[(row * horizon + t) * width + a] = noise[(row * width + a) * horizon + t];
      return [key, float32([envs, samples, horizon, width], turned)];
    }),
  );
}

async function planned(
  name: string,
  roles: Roles,
  each: WorldCase,
  build: (c: Case, name: string) => Results,
): Promise<Failures> {
  const { in: given = {}, w = {}, rand: drawn = {}, out = {}, traj = {}, idx = {} } = roles;
  const rand = name.startsWith('swm_icem') ? colouredInputs(drawn, each.config) : drawn;
  const feeds = new Map<Tensor, HostTensor>();
  const leaf = (kind: string, values: Roles[string]): Record<string, Tensor> =>
    Object.fromEntries(
      Object.entries(values).map(([key, value]) => {
        const tensor = input(`${kind} ${key}`, value.shape, value.dtype as 'float32');
        feeds.set(tensor, value);
        return [key, tensor];
      }),
    );
  const [givenLeaves, weightLeaves, randLeaves] = [leaf('in', given), leaf('w', w), leaf('rand', rand)];
  const tied: Record<string, string> = each.config.tied ?? {};
  const weights: Weights = (key) => {
    const tensor = weightLeaves[key] ?? weightLeaves[tied[key]];
    if (!tensor) throw new Error(`the case has no weight ${key}`);
    return tensor;
  };
  const ordered = Object.keys(randLeaves)
    .sort((a, b) => Number(a) - Number(b))
    .map((key) => randLeaves[key]);
  const results = build({ roles, config: each.config, given: givenLeaves, w: weights, rand: ordered }, name);
  const wanted = [
    ...Object.keys(out).map((key) => `out.${key}`),
    ...Object.keys(traj).map((key) => `traj.${key}`),
    ...Object.keys(idx).map((key) => `idx.${key}`),
  ];
  const missing = wanted.filter((key) => !results[key]);
  if (missing.length > 0 || wanted.length === 0) return [`no ${missing}`];
  const got = await evaluate(Object.fromEntries(wanted.map((key) => [key, results[key]])), feeds, {
    backend: goldenBackend,
  });
  if (each.tolerance === 'exact') return ['a tolerance is needed'];
  const { out: outs, traj: trajectory = outs } = each.tolerance;
  return wanted.map((key) => {
    const [role, ...rest] = key.split('.');
    const expected = roles[role][rest.join('.')];
    return compareWorld(key, got[key], expected, role === 'idx' ? EXACT : role === 'traj' ? trajectory : outs);
  });
}

// Host --------------------------------------------------------------------------------------------------------------------

function coloured({ in: given, out }: Roles, each: WorldCase): Failures {
  const { coloured: plain, noise } = colouredNoise(
    given.white.data as Float32Array,
    each.config.horizon,
    each.config.beta,
  );
  if (each.tolerance === 'exact') return ['a tolerance is needed'];
  return [
    compareWorld('colored', { shape: given.white.shape, data: plain }, out.colored, each.tolerance.out),
    compareWorld('noise', { shape: given.white.shape, data: noise }, out.noise, each.tolerance.out),
  ];
}

/** Plans numbered by call, and what every call was asked. */
async function policy({ out }: Roles, { config }: WorldCase): Promise<Failures> {
  const {
    n_envs: count,
    action_dim: width,
    horizon,
    receding_horizon: receding,
    action_block: block,
    history_len: history,
  } = config;
  const calls = out.call_env.shape[0];
  const filled = (name: string): number[] => new Array<number>(out[name].data.length).fill(-1);
  const got: Record<string, number[]> = Object.fromEntries(Object.keys(out).map((name) => [name, filled(name)]));
  got.call_env.fill(0);
  let call = 0;
  let now = 0;
  const put = (name: string, env: number, values: ArrayLike<number>): void => {
    const each = out[name].data.length / (calls * count);
    for (let i = 0; i < values.length; i++) got[name][(call * count + env) * each + i] = values[i];
  };
  const { act } = controller<number>(
    { count, width, horizon, receding, block, warmStart: config.warm_start, history },
    async ({ envs, frames, past, start }) => {
      const size = horizon * block * width;
      const plans = envs.map((_, row) =>
        Float64Array.from({ length: size }, (_, i) => 1000 * (call + 1) + row * size + i),
      );
      got.call_step[call] = now;
      for (const [row, env] of envs.entries()) {
        put('call_env', env, [1]);
        put('call_plan', env, plans[row]);
        if (history > 1) {
          put('call_frames', env, frames[row]);
          put(
            'call_past',
            env,
            past[row].flatMap((p) => Array.from(p)),
          );
        }
        if (start) put('call_init', env, start[row]);
      }
      call++;
      return plans;
    },
  );
  const steps = out.actions.shape[0];
  const actions: number[] = [];
  for (now = 0; now < steps; now++) {
    const over = Array.from({ length: count }, (_, env) => now >= (config.dead_from[env] ?? Number.POSITIVE_INFINITY));
    const chosen = await act({
      frames: Array.from({ length: count }, (_, env) => now + 100 * env),
      begun: config.flush[now],
      over,
    });
    for (const action of chosen) actions.push(...(action ?? new Array<number>(width).fill(-1)));
  }
  got.actions = actions;
  if (call !== calls) return [`${call} plans instead of ${calls}`];
  return Object.keys(out).map((name) =>
    compareWorld(name, { shape: out[name].shape, data: got[name] }, out[name], EXACT),
  );
}

/** The loop of EB-JEPA's evaluation: render, normalise, encode, plan, act. */
async function closedLoop(roles: Roles, each: WorldCase): Promise<Failures> {
  const { config } = each;
  const { planner } = config;
  const batch = openBatch(twoRooms(), { count: 1, seed: 0, factors: { wall: config.wall_x, door: config.door_y } });
  batch.states.set(config.start);
  batch.goals.set(config.goal);
  const feedsOf = (
    extra: Record<string, HostTensor>,
  ): { leaves: Record<string, Tensor>; feeds: Map<Tensor, HostTensor> } => {
    const feeds = new Map<Tensor, HostTensor>();
    const leaves = Object.fromEntries(
      Object.entries({ ...roles.w, ...extra }).map(([key, value]) => {
        const tensor = input(key, value.shape);
        feeds.set(tensor, value);
        return [key, tensor];
      }),
    );
    return { leaves, feeds };
  };
  const picture = (bytes: Uint8Array): HostTensor => float32([1, ...config.image], normalizePictures(bytes));
  const weightsOf =
    (leaves: Record<string, Tensor>): Weights =>
    (key) =>
      leaves[key];
  const goalPicture = picture(batch.renderGoals());
  const goalGraph = feedsOf({ picture: goalPicture });
  const goal = await evaluate(
    { code: encodePicture(weightsOf(goalGraph.leaves), goalGraph.leaves.picture, config) },
    goalGraph.feeds,
    { backend: goldenBackend },
  );
  batch.step([0, 0]);
  const positions = [...batch.states];
  const actions: number[] = [];
  const losses: number[] = [];
  const allowed: number = config.n_allowed_steps;
  for (let t = 0, drawn = 0; t < allowed; t++) {
    const horizon = Math.min(planner.plan_length, allowed - t);
    const noise = Object.fromEntries(
      Array.from({ length: planner.n_iters }, (_, i) => [`rand ${i}`, roles.rand[drawn + i]]),
    );
    drawn += planner.n_iters;
    const target = float32([1, config.latent, 1, 1, 1], goal.code.data as Float32Array);
    const { leaves, feeds } = feedsOf({ obs: picture(batch.render()), target, ...noise });
    const results = ebPlanner({
      roles: { ...roles, idx: {} },
      config: {
        ...config,
        ...planner,
        planner: 'CEMPlanner',
        sum_all_diffs: planner.planning_objective.sum_all_diffs,
        action_dim: 2,
        steps_left: horizon,
      },
      given: leaves,
      w: weightsOf(leaves),
      rand: Array.from({ length: planner.n_iters }, (_, i) => leaves[`rand ${i}`]),
    });
    const got = await evaluate({ actions: results['out.actions'], losses: results['out.losses'] }, feeds, {
      backend: goldenBackend,
    });
    const action = Array.from(got.actions.data as Float32Array).slice(0, 2);
    actions.push(...action);
    losses.push(...(got.losses.data as Float32Array));
    batch.step(action);
    positions.push(...batch.states);
  }
  const { distances } = batch.outcome();
  if (each.tolerance === 'exact') return ['a tolerance is needed'];
  const { out } = each.tolerance;
  const values: Record<string, number[]> = {
    actions,
    losses,
    positions,
    distance: [distances[0]],
    goal_encoding: Array.from(goal.code.data as Float32Array),
  };
  return Object.keys(roles.out).map((key) =>
    compareWorld(key, values[key] && { shape: roles.out[key].shape, data: values[key] }, roles.out[key], out),
  );
}

async function check(folder: string, name: string, each: WorldCase): Promise<Failures> {
  const family = name.split('/')[0];
  const roles = rolesOf(folder, name, each.file);
  if (OBJECTIVES[family]) return checkGraph(roles, each, (leaves) => OBJECTIVES[family](leaves, each.config));
  if (family === 'colored_noise') return coloured(roles, each);
  if (family === 'swm_policy') return policy(roles, each);
  if (name === 'eb_closed_loop') return closedLoop(roles, each);
  if (/^eb_(cem|mppi)_/.test(name)) return planned(name, roles, each, ebPlanner);
  if (PLANNERS[family]) return planned(name, roles, each, PLANNERS[family]);
  return [`unknown case ${name}`];
}

const harness: Harness = async function* (folder) {
  for (const [name, each] of Object.entries(readCases<{ cases: Record<string, WorldCase> }>(folder).cases)) {
    yield await attempt(name, () => check(folder, name, each));
  }
};

export default harness;
