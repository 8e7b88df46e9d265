import fs from 'node:fs';
import { join } from 'node:path';
import { sizeOf } from '../base/tensor.js';
import type { Transform } from '../data/transforms.js';
import { tokenGrid, VIT_SIZES } from '../nn/vit.js';
import { UNSAID_LICENCE } from './description.js';
import { sourceOf } from './download-node.js';
import { LICENCES } from './encoder-files.js';
import { withFile } from './files.js';
import type { EncoderWeights, Family, LoadedEncoder } from './ijepa-names.js';
import { publishedTransforms } from './model-folder.js';
import { readJsonFile } from './weights.js';

/** What people call the projects. */
export const FAMILY_TITLES: Readonly<Record<Family, string>> = {
  ijepa: 'I-JEPA',
  vjepa: 'V-JEPA',
  vjepa2: 'V-JEPA 2',
  'vjepa2-ac': 'V-JEPA 2-AC',
  'vjepa2.1': 'V-JEPA 2.1',
};

/** What a published model is, as plain values that JSON can hold. */
export interface ModelFacts {
  readonly family: Family;
  /** `ViT-H/14 for images of 224 x 224`, ... */
  readonly title: string;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly mlpWidth: number;
  readonly patchSize: number;
  readonly imageSize: readonly [number, number];
  readonly channels: number;
  /** Of a clip. */
  readonly frames?: number;
  readonly tubeletSize?: number;
  /** Tokens of an image or a clip. */
  readonly tokens: number;
  readonly positions: string;
  /** Numbers of each part. */
  readonly parameters: Readonly<Record<string, number>>;
  readonly classes?: number;
  readonly preparation: readonly Transform[];
  /** Whether the files say the preparation, or the published one is taken. */
  readonly preparationFrom: 'files' | 'publication';
  readonly licence: string;
  /** Entries of a checkpoint that were not read. */
  readonly ignored: readonly string[];
  /** Scalars of a training checkpoint. */
  readonly checkpoint?: Readonly<Record<string, unknown>>;
}

/** Describes a model that was read from `path`. */
export function describeModel(path: string, model: LoadedEncoder): ModelFacts {
  const { config, family = 'ijepa', predictor, actionPredictor, attentive, classifier } = model;
  const { width, depth, heads, mlpWidth, patchSize, imageSize, channels, frames, tubeletSize, positions } = config;
  const parts: Record<string, EncoderWeights | undefined> = {
    encoder: model.weights,
    predictor: predictor?.weights,
    'action-conditioned predictor': actionPredictor?.weights,
    'attentive classifier': attentive?.weights,
    classifier: classifier && new Map(Object.entries(classifier)),
  };
  const classes = classifier?.bias.shape[0] ?? Object.values(attentive?.config.heads ?? {})[0];
  return {
    family,
    title: titleOf(model),
    ...{ width, depth, heads, mlpWidth, patchSize, imageSize, channels },
    ...(frames !== undefined && { frames, tubeletSize }),
    tokens: sizeOf(tokenGrid(config)),
    positions:
      typeof positions === 'object' ? `rotary, ${positions.frequencies}` : `table, ${positions ?? 'column-first'}`,
    parameters: Object.fromEntries(
      Object.entries(parts).flatMap(([name, weights]) => (weights ? [[name, countOf(weights)]] : [])),
    ),
    ...(classes !== undefined && { classes }),
    preparation: model.transforms ?? publishedTransforms(config),
    preparationFrom: model.transforms ? 'files' : 'publication',
    licence: licenceOf(path, model),
    ignored: model.ignored ?? [],
    ...(model.facts && Object.keys(model.facts).length > 0 && { checkpoint: model.facts }),
  };
}

const countOf = (weights: EncoderWeights): number =>
  Array.from(weights.values()).reduce((sum, { shape }) => sum + sizeOf(shape), 0);

const LETTERS = { tiny: 'Ti', small: 'S', base: 'B', large: 'L', huge: 'H', giant: 'g' } as const;

/** `ViT-g/16 for clips of 64 frames of 256 x 256`. Names are of those sizes that were published. */
function titleOf({ config }: LoadedEncoder): string {
  const { width, depth, patchSize, frames, imageSize } = config;
  const known = Object.entries(VIT_SIZES).find(([, size]) => size.width === width && size.depth === depth);
  const letter = known ? LETTERS[known[0] as keyof typeof LETTERS] : width === 1664 && depth === 48 ? 'G' : undefined;
  const name = letter ? `ViT-${letter}/${patchSize}` : `ViT of width ${width} and depth ${depth}, patch ${patchSize},`;
  const size = `${imageSize[1]} x ${imageSize[0]}`;
  return `${name} for ${frames === undefined ? `images of ${size}` : `clips of ${frames} frames of ${size}`}`;
}

/**
 * The right to use weights, as the files say it, else as Meta published checkpoints of this layout. Nobody vouches for it:
 * weights that somebody made from Meta's are under Meta's licence, too.
 */
export function licenceOf(path: string, { family = 'ijepa', licence }: LoadedEncoder): string {
  if (licence !== undefined) return licence;
  const isFolder = fs.statSync(path).isDirectory();
  if (!isFolder && !path.endsWith('.safetensors') && !path.endsWith('.json')) return LICENCES[family];
  const said = isFolder ? saidIn(path) : undefined;
  return said ?? UNSAID_LICENCE;
}

/** What a folder says: our own entry of `config.json`, the page it was downloaded from, or its README. */
function saidIn(folder: string): string | undefined {
  const { licence } = readJsonFile(join(folder, 'config.json'));
  if (typeof licence === 'string') return licence;
  const source = sourceOf(folder);
  if (source) return source.licence === undefined ? undefined : sentence(source.name, source.licence);
  const readme = join(folder, 'README.md');
  if (!fs.existsSync(readme)) return undefined;
  const head = withFile(readme, (file) => new TextDecoder().decode(file.read(0, Math.min(file.size, 16_384))));
  const named = /^---\r?\n(?:.*\r?\n)*?license: *([\w.-]{1,60})\r?\n/.exec(head)?.[1];
  return named === undefined ? undefined : sentence('this model', named);
}

const sentence = (name: string, licence: string): string =>
  `The weights of ${name} are licensed ${licence}${/(^|-)nc(-|$)/i.test(licence) ? ' (non-commercial)' : ''}.`;
