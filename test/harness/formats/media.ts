import { float32, type HostTensor } from '../../../src/base/tensor.js';
import { KALDI_FRAMES, kaldiFbank } from '../../../src/data/audio/fbank.js';
import { AUDIOMAE_FEATURES, audioFeatures } from '../../../src/data/audio/features.js';
import {
  decibels,
  LIBROSA_MEL,
  type MelConfig,
  melFilters,
  melMatrix,
  melSpectrogram,
  TORCHAUDIO_MEL,
} from '../../../src/data/audio/mel.js';
import { resampler } from '../../../src/data/audio/resample.js';
import { maskStripes } from '../../../src/data/audio/specaugment.js';
import type { WindowKind } from '../../../src/data/audio/stft.js';
import { stft } from '../../../src/data/audio/stft.js';
import { parseWav } from '../../../src/data/audio/wav.js';
import type { DecodeOptions, RawImage } from '../../../src/data/dataset.js';
import { decodeImage } from '../../../src/data/decode-node.js';
import { DECODE_DEFAULTS, imageFormat } from '../../../src/data/image-format.js';
import { decodeStoredImage, type StoredImage } from '../../../src/data/stored-image-node.js';
import { type FormatCase, type FormatCheck, type Got, same, type Tools } from './case.js';

export const wav: FormatCheck = {
  good({ files, expect }, tools) {
    const { sampleRate, channels, frames, samples } = parseWav(tools.bytes(files[0]), files[0]);
    return [
      same('sample_rate', sampleRate, expect.sample_rate),
      same('channels', channels, expect.channels),
      same('frames', frames, expect.frames),
      tools.array('samples', { shape: [frames, channels], data: samples }),
    ];
  },
  bad: ({ files }, tools) => parseWav(tools.bytes(files[0]), files[0]),
  reasons: {
    truncated: /chunk "data" at byte \d+ announces \d+ bytes, \d+ follow/,
    no_fmt: /no "fmt " chunk/,
    no_data: /no "data" chunk/,
    channels0: /: 0 channels/,
    rate0: /sample rate is 0/,
    bits13: /13 bits a sample/,
    block_align: /frames of \d+ bytes contradict/,
    adpcm: /compressed, format 2 \(ADPCM\)/,
    chunk_size: /announces \d+ bytes, \d+ follow/,
    fmt_short: /"fmt " chunk has 8 bytes/,
    not_wave: /RIFF file of the kind ".*", not "WAVE"/,
    channels65535: /65535 channels/,
    empty: /the file is empty/,
  },
};

/** [a, b] to [b, a]: the references put frequency first. */
function turned({ shape: [a, b], data }: Got): Got {
  return {
    shape: [b, a],
    data: Array.from({ length: a * b }, (_, i) => Number(data[(i % a) * b + Math.floor(i / a)])),
  };
}

/** The arrays of a case made from arrays only: its name says which. */
function features({ name, config }: FormatCase, tools: Tools): Record<string, Got> | undefined {
  const [kind] = name.split('.');
  const inputOf = (key: string) => tools.input(key) as HostTensor<'float32'>;
  const signal = () => Float32Array.from(inputOf('waveform').data);
  switch (kind) {
    case 'fbank': {
      const window: WindowKind = config.window === 'hanning' ? 'hann' : config.window;
      const spectrum = {
        kind: 'fbank',
        sampleRate: config.sample_rate,
        mels: config.mel,
        low: config.low ?? KALDI_FRAMES.low,
        high: config.high ?? config.sample_rate / 2,
        frameMs: config.frame_ms ?? config.frame_length_ms ?? KALDI_FRAMES.frameMs,
        shiftMs: config.shift_ms ?? config.frame_shift_ms ?? KALDI_FRAMES.shiftMs,
        window,
      } as const;
      if (config.target_length === undefined) return { fbank: kaldiFbank(spectrum).compute(signal()) };
      const clip = signal();
      const plain = { ...AUDIOMAE_FEATURES, spectrum, frames: config.target_length, mean: 0, scale: 1 };
      return {
        fbank: audioFeatures({ ...plain, frames: kaldiFbank(spectrum).frames(clip.length) })(clip),
        padded: audioFeatures(plain)(clip),
        normalised: audioFeatures({ ...plain, mean: config.norm_mean, scale: 2 * config.norm_std })(clip),
      };
    }
    case 'mel': {
      const base = config.pad === 'zeros' ? LIBROSA_MEL : TORCHAUDIO_MEL;
      const mel: MelConfig = {
        ...base,
        sampleRate: config.sample_rate,
        mels: config.n_mels,
        low: 0,
        high: config.sample_rate / 2,
        fft: config.n_fft,
        hop: config.hop_length,
        edges: config.pad,
        scale: config.mel_scale ?? config.mel ?? base.scale,
        norm: config.norm === 'slaney' ? 'area' : 'peak',
        power: config.power ?? 2,
      };
      const spectrogram = melSpectrogram(mel)(signal());
      return {
        mel: turned(spectrogram),
        // librosa's case is relative to the largest value; torchaudio takes 10 log10 of magnitudes, too.
        db: turned(decibels(spectrogram, { power: mel.power, relative: config.pad === 'zeros' })),
        filters: turned(melMatrix(melFilters({ ...mel, straight: 'hz' }), config.n_fft / 2 + 1)),
      };
    }
    case 'stft': {
      const { shape, re, im } = stft(signal(), { fft: config.n_fft, hop: config.hop, edges: config.pad });
      return { real: turned({ shape, data: re }), imag: turned({ shape, data: im }) };
    }
    case 'resample': {
      const data = resampler(config.orig, config.new)(signal());
      const ideal = tools.expected('ideal').data as Float32Array;
      const isInside = (i: number) => i >= config.edge_samples && i < data.length - config.edge_samples;
      return {
        resampled: { shape: [data.length], data },
        // Exact tones are met away from the ends only.
        ideal: { shape: [data.length], data: data.map((value, i) => (isInside(i) ? value : ideal[i])) },
      };
    }
    case 'specaugment': {
      const { shape, data } = inputOf('spectrogram');
      const stripes = (pairs: [number, number][]) => pairs.map(([start, length]) => ({ start, length }));
      const chosen = { time: stripes(config.time_masks), frequency: stripes(config.freq_masks) };
      return { masked: maskStripes(float32(shape, data), chosen, config.value) };
    }
    default:
      return undefined;
  }
}

