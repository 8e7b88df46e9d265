import { VIEW_PARAMETERS } from '../data/pipeline.js';
import type { PreparationInput } from '../data/plans.js';
import { parseTransforms, type TransformInput } from '../data/transforms.js';
import type { BackboneConfig } from '../methods/backbone.js';
import { ijepaMethod, ijepaPredictor } from '../methods/ijepa.js';
import { lejepa } from '../methods/lejepa.js';
import type { Method } from '../methods/method.js';
import { viewJepa } from '../methods/viewjepa.js';
import { vitConfig } from '../nn/vit.js';
import type { Config } from './config.js';

export const imageSizeOf = ({ data: { size } }: Config): readonly [number, number] =>
  typeof size === 'number' ? [size, size] : size;

/** Builds the method that a configuration names. */
export function buildMethod(config: Config): Method {
  const { method } = config;
  const imageSize = imageSizeOf(config);
  const { channels } = config.data;
  const backbone = (encoder: Extract<Config['method'], { name: 'lejepa' }>['encoder']): BackboneConfig =>
    encoder.kind === 'vit'
      ? { ...vitConfig({ ...encoder, imageSize, channels }), kind: 'vit' }
      : { ...encoder, imageSize, channels };
  switch (method.name) {
    case 'ijepa': {
      const encoder = vitConfig({ ...method.encoder, imageSize, channels });
      const { width, depth, heads } = method.predictor;
      const predictor = { ...ijepaPredictor(encoder, width, depth), ...(heads === undefined ? {} : { heads }) };
      const { masks, distance, regularizer, dropPath, rescale } = method;
      return ijepaMethod({ encoder, predictor, masks, distance, regularizer, dropPath, rescale });
    }
    case 'lejepa':
      return lejepa({ ...method, encoder: backbone(method.encoder) });
    case 'viewjepa':
      return viewJepa({
        ...method,
        encoder: backbone(method.encoder),
        parameters: method.conditioned ? VIEW_PARAMETERS : 0,
      });
  }
}

/** How each kind of training view is made. By default the image in the encoder's size, as the paper of the method crops it. */
export function trainingPreparations(config: Config, kinds: number): PreparationInput[] {
  const [height, width] = imageSizeOf(config);
  const given = config.data.views as TransformInput[][] | undefined;
  const crop: TransformInput[] = [{ kind: 'randomResizedCrop', size: [height, width], scale: [0.3, 1] }];
  const views = given ?? Array.from({ length: kinds }, () => crop);
  views.forEach((steps, i) => {
    parseTransforms(steps, `data.views[${i}]`);
  });
  return views.map((transforms) => ({ transforms }));
}

/** How samples are prepared for a frozen encoder. */
export function evaluationPreparation(config: Config): PreparationInput {
  const given = config.data.evaluation as TransformInput[] | undefined;
  const [height, width] = imageSizeOf(config);
  const steps = given ?? [{ kind: 'resize', size: [height, width], fit: 'stretch' }];
  parseTransforms(steps, 'data.evaluation');
  return { transforms: steps };
}
