import { createRandom } from '../../src/base/random.js';
import { type ImageDataset, memoryDataset } from '../../src/data/dataset.js';

/**
 * Grey images of stripes in four directions, at random places and strengths, in noise: easy for a conv net, hard for raw
 * pixels (a class has no mean image). The attribute `bright` is a matter of the mean alone.
 */
export function stripes(count: number, seed: number, size = 12): ImageDataset {
  const random = createRandom(seed);
  const pixels = new Uint8Array(count * size * size);
  const labels = new Int32Array(count);
  const bright = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    labels[i] = i % 4;
    bright[i] = random.integer(2);
    const angle = (labels[i] * Math.PI) / 4;
    const phase = 2 * Math.PI * random.uniform();
    const base = bright[i] ? 150 : 100;
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        const wave = Math.sin((x * Math.cos(angle) + y * Math.sin(angle)) * 1.2 + phase);
        pixels[(i * size + y) * size + x] = Math.max(0, Math.min(255, base + 40 * wave + 25 * random.normal()));
      }
    }
  }
  const classNames = ['0', '45', '90', '135'].map((degrees) => `${degrees} degrees`);
  return memoryDataset({
    name: 'stripes',
    width: size,
    height: size,
    channels: 1,
    pixels,
    labels,
    classNames,
    attributes: { bright },
  });
}
