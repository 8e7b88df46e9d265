import { JepaError } from '../../base/errors.js';
import { ALLOCATION, ffmpegPrograms, GET_FFMPEG, inputFrom, outputOf, textOf } from '../ffmpeg-process-node.js';
import type { Sound } from './wav.js';

/** Recordings in other formats than WAV through ffmpeg and ffprobe. */

const CONTAINERS = [
  ...['flac', 'mp3', 'ogg', 'aac', 'adts', 'aiff', 'au', 'caf', 'asf', 'wav', 'w64', 'wv', 'ape', 'tta', 'ac3', 'amr'],
  ...['mov', 'mp4', 'm4a', '3gp', '3g2', 'mj2', 'matroska', 'webm', 'avi', 'mpegts', 'mpeg', 'flv'],
];
const INPUT = inputFrom(CONTAINERS);
/** Seconds without output after which a decoder is given up. */
const TIMEOUT = 60;
const MAX_CHANNELS = 64;

export interface SoundDecode {
  readonly seconds?: number;
  readonly maxSeconds: number;
}

/**
 * Decodes a recording, or `seconds` of it: of what can be left out before, the given share. At its own rate, so that all
 * recordings are converted in one way. Throws a `JepaError` naming the file: no ffmpeg, no sound in it, damaged, too long.
 */
export async function decodeSound(path: string, { seconds, maxSeconds }: SoundDecode, share: number): Promise<Sound> {
  const programs = ffmpegPrograms();
  if (!programs) {
    throw new JepaError(`${path}: no decoder for this format was found; convert the file to WAV, or ${GET_FFMPEG}`);
  }
  const limits = { what: 'sound', where: path, seconds: TIMEOUT };
  const { sampleRate, channels, duration } = await probe(programs.ffprobe, path);
  const start = seconds === undefined ? 0 : share * Math.max(0, duration - seconds);
  const length = seconds ?? maxSeconds;
  const args = [
    ...['-nostdin', '-hide_banner', '-loglevel', 'error', '-max_alloc', String(ALLOCATION), '-threads', '1'],
    ...(start > 0 ? ['-ss', start.toFixed(6)] : []),
    ...[...INPUT, '-i', `file:${path}`, '-map', '0:a:0', '-vn', '-sn', '-dn'],
    // A second more than the limit shows that it is exceeded.
    ...['-t', (seconds ?? maxSeconds + 1).toFixed(6), '-ar', String(sampleRate), '-ac', String(channels)],
    ...['-c:a', 'pcm_f32le', '-f', 'f32le', 'pipe:1'],
  ];
  const most = Math.ceil((length + 1) * sampleRate) * channels * 4;
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of outputOf(programs.ffmpeg, args, limits)) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes > most) break;
  }
  const frames = Math.floor(bytes / (4 * channels));
  if (frames === 0) throw new JepaError(`${path}: the recording is empty`);
  if (seconds === undefined && frames > maxSeconds * sampleRate) {
    throw new JepaError(
      `${path}: more than the limit of ${maxSeconds} s; set seconds to read parts, or raise maxSeconds`,
    );
  }
  const all = Buffer.concat(pieces);
  const samples = new Float32Array(frames * channels);
  for (let i = 0; i < samples.length; i++) samples[i] = all.readFloatLE(4 * i);
  return { sampleRate, channels, frames, samples };
}

interface Probe {
  readonly sampleRate: number;
  readonly channels: number;
  /** Seconds; 0 where the container does not say. */
  readonly duration: number;
}

async function probe(program: string, path: string): Promise<Probe> {
  const args = ['-v', 'error', '-max_alloc', String(ALLOCATION), ...INPUT, '-select_streams', 'a:0'];
  args.push('-show_entries', 'stream=sample_rate,channels,duration:format=duration', '-of', 'json', `file:${path}`);
  const text = await textOf(outputOf(program, args, { what: 'sound', where: path, seconds: TIMEOUT }), 1 << 16);
  let found: {
    streams?: { sample_rate?: string; channels?: number; duration?: string }[];
    format?: { duration?: string };
  };
  try {
    found = JSON.parse(text);
  } catch {
    throw new JepaError(`${path}: ffprobe does not say what the recording is`);
  }
  const stream = found.streams?.[0];
  const [sampleRate, channels] = [Number(stream?.sample_rate), Number(stream?.channels)];
  if (!stream || !(sampleRate > 0)) throw new JepaError(`${path}: there is no sound in this file`);
  if (!(channels >= 1 && channels <= MAX_CHANNELS))
    throw new JepaError(`${path}: ${channels} channels; 1 to ${MAX_CHANNELS} are accepted`);
  const duration = Number(stream.duration ?? found.format?.duration);
  return { sampleRate, channels, duration: duration > 0 ? duration : 0 };
}
