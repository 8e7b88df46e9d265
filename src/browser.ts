/**
 * What of the library runs in a browser: everything that neither reads files nor starts Node's threads. Needs
 * `onnxruntime-web`. Node has all of this and more: `index.ts`.
 */
/** The autonomous agent and its modules. */
export * as agent from './agent/index.js';
export * from './base/errors.js';
export * from './base/random.js';
export * from './base/tensor.js';
export { type SoundArrays, type SoundDataset, soundArrays } from './data/audio/dataset.js';
export * from './data/audio/fbank.js';
export * from './data/audio/features.js';
export * from './data/audio/fft.js';
export * from './data/audio/mel.js';
export * from './data/audio/preparation.js';
export * from './data/audio/resample.js';
export * from './data/audio/specaugment.js';
export * from './data/audio/stft.js';
export * from './data/audio/wav.js';
export * from './data/csv.js';
export * from './data/dataset.js';
export { type Batch, createLoader, type Loader, type LoaderOptions, type ViewOptions } from './data/loader.js';
export * from './data/points/ply.js';
export { type Factor, INSTRUMENTS, RHYTHMS, TONE_FACTORS, type TonesOptions, tones } from './data/procedural/tones.js';
export * from './data/skeleton/ntu.js';
export * from './data/text/bpe.js';
export * from './data/video/list.js';
export * from './energy/distance.js';
/** Energies with latents: inference, free energy, losses. */
export * as energy from './energy/index.js';
export * from './energy/infonce.js';
export * from './energy/sigreg.js';
export * from './energy/vicreg.js';
export * from './eval/collapse.js';
export * from './eval/correlation.js';
export * from './eval/intervals.js';
export * from './eval/knn.js';
export * from './eval/logistic.js';
export * from './eval/ranking.js';
export * from './eval/similarity.js';
export * from './eval/spectrum.js';
export * from './eval/spread.js';
/** Operators for graphs of one's own. */
export * as graph from './graph/index.js';
export * from './masking/future.js';
export * from './masking/multiblock2d.js';
export * from './masking/random2d.js';
export * from './masking/spectrogram.js';
export * from './methods/audio-jepa.js';
export * from './methods/forecast.js';
export * from './methods/ijepa.js';
export * from './methods/lejepa.js';
export * from './methods/masked.js';
export * from './methods/method.js';
export * from './methods/regularize.js';
export * from './methods/viewjepa.js';
export * from './nn/convnet.js';
export * from './nn/mlp.js';
export * from './nn/predictor.js';
export * from './nn/tokens.js';
export * from './nn/vit.js';
export * from './nn/weights.js';
export * from './optim/adam.js';
export * from './optim/clip.js';
export * from './optim/fit.js';
export * from './optim/groups.js';
export * from './optim/lars.js';
export * from './optim/schedules.js';
export * from './optim/sgd.js';
export * from './runtime/index.js';
export * from './train/config.js';
export * from './train/loop.js';
export * from './train/settings.js';
/** Worlds, models of them that know actions, and planners. */
export * as world from './world/index.js';
