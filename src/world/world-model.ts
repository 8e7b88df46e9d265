import { JepaError } from '../base/errors.js';
import { float32, sizeOf } from '../base/tensor.js';
import { ACTIONS, MOMENTS, OBSERVATIONS, TIMES } from '../data/episodes/preparation.js';
import { straightening } from '../energy/dynamics.js';
import { relaxedMinimum } from '../energy/free-energy.js';
import { EB_QUADRATURE, randomDirections, sigreg } from '../energy/sigreg.js';
import { mulDims } from '../graph/dims.js';
import { add, div, mul, relu, square, sub } from '../graph/ops/elementwise.js';
import { mseLoss } from '../graph/ops/losses.js';
import { broadcastTo, concat, expandDims, narrow, reshape, split, stack, transpose } from '../graph/ops/move.js';
import { mean, min } from '../graph/ops/reduce.js';
import { constant, input, scope, stopGradient, type Tensor } from '../graph/tensor.js';
import type { Encoder, Method, MethodBatch } from '../methods/method.js';
import { frameRepresentations } from '../methods/vjepa2-ac.js';
import { gruPredictor, gruSpec } from '../nn/gru.js';
import { type ImpalaConfig, impala, impalaSpec, STATE_NORM_EPS } from '../nn/impala.js';
import { cutPatches, spectralPool } from '../nn/patches.js';
import { reluStack, reluStackSpec } from '../nn/stacks.js';
import { norm, normSpec } from '../nn/transformer.js';
import { type VitConfig, vit, vitSpec } from '../nn/vit.js';
import { joined, type Module, type ModuleSpec, makeModule, type ParameterSpec, under } from '../nn/weights.js';
import { type DistanceConfig, distanceLoss, distanceSpec, potentialsOf } from './distance.js';
import { actionRegularizer } from './losses.js';
import type { StepModel } from './planning/objectives.js';
import { sceneLoss, sceneSpec, varianceWithin } from './scene.js';
import {
  type StatesCost,
  type StatesPredictor,
  stateOf,
  stepsError,
  type Unrolled,
  unrollSteps,
  vectorOf,
} from './unroll.js';

/**
 * An action-conditioned world model (EB-JEPA's third example, arXiv 2602.03604; PLDM, arXiv 2502.14819): an encoder turns each
 * observation into a state, a predictor turns state and action into the next state, over several steps from its own predictions.
 * There is no moving average and no stopped gradient: what keeps states from collapsing are terms on their variance, covariance,
 * slowness, and on the actions being told from them.
 */

// --- what it is made of ---------------------------------------------------------------------------------------------------

/** What turns an observation into a state vector; a layer norm ends each of them. */
export type StateEncoder =
  | ({ readonly kind: 'impala' } & Pick<ImpalaConfig, 'widths' | 'blocks' | 'width'>)
  | { readonly kind: 'vit'; readonly vit: VitConfig }
  /** Every patch through layers of its own, then the lowest frequencies of what they tell through layers of the whole picture. */
  | {
      readonly kind: 'patches';
      readonly patchSize: number;
      readonly widths: readonly number[];
      readonly frequencies: number;
      readonly hidden: readonly number[];
      readonly width: number;
    }
  /** The tokens of a video encoder that is given and stays as it is, their lowest frequencies through layers that learn. */
  | {
      readonly kind: 'frozen';
      /** Of single pictures: a tubelet is filled with one. */
      readonly eyes: VitConfig;
      readonly frequencies: number;
      readonly hidden: readonly number[];
      readonly width: number;
    }
  /** Of numbers of states. */
  | { readonly kind: 'mlp'; readonly hidden: readonly number[]; readonly width: number };

/** A recurrent cell whose hidden state is the state of the world, or a perceptron that tells the change of the state. */
export type StatePredictor = { readonly kind: 'gru' } | { readonly kind: 'mlp'; readonly hidden: readonly number[] };

/** Weights of the terms of the loss; 0 leaves a term out. */
export interface WorldModelTerms {
  readonly prediction: number;
  readonly variance: number;
  readonly covariance: number;
  /** Slowness: consecutive states are alike. */
  readonly similarity: number;
  /** Actions are told from consecutive states. */
  readonly inverse: number;
  /** Consecutive changes point the same way (arXiv 2603.12231). */
  readonly straightening: number;
  /** States are normally distributed. */
  readonly sigreg: number;
  /** States know what stays in an instance of the world; `variance` then weighs what varies within one, too. */
  readonly scene: number;
}

