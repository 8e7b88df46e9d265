import { JepaError } from '../base/errors.js';
import { meanEnergy } from '../energy/distance.js';
import { mulDims } from '../graph/dims.js';
import { add, mul, sub } from '../graph/ops/elementwise.js';
import { concat, narrow, reshape } from '../graph/ops/move.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { mlpForward, mlpSpec } from '../nn/mlp.js';
import { makeModule } from '../nn/weights.js';
import { type BackboneConfig, makeBackbone } from './backbone.js';
import type { Method, Regularizer } from './method.js';
import { regularize } from './regularize.js';

/**
 * A JEPA over views, told how they differ: from the embedding of one view and the transformation that leads to another,
 * predict the embedding of the other (Garrido et al. 2024, Learning and Leveraging World Models in Visual Representation
 * Learning: image world models). Collapse is prevented by a regulariser instead of a moving average.
 */
export interface ViewJepaConfig {
  readonly encoder: BackboneConfig;
  /** Hidden and output widths of the projector. */
  readonly projector: readonly number[];
  /** Hidden widths of the predictor. */
  readonly predictor: readonly number[];
  /** Numbers that describe a view's transformation; 0 leaves the predictor unconditioned. */
  readonly parameters: number;
  /** Weight of the prediction energy (mean squared error). */
  readonly prediction: number;
  readonly regularizer: Regularizer;
}

/** The training graph for two views of each image, [batch, 2, channels, height, width]. */
export function viewJepa(config: ViewJepaConfig): Method {
  const encoder = makeBackbone('encoder.', config.encoder);
  const width = config.projector.at(-1);
  if (width === undefined) throw new JepaError('viewjepa: the projector needs at least one layer');
  const projector = makeModule('projector.', mlpSpec([encoder.outputs, ...config.projector]));
  const predictor = makeModule('predictor.', mlpSpec([width + config.parameters, ...config.predictor, width]));

  const { channels, imageSize } = config.encoder;
  const images = input('images', ['batch', 2, channels, ...imageSize]);
  const [batch] = images.shape;
  const flat = reshape(images, [mulDims(batch, 2), channels, ...imageSize]); // both views of an image side by side
  const h = scope('encoder', () => encoder.embed(flat));
  const z = scope('projector', () => mlpForward(h, projector.weights, config.projector.length));
  const pairs = reshape(z, [batch, 2, width]);
  const [first, second] = [0, 1].map((view) => reshape(narrow(pairs, 1, view, 1), [batch, width]));

  // How to get from the first view to the second; the other way round it is the negative.
  const parameters = config.parameters > 0 ? input('parameters', ['batch', 2, config.parameters]) : undefined;
  const [p1, p2] = parameters
    ? [0, 1].map((view) => reshape(narrow(parameters, 1, view, 1), [batch, config.parameters]))
    : [undefined, undefined];
  const predict = (from: Tensor, change: Tensor | undefined): Tensor =>
    add(from, mlpForward(change ? concat([from, change], 1) : from, predictor.weights, config.predictor.length + 1));
  const [toSecond, toFirst] = scope('predictor', () => [
    predict(first, p1 && p2 && sub(p2, p1)),
    predict(second, p1 && p2 && sub(p1, p2)),
  ]);
  const energy = scope('energy', () =>
    mul(add(meanEnergy(toSecond, second, 'l2'), meanEnergy(toFirst, first, 'l2')), 0.5),
  );
  const regular = regularize([first, second], config.regularizer);
  const weighted = mul(energy, config.prediction);
  return {
    name: 'viewjepa',
    trained: [encoder.module, projector, predictor],
    followers: [],
    loss: regular.loss ? add(weighted, regular.loss) : weighted,
    scalars: { prediction: energy, ...regular.scalars },
    pair: { prediction: toSecond, target: second },
    views: [2],
    feeds: (step, random) => {
      const { images: views, parameters: given } = step.views[0];
      if (parameters && !given)
        throw new JepaError(
          'viewjepa: the data gives no parameters of its transformations; set predictor.parameters to 0',
        );
      return { images: views, ...(parameters && given ? { parameters: given } : {}), ...regular.feeds(random) };
    },
    encoder,
  };
}
