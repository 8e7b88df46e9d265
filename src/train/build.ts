import { JepaError } from '../base/errors.js';
import type { SoundInput } from '../data/audio/preparation.js';
import type { EpisodeInput } from '../data/episodes/preparation.js';
import type { Scaling } from '../data/episodes/scaling.js';
import { VIEW_PARAMETERS } from '../data/pipeline.js';
import type { PreparationInput } from '../data/plans.js';
import { openTokenizer, planTexts, type TextInput } from '../data/text/plan.js';
import type { TextPlan } from '../data/text/preparation.js';
import type { TransformInput } from '../data/transforms.js';
import { parseClipTransform, pretrainClips } from '../data/video/transforms.js';
import { A_JEPA_MASKS } from '../masking/spectrogram.js';
import { A_JEPA, AUDIO_JEPA, AUDIO_STUDY, audioJepaMethod, audioVit } from '../methods/audio-jepa.js';
import type { BackboneConfig } from '../methods/backbone.js';
import { ijepaMethod, ijepaPredictor } from '../methods/ijepa.js';
import { lejepa } from '../methods/lejepa.js';
import { llmJepaMethod } from '../methods/llm-jepa.js';
import type { Method } from '../methods/method.js';
import { SJEPA_FEATURES, SJEPA_OPTIONS, sjepaMethod, sjepaPredictor } from '../methods/s-jepa.js';
import { TEXT_DISTANCE, textJepaMethod, textJepaOptions, textJepaPredictor } from '../methods/text-jepa.js';
import { viewJepa } from '../methods/viewjepa.js';
import { maskKinds, vjepaMethod, vjepaPredictor } from '../methods/vjepa.js';
import { VJEPA2_ROPE, vjepa2Method, vjepa2Predictor } from '../methods/vjepa2.js';
import { acMethod, acPredictorConfig } from '../methods/vjepa2-ac.js';
import { VJEPA21_ROPE, vjepa21Levels, vjepa21Method, vjepa21Predictor } from '../methods/vjepa21.js';
import { skeletonConfig } from '../nn/skeleton.js';
import { textConfig } from '../nn/text.js';
import { checkVit, type Positions, VIT_SIZES, type VitConfig, vitConfig } from '../nn/vit.js';
import { type StateEncoder, worldModelMethod } from '../world/world-model.js';
import type { Config } from './config.js';
import type { DataFacts } from './facts.js';

type DataOf<K extends Config['data']['kind']> = Extract<Config['data'], { kind: K }>;

/** The part of a configuration about data of a kind; `parseConfig` has seen to it that method and data go together. */
function dataOf<K extends Config['data']['kind']>({ data }: Config, kind: K): DataOf<K> {
  if (data.kind !== kind) throw new JepaError(`data.kind: ${data.kind} where ${kind} is needed`);
  return data as DataOf<K>;
}

const imageSizeOf = ({ size }: DataOf<'image'>): readonly [number, number] =>
  typeof size === 'number' ? [size, size] : size;

