import { JepaError } from '../../base/errors.js';
import { float32, type HostTensor, int32 } from '../../base/tensor.js';

/** Two views of one thing, as tokens: a description and what it describes (LLM-JEPA: text and code). */
export interface TokenPair {
  readonly text: readonly number[];
  readonly code: readonly number[];
}

/** The special tokens around the two parts of a dialogue. */
export interface DialogueTemplate {
  readonly begin: readonly number[];
  /** Before the text and before the code. */
  readonly user: readonly number[];
  readonly assistant: readonly number[];
  /** After each of them. */
  readonly end: number;
  /** Appended to the text in this order; the state of the last predicts the code's. None: the text's own last state does. */
  readonly predictors: readonly number[];
  /** Fills rows up. */
  readonly pad: number;
}

/** A label that is no token: nothing is learned at its place. */
export const NO_LABEL = -100;

/** The tokens of a pair as a model reads them, each list for itself. */
export interface DialogueTokens {
  readonly dialogue: readonly number[];
  /** For each token of the dialogue itself where it is to be learned, else `NO_LABEL`. */
  readonly labels: readonly number[];
  readonly text: readonly number[];
  readonly code: readonly number[];
}

/** A batch of pairs; all int32. */
export interface DialogueRows {
  /** [batch, rows, tokens]: the dialogue, then text and code in a row each (3 rows) or both in one (2), or the dialogue alone. */
  readonly ids: HostTensor<'int32'>;
  /** [batch, rows, tokens]: which tokens see each other, see `TextForward`. */
  readonly documents: HostTensor<'int32'>;
  /** [batch, tokens]: labels of the dialogue's tokens. */
  readonly labels: HostTensor<'int32'>;
  /** [batch, 2]: places of the states of text and code, counted through the rows of a pair. */
  readonly last: HostTensor<'int32'>;
}

/** `packed`: text and code share a row, where neither sees the other; `separate`: a row each; `none`: the dialogue only. */
export type ViewForm = 'packed' | 'separate' | 'none';

/** The place of a view's state among its tokens; the one before the end token by default. */
export const lastToken = (length: number, offset = -2): number => length + offset;

/** The token lists of a pair. What is learned is the code and its end, without which nothing that the model writes would end. */
export function dialogueTokens(
  { text, code }: TokenPair,
  { begin, user, assistant, end, predictors }: DialogueTemplate,
): DialogueTokens {
  const question = [...begin, ...user, ...text, end, ...assistant];
  const answer = [...code, end];
  return {
    dialogue: [...question, ...answer],
    labels: [...question.map(() => NO_LABEL), ...answer],
    text: [...begin, ...user, ...text, ...predictors, end],
    code: [...begin, ...assistant, ...code, end],
  };
}

export interface RowOptions {
  readonly form: ViewForm;
  readonly pad: number;
  /** A longer row is an error. */
  readonly maxTokens: number;
  /** Length of the rows; by default that of the longest. */
  readonly tokens?: number;
  /** See `lastToken`. */
  readonly offset?: number;
}

/** A stretch of a row: tokens, and how many of them are read. */
interface Part {
  readonly tokens: readonly number[];
  readonly read: number;
}

/**
 * Rows of a batch of pairs. Packed rows end with the token that is read, so that the two views just follow each
 * other. Throws where a row is longer than `maxTokens`.
 */
export function dialogueRows(lists: readonly DialogueTokens[], options: RowOptions): DialogueRows {
  const { form, pad, maxTokens, offset } = options;
  const rows = lists.map((list) => partsOf(list, form, offset));
  const lengthOf = (parts: readonly Part[]): number => parts.reduce((sum, part) => sum + part.tokens.length, 0);
  const longest = Math.max(...rows.flat().map(lengthOf));
  const tokens = options.tokens ?? longest;
  if (longest > Math.min(tokens, maxTokens)) {
    const pair = rows.findIndex((parts) => parts.some((part) => lengthOf(part) === longest));
    throw new JepaError(
      `dialogue: pair ${pair} of the batch takes ${longest} tokens, the model reads ${Math.min(tokens, maxTokens)}; shorten it or raise maxTokens`,
    );
  }
  const count = rows[0].length;
  const ids = new Int32Array(lists.length * count * tokens).fill(pad);
  const documents = new Int32Array(ids.length);
  const labels = new Int32Array(lists.length * tokens).fill(NO_LABEL);
  const last = new Int32Array(2 * lists.length);
  lists.forEach((list, i) => {
    labels.set(list.labels, i * tokens);
    rows[i].forEach((parts, row) => {
      const start = (i * count + row) * tokens;
      let at = start;
      parts.forEach((part, document) => {
        ids.set(part.tokens, at);
        documents.fill(document + 1, at, at + part.read);
        at += part.tokens.length;
      });
      // After a single document padding sees it, as in a row that is only cut off by its mask.
      if (form !== 'packed') documents.fill(-1, at, start + tokens);
    });
    const [text, code] = [lastToken(list.text.length, offset), lastToken(list.code.length, offset)];
    // Two different places also where there are no views: the distance of a state to itself has no gradient.
    if (form === 'none') last.set([0, 1], 2 * i);
    else if (form === 'packed') last.set([tokens + text, tokens + text + 1 + code], 2 * i);
    else last.set([tokens + text, 2 * tokens + code], 2 * i);
  });
  const shape = [lists.length, count, tokens];
  return {
    ids: int32(shape, ids),
    documents: int32(shape, documents),
    labels: int32([lists.length, tokens], labels),
    last: int32([lists.length, 2], last),
  };
}

