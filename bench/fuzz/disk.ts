import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseJson } from '../../src/base/json.js';
import { float32, type HostTensor, sizeOf } from '../../src/base/tensor.js';
import { openDecodedCache } from '../../src/data/cache-node.js';
import { checkpointOf } from '../../src/hub/checkpoint-layout.js';
import { loadEncoder } from '../../src/hub/encoder-files.js';
import { openEpisodes } from '../../src/hub/episodes-node.js';
import { encoderShapes } from '../../src/hub/ijepa-names.js';
import { parseImageProcessor } from '../../src/hub/image-processor.js';
import { writeModelFolder } from '../../src/hub/model-folder.js';
import { encodeNpy, encodeNpz, openNpy } from '../../src/hub/npy.js';
import { torchFilePieces } from '../../src/hub/pth-write.js';
import { loadTensor } from '../../src/hub/raw.js';
import { concatBytes } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { writeSafetensors } from '../../src/hub/weights.js';
import { crc32 } from '../../src/hub/zip.js';
import { vitConfig } from '../../src/nn/vit.js';
import { readCheckpointMeta } from '../../src/train/checkpoint.js';
import { parseConfig } from '../../src/train/config.js';
import { companionOf, FINGERPRINT } from '../../src/train/embed.js';
import { openEmbeddings } from '../../src/train/search.js';
import { GOLDEN, golden, type Reader, type Tools, WHERE } from './reader.js';

/** Readers of our own that take several files, or that read by pieces from disk. */

const WORDS = ['{}', '[]', 'null', 'true', '-1', '1e9', '99999', '"__proto__":', '\\u0000', '"depth":1000', '0.5'];
const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

