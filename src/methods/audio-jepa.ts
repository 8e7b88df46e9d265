import { type Distance, tokenEnergy } from '../energy/distance.js';
import { broadcastTo, expandDims, narrow, reshape, tile } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import {
  checkSpectrogramMasks,
  type FutureConfig,
  type SpectrogramMasks,
  sampleSpectrogram,
  targetBlocks,
} from '../masking/spectrogram.js';
import { vitTokens } from '../nn/tokens.js';
import { gridOf, type VitConfig, type VitOptions, vitConfig } from '../nn/vit.js';
import {
  type IjepaConfig,
  type IjepaInputs,
  type IjepaModules,
  type IjepaTraining,
  ijepa,
  patchMethod,
} from './ijepa.js';
import { encodeContext, type MaskedOptions, normaliseTargets } from './masked.js';
import type { Method } from './method.js';

/**
 * JEPAs of sound: I-JEPA over the patches of log-mel spectrograms [1, time, frequency].
 *
 * - Audio-JEPA (Tuncay et al. 2025): any patches are hidden; targets are standardised, distances are those of unit vectors.
 * - A-JEPA (Fei et al. 2023): a curriculum from blocks to whole bands of time and frequency; squared distances.
 * - Riou et al. 2024: the target encoder sees the target patches only, and clips are short.
 */
export interface AudioJepaTraining extends Omit<IjepaTraining, 'masks'> {
  readonly masks: SpectrogramMasks;
  readonly options: MaskedOptions;
}

/** What published systems do with targets, and their distance. */
export const AUDIO_JEPA: { readonly options: MaskedOptions; readonly distance: Distance } = {
  options: { hiding: 'drop', sight: 'everything', normalisation: 'standardised' },
  distance: 'normalised-l2',
};
export const A_JEPA: typeof AUDIO_JEPA = {
  options: { hiding: 'drop', sight: 'everything', normalisation: 'none' },
  distance: 'l2',
};
export const AUDIO_STUDY: typeof AUDIO_JEPA = {
  options: { hiding: 'drop', sight: 'targets', normalisation: 'layer' },
  distance: 'smooth-l1',
};

/** Audio-JEPA's encoder and predictor have PyTorch's epsilon. */
export const audioVit = (options: Omit<VitOptions, 'channels'>): VitConfig => ({
  ...vitConfig({ ...options, channels: 1 }),
  eps: 1e-5,
});

/** A JEPA of sound as a trainer runs it; spectrograms are its `images`. */
export function audioJepaMethod(config: AudioJepaTraining): Method {
  const { masks } = config;
  const grid = gridOf(config.encoder);
  checkSpectrogramMasks(masks, grid);
  const kinds = masks.kind === 'curriculum' ? [masks.easy, masks.hard] : [masks];
  const [blocks, ...others] = kinds.map(targetBlocks);
  return patchMethod(
    { ...config, name: 'audiojepa' },
    {
      contexts: 1,
      blocks: others.every((count) => count === blocks) ? blocks : undefined,
      sample: (batch, draws, progress) =>
        sampleSpectrogram(masks, grid, batch, progress, { sizes: draws.split('sizes'), places: draws.split('places') }),
    },
  );
}

export interface Forecast {
  readonly inputs: IjepaInputs;
  /** Representations of the coming segments [batch, horizons, tokens, width], as predicted from the context. */
  readonly prediction: Tensor;
  /** What the target encoder, which hears them, makes of them. */
  readonly target: Tensor;
  /** What persistence predicts: the target encoder's representation of the last moment of the context, of nothing later. */
  readonly persistence: Tensor;
  /** Mean energy of the predictions and of persistence, one scalar for each horizon. */
  readonly predicted: readonly Tensor[];
  readonly persisted: readonly Tensor[];
}

/**
 * Prediction of what comes, measured; feed it masks of `futureAt`. Probes of `prediction` against those of `persistence`, and
 * their energies against each other, say whether the predictor knows how sounds go on.
 */
export function forecast(
  modules: IjepaModules,
  config: IjepaConfig,
  { options, distance }: typeof AUDIO_JEPA,
  { context, segment, horizons }: FutureConfig,
): Forecast {
  const { encoder } = config;
  const bands = gridOf(encoder)[1];
  const inputs: IjepaInputs = {
    images: input('images', ['batch', encoder.channels, ...encoder.imageSize]),
    context: input('context', ['batch', 1, context * bands], 'int32'),
    targets: input('targets', ['batch', horizons, segment * bands], 'int32'),
  };
  const forward = ijepa(inputs, modules, config, undefined, options);
  const [batch] = forward.context.shape;
  const shape = [batch, horizons, segment * bands, encoder.width];
  const [prediction, target] = [forward.prediction, forward.target].map((x) => reshape(x, shape)); // One context.
  const persistence = scope('persistence', () => {
    const heard = encodeContext(vitTokens(inputs.images, encoder), modules.target.weights, inputs.context, 'drop');
    // Tokens ascend: the last ones are all bands of the last moment, which is repeated for every moment of every segment.
    const last = normaliseTargets(narrow(heard, 1, (context - 1) * bands, bands), options.normalisation);
    return broadcastTo(expandDims(tile(last, [1, segment, 1]), 1), shape);
  });
  const byHorizon = (x: Tensor): Tensor[] => {
    const energies = tokenEnergy(x, target, distance); // [batch, horizons, tokens]
    return Array.from({ length: horizons }, (_, h) => mean(narrow(energies, 1, h, 1)));
  };
  return {
    inputs,
    prediction,
    target,
    persistence,
    predicted: byHorizon(prediction),
    persisted: byHorizon(persistence),
  };
}