export const audioFeature: FormatCheck = {
  good(each, tools) {
    const got = features(each, tools);
    if (!got) return [`the harness does not know ${each.name}`];
    return Object.keys(each.arrays).map((name) => (got[name] ? tools.array(name, got[name]) : `no array ${name}`));
  },
  bad: () => undefined,
  reasons: {},
};

/** One array of an image case, from the 8-bit RGB that training sees or from what the file stores. */
async function imageArray(
  name: string,
  bytes: Uint8Array,
  where: string,
  stored: StoredImage | undefined,
): Promise<Got> {
  const decode = async (options: Partial<DecodeOptions> = {}): Promise<Got> => {
    const image: RawImage = await decodeImage(bytes, where, { ...DECODE_DEFAULTS, ...options });
    return { shape: [image.height, image.width, image.channels], data: image.data };
  };
  const grey = async (): Promise<Got> => {
    const { shape, data } = await decode({ channels: 1 });
    return { shape: shape.slice(0, 2), data };
  };
  if (name === 'rgb' || name === 'upright') return decode();
  if (name === 'stored') return decode({ orientation: 'stored' });
  if (name === 'high_byte') return stored?.channels === 1 ? grey() : decode();
  if (!stored) throw new Error(`no array ${name}`);
  const { frames, height, width, channels, data } = stored;
  const pick = (first: number, count: number): number[] =>
    Array.from(
      { length: frames * height * width * count },
      (_, i) => data[Math.floor(i / count) * channels + first + (i % count)],
    );
  switch (name) {
    case 'frames':
      return { shape: [frames, height, width, 3], data: pick(0, 3) };
    case 'alpha':
      return { shape: [height, width], data: pick(channels - 1, 1) };
    case 'gray':
    case 'gray16':
      return { shape: channels === 1 ? [height, width] : [height, width, channels], data };
    default:
      return { shape: [height, width, channels], data };
  }
}

export const image: FormatCheck = {
  async good({ files: [file], expect, arrays }, tools) {
    const bytes = tools.bytes(file);
    const format = imageFormat(bytes, file);
    const stored = format === 'bmp' || format === 'pnm' ? undefined : await decodeStoredImage(bytes, file);
    const plain = await decodeImage(bytes, file, { ...DECODE_DEFAULTS, orientation: 'stored' });
    const upright = await decodeImage(bytes, file);
    // What the cases say of a file, beside its arrays.
    const facts: Record<string, unknown> = {
      width: plain.width,
      height: plain.height,
      channels: stored?.channels,
      palette: stored?.hasPalette,
      alpha: stored?.hasAlpha,
      bits: stored?.bits,
      interlaced: stored?.isProgressive,
      frames: stored?.frames,
      duration_ms: stored?.delays?.[0],
      orientation: stored?.orientation,
      stored: [plain.width, plain.height],
      upright: [upright.width, upright.height],
      actual: format,
    };
    // Words about other decoders, not about the file.
    const { max_abs_for_other_upsampling: _, colorspace, ...known } = expect;
    return [
      ...Object.entries(known).map(([key, value]) => same(key, facts[key], value)),
      colorspace && same('colorspace', colorspace.startsWith('CMYK'), stored?.channels === 4 && !stored.hasAlpha),
      ...(await Promise.all(
        Object.keys(arrays).map(async (name) => tools.array(name, await imageArray(name, bytes, file, stored))),
      )),
    ];
  },
  bad: ({ files: [file] }, tools) => decodeImage(tools.bytes(file), file),
  reasons: {
    'truncated.png': /cannot be decoded/,
    'truncated.jpg': /cannot be decoded/,
    'crc.png': /cannot be decoded/,
    'dims.png': /cannot be decoded|limit/,
    'zero.png': /cannot be decoded|0 x/,
    'bomb.png': /limit/,
    'dims.gif': /limit/,
    'dims.jpg': /limit/,
    'not_image.jpg': /looks like a web page/,
    'empty.png': /the file is empty/,
    'idat.png': /cannot be decoded/,
    'svg.png': /looks like SVG/,
    'truncated.webp': /cannot be decoded/,
  },
};
