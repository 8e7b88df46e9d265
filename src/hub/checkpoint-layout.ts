import { basename } from 'node:path';
import { writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import type { Json, JsonObject } from '../base/json.js';
import type { VitConfig } from '../nn/vit.js';
import {
  checkModel,
  describedModel,
  descriptionOf,
  PACKAGE_TYPE,
  parseDescription,
  UNSAID_LICENCE,
} from './description.js';
import { type HuggingFaceOptions, narrowed } from './hf-folder.js';
import { checkNames, type EncoderWeights, type LinearWeights, type LoadedEncoder } from './ijepa-names.js';
import { describeTorchValue, isTorchTensor, type TorchValue } from './pth.js';
import { type TorchWritable, torchFilePieces } from './pth-write.js';
import { lateWeights, loadFloat32, type StoredTensor } from './raw.js';
import type { Writable } from './safetensors.js';
import { type State, stateOf } from './torch-files.js';

/**
 * Training checkpoints as Meta's codes lay them out (specs/ijepa.md 7.1, vjepa.md 6, vjepa2.md 6.1): a dictionary with a state dict
 * for each network and a few scalars. What those files do not show (attention heads, preparation, ...) stands under one more
 * key, which those codes do not look at.
 */

/** The key of the description. */
export const DESCRIPTION = 'jepa';

type Root = ReadonlyMap<TorchValue, TorchValue>;

/** Whether a checkpoint says itself what it holds, because this package wrote it. */
export const isDescribed = (root: TorchValue): boolean =>
  root instanceof Map && descriptionIn(root)?.get('model_type') === PACKAGE_TYPE;

function descriptionIn(root: Root): Root | undefined {
  const found = root.get(DESCRIPTION);
  return found instanceof Map ? found : undefined;
}

/** Scalars of a training checkpoint, as JSON can hold them. */
export const factsIn = (root: Root): Record<string, unknown> =>
  Object.fromEntries(
    ['epoch', 'loss', 'lr', 'batch_size', 'world_size', 'scaler']
      .filter((key) => root.has(key))
      .map((key) => [key, describeTorchValue(root.get(key)!)]),
  );

/**
 * The other encoder of a checkpoint of which `target_encoder` was read: the one that learned. Undefined where there is none of
 * the same parameters; V-JEPA 2 has files in which it still holds a table of positions that nothing uses.
 */
export function contextIn(root: Root, weights: EncoderWeights, what: string): EncoderWeights | undefined {
  const own = root.get('encoder');
  if (!(own instanceof Map) || ![...own.values()].every(isTorchTensor)) return undefined;
  const state = stateOf(own, `${what}: encoder`);
  const fits = [...weights].every(([name, { shape }]) => state.get(name)?.shape.join() === shape.join());
  if (!fits) return undefined;
  return lateWeights(Array.from(weights.keys(), (name) => [name, state.get(name) as StoredTensor]));
}

/** Reads a checkpoint that says itself what it holds. Throws a `JepaError` where it does not hold that. */
export function readDescribed(
  root: Root,
  path: string,
  entry: 'target_encoder' | 'encoder' | 'ema_encoder' = 'target_encoder',
): LoadedEncoder {
  const description = parseDescription(describeTorchValue(root.get(DESCRIPTION)!), `${path}: ${DESCRIPTION}`);
  const state = (key: string): State => stateOf(root.get(key), `${path}: ${key}`);
  const tensors = new Map<string, StoredTensor>();
  const take = (part: string, found: State) => {
    for (const [name, tensor] of found) tensors.set(`${part}.${name}`, tensor);
  };
  take('encoder', state(entry));
  if (description.predictor) take('predictor', state('predictor'));
  if (description.actionPredictor) take('actionPredictor', state('predictor'));
  if (description.attentive) {
    const all = root.get('classifiers');
    take('attentive', stateOf(Array.isArray(all) ? all[0] : root.get('classifier'), `${path}: classifier`));
  }
  const model = describedModel(description, path, tensors);
  const linear = (key: string): LinearWeights | undefined =>
    root.has(key) && !description.attentive ? linearIn(state(key), model.config, `${path}: ${key}`) : undefined;
  const context = description.context && entry !== 'encoder' ? contextIn(root, model.weights, path) : undefined;
  if (description.context && entry !== 'encoder' && !context)
    throw new JepaError(`${path}: "encoder" does not have the parameters of "${entry}", as its description says`);
  return {
    ...model,
    context,
    pooler: linear('pooler'),
    classifier: linear('classifier'),
    licence: model.licence ?? UNSAID_LICENCE,
    facts: factsIn(root),
  };
}

function linearIn(state: State, { width }: VitConfig, what: string): LinearWeights {
  const outputs = state.get('bias')?.shape[0] ?? 1;
  const shapes = new Map([
    ['weight', [outputs, width]],
    ['bias', [outputs]],
  ]);
  checkNames(what, shapes, state);
  const load = (name: string) => loadFloat32(state.get(name) as StoredTensor, name);
  return { weight: load('weight'), bias: load('bias') };
}

export interface CheckpointWriteOptions extends Pick<HuggingFaceOptions, 'dtype'> {
  /** What the description says besides. */
  readonly licence?: string;
  readonly source?: string;
}

/**
 * A checkpoint as a value to be written: `encoder`, `predictor` where there is one, `target_encoder`, `epoch` and what else of the
 * training is known; `classifiers` or `classifier` of an evaluation, which Meta keeps in files of their own; the description. Where
 * a model has one encoder it stands under both names and is stored once. The optimizer's state is left out. Throws a `JepaError`
 * beginning with `what` for a model that none of Meta's codes could hold.
 */
export function checkpointOf(
  what: string,
  model: LoadedEncoder,
  { dtype = 'F32', licence, source }: CheckpointWriteOptions = {},
): Map<TorchWritable, TorchWritable> {
  const refusal = layoutRefusal(model);
  if (refusal) throw new JepaError(`${what}: the checkpoints of Meta's codes have no place for it: ${refusal}`);
  checkModel(what, model);
  const { family = 'ijepa', weights, context, predictor, actionPredictor, attentive, pooler, classifier } = model;
  const prefix = family === 'ijepa' || family === 'vjepa2-ac' ? 'module.' : 'module.backbone.';
  const state = (own: Iterable<[string, LinearWeights['weight']]>, before: string): Map<string, Writable> =>
    new Map(Array.from(own, ([name, tensor]) => [`${before}${name}`, narrowed(tensor, dtype)]));
  const target = state(weights, prefix);
  const predicting = predictor ?? actionPredictor;
  const root = new Map<TorchWritable, TorchWritable>([
    ['encoder', context ? state(context, prefix) : target],
    ...(predicting ? [['predictor', state(predicting.weights, prefix)] as const] : []),
    ['target_encoder', target],
  ]);
  if (attentive) {
    const probe = state(attentive.weights, 'module.');
    if (attentive.config.pooler.blocks === 'before') root.set('classifiers', [probe]);
    else root.set('classifier', probe);
  }
  for (const [key, layer] of Object.entries({ classifier, pooler })) {
    if (layer) root.set(key, state(Object.entries(layer), 'module.'));
  }
  // Meta's evaluations ask for the epoch whatever they load.
  root.set('epoch', 0);
  for (const [key, value] of Object.entries(model.facts ?? {})) if (typeof value === 'number') root.set(key, value);
  const said = licence ?? model.licence;
  const about: JsonObject = {
    ...(said && { licence: said }),
    ...(source && { source }),
    ...(context && { context: true }),
  };
  return root.set(DESCRIPTION, plain(descriptionOf(model, about)));
}

/** Why none of Meta's classes has the parameters of a model; undefined where one has. */
function layoutRefusal({ config, family = 'ijepa', actionPredictor }: LoadedEncoder): string | undefined {
  if (family === 'ijepa' && config.frames !== undefined) return 'I-JEPA sees images, not clips';
  if (family !== 'ijepa' && config.frames === undefined) return 'V-JEPA sees clips, not images';
  const rotary = typeof config.positions === 'object';
  if (rotary !== (family !== 'ijepa' && family !== 'vjepa'))
    return `its positions are ${rotary ? 'rotary' : 'a table'}, as those of ${family} are not`;
  const { actionWidth, stateWidth = actionWidth } = actionPredictor?.config ?? {};
  if (stateWidth !== actionWidth)
    return `its predictor is told states of ${stateWidth} numbers and actions of ${actionWidth}, V-JEPA 2-AC as many of both`;
  return undefined;
}

/** JSON as a value of Python; what is undefined is left out, as in JSON. */
function plain(value: Json): TorchWritable {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, child]) => child !== undefined);
  return new Map(entries.map(([key, child]) => [key, plain(child)]));
}

/** Writes a model as such a checkpoint, atomically, one tensor at a time. */
export function writeTorchCheckpoint(path: string, model: LoadedEncoder, options: CheckpointWriteOptions = {}): void {
  writeTorchFile(path, checkpointOf(path, model, options));
}

/** Writes a value as `torch.save` does; see `torchFilePieces`. */
export function writeTorchFile(path: string, root: TorchWritable): void {
  writeFileAtomic(path, torchFilePieces(root, stemOf(path)));
}

/** The name of the file without its last extension, as PyTorch has it, where that is plain text. */
function stemOf(path: string): string {
  const stem = basename(path).replace(/(.)\.[^.]*$/, '$1');
  return /^[\w .-]+$/.test(stem) ? stem : 'archive';
}
