import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createRandom } from '../../src/base/random.js';
import { float32, type HostTensor } from '../../src/base/tensor.js';
import { KALDI_FRAMES, kaldiFbank } from '../../src/data/audio/fbank.js';
import { AUDIO_JEPA_FEATURES, AUDIOMAE_FEATURES, audioFeatures } from '../../src/data/audio/features.js';
import { realFft } from '../../src/data/audio/fft.js';
import {
  decibels,
  hzToMel,
  LIBROSA_MEL,
  type MelConfig,
  melFilters,
  melMatrix,
  melSpectrogram,
  melToHz,
  TORCHAUDIO_MEL,
} from '../../src/data/audio/mel.js';
import { resampler } from '../../src/data/audio/resample.js';
import { drawStripes, maskStripes } from '../../src/data/audio/specaugment.js';
import { stft } from '../../src/data/audio/stft.js';
import { goldenFolder } from '../golden.js';
import { readCases, readTensors } from '../harness/harness.js';

const folder = join(goldenFolder, 'formats');
const values = readTensors(folder, 'expected.safetensors');

interface FeatureCase {
  readonly name: string;
  readonly format: string;
  // biome-ignore lint/suspicious/noExplicitAny: settings of many shapes
  readonly config: any;
  readonly arrays: Readonly<Record<string, { exact?: boolean; atol?: number; rtol?: number }>>;
}

const cases = readCases<{ cases: FeatureCase[] }>(folder).cases.filter(({ format }) => format === 'audio features');

type Got = { readonly shape: readonly number[]; readonly data: ArrayLike<number> };

/** All arrays of these cases are 32-bit floats. */
const arrayOf = (key: string): HostTensor<'float32'> => values.get(key) as HostTensor<'float32'>;

/** [a, b] to [b, a]: the reference puts frequency first. */
function turned({ shape: [a, b], data }: Got): Got {
  return { shape: [b, a], data: Array.from({ length: a * b }, (_, i) => data[(i % a) * b + Math.floor(i / a)]) };
}

function compute({ name, config }: FeatureCase, inputs: (key: string) => HostTensor<'float32'>): Record<string, Got> {
  const signal = (): Float32Array => Float32Array.from(inputs('waveform').data);
  const [kind] = name.split('.');
  const frequencies = { sampleRate: config.sample_rate, mels: config.mel, low: config.low ?? KALDI_FRAMES.low };
  if (name === 'fbank.audiomae') {
    const spectrum = {
      ...frequencies,
      kind: 'fbank',
      high: config.high,
      frameMs: config.frame_ms,
      shiftMs: config.shift_ms,
      window: 'hann',
    } as const;
    const features = { ...AUDIOMAE_FEATURES, spectrum, frames: config.target_length };
    const clip = signal();
    // The preset is what the case says, its length apart.
    assert.deepEqual(features.spectrum, AUDIOMAE_FEATURES.spectrum);
    assert.equal(features.mean, config.norm_mean);
    assert.equal(features.scale, 2 * config.norm_std);
    const plain = { ...features, mean: 0, scale: 1 };
    const { frames } = kaldiFbank(spectrum);
    return {
      fbank: audioFeatures({ ...plain, frames: frames(clip.length) })(clip),
      padded: audioFeatures(plain)(clip),
      normalised: audioFeatures(features)(clip),
    };
  }
  if (kind === 'fbank') {
    const own = config.frame_shift_ms
      ? { frameMs: config.frame_length_ms, shiftMs: config.frame_shift_ms }
      : { frameMs: KALDI_FRAMES.frameMs, shiftMs: KALDI_FRAMES.shiftMs };
    const spectrum = {
      ...frequencies,
      ...own,
      high: config.sample_rate / 2,
      window: config.window === 'hanning' ? 'hann' : config.window,
    };
    if (name === 'fbank.audiojepa')
      assert.deepEqual({ ...spectrum, kind: 'fbank' }, { ...AUDIO_JEPA_FEATURES.spectrum });
    return { fbank: kaldiFbank(spectrum).compute(signal()) };
  }
  if (kind === 'mel') {
    const base = name === 'mel.librosa' ? LIBROSA_MEL : TORCHAUDIO_MEL;
    const mel: MelConfig = {
      ...base,
      sampleRate: config.sample_rate,
      mels: config.n_mels,
      low: 0,
      high: config.sample_rate / 2,
      fft: config.n_fft,
      hop: config.hop_length,
      edges: config.center === false ? 'none' : base.edges,
      scale: config.mel_scale ?? base.scale,
      norm: config.norm === 'slaney' ? 'area' : base.norm,
      power: config.power ?? 2,
    };
    const spectrogram = melSpectrogram(mel)(signal());
    const filters = melMatrix(melFilters({ ...mel, straight: 'hz' }), config.n_fft / 2 + 1);
    return {
      mel: turned(spectrogram),
      db: turned(decibels(spectrogram, { power: mel.power, relative: name === 'mel.librosa' })),
      filters: turned(filters),
    };
  }
  if (kind === 'stft') {
    const { shape, re, im } = stft(signal(), { fft: config.n_fft, hop: config.hop, edges: config.pad });
    return { real: turned({ shape, data: re }), imag: turned({ shape, data: im }) };
  }
  if (kind === 'resample') {
    const resampled = resampler(config.orig, config.new)(signal());
    const edge = config.edge_samples;
    const ideal = arrayOf(`${name}/ideal`);
    // Exact tones are met away from the ends only.
    const inner = resampled.map((value, i) => (i < edge || i >= resampled.length - edge ? ideal.data[i] : value));
    return {
      resampled: { shape: [resampled.length], data: resampled },
      ideal: { shape: [inner.length], data: inner },
    };
  }
  if (name === 'specaugment') {
    const { shape, data } = inputs('spectrogram');
    const stripes = (pairs: [number, number][]) => pairs.map(([start, length]) => ({ start, length }));
    const chosen = { time: stripes(config.time_masks), frequency: stripes(config.freq_masks) };
    return { masked: maskStripes(float32(shape, data), chosen, config.value) };
  }
  throw new Error(`the test does not know ${name}`);
}