export interface WorldModelConfig {
  /** [channels, height, width], or [numbers]. */
  readonly observation: readonly number[];
  /** Numbers of an action. */
  readonly actions: number;
  /** Observations of a window; the terms see them all. */
  readonly frames: number;
  /** Single observations of the episode beside it, and of another one, from which distance and scene are learned. */
  readonly moments: number;
  readonly encoder: StateEncoder;
  readonly predictor: StatePredictor;
  /** Steps that are predicted one from the other, from the first observation on. */
  readonly steps: number;
  readonly terms: WorldModelTerms;
  /** Hidden width of the two layers that tell actions. */
  readonly inverseWidth: number;
  /** Random directions of SIGReg. */
  readonly slices: number;
  /** Steps between states; what it learns shapes the states too. */
  readonly distance?: DistanceConfig;
  /** Values of a latent variable that is told to the predictor beside the actions: which of several futures a window is (2 or more). */
  readonly codes?: number;
}

export const stateWidth = (encoder: StateEncoder): number =>
  encoder.kind === 'vit' ? encoder.vit.width : encoder.width;

function encoderSpec({ encoder, observation }: WorldModelConfig): ModuleSpec {
  const ownNorm = normSpec('final_ln', stateWidth(encoder));
  switch (encoder.kind) {
    case 'impala':
      return new Map(impalaSpec(impalaConfig(encoder, observation)));
    case 'vit':
      return new Map([...vitSpec(encoder.vit), ...ownNorm]);
    case 'patches': {
      const [channels] = pictureOf(observation);
      const { patchSize, widths, frequencies, hidden, width } = encoder;
      checkFrequencies(frequencies, patchSize, observation);
      return new Map([
        ...reluStackSpec('patch.', [channels * patchSize ** 2, ...widths]),
        ...reluStackSpec('mlp.', [frequencies ** 2 * widths[widths.length - 1], ...hidden, width]),
        ...ownNorm,
      ]);
    }
    case 'frozen': {
      const { eyes, frequencies, hidden, width } = encoder;
      checkFrequencies(frequencies, eyes.patchSize, observation);
      return new Map([...reluStackSpec('mlp.', [frequencies ** 2 * eyes.width, ...hidden, width]), ...ownNorm]);
    }
    case 'mlp':
      return new Map([...reluStackSpec('mlp.', [sizeOf(observation), ...encoder.hidden, encoder.width]), ...ownNorm]);
  }
}

function pictureOf(observation: readonly number[]): readonly number[] {
  if (observation.length === 3) return observation;
  throw new JepaError('world model: this encoder sees pictures; numbers of states need method.encoder.kind=mlp');
}

function checkFrequencies(frequencies: number, patchSize: number, observation: readonly number[]): void {
  const most = Math.min(...patchGrid(observation, patchSize));
  if (frequencies > most)
    throw new JepaError(
      `world model: patches of ${patchSize} are ${most} along a side; set method.encoder.frequencies to ${most} or less, not ${frequencies}`,
    );
}

/** Rows and columns of patches. */
const patchGrid = (observation: readonly number[], patchSize: number): readonly number[] =>
  pictureOf(observation)
    .slice(1)
    .map((side) => Math.floor(side / patchSize));

function impalaConfig(
  { widths, blocks, width }: Extract<StateEncoder, { kind: 'impala' }>,
  observation: readonly number[],
): ImpalaConfig {
  const [channels, height, across] = pictureOf(observation);
  return { picture: [channels, height, across], widths, blocks, width, finalNorm: true };
}

const predictorSpec = ({ encoder, predictor, actions: numbers, codes = 0 }: WorldModelConfig): ModuleSpec => {
  const width = stateWidth(encoder);
  const actions = numbers + codes;
  const parts: [string, ParameterSpec][] =
    predictor.kind === 'gru'
      ? gruSpec('rnn.', actions, width)
      : reluStackSpec('mlp.', [width + actions, ...predictor.hidden, width]);
  return new Map(parts);
};

/** Layers of the network that tells actions. */
const INVERSE_LAYERS = 3;

export interface WorldModelModules {
  readonly encoder: Module;
  /** What stays as it is of a frozen encoder. */
  readonly eyes?: Module;
  readonly predictor: Module;
  readonly inverse: Module;
  readonly distance?: Module;
  readonly scene?: Module;
}

