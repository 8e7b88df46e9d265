import { JepaError } from '../../base/errors.js';
import { binaryHeap } from '../../base/heap.js';
import { decodeUtf8, isJsonObject, type Json, type JsonObject, parseJson, quoted } from '../../base/json.js';

/** A token that is recognised in text before anything else is done with it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether it marks something rather than being text; decoding may leave it out. */
  readonly special: boolean;
}

/** What a byte-level BPE tokenizer consists of. */
export interface BpeModel {
  /** Id of every token, written in GPT-2's alphabet of one character a byte (a space is `Ġ`). */
  readonly vocab: ReadonlyMap<string, number>;
  /** Pairs of tokens that become one, the most important first. */
  readonly merges: readonly (readonly [string, string])[];
  readonly added: readonly AddedToken[];
}

/** A byte-level BPE tokenizer (Radford et al. 2019): any text becomes tokens, and those exactly that text again. */
export interface BpeTokenizer extends BpeModel {
  /** The largest id plus one: rows that a table of embeddings needs. */
  readonly size: number;
  encode(text: string): number[];
  /** Text of tokens; bytes that are no UTF-8 (a cut character) become U+FFFD. */
  decode(ids: Iterable<number>, options?: { readonly skipSpecial?: boolean }): string;
  /** How a token is written in the vocabulary; undefined where there is no such id. */
  token(id: number): string | undefined;
  /** Id of an added or ordinary token as it is written in the vocabulary. */
  id(token: string): number | undefined;
  /**
   * The part of `text` that each token of its encoding covers, as code points [from, to). A token that holds only a part of
   * a character covers all of it.
   */
  offsets(text: string, ids: readonly number[]): [number, number][];
}

/** GPT-2's pattern of words: contractions, letters, digits and signs each with at most one space before, white space. */
const WORDS =
  /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** The character of each byte: printable ones of Latin-1 stand for themselves, the others for U+0100 and on. */
const BYTE_CHARACTERS: readonly string[] = byteCharacters();
const CHARACTER_BYTES: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((character, byte) => [character, byte]),
);

