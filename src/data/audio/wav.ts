import { JepaError } from '../../base/errors.js';

/** Where the samples of a WAV file are, and how they are written. */
export interface WavLayout {
  /** Samples a second. */
  readonly sampleRate: number;
  readonly channels: number;
  /** Samples of each channel. */
  readonly frames: number;
  readonly encoding: 'integer' | 'float';
  /** Bits of one stored sample. */
  readonly bits: 8 | 16 | 24 | 32 | 64;
  /** Byte of the file at which the samples start. */
  readonly dataStart: number;
}

/** A sound in memory. */
export interface Sound {
  readonly sampleRate: number;
  readonly channels: number;
  readonly frames: number;
  /** [frames, channels], integers scaled to -1..1. */
  readonly samples: Float32Array;
}

const MAX_CHANNELS = 256;
/** What a recorder that writes to a pipe puts where it cannot know the size. */
const UNKNOWN_SIZE = 0xffffffff;

const COMPRESSED: Readonly<Record<number, string>> = {
  2: 'ADPCM',
  6: 'A-law',
  7: 'mu-law',
  17: 'IMA ADPCM',
  85: 'MP3',
  255: 'AAC',
};

/**
 * Finds the samples of a WAV file (integers of 8, 16, 24 or 32 bits, floats of 32 or 64, plain or extensible; chunks in
 * any order, of which unknown ones are passed over). `bytes` may be the beginning of the file only, as long as it reaches
 * to the samples; `fileSize` is the size of the whole. Throws a `JepaError` naming the file and what is wrong with it.
 */
export function wavLayout(bytes: Uint8Array, where: string, fileSize = bytes.length): WavLayout {
  const fail = (why: string) => new JepaError(`${where}: not a readable WAV file: ${why}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const id = (at: number) => String.fromCharCode(...bytes.subarray(at, at + 4)).replace(/[^ -~]/g, '?');
  if (bytes.length === 0) throw fail('the file is empty (0 bytes)');
  if (bytes.length < 12 || id(0) !== 'RIFF') throw fail('it does not start with RIFF');
  if (id(8) !== 'WAVE') throw fail(`it is a RIFF file of the kind "${id(8)}", not "WAVE"`);

  let format: Omit<WavLayout, 'frames' | 'dataStart'> | undefined;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const name = id(at);
    const start = at + 8;
    const size = view.getUint32(at + 4, true);
    const streamed = name === 'data' && size === UNKNOWN_SIZE;
    if (!streamed && start + size > fileSize) {
      throw fail(
        `its chunk "${name}" at byte ${at} announces ${size} bytes, ${fileSize - start} follow; the file is cut`,
      );
    }
    if (name === 'fmt ') {
      format = parseFormat(
        new DataView(bytes.buffer, bytes.byteOffset + start, Math.min(size, bytes.length - start)),
        fail,
      );
    } else if (name === 'data') {
      if (!format) throw fail('no "fmt " chunk before the samples');
      const frameBytes = (format.channels * format.bits) / 8;
      const length = streamed ? fileSize - start : size;
      if (!streamed && length % frameBytes !== 0) {
        throw fail(`${length} bytes of samples are no whole number of frames of ${frameBytes} bytes`);
      }
      return { ...format, frames: Math.floor(length / frameBytes), dataStart: start };
    }
    // Chunks of odd size are followed by a byte that does not count.
    at = start + size + (size % 2);
  }
  throw fail(format ? 'no "data" chunk' : 'no "fmt " chunk');
}

function parseFormat(view: DataView, fail: (why: string) => JepaError): Omit<WavLayout, 'frames' | 'dataStart'> {
  if (view.byteLength < 16) throw fail(`its "fmt " chunk has ${view.byteLength} bytes, at least 16 are needed`);
  let kind = view.getUint16(0, true);
  if (kind === 0xfffe) {
    if (view.byteLength < 40) throw fail(`its extensible "fmt " chunk has ${view.byteLength} bytes, 40 are needed`);
    kind = view.getUint16(24, true);
  }
  const channels = view.getUint16(2, true);
  const sampleRate = view.getUint32(4, true);
  const blockAlign = view.getUint16(12, true);
  const bits = view.getUint16(14, true);
  if (kind !== 1 && kind !== 3) {
    const name = COMPRESSED[kind] ? ` (${COMPRESSED[kind]})` : '';
    throw fail(`its samples are compressed, format ${kind}${name}; convert it to integers or floats`);
  }
  if (channels < 1 || channels > MAX_CHANNELS) throw fail(`${channels} channels; 1 to ${MAX_CHANNELS} are accepted`);
  if (sampleRate === 0) throw fail('its sample rate is 0');
  if (!(kind === 1 ? [8, 16, 24, 32] : [32, 64]).includes(bits)) {
    throw fail(`${bits} bits a sample; accepted are 8, 16, 24 and 32 for integers, 32 and 64 for floats`);
  }
  if (blockAlign !== (channels * bits) / 8) {
    throw fail(`frames of ${blockAlign} bytes contradict ${channels} channels of ${bits} bits`);
  }
  return { sampleRate, channels, encoding: kind === 1 ? 'integer' : 'float', bits: bits as WavLayout['bits'] };
}

/**
 * The samples [frames, channels] in the bytes of whole frames of a WAV file. Integers are divided by 2^(bits-1); 8-bit ones
 * are unsigned, 128 being silence.
 */
export function wavSamples({ encoding, bits }: WavLayout, data: Uint8Array): Float32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const width = bits / 8;
  const samples = new Float32Array(Math.floor(data.length / width));
  for (let i = 0, at = 0; i < samples.length; i++, at += width) {
    if (encoding === 'float') samples[i] = bits === 32 ? view.getFloat32(at, true) : view.getFloat64(at, true);
    else if (bits === 8) samples[i] = (data[at] - 128) / 128;
    else if (bits === 16) samples[i] = view.getInt16(at, true) / 0x8000;
    else if (bits === 24) samples[i] = (data[at] | (data[at + 1] << 8) | (view.getInt8(at + 2) << 16)) / 0x800000;
    else samples[i] = view.getInt32(at, true) / 0x80000000;
  }
  return samples;
}

/** Reads a WAV file held in memory; see `wavLayout` for what is accepted. */
export function parseWav(bytes: Uint8Array, where: string): Sound {
  const layout = wavLayout(bytes, where);
  const { sampleRate, channels, frames, bits, dataStart } = layout;
  const length = (frames * channels * bits) / 8;
  return { sampleRate, channels, frames, samples: wavSamples(layout, bytes.subarray(dataStart, dataStart + length)) };
}

/** One channel from many: their mean. */
export function toMono({ samples, channels, frames }: Sound): Float32Array {
  if (channels === 1) return samples;
  const mono = new Float32Array(frames);
  for (let i = 0; i < frames; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += samples[i * channels + c];
    mono[i] = sum / channels;
  }
  return mono;
}
