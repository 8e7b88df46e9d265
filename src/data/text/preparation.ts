import { JepaError } from '../../base/errors.js';
import type { Field, Preparation } from '../preparation.js';
import { type BpeModel, bpeTokenizer } from './bpe.js';
import type { TextSample, TokenRow } from './dataset.js';
import { type DialogueTemplate, dialogueTokens, lastToken } from './dialogue.js';

/** How texts become tokens; plain data. */
export interface TextPlan {
  readonly kind: 'text';
  readonly tokenizer: BpeModel;
  /** Length of the rows; what is longer is cut. */
  readonly tokens: number;
  /** Fills rows up. */
  readonly pad: number;
  /** For pairs of texts: how they are put together (LLM-JEPA). */
  readonly dialogue?: DialogueTemplate;
}

/** Names of the fields: token numbers, and which document each belongs to (`TextForward`), 0 for padding. */
export const IDS = 'ids';
export const DOCUMENTS = 'documents';
/** Of pairs also the bare tokens of both parts, followed by -1. */
export const TEXT = 'text';
export const CODE = 'code';

/**
 * A text, a pair of texts or a row of tokens as `ids` and `documents`, [tokens] each, int32. Of a pair they are the row whose last
 * token's state predicts the other part; a pair that does not fit is an error, as a part of it would say something else.
 */
export function textPreparation({ tokenizer, tokens, pad, dialogue }: TextPlan): Preparation<TextSample | TokenRow> {
  const bpe = bpeTokenizer(tokenizer, 'tokenizer');
  const field = (name: string): Field => ({ name, dtype: 'int32', shape: [tokens] });
  return {
    fields: [IDS, DOCUMENTS, ...(dialogue ? [TEXT, CODE] : [])].map(field),
    prepare(sample, _, [ids, documents, text, code]) {
      const fill = (list: readonly number[]): void => {
        const kept = Math.min(list.length, tokens);
        ids.fill(pad, kept);
        documents.fill(1, 0, kept).fill(0, kept);
        for (let i = 0; i < kept; i++) ids[i] = list[i];
      };
      if ('ids' in sample) {
        if (sample.ids.length !== tokens)
          throw new JepaError(`a row of ${sample.ids.length} tokens where ${tokens} are expected`);
        ids.set(sample.ids);
        documents.set(sample.documents);
      } else if (!dialogue) fill(bpe.encode(sample.text));
      else {
        if (sample.code === undefined)
          throw new JepaError('a text without its other form (code), which the method compares');
        const pair = { text: bpe.encode(sample.text), code: bpe.encode(sample.code) };
        const lists = dialogueTokens(pair, dialogue);
        if (lists.dialogue.length > tokens)
          throw new JepaError(
            `a pair of ${lists.dialogue.length} tokens does not fit into ${tokens}; leave it out or use longer rows`,
          );
        fill(lists.text.slice(0, lastToken(lists.text.length) + 1));
        for (const [out, list] of [
          [text, pair.text],
          [code, pair.code],
        ] as const) {
          out.fill(-1);
          out.set(list);
        }
      }
    },
  };
}

/** The bare tokens of rows [rows, tokens] that are followed by -1. */
export function bareTokens(data: Int32Array, tokens: number): number[][] {
  return Array.from({ length: data.length / tokens }, (_, i) => {
    const row = data.subarray(i * tokens, (i + 1) * tokens);
    const end = row.indexOf(-1);
    return [...row.subarray(0, end < 0 ? tokens : end)];
  });
}
