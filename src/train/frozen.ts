import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { createRandom } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { wordsOf } from '../data/modality.js';
import { isImages, modalityOf, type PreparationInput } from '../data/plans.js';
import { parseClipTransform } from '../data/video/transforms.js';
import { cachedModel, isModelName } from '../hub/download-node.js';
import type { CheckpointOptions } from '../hub/encoder-files.js';
import { type Encoder, type Method, modulesOf } from '../methods/method.js';
import { initialValues, type Module, tensorsOf } from '../nn/weights.js';
import type { Engine, State } from '../runtime/index.js';
import { buildMethod, evaluationPreparation, trainingPreparations } from './build.js';
import { latestCheckpoint, loadCheckpoint } from './checkpoint.js';
import type { Config } from './config.js';
import type { DataFacts, VideoEncoder } from './facts.js';
import type { TrainResult } from './loop.js';
import { openPublished } from './published.js';
import { remedyOf } from './remedy.js';

/** An encoder with its weights, wherever they came from: what is probed, fine-tuned, used and exported. */
export interface FrozenEncoder {
  /** Where it comes from, for messages and results. */
  readonly name: string;
  readonly encoder: Encoder;
  /** Parameters of `encoder.module` by full name. */
  readonly weights: ReadonlyMap<string, HostTensor<'float32'>>;
  /** What samples go through before it. */
  readonly preparation: PreparationInput;
  /** How samples were augmented in its training, where that is known. */
  readonly augmentation?: PreparationInput;
  /** What to try in training where its embeddings fall together, where that is known. */
  readonly remedy?: string;
  /** Facts worth keeping with everything made from it: method, steps, licence. */
  readonly facts: Readonly<Record<string, string>>;
}

/**
 * Opens an encoder: a run of ours (its folder or the `checkpoint` folder inside), the name of an imported model, a folder of a published model (I-JEPA or
 * V-JEPA 2 of Hugging Face, or what `jepa import` wrote), an official `.pth.tar` or `.pt`, a state dict of PyTorch or
 * safetensors with official names. Of a run with a moving average that average is taken, as in the paper. Throws a `JepaError` that says what was looked for.
 */
export function openEncoder(given: string, options: CheckpointOptions = {}): FrozenEncoder {
  const { run, path } = placeOf(given);
  if (run !== undefined) return openRun(run);
  const published = openPublished(path, options);
  return { ...published, preparation: toSize(published.preparation, published.encoder) };
}

/**
 * Where that is which names an encoder: the folder with the checkpoint of a run, or the path of a published model. Throws a
 * `JepaError` where there is neither.
 */
export function placeOf(given: string): { readonly run?: string; readonly path: string } {
  const path = located(given);
  const isFolder = withFileErrors('open', path, () => fs.statSync(path)).isDirectory();
  if (!isFolder && path.endsWith('.onnx')) {
    throw new JepaError(
      `${path}: exported models are for other programs; give the run, or the model it was written from`,
    );
  }
  const run = isFolder
    ? [path, join(path, 'checkpoint')].find((folder) => latestCheckpoint(folder) !== undefined)
    : undefined;
  if (run === undefined && isFolder && !fs.existsSync(join(path, 'config.json'))) {
    throw new JepaError(
      `${path}: no encoder here (looked for checkpoint/state-<step>.json of a run and for the config.json of a Hugging Face model)`,
    );
  }
  return { run, path };
}

/**
 * A video encoder to build on, by what `openEncoder` takes: its weights by their own names. Throws a `JepaError` for an encoder
 * of anything else.
 */
export function openVideoEncoder(path: string): VideoEncoder {
  const { encoder, weights, preparation } = openEncoder(path);
  const { architecture, module } = encoder;
  if (preparation.kind !== 'video' || architecture.kind !== 'vit')
    throw new JepaError(
      `${path}: this is an encoder of ${wordsOf({ modality: modalityOf(preparation) }).many}, not of clips`,
    );
  const { kind: _, ...config } = architecture;
  const { mean, std } = parseClipTransform(preparation.transform, path);
  return {
    facts: { config, mean, std },
    weights: new Map(Array.from(weights, ([name, value]) => [name.slice(module.prefix.length), value])),
  };
}

/** The folder of a model that was imported by name; everything else is a path. */
function located(path: string): string {
  if (fs.existsSync(path) || !isModelName(path)) return path;
  const known = cachedModel(path);
  if (!known) {
    throw new JepaError(`${path}: there is no such file or folder; if it is a model on the hub: jepa import ${path}`);
  }
  return known.folder;
}

