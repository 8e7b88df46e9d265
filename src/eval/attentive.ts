import { JepaError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { HostTensor } from '../base/tensor.js';
import { mulDims } from '../graph/dims.js';
import { crossEntropy } from '../graph/ops/losses.js';
import { concat, expandDims, narrow, reshape, stack } from '../graph/ops/move.js';
import { mean, sum } from '../graph/ops/reduce.js';
import { input, scope, type Tensor } from '../graph/tensor.js';
import { type ClassifierConfig, classifierSpec, classify } from '../nn/attentive.js';
import { initialValues, type Module, makeModule, tensorsOf } from '../nn/weights.js';
import { adamw } from '../optim/adam.js';
import { decayGroups } from '../optim/groups.js';
import type { Schedule } from '../optim/schedules.js';
import type { Engine } from '../runtime/index.js';

/**
 * Attentive probes: classifiers with attentive pooling on the tokens of a frozen encoder, several of them side by side with
 * rates of their own (V-JEPA, `evals/video_classification_frozen`; V-JEPA 2, section 4.1).
 */
export interface AttentiveProbeOptions {
  readonly classifier: ClassifierConfig;
  /** One probe each; schedules take the number of the step, 1 for the first. */
  readonly heads: readonly { readonly lr: Schedule; readonly weightDecay: Schedule }[];
  /** How the losses of a sample's views are joined: their mean in V-JEPA, their sum in V-JEPA 2. */
  readonly views: 'mean' | 'sum';
  /** Biases and gains of norms are decayed too (V-JEPA 2). */
  readonly decayAll: boolean;
  /** Bound on the norm of each probe's gradient (V-JEPA: 1); none by default. */
  readonly clipNorm?: number;
}

/** V-JEPA's choices beside the rates. */
export const VJEPA_PROBE = { views: 'mean', decayAll: false, clipNorm: 1 } as const;
/** V-JEPA 2's. */
export const VJEPA2_PROBE = { views: 'sum', decayAll: true } as const;

export interface AttentiveProbes {
  readonly modules: readonly Module[];
  /**
   * One update of all probes. Tokens [batch, views, tokens, width], labels [batch]. Losses are means over the batch,
   * [probes][views]; `gradientNorm` is that of all probes together, before clipping.
   */
  step(
    tokens: HostTensor<'float32'>,
    labels: HostTensor<'int32'>,
  ): Promise<{ readonly losses: readonly (readonly number[])[]; readonly gradientNorm: number }>;
  /** Logits of every probe, [batch, views, classes] each. */
  logits(tokens: HostTensor<'float32'>): Promise<readonly HostTensor<'float32'>[]>;
  /** Parameters of all probes by full name (`head.0.pooler.query_tokens`). */
  read(): Promise<Map<string, HostTensor<'float32'>>>;
  write(values: ReadonlyMap<string, HostTensor<'float32'>>): Promise<void>;
  close(): Promise<void>;
}

/** Probes with fresh weights for tokens of `views` views. */
export async function createAttentiveProbes(
  engine: Engine,
  options: AttentiveProbeOptions,
  views: number,
  random: Random,
): Promise<AttentiveProbes> {
  const { classifier, heads } = options;
  if (heads.length === 0) throw new JepaError('attentive probe: it needs one set of rates or more');
  const modules = heads.map((_, i) => makeModule(`head.${i}.`, classifierSpec(classifier)));
  const { width } = classifier.pooler;
  const tokens = input('tokens', ['batch', views, 'tokens', width]);
  const labels = input('labels', ['batch'], 'int32');
  const flat = reshape(tokens, [mulDims(tokens.shape[0], views), tokens.shape[2], width]);
  const logits = modules.map((module) => {
    const rows = scope(module.prefix.slice(0, -1), () => classify(flat, module.weights, classifier));
    return reshape(rows, [tokens.shape[0], views, rows.shape[1]]);
  });
  const losses = stack(
    logits.map((l) => viewLosses(l, labels, views)),
    0,
  ); // [probes, views]
  const perHead = options.views === 'mean' ? mean(losses, 1) : sum(losses, 1);
  const loss = sum(perHead);
  const split = modules.map((module) => decayGroups([module]));
  const groups = split.flatMap(({ decay, noDecay }) =>
    options.decayAll ? [[...decay, ...noDecay]] : [decay, noDecay],
  );
  const each = options.decayAll ? 1 : 2;

  const state = await engine.createState(tensorsOf(modules));
  await state.write(new Map(modules.flatMap((m) => [...initialValues(m, random)])));
  const training = await engine.compile(
    {
      name: 'attentive probe',
      outputs: { loss, losses },
      update: {
        loss,
        rule: adamw(),
        groups,
        followers: [],
        clipApart: modules.map((_, head) => Array.from({ length: each }, (_, g) => head * each + g)),
      },
    },
    state,
  );
  const predicting = await engine.compile(
    { name: 'attentive probe: logits', outputs: Object.fromEntries(logits.map((l, i) => [`${i}`, l])) },
    state,
  );
  let step = 0;
  return {
    modules,
    step: async (values, truth) => {
      step++;
      const result = await training.run(
        { tokens: values, labels: truth },
        {
          step,
          groups: heads.flatMap(({ lr, weightDecay }) => {
            const rates = { lr: lr(step), weightDecay: weightDecay(step) };
            return options.decayAll ? [rates] : [rates, { ...rates, weightDecay: 0 }];
          }),
          momentum: 1,
          ...(options.clipNorm === undefined ? {} : { clipNorm: options.clipNorm }),
        },
      );
      if (!result.finite)
        throw new JepaError(`attentive probe: the loss of step ${step} is not finite; lower the rates`);
      const { data } = result.outputs.losses as HostTensor<'float32'>;
      return {
        losses: heads.map((_, head) => Array.from(data.subarray(head * views, (head + 1) * views))),
        gradientNorm: result.gradientNorm,
      };
    },
    logits: async (values) => {
      const { outputs } = await predicting.run({ tokens: values });
      return heads.map((_, i) => outputs[`${i}`] as HostTensor<'float32'>);
    },
    read: () => state.read(),
    write: (values) => state.write(values),
    close: async () => {
      await training.close();
      await predicting.close();
    },
  };
}

/** Mean cross entropy of each view: logits [batch, views, classes], labels [batch] -> [views]. */
function viewLosses(logits: Tensor, labels: Tensor, views: number): Tensor {
  const classes = logits.shape[2];
  const each = Array.from({ length: views }, (_, view) =>
    expandDims(crossEntropy(reshape(narrow(logits, 1, view, 1), [logits.shape[0], classes]), labels), 0),
  );
  return concat(each, 0);
}
