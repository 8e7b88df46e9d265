/** The library in Node: all that runs in browsers, and what reads files, trains on threads and writes results. */
export * from './browser.js';
export * from './data/dataset.js';
export { openDataset, openSplits, type DatasetSpec, type Split, type Splits } from './data/open-node.js';
export { fewShots, labelShare, splitByHash } from './data/split.js';
export { evaluationTransforms, ijepaTransforms, type Transform, type TransformInput } from './data/transforms.js';
export * from './hub/index.js';
export { renderReport, type ReportData, writeReport } from './report/index.js';
export { loadCheckpoint, saveCheckpoint, type Checkpoint, type CheckpointMeta } from './train/checkpoint.js';
export { type FrozenEncoder, openEncoder, randomEncoder, trainedEncoder } from './train/frozen.js';
export { probe, type ProbeOptions, type ProbeResult } from './train/probe.js';
export { train, type TrainOptions } from './train/trainer.js';
