import { zipSync } from 'fflate';
import { parseJson } from '../../src/base/json.js';
import { parseWav, toMono } from '../../src/data/audio/wav.js';
import { decodeBmp } from '../../src/data/bmp.js';
import { parseCifar } from '../../src/data/cifar.js';
import { csvNumber, parseCsv } from '../../src/data/csv.js';
import { parseIdx } from '../../src/data/idx.js';
import { DECODE_DEFAULTS } from '../../src/data/image-format.js';
import { decodePnm } from '../../src/data/pnm.js';
import { parsePly, plyPoints } from '../../src/data/points/ply.js';
import { parseNtu } from '../../src/data/skeleton/ntu.js';
import { parseStl10 } from '../../src/data/stl10.js';
import { parseTokenizer } from '../../src/data/text/bpe.js';
import { textFiles } from '../../src/data/text/files.js';
import { parseVideoList } from '../../src/data/video/list.js';
import { classField, jsonField, webSamples } from '../../src/data/webdataset.js';
import { parseJsonl } from '../../src/hub/jsonl.js';
import { type NpyFile, openNpy, openNpz } from '../../src/hub/npy.js';
import { parseOnnx } from '../../src/hub/onnx.js';
import { openTorchFile } from '../../src/hub/pth.js';
import { loadTensor, type StoredTensor } from '../../src/hub/raw.js';
import { openSafetensors } from '../../src/hub/safetensors.js';
import { bytesSource } from '../../src/hub/source.js';
import { maskedCrc32c, parseEvents } from '../../src/hub/tfevents.js';
import { crc32, openZip } from '../../src/hub/zip.js';
import { FROM_DISK } from './disk.js';
import { golden, type Reader, type Tools, WHERE } from './reader.js';

/** A value that is made when it is first asked for. */
function late<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function loadAll(tensors: Iterable<[string, StoredTensor]>, { announce }: Tools): unknown {
  return Array.from(tensors, ([name, stored]) => {
    announce(stored.byteLength);
    return loadTensor(stored, name);
  });
}

function loadNpy(file: NpyFile, tools: Tools): unknown {
  return file.tensor ? loadAll([['array', file.tensor]], tools) : file.text?.();
}

// --- PyTorch --------------------------------------------------------------------------------------------------------

const PICKLE_WORDS = [
  ...['cos\nsystem\n', 'c__builtin__\neval\n', '\x8c\x02os\x8c\x06system\x93', 'ctorch\nload\n', '\x85R', '\x81', 'b'],
  ...['\x80\x02', '\x95\xff\xff\xff\xff\xff\xff\xff\x7f', 'q\x00', 'h\x00', 'r\xff\xff\xff\xff', '\x94', '(', '}', ']'],
  ...[')', 't', 'u', 's', 'e', 'a', '0', 'N', '.', 'Q', '\x8a\xff', '\x8b\xff\xff\xff\x7f', 'X\xff\xff\xff\xff'],
  ...['\x8e\xff\xff\xff\xff\xff\xff\xff\x00', 'ccollections\nOrderedDict\n', 'ctorch._utils\n_rebuild_tensor_v2\n'],
].map((word) => Uint8Array.from(word, (char) => char.charCodeAt(0)));

/** Members of the golden archive, and which of them is the object. */
const archive = late(() => {
  const [file] = golden(['formats/pytorch'], /^zip\.pth\.tar$/).files;
  const members = Object.fromEntries(
    Array.from(openZip(bytesSource(file)).values(), ({ name, pieces }) => [name, Buffer.concat([...pieces()])]),
  );
  return { members, object: Object.keys(members).find((name) => name.endsWith('data.pkl'))! };
});

/** A pickle of protocol 4: {'a': [1, 2.5, 'b' (from the memo), (True, None)]}, in frames. */
const PROTOCOL_4 = Uint8Array.from(
  '\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94](K\x01G\x40\x04\0\0\0\0\0\0h\x01\x88N\x86eu.',
  (char) => char.charCodeAt(0),
);

const openPth = (bytes: Uint8Array, tools: Tools): unknown => {
  const { tensors, root } = openTorchFile(bytesSource(bytes, WHERE));
  return [root, loadAll(tensors, tools)];
};

// --- checksums ------------------------------------------------------------------------------------------------------

/** Checksums of the records of an event file. */
function repairEvents(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 16 <= bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    view.setUint32(at + 8, maskedCrc32c(bytes.subarray(at, at + 8)), true);
    if (at + 16 + length > bytes.length) return;
    view.setUint32(at + 12 + length, maskedCrc32c(bytes.subarray(at + 12, at + 12 + length)), true);
    at += 16 + length;
  }
}

