import fs from 'node:fs';
import { join } from 'node:path';
import { withFileErrors } from '../base/atomic.js';
import type { JsonObject } from '../base/json.js';
import { evaluationTransforms, parseTransforms, type Transform } from '../data/transforms.js';
import type { VitConfig } from '../nn/vit.js';
import { describedModel, descriptionOf, PARTS, parseDescription } from './description.js';
import { writeJson } from './hf-folder.js';
import { writeHuggingFaceFolder } from './hf-ijepa.js';
import { vjepa2Refusal, writeVjepa2Folder } from './hf-vjepa2.js';
import type { LoadedEncoder } from './ijepa-names.js';
import { openWeights, readJsonFile, writeWeights } from './weights.js';

/**
 * Folders of published models. What a class of Hugging Face can hold is written as such a class; everything else (V-JEPA,
 * V-JEPA 2.1, action-conditioned predictors) in a form of this package: `config.json` is its description, and
 * `model.safetensors` has official names under `encoder.`, `predictor.`, ...
 */

/**
 * Reads a folder in the package's own form; numbers are read when they are needed. Throws JepaError where the
 * configuration is not one, or names and shapes of the weights do not fit it.
 */
export function readModelFolder(folder: string): LoadedEncoder {
  const path = join(folder, 'config.json');
  const description = parseDescription(readJsonFile(path), path);
  const file = openWeights(folder);
  try {
    return describedModel(description, folder, file.tensors);
  } finally {
    file.close();
  }
}

export interface ModelFolder {
  /** What reads it. */
  readonly form: 'Hugging Face' | 'jepa';
  /** Parts that this form has no place for. */
  readonly leftOut: readonly string[];
}

/** Writes a published model as Hugging Face's class of it, where there is one, else in the package's own form. */
export function writeModelFolder(
  folder: string,
  model: LoadedEncoder,
  about: { readonly licence?: string; readonly source?: string } = {},
): ModelFolder {
  const transforms = model.transforms ?? publishedTransforms(model.config);
  // A key that these classes do not know, kept by them: the right to use the weights goes along.
  const extra: JsonObject = {
    ...(about.licence !== undefined && { licence: about.licence }),
    ...(about.source !== undefined && { source: about.source }),
  };
  if (model.family === 'ijepa') {
    writeHuggingFaceFolder(folder, { ...model, transforms }, { extra });
    return { form: 'Hugging Face', leftOut: model.predictor ? ['the predictor'] : [] };
  }
  if (model.family === 'vjepa2' && vjepa2Refusal(model) === undefined) {
    writeVjepa2Folder(folder, { ...model, transforms }, { extra });
    return { form: 'Hugging Face', leftOut: [] };
  }
  const tensors = new Map(Array.from(model.weights, ([name, tensor]) => [`encoder.${name}`, tensor]));
  for (const part of PARTS)
    for (const [name, tensor] of model[part]?.weights ?? []) tensors.set(`${part}.${name}`, tensor);
  withFileErrors('create', folder, () => fs.mkdirSync(folder, { recursive: true }));
  writeWeights(folder, tensors);
  writeJson(join(folder, 'config.json'), descriptionOf(model, extra));
  return { form: 'jepa', leftOut: [] };
}

/** What images, and every frame of a clip, go through before the published models where no file says it. */
export function publishedTransforms({ imageSize: [height, width], frames }: VitConfig): Transform[] {
  if (height !== width) return parseTransforms([{ kind: 'resize', size: [height, width], fit: 'stretch' }]);
  if (frames === undefined) return parseTransforms(evaluationTransforms(height));
  // Of clips the shorter side is cut off, not rounded (V-JEPA, `evals/video_classification_frozen/utils.py`).
  const [, ...rest] = evaluationTransforms(height);
  const size = Math.trunc((height * 256) / 224);
  return parseTransforms([{ kind: 'resize', size, fit: 'shortEdge', filter: 'bilinear' }, ...rest]);
}