describe('values of torchaudio, librosa and torch', () => {
  assert.ok(cases.length >= 13);
  for (const one of cases) {
    it(one.name, () => {
      const got = compute(one, (key) => arrayOf(`${one.name}/input.${key}`));
      for (const [key, { exact, atol = 0, rtol = 0 }] of Object.entries(one.arrays)) {
        const expected = arrayOf(`${one.name}/${key}`);
        assert.deepEqual([...got[key].shape], [...expected.shape], key);
        for (let i = 0; i < expected.data.length; i++) {
          const allowed = exact ? 0 : atol + rtol * Math.abs(expected.data[i]);
          const difference = Math.abs(got[key].data[i] - expected.data[i]);
          assert.ok(difference <= allowed, `${key}[${i}]: ${got[key].data[i]} instead of ${expected.data[i]}`);
        }
      }
    });
  }
});

describe('the Fourier transform', () => {
  it('equals the defining sum for sizes with all kinds of factors', () => {
    const random = createRandom(1);
    for (const size of [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 20, 22, 25, 30, 32, 49, 60, 64, 97, 98, 100, 128, 194]) {
      const signal = Float64Array.from({ length: size }, () => random.normal());
      const plan = realFft(size);
      const re = new Float64Array(plan.bins);
      const im = new Float64Array(plan.bins);
      assert.equal(plan.bins, Math.floor(size / 2) + 1);
      plan.transform(signal, re, im);
      for (let k = 0; k < plan.bins; k++) {
        let [sumRe, sumIm] = [0, 0];
        for (let t = 0; t < size; t++) {
          sumRe += signal[t] * Math.cos((2 * Math.PI * k * t) / size);
          sumIm -= signal[t] * Math.sin((2 * Math.PI * k * t) / size);
        }
        assert.ok(Math.abs(re[k] - sumRe) < 1e-11 && Math.abs(im[k] - sumIm) < 1e-11, `size ${size}, bin ${k}`);
      }
    }
  });

  it('keeps nothing from one signal to the next', () => {
    const plan = realFft(24);
    const [re, im] = [new Float64Array(13), new Float64Array(13)];
    plan.transform(new Float64Array(24).fill(3), re, im);
    plan.transform(new Float64Array(24), re, im);
    assert.ok(re.every((v) => v === 0) && im.every((v) => v === 0));
  });

  it('refuses sizes that are none', () => {
    assert.throws(() => realFft(0), /fft: the size must be a positive whole number, not 0/);
  });
});

