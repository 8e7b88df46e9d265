import { createRandom } from '../../src/base/random.js';
import { memoryDataset } from '../../src/data/dataset.js';
import { parseConfig } from '../../src/train/config.js';
import { train } from '../../src/train/trainer.js';

/** A small I-JEPA run that a test starts as a process of its own: arguments are the folder, `resume` or `start`, and the workers. */
const [folder, mode, workers] = process.argv.slice(2);

const count = 96;
const pixels = new Uint8Array(count * 28 * 28);
const random = createRandom(5);
for (let i = 0; i < pixels.length; i++) pixels[i] = random.integer(256);
const dataset = memoryDataset({ name: 'noise', pixels, width: 28, height: 28, channels: 1 });

const config = parseConfig({
  data: { size: 28, channels: 1, threads: 1, views: [[{ kind: 'randomResizedCrop', size: 28, scale: [0.5, 1] }]] },
  method: {
    name: 'ijepa',
    encoder: { kind: 'vit', patchSize: 4, width: 24, depth: 2, heads: 2 },
    predictor: { width: 12, depth: 1, heads: 2 },
    masks: { minKeep: 2 },
    regularizer: { kind: 'vicreg' },
    dropPath: 0.1,
  },
  optimizer: { lr: 2e-3 },
  train: {
    batchSize: 10,
    accumulate: 2,
    steps: 120,
    checkpointEvery: 3,
    diagnoseEvery: 10,
    seed: 3,
    workers: Number(workers),
  },
});

const result = await train({ config, dataset, folder, resume: mode === 'resume' });
await result.close();
console.log(`finished after ${result.steps} steps`);
process.exit(0);
