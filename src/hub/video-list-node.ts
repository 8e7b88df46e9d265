import { dirname, isAbsolute, join } from 'node:path';
import { JepaError } from '../base/errors.js';
import { quoted } from '../base/json.js';
import { withFile } from './files.js';
import { openNpy } from './npy.js';

/**
 * Paths in an `.npy` list of videos, as the published loaders of V-JEPA take them: an array of strings without labels. Relative
 * ones begin at the folder of the list. Throws a `JepaError` for anything else; arrays of Python objects are pickles and are
 * refused (save them with `numpy.array(paths, dtype=str)`).
 */
export function npyVideoList(path: string): string[] {
  return withFile(path, (source) => {
    const { text, shape, descr } = openNpy(source);
    if (!text || shape.length !== 1) {
      throw new JepaError(
        `${path}: a list of videos is one row of strings, not ${descr} ${quoted(shape)}; save numpy.array(paths, dtype=str)`,
      );
    }
    const paths = text();
    const empty = paths.indexOf('');
    if (paths.length === 0 || empty >= 0) {
      throw new JepaError(`${path}: ${empty < 0 ? 'the list has no entries' : `entry ${empty + 1} is empty`}`);
    }
    return paths.map((each) => (isAbsolute(each) ? each : join(dirname(path), each)));
  });
}