/** Builds the method that a configuration names, for data of which `facts` are known. */
export function buildMethod(config: Config, facts: DataFacts = {}): Method {
  const { method } = config;
  switch (method.name) {
    case 'ijepa': {
      const encoder = vitConfig({ ...method.encoder, ...imagesOf(config) });
      const { width, depth, heads } = method.predictor;
      const predictor = { ...ijepaPredictor(encoder, width, depth), ...(heads === undefined ? {} : { heads }) };
      const { masks, distance, regularizer, dropPath, rescale } = method;
      return ijepaMethod({ encoder, predictor, masks, distance, regularizer, dropPath, rescale });
    }
    case 'lejepa':
      return lejepa({ ...method, encoder: backbone(method.encoder, config) });
    case 'viewjepa':
      return viewJepa({
        ...method,
        encoder: backbone(method.encoder, config),
        parameters: method.conditioned ? VIEW_PARAMETERS : 0,
      });
    case 'vjepa': {
      const encoder = clipEncoder(config, 'uniform');
      const { width, depth } = method.predictor;
      return vjepaMethod({ ...method, encoder, predictor: vjepaPredictor(encoder, maskKinds(method), width, depth) });
    }
    case 'vjepa2': {
      const encoder = clipEncoder(config, VJEPA2_ROPE);
      const { width, depth } = method.predictor;
      return vjepa2Method({ ...method, encoder, predictor: vjepa2Predictor(encoder, 1, width, depth) });
    }
    case 'vjepa21': {
      const depth = method.encoder.depth ?? VIT_SIZES[method.encoder.size].depth;
      const encoder = clipEncoder(config, VJEPA21_ROPE, method.levels ?? vjepa21Levels(depth));
      const predictor = vjepa21Predictor(encoder, 1, method.predictor.width, method.predictor.depth);
      return vjepa21Method({ ...method, encoder, predictor });
    }
    case 'audio-jepa': {
      const { features } = dataOf(config, 'sound');
      const imageSize = shapeOfFeatures(features);
      const encoder = audioVit({ ...method.encoder, imageSize });
      const { width, depth, heads } = method.predictor;
      const predictor = { ...ijepaPredictor(encoder, width, depth), ...(heads === undefined ? {} : { heads }) };
      const { options, distance } = { 'audio-jepa': AUDIO_JEPA, 'a-jepa': A_JEPA, study: AUDIO_STUDY }[method.targets];
      const masks = method.masks.kind === 'curriculum' ? A_JEPA_MASKS : method.masks;
      const { regularizer, dropPath, rescale } = method;
      return audioJepaMethod({ encoder, predictor, masks, options, distance, regularizer, dropPath, rescale });
    }
    case 's-jepa': {
      const { frames, view } = dataOf(config, 'skeleton');
      const encoder = skeletonConfig({ ...method.encoder, frames, joints: factOf(facts, 'joints') });
      const { masks, regularizer, centre, targets, spread } = method;
      const [sharpness, softness] = method.temperatures;
      const distributions = {
        options: {
          ...SJEPA_OPTIONS,
          normalisation: { kind: 'softmax' as const, temperature: sharpness, momentum: centre },
        },
        distance: { kind: 'cross-entropy' as const, temperature: softness },
      };
      return sjepaMethod({
        encoder,
        predictor: sjepaPredictor(encoder, method.predictor),
        views: view !== null,
        masks,
        ...(targets === 'features' ? SJEPA_FEATURES : distributions),
        regularizer,
        spread,
      });
    }
    case 'text-jepa': {
      const { tokens } = dataOf(config, 'text');
      const encoder = textConfig({ ...method.encoder, ...vocabularyOf(facts), maxTokens: tokens, causal: false });
      return textJepaMethod({
        encoder,
        tokens,
        predictor: textJepaPredictor(encoder, method.predictor.width, method.predictor.depth),
        options: textJepaOptions(method.layers ?? Math.max(1, encoder.depth - 1)),
        distance: TEXT_DISTANCE,
        masks: method.masks,
        regularizer: method.regularizer,
        spread: method.spread,
      });
    }
    case 'llm-jepa': {
      const plan = planTexts(textInput(config, facts), 'data') as TextPlan & Required<Pick<TextPlan, 'dialogue'>>;
      const model = textConfig({
        ...method.encoder,
        ...vocabularyOf(facts),
        maxTokens: 2 * plan.tokens,
        causal: true,
      });
      const { distance, gamma, lambda, dropout } = method;
      return llmJepaMethod({ model, distance, gamma, lambda, dropout, form: 'separate' }, plan);
    }
    case 'world-model': {
      const { frames, moments } = dataOf(config, 'episodes');
      const { observation, action } = factOf(facts, 'episodes');
      const { encoder, predictor, steps, slices, inverseWidth, distance, codes, ...terms } = method;
      return worldModelMethod({
        observation,
        actions: action,
        frames,
        moments,
        encoder: stateEncoder(encoder, observation, facts),
        predictor,
        steps,
        terms,
        inverseWidth,
        slices,
        ...(distance && { distance }),
        ...(codes && { codes }),
      });
    }
    case 'vjepa2-ac': {
      const { frames } = dataOf(config, 'episodes');
      const { observation, action } = factOf(facts, 'episodes');
      const encoder = ofSinglePictures(factOf(facts, 'encoder').config, observation);
      const { width, depth, heads } = method.predictor;
      const predictor = {
        ...acPredictorConfig(encoder, width, depth, heads),
        actionWidth: action,
        stateWidth: method.pose,
      };
      return acMethod({ encoder, predictor, frames, steps: method.steps, exponent: method.exponent });
    }
  }
}

