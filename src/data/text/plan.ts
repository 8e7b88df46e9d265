import { JepaError } from '../../base/errors.js';
import type { Preparation } from '../preparation.js';
import { type BpeModel, type BpeTokenizer, bpeTokenizer, parseTokenizer, tokenizerJson, trainBpe } from './bpe.js';
import type { TextSample } from './dataset.js';
import type { DialogueTemplate } from './dialogue.js';
import type { TextPlan } from './preparation.js';

/** How texts are prepared, as it stands in a configuration. */
export interface TextInput {
  readonly kind: 'text';
  /** Length of the rows. */
  readonly tokens: number;
  /** The tokenizer as `tokenizer.json` has it, with the tokens of `SPECIAL`. */
  readonly tokenizer: string;
  /** Samples are pairs of texts (LLM-JEPA); off by default. */
  readonly pairs?: boolean;
  /** How often each token occurs, instead of the tokens in their order; off by default. */
  readonly bag?: boolean;
}

/** Tokens that are no text: padding, the end of a text, and what stands around the parts of a pair. */
const SPECIAL = {
  pad: '<|pad|>',
  end: '<|end|>',
  user: '<|user|>',
  assistant: '<|assistant|>',
  predictor: '<|predict|>',
};

/** Learns a tokenizer from texts, with the special tokens; as `tokenizer.json` has it. */
export function learnTokenizer(texts: Iterable<TextSample>, vocabulary: number): string {
  const parts = function* (): Generator<string> {
    for (const { text, code } of texts) {
      yield text;
      if (code !== undefined) yield code;
    }
  };
  return tokenizerJson(trainBpe(parts(), { vocabSize: vocabulary, special: Object.values(SPECIAL) }));
}

/** Checks a preparation. Throws a `JepaError` beginning with `where`. */
export function planTexts(input: TextInput, where: string): TextPlan | BagPlan {
  const { tokens, tokenizer: json, pairs = false, bag = false } = input;
  if (!Number.isInteger(tokens) || tokens < 1)
    throw new JepaError(`${where}.tokens must be a positive whole number, not ${tokens}`);
  const tokenizer = openTokenizer(json, where);
  const pad = tokenOf(tokenizer, 'pad', where);
  const model = { vocab: tokenizer.vocab, merges: tokenizer.merges, added: tokenizer.added };
  if (bag) return { kind: 'bag', tokenizer: model };
  return { kind: 'text', tokenizer: model, tokens, pad, ...(pairs && { dialogue: dialogueOf(tokenizer, where) }) };
}

export const openTokenizer = (json: string, where: string): BpeTokenizer =>
  parseTokenizer(new TextEncoder().encode(json), `${where}: tokenizer`);

function tokenOf(tokenizer: BpeTokenizer, name: keyof typeof SPECIAL, where: string): number {
  const id = tokenizer.id(SPECIAL[name]);
  if (id === undefined)
    throw new JepaError(`${where}: the tokenizer has no token ${SPECIAL[name]}; add it, or let one be learned`);
  return id;
}

/** A pair as a dialogue: the user gives the text, the assistant the other form of it. */
function dialogueOf(tokenizer: BpeTokenizer, where: string): DialogueTemplate {
  const id = (name: keyof typeof SPECIAL): number => tokenOf(tokenizer, name, where);
  return {
    begin: [],
    user: [id('user')],
    assistant: [id('assistant')],
    end: id('end'),
    predictors: [id('predictor')],
    pad: id('pad'),
  };
}

/** Texts as bags of words: plain data. */
export interface BagPlan {
  readonly kind: 'bag';
  readonly tokenizer: BpeModel;
}

/** `counts` [vocabulary]: log(1 + times that a token occurs in the text). */
export function bagPreparation({ tokenizer }: BagPlan): Preparation<TextSample> {
  const bpe = bpeTokenizer(tokenizer, 'tokenizer');
  return {
    fields: [{ name: 'counts', dtype: 'float32', shape: [bpe.size] }],
    prepare({ text }, _, [counts]) {
      counts.fill(0);
      for (const id of bpe.encode(text)) counts[id]++;
      for (let i = 0; i < counts.length; i++) counts[i] = Math.log1p(counts[i]);
    },
  };
}