function byteCharacters(): string[] {
  const isPrintable = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** Ids above are mistakes: tables are made as long as the largest. */
const MAX_ID = 2 ** 24 - 1;
/** Words whose tokens are remembered. */
const REMEMBERED = 1 << 16;

/** Makes a tokenizer of its parts. Throws a `JepaError` that starts with `where` if they do not fit each other. */
export function bpeTokenizer({ vocab, merges, added }: BpeModel, where: string): BpeTokenizer {
  const fail = (why: string) => new JepaError(`${where}: not a usable tokenizer: ${why}`);
  const tokens = new Map<number, string>();
  const claim = (token: string, id: number) => {
    if (!Number.isInteger(id)) throw fail(`the id of ${quoted(token)} is no integer`);
    if (id < 0) throw fail(`the id ${id} of ${quoted(token)} is negative`);
    if (id > MAX_ID) throw fail(`the id ${id} of ${quoted(token)} is above ${MAX_ID}, far more than there are tokens`);
    const other = tokens.get(id);
    if (other !== undefined && other !== token) {
      throw fail(`the id ${id} is used twice, for ${quoted(other)} and ${quoted(token)}`);
    }
    tokens.set(id, token);
  };
  for (const [token, id] of vocab) claim(token, id);
  for (const { content, id } of added) {
    if (content === '') throw fail(`the added token ${id} is empty`);
    if (vocab.has(content) && vocab.get(content) !== id) throw fail(`${quoted(content)} has two ids`);
    claim(content, id);
  }

  /** Rank and result of each pair, by `left * (MAX_ID + 1) + right`. */
  const pairs = new Map<number, { rank: number; merged: number }>();
  const pairKey = (left: number, right: number) => left * (MAX_ID + 1) + right;
  merges.forEach(([left, right], rank) => {
    const [a, b, merged] = [left, right, left + right].map((token) => vocab.get(token));
    if (a === undefined || b === undefined || merged === undefined) {
      throw fail(`merge ${rank} of ${quoted(left)} and ${quoted(right)} is of tokens outside the vocabulary`);
    }
    if (!pairs.has(pairKey(a, b))) pairs.set(pairKey(a, b), { rank, merged });
  });

  const addedById = new Map(added.map((token) => [token.id, token]));
  const addedIds = new Map(added.map(({ content, id }) => [content, id]));
  const byteIds = BYTE_CHARACTERS.map((character) => vocab.get(character));
  const size = [...tokens.keys()].reduce((largest, id) => Math.max(largest, id), -1) + 1;
  const marks = addedPattern(added);
  const utf8 = new TextEncoder();
  const remembered = new Map<string, readonly number[]>();

  const encodeWord = (word: string): readonly number[] => {
    const known = remembered.get(word);
    if (known) return known;
    const start = Array.from(utf8.encode(word), (byte) => {
      const id = byteIds[byte];
      if (id === undefined) throw fail(`it has no token for the byte ${byte}, which is in ${quoted(word)}`);
      return id;
    });
    const ids = mergeWord(start, (left, right) => pairs.get(pairKey(left, right)));
    if (remembered.size < REMEMBERED) remembered.set(word, ids);
    return ids;
  };
  const bytesOf = (id: number): Uint8Array => {
    const mark = addedById.get(id);
    if (mark) return utf8.encode(mark.content);
    const token = tokens.get(id);
    if (token === undefined) throw new JepaError(`${where}: there is no token ${id}, ids are 0 to ${size - 1}`);
    return Uint8Array.from(token, (character) => CHARACTER_BYTES.get(character) ?? 0x3f);
  };

  return {
    vocab,
    merges,
    added,
    size,
    encode(text) {
      const ids: number[] = [];
      let from = 0;
      const ordinary = (to: number) => {
        for (const [word] of text.slice(from, to).matchAll(WORDS)) for (const id of encodeWord(word)) ids.push(id);
      };
      for (const match of marks ? text.matchAll(marks) : []) {
        ordinary(match.index);
        ids.push(addedIds.get(match[0])!);
        from = match.index + match[0].length;
      }
      ordinary(text.length);
      return ids;
    },
    decode(ids, { skipSpecial = false } = {}) {
      const parts: Uint8Array[] = [];
      for (const id of ids) if (!skipSpecial || !addedById.get(id)?.special) parts.push(bytesOf(id));
      const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        bytes.set(part, at);
        at += part.length;
      }
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
    },
    token: (id) => tokens.get(id),
    id: (token) => addedIds.get(token) ?? vocab.get(token),
    offsets(text, ids) {
      // Character (code point) that every byte belongs to.
      const owner: number[] = [];
      let character = 0;
      for (const each of text) {
        for (let i = utf8.encode(each).length; i > 0; i--) owner.push(character);
        character++;
      }
      let at = 0;
      return ids.map((id) => {
        const from = at;
        at += bytesOf(id).length;
        if (at > owner.length) throw new JepaError(`${where}: these tokens are not the encoding of that text`);
        return [owner[from], owner[at - 1] + 1];
      });
    },
  };
}

/** Finds added tokens in text, at each place the longest. */
function addedPattern(added: readonly AddedToken[]): RegExp | undefined {
  if (added.length === 0) return undefined;
  const longestFirst = added.map(({ content }) => content).sort((a, b) => b.length - a.length);
  return new RegExp(longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|'), 'gu');
}

type FindPair = (left: number, right: number) => { readonly rank: number; readonly merged: number } | undefined;

/**
 * Merges the tokens of a word: always the pair of lowest rank, of equal ones the first. A heap of places keeps a word of n
 * tokens at n log n steps.
 */
function mergeWord(ids: number[], find: FindPair): number[] {
  const next = ids.map((_, i) => i + 1);
  const before = ids.map((_, i) => i - 1);
  const gone = new Uint8Array(ids.length);
  // Rank and place in one number, which orders as the two do.
  const heap = binaryHeap<number>((a, b) => a < b);
  const offer = (place: number) => {
    if (place < 0 || next[place] >= ids.length) return;
    const pair = find(ids[place], ids[next[place]]);
    if (pair) heap.push(pair.rank * ids.length + place);
  };
  for (let i = 0; i < ids.length; i++) offer(i);
  for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
    const place = top % ids.length;
    const right = next[place];
    if (gone[place] || right >= ids.length) continue;
    const pair = find(ids[place], ids[right]);
    // What was offered may have been merged away since.
    if (pair?.rank !== (top - place) / ids.length) continue;
    ids[place] = pair.merged;
    gone[right] = 1;
    next[place] = next[right];
    if (next[place] < ids.length) before[next[place]] = place;
    offer(before[place]);
    offer(place);
  }
  return ids.filter((_, i) => !gone[i]);
}