/** The frozen encoder that a method builds on, as its configuration names it. */
export function givenEncoder(method: Config['method']): string | undefined {
  if (method.name === 'vjepa2-ac') return method.encoder;
  return method.name === 'world-model' && method.encoder.kind === 'frozen' ? method.encoder.from : undefined;
}

/** A video encoder of clips of one tubelet that has the size of observations. */
function ofSinglePictures(config: VitConfig, observation: readonly number[]): VitConfig {
  const { positions, frames, tubeletSize, channels } = config;
  const refuse = (why: string): never => {
    throw new JepaError(`method.encoder: ${why}`);
  };
  if (observation.length !== 3) return refuse('it sees pictures; set data.observe=pictures');
  if (frames === undefined) return refuse('it is an encoder of images; frames of episodes need one of clips');
  if (typeof positions !== 'object')
    return refuse('it has a table of positions for whole clips; frames by themselves need V-JEPA 2 or 2.1');
  const [seen, height, width] = observation;
  if (seen !== channels) return refuse(`it sees ${channels} channels, observations have ${seen}`);
  const sized = { ...config, imageSize: [height, width] as const, frames: tubeletSize };
  checkVit(sized);
  return sized;
}

function stateEncoder(
  encoder: Extract<Config['method'], { name: 'world-model' }>['encoder'],
  observation: readonly number[],
  facts: DataFacts,
): StateEncoder {
  if (encoder.kind === 'frozen') {
    const { frequencies, hidden, width } = encoder;
    const eyes = ofSinglePictures(factOf(facts, 'encoder').config, observation);
    return { kind: 'frozen', eyes, frequencies, hidden, width };
  }
  if (encoder.kind !== 'vit') return encoder;
  const [channels, ...size] = observation;
  if (size.length !== 2) throw new JepaError('method.encoder: a vit sees pictures; states of numbers need kind=mlp');
  return { kind: 'vit', vit: vitConfig({ ...encoder, imageSize: [size[0], size[1]], channels }) };
}

/** How observations of episodes become floats: as configured, else by the statistics of the training data. */
export const scalingOf = (config: Config, facts: DataFacts): Scaling =>
  dataOf(config, 'episodes').scaling ?? factOf(facts, 'episodes').scaling;

const imagesOf = (config: Config) => {
  const data = dataOf(config, 'image');
  return { imageSize: imageSizeOf(data), channels: data.channels };
};

function clipEncoder(config: Config, positions: Positions, levels?: readonly number[]): VitConfig {
  const { size, channels, frames } = dataOf(config, 'video');
  const { encoder } = config.method as Extract<Config['method'], { name: 'vjepa' | 'vjepa2' | 'vjepa21' }>;
  return vitConfig({ ...encoder, imageSize: size, channels, frames, positions, ...(levels && { levels }) });
}

function backbone(encoder: Extract<Config['method'], { name: 'lejepa' }>['encoder'], config: Config): BackboneConfig {
  const images = imagesOf(config);
  return encoder.kind === 'vit' ? { ...vitConfig({ ...encoder, ...images }), kind: 'vit' } : { ...encoder, ...images };
}