export function worldModelModules(config: WorldModelConfig): WorldModelModules {
  const width = stateWidth(config.encoder);
  const inverse = reluStackSpec('', [2 * width, config.inverseWidth, config.inverseWidth, config.actions]);
  return {
    encoder: makeModule('encoder.', encoderSpec(config)),
    ...(config.encoder.kind === 'frozen' && { eyes: makeModule('eyes.', vitSpec(config.encoder.eyes)) }),
    predictor: makeModule('predictor.', predictorSpec(config)),
    inverse: makeModule('inverse.', new Map(inverse)),
    ...(config.distance && { distance: makeModule('distance.', distanceSpec(width, config.distance)) }),
    ...(config.terms.scene > 0 && { scene: makeModule('scene.', sceneSpec(width)) }),
  };
}

/** Observations [rows, ...] -> states [rows, width]. */
export function encodeStates(
  x: Tensor,
  { encoder: { weights: w }, eyes }: WorldModelModules,
  { encoder, observation }: WorldModelConfig,
): Tensor {
  const normed = (y: Tensor): Tensor => norm(y, under(w, 'final_ln.'), STATE_NORM_EPS);
  /** Tokens [rows, patches, width] -> states. */
  const pooled = (tokens: Tensor, patchSize: number, frequencies: number, hidden: readonly number[]): Tensor => {
    const waves = spectralPool(tokens, patchGrid(observation, patchSize), frequencies);
    const flat = reshape(waves, [tokens.shape[0], mulDims(frequencies ** 2, tokens.shape[2])]);
    return normed(reluStack(flat, under(w, 'mlp.'), hidden.length + 1));
  };
  switch (encoder.kind) {
    case 'impala':
      return impala(x, w, impalaConfig(encoder, observation));
    case 'vit':
      return normed(mean(vit(x, w, encoder.vit), 1));
    case 'patches': {
      const { patchSize, widths, frequencies, hidden } = encoder;
      const told = widths[widths.length - 1];
      const cut = cutPatches(x, [patchSize, patchSize]);
      const [rows, patches, values] = cut.shape;
      const each = relu(reluStack(reshape(cut, [mulDims(rows, patches), values]), under(w, 'patch.'), widths.length));
      return pooled(reshape(each, [rows, patches, told]), patchSize, frequencies, hidden);
    }
    case 'frozen': {
      const { eyes: config, frequencies, hidden } = encoder;
      const tokens = frameRepresentations(expandDims(x, 2), (eyes as Module).weights, config);
      return pooled(tokens, config.patchSize, frequencies, hidden);
    }
    case 'mlp':
      return normed(reluStack(x, under(w, 'mlp.'), encoder.hidden.length + 1));
  }
}

/**
 * The next states [rows, width] from states and actions [rows, numbers], in one of the futures where there is a latent variable; the
 * norm is the encoder's own, so that both speak of one space.
 */
export function nextStates(
  { encoder, predictor }: WorldModelModules,
  { predictor: kind, codes = 0 }: WorldModelConfig,
  future = 0,
): StepModel {
  const finalNorm = under(encoder.weights, 'final_ln.');
  const told = (action: Tensor): Tensor => {
    if (codes === 0) return action;
    const code = constant(
      float32(
        [1, codes],
        Float32Array.from({ length: codes }, (_, i) => Number(i === future)),
      ),
    );
    return concat([action, broadcastTo(code, [action.shape[0], codes])], 1);
  };
  if (kind.kind === 'gru')
    return (state, action) => gruPredictor(state, told(action), under(predictor.weights, 'rnn.'), finalNorm);
  return (state, action) => {
    const from = concat([state, told(action)], 1);
    const change = reluStack(from, under(predictor.weights, 'mlp.'), kind.hidden.length + 1);
    return norm(add(state, change), finalNorm, STATE_NORM_EPS);
  };
}

/** The step in every future: as many as the latent variable has values, one without it. */
export const futuresOf = (modules: WorldModelModules, config: WorldModelConfig): readonly StepModel[] =>
  Array.from({ length: config.codes ?? 1 }, (_, future) => nextStates(modules, config, future));

// --- one training step ------------------------------------------------------------------------------------------------------

