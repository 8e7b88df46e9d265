import { join } from 'node:path';
import type { JsonObject } from '../../src/base/json.js';
import { createRandom } from '../../src/base/random.js';
import type { HostTensor } from '../../src/base/tensor.js';
import { applyTransforms } from '../../src/data/pipeline.js';
import { batchedGather } from '../../src/graph/ops/index.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import { readTorchCheckpoint, readTorchClassifier } from '../../src/hub/encoder-files.js';
import { readVjepa2Folder } from '../../src/hub/hf-vjepa2.js';
import { huggingFaceVjepa2, type Vjepa2Parts } from '../../src/hub/hf-vjepa2-model.js';
import type { EncoderWeights } from '../../src/hub/ijepa-names.js';
import { parseImageProcessor } from '../../src/hub/image-processor.js';
import { frameRepresentations } from '../../src/methods/vjepa2-ac.js';
import { acPredictor } from '../../src/nn/ac-predictor.js';
import { predictPair } from '../../src/nn/predictor.js';
import { vit } from '../../src/nn/vit.js';
import type { Weights } from '../../src/nn/weights.js';
import { attempt, type Harness, readCases } from './harness.js';
import {
  type Check,
  compare,
  type Failures,
  type Feed,
  fed,
  type Opened,
  openCase,
  outcome,
  type VideoCase,
} from './video-case.js';

const harness: Harness = async function* (folder) {
  for (const each of readCases<{ cases: VideoCase[] }>(folder).cases) {
    yield await attempt(each.name, () => {
      const check = CHECKS[each.group];
      return check ? check(openCase(folder, each), folder) : [`unknown group ${each.group}`];
    });
  }
};
export default harness;

const CHECKS: Record<string, (each: Opened, folder: string) => ReturnType<Check>> = {
  preprocess: checkProcessor,
  model_masks: checkModel,
  model_default: checkModel,
  model_single_frame: checkModel,
  model_other_size_quirk: checkModel,
  classifier_logits: checkModel,
  meta_vjepa2: checkMeta,
  meta_ac: checkActions,
};

/** Weights that were read, as inputs of a graph. */
function given(weights: EncoderWeights, prefix: string, feed: Feed): Weights {
  const leaves = new Map(
    Array.from(weights, ([name, value]) => {
      const leaf = input(`${prefix}.${name}`, value.shape);
      feed.set(leaf, value);
      return [name, leaf];
    }),
  );
  return (name) => {
    const leaf = leaves.get(name);
    if (!leaf) throw new Error(`there is no weight ${prefix}.${name}`);
    return leaf;
  };
}

// ---- preprocessing ----------------------------------------------------------------------------------------------------

/** The folder's own file is what says how clips are prepared; the numbers of the case replace its. */
function checkProcessor(each: Opened): Failures {
  const { crop_size: crop, shortest_edge, mean, std, rescale } = each.config;
  const [, divisor] = /^1\/(\d+)$/.exec(rescale)!;
  const file: JsonObject = {
    video_processor_type: 'VJEPA2VideoProcessor',
    do_resize: true,
    size: { shortest_edge },
    resample: 2,
    do_center_crop: true,
    crop_size: { height: crop, width: crop },
    do_rescale: true,
    rescale_factor: 1 / Number(divisor),
    do_normalize: true,
    image_mean: mean,
    image_std: std,
  };
  const steps = parseImageProcessor(file, each.name);
  const { shape, data } = each.value('video');
  const [frames, height, width, channels] = shape;
  const bytes = height * width * channels;
  const out = new Float32Array(frames * channels * crop * crop);
  for (let t = 0; t < frames; t++) {
    const frame = { height, width, channels, data: (data as Uint8Array).subarray(t * bytes, (t + 1) * bytes) };
    const size = channels * crop * crop;
    applyTransforms(frame, steps, createRandom(0), out.subarray(t * size, (t + 1) * size));
  }
  const pixels: HostTensor<'float32'> = { dtype: 'float32', shape: [frames, channels, crop, crop], data: out };
  return compare(each, { pixel_values_videos: pixels });
}

// ---- Hugging Face folders ---------------------------------------------------------------------------------------------