/** The rows of one pair, each the parts that follow each other in it. */
function partsOf({ dialogue, text, code }: DialogueTokens, form: ViewForm, offset?: number): Part[][] {
  const whole = (tokens: readonly number[]): Part[] => [{ tokens, read: tokens.length }];
  if (form === 'none') return [whole(dialogue)];
  if (form === 'separate') return [whole(dialogue), whole(text), whole(code)];
  const read = (tokens: readonly number[]): number => lastToken(tokens.length, offset) + 1;
  const cut = (tokens: readonly number[]): Part => ({ tokens: tokens.slice(0, read(tokens)), read: read(tokens) });
  // The end of the dialogue is predicted, but predicts nothing.
  return [[{ tokens: dialogue, read: read(dialogue) }], [cut(text), cut(code)]];
}

/** A message of a dialogue: the tokens from `start` to before `end`. There is a token before it. */
export type Message = readonly [start: number, end: number];

/** Spans of a dialogue's content [start, end), counted in user and assistant message as if one followed the other. */
export type Span = readonly [start: number, end: number];

/** How a span's length counts (STP): not at all, or the more the nearer it is to the length of the rest. */
export type SpanWeight = 'none' | 'cosine-like' | 'jaccard-like';

/** A random span that is not the whole: its start uniform, then its end; or uniform among all spans. */
export function drawSpan(
  length: number,
  integer: (bound: number) => number,
  how: 'start-first' | 'uniform' = 'start-first',
): Span {
  if (length < 2) throw new JepaError(`spans: a dialogue of ${length} tokens has no part; drop it from the data`);
  for (;;) {
    if (how === 'uniform') {
      // Two different ends of 0 .. length.
      const first = integer(length + 1);
      const other = integer(length);
      const second = other < first ? other : other + 1;
      if (Math.abs(second - first) < length) return [Math.min(first, second), Math.max(first, second)];
    } else {
      const start = integer(length);
      const end = start + 1 + integer(length - start);
      if (end - start < length) return [start, end];
    }
  }
}

/** Weight of a span of `part` tokens of `length`. */
export function spanWeight(length: number, part: number, kind: SpanWeight): number {
  const rest = length - part;
  if (kind === 'none') return 1;
  if (kind === 'cosine-like') return (2 * rest * part) / (rest * rest + part * part);
  return 1 - Math.abs(rest - part) / (rest + part);
}

/**
 * Sums of hidden states that STP compares, as coefficients [batch, spans, 2, tokens] over the states of a row: the
 * increments over a span (second) and over the rest of both messages (first). The increment over [s, e) is state e - 1 minus
 * state s - 1; the tokens between the messages belong to neither.
 */
export function spanIncrements(
  dialogues: readonly { readonly user: Message; readonly assistant: Message; readonly spans: readonly Span[] }[],
  tokens: number,
): HostTensor<'float32'> {
  const count = dialogues[0].spans.length;
  const data = new Float32Array(dialogues.length * count * 2 * tokens);
  dialogues.forEach(({ user, assistant, spans }, i) => {
    const long = user[1] - user[0];
    spans.forEach(([start, end], j) => {
      const at = (i * count + j) * 2 * tokens;
      const [rest, part] = [data.subarray(at, at + tokens), data.subarray(at + tokens, at + 2 * tokens)];
      const move = (to: Float32Array, [s, e]: Message, sign: number): void => {
        to[e - 1] += sign;
        to[s - 1] -= sign;
      };
      for (const message of [user, assistant]) move(rest, message, 1);
      const within = (offset: number): number => (offset < long ? user[0] + offset : assistant[0] + offset - long);
      // A span that ends with the user's message ends in it.
      const parts: Message[] =
        start >= long
          ? [[within(start), within(end)]]
          : end <= long
            ? [[user[0] + start, user[0] + end]]
            : [
                [user[0] + start, user[1]],
                [assistant[0], within(end)],
              ];
      for (const message of parts) {
        move(part, message, 1);
        move(rest, message, -1);
      }
    });
  });
  return float32([dialogues.length, count, 2, tokens], data);
}

/** Coefficients [batch, 1, 2, tokens] for whole messages, user first: their increments, or the means of their states. */
export function messageDirections(
  dialogues: readonly { readonly user: Message; readonly assistant: Message }[],
  tokens: number,
  how: 'increment' | 'mean',
): HostTensor<'float32'> {
  const data = new Float32Array(dialogues.length * 2 * tokens);
  dialogues.forEach(({ user, assistant }, i) => {
    [user, assistant].forEach(([start, end], j) => {
      const row = data.subarray((2 * i + j) * tokens, (2 * i + j + 1) * tokens);
      if (how === 'mean') row.fill(1 / (end - start), start, end);
      else {
        row[end - 1] += 1;
        row[start - 1] -= 1;
      }
    });
  });
  return float32([dialogues.length, 1, 2, tokens], data);
}

/**
 * Weights of turning angles [batch, tokens - 2]: angle k lies between the steps to states k + 1 and k + 2. Every turn inside a
 * message counts alike; the first step of a message comes from the token before it.
 */
export function turnWeights(
  dialogues: readonly { readonly user: Message; readonly assistant: Message }[],
  tokens: number,
): HostTensor<'float32'> {
  const data = new Float32Array(dialogues.length * (tokens - 2));
  dialogues.forEach(({ user, assistant }, i) => {
    const count = user[1] - user[0] - 1 + (assistant[1] - assistant[0] - 1);
    const row = data.subarray(i * (tokens - 2), (i + 1) * (tokens - 2));
    for (const [start, end] of [user, assistant]) if (end - start > 1) row.fill(1 / count, start - 1, end - 2);
  });
  return float32([dialogues.length, tokens - 2], data);
}
