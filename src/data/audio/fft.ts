import { JepaError } from '../../base/errors.js';

/** Discrete Fourier transform of real signals of one length. Holds scratch memory: one plan for each thread. */
export interface RealFft {
  /** Samples of a signal. */
  readonly size: number;
  /** Frequencies 0 .. size / 2: floor(size / 2) + 1. */
  readonly bins: number;
  /** sum_t signal[t] exp(-2 pi i k t / size) for k = 0 .. bins - 1, into `re` and `im`. `signal` holds `size` numbers. */
  transform(signal: Float64Array, re: Float64Array, im: Float64Array): void;
}

/**
 * Plans transforms of `size` samples: mixed radix (4, 2, then odd primes), self-sorting (Stockham), in doubles. An even
 * number of samples is transformed as half as many complex ones. Sizes with large prime factors p cost p operations a value.
 */
export function realFft(size: number): RealFft {
  if (!Number.isInteger(size) || size < 1) {
    throw new JepaError(`fft: the size must be a positive whole number, not ${size}`);
  }
  return size % 2 === 0 ? evenFft(size) : oddFft(size);
}

function oddFft(size: number): RealFft {
  const complex = complexFft(size);
  const bins = (size + 1) / 2;
  return {
    size,
    bins,
    transform(signal, re, im) {
      complex.re.set(signal.subarray(0, size));
      complex.im.fill(0);
      const out = complex.run();
      re.set(out.re.subarray(0, bins));
      im.set(out.im.subarray(0, bins));
    },
  };
}

/** Even samples are the real and odd ones the imaginary parts of a signal of half the length; its symmetries part them. */
function evenFft(size: number): RealFft {
  const half = size / 2;
  const complex = complexFft(half);
  const { cos, sin } = unitRoots(size);
  return {
    size,
    bins: half + 1,
    transform(signal, re, im) {
      for (let i = 0; i < half; i++) {
        complex.re[i] = signal[2 * i];
        complex.im[i] = signal[2 * i + 1];
      }
      const z = complex.run();
      for (let k = 0; k <= half; k++) {
        const a = k === half ? 0 : k;
        const b = k === 0 ? 0 : half - k;
        const evenRe = 0.5 * (z.re[a] + z.re[b]);
        const evenIm = 0.5 * (z.im[a] - z.im[b]);
        const oddRe = 0.5 * (z.im[a] + z.im[b]);
        const oddIm = 0.5 * (z.re[b] - z.re[a]);
        const c = k === half ? -1 : cos[k];
        const s = k === half ? 0 : sin[k];
        re[k] = evenRe + c * oddRe - s * oddIm;
        im[k] = evenIm + c * oddIm + s * oddRe;
      }
    },
  };
}

