import { JepaError } from '../../base/errors.js';

/** Zero crossings of the kernel on each side, and its cut-off as a share of the lower Nyquist frequency (torchaudio's). */
const CROSSINGS = 6;
const ROLLOFF = 0.99;
/** Highest rate that is taken: memory grows with the rates where they have no common divisor. */
const HIGHEST_RATE = 768_000;

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/**
 * Plans the conversion of mono sound from `from` to `to` Hz: band-limited interpolation with a Hann-windowed sinc, as
 * `torchaudio.functional.resample` (kernel sinc(t) cos^2(pi t / 12), |t| <= 6, zeros beyond the ends). n samples become
 * ceil(n to / from). Throws a `JepaError` for rates that are no whole numbers from 1 to 768000.
 */
export function resampler(from: number, to: number): (signal: Float32Array) => Float32Array {
  for (const rate of [from, to]) {
    if (!Number.isInteger(rate) || rate < 1 || rate > HIGHEST_RATE) {
      throw new JepaError(
        `resample: ${rate} Hz is no sampling rate; rates are whole numbers from 1 to ${HIGHEST_RATE} Hz`,
      );
    }
  }
  if (from === to) return (signal) => signal;
  const divisor = gcd(from, to);
  const [old, next] = [from / divisor, to / divisor];
  const cutOff = Math.min(old, next) * ROLLOFF;
  // Output n = step * next + phase lies at input step * old + phase * old / next: one list of weights for each phase.
  const reach = (CROSSINGS * old) / cutOff;
  const taps = 2 * Math.ceil(reach) + 1;
  const first = new Int32Array(next);
  const weights = new Float64Array(next * taps);
  for (let phase = 0; phase < next; phase++) {
    const centre = (phase * old) / next;
    first[phase] = Math.ceil(centre - reach);
    for (let i = 0; i < taps; i++) {
      const t = ((first[phase] + i - centre) / old) * cutOff;
      if (Math.abs(t) >= CROSSINGS) continue;
      const sinc = t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
      weights[phase * taps + i] = (sinc * Math.cos((Math.PI * t) / (2 * CROSSINGS)) ** 2 * cutOff) / old;
    }
  }
  return (signal) => {
    const out = new Float32Array(Math.ceil((signal.length * next) / old));
    for (let n = 0, phase = 0, step = 0; n < out.length; n++) {
      const start = step + first[phase];
      const from = Math.max(0, -start);
      const end = Math.min(taps, signal.length - start);
      const row = phase * taps;
      let sum = 0;
      for (let i = from; i < end; i++) sum += weights[row + i] * signal[start + i];
      out[n] = sum;
      if (++phase === next) {
        phase = 0;
        step += old;
      }
    }
    return out;
  };
}
