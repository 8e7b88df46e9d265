import { JepaError } from '../base/errors.js';
import { float32, type HostTensor, int32 } from '../base/tensor.js';
import type { IntegerDraws } from './draws.js';

/** Hidden spans of text (data2vec: 35 % of the tokens in spans of 4). */
export interface SpanMasks {
  /** Tokens in a row that are hidden together. */
  readonly length: number;
  /** Share of the tokens that is hidden. */
  readonly ratio: number;
}

/** One context and one block of targets a row; no target and every visible token of a row is padding, but where rows differ in length. */
export interface SpanMasked {
  /** [batch, 1, visible] */
  readonly context: HostTensor<'int32'>;
  /** [batch, 1, hidden] */
  readonly targets: HostTensor<'int32'>;
  /** [batch, 1, hidden]: 1 for a hidden token of the text, 0 for padding that makes up the number. */
  readonly counted: HostTensor<'float32'>;
}

/**
 * Spans over rows of text. `documents` [batch, tokens] numbers the document of each token from 1 on; padding (0 or less) follows
 * the text. A span ends with its document. Starts are drawn among all tokens that are visible yet, until round(ratio * length)
 * are hidden; the last span is cut to fit. Rows shorter than the longest are filled up with padding, which nothing sees.
 * Throws where nothing of a row would be visible or hidden.
 */
export function sampleSpans(
  { length, ratio }: SpanMasks,
  documents: HostTensor<'int32'>,
  draws: IntegerDraws,
): SpanMasked {
  const [batch, tokens] = documents.shape;
  const rows = Array.from({ length: batch }, (_, row) => documents.data.subarray(row * tokens, (row + 1) * tokens));
  const lengths = rows.map((document) => {
    const end = document.findIndex((number) => number <= 0);
    return end < 0 ? tokens : end;
  });
  const hiddenOf = (text: number): number => Math.round(ratio * text);
  for (const text of lengths) {
    if (length >= 1 && hiddenOf(text) >= 1 && hiddenOf(text) < text) continue;
    throw new JepaError(
      `masks: spans of ${length} that hide ${ratio} of a text of ${text} tokens: context and target need at least one each`,
    );
  }
  // The longest text has the most hidden and the most visible tokens.
  const longest = Math.max(...lengths);
  const hidden = hiddenOf(longest);
  const visible = longest - hidden;
  const context = new Int32Array(batch * visible);
  const targets = new Int32Array(batch * hidden);
  const counted = new Float32Array(batch * hidden);
  rows.forEach((document, row) => {
    const isHidden = drawSpans(document, lengths[row], length, hiddenOf(lengths[row]), draws);
    let seen = row * visible;
    let asked = row * hidden;
    for (let i = 0; i < longest; i++) {
      const asTarget = i < lengths[row] ? isHidden[i] === 1 : asked < (row + 1) * hidden;
      if (asTarget) {
        if (i < lengths[row]) counted[asked] = 1;
        targets[asked++] = i;
      } else context[seen++] = i;
    }
  });
  return {
    context: int32([batch, 1, visible], context),
    targets: int32([batch, 1, hidden], targets),
    counted: float32([batch, 1, hidden], counted),
  };
}

function drawSpans(
  document: Int32Array,
  text: number,
  length: number,
  hidden: number,
  draws: IntegerDraws,
): Uint8Array {
  const isHidden = new Uint8Array(text);
  for (let left = hidden; left > 0; ) {
    const start = draws.integer(text);
    if (isHidden[start]) continue;
    const end = Math.min(start + length, text);
    for (let i = start; i < end && left > 0 && document[i] === document[start]; i++) {
      if (isHidden[i]) continue;
      isHidden[i] = 1;
      left--;
    }
  }
  return isHidden;
}