interface Complex {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/** exp(-2 pi i k / size) for k = 0 .. size - 1. */
function unitRoots(size: number): { cos: Float64Array; sin: Float64Array } {
  const cos = new Float64Array(size);
  const sin = new Float64Array(size);
  for (let k = 0; k < size; k++) {
    cos[k] = Math.cos((2 * Math.PI * k) / size);
    sin[k] = -Math.sin((2 * Math.PI * k) / size);
  }
  return { cos, sin };
}

/** Radices of the passes: fours, then a two, then odd primes. */
function factorsOf(size: number): number[] {
  const factors: number[] = [];
  let rest = size;
  for (let p = 4; rest > 1; p = p === 4 ? 2 : p === 2 ? 3 : p + 2) {
    for (; rest % p === 0; rest /= p) factors.push(p);
  }
  return factors;
}

/** `run` transforms what was written into `re` and `im`, and returns arrays of the plan, valid until the next run. */
function complexFft(size: number): Complex & { run(): Complex } {
  const first = { re: new Float64Array(size), im: new Float64Array(size) };
  const second = { re: new Float64Array(size), im: new Float64Array(size) };
  const roots = unitRoots(size);
  const factors = factorsOf(size);
  return {
    ...first,
    run() {
      let [from, to] = [first, second];
      // Before a pass there are `stride` interleaved signals of `length` samples.
      let [length, stride] = [size, 1];
      for (const radix of factors) {
        const part = length / radix;
        if (radix === 4) pass4(from, to, part, stride, roots);
        else if (radix === 2) pass2(from, to, part, stride, roots);
        else passAny(from, to, radix, part, stride, roots);
        [from, to] = [to, from];
        [length, stride] = [part, stride * radix];
      }
      return from;
    },
  };
}

type Roots = ReturnType<typeof unitRoots>;

function pass2(x: Complex, y: Complex, part: number, stride: number, { cos, sin }: Roots): void {
  for (let q = 0; q < part; q++) {
    const c = cos[q * stride];
    const s = sin[q * stride];
    for (let j = 0; j < stride; j++) {
      const a = j + stride * q;
      const b = a + stride * part;
      const out = j + stride * 2 * q;
      const dr = x.re[a] - x.re[b];
      const di = x.im[a] - x.im[b];
      y.re[out] = x.re[a] + x.re[b];
      y.im[out] = x.im[a] + x.im[b];
      y.re[out + stride] = dr * c - di * s;
      y.im[out + stride] = dr * s + di * c;
    }
  }
}

function pass4(x: Complex, y: Complex, part: number, stride: number, { cos, sin }: Roots): void {
  const { re, im } = x;
  const step = stride * part;
  for (let q = 0; q < part; q++) {
    const w = q * stride;
    const [c1, s1, c2, s2, c3, s3] = [cos[w], sin[w], cos[2 * w], sin[2 * w], cos[3 * w], sin[3 * w]];
    for (let j = 0; j < stride; j++) {
      const a = j + stride * q;
      const b = a + step;
      const c = b + step;
      const d = c + step;
      const out = j + stride * 4 * q;
      const sumAcR = re[a] + re[c];
      const sumAcI = im[a] + im[c];
      const difAcR = re[a] - re[c];
      const difAcI = im[a] - im[c];
      const sumBdR = re[b] + re[d];
      const sumBdI = im[b] + im[d];
      // -i (b - d)
      const turnR = im[b] - im[d];
      const turnI = re[d] - re[b];
      y.re[out] = sumAcR + sumBdR;
      y.im[out] = sumAcI + sumBdI;
      const r1 = difAcR + turnR;
      const i1 = difAcI + turnI;
      y.re[out + stride] = r1 * c1 - i1 * s1;
      y.im[out + stride] = r1 * s1 + i1 * c1;
      const r2 = sumAcR - sumBdR;
      const i2 = sumAcI - sumBdI;
      y.re[out + 2 * stride] = r2 * c2 - i2 * s2;
      y.im[out + 2 * stride] = r2 * s2 + i2 * c2;
      const r3 = difAcR - turnR;
      const i3 = difAcI - turnI;
      y.re[out + 3 * stride] = r3 * c3 - i3 * s3;
      y.im[out + 3 * stride] = r3 * s3 + i3 * c3;
    }
  }
}

function passAny(x: Complex, y: Complex, radix: number, part: number, stride: number, { cos, sin }: Roots): void {
  const size = cos.length;
  const turn = size / radix;
  for (let q = 0; q < part; q++) {
    for (let r = 0; r < radix; r++) {
      const c = cos[q * r * stride];
      const s = sin[q * r * stride];
      for (let j = 0; j < stride; j++) {
        let sumR = 0;
        let sumI = 0;
        for (let k = 0; k < radix; k++) {
          const at = j + stride * (q + part * k);
          const w = ((r * k) % radix) * turn;
          sumR += x.re[at] * cos[w] - x.im[at] * sin[w];
          sumI += x.re[at] * sin[w] + x.im[at] * cos[w];
        }
        const out = j + stride * (radix * q + r);
        y.re[out] = sumR * c - sumI * s;
        y.im[out] = sumR * s + sumI * c;
      }
    }
  }
}
