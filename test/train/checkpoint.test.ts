import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { readCheckpointMeta } from '../../src/train/checkpoint.js';
import { parseConfig } from '../../src/train/config.js';

const folder = mkdtempSync(join(tmpdir(), 'jepa-checkpoint-'));
after(() => rmSync(folder, { recursive: true }));

const config = parseConfig({ data: { source: 'procedural:shapes' }, method: { name: 'ijepa' } });
const meta = {
  ...{ format: 1, step: 7, totalSteps: 9, position: { epoch: 1, step: 2 }, samples: 64, workers: 2 },
  ...{ backend: 'cpu', seconds: 1.5, config, facts: {} },
};

function read(about: unknown): ReturnType<typeof readCheckpointMeta> {
  writeFileSync(join(folder, 'state-00000007.safetensors'), '');
  writeFileSync(join(folder, 'state-00000007.json'), JSON.stringify(about));
  return readCheckpointMeta(folder);
}

test('a damaged description of a checkpoint is refused with one line', () => {
  assert.deepEqual(read(meta), meta);
  const refused = (about: unknown, reason: RegExp) =>
    assert.throws(
      () => read(about),
      (error) => error instanceof JepaError && reason.test(error.message) && !error.message.includes('\n'),
      String(reason),
    );
  refused({ ...meta, position: { epoch: 1 } }, /position\.step: .* \(damaged\?\)/);
  refused({ ...meta, workers: '2' }, /workers: .* \(damaged\?\)/);
  refused({ ...meta, facts: 3 }, /facts: .* \(damaged\?\)/);
  refused({ ...meta, format: 2 }, /checkpoint format 2 is not known/);
  const wrong = { ...config, method: { ...config.method, masc: 1 }, train: { ...config.train, bach: 1 } };
  refused({ ...meta, config: wrong }, /state-00000007\.json: unknown key method\.masc/);
});
