/** The library in Node: all that runs in browsers, and what reads files, trains on threads and writes results. */
export * from './browser.js';
export { readSound, type SoundFolderOptions, soundFolder } from './data/audio/folder-node.js';
export * from './data/dataset.js';
export {
  type DatasetSpec,
  openDataset,
  openImageFiles,
  openSplits,
  type Split,
  type Splits,
} from './data/open-node.js';
export { openSampleSplits, openSamples, type SampleSpec, type SampleSplits } from './data/samples-node.js';
export { fewShots, labelShare, splitByHash } from './data/split.js';
export { evaluationTransforms, ijepaTransforms, type Transform, type TransformInput } from './data/transforms.js';
export { clipsAlong } from './data/video/along.js';
export * from './hub/index.js';
export { npzSkeletons } from './hub/skeletons-node.js';
export { npyVideoList } from './hub/video-list-node.js';
export { type ReportData, renderReport, writeReport } from './report/index.js';
export { type Checkpoint, type CheckpointMeta, loadCheckpoint, saveCheckpoint } from './train/checkpoint.js';
export { type EmbedOptions, type EmbedResult, embed } from './train/embed.js';
export { exportOnnx, exportSafetensors, exportTransformers } from './train/export.js';
export { type FinetuneOptions, type FinetuneResult, finetune } from './train/finetune.js';
export { type ForecastOptions, type ForecastScores, forecastScores, type HorizonScores } from './train/forecast.js';
export { type FrozenEncoder, openEncoder, randomEncoder, trainedEncoder } from './train/frozen.js';
export { openModel } from './train/model.js';
export { type ProbeOptions, type ProbeResult, probe } from './train/probe.js';
export {
  type EmbeddingIndex,
  embeddingsOf,
  type Hit,
  openEmbeddings,
  type SearchOptions,
  search,
} from './train/search.js';
export { type TrainOptions, train } from './train/trainer.js';
