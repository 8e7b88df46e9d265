import { JepaError } from './errors.js';

/**
 * Random numbers of the host. Everything random in training comes from here, never from a graph, so that a run can be
 * resumed bit for bit. `createRandom` is the generator of the library; `torchRandom` repeats the stream of PyTorch's
 * CPU generator, for masks and tests that must equal a reference run.
 */

/** Where a `Random` stands; plain numbers, safe to store as JSON. */
export interface RandomState {
  /** Philox key, two unsigned 32-bit words. */
  readonly key: readonly [number, number];
  /** High half of the counter: which of the 2^64 streams of that key. */
  readonly stream: readonly [number, number];
  /** 32-bit words drawn so far. */
  readonly position: number;
}

export interface Random {
  /** The next 32 bits, as an unsigned integer. */
  bits(): number;
  /** Uniform double in [0, 1) with 53 random bits. */
  uniform(): number;
  /** Standard normal double. */
  normal(): number;
  /** Uniform integer in [0, bound), without bias; 1 <= bound <= 2^32. */
  integer(bound: number): number;
  /** A random order of 0 .. n - 1. */
  permutation(n: number): Int32Array;
  /** Fills with uniforms of 24 random bits, scaled to [low, high]. */
  fillUniform(out: Float32Array, low?: number, high?: number): void;
  /** Fills with normals. The tails end at 6.7 standard deviations (32 random bits per value). */
  fillNormal(out: Float32Array, mean?: number, std?: number): void;
  /**
   * An independent generator named by `label`. It depends on the seed and the labels only, not on what was drawn, so
   * `split('masks').split(step)` is the same numbers in whatever order steps are run.
   */
  split(label: string | number): Random;
  state(): RandomState;
  /** Continues exactly where `state()` was taken. */
  restore(state: RandomState): void;
}

/** Seed of a whole run; `labels` name the stream, as repeated `split` calls would. Seeds are taken modulo 2^64. */
export function createRandom(seed: number | bigint, ...labels: (string | number)[]): Random {
  if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
    throw new JepaError(`random: the seed ${seed} is not a whole number below 2^53; use an integer or a bigint`);
  }
  const bits = BigInt.asUintN(64, BigInt(seed));
  let random = generator({ key: [Number(bits & 0xffffffffn), Number(bits >> 32n)], stream: [0, 0], position: 0 });
  for (const label of labels) random = random.split(label);
  return random;
}

// --- Philox ---------------------------------------------------------------------------------------------------------

/**
 * One block of Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011):
 * four words from a 128-bit counter and a 64-bit key. `out` may be the counter itself.
 */
