import { JepaError } from '../base/errors.js';
import { float32, type HostTensor, sizeOf } from '../base/tensor.js';

/** Tokens of host arrays picked by masks, and the order in which the reference repeats them. */

/** x [batch, tokens, width] at indices [batch, K] -> [batch, K, width]. */
export function gatherTokens(x: HostTensor<'float32'>, indices: HostTensor<'int32'>): HostTensor<'float32'> {
  const [batch, tokens, width] = x.shape;
  const [rows, kept] = indices.shape;
  if (rows !== batch) throw new JepaError(`gather: masks for ${rows} images, but tokens of ${batch}`);
  const out = new Float32Array(batch * kept * width);
  for (let row = 0; row < batch * kept; row++) {
    const token = indices.data[row];
    if (token < 0 || token >= tokens) {
      throw new JepaError(`gather: index ${token} is outside the ${tokens} tokens of image ${Math.floor(row / kept)}`);
    }
    const from = (Math.floor(row / kept) * tokens + token) * width;
    out.set(x.data.subarray(from, from + width), row * width);
  }
  return float32([batch, kept, width], out);
}

/** Joins tensors of equal shape along their first axis: all images of mask 0, then all of mask 1, ... */
export function concatRows(parts: readonly HostTensor<'float32'>[]): HostTensor<'float32'> {
  const [rows, ...rest] = parts[0].shape;
  const out = new Float32Array(parts.length * sizeOf(parts[0].shape));
  for (const [index, part] of parts.entries()) {
    if (part.shape.join() !== parts[0].shape.join()) {
      throw new JepaError(
        `gather: masks of shapes [${parts[0].shape}] and [${part.shape}] cannot be joined; keep them as a list`,
      );
    }
    out.set(part.data, index * part.data.length);
  }
  return float32([parts.length * rows, ...rest], out);
}

/**
 * Each chunk of `batch` rows `repeat` times in a row, so that contexts line up with targets stacked mask by mask (neither
 * a tile of the whole nor a repetition of single rows). Rows beyond the last whole chunk are dropped, as in the reference.
 */
export function repeatChunks(x: HostTensor<'float32'>, batch: number, repeat: number): HostTensor<'float32'> {
  const [rows, ...rest] = x.shape;
  const chunk = batch * sizeOf(rest);
  const chunks = Math.floor(rows / batch);
  const out = new Float32Array(chunks * repeat * chunk);
  for (let i = 0; i < chunks * repeat; i++) {
    const from = Math.floor(i / repeat) * chunk;
    out.set(x.data.subarray(from, from + chunk), i * chunk);
  }
  return float32([chunks * repeat * batch, ...rest], out);
}
