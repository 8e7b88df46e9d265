import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { JepaError } from '../../src/base/errors.js';
import { cachedModel, type DownloadOptions, downloadModel, isModelName } from '../../src/hub/download-node.js';
import { loadEncoder } from '../../src/hub/encoder-files.js';
import { golden } from './cases.js';

// A hub of our own that behaves as badly as it is told to.

const NAME = 'tiny/ijepa';
const COMMIT = 'c0ffee'.repeat(7).slice(0, 40);
const model = join(golden, 'hf-ijepa', 'model');
const contents = new Map(
  ['config.json', 'model.safetensors', 'preprocessor_config.json'].map((name) => [
    name,
    readFileSync(join(model, name)),
  ]),
);
const weights = contents.get('model.safetensors')!;
const root = mkdtempSync(join(tmpdir(), 'jepa-download-'));
after(() => rmSync(root, { recursive: true, force: true }));

interface Seen {
  readonly path: string;
  readonly range?: string;
  readonly authorization?: string;
}
/** Handles a request for a file; true if it has answered. */
type Behaviour = (request: http.IncomingMessage, response: http.ServerResponse, name: string) => boolean;

async function withHub<T>(
  behave: Behaviour,
  use: (endpoint: string, seen: Seen[]) => Promise<T>,
  listing?: unknown,
): Promise<T> {
  const seen: Seen[] = [];
  const server = http.createServer((request, response) => {
    const path = request.url ?? '';
    const { range, authorization } = request.headers;
    seen.push({ path, range, authorization });
    const name = path.split('/').at(-1) ?? '';
    if (path.startsWith('/api/models/')) {
      if (behave(request, response, 'api')) return;
      const files = listing ?? [...contents].map(([file, bytes]) => entry(file, bytes));
      const isTree = path === `/api/models/${NAME}/tree/${COMMIT}`;
      if (!isTree && path !== `/api/models/${NAME}/revision/main`) response.writeHead(404).end();
      else response.end(JSON.stringify(isTree ? files : { sha: COMMIT, cardData: { license: 'cc-by-nc-4.0' } }));
    } else if (!behave(request, response, name)) sendRange(request, response, contents.get(name) as Buffer);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** As the hub lists files: large ones with SHA-256, others with git's own hash. */
function entry(path: string, bytes: Buffer): unknown {
  const { length: size } = bytes;
  const oid = createHash('sha1').update(`blob ${size}\0`).update(bytes).digest('hex');
  const large = path.endsWith('.safetensors');
  return {
    type: 'file',
    path,
    size,
    oid: large ? 'f'.repeat(40) : oid,
    ...(large && { lfs: { oid: sha256(bytes), size } }),
  };
}

function sendRange({ headers }: http.IncomingMessage, response: http.ServerResponse, bytes: Buffer): void {
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
  if (from > 0) response.writeHead(206, { 'Content-Range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
  response.end(bytes.subarray(from));
}

const well: Behaviour = () => false;
let caches = 0;
const optionsFor = (endpoint: string, more: DownloadOptions = {}): DownloadOptions => ({
  endpoint,
  cache: join(root, String(caches++)),
  retryDelay: 1,
  ...more,
});

function assertComplete(folder: string): void {
  for (const [name, bytes] of contents) assert.ok(readFileSync(join(folder, name)).equals(bytes), name);
  assert.deepEqual(readdirSync(folder).sort(), [...contents.keys(), 'jepa-source.json'].sort());
}

const rejects = (promise: Promise<unknown>, pattern: RegExp): Promise<void> =>
  assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof JepaError, String(error));
    assert.match(error.message, pattern);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });

test('a model is downloaded once, with progress, its commit and its licence', async () => {
  await withHub(well, async (endpoint, seen) => {
    const progress: number[] = [];
    const options = optionsFor(endpoint, { token: 'secret', onProgress: ({ done }) => progress.push(done) });
    const downloaded = await downloadModel(NAME, options);
    assertComplete(downloaded.folder);
    assert.equal(downloaded.licence, 'cc-by-nc-4.0');
    const total = [...contents.values()].reduce((sum, { length }) => sum + length, 0);
    assert.equal(progress.at(-1), total);
    assert.deepEqual(
      progress,
      [...progress].sort((a, b) => a - b),
    );
    assert.ok(seen.every(({ authorization }) => authorization === 'Bearer secret'));
    const requests = seen.length;
    assert.deepEqual(await downloadModel(NAME, options), downloaded);
    assert.equal(seen.length, requests + 1, 'only the commit is asked for again');
    assert.deepEqual(cachedModel(NAME, options.cache), downloaded);
    assert.equal(loadEncoder(downloaded.folder).config.width, loadEncoder(model).config.width);
  });
});

test('connections that drop are gone on with where they ended', async () => {
  const step = Math.ceil(weights.length / 7);
  const drop: Behaviour = (request, response, name) => {
    if (name !== 'model.safetensors') return false;
    const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
    if (from + step >= weights.length) return false;
    const headers = {
      'Content-Length': weights.length - from,
      'Content-Range': `bytes ${from}-${weights.length - 1}/*`,
    };
    response.writeHead(from > 0 ? 206 : 200, headers);
    response.write(weights.subarray(from, from + step), () => response.destroy());
    return true;
  };
  await withHub(drop, async (endpoint, seen) => {
    assertComplete((await downloadModel(NAME, optionsFor(endpoint))).folder);
    const ranges = seen.filter(({ path }) => path.endsWith('.safetensors')).map(({ range }) => range);
    assert.equal(ranges[0], undefined);
    assert.ok(ranges.length >= 6 && ranges.slice(1).every((range) => /^bytes=\d+-$/.test(range ?? '')), String(ranges));
  });
});

test('a part that another process left is used; a server without ranges sends the whole again', async () => {
  for (const ranges of [true, false]) {
    const plain: Behaviour = (_, response, name) => {
      if (ranges || name !== 'model.safetensors') return false;
      response.end(weights);
      return true;
    };
    await withHub(plain, async (endpoint, seen) => {
      const options = optionsFor(endpoint);
      const { folder } = await downloadModel(NAME, options);
      // As if it had been interrupted.
      rmSync(join(folder, 'jepa-source.json'));
      rmSync(join(folder, 'model.safetensors'));
      writeFileSync(join(folder, 'model.safetensors.partial'), weights.subarray(0, 1000));
      seen.length = 0;
      await downloadModel(NAME, options);
      assertComplete(folder);
      const files = seen.filter(({ path }) => !path.startsWith('/api'));
      assert.deepEqual(
        files.map(({ range }) => range),
        ['bytes=1000-'],
        'only what is missing is asked for',
      );
    });
  }
});

test('a damaged file is fetched again, and refused the second time', async () => {
  for (const times of [1, 2]) {
    let damaged = 0;
    const spoil: Behaviour = (_, response, name) => {
      if (name !== 'model.safetensors' || damaged === times) return false;
      damaged++;
      const bytes = Buffer.from(weights);
      bytes[bytes.length >> 1] ^= 1;
      response.end(bytes);
      return true;
    };
    await withHub(spoil, async (endpoint) => {
      const options = optionsFor(endpoint);
      if (times === 1) assertComplete((await downloadModel(NAME, options)).folder);
      else {
        await rejects(
          downloadModel(NAME, options),
          /model\.safetensors arrived twice with another checksum \([0-9a-f]{64} instead/,
        );
        assert.ok(!existsSync(join(options.cache!, 'tiny--ijepa', COMMIT, 'model.safetensors')));
        assert.equal(cachedModel(NAME, options.cache), undefined);
      }
    });
  }
  const other: Behaviour = (_, response, name) =>
    name === 'config.json' && !!response.end(`${contents.get(name)} `.slice(1));
  await withHub(other, (endpoint) =>
    rejects(downloadModel(NAME, optionsFor(endpoint)), /config\.json arrived twice with another/),
  );
});

test('what cannot be had is one clear line', async () => {
  await withHub(well, async (endpoint) => {
    await rejects(
      downloadModel('tiny/other', optionsFor(endpoint)),
      /tiny\/other: there is no such model or file .*404/,
    );
    await rejects(downloadModel('../etc', optionsFor(endpoint)), /is no name of a model/);
  });
  const answer =
    (status: number): Behaviour =>
    (_, response) =>
      !!response.writeHead(status).end();
  const asking = (behave: Behaviour, more: DownloadOptions = {}) =>
    withHub(behave, (endpoint) => downloadModel(NAME, optionsFor(endpoint, more)));
  await rejects(asking(answer(401)), /does not give it out \(401\); check the name.*HF_TOKEN/);
  await rejects(asking(answer(403), { token: 'x' }), /accept its licence on its page/);
  await rejects(asking(answer(503)), /not able to answer now .*503.*try again later/);
  const silent: Behaviour = () => true;
  await rejects(asking(silent, { stallTimeout: 30 }), /cannot download from .*nothing arrived for 0\.03 s/);
  const gone = await withHub(well, async (endpoint) => endpoint);
  await rejects(downloadModel(NAME, optionsFor(gone)), /cannot download from .*ECONNREFUSED.*check the network/);
});

test('an answer that comes at the second time will do', async () => {
  let asked = 0;
  const busy: Behaviour = (_, response) => asked++ % 2 === 0 && !!response.writeHead(429).end();
  await withHub(busy, async (endpoint) => assertComplete((await downloadModel(NAME, optionsFor(endpoint))).folder));
});

test('what a hub announces is bounded', async () => {
  const all = [...contents].map(([file, bytes]) => entry(file, bytes)) as { path: string; size: number }[];
  const asking = (listing: unknown, behave: Behaviour = well) =>
    withHub(behave, (endpoint) => downloadModel(NAME, optionsFor(endpoint)), listing);
  const larger = all.map((each) => (each.path.endsWith('.safetensors') ? { ...each, size: 4e15 } : each));
  await rejects(
    asking(larger),
    /cannot write .*4000000\.00 GB are missing of the model and .* GB are free; free some space/,
  );
  const shorter = all.map((each) => (each.path.endsWith('.safetensors') ? { ...each, size: 10 } : each));
  await rejects(asking(shorter), /more bytes of model\.safetensors arrive than its 10/);
  await rejects(asking(all.slice(0, 1)), /it has no config\.json and safetensors/);
  await rejects(asking({ no: 'list' }), /the list of its files is not a list/);
  await rejects(asking(all.map((each) => ({ ...each, size: -1 }))), /says no size and checksum/);
  const long: Behaviour = (_, response, name) => name === 'api' && !!response.end(Buffer.alloc(17e6, 0x20));
  await rejects(asking(all, long), /the answer of .* is too long/);
  // Files that lead out of the folder, or hold code, are not asked for.
  const strange = [
    ...all,
    { type: 'file', path: '../model.safetensors', size: 1, oid: '0' },
    { path: 'x.py', size: 1, oid: '0' },
  ];
  await withHub(
    well,
    async (endpoint, seen) => {
      assertComplete((await downloadModel(NAME, optionsFor(endpoint))).folder);
      assert.equal(seen.filter(({ path }) => !path.startsWith('/api')).length, contents.size);
    },
    strange,
  );
});

test('a token goes to the hub only, not to where it sends us', async () => {
  await withHub(well, async (elsewhere, seenElsewhere) => {
    // Another host by name; both are this machine.
    const other = elsewhere.replace('127.0.0.1', 'localhost');
    const redirect: Behaviour = (request, response, name) =>
      name === 'model.safetensors' && !!response.writeHead(302, { Location: `${other}${request.url}` }).end();
    await withHub(redirect, async (endpoint) => {
      assertComplete((await downloadModel(NAME, optionsFor(endpoint, { token: 'secret' }))).folder);
    });
    assert.deepEqual(
      seenElsewhere.map(({ authorization }) => authorization),
      [undefined],
    );
  });
});

test('names of models are told from paths', () => {
  for (const name of ['facebook/ijepa_vith14_1k', 'facebook/vjepa2-vitl-fpc64-256', 'a/b'])
    assert.ok(isModelName(name));
  for (const name of ['model', './a/b', '/a/b', 'a/b/c', '../a', 'a/', 'a/b c']) assert.ok(!isModelName(name), name);
});