describe('spectrograms', () => {
  it('mel scales are inverted by their inverses and meet at 1 kHz', () => {
    for (const scale of ['htk', 'slaney', 'kaldi'] as const) {
      for (const hz of [0, 20, 440, 999, 1000, 1001, 8000, 16000])
        assert.ok(Math.abs(melToHz(hzToMel(hz, scale), scale) - hz) < 1e-9 * (1 + hz));
    }
    assert.ok(Math.abs(hzToMel(1000, 'slaney') - 15) < 1e-12);
    assert.ok(Math.abs(hzToMel(6400, 'slaney') - 42) < 1e-12);
  });

  it('a tone is loudest in the band around it', () => {
    const sampleRate = 16000;
    for (const hz of [300, 1000, 3000]) {
      const clip = Float32Array.from({ length: 4000 }, (_, i) => Math.sin((2 * Math.PI * hz * i) / sampleRate));
      const { shape, data } = kaldiFbank({ ...KALDI_FRAMES, sampleRate, mels: 40, high: 8000 }).compute(clip);
      const row = [...data.subarray(shape[1], 2 * shape[1])];
      const [low, high] = [hzToMel(20, 'kaldi'), hzToMel(8000, 'kaldi')];
      const band = ((hzToMel(hz, 'kaldi') - low) / (high - low)) * 41 - 1;
      assert.ok(Math.abs(row.indexOf(Math.max(...row)) - band) <= 1);
    }
  });

  it('a clip shorter than a frame has no frames and becomes zeros', () => {
    const clip = new Float32Array(100).fill(1);
    assert.deepEqual(
      kaldiFbank({ ...KALDI_FRAMES, sampleRate: 16000, mels: 8, high: 8000 }).compute(clip).shape,
      [0, 8],
    );
    const features = audioFeatures({ ...AUDIO_JEPA_FEATURES, frames: 4 })(clip);
    assert.deepEqual([features.shape, features.data.every((v) => v === 0)], [[4, 96], true]);
  });

  it('10 s at 32 kHz are 510 frames and two rows of zeros for Audio-JEPA', () => {
    const random = createRandom(2);
    const clip = new Float32Array(320000);
    random.fillNormal(clip);
    const { shape, data } = audioFeatures(AUDIO_JEPA_FEATURES)(clip);
    assert.deepEqual(shape, [512, 96]);
    assert.ok(data.subarray(510 * 96).every((v) => v === 0));
    assert.ok(data.subarray(509 * 96, 510 * 96).every((v) => v !== 0));
  });

  it('loudness and offset do not matter to centred, peak-levelled features', () => {
    const random = createRandom(3);
    const clip = new Float32Array(4000);
    random.fillNormal(clip);
    const compute = audioFeatures({ ...AUDIO_JEPA_FEATURES, frames: 3 });
    const one = compute(clip).data;
    const other = compute(clip.map((v) => 0.25 * v + 3)).data;
    for (let i = 0; i < one.length; i++) assert.ok(Math.abs(one[i] - other[i]) < 1e-3);
  });

  it('refuses bands and lengths that do not fit', () => {
    const mel = { ...LIBROSA_MEL, sampleRate: 8000, mels: 20, low: 0, high: 8000, fft: 256, hop: 64 };
    assert.throws(() => melSpectrogram(mel), /do not fit sound of 8000 Hz; use 0 <= low < high <= 4000/);
    assert.throws(
      () => stft(new Float32Array(100), { fft: 256, hop: 64, edges: 'reflect' }),
      /100 samples is too short to be mirrored by 128/,
    );
    assert.throws(() => stft(new Float32Array(100), { fft: 256, hop: 0, edges: 'zeros' }), /hop must be a positive/);
  });
});

describe('resampling', () => {
  it('keeps constants and tones, and the number of samples is rounded up', () => {
    for (const [from, to] of [
      [8000, 16000],
      [44100, 16000],
      [16000, 22050],
      [11025, 16000],
    ]) {
      const convert = resampler(from, to);
      const clip = Float32Array.from({ length: 1001 }, (_, i) => 0.5 + Math.cos((2 * Math.PI * 500 * i) / from));
      const out = convert(clip);
      assert.equal(out.length, Math.ceil((1001 * to) / from));
      for (let n = 200; n < out.length - 200; n++) {
        assert.ok(Math.abs(out[n] - 0.5 - Math.cos((2 * Math.PI * 500 * n) / to)) < 0.01, `${from} to ${to}, ${n}`);
      }
    }
  });

  it('removes what the lower rate cannot hold', () => {
    const tone = Float32Array.from({ length: 4000 }, (_, i) => Math.sin((2 * Math.PI * 7000 * i) / 16000));
    const out = resampler(16000, 8000)(tone);
    assert.ok(out.subarray(50, -50).every((v) => Math.abs(v) < 0.01));
  });

  it('leaves equal rates alone and refuses rates that are none', () => {
    const clip = new Float32Array(3);
    assert.equal(resampler(8000, 8000)(clip), clip);
    assert.throws(() => resampler(0, 8000), /0 Hz is no sampling rate/);
    assert.throws(() => resampler(4e9, 8000), /4000000000 Hz is no sampling rate/);
  });
});

describe('SpecAugment', () => {
  it('draws stripes within their bounds, of all widths', () => {
    const random = createRandom(4);
    const config = { timeStripes: 2, timeWidth: 5, frequencyStripes: 1, frequencyWidth: 3 };
    const widths = new Set<number>();
    const ones: HostTensor<'float32'> = float32([20, 8], new Float32Array(160).fill(1));
    for (let i = 0; i < 500; i++) {
      const stripes = drawStripes(config, ones.shape, random);
      assert.deepEqual([stripes.time.length, stripes.frequency.length], [2, 1]);
      for (const { start, length } of stripes.time) {
        assert.ok(start >= 0 && length < 5 && start + length <= 20);
        widths.add(length);
      }
      for (const { start, length } of stripes.frequency) assert.ok(start >= 0 && length < 3 && start + length <= 8);
      const masked = maskStripes(ones, stripes);
      // Brute force over cells.
      for (let t = 0; t < 20; t++) {
        for (let m = 0; m < 8; m++) {
          const within = (at: number) => (s: { start: number; length: number }) =>
            at >= s.start && at < s.start + s.length;
          const hidden = stripes.time.some(within(t)) || stripes.frequency.some(within(m));
          assert.equal(masked.data[t * 8 + m], hidden ? 0 : 1);
        }
      }
    }
    assert.deepEqual([...widths].sort(), [0, 1, 2, 3, 4]);
    assert.ok(ones.data.every((v) => v === 1));
  });
});
