/** Files in and out: weights, checkpoints, embeddings, logs (Node; the readers of bytes in memory also run in browsers). */

export type { CheckpointWriteOptions } from './checkpoint-layout.js';
export { writeTorchCheckpoint, writeTorchFile } from './checkpoint-layout.js';
export type { ModelFacts } from './describe.js';
export { describeModel } from './describe.js';
export type { DownloadedModel, DownloadOptions, DownloadProgress } from './download-node.js';
export { cachedModel, downloadModel, modelCache } from './download-node.js';
export type { CheckpointOptions } from './encoder-files.js';
export {
  LICENCES,
  loadEncoder,
  OFFICIAL_LICENCE,
  readTorchCheckpoint,
  readTorchClassifier,
} from './encoder-files.js';
export type { EpisodeColumns, MinariDataset, MinariEpisode } from './episodes-node.js';
export { channelsLast, openEpisodeColumns, openMinari, sampleStarts } from './episodes-node.js';
export { fileSource, withFile } from './files.js';
export type { Hdf5Dataset, Hdf5File } from './hdf5-node.js';
export { openHdf5 } from './hdf5-node.js';
export type { HuggingFaceOptions } from './hf-folder.js';
export { readHuggingFaceFolder, writeHuggingFaceFolder } from './hf-ijepa.js';
export { huggingFaceIJepa } from './hf-ijepa-model.js';
export { readVjepa2Folder, writeVjepa2Folder } from './hf-vjepa2.js';
export { huggingFaceVjepa2 } from './hf-vjepa2-model.js';
export type { AttentiveClassifier, EncoderWeights, Family, LinearWeights, LoadedEncoder } from './ijepa-names.js';
export { huggingFaceNames, officialName, stripPrefixes } from './ijepa-names.js';
export { imageProcessorConfig, parseImageProcessor } from './image-processor.js';
export type { InspectedTensor, Inspection } from './inspect.js';
export { inspectFile } from './inspect.js';
export type { JsonlLog, JsonlWriter } from './jsonl.js';
export { openJsonl, parseJsonl, readJsonl } from './jsonl.js';
export type { ModelFolder } from './model-folder.js';
export { readModelFolder, writeModelFolder } from './model-folder.js';
export type { NpyFile, NpzFile } from './npy.js';
export { encodeNpy, encodeNpz, npyPieces, openNpy, openNpz } from './npy.js';
export type { OnnxModel } from './onnx.js';
export { openOnnx, parseOnnx } from './onnx.js';
export type { EmbeddingTable } from './parquet.js';
export { embeddingsParquet, readEmbeddings, readParquet } from './parquet.js';
export type { TorchFile, TorchValue } from './pth.js';
export { openTorchFile } from './pth.js';
export type { TorchWritable } from './pth-write.js';
export { torchFilePieces } from './pth-write.js';
export type { FileDType, StoredTensor } from './raw.js';
export { loadFloat32, loadTensor, narrowFloat32, storeTensor } from './raw.js';
export type { SafetensorsFile, Writable } from './safetensors.js';
export { encodeSafetensors, openSafetensors, parseSafetensors, safetensorsPieces } from './safetensors.js';
export type { ByteSource } from './source.js';
export { bytesSource } from './source.js';
export type { EventFile, EventWriter } from './tfevents.js';
export { openEventWriter, parseEvents } from './tfevents.js';
export type { Weights as WeightFiles } from './weights.js';
export { openWeights, writeSafetensors, writeWeights } from './weights.js';
