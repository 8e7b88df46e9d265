import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { createRandom } from '../../src/base/random.js';
import { memoryDataset, subset } from '../../src/data/dataset.js';
import { readJsonl } from '../../src/hub/jsonl.js';
import { type Config, parseConfig } from '../../src/train/config.js';
import { type DiagnosisInfo, train } from '../../src/train/trainer.js';

const root = mkdtempSync(join(tmpdir(), 'jepa-trainer-'));
after(() => rmSync(root, { recursive: true, force: true }));

const random = createRandom(4);
const pixels = Uint8Array.from({ length: 24 * 256 }, () => random.integer(256));
const images = memoryDataset({ name: 'noise', pixels, width: 16, height: 16, channels: 1 });

const tiny = (optimizer: object, settings: object): Config =>
  parseConfig({
    data: { size: 16, channels: 1, threads: 0 },
    method: {
      name: 'lejepa',
      encoder: { kind: 'conv', widths: [4, 8, 8], blocks: [0, 0], width: 16 },
      projector: [16],
    },
    optimizer,
    train: { batchSize: 8, workers: 1, checkpointEvery: 1, ...settings },
  });

test('a loss that is not finite stops training: the step, the scope, the last good checkpoint and the fix', async () => {
  const folder = join(root, 'overflow');
  const config = tiny({ lr: 1e30, startLr: 1e30 }, { steps: 5 });
  await assert.rejects(train({ config, dataset: images, folder }), (error: Error) => {
    assert.ok(error instanceof JepaError && !error.message.includes('\n'), error.message);
    assert.match(error.message, /^training stopped at step 2: the (loss|gradient) is not finite, first in \S+: \w+\. /);
    assert.ok(error.message.includes(`The last good checkpoint is step 1 in ${join(folder, 'checkpoint')}. `));
    assert.match(error.message, /Try a lower optimizer\.lr or optimizer\.clip=1$/);
    return true;
  });
  const steps = readJsonl(join(folder, 'metrics.jsonl')).records.map(({ step }) => step);
  assert.deepEqual(steps, [1]);
});

test('a run that goes on says where the data have changed, and clears away what a killed process left', async () => {
  const folder = join(root, 'changed');
  const config = tiny({}, { steps: 4 });
  const stop = new AbortController();
  const first = await train({
    config,
    dataset: images,
    folder,
    signal: stop.signal,
    events: { onStep: () => stop.abort() },
  });
  await first.close();
  assert.deepEqual([first.steps, first.interrupted], [1, true]);
  const left = join(folder, 'checkpoint', '.state-00000002.safetensors.0123456789ab.tmp');
  writeFileSync(left, 'half of it');

  const notices: string[] = [];
  const resume = async (dataset: typeof images): Promise<void> => {
    const events = { onNotice: (line: string) => void notices.push(line) };
    await (await train({ config, dataset, folder, resume: true, events })).close();
  };
  const fewer = subset(
    images,
    Array.from({ length: 20 }, (_, i) => i),
  );
  await resume(fewer);
  assert.deepEqual(notices, ['noise: 20 images, 24 when the run was started; they come in another order from here on']);
  assert.deepEqual(readdirSync(join(folder, 'checkpoint')), ['state-00000004.json', 'state-00000004.safetensors']);
  await resume(fewer);
  assert.equal(notices.length, 1);

  const weights = join(folder, 'checkpoint', 'state-00000004.safetensors');
  writeFileSync(weights, readFileSync(weights).subarray(0, 300));
  await assert.rejects(resume(fewer), (error: Error) =>
    error.message.startsWith(`${weights}: not a valid safetensors`),
  );
});

test('a batch of one has no other samples to be told from: no verdict on the prediction', async () => {
  const looks: DiagnosisInfo[] = [];
  const config = tiny({}, { steps: 1, batchSize: 1 });
  const run = await train({ config, dataset: images, events: { onDiagnosis: (look) => looks.push(look) } });
  await run.close();
  assert.deepEqual([looks[0].energyMatched, looks[0].energyShuffled], [undefined, undefined]);
  assert.notEqual(looks[0].verdict, 'blind prediction');
});
