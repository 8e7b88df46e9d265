import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Readable } from 'node:stream';
import { JepaError } from '../base/errors.js';

/**
 * ffmpeg and ffprobe as child processes, for video and sound. Hostile files meet limits on time and memory, and may open no
 * other file: only containers that hold their data are read, no playlists.
 */

/** Address space of a decoder in KiB, where the system can limit it. */
const MEMORY_KIB = 4 << 20;
/** Most bytes that a decoder allocates in one piece. */
export const ALLOCATION = 1 << 30;
/** Most characters of a decoder's complaints that are kept. */
const COMPLAINTS = 4096;
/** Full path of a program on PATH. */
function onPath(program: string): string | undefined {
  const endings = process.platform === 'win32' ? ['.exe', '.cmd'] : [''];
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const ending of endings) {
      const path = join(folder, program + ending);
      try {
        accessSync(path, constants.X_OK);
        if (folder !== '') return path;
      } catch {
        // Not here.
      }
    }
  }
  return undefined;
}

/** What to do where they are missing. */
export const GET_FFMPEG =
  'install ffmpeg so that ffmpeg and ffprobe are on PATH (apt-get install ffmpeg, brew install ffmpeg, winget install ffmpeg)';

/** Where ffmpeg and ffprobe are, or undefined where they are not both on PATH. */
export function ffmpegPrograms(): { readonly ffmpeg: string; readonly ffprobe: string } | undefined {
  const [ffmpeg, ffprobe] = [onPath('ffmpeg'), onPath('ffprobe')];
  return ffmpeg && ffprobe ? { ffmpeg, ffprobe } : undefined;
}

/** Arguments before an input: local files in these containers only. */
export const inputFrom = (containers: readonly string[]): readonly string[] => [
  ...['-protocol_whitelist', 'file', '-format_whitelist', containers.join()],
];

type Child = ChildProcessByStdio<null, Readable, Readable>;

function start(program: string, args: readonly string[]): Child {
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
  if (process.platform === 'win32') return spawn(program, args, { stdio, windowsHide: true });
  // A shell without a limit on memory (macOS) says so and goes on.
  return spawn('/bin/sh', ['-c', `ulimit -v ${MEMORY_KIB} 2>/dev/null; exec "$0" "$@"`, program, ...args], { stdio });
}

export interface RunLimits {
  /** What is decoded, for messages: `video`. */
  readonly what: string;
  /** The file. */
  readonly where: string;
  /** Seconds without output after which a program is given up. */
  readonly seconds: number;
  /** What cannot be done with it where the program fails; `decoded` by default. */
  readonly done?: string;
}

/**
 * The output of a program, piece by piece; it runs on only while somebody reads. Ends the program when the reader stops.
 * Throws a `JepaError` where it fails, or says nothing for too long.
 */
export async function* outputOf(
  program: string,
  args: readonly string[],
  { what, where, seconds, done = 'decoded' }: RunLimits,
): AsyncGenerator<Buffer, void> {
  const child = start(program, args);
  const failed = new Promise<never>((_, reject) => {
    child.on('error', (error) => reject(new JepaError(`${where}: the decoder cannot be started (${error.message})`)));
  });
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(0, COMPLAINTS);
  });
  const pieces = child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const limited = async <T>(promise: Promise<T>): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new JepaError(`${where}: the decoder gave nothing for ${seconds} s`)),
        1000 * seconds,
      );
    });
    try {
      return await Promise.race([promise, late, failed]);
    } finally {
      clearTimeout(timer);
    }
  };
  failed.catch(() => undefined);
  try {
    for (;;) {
      const piece = await limited(pieces.next());
      if (piece.done) break;
      yield piece.value;
    }
    const code = await limited(ended);
    if (code !== 0) throw new JepaError(`${where}: the ${what} cannot be ${done} (${firstLine(complaints)})`);
  } finally {
    child.kill('SIGKILL');
    child.stdout.destroy();
  }
}

function firstLine(complaints: string): string {
  const line = complaints.split('\n').find((text) => text.trim() !== '') ?? 'damaged data';
  // Without the address that ffmpeg writes in front.
  return line.replace(/^(\[[^\]]*\]\s*)+/, '').slice(0, 200);
}

/** Output of at most `bytes` as text. */
export async function textOf(output: AsyncIterable<Buffer>, bytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of output) {
    pieces.push(piece);
    length += piece.length;
    if (length > bytes) break;
  }
  return Buffer.concat(pieces).toString('utf8');
}
