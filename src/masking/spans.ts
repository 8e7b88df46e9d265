import { JepaError } from '../base/errors.js';
import { type HostTensor, int32 } from '../base/tensor.js';
import type { IntegerDraws } from './draws.js';

/** Hidden spans of text (data2vec: 35 % of the tokens in spans of 4). */
export interface SpanMasks {
  /** Tokens in a row that are hidden together. */
  readonly length: number;
  /** Share of the tokens that is hidden. */
  readonly ratio: number;
}

/** Tokens by sample: [batch, visible] and [batch, hidden], ascending. */
export interface SpanMasked {
  readonly context: HostTensor<'int32'>;
  readonly target: HostTensor<'int32'>;
}

/**
 * Spans over rows of packed text. `documents` [batch, tokens] numbers the document of each token; a span ends with its document.
 * Starts are drawn among all tokens that are visible yet, until round(ratio * tokens) are hidden, the same number in every
 * row; the last span is cut to fit. Throws where nothing would be visible or hidden.
 */
export function sampleSpans(
  { length, ratio }: SpanMasks,
  documents: HostTensor<'int32'>,
  draws: IntegerDraws,
): SpanMasked {
  const [batch, tokens] = documents.shape;
  const hidden = Math.round(ratio * tokens);
  if (!(length >= 1) || hidden < 1 || hidden >= tokens) {
    throw new JepaError(
      `masks: spans of ${length} that hide ${ratio} of ${tokens} tokens: context and target need at least one each`,
    );
  }
  const context = new Int32Array(batch * (tokens - hidden));
  const target = new Int32Array(batch * hidden);
  for (let row = 0; row < batch; row++) {
    const document = documents.data.subarray(row * tokens, (row + 1) * tokens);
    const isHidden = new Uint8Array(tokens);
    for (let left = hidden; left > 0; ) {
      const start = draws.integer(tokens);
      if (isHidden[start]) continue;
      const end = Math.min(start + length, tokens);
      for (let i = start; i < end && left > 0 && document[i] === document[start]; i++) {
        if (isHidden[i]) continue;
        isHidden[i] = 1;
        left--;
      }
    }
    let seen = row * (tokens - hidden);
    let asked = row * hidden;
    for (let i = 0; i < tokens; i++) {
      if (isHidden[i]) target[asked++] = i;
      else context[seen++] = i;
    }
  }
  return { context: int32([batch, tokens - hidden], context), target: int32([batch, hidden], target) };
}
