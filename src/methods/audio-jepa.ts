import type { Distance } from '../energy/distance.js';
import {
  checkSpectrogramMasks,
  type SpectrogramMasks,
  sampleSpectrogram,
  targetBlocks,
} from '../masking/spectrogram.js';
import { gridOf, type VitConfig, type VitOptions, vitConfig } from '../nn/vit.js';
import { type IjepaTraining, patchMethod } from './ijepa.js';
import type { MaskedOptions } from './masked.js';
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
    { ...config, name: 'audiojepa', inTime: true },
    {
      contexts: 1,
      blocks: others.every((count) => count === blocks) ? blocks : undefined,
      sample: (batch, draws, progress) =>
        sampleSpectrogram(masks, grid, batch, progress, { sizes: draws.split('sizes'), places: draws.split('places') }),
    },
  );
}