async function checkModel(each: Opened, folder: string): Promise<Failures> {
  const loaded = readVjepa2Folder(join(folder, each.config.folder));
  const { config, predictor, attentive, labels } = loaded;
  const feed: Feed = new Map();
  const videos = fed(each, feed, 'pixel_values_videos');
  const weights = given(loaded.weights, 'encoder', feed);
  const parts: Vjepa2Parts = {
    ...(each.expected.includes('predicted') && {
      predictor: { weights: given(predictor!.weights, 'predictor', feed), config: predictor!.config },
    }),
    ...(each.has('context_mask') && {
      masks: { context: fed(each, feed, 'context_mask'), target: fed(each, feed, 'target_mask') },
    }),
    ...(attentive && {
      classifier: { weights: given(attentive.weights, 'classifier', feed), config: attentive.config },
    }),
  };
  const { lastHiddenState, prediction, classification } = huggingFaceVjepa2(videos, weights, config, parts);
  const outputs: Record<string, Tensor> = { last_hidden_state: lastHiddenState };
  if (prediction) {
    outputs.predicted = prediction.predicted;
    outputs.masked_hidden_state = prediction.context;
    outputs.target_hidden_state = prediction.target;
  }
  if (classification) {
    outputs.logits = classification.logits;
    outputs.pooled = classification.pooled;
  }
  if (each.expected.includes('logits_meta')) {
    // The same classifier under Meta's names, with the epsilon and the heads of the encoder here.
    const meta = readTorchClassifier(join(folder, 'meta_probe.pt'), { heads: config.heads });
    const classifier = { weights: given(meta.weights, 'meta', feed), config: meta.config };
    outputs.logits_meta = huggingFaceVjepa2(videos, weights, config, { classifier }).classification!.logits;
  }
  const results = await outcome(each, feed, outputs);
  const names = each.config.labels as string[] | undefined;
  const wrong = names && labels?.join() !== names.join() ? `labels: ${labels} instead of ${names}` : undefined;
  return [...compare(each, results), wrong];
}

// ---- Meta's files -----------------------------------------------------------------------------------------------------

/** What weights do not show, from the case. */
const optionsOf = ({ config }: Opened) => ({
  heads: config.encoder.num_heads as number,
  predictorHeads: config.predictor.num_heads as number,
  imageSize: (config.encoder.img_size ?? config.img_size) as number,
  frames: (config.encoder.num_frames ?? config.num_frames) as number,
});

async function checkMeta(each: Opened, folder: string): Promise<Failures> {
  const path = join(folder, each.config.file);
  const { config, weights, predictor, family } = readTorchCheckpoint(path, { ...optionsOf(each), entry: 'encoder' });
  // Without a wish the target encoder is taken, as in evaluations.
  const target = readTorchCheckpoint(path, optionsOf(each));
  const feed: Feed = new Map();
  const clip = fed(each, feed, 'clip');
  const [context, hidden] = [fed(each, feed, 'context_mask'), fed(each, feed, 'target_mask')];
  const out = vit(clip, given(weights, 'encoder', feed), config);
  const predicted = predictPair(
    batchedGather(out, context),
    context,
    hidden,
    given(predictor!.weights, 'predictor', feed),
    predictor!.config,
    { maskIndex: 1 },
  );
  const target_out = vit(clip, given(target.weights, 'target', feed), target.config);
  const results = await outcome(each, feed, { out, predicted, target_out });
  return [...compare(each, results), family === 'vjepa2' ? undefined : `taken for ${family}`];
}

async function checkActions(each: Opened, folder: string): Promise<Failures> {
  const loaded = readTorchCheckpoint(join(folder, each.config.file), { ...optionsOf(each), entry: 'encoder' });
  const { config, weights, actionPredictor, family } = loaded;
  const feed: Feed = new Map();
  const features = frameRepresentations(fed(each, feed, 'clip'), given(weights, 'encoder', feed), config);
  const conditions = { actions: fed(each, feed, 'actions'), states: fed(each, feed, 'states') };
  const predictor = given(actionPredictor!.weights, 'predictor', feed);
  const out = acPredictor(features, conditions, predictor, actionPredictor!.config);
  const results = await outcome(each, feed, { features, out });
  return [...compare(each, results), family === 'vjepa2-ac' ? undefined : `taken for ${family}`];
}
