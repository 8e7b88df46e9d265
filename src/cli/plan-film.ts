import { renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { withFileErrors, writeFileAtomic } from '../base/atomic.js';
import { JepaError } from '../base/errors.js';
import { ffmpegPrograms, inputFrom, outputOf } from '../data/ffmpeg-process-node.js';
import { type FilmCell, renderFilm, type WrittenFile } from '../report/index.js';

/** Seconds that ffmpeg may take for the whole film. */
const PATIENCE = 120;

/**
 * Writes episodes as `episodes.gif` into a folder, and as `episodes.mp4` where ffmpeg is on PATH. Where ffmpeg fails, `say` is
 * told and there is no MP4. Returns the files, with paths from the folder.
 */
export async function writeFilm(
  folder: string,
  moments: Iterable<readonly FilmCell[]>,
  say: (problem: string) => void,
): Promise<WrittenFile[]> {
  const what = 'the first episodes as a film: path, what is imagined, goal';
  const gif = join(folder, 'episodes.gif');
  writeFileAtomic(gif, await renderFilm(moments));
  const files = [{ path: 'episodes.gif', what, bytes: statSync(gif).size }];
  const programs = ffmpegPrograms();
  const mp4 = join(folder, 'episodes.mp4');
  // An older one would be of other episodes.
  withFileErrors('replace', mp4, () => rmSync(mp4, { force: true }));
  if (!programs) return files;
  const temporary = join(folder, '.episodes.mp4.tmp');
  const args = [
    ...['-nostdin', '-v', 'error', '-y', ...inputFrom(['gif']), '-i', gif],
    ...['-pix_fmt', 'yuv420p', '-movflags', '+faststart', '-f', 'mp4', temporary],
  ];
  try {
    for await (const _ of outputOf(programs.ffmpeg, args, {
      what: 'film',
      where: mp4,
      seconds: PATIENCE,
      done: 'encoded',
    }));
    withFileErrors('write', mp4, () => renameSync(temporary, mp4));
    files.push({ path: 'episodes.mp4', what: 'the same as a video', bytes: statSync(mp4).size });
  } catch (error) {
    if (!(error instanceof JepaError)) throw error;
    say(error.message);
  } finally {
    rmSync(temporary, { force: true });
  }
  return files;
}