function factOf<K extends keyof DataFacts>(facts: DataFacts, name: K): NonNullable<DataFacts[K]> {
  const fact = facts[name];
  if (fact === undefined) throw new JepaError(`data: its ${name} must be known before a method is built`);
  return fact;
}

const vocabularyOf = (facts: DataFacts): { vocabulary: number } => ({
  vocabulary: openTokenizer(factOf(facts, 'tokenizer'), 'data').size,
});

/** [frames, mels] of the spectrograms. */
function shapeOfFeatures(features: SoundInput['features']): readonly [number, number] {
  if (features === 'audiomae') return [1024, 128];
  if (features === 'audiojepa') return [256, 128];
  return [features.frames, features.mels];
}

// --- how samples are prepared -----------------------------------------------------------------------------------------

/** How each kind of training view is made. By default images and clips are cropped as the paper of the method does. */
export function trainingPreparations(config: Config, facts: DataFacts, kinds: number): PreparationInput[] {
  const { data } = config;
  switch (data.kind) {
    case 'image': {
      const [height, width] = imageSizeOf(data);
      const crop: TransformInput[] = [{ kind: 'randomResizedCrop', size: [height, width], scale: [0.3, 1] }];
      const views = data.views ?? Array.from({ length: kinds }, () => crop);
      return views.map((transforms) => ({ transforms }));
    }
    case 'video': {
      const given = data.view && { kind: 'train', size: data.size, ...data.view };
      const transform = parseClipTransform(given ?? pretrainClips(data.size), 'data.view');
      return [{ kind: 'video', transform }];
    }
    case 'sound':
      return [soundInput(data, facts, 'random')];
    case 'skeleton': {
      const { frames, centre, upright, motion, scale, crop, view } = data;
      return [{ kind: 'skeleton', frames, centre, upright, motion, scale, crop, ...(view && { view }) }];
    }
    case 'text':
      return [textInput(config, facts)];
    case 'episodes':
      return [episodeWindows(config, facts)];
  }
}

/** Whole windows of episodes. */
export const episodeWindows = (config: Config, facts: DataFacts): EpisodeInput => ({
  kind: 'episodes',
  part: 'window',
  scaling: scalingOf(config, facts),
  told: facts.episodes?.told,
});

/** How samples are prepared for a frozen encoder. */
export function evaluationPreparation(config: Config, facts: DataFacts): PreparationInput {
  const { data } = config;
  switch (data.kind) {
    case 'image': {
      const [height, width] = imageSizeOf(data);
      return { transforms: data.evaluation ?? [{ kind: 'resize', size: [height, width], fit: 'stretch' }] };
    }
    case 'video': {
      const { mean, std } = data.view ?? {};
      const given = {
        kind: 'evaluate',
        size: data.size,
        ...(mean && { mean }),
        ...(std && { std }),
        ...data.evaluation,
      };
      return { kind: 'video', transform: parseClipTransform(given, 'data.evaluation') };
    }
    case 'sound':
      return soundInput(data, facts, 'middle');
    case 'skeleton': {
      const { frames, centre, upright, motion, scale } = data;
      return { kind: 'skeleton', frames, centre, upright, motion, scale };
    }
    case 'text':
      return textInput(config, facts);
    case 'episodes':
      return { kind: 'episodes', part: 'first', scaling: scalingOf(config, facts) };
  }
}

/** How recordings become features; their statistics are those of the data where none are given. */
export function soundInput(
  { seconds, features, statistics }: DataOf<'sound'>,
  facts: DataFacts = {},
  crop: SoundInput['crop'] = 'random',
): SoundInput {
  return { kind: 'sound', seconds, crop, features, statistics: statistics ?? facts.statistics };
}

function textInput(config: Config, facts: DataFacts): TextInput {
  const { tokens } = dataOf(config, 'text');
  const pairs = config.method.name === 'llm-jepa';
  return { kind: 'text', tokens, tokenizer: factOf(facts, 'tokenizer'), ...(pairs && { pairs }) };
}
