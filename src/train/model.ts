import { JepaError } from '../base/errors.js';
import { wordsOf } from '../data/modality.js';
import { isImages, modalityOf, type PreparationInput } from '../data/plans.js';
import { parseTransforms } from '../data/transforms.js';
import { parseClipTransform } from '../data/video/transforms.js';
import { describeModel } from '../hub/describe.js';
import { loadEncoder } from '../hub/encoder-files.js';
import type { EncoderWeights, Family, LoadedEncoder } from '../hub/ijepa-names.js';
import type { Encoder } from '../methods/method.js';
import { type AcMethod, isActionConditioned } from '../methods/vjepa2-ac.js';
import type { VitConfig } from '../nn/vit.js';
import type { Module } from '../nn/weights.js';
import { buildMethod, evaluationPreparation, scalingOf } from './build.js';
import { type CheckpointMeta, openCheckpoint } from './checkpoint.js';
import { placeOf, toSize, weightsOf } from './frozen.js';
import { frameSteps } from './published.js';

/**
 * Opens all that is known of a model, not only the encoder that is evaluated: a run of ours with the encoder that learned and
 * its predictor, or a published model. Takes what `openEncoder` takes; numbers are read when they are asked for. Throws a
 * `JepaError` for a run whose encoder is none of I-JEPA's or V-JEPA's (a conv net, an encoder of sounds, ...).
 */
export function openModel(given: string): LoadedEncoder {
  const { run, path } = placeOf(given);
  if (run !== undefined) return modelOfRun(run);
  const model = loadEncoder(path);
  return { ...model, licence: describeModel(path, model).licence };
}

function modelOfRun(folder: string): LoadedEncoder {
  const { meta, weights } = openCheckpoint(folder);
  const method = buildMethod(meta.config, meta.facts);
  const read = (module: Module): EncoderWeights =>
    new Map(Array.from(weightsOf(folder, module, weights), ([key, value]) => [key.slice(module.prefix.length), value]));
  // As Meta's codes count: epochs that are over.
  const facts = { epoch: meta.position.epoch, batch_size: meta.config.train.batchSize, world_size: 1 };
  if (isActionConditioned(method)) return { ...actionModel(folder, method, meta, read), facts };

  const { encoder, predictor, followers } = method;
  const preparation = toSize(evaluationPreparation(meta.config, meta.facts), encoder);
  const config = vitOf(folder, encoder, preparation);
  const online = followers.find(({ module }) => module === encoder.module)?.online;
  return {
    family: familyOf(config),
    config,
    weights: read(encoder.module),
    ...(online && { context: read(online) }),
    ...(predictor && { predictor: { config: predictor.config, weights: read(predictor.module) } }),
    ...stepsOf(folder, preparation),
    facts,
  };
}

function vitOf(name: string, { architecture }: Encoder, preparation: PreparationInput): VitConfig {
  const modality = modalityOf(preparation);
  const refuse = (what: string): never => {
    throw new JepaError(
      `${name}: I-JEPA and V-JEPA are ViTs of images and of clips, this is ${what}: export it as ONNX (a path that ends in .onnx)`,
    );
  };
  if (modality !== 'image' && modality !== 'video') return refuse(`an encoder of ${wordsOf({ modality }).many}`);
  if (architecture.kind !== 'vit') return refuse('a conv net');
  const { kind: _, ...config } = architecture;
  return config;
}

function familyOf({ frames, positions, levels }: VitConfig): Family {
  if (frames === undefined) return 'ijepa';
  if (typeof positions !== 'object') return 'vjepa';
  return levels ? 'vjepa2.1' : 'vjepa2';
}

/** What goes before an encoder of images or of clips, as published models say it. */
function stepsOf(name: string, preparation: PreparationInput): Pick<LoadedEncoder, 'transforms' | 'resizing'> {
  if (isImages(preparation)) return { transforms: parseTransforms(preparation.transforms, name) };
  const transform = preparation.kind === 'video' ? parseClipTransform(preparation.transform, name) : undefined;
  return transform?.kind === 'evaluate' ? frameSteps(transform) : {};
}

/** A predictor that follows actions and the encoder that it was trained on, of frames by themselves. */
function actionModel(
  name: string,
  { config, modules }: AcMethod,
  meta: CheckpointMeta,
  read: (module: Module) => EncoderWeights,
): LoadedEncoder {
  const { range, mean, std } = scalingOf(meta.config, meta.facts);
  if (range !== 'byte')
    throw new JepaError(
      `${name}: its pictures are scaled by ${range === 'own' ? 'their own range' : 'nothing'}, which a published V-JEPA 2-AC cannot say (data.scaling.range=byte)`,
    );
  const { stateWidth, ...predictor } = config.predictor;
  const told = stateWidth === predictor.actionWidth ? predictor : config.predictor;
  return {
    family: 'vjepa2-ac',
    config: config.encoder,
    weights: read(modules.encoder),
    actionPredictor: { config: told, weights: read(modules.predictor) },
    transforms: parseTransforms([{ kind: 'normalize', mean: [...mean], std: [...std] }]),
  };
}
