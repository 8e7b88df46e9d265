import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/train/config.js';
import { remedyOf } from '../../src/train/remedy.js';

const remedy = (method: object, data?: object): string => remedyOf(parseConfig({ data, method }).method);

test('what to try against a collapse is never what is on already', () => {
  assert.match(
    remedy({ name: 'ijepa' }),
    /^try variance-covariance terms \(method\.regularizer\.kind=vicreg\), SIGReg/,
  );
  const vicreg = remedy({ name: 'ijepa', regularizer: { kind: 'vicreg', variance: 20 } });
  assert.match(vicreg, /^try more of its variance term \(method\.regularizer\.variance=40\), SIGReg/);
  assert.doesNotMatch(vicreg, /kind=vicreg/);
  const sigreg = remedy({ name: 'viewjepa', regularizer: { kind: 'sigreg', weight: 0.1 } });
  assert.match(sigreg, /^try more of its SIGReg \(method\.regularizer\.weight=0\.2\), variance-covariance/);
  assert.doesNotMatch(sigreg, /kind=sigreg/);
  assert.match(
    remedy({ name: 'lejepa' }),
    /^try more of its SIGReg \(method\.lambda=0\.1\) or a larger train\.batchSize/,
  );
});

test('every setting that is advised can be set', () => {
  const kinds = { 's-jepa': 'skeleton', vjepa: 'video', vjepa21: 'video', 'llm-jepa': 'text', 'audio-jepa': 'sound' };
  const all: [object, object?][] = [
    ...['ijepa', 'lejepa', 'viewjepa'].map((name): [object] => [{ name }]),
    ...Object.entries(kinds).map(([name, kind]): [object, object] => [{ name }, { kind, source: 'x' }]),
    ...['vicreg', 'sigreg'].map((kind): [object] => [{ name: 'ijepa', regularizer: { kind } }]),
    [{ name: 'world-model' }, { kind: 'episodes', source: 'x' }],
  ];
  for (const [method, data] of all) {
    for (const [, path, value] of remedy(method, data).matchAll(/\(method\.([a-z.]+)=([a-z0-9.]+)\)/g)) {
      const changed = structuredClone(parseConfig({ data, method }).method) as unknown as Record<string, unknown>;
      const [first, second] = path.split('.');
      const setting = Number.isNaN(Number(value)) ? value : Number(value);
      const old = second === 'kind' ? {} : (changed[first] as object | undefined);
      changed[first] = second === undefined ? setting : { ...old, [second]: setting };
      parseConfig({ data, method: changed });
    }
  }
});