export function philox(counter: Uint32Array, key0: number, key1: number, out: Uint32Array): void {
  let a = counter[0] | 0;
  let b = counter[1] | 0;
  let c = counter[2] | 0;
  let d = counter[3] | 0;
  key0 |= 0;
  key1 |= 0;
  for (let round = 0; round < 10; round++) {
    // High halves of 0xD2511F53 * a and 0xCD9E8D57 * c, from 16-bit halves: doubles cannot hold the 64-bit products.
    const aLow = a & 0xffff;
    const aHigh = a >>> 16;
    const aMiddle = (Math.imul(aHigh, 0x1f53) + (Math.imul(aLow, 0x1f53) >>> 16)) | 0;
    const aCarry = (Math.imul(aLow, 0xd251) + (aMiddle & 0xffff)) | 0;
    const high0 = (Math.imul(aHigh, 0xd251) + (aMiddle >>> 16) + (aCarry >>> 16)) | 0;
    const cLow = c & 0xffff;
    const cHigh = c >>> 16;
    const cMiddle = (Math.imul(cHigh, 0x8d57) + (Math.imul(cLow, 0x8d57) >>> 16)) | 0;
    const cCarry = (Math.imul(cLow, 0xcd9e) + (cMiddle & 0xffff)) | 0;
    const high1 = (Math.imul(cHigh, 0xcd9e) + (cMiddle >>> 16) + (cCarry >>> 16)) | 0;
    const low0 = Math.imul(a, 0xd2511f53);
    const low1 = Math.imul(c, 0xcd9e8d57);
    a = high1 ^ b ^ key0;
    b = low1;
    c = high0 ^ d ^ key1;
    d = low0;
    key0 = (key0 + 0x9e3779b9) | 0;
    key1 = (key1 + 0xbb67ae85) | 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** Key and stream of a named child: a chained (CBC) hash of the label with Philox as its keyed permutation. */
function derive(key: readonly [number, number], stream: readonly [number, number], label: string): RandomState {
  // The length goes first, so that no label is the beginning of another; the key is changed, so that blocks of names
  // and blocks of draws never coincide.
  const block = Uint32Array.of(label.length, 0, stream[0], stream[1]);
  philox(block, key[0] ^ 0x6a09e667, key[1], block);
  for (let at = 0; at < label.length; at += 8) {
    for (let word = 0; word < 4; word++) {
      const first = at + 2 * word;
      if (first < label.length) block[word] ^= label.charCodeAt(first);
      if (first + 1 < label.length) block[word] ^= label.charCodeAt(first + 1) << 16;
    }
    philox(block, key[0] ^ 0x6a09e667, key[1], block);
  }
  return { key: [block[0], block[1]], stream: [block[2], block[3]], position: 0 };
}

function generator(initial: RandomState): Random {
  let key: readonly [number, number];
  let stream: readonly [number, number];
  const counter = new Uint32Array(4);
  const block = new Uint32Array(4);
  // The block at hand and how many of its four words are spent.
  let blockIndex: number;
  let spent: number;

  function loadBlock(): void {
    counter[0] = blockIndex;
    counter[1] = Math.floor(blockIndex / 0x100000000);
    counter[2] = stream[0];
    counter[3] = stream[1];
    philox(counter, key[0], key[1], block);
  }

  function restore(state: RandomState): void {
    key = [...state.key];
    stream = [...state.stream];
    blockIndex = Math.floor(state.position / 4);
    spent = state.position % 4;
    loadBlock();
  }

  restore(initial);

  function bits(): number {
    if (spent === 4) {
      blockIndex++;
      spent = 0;
      loadBlock();
    }
    return block[spent++];
  }

  const uniform = () => {
    const high = bits() >>> 5;
    return (high * 0x4000000 + (bits() >>> 6)) / 0x20000000000000;
  };

  function integer(bound: number): number {
    checkBound(bound, 0x100000000);
    // Values beyond the last whole multiple of bound are drawn again: no remainder is favoured.
    const limit = 0x100000000 - (0x100000000 % bound);
    let value = bits();
    while (value >= limit) value = bits();
    return value % bound;
  }

  return {
    bits,
    uniform,
    integer,
    normal: () => {
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      return radius * Math.cos(2 * Math.PI * uniform());
    },
    permutation: (n) => shuffled(n, (left) => integer(left)),
    fillUniform: (out, low = 0, high = 1) => {
      const scale = (high - low) / 0x1000000;
      for (let i = 0; i < out.length; i++) out[i] = low + scale * (bits() >>> 8);
    },
    fillNormal: (out, mean = 0, std = 1) => {
      for (let i = 0; i < out.length; i += 2) {
        const radius = std * Math.sqrt(-2 * Math.log((bits() + 1) / 0x100000000));
        const angle = (2 * Math.PI * bits()) / 0x100000000;
        out[i] = mean + radius * Math.cos(angle);
        if (i + 1 < out.length) out[i + 1] = mean + radius * Math.sin(angle);
      }
    },
    split: (label) => generator(derive(key, stream, String(label))),
    state: () => ({ key: [...key], stream: [...stream], position: 4 * blockIndex + spent }),
    restore,
  };
}

// --- the stream of PyTorch ------------------------------------------------------------------------------------------

/**
 * PyTorch's CPU generator: MT19937 and its rules for each kind of draw, bit for bit (normals up to the last digit of the
 * logarithm and cosine, which PyTorch computes in single precision).
 */
export interface TorchRandom {
  /** `torch.rand(1)` in float32: 24 bits. */
  uniform(): number;
  /** `torch.rand(1)` in float64: 53 bits. */
  uniform64(): number;
  /** `tensor.uniform_(low, high)` of one float32. */
  uniformBetween(low: number, high: number): number;
  /** `torch.randint(0, bound, (1,))`. */
  integer(bound: number): number;
  /** `torch.randperm(n)`. */
  permutation(n: number): Int32Array;
  /** `torch.randn(n)` in float32. */
  normals(n: number): Float32Array;
}

export function torchRandom(seed: number): TorchRandom {
  const bits = mersenneTwister(seed);
  // Short requests for normals draw pairs; the second of a pair waits here for the next short request.
  let spare: number | undefined;

  const uniform = () => (bits() & 0xffffff) / 0x1000000;
  const uniform64 = () => {
    const high = bits() & 0x1fffff;
    return (high * 0x100000000 + bits()) / 0x20000000000000;
  };

  function pairedNormal(): number {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * uniform64();
    const radius = Math.sqrt(-2 * Math.log1p(-uniform64()));
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  function transformSixteen(values: Float32Array, start: number): void {
    const round = Math.fround;
    for (let j = start; j < start + 8; j++) {
      const radius = round(Math.sqrt(round(-2 * round(Math.log(round(1 - values[j]))))));
      const angle = round(round(2 * Math.PI) * values[j + 8]);
      values[j] = radius * round(Math.cos(angle));
      values[j + 8] = radius * round(Math.sin(angle));
    }
  }

  return {
    uniform,
    uniform64,
    uniformBetween: (low, high) => Math.fround(Math.fround(uniform() * Math.fround(high - low)) + Math.fround(low)),
    integer: (bound) => {
      // From 2^28 on PyTorch takes 64 bits a draw.
      checkBound(bound, 0x10000000);
      return bits() % bound;
    },
    permutation: (n) => shuffled(n, (left) => (left > 1 ? bits() % left : 0)),
    normals: (n) => {
      if (n < 16) return Float32Array.from({ length: n }, pairedNormal);
      const values = Float32Array.from({ length: n }, uniform);
      for (let start = 0; start + 16 <= n; start += 16) transformSixteen(values, start);
      if (n % 16 !== 0) {
        for (let i = n - 16; i < n; i++) values[i] = uniform();
        transformSixteen(values, n - 16);
      }
      return values;
    },
  };
}

/** MT19937 (Matsumoto, Nishimura 1998) with its standard integer seeding; returns tempered unsigned words. */
function mersenneTwister(seed: number): () => number {
  const size = 624;
  const state = new Uint32Array(size);
  state[0] = seed;
  for (let i = 1; i < size; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let next = size;
  return () => {
    if (next === size) {
      for (let i = 0; i < size; i++) {
        const mixed = (state[i] & 0x80000000) | (state[(i + 1) % size] & 0x7fffffff);
        state[i] = state[(i + 397) % size] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let word = state[next++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
}

/** `numpy.random.RandomState(seed).permutation(n)`: the order that NumPy's old generator shuffles 0 .. n - 1 into. */
export function numpyPermutation(seed: number, n: number): Int32Array {
  const bits = mersenneTwister(seed);
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    // Draws under the next power of two until one fits.
    const mask = 0xffffffff >>> Math.clz32(i);
    let other = (bits() & mask) >>> 0;
    while (other > i) other = (bits() & mask) >>> 0;
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

// --- shared ---------------------------------------------------------------------------------------------------------

/** Fisher-Yates from the front; `draw(left)` is a uniform integer in [0, left). */
function shuffled(n: number, draw: (left: number) => number): Int32Array {
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  for (let i = 0; i < n - 1; i++) {
    const other = i + draw(n - i);
    const value = order[i];
    order[i] = order[other];
    order[other] = value;
  }
  return order;
}

function checkBound(bound: number, largest: number): void {
  if (!Number.isInteger(bound) || bound < 1 || bound > largest) {
    throw new JepaError(`random: no integer in [0, ${bound}): the bound must be a whole number from 1 to ${largest}`);
  }
}
