import type { Random } from '../../src/base/random.js';

/** Damage of files: what disks, networks and people who mean harm do to them. Everything follows from the generator. */

export interface Seeds {
  /** Valid files. */
  readonly files: readonly Uint8Array[];
  /** Pieces that mean something in the format, to be put in anywhere. */
  readonly words?: readonly (string | Uint8Array)[];
}

/** Sizes and counts that readers get wrong. */
const NUMBERS: readonly bigint[] = [
  ...[0n, 1n, 2n, 7n, 16n, 64n, 127n, 128n, 255n, 256n, 1000n, 4096n, 65_535n, 65_536n, 1n << 24n, (1n << 31n) - 1n],
  ...[1n << 31n, (1n << 32n) - 1n, 1n << 32n, (1n << 53n) - 1n, 1n << 53n, (1n << 62n) + 1n, (1n << 63n) - 1n],
  ...[-1n, -2n, -128n, -65_536n, -(1n << 31n)],
];
const WORDS = ['-1', '0', '1e309', 'nan', '99999999999999999999', '4294967296', '\0', '\n', '"', '{', '[', '\u{1f600}'];

type Mutation = (bytes: Uint8Array, random: Random, seeds: Seeds) => Uint8Array;

const join = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** Places at the start and the end of a file, where headers and directories lie, are as likely as all others. */
function place(length: number, random: Random): number {
  const near = Math.min(length, 128);
  const kind = random.integer(4);
  if (kind === 0) return random.integer(near);
  return kind === 1 ? length - 1 - random.integer(near) : random.integer(length);
}

/** A piece of a file, mostly short. */
function piece(length: number, random: Random): [from: number, to: number] {
  const from = place(length, random);
  const most = random.integer(4) === 0 ? length - from : Math.min(length - from, 32);
  return [from, from + 1 + random.integer(most)];
}

const flipBits: Mutation = (bytes, random) => {
  for (let n = random.integer(4); n >= 0; n--) bytes[place(bytes.length, random)] ^= 1 << random.integer(8);
  return bytes;
};

const setBytes: Mutation = (bytes, random) => {
  const [from, to] = piece(bytes.length, random);
  const value = [0, 255, 127, 128, 32][random.integer(5)];
  for (let i = from; i < to; i++) bytes[i] = random.integer(2) === 0 ? value : random.integer(256);
  return bytes;
};

const truncate: Mutation = (bytes, random) => bytes.slice(0, random.integer(bytes.length));

/** The beginning of one file and the end of another. */
const splice: Mutation = (bytes, random, { files }) => {
  const other = files[random.integer(files.length)];
  return join(bytes.subarray(0, random.integer(bytes.length)), other.subarray(random.integer(other.length + 1)));
};

/** A binary number of 1 to 8 bytes becomes another: one that is absurd, a bit more or less, or the size of the file. */
const changeLength: Mutation = (bytes, random) => {
  const width = [1, 2, 4, 8][random.integer(4)];
  if (bytes.length < width) return bytes;
  const at = Math.min(place(bytes.length, random), bytes.length - width);
  const view = Buffer.from(bytes.buffer, bytes.byteOffset + at, width);
  const little = random.integer(2) === 0;
  const old = BigInt(`0x${(little ? Buffer.from(view).reverse() : view).toString('hex')}`);
  const kind = random.integer(4);
  const value =
    kind === 0
      ? old + BigInt(random.integer(9) - 4)
      : kind === 1
        ? BigInt(bytes.length - random.integer(16))
        : NUMBERS[random.integer(NUMBERS.length)];
  const digits = BigInt.asUintN(8 * width, value)
    .toString(16)
    .padStart(2 * width, '0');
  const bigEndian = Buffer.from(digits, 'hex');
  view.set(little ? bigEndian.reverse() : bigEndian);
  return bytes;
};

/** A number in text becomes another. */
const changeDigits: Mutation = (bytes, random) => {
  const isDigit = (i: number): boolean => bytes[i] >= 48 && bytes[i] <= 57;
  let from = place(bytes.length, random);
  while (from < bytes.length && !isDigit(from)) from++;
  let to = from;
  while (to < bytes.length && isDigit(to)) to++;
  const value = NUMBERS[random.integer(NUMBERS.length)].toString();
  return join(bytes.subarray(0, from), Buffer.from(value), bytes.subarray(to));
};

const duplicate: Mutation = (bytes, random) => {
  const [from, to] = piece(bytes.length, random);
  // Deep nesting is a piece that comes very often.
  const times = random.integer(16) === 0 ? 1 + random.integer(Math.ceil(2000 / (to - from))) : 1;
  const pieces = Array<Uint8Array>(times).fill(bytes.subarray(from, to));
  return join(bytes.subarray(0, to), ...pieces, bytes.subarray(to));
};

const move: Mutation = (bytes, random) => {
  const [from, to] = piece(bytes.length, random);
  const rest = join(bytes.subarray(0, from), bytes.subarray(to));
  const at = random.integer(rest.length + 1);
  return join(rest.subarray(0, at), bytes.subarray(from, to), rest.subarray(at));
};

const remove: Mutation = (bytes, random) => {
  const [from, to] = piece(bytes.length, random);
  return join(bytes.subarray(0, from), bytes.subarray(to));
};

const putWord: Mutation = (bytes, random, { words = [] }) => {
  const pool = words.length > 0 && random.integer(3) > 0 ? words : WORDS;
  const word = pool[random.integer(pool.length)];
  const inserted = typeof word === 'string' ? Buffer.from(word) : word;
  const at = place(bytes.length, random);
  // In place of what is there, or between.
  const after = at + (random.integer(2) === 0 ? inserted.length : 0);
  return join(bytes.subarray(0, at), inserted, bytes.subarray(after));
};

const MUTATIONS: readonly Mutation[] = [
  ...[flipBits, flipBits, setBytes, truncate, splice, changeLength, changeLength, changeDigits],
  ...[duplicate, move, remove, putWord],
];
/** Nothing of a file grows beyond this by pieces that come often. */
const LARGEST = 1 << 20;

/** One damaged file: a seed, changed in one place or in up to four, of which every one may hide what the others reach. */
export function mutate(seeds: Seeds, random: Random): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(seeds.files[random.integer(seeds.files.length)]);
  for (let n = Math.max(0, random.integer(7) - 3); n >= 0 && bytes.length > 0; n--) {
    const changed = MUTATIONS[random.integer(MUTATIONS.length)](bytes, random, seeds);
    if (changed.length <= LARGEST) bytes = changed;
  }
  return bytes;
}