// --- tokenizer.json -------------------------------------------------------------------------------------------------

/**
 * Reads a `tokenizer.json` of Hugging Face that holds a byte-level BPE model. Throws a `JepaError` for files that are
 * damaged, contradict themselves, or ask for something else than GPT-2's byte-level BPE does (normalizers, other patterns).
 */
export function parseTokenizer(bytes: Uint8Array, where: string): BpeTokenizer {
  const fail = (why: string) => new JepaError(`${where}: not a tokenizer that can be read: ${why}`);
  const root = parseJson(decodeUtf8(bytes, where), where);
  const model = isJsonObject(root) ? root.model : undefined;
  if (!isJsonObject(root) || !isJsonObject(model)) throw fail('it has no model');
  if (model.type !== undefined && model.type !== 'BPE') throw fail(`its model is ${quoted(model.type)}, not BPE`);
  for (const key of ['dropout', 'unk_token', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[key] !== undefined && model[key] !== null && model[key] !== '') {
      throw fail(`its model sets ${key}, which byte-level BPE does not have`);
    }
  }
  if (root.normalizer !== undefined && root.normalizer !== null) {
    throw fail('it normalizes text before encoding, which is not supported');
  }
  const split = root.pre_tokenizer;
  if (
    !isJsonObject(split) ||
    split.type !== 'ByteLevel' ||
    split.use_regex === false ||
    split.add_prefix_space === true
  ) {
    throw fail("its pre-tokenizer is not GPT-2's (ByteLevel with its pattern, no prefix space)");
  }
  const { vocab, merges } = model;
  if (!isJsonObject(vocab) || !Array.isArray(merges)) throw fail('its model has no vocab and merges');
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(vocab)) {
    if (typeof id !== 'number') throw fail(`the id of ${quoted(token)} is not a number`);
    ids.set(token, id);
  }
  const pairs = merges.map((merge) => readMerge(merge, fail));
  const added = root.added_tokens ?? [];
  if (!Array.isArray(added)) throw fail('its added_tokens are not a list');
  return bpeTokenizer({ vocab: ids, merges: pairs, added: added.map((token) => readAdded(token, fail)) }, where);
}

/** A merge: two tokens in a list, or in older files in one text with a space between. */
function readMerge(merge: Json, fail: (why: string) => JepaError): [string, string] {
  const [left, right, more] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : [];
  if (typeof left !== 'string' || typeof right !== 'string' || more !== undefined) {
    throw fail(`${quoted(merge)} among its merges is not a pair of tokens`);
  }
  return [left, right];
}

function readAdded(token: Json, fail: (why: string) => JepaError): AddedToken {
  if (!isJsonObject(token) || typeof token.content !== 'string' || typeof token.id !== 'number') {
    throw fail('an added token has no content or no id');
  }
  const odd = ['single_word', 'lstrip', 'rstrip'].find((key) => token[key] === true);
  if (odd) throw fail(`the added token ${quoted(token.content)} sets ${odd}, which is not supported`);
  return { id: token.id, content: token.content, special: token.special === true };
}

/** The `tokenizer.json` of a tokenizer, as the tokenizers library of Hugging Face writes it. */
export function tokenizerJson({ vocab, merges, added }: BpeModel): string {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const file: JsonObject = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added.map(({ id, content, special }) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    // The library's defaults, of which neither changes anything for such a model.
    post_processor: { ...byteLevel, add_prefix_space: true, trim_offsets: false },
    decoder: { ...byteLevel, add_prefix_space: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries([...vocab].sort(([, a], [, b]) => a - b)),
      merges: merges.map((pair) => [...pair]),
    },
  };
  return JSON.stringify(file, undefined, 2);
}

// --- training -------------------------------------------------------------------------------------------------------

export interface BpeTraining {
  /** Tokens in all: special ones, 256 bytes, and merges until this number is reached. */
  readonly vocabSize: number;
  /** Special tokens; they get the first ids. */
  readonly special?: readonly string[];
  /** Pairs that occur less often are not merged; 2 by default, as a pair that occurs once shortens nothing else. */
  readonly minFrequency?: number;
}

