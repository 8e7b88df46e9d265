import { float32, type HostTensor, int32 } from '../../src/base/tensor.js';
import {
  type DialogueTokens,
  dialogueRows,
  lastToken,
  type Message,
  messageDirections,
  type Span,
  spanIncrements,
  spanWeight,
  turnWeights,
  type ViewForm,
} from '../../src/data/text/dialogue.js';
import { gradients } from '../../src/graph/autodiff.js';
import { mulDims } from '../../src/graph/dims.js';
import { add, cast, mul } from '../../src/graph/ops/elementwise.js';
import { narrow, reshape } from '../../src/graph/ops/move.js';
import { input, type Tensor } from '../../src/graph/tensor.js';
import {
  type LlmJepaConfig,
  llmJepa,
  llmJepaInputs,
  llmJepaModules,
  nextTokenLoss,
  type ViewDistance,
} from '../../src/methods/llm-jepa.js';
import { curvature, tubeDistance, tubePredictorSpec, tubeWarmup } from '../../src/methods/stp.js';
import { attentionMask, type TextConfig, textLogits, textTransformer } from '../../src/nn/text.js';
import { type Module, makeModule } from '../../src/nn/weights.js';
import { evaluate } from '../../src/runtime/index.js';
import { attempt, type Harness, readCases } from './harness.js';
import { goldenBackend } from './target.js';
import { compare, feedModule, tensorOf, type VariantCase, weightsOf } from './variant-case.js';

// biome-ignore lint/suspicious/noExplicitAny: what a case says is checked by the values that come out.
const modelOf = (c: any): TextConfig => {
  if (c.act !== 'silu') throw new Error(`unknown activation ${c.act}`);
  return {
    vocabulary: c.vocab_size,
    width: c.hidden_size,
    depth: c.num_hidden_layers,
    heads: c.num_attention_heads,
    keyHeads: c.num_key_value_heads,
    mlpWidth: c.intermediate_size,
    maxTokens: c.max_position_embeddings,
    causal: true,
    eps: c.rms_norm_eps,
    theta: c.rope_theta,
  };
};

/** The rows [batch, tokens] without what their mask leaves out at the end. */
function rowsOf(ids: HostTensor, mask: HostTensor): number[][] {
  const [batch, tokens] = ids.shape;
  return Array.from({ length: batch }, (_, i) => {
    const length = mask.data.slice(i * tokens, (i + 1) * tokens).lastIndexOf(1 as never) + 1;
    return Array.from(ids.data.slice(i * tokens, i * tokens + length) as Int32Array);
  });
}

/** Gradients of a loss for every parameter, as outputs `grad.model.<name>`. */
function gradientOutputs(loss: Tensor, module: Module): Record<string, Tensor> {
  const entries = [...module.tensors];
  const grads = gradients(
    loss,
    entries.map(([, tensor]) => tensor),
  );
  return Object.fromEntries(
    entries.flatMap(([name], i) => (grads[i] ? [[`grad.model.${name}`, grads[i] as Tensor]] : [])),
  );
}

const DISTANCES: Record<string, ViewDistance> = { cos: 'cosine', l2: 'l2', mse: 'mse', infonce: 'infonce' };