/** Checksums of everything that could be a header of a tar archive. */
function repairTar(bytes: Uint8Array): void {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const header = bytes.subarray(at, at + 512);
    if (Buffer.from(header.subarray(257, 262)).toString('latin1') !== 'ustar') continue;
    header.fill(0x20, 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.set(text(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  }
}

// --- made seeds -----------------------------------------------------------------------------------------------------

const JSON_WORDS = ['{}', '[]', 'null', 'true', '"__proto__":', '\\u0000', '\\ud800', '1e999', '-', '"a":'];
const SHAPES = ["'shape': (9007199254740991,), ", '(0, 9007199254740991)', "'O'", "'<U1'", "'>c8'", 'True', '3L'];

const PNM = ['P1\n3 2\n1 0 1\n0 1 0\n', 'P2\n# grey\n2 2\n255\n0 64 128 255\n', 'P3\n1 2\n15\n1 2 3 4 5 6\n'];
const TEXTS = [
  'One paragraph\nof two lines.\n\nAnother one.\n',
  '{"text": "plain", "label": 3}\n{"text": "more", "code": "f(x)", "label": "three"}\n',
  '{"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because"}]}\n',
];

/** Readers of bytes. */
const IN_MEMORY: readonly Reader[] = [
  {
    name: 'pickle',
    seeds: () => ({ files: [archive().members[archive().object], PROTOCOL_4], words: PICKLE_WORDS }),
    read: (bytes, tools) => openPth(zipSync({ ...archive().members, [archive().object]: bytes }, { level: 0 }), tools),
  },
  {
    name: 'pth-zip',
    seeds: () => golden(['formats/pytorch'], /^zip\.pth\.tar$/, ['PK\x01\x02', 'PK\x05\x06', 'PK\x03\x04']),
    read: openPth,
  },
  {
    name: 'pth-legacy',
    seeds: () => golden(['formats/pytorch'], /^legacy\.pth\.tar$/, PICKLE_WORDS),
    read: openPth,
  },
  {
    name: 'zip',
    seeds: () => {
      const made = zipSync({ a: text('stored'), 'b/c': [text('deflated '.repeat(40)), { level: 9 }] }, { level: 0 });
      const npz = golden(['formats/npy'], /\.npz$/);
      return { files: [made, ...npz.files], words: ['PK\x01\x02', 'PK\x05\x06', 'PK\x06\x06', 'PK\x06\x07'] };
    },
    expands: 1040,
    read: (bytes, { announce }) =>
      Array.from(openZip(bytesSource(bytes, WHERE)).values(), (entry) => {
        let [length, crc] = [0, 0];
        for (const piece of entry.pieces()) {
          length += piece.length;
          crc = crc32(piece, crc);
        }
        announce(entry.compressed ? 0 : length);
        return [entry.name, length, crc];
      }),
  },
  {
    name: 'npy',
    seeds: () => golden(['formats/npy'], /\.npy$/, SHAPES),
    read: (bytes, tools) => loadNpy(openNpy(bytesSource(bytes, WHERE)), tools),
  },
  {
    name: 'npz',
    seeds: () => golden(['formats/npy'], /\.npz$/, SHAPES),
    expands: 1040,
    read: (bytes, tools) =>
      Array.from(openNpz(bytesSource(bytes, WHERE)).arrays.values(), (file) => loadNpy(file, tools)),
  },
  {
    name: 'safetensors',
    seeds: () => golden(['formats/safetensors'], /\.safetensors$/, [...JSON_WORDS, '"dtype":"F8_E4M3"', '"shape":[]']),
    read: (bytes, tools) => loadAll(openSafetensors(bytesSource(bytes, WHERE)).tensors, tools),
  },
  {
    name: 'json',
    seeds: () => golden(['formats'], /\.json$/, JSON_WORDS),
    read: (bytes) => parseJson(latin(bytes), WHERE),
  },
  {
    name: 'jsonl',
    seeds: () => golden(['formats/table'], /\.jsonl$/, JSON_WORDS),
    read: (bytes) => parseJsonl(bytes, WHERE),
  },
  {
    name: 'tokenizer',
    seeds: () => golden(['formats/tokenizer'], /tokenizer\.json$/, JSON_WORDS),
    read: (bytes) => {
      const tokenizer = parseTokenizer(bytes, WHERE);
      return tokenizer.decode(tokenizer.encode('The cat, 42 times: naïve \u{1f600}'));
    },
  },
  {
    name: 'onnx',
    seeds: () => golden(['formats/onnx'], /\.onnx$/),
    read: (bytes, tools) => {
      const model = parseOnnx(bytes, WHERE, () => bytesSource(new Uint8Array(60), 'beside it'));
      const stored = [...model.graph.initializers].flatMap(([name, { tensor }]) =>
        tensor ? [[name, tensor] as [string, StoredTensor]] : [],
      );
      return [model, loadAll(stored, tools)];
    },
  },
  {
    name: 'tensorboard',
    seeds: () => golden(['formats/tensorboard']),
    repair: repairEvents,
    read: (bytes) => parseEvents(bytes, WHERE),
  },
  {
    name: 'idx',
    seeds: () => golden(['formats/idx'], /(ubyte|idx)$/),
    read: (bytes) => parseIdx(bytes, WHERE),
  },
  {
    name: 'idx-gzip',
    seeds: () => golden(['formats/idx'], /\.gz$/),
    expands: 1040,
    read: (bytes) => parseIdx(bytes, WHERE),
  },
  {
    name: 'cifar',
    seeds: () => golden(['formats/cifar'], /\.bin$/),
    read: (bytes) => parseCifar([{ bytes, where: WHERE }], bytes.length % 3073 === 0 ? 10 : 100),
  },
  {
    name: 'stl10',
    seeds: () => golden(['formats/stl10'], /\.bin$/),
    read: (bytes) => parseStl10({ bytes, where: WHERE }),
  },
  {
    name: 'tar',
    seeds: () =>
      golden(['formats/webdataset'], /\.tar$/, ['ustar\0', 'ustar  \0', '././@LongLink', '../', '30 path=a']),
    repair: repairTar,
    async read(bytes) {
      const read = async (offset: number, length: number) => bytes.subarray(offset, offset + length);
      const samples: unknown[] = [];
      for await (const { key, fields } of webSamples({ size: bytes.length, read }, WHERE)) {
        for (const [field, { offset, size }] of fields) {
          const content = await read(offset, size);
          if (field === 'cls') samples.push(classField(content, WHERE));
          else if (field === 'json') samples.push(jsonField(content, WHERE));
        }
        samples.push(key);
      }
      return samples;
    },
  },
  {
    name: 'wav',
    seeds: () => golden(['formats/wav'], /\.wav$/, ['fmt ', 'data', 'RIFF', 'WAVE', 'LIST', 'fact']),
    read: (bytes) => toMono(parseWav(bytes, WHERE)),
  },
  {
    name: 'ntu',
    seeds: () => golden(['formats/ntu'], /\.skeleton$/, ['25\n', '\r\n', '0\n', ' ']),
    read: (bytes) => parseNtu(bytes, WHERE),
  },
  {
    name: 'ply',
    seeds: () =>
      golden(['formats/ply'], /\.ply$/, [
        ...['element vertex 99999999\n', 'property list uchar int a\n', 'property double x\n', 'end_header\n'],
        ...['format ascii 1.0\n', 'format binary_big_endian 1.0\n', 'element empty 4294967296\n'],
      ]),
    read: (bytes) => plyPoints(parsePly(bytes, WHERE), WHERE),
  },
  {
    name: 'csv',
    seeds: () => golden(['formats/table'], /\.csv$/, ['"', '""', ',', ';', '\t', '\r\n', '\ufeff']),
    read: (bytes) => parseCsv(bytes, WHERE).rows.map((row) => row.map(csvNumber)),
  },
  {
    name: 'video-list',
    seeds: () => golden(['formats/table'], /videos.*\.csv$/, ['::', ' ', 'path,label\n', '"', '\n']),
    read: (bytes) => parseVideoList(bytes, WHERE),
  },
  {
    name: 'text',
    seeds: () => ({
      files: TEXTS.map(text),
      words: [...JSON_WORDS, '"text":', '"messages":', '"content":', '"label":'],
    }),
    read: (bytes) => textFiles(WHERE, [{ bytes, where: bytes[0] === 0x7b ? 'damaged.jsonl' : 'damaged.txt' }]).length,
  },
  {
    name: 'bmp',
    seeds: () => golden(['formats'], /\.bmp$/),
    read: (bytes) => decodeBmp(bytes, WHERE, DECODE_DEFAULTS.maxPixels),
  },
  {
    name: 'pnm',
    seeds: () => {
      const { files } = golden(['formats'], /\.p[pg]m$/);
      return { files: [...files, ...PNM.map(text)], words: ['P1\n', 'P2 ', 'P3\n', 'P4 ', 'P5 ', 'P6 ', '#', '\n'] };
    },
    read: (bytes) => decodePnm(bytes, WHERE, DECODE_DEFAULTS.maxPixels),
  },
];

/** Every reader of our own. */
export const READERS: readonly Reader[] = [...IN_MEMORY, ...FROM_DISK];
/** What threads look for a reader in. */
export const ALL = READERS;

const latin = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