/**
 * Learns a byte-level BPE tokenizer from texts: again and again the pair of neighbouring tokens that occurs most often in
 * words becomes a token. Of equally frequent pairs that of the lowest ids is taken, as the trainer of the tokenizers library
 * does, so that the same texts give the same tokenizer. Stops early when no pair is frequent enough.
 */
export function trainBpe(
  texts: Iterable<string>,
  { vocabSize, special = [], minFrequency = 2 }: BpeTraining,
): BpeTokenizer {
  if (!(vocabSize >= special.length + 256)) {
    throw new JepaError(`tokenizer: ${vocabSize} tokens cannot hold 256 bytes and ${special.length} special tokens`);
  }
  const names: string[] = [...special, ...[...BYTE_CHARACTERS].sort()];
  const vocab = new Map(names.map((token, id) => [token, id]));
  if (vocab.size !== names.length) throw new JepaError('tokenizer: special tokens occur twice or are single bytes');
  const words = countWords(texts, special, vocab);

  const counts = new Map<number, number>();
  const holders = new Map<number, Set<number>>();
  const heap = binaryHeap<{ readonly pair: number; readonly frequency: number }>(
    (a, b) => a.frequency > b.frequency || (a.frequency === b.frequency && a.pair < b.pair),
  );
  const key = (left: number, right: number) => left * (MAX_ID + 1) + right;
  /** Adds the pairs of a word to the counts (or takes them away), and notes which pairs have changed. */
  const count = (index: number, sign: 1 | -1, changed: Set<number>) => {
    const { ids, frequency } = words[index];
    for (let i = 0; i + 1 < ids.length; i++) {
      const pair = key(ids[i], ids[i + 1]);
      counts.set(pair, (counts.get(pair) ?? 0) + sign * frequency);
      changed.add(pair);
      if (sign < 0) continue;
      const found = holders.get(pair) ?? new Set();
      holders.set(pair, found.add(index));
    }
  };
  const offer = (changed: Iterable<number>) => {
    for (const pair of changed) {
      const frequency = counts.get(pair) ?? 0;
      if (frequency > 0 && frequency >= minFrequency) heap.push({ pair, frequency });
    }
  };

  const all = new Set<number>();
  for (let i = 0; i < words.length; i++) count(i, 1, all);
  offer(all);
  const merges: [string, string][] = [];
  while (vocab.size < vocabSize) {
    const best = heap.pop();
    if (!best) break;
    const { pair, frequency } = best;
    if (counts.get(pair) !== frequency) continue; // offered again with its count of today
    const [left, right] = [Math.floor(pair / (MAX_ID + 1)), pair % (MAX_ID + 1)];
    const token = names[left] + names[right];
    let merged = vocab.get(token);
    if (merged === undefined) {
      merged = names.push(token) - 1;
      vocab.set(token, merged);
    }
    merges.push([names[left], names[right]]);
    const changed = new Set<number>();
    for (const index of holders.get(pair)!) {
      count(index, -1, changed);
      words[index].ids = mergePair(words[index].ids, left, right, merged);
      count(index, 1, changed);
    }
    counts.delete(pair);
    holders.delete(pair);
    changed.delete(pair);
    offer(changed);
  }
  const added = special.map((content, id) => ({ id, content, special: true }));
  return bpeTokenizer({ vocab, merges, added }, 'tokenizer');
}

/** The words of all texts as ids of their bytes, with how often each occurs. */
function countWords(
  texts: Iterable<string>,
  special: readonly string[],
  vocab: ReadonlyMap<string, number>,
): { ids: number[]; frequency: number }[] {
  const marks = addedPattern(special.map((content, id) => ({ id, content, special: true })));
  const frequencies = new Map<string, number>();
  for (const text of texts) {
    for (const part of marks ? text.split(marks) : [text]) {
      for (const [word] of part.matchAll(WORDS)) frequencies.set(word, (frequencies.get(word) ?? 0) + 1);
    }
  }
  const utf8 = new TextEncoder();
  return [...frequencies].map(([word, frequency]) => ({
    ids: Array.from(utf8.encode(word), (byte) => vocab.get(BYTE_CHARACTERS[byte])!),
    frequency,
  }));
}

function mergePair(ids: readonly number[], left: number, right: number, merged: number): number[] {
  const result: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === left && ids[i + 1] === right) {
      result.push(merged);
      i++;
    } else result.push(ids[i]);
  }
  return result;
}
