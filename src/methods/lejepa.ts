import { JepaError } from '../base/errors.js';
import { lejepaLoss, randomDirections } from '../energy/sigreg.js';
import { mulDims } from '../graph/dims.js';
import { broadcastTo, concat, narrow, reshape } from '../graph/ops/move.js';
import { mean } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { mlpForward, mlpSpec } from '../nn/mlp.js';
import { makeModule } from '../nn/weights.js';
import { type BackboneConfig, makeBackbone } from './backbone.js';
import type { Method } from './method.js';

/**
 * LeJEPA (Balestriero and LeCun 2025): every view's embedding predicts the centre of the views, and SIGReg holds
 * embeddings to a standard normal distribution. No moving average, no stop-gradient.
 */
export interface LejepaConfig {
  readonly encoder: BackboneConfig;
  /** Hidden and output widths of the projector. */
  readonly projector: readonly number[];
  /** Views of each image whose mean is the centre (large crops). */
  readonly globals: number;
  /** Further views, drawn to the centre only (small crops); they have the size of the others. */
  readonly locals: number;
  /** Share of SIGReg in the loss. */
  readonly lambda: number;
  /** Directions that embeddings are projected on, new at every step. */
  readonly slices: number;
}

/** The training graph, for images [batch, views, channels, height, width]. Throws a `JepaError` for fewer than two views. */
export function lejepa(config: LejepaConfig): Method {
  const { globals, locals, slices, lambda } = config;
  if (globals < 1 || globals + locals < 2)
    throw new JepaError(`lejepa: needs at least two views, one of them global, not ${globals} + ${locals}`);
  const encoder = makeBackbone('encoder.', config.encoder);
  const width = config.projector.at(-1);
  if (width === undefined) throw new JepaError('lejepa: the projector needs at least one layer');
  const projector = makeModule('projector.', mlpSpec([encoder.outputs, ...config.projector]));

  const { channels, imageSize } = config.encoder;
  const kinds = [globals, locals].filter((count) => count > 0);
  const inputs = kinds.map((count, kind) =>
    input(kind === 0 ? 'images' : 'local images', ['batch', count, channels, ...imageSize]),
  );
  const views = globals + locals;
  const images = concat(inputs, 1);
  const [batch] = images.shape;
  const h = scope('encoder', () => encoder.embed(reshape(images, [mulDims(batch, views), channels, ...imageSize])));
  const z = scope('projector', () =>
    reshape(mlpForward(h, projector.weights, config.projector.length), [batch, views, width]),
  );
  const directions = input('directions', [width, slices]);
  const { loss, invariance, sigreg } = scope('energy', () =>
    lejepaLoss(z, directions, { views: 1, axis: 0, globals, lambda }),
  );
  const centre = mean(narrow(z, 1, 0, globals), 1, true);
  return {
    name: 'lejepa',
    trained: [encoder.module, projector],
    followers: [],
    loss,
    scalars: { invariance, sigreg },
    pair: { prediction: z, target: broadcastTo(centre, z.shape as Tensor['shape']) },
    views: kinds,
    feeds: (step, random) => ({
      images: step.views[0].images,
      ...(locals > 0 ? { 'local images': step.views[1].images } : {}),
      directions: randomDirections(random, width, slices),
    }),
    encoder,
  };
}