export interface WorldModelInputs {
  /** [batch, frames, ...observation] */
  readonly observations: Tensor;
  /** [batch, frames, numbers] */
  readonly actions: Tensor;
  /**
   * [batch, 2, moments, ...observation]: other moments of the same episode and of another one of the same instance of the world;
   * [batch, moments] when those of the same episode were.
   */
  readonly moments?: Tensor;
  readonly times?: Tensor;
  /** [width, slices] */
  readonly directions?: Tensor;
}

const DIRECTIONS = 'directions';

export function worldModelInputs(config: WorldModelConfig): WorldModelInputs {
  const { observation, frames, actions, moments, distance, terms, encoder, slices } = config;
  return {
    observations: input(OBSERVATIONS, ['batch', frames, ...observation]),
    actions: input(ACTIONS, ['batch', frames, actions]),
    ...((distance || terms.scene > 0) && { moments: input(MOMENTS, ['batch', 2, moments, ...observation]) }),
    ...(distance && { times: input(TIMES, ['batch', moments]) }),
    ...(terms.sigreg > 0 && { directions: input(DIRECTIONS, [stateWidth(encoder), slices]) }),
  };
}

export interface WorldModelForward {
  readonly loss: Tensor;
  /** Terms before their weights, by name. */
  readonly terms: Readonly<Record<string, Tensor>>;
  /** Predicted states (of the first future) and what they should be, [batch, steps, width]. */
  readonly prediction: Tensor;
  readonly target: Tensor;
}

/** How much the best future of a window counts more than the others: by their errors in shares of the mean best one. */
const SHARPNESS = 10;

/**
 * Error of the future that fits each window best. The others learn a little too, so that none is left over; the less, the smaller
 * the errors have become.
 */
function bestError(maps: Tensor, unrolls: readonly Unrolled[]): Tensor {
  const ofWindows: StatesCost = (target, prediction) => mean(square(sub(target, prediction)), [1, 2, 3, 4]);
  const errors = stack(
    unrolls.map((unrolled) => stepsError(maps, unrolled, ofWindows)),
    1,
  );
  const usual = stopGradient(mean(min(errors, -1)));
  return mean(mul(relaxedMinimum(div(errors, usual), SHARPNESS), usual));
}

export function worldModel(
  { observations, actions, moments, times, directions }: WorldModelInputs,
  modules: WorldModelModules,
  config: WorldModelConfig,
): WorldModelForward {
  const { terms, steps } = config;
  const width = stateWidth(config.encoder);
  const [batch] = observations.shape;
  /** [batch, times, ...observation] -> [batch, times, width] */
  const encode = (x: Tensor): Tensor => {
    const [, times, ...observation] = x.shape;
    const rows = reshape(x, [mulDims(batch, times), ...observation]);
    return reshape(encodeStates(rows, modules, config), [batch, times, width]);
  };
  const states = scope('encoder', () => encode(observations));
  // The published functions have maps [batch, width, time, 1, 1] and actions [batch, numbers, time].
  const maps = expandDims(transpose(states, [0, 2, 1]), [3, 4]);
  const moves = transpose(actions, [0, 2, 1]);

  const unrolls = futuresOf(modules, config).map((next) => {
    const predict: StatesPredictor = (state, action) =>
      stateOf(next(vectorOf(state), vectorOf(expandDims(action as Tensor, [3, 4]))));
    return scope('predictor', () => unrollSteps(maps, predict, { steps, actions: moves }));
  });
  const [unrolled] = unrolls;
  const error = scope('energy', () => (config.codes ? bestError(maps, unrolls) : stepsError(maps, unrolled, mseLoss)));

  const regularizer = scope('regularizer', () =>
    actionRegularizer(maps, moves, {
      variance: terms.variance,
      covariance: terms.covariance,
      similarity: terms.similarity,
      inverse: terms.inverse,
      inverseModel: (pairs) => reluStack(pairs, modules.inverse.weights, INVERSE_LAYERS),
    }),
  );
  const named: Record<string, Tensor> = {
    prediction: error,
    variance: regularizer.terms.std_loss,
    covariance: regularizer.terms.cov_loss,
    similarity: regularizer.terms.sim_loss_t,
    inverse: regularizer.terms.idm_loss,
  };
  const parts: Tensor[] = [mul(error, terms.prediction), regularizer.loss];
  if (terms.straightening > 0) {
    named.straightening = scope('straightening', () => straightening(states));
    parts.push(mul(named.straightening, terms.straightening));
  }
  if (directions) {
    named.sigreg = scope('sigreg', () => sigreg(transpose(states, [1, 0, 2]), directions, EB_QUADRATURE));
    parts.push(mul(named.sigreg, terms.sigreg));
  }
  if (moments) {
    const single = reshape(moments, [batch, 2 * config.moments, ...config.observation]);
    const seen = scope('encoder', () => encode(single));
    /** Of the same episode, and of another one. */
    const halves = (x: Tensor): readonly Tensor[] => split(x, 1, [config.moments, config.moments]);
    const { distance } = config;
    if (distance && modules.distance && times) {
      const { weights } = modules.distance;
      named.distance = scope('distance', () => {
        const [own, elsewhere] = halves(potentialsOf(seen, weights, distance));
        return distanceLoss(own, times, elsewhere, distance);
      });
      parts.push(mul(named.distance, distance.weight));
    }
    if (modules.scene) {
      const { weights } = modules.scene;
      named.scene = scope('scene', () => {
        const [own, elsewhere] = halves(seen);
        return sceneLoss(own, elsewhere, weights);
      });
      parts.push(mul(named.scene, terms.scene));
      named.within = scope('scene', () => varianceWithin(seen));
      parts.push(mul(named.within, terms.variance));
    }
  }
  const along = (x: Tensor): Tensor => transpose(reshape(x, x.shape.slice(0, 3)), [0, 2, 1]);
  return {
    loss: parts.reduce(add),
    terms: named,
    prediction: along(narrow(unrolled.states, 2, 1, steps)),
    target: along(narrow(maps, 2, 1, steps)),
  };
}