/** Channels and size of the images of an encoder. Throws a `JepaError` for an encoder of anything else. */
export function imageShape({ name, encoder, preparation }: Pick<FrozenEncoder, 'name' | 'encoder' | 'preparation'>): {
  channels: number;
  size: readonly [number, number];
} {
  const modality = modalityOf(preparation);
  if (modality !== 'image')
    throw new JepaError(`${name}: this is an encoder of ${wordsOf({ modality }).many}, not of images`);
  const [channels, height, width] = encoder.inputs[0].shape;
  return { channels, size: [height, width] };
}

/** Brings any image to the encoder's size: with a resize where data were expected to have that size already. */
export function toSize(preparation: PreparationInput, { inputs }: Encoder): PreparationInput {
  if (!isImages(preparation)) return preparation;
  const { transforms } = preparation;
  if (transforms.some(({ kind }) => ['resize', 'centerCrop', 'randomResizedCrop'].includes(kind))) return preparation;
  const [, height, width] = inputs[0].shape;
  return { transforms: [{ kind: 'resize', size: [height, width], fit: 'stretch' }, ...transforms] };
}

function openRun(folder: string): FrozenEncoder {
  const { meta, weights } = loadCheckpoint(folder);
  const method = buildMethod(meta.config, meta.facts);
  return frozen(folder, method, weights, meta.config, meta.facts, meta.step);
}

/** The encoder of a run that is in memory. */
export async function trainedEncoder(
  { method, state, steps, facts }: Pick<TrainResult, 'method' | 'state' | 'steps' | 'facts'>,
  config: Config,
  name: string,
): Promise<FrozenEncoder> {
  const names = [...method.encoder.module.tensors.keys()].map((key) => `${method.encoder.module.prefix}${key}`);
  return frozen(name, method, await state.read(names), config, facts, steps);
}

function frozen(
  name: string,
  method: Method,
  weights: ReadonlyMap<string, HostTensor<'float32'>>,
  config: Config,
  facts: DataFacts,
  steps: number,
): FrozenEncoder {
  return {
    name,
    encoder: method.encoder,
    weights: weightsOf(name, method.encoder.module, weights),
    preparation: toSize(evaluationPreparation(config, facts), method.encoder),
    augmentation: toSize(trainingPreparations(config, facts, method.views.length)[0], method.encoder),
    remedy: remedyOf(config.method),
    facts: { method: method.name, steps: String(steps) },
  };
}

/** The parameters of a module by their full names, from those of a checkpoint. Throws a `JepaError` where they do not fit. */
export function weightsOf(
  name: string,
  { prefix, spec }: Module,
  weights: ReadonlyMap<string, HostTensor<'float32'>>,
): Map<string, HostTensor<'float32'>> {
  return new Map(
    Array.from(spec, ([key, { shape }]): [string, HostTensor<'float32'>] => {
      const value = weights.get(`${prefix}${key}`);
      if (!value || value.shape.join() !== shape.join()) {
        throw new JepaError(
          `${name}: ${prefix}${key} is ${value ? `[${value.shape}]` : 'missing'} where the configuration says [${shape}]; the checkpoint does not fit its configuration`,
        );
      }
      return [`${prefix}${key}`, value];
    }),
  );
}

/** How samples are augmented for this encoder: as in its training, else by the crops of I-JEPA before its own statistics. */
export function augmentationOf(frozen: FrozenEncoder): PreparationInput {
  if (frozen.augmentation || !isImages(frozen.preparation)) return frozen.augmentation ?? frozen.preparation;
  const [height, width] = imageShape(frozen).size;
  const statistics = frozen.preparation.transforms.filter(({ kind }) => kind === 'normalize');
  return { transforms: [{ kind: 'randomResizedCrop', size: [height, width], scale: [0.3, 1] }, ...statistics] };
}

/** The same architecture with fresh weights: what an encoder must be compared with. */
export function randomEncoder(like: FrozenEncoder, seed = 0): FrozenEncoder {
  const { module } = like.encoder;
  return {
    ...like,
    name: 'random weights',
    weights: initialValues(module, createRandom(seed, 'random encoder')),
    remedy: undefined,
    facts: { method: 'none' },
  };
}

const installed = new WeakMap<Engine, WeakMap<FrozenEncoder['weights'], Promise<State>>>();

/** All weights of a method in an engine, given by their full names. */
export const installMethod = (engine: Engine, method: Method, weights: FrozenEncoder['weights']): Promise<State> =>
  engine.createState(tensorsOf(modulesOf(method)), weights);

/** An encoder's weights in an engine: put there once, shared by all that reads them, never to be written. */
export function installEncoder(engine: Engine, { encoder, weights }: FrozenEncoder): Promise<State> {
  const states = installed.get(engine) ?? new WeakMap<FrozenEncoder['weights'], Promise<State>>();
  installed.set(engine, states);
  const install = (): Promise<State> => engine.createState(tensorsOf([encoder.module]), weights);
  const state = states.get(weights) ?? install();
  states.set(weights, state);
  return state;
}