async function checkViews(
  folder: string,
  c: VariantCase,
  form: Exclude<ViewForm, 'none'>,
): Promise<(string | undefined)[]> {
  // Both cases have the inputs of the first.
  const given = (key: string): HostTensor => tensorOf(folder, c, key, 'separate');
  const { config } = c;
  const lists = ['', '_user', '_assistant'].map((view) =>
    rowsOf(given(`input_ids${view}`), given(`attention_mask${view}`)),
  );
  const [batch, tokens] = given('input_ids').shape;
  const dialogues = lists[0].map(
    (dialogue, i): DialogueTokens => ({
      dialogue,
      labels: Array.from(given('labels').data.slice(i * tokens, i * tokens + dialogue.length) as Int32Array),
      text: lists[1][i],
      code: lists[2][i],
    }),
  );
  const model = modelOf(config);
  const rows = dialogueRows(dialogues, {
    form,
    pad: config.pad,
    maxTokens: model.maxTokens,
    tokens: config.seq,
    offset: config.last_token,
  });
  const inputs = llmJepaInputs();
  const modules = llmJepaModules({ model });
  const feeds = new Map<Tensor, HostTensor>([
    [inputs.ids, rows.ids],
    [inputs.documents, rows.documents],
    [inputs.labels, rows.labels],
    [inputs.last, rows.last],
    [inputs.weight, float32([1], [config.lambda])],
  ]);
  feedModule(feeds, modules.model, weightsOf(folder, c, 'model.'));

  const outputs: Record<string, Tensor> = {};
  for (const [name, distance] of Object.entries(DISTANCES)) {
    const all: LlmJepaConfig = { model, distance, gamma: config.gamma, lambda: config.lambda, dropout: 0, form };
    const forward = llmJepa(inputs, modules, all);
    outputs[`total.${name}`] = forward.loss;
    if (distance !== 'cosine') continue;
    const { nextToken, text, code, hidden, loss } = forward;
    Object.assign(outputs, { lm_loss: nextToken, user: text, assistant: code });
    if (c.expected.includes('logits_first_row')) {
      const [first] = tensorOf(folder, c, 'logits_first_row').shape;
      const states = reshape(narrow(narrow(hidden, 0, 0, 1), 1, 0, first), [first, model.width]);
      outputs.logits_first_row = textLogits(states, modules.model.weights);
    }
    if (c.expected.some((key) => key.startsWith('grad.'))) Object.assign(outputs, gradientOutputs(loss, modules.model));
    if (c.expected.includes('allowed')) {
      const [b, r, t] = inputs.documents.shape;
      outputs.allowed = cast(attentionMask(reshape(inputs.documents, [mulDims(b, r), t]), t, true) as Tensor, 'int32');
    }
  }
  const got: Record<string, HostTensor> = await evaluate(outputs, feeds, { backend: goldenBackend });
  const lengths = (view: number): number[] => lists[view].map((row) => lastToken(row.length, config.last_token));
  got.index_user = int32([batch], lengths(1));
  got.index_assistant = int32(
    [batch],
    // In a packed row, counted from its start.
    form === 'packed' ? lengths(2).map((at, i) => at + lengths(1)[i] + 1) : lengths(2),
  );
  // The rows of dialogues first, then those of views.
  const apart = ({ shape: [, ...rest], data }: HostTensor, from: number, to: number): HostTensor => {
    const size = rest.reduce((a, b) => a * b, 1);
    const picked: number[] = [];
    for (let row = from; row < to; row++)
      for (let i = 0; i < batch; i++) {
        const at = (i * (form === 'packed' ? 2 : 3) + row) * size;
        picked.push(...(data as Int32Array).subarray(at, at + size));
      }
    return int32([(to - from) * batch, ...rest], picked);
  };
  if (form === 'packed') {
    got.packed_ids = apart({ ...rows.ids, shape: [batch * 2, tokens] }, 1, 2);
    if (got.allowed) got.allowed = apart({ ...got.allowed, shape: [2 * batch, tokens, tokens] }, 0, 2);
  }
  return compare(folder, c, got);
}

const WEIGHTS: Record<string, Parameters<typeof spanWeight>[2]> = {
  cosine_like: 'cosine-like',
  jaccard_like: 'jaccard-like',
};