// --- as a trainer, and as a planner sees it -----------------------------------------------------------------------------------

/** A world model as a trainer runs it, with what planners need. */
export interface WorldModelMethod extends Method {
  readonly config: WorldModelConfig;
  readonly modules: WorldModelModules;
}

export const isWorldModel = (method: Method): method is WorldModelMethod =>
  'modules' in method && method.name === 'world-model';

export function worldModelMethod(config: WorldModelConfig): WorldModelMethod {
  const { steps, frames, moments, distance, encoder, terms, slices } = config;
  if (!(steps >= 1 && steps < frames))
    throw new JepaError(
      `world model: windows of ${frames} observations have ${frames - 1} steps; set method.steps between 1 and that, not ${steps}`,
    );
  if (distance && moments < 2)
    throw new JepaError('world model: a distance is learned from moments of an episode; set data.moments to 2 or more');
  if (terms.scene > 0 && moments < 1)
    throw new JepaError('world model: a scene is learned from moments of episodes; set data.moments to 1 or more');
  const modules = worldModelModules(config);
  const inputs = worldModelInputs(config);
  const { loss, terms: named, prediction, target } = worldModel(inputs, modules, config);
  const wanted = [OBSERVATIONS, ACTIONS, MOMENTS, TIMES].filter((name) => name in inputs);
  return {
    name: 'world-model',
    config,
    modules,
    trained: Object.values(modules).filter((module) => module !== undefined && module !== modules.eyes),
    ...(modules.eyes && { frozen: [modules.eyes] }),
    followers: [],
    loss,
    scalars: named,
    pair: { prediction, target },
    views: [1],
    feeds: ({ views: [fields] }: MethodBatch, random) => ({
      ...Object.fromEntries(
        wanted.map((name) => {
          const { shape, data } = fields[name];
          return [name, { dtype: 'float32' as const, shape: shape.toSpliced(1, 1), data: data as Float32Array }];
        }),
      ),
      ...(terms.sigreg > 0 && {
        [DIRECTIONS]: randomDirections(random.split('directions'), stateWidth(encoder), slices),
      }),
    }),
    encoder: worldEncoder(modules, config),
  };
}

/** The encoder of single observations; its state is what probes see. */
function worldEncoder(modules: WorldModelModules, config: WorldModelConfig): Encoder {
  const width = stateWidth(config.encoder);
  const represent = (x: Tensor): Tensor => encodeStates(x, modules, config);
  return {
    module: modules.eyes ? joined([modules.encoder, modules.eyes]) : modules.encoder,
    architecture: { kind: 'state', of: config.encoder.kind },
    inputs: [{ name: OBSERVATIONS, dtype: 'float32', shape: config.observation }],
    grid: [1],
    features: width,
    width,
    represent: (inputs) => represent(inputs[OBSERVATIONS]),
    tokens: (inputs) => expandDims(represent(inputs[OBSERVATIONS]), 1),
  };
}
