import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import sharp from 'sharp';
import { goldenFolder } from '../golden.js';
import { folder, jepa, start } from './command.js';

const COMMIT = 'a'.repeat(40);
const model = join(goldenFolder, 'hf-ijepa', 'model');

/** A hub with one model. */
async function withHub(use: (endpoint: string) => Promise<void>): Promise<void> {
  const names = ['config.json', 'model.safetensors', 'preprocessor_config.json'];
  const tree = names.map((path) => {
    const bytes = readFileSync(join(model, path));
    const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
    return { path, size: bytes.length, oid };
  });
  const server = http.createServer(({ url = '' }, response) => {
    if (url === '/api/models/tiny/vit/revision/main')
      response.end(JSON.stringify({ sha: COMMIT, cardData: { license: 'cc-by-nc-4.0' } }));
    else if (url === `/api/models/tiny/vit/tree/${COMMIT}`) response.end(JSON.stringify(tree));
    else if (url.startsWith('/tiny/vit/resolve/'))
      response.end(readFileSync(join(model, url.split('/').at(-1) as string)));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

test('by name: downloaded, described, written, and used under its name without a network', async () => {
  const kept = { JEPA_MODELS: join(folder, 'models') };
  await withHub(async (endpoint) => {
    const env = { ...kept, HF_ENDPOINT: endpoint };
    const { code, stdout, stderr } = await start(['import', 'tiny/vit', '--out', 'vit', '--json'], env).outcome;
    assert.equal(code, 0, stderr);
    const facts = JSON.parse(stdout);
    assert.equal(facts.family, 'ijepa');
    assert.equal(facts.licence, 'The weights of tiny/vit are licensed cc-by-nc-4.0 (non-commercial).');
    assert.equal(facts.written.form, 'Hugging Face');
    assert.match(stderr, /downloading tiny\/vit: model\.safetensors/);
    const missing = await start(['import', 'tiny/none'], env).outcome;
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /^error: tiny\/none: there is no such model or file .*404.*\n$/);
  });
  assert.equal(JSON.parse(readFileSync(join(folder, 'vit', 'config.json'), 'utf8')).source, `tiny/vit ${COMMIT}`);
  mkdirSync(join(folder, 'photos'));
  for (let i = 0; i < 3; i++) {
    const raw = { width: 40, height: 30, channels: 3 as const };
    const pixels = Uint8Array.from({ length: 3600 }, (_, k) => (k * (i + 3)) % 251);
    await sharp(pixels, { raw })
      .png()
      .toFile(join(folder, 'photos', `${i}.png`));
  }
  // Nothing listens at that endpoint any more.
  const vectors: Buffer[] = [];
  for (const name of ['tiny/vit', 'vit']) {
    const out = `${name.replace('/', '-')}.npy`;
    const args = ['embed', name, 'photos', '--out', out];
    const { code, stderr } = await start(args, { ...kept, HF_ENDPOINT: 'http://127.0.0.1:9' }).outcome;
    assert.equal(code, 0, stderr);
    vectors.push(readFileSync(join(folder, out)));
  }
  assert.ok(vectors[0].equals(vectors[1]), 'the copy is the same encoder');
});

test('files: described and written; nothing is where nothing was asked for', async () => {
  const meta = join(goldenFolder, 'hf-vjepa2', 'meta_vjepa2.pt');
  const sizes = ['--heads', '2', '--predictor-heads', '2', '--image-size', '16', '--frames', '4'];
  const described = await jepa('import', meta, ...sizes);
  assert.equal(described.code, 0, described.stderr);
  for (const line of [
    /V-JEPA 2, ViT of width 32/,
    /patches of 2 x 4 x 4, 32 tokens/,
    /licence +.*MIT/,
    /ignored +.*opt/,
    /nothing was written/,
  ])
    assert.match(described.stdout, line);
  const written = await jepa('import', meta, ...sizes, '--out', 'vjepa2');
  assert.equal(written.code, 0, written.stderr);
  assert.match(written.stdout, /vjepa2: in Hugging Face's form/);
  assert.ok(existsSync(join(folder, 'vjepa2', 'video_preprocessor_config.json')));
  const again = await jepa('import', meta, ...sizes, '--out', 'vjepa2');
  assert.equal(again.code, 2);
  assert.match(again.stderr, /vjepa2: it is there already/);
  const inspected = JSON.parse((await jepa('inspect', 'vjepa2', '--json')).stdout);
  assert.equal(inspected.model.family, 'vjepa2');
  assert.equal(inspected.model.tokens, 32);
});

test('export: a checkpoint of PyTorch is the same encoder; what this command did not write is left alone', async () => {
  const exported = await jepa('export', model, '--out', 'model.pth.tar', '--json');
  assert.equal(exported.code, 0, exported.stderr);
  const { format, files } = JSON.parse(exported.stdout);
  assert.deepEqual([format, files.length, files[0].path], ['pth', 1, 'model.pth.tar']);
  const { code, stderr } = await jepa('embed', 'model.pth.tar', 'photos', '--out', 'from-pth.npy');
  assert.equal(code, 0, stderr);
  assert.ok(readFileSync(join(folder, 'from-pth.npy')).equals(readFileSync(join(folder, 'tiny-vit.npy'))));
  const again = await jepa('export', 'model.pth.tar', '--format', 'pth', '--out', 'model.pth.tar');
  assert.equal(again.code, 0, again.stderr);
  const meta = readFileSync(join(goldenFolder, 'hf-vjepa2', 'meta_vjepa2.pt'));
  writeFileSync(join(folder, 'meta.pt'), meta);
  const refused = await jepa('export', model, '--out', 'meta.pt');
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^error: meta\.pt is there already, and this command did not write it.*\n$/);
  assert.ok(readFileSync(join(folder, 'meta.pt')).equals(meta));
});

test('clips: a V-JEPA 2 folder embeds videos, also shorter clips than it was made for', async () => {
  const model = join(goldenFolder, 'hf-vjepa2', 'model');
  // Two videos as folders of frames: four frames, every fourth, are a clip.
  for (const name of ['one', 'two']) {
    mkdirSync(join(folder, 'videos', name), { recursive: true });
    for (let i = 0; i < 16; i++) {
      const create = { width: 24, height: 20, channels: 3 as const, background: { r: 16 * i, g: 90, b: 255 - 9 * i } };
      await sharp({ create })
        .png()
        .toFile(join(folder, 'videos', name, `${String(i).padStart(2, '0')}.png`));
    }
  }
  for (const [frames, name] of [
    [[], 'published.npy'],
    [['--frames', '2', '--frame-step', '1'], 'short.npy'],
  ] as const) {
    const { code, stdout, stderr } = await jepa('embed', model, 'videos', ...frames, '--out', name, '--json');
    assert.equal(code, 0, stderr);
    const result = JSON.parse(stdout);
    assert.equal(result.features, 32);
    assert.equal(result.samples, 2);
  }
  // Where boxes are not known is said before anything is measured.
  for (const label of ['left', 'right'])
    for (const name of ['one', 'two'])
      cpSync(join(folder, 'videos', name), join(folder, 'labelled', label, name), { recursive: true });
  const { code, stdout, stderr } = await jepa('probe', model, 'labelled', '--locate', '--draws', '0');
  assert.equal(code, 2, stderr);
  assert.match(stderr, /^error: labelled \(train\): this needs square videos in which it is known where .*\n$/);
  assert.equal(stdout, '');
});
