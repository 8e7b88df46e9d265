import { JepaError } from '../../base/errors.js';
import { checkIndex, type Dataset, type SampleReader } from '../dataset.js';

/** A text, and possibly another form of what it says (code, a translation, an answer). */
export interface TextSample {
  readonly text: string;
  readonly code?: string;
}

/** A row of tokens, cut from texts that follow each other. */
export interface TokenRow {
  readonly ids: Int32Array;
  /** Number of each token's text, from 1 on in every row. */
  readonly documents: Int32Array;
}

/** A set of texts. */
export interface TextDataset extends Dataset<TextSample> {
  readonly modality: 'text';
}

/** A set of rows of tokens of one length. */
export interface TokenDataset extends Dataset<TokenRow> {
  readonly modality: 'text';
  /** Tokens of a row. */
  readonly tokens: number;
}

export interface TextList {
  readonly name: string;
  readonly samples: readonly TextSample[];
  readonly labels?: Int32Array;
  readonly classNames?: readonly string[];
  readonly attributes?: Readonly<Record<string, Int32Array>>;
  nameOf?(index: number): string;
}

/** Texts held in memory. */
export function textDataset({ name, samples, labels, classNames, attributes, nameOf }: TextList): TextDataset {
  const { length } = samples;
  for (const [what, values] of Object.entries({ labels, ...attributes })) {
    if (values && values.length !== length)
      throw new JepaError(`${name}: ${length} texts but ${values.length} ${what}; they differ in number`);
  }
  return {
    name,
    modality: 'text',
    length,
    labels,
    classNames,
    attributes,
    nameOf,
    async read(index) {
      checkIndex({ name, length, modality: 'text' }, index);
      return samples[index];
    },
    source: { kind: 'module', module: import.meta.url, options: { samples } satisfies Held },
  };
}

/**
 * Texts as rows of `tokens` tokens without padding: one after the other, an end token after each, cut where a row is full.
 * What is left over at the end is dropped. Throws where it is not enough for one row.
 */
export function packTexts(name: string, texts: Iterable<readonly number[]>, end: number, tokens: number): TokenDataset {
  const ids: number[] = [];
  const texted: number[] = [];
  let number = 0;
  for (const text of texts) {
    number++;
    for (const id of text) ids.push(id);
    ids.push(end);
    for (let i = 0; i <= text.length; i++) texted.push(number);
  }
  const length = Math.floor(ids.length / tokens);
  if (length === 0)
    throw new JepaError(
      `${name}: ${ids.length} tokens of text do not fill a row of ${tokens}; use shorter rows or more text`,
    );
  const packed: Packed = {
    tokens,
    ids: Int32Array.from({ length: length * tokens }, (_, i) => ids[i]),
    documents: Int32Array.from({ length: length * tokens }, (_, i) => texted[i] - texted[i - (i % tokens)] + 1),
  };
  return {
    name,
    modality: 'text',
    length,
    tokens,
    async read(index) {
      checkIndex({ name, length, modality: 'text' }, index);
      return rowOf(packed, index);
    },
    source: { kind: 'module', module: import.meta.url, options: { packed } satisfies Held },
  };
}

interface Packed {
  readonly tokens: number;
  readonly ids: Int32Array;
  readonly documents: Int32Array;
}

const rowOf = ({ tokens, ids, documents }: Packed, index: number): TokenRow => ({
  ids: ids.subarray(index * tokens, (index + 1) * tokens),
  documents: documents.subarray(index * tokens, (index + 1) * tokens),
});

/** What a loader thread is given. */
type Held = { readonly samples: readonly TextSample[] } | { readonly packed: Packed };

/** For loader threads (`SourceModule`). */
export function open(options: unknown): SampleReader<TextSample | TokenRow> {
  const held = options as Held;
  return { read: (index) => ('samples' in held ? held.samples[index] : rowOf(held.packed, index)) };
}