/** What `write` writes into a folder that is gone afterwards. */
async function written(write: (folder: string) => unknown, name: (files: string[]) => string): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), 'jepa-fuzz-'));
  try {
    await write(folder);
    return new Uint8Array(readFileSync(join(folder, name(readdirSync(folder)))));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A folder with what belongs to a damaged file, made once, and the file in it. */
function beside(tools: Tools, folder: string, name: string, bytes: Uint8Array, make: (folder: string) => void): string {
  const path = join(dirname(tools.file(bytes, '')), folder);
  if (!existsSync(path)) {
    mkdirSync(path);
    make(path);
  }
  writeFileSync(join(path, name), bytes);
  return path;
}

// --- published models -----------------------------------------------------------------------------------------------

/** A model in the package's own form, with everything that it can hold. */
function writeOwnModel(folder: string): void {
  writeModelFolder(
    folder,
    { ...loadEncoder(join(GOLDEN, 'hf-vjepa2/classifier')), family: 'vjepa' },
    { licence: 'any' },
  );
}

/** A small checkpoint of PyTorch that says itself what it holds. */
function ownCheckpoint(): Uint8Array {
  const config = vitConfig({ imageSize: 4, patchSize: 2, channels: 1, width: 4, depth: 1, heads: 1 });
  const weights = new Map(
    Array.from(encoderShapes(config), ([name, shape]) => [name, float32(shape, new Float32Array(sizeOf(shape)))]),
  );
  const layer = { weight: float32([2, 4], new Float32Array(8)), bias: float32([2], [0, 1]) };
  const model = { config, weights, context: weights, classifier: layer, labels: ['a', 'b'], facts: { epoch: 3 } };
  return concatBytes([...torchFilePieces(checkpointOf('a checkpoint', model))]);
}

const MODELS: Readonly<Record<string, (folder: string) => void>> = {
  jepa: writeOwnModel,
  vjepa2: (folder) => cpSync(join(GOLDEN, 'hf-vjepa2/model'), folder, { recursive: true }),
  ijepa: (folder) => cpSync(join(GOLDEN, 'hf-ijepa/model'), folder, { recursive: true }),
};

// --- episodes -------------------------------------------------------------------------------------------------------

const int32 = (...values: number[]): HostTensor<'int32'> => ({
  dtype: 'int32',
  shape: [values.length],
  data: Int32Array.from(values),
});
/** Two episodes of four states. */
const EPISODES: Readonly<Record<string, HostTensor<'float32' | 'int32'>>> = {
  action: float32([8, 2], new Float32Array(16)),
  state: float32([8, 3], new Float32Array(24)),
  ep_len: int32(4, 4),
  ep_offset: int32(0, 4),
};
const EPISODE_ARRAYS = Object.keys(EPISODES);

export const FROM_DISK: readonly Reader[] = [
  {
    name: 'decoded',
    seeds: async () => {
      const image = (width: number) => ({ width, height: 4, channels: 3, data: new Uint8Array(width * 12).fill(7) });
      const shard = async (folder: string) => {
        const cache = await openDecodedCache({ folder, maxBytes: 1 << 20 }, () => {});
        for (const [i, key] of ['a', 'b', 'c'].entries()) cache.put(key, image(i + 2));
        await cache.close();
      };
      return { files: [await written(shard, ([name]) => name)], words: ['["a",0,9,9,9]', '-4', ',', ...WORDS] };
    },
    async read(bytes, tools) {
      const folder = beside(tools, 'decoded', 'shard.decoded', bytes, () => {});
      const cache = await openDecodedCache({ folder, maxBytes: 1 << 20 }, () => {});
      try {
        return [await cache.get('a'), await cache.get('b'), await cache.get('c')];
      } finally {
        await cache.close();
      }
    },
  },
  {
    name: 'model-folder',
    seeds: async () => {
      const own = await written(writeOwnModel, (names) => names.find((name) => name === 'config.json') as string);
      const { files } = golden(['hf-ijepa/model', 'hf-vjepa2/model'], /^config\.json$/);
      return { files: [own, ...files], words: ['"depth":100000', '"num_hidden_layers":100000', ...WORDS] };
    },
    read(bytes, tools) {
      const text = Buffer.from(bytes).toString('latin1');
      const kind = Object.keys(MODELS).find((name) => text.includes(`"${name}"`)) ?? 'ijepa';
      const { config, labels, transforms } = loadEncoder(beside(tools, kind, 'config.json', bytes, MODELS[kind]));
      return [config, labels, transforms];
    },
  },
  {
    name: 'pth-model',
    seeds: () => ({
      files: [ownCheckpoint()],
      words: ['jepa', 'model_type', 'encoder', 'K\xff', 'M\xff\xff', '\x8a\x01\x7f', ')', '}'],
    }),
    read(bytes, tools) {
      const { config, weights, context, classifier, labels } = loadEncoder(tools.file(bytes, '.pth'));
      const numbers = [...weights.values(), ...(context?.values() ?? [])].map(({ data }) => data.length);
      return [config, numbers, classifier, labels];
    },
  },
  {
    name: 'processor',
    seeds: () => golden(['hf-ijepa', 'hf-vjepa2'], /preprocessor_config\.json$/, WORDS),
    read: (bytes) => {
      const value = parseJson(Buffer.from(bytes).toString('latin1'), WHERE);
      return parseImageProcessor(Object(value) as Parameters<typeof parseImageProcessor>[0], WHERE);
    },
  },
  // --- what the package keeps ---------------------------------------------------------------------------------------
  {
    name: 'episodes',
    seeds: () => ({ files: EPISODE_ARRAYS.map((name) => encodeNpy(EPISODES[name])) }),
    async read(bytes, tools) {
      // A damaged array in a sound archive: one with a wrong checksum would not be looked into.
      const { tensor } = openNpy(bytesSource(bytes, WHERE));
      if (!tensor) return undefined;
      tools.announce(tensor.byteLength);
      const alike = EPISODE_ARRAYS.filter((name) => EPISODES[name].shape.length === tensor.shape.length);
      const among = alike.length > 0 ? alike : EPISODE_ARRAYS;
      const replaced = among[crc32(bytes) % among.length];
      const arrays = new Map(
        Object.entries({ ...EPISODES, [replaced]: loadTensor(tensor, WHERE) as HostTensor<'float32'> }),
      );
      const path = tools.file(encodeNpz(arrays), '.npz');
      const episodes = await openEpisodes(path, { observe: 'states', frames: 2, moments: 1 });
      return Promise.all(Array.from({ length: Math.min(3, episodes.length) }, (_, i) => episodes.read(i)));
    },
  },
  {
    name: 'checkpoint',
    seeds: () => {
      const config = parseConfig({ data: { source: 'procedural:shapes' }, method: { name: 'ijepa' } });
      const place = { position: { epoch: 1, step: 2 }, step: 1, totalSteps: 9, samples: 64, workers: 2 };
      return { files: [json({ format: 1, ...place, backend: 'cpu', seconds: 1.5, config, facts: {} })], words: WORDS };
    },
    read: (bytes, tools) =>
      readCheckpointMeta(
        beside(tools, 'checkpoint', 'state-00000001.json', bytes, (folder) =>
          writeSafetensors(join(folder, 'state-00000001.safetensors'), new Map()),
        ),
      ),
  },
  {
    name: 'embeddings',
    seeds: () => {
      const companion = { metadata: { [FINGERPRINT]: 'f' }, paths: ['a', 'b'], labels: [0, 1], classNames: ['x', 'y'] };
      return { files: [json(companion)], words: WORDS };
    },
    read(bytes, tools) {
      const rows = 'rows.npy';
      const folder = beside(tools, 'embeddings', companionOf(rows), bytes, (made) =>
        writeFileSync(join(made, rows), encodeNpy(float32([2, 3], new Float32Array(6)))),
      );
      return openEmbeddings(join(folder, rows));
    },
  },
];
