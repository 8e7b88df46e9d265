import { JepaError } from '../base/errors.js';
import { isDescribed } from './checkpoint-layout.js';
import { withFile } from './files.js';
import { openHdf5 } from './hdf5-node.js';
import { openOnnx } from './onnx.js';
import { PRODUCER } from './own.js';
import { openTorchFile } from './pth.js';
import { openSafetensors } from './safetensors.js';
import { openZip } from './zip.js';

/**
 * Whether a file (.onnx, .safetensors, .pth, .pt, .tar, .npz, .h5, .hdf5) says that this package wrote it; false for every other file, also
 * for damaged ones.
 */
export async function isOwnFile(path: string): Promise<boolean> {
  try {
    return (await producerOf(path)) === PRODUCER;
  } catch (error) {
    if (error instanceof JepaError) return false;
    throw error;
  }
}

async function producerOf(path: string): Promise<unknown> {
  if (path.endsWith('.onnx')) return openOnnx(path).producer;
  if (path.endsWith('.safetensors')) return withFile(path, (source) => openSafetensors(source).metadata.producer);
  if (path.endsWith('.npz')) return withFile(path, (source) => [...openZip(source).values()][0]?.comment);
  if (/\.(pth|pt|tar)$/.test(path))
    return withFile(path, (source) => (isDescribed(openTorchFile(source).root) ? PRODUCER : undefined));
  if (!/\.(h5|hdf5)$/.test(path)) return undefined;
  const file = await openHdf5(path);
  try {
    return file.attributes.get('')?.get('producer');
  } finally {
    file.close();
  }
}