async function checkTube(folder: string, c: VariantCase): Promise<(string | undefined)[]> {
  const { config } = c;
  const given = (key: string): HostTensor => tensorOf(folder, c, key);
  const [batch, tokens] = given('input_ids').shape;
  const model = modelOf(config);
  const module = llmJepaModules({ model }).model;
  const ids = input('ids', ['batch', tokens], 'int32');
  const documents = input('documents', ['batch', tokens], 'int32');
  const labels = input('labels', ['batch', tokens], 'int32');
  const feeds = new Map<Tensor, HostTensor>([
    [ids, given('input_ids')],
    [labels, given('labels')],
    [
      documents,
      int32(
        [batch, tokens],
        Int32Array.from(given('attention_mask').data as Int32Array, (m) => (m ? 1 : -1)),
      ),
    ],
  ]);
  feedModule(feeds, module, weightsOf(folder, c, 'model.'));
  const map = makeModule('linear_predictor.', tubePredictorSpec(model.width));
  feedModule(feeds, map, weightsOf(folder, c, 'linear_predictor.'));
  const hidden = textTransformer(ids, module.weights, model, { documents });
  const nextToken = nextTokenLoss(hidden, labels, module.weights);

  // A message [s, e) is stored as (s - 1, e - 1).
  const message = (key: string, i: number): Message => {
    const [start, end] = given(key).data.slice(2 * i, 2 * i + 2) as Int32Array;
    return [start + 1, end + 1];
  };
  const messages = Array.from({ length: batch }, (_, i) => ({
    user: message('user_start_end', i),
    assistant: message('assistant_start_end', i),
  }));
  const outputs: Record<string, Tensor> = { lm_loss: nextToken, hidden };
  const directionsOf = (name: string, value: HostTensor<'float32'>): Tensor => {
    const tensor = input(name, ['batch', ...value.shape.slice(1)]);
    feeds.set(tensor, value);
    return tensor;
  };
  const { step, max_steps: steps, min } = config.warmup;
  for (const key of c.inputs ?? []) {
    if (!key.startsWith('span.')) continue;
    const kind = key.slice('span.'.length);
    const spans = given(key).data as Int32Array;
    const count = spans.length / (2 * batch);
    const drawn = messages.map((m, i) => ({
      ...m,
      spans: Array.from(
        { length: count },
        (_, j): Span => [spans[2 * (i * count + j)], spans[2 * (i * count + j) + 1]],
      ),
    }));
    const weights = drawn.flatMap(({ user, assistant, spans: own }) => {
      const length = user[1] - user[0] + assistant[1] - assistant[0];
      return own.map(([start, end]) => spanWeight(length, end - start, WEIGHTS[kind] ?? 'none'));
    });
    const distance = tubeDistance(
      hidden,
      directionsOf(`directions ${kind}`, spanIncrements(drawn, tokens)),
      directionsOf(`weights ${kind}`, float32([batch, count], weights)),
      {
        distance: kind === 'mse' ? 'mse' : 'cosine',
        predictor: kind === 'linear_predictor' ? map.weights('M.weight') : undefined,
      },
    );
    outputs[`jepa.${kind}`] = distance;
    const weight = kind === 'warmup' ? tubeWarmup(min, config.lambda, step, steps) : config.lambda;
    outputs[`total.${kind}`] = add(nextToken, mul(distance, weight));
  }
  const even = directionsOf('even', float32([batch, 1], new Float32Array(batch).fill(1)));
  for (const [name, how] of [
    ['e2e', 'increment'],
    ['mean', 'mean'],
  ] as const) {
    outputs[`jepa.${name}`] = tubeDistance(hidden, directionsOf(name, messageDirections(messages, tokens, how)), even);
  }
  outputs['jepa.curvature'] = curvature(hidden, directionsOf('turns', turnWeights(messages, tokens)));
  Object.assign(outputs, gradientOutputs(outputs['total.plain'], module));
  return compare(folder, c, await evaluate(outputs, feeds, { backend: goldenBackend }));
}

const CASES: Record<string, (folder: string, c: VariantCase) => Promise<(string | undefined)[]>> = {
  separate: (folder, c) => checkViews(folder, c, 'separate'),
  packed: (folder, c) => checkViews(folder, c, 'packed'),
  stp: checkTube,
};

const harness: Harness = async function* (folder) {
  for (const c of readCases<{ cases: VariantCase[] }>(folder).cases) {
    yield attempt(c.name, () => CASES[c.name]?.(folder, c) ?? [`unknown case ${c.name}`]);
  }
};
export default harness;
