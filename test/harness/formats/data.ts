import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { parseCifar } from '../../../src/data/cifar.js';
import { csvNumber, parseCsv } from '../../../src/data/csv.js';
import type { ImageDataset } from '../../../src/data/dataset.js';
import { parseIdx } from '../../../src/data/idx.js';
import { openDataset } from '../../../src/data/open-node.js';
import { parsePly, plyPoints } from '../../../src/data/points/ply.js';
import { ntuLabels, parseNtu } from '../../../src/data/skeleton/ntu.js';
import { parseStl10, STL10_SIZE } from '../../../src/data/stl10.js';
import { parseTokenizer, trainBpe } from '../../../src/data/text/bpe.js';
import { parseVideoList } from '../../../src/data/video/list.js';
import { classField, expandShards, jsonField, webSamples } from '../../../src/data/webdataset.js';
import { openShard } from '../../../src/data/webdataset-node.js';
import { channelsLast, openEpisodeColumns, openMinari, sampleStarts } from '../../../src/hub/episodes-node.js';
import { openHdf5 } from '../../../src/hub/hdf5-node.js';
import { readJsonl } from '../../../src/hub/jsonl.js';
import { describeParquet, readParquet } from '../../../src/hub/parquet.js';
import { bytesSource } from '../../../src/hub/source.js';
import { crc32c, type EventValue, maskedCrc32c, parseEvents } from '../../../src/hub/tfevents.js';
import { type FormatCase, type FormatCheck, same, type Tools } from './case.js';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

// --- episodes -------------------------------------------------------------------------------------------------------

export const columns: FormatCheck = {
  async good({ files, expect, arrays }, tools) {
    const file = await openEpisodeColumns(tools.path(files[0]));
    const raw = await openHdf5(tools.path(files[0]));
    try {
      const read = (name: string) => raw.datasets.get(name)!.read();
      const { episodes, steps, sample, int64_columns = {}, layout } = expect;
      return [
        episodes !== undefined ? same('episodes', file.lengths.length, episodes) : undefined,
        steps !== undefined ? same('steps', file.steps, steps) : undefined,
        sample &&
          same(
            'starts',
            file.lengths.map((length) => sampleStarts(length, sample.num_steps, sample.frameskip)),
            sample.starts_by_episode,
          ),
        layout && same('layout', channelsLast(file.columns.get('pixels')!.shape), layout !== '[steps, C, H, W]'),
        ...Object.entries(int64_columns).flatMap(([name, values]) => [
          same(`${name}: type`, raw.datasets.get(name)!.dtype, 'I64'),
          same(name, Array.from(read(name).data as BigInt64Array, Number), values),
        ]),
        ...Object.keys(arrays).map((name) => tools.array(name, read(name))),
        // Parts are what the whole has there.
        ...[...file.columns.values()].map((column) => {
          const [whole, part] = [column.read(), column.read(1, 3)];
          const row = whole.data.length / file.steps;
          return same(`rows of ${column.path}`, part.data, whole.data.slice(row, 3 * row));
        }),
      ];
    } finally {
      raw.close();
      file.close();
    }
  },
  async bad({ files }, tools) {
    const file = await openEpisodeColumns(tools.path(files[0]));
    try {
      return [...file.columns.values()].map((column) => column.read());
    } finally {
      file.close();
    }
  },
  reasons: {
    truncated: /truncated file/,
    magic: /not an HDF5 file/,
    lengths: /columns of different length|beyond the \d+ of the file/,
    absurd: /announces .* values, which a file of \d+ bytes cannot hold/,
  },
};

export const minari: FormatCheck = {
  ...columns,
  async good({ files, expect, arrays }, tools) {
    const data = await openMinari(dirname(tools.path(files[0])));
    try {
      return [
        same('total_episodes', data.episodes.length, expect.total_episodes),
        same(
          'steps',
          data.episodes.map(({ steps }) => steps),
          expect.steps,
        ),
        same(
          'seeds',
          data.episodes.map(({ seed }) => seed ?? null),
          expect.seeds,
        ),
        ...Object.keys(arrays).map((key) => {
          const [, id, name] = /^episode_(\d+)\.(.*)$/.exec(key)!;
          const episode = data.episodes.find((each) => each.id === Number(id))!;
          return tools.array(key, episode.arrays.get(name.replaceAll('.', '/'))!.read());
        }),
      ];
    } finally {
      data.close();
    }
  },
};

// --- sets of images -------------------------------------------------------------------------------------------------

async function pixelsOf(dataset: ImageDataset): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < dataset.length; i++) for (const value of (await dataset.read(i)).data) all.push(value);
  return all;
}

async function imagesOf(dataset: ImageDataset, grey: boolean) {
  const { height, width } = dataset.size!;
  const shape = [dataset.length, height, width, ...(grey ? [] : [dataset.channels])];
  return { shape, data: await pixelsOf(dataset) };
}

const listOf = (data: ArrayLike<number>) => ({ shape: [data.length], data });

export const idx: FormatCheck = {
  async good({ files, expect, arrays }, tools) {
    if (arrays.value) {
      const array = await parseIdx(tools.bytes(files[0]), files[0]);
      return [same('type', array.type, expect.type), tools.array('value', array)];
    }
    const dataset = await openDataset(tools.path(files[0]));
    return [
      same('channels', dataset.channels, 1),
      tools.array('images', await imagesOf(dataset, true)),
      tools.array('labels', listOf(dataset.labels!)),
    ];
  },
  bad({ files }, tools) {
    return files.length > 1 ? openDataset(tools.path(files[0])) : parseIdx(tools.bytes(files[0]), files[0]);
  },
  reasons: {
    truncated: /end early/,
    trailing: /bytes after the data/,
    magic: /first two bytes/,
    type: /unknown element type/,
    rank0: /rank 0/,
    absurd: /announces [\dx ]+ values/,
    little_endian: /end early|far more/,
    rank255: /rank \d+, accepted are/,
    counts: /differ in number/,
    gzip: /gzip stream is cut/,
    gzip_bomb: /bytes after the data/,
  },
};

export const cifar: FormatCheck = {
  async good({ files, expect, arrays }, tools) {
    const fine = 'fine' in arrays;
    const split = basename(files[0]).startsWith('test') ? 'test' : 'train';
    const dataset = await openDataset({ path: dirname(tools.path(files[0])), split });
    return [
      same('records', dataset.length, expect.records),
      expect.names && same('names', dataset.classNames, expect.names),
      tools.array('images', await imagesOf(dataset, false)),
      tools.array(fine ? 'fine' : 'labels', listOf(dataset.labels!)),
      fine ? tools.array('coarse', listOf(dataset.attributes!.coarse)) : undefined,
    ];
  },
  bad({ files }, tools) {
    const [file] = files;
    // The pickled version is recognised by its folder.
    if (!file.endsWith('.bin')) return openDataset(dirname(tools.path(file)));
    return parseCifar([{ bytes: tools.bytes(file), where: file }], 10);
  },
  reasons: {
    length: /not a multiple of 3073/,
    label: /record \d+ has label \d+, above 9/,
    python_version: /pickled.*binary version/,
  },
};

export const stl10: FormatCheck = {
  async good({ files, expect }, tools) {
    const dataset = await openDataset(dirname(tools.path(files[0])));
    const [images, labels] = files.map((file) => ({ bytes: tools.bytes(file), where: file }));
    const found = parseStl10(images, labels);
    const { red, green, blue } = expect.checks;
    const shift = /^\(row \+ column\) \/\/ 2 \+ (\d+)$/.exec(blue)?.[1];
    if (red !== '2 x row' || green !== '2 x column' || shift === undefined) return ['the case has other checks'];
    const wanted = Uint8Array.from({ length: STL10_SIZE * STL10_SIZE * 3 }, (_, i) => {
      const column = Math.floor(i / 3) % STL10_SIZE;
      const row = Math.floor(i / 3 / STL10_SIZE);
      return [2 * row, 2 * column, Math.floor((row + column) / 2) + Number(shift)][i % 3];
    });
    return [
      same('labels in the file', [...labels.bytes], expect.labels_in_file),
      same('labels', [...found.labels!], expect.labels_zero_based),
      same('pixels', sha256(found.pixels.subarray(0, wanted.length)), sha256(wanted)),
      same('images', found.pixels.length / wanted.length, expect.labels_in_file.length),
      same('data set', [await pixelsOf(dataset), dataset.labels], [[...found.pixels], found.labels]),
    ];
  },
  bad: ({ files }, tools) => parseStl10({ bytes: tools.bytes(files[0]), where: files[0] }),
  reasons: {},
};

export const imageFolder: FormatCheck = {
  async good({ files, expect }, tools) {
    const root = tools.path(files[0]);
    const dataset = await openDataset(root);
    const samples = Array.from({ length: dataset.length }, (_, i) => [
      dataset.nameOf!(i).slice(root.length).replace(/^\//, ''),
      dataset.labels![i],
    ]);
    await pixelsOf(dataset);
    return [same('classes', dataset.classNames, expect.classes), same('samples', samples, expect.samples)];
  },
  bad: ({ files }, tools) => openDataset(tools.path(files[0])),
  reasons: { no_images: /holds no image .*"empty".*\.jpg .*\.png .*\.bmp/ },
};

// --- WebDataset -----------------------------------------------------------------------------------------------------

interface SampleFacts {
  readonly key: string;
  readonly fields: Record<string, string>;
  cls?: number;
  json?: unknown;
}

async function samplesOf(path: string): Promise<SampleFacts[]> {
  const { file, close } = await openShard(path);
  const samples: SampleFacts[] = [];
  try {
    for await (const { key, fields } of webSamples(file, path)) {
      const sample: SampleFacts = { key, fields: {} };
      for (const [field, { offset, size }] of fields) {
        const bytes = await file.read(offset, size);
        sample.fields[field] = sha256(bytes);
        if (field === 'cls') sample.cls = classField(bytes, `${path}:${key}`);
        if (field === 'json') sample.json = jsonField(bytes, `${path}:${key}`);
      }
      samples.push(sample);
    }
  } finally {
    await close();
  }
  return samples;
}

export const webdataset: FormatCheck = {
  async good({ files, expect }, tools) {
    if (expect.expand) {
      return (expect.expand as { url: string; urls: string[] }[]).map(({ url, urls }) =>
        same(url, expandShards(url), urls),
      );
    }
    const samples = await samplesOf(tools.path(files[0]));
    return [
      same('samples', samples.length, expect.samples.length),
      // Facts beside keys and fields stand only where the case has them.
      ...(expect.samples as SampleFacts[]).flatMap((wanted, i) =>
        (Object.keys(wanted) as (keyof SampleFacts)[]).map((key) =>
          same(`sample ${i}: ${key}`, samples[i]?.[key], wanted[key]),
        ),
      ),
    ];
  },
  bad: ({ files }, tools) => samplesOf(tools.path(files[0])),
  reasons: {
    truncated_member: /is cut: the file ends at byte \d+/,
    truncated_header: /header block is cut/,
    checksum: /checksum/,
    duplicate_field: /sample \S+ has the field ".*" twice/,
    traversal: /leaves the archive/,
    absolute: /absolute/,
    windows_path: /backslash or a drive/,
    nul_name: /checksum/,
    huge_size_octal: /\d+ bytes is cut/,
    huge_size_base256: /base 256/,
    negative_size: /negative/,
    size_not_octal: /not octal/,
    pax_length: /PAX record is damaged/,
    pax_count: /PAX record is longer|PAX record is damaged/,
    not_tar: /not a tar archive/,
    empty: /empty/,
    gzip_cut: /gzip stream is cut/,
    pickle_field: /pickled field ".*", which is refused/,
    bad_cls: /cls field is not an integer/,
    bad_json: /json field does not parse/,
  },
};

// --- motion and points ----------------------------------------------------------------------------------------------

export const ntu: FormatCheck = {
  good({ files, expect }, tools) {
    const recording = parseNtu(tools.bytes(files[0]), files[0]);
    const { frames, bodyIds, bodiesPerFrame } = recording;
    const { setup, camera, performer, replication, action } = expect;
    const array = (name: string, data: ArrayLike<number>, ...last: number[]) =>
      tools.array(name, { shape: [frames, bodyIds.length, 25, ...last], data });
    return [
      same('name', ntuLabels(files[0]), { setup, camera, performer, replication, action }),
      same('frames', frames, expect.frames),
      same('bodies_per_frame', bodiesPerFrame, expect.bodies_per_frame),
      same('body_ids', bodyIds, expect.body_ids),
      array('xyz', recording.xyz, 3),
      array('depth_xy', recording.depthXY, 2),
      array('color_xy', recording.colorXY, 2),
      array('orientation_wxyz', recording.orientation, 4),
      array('tracking', recording.tracking),
    ];
  },
  bad: ({ files }, tools) => parseNtu(tools.bytes(files[0]), files[0]),
  reasons: {
    truncated: /line \d+ \(frame \d+\): the file ends/,
    frame_count: /line 1: the number of frames is \d+, at most/,
    joint_count: /the number of joints is \d+, at most/,
    body_count: /the number of bodies is \d+, at most/,
    short_row: /the line of a joint has \d+ numbers instead of 12/,
    not_a_number: /".*" is not a number/,
    negative: /the number of frames is negative/,
    empty: /the file is empty/,
  },
};

export const ply: FormatCheck = {
  good({ files, expect, arrays }, tools) {
    const file = parsePly(tools.bytes(files[0]), files[0]);
    const { xyz, properties } = plyPoints(file, files[0]);
    const lists = [...file.get('face')!.lists.values()][0];
    const faces = Array.from({ length: file.get('face')!.count }, (_, i) =>
      Array.from(lists.values.subarray(lists.starts[i], lists.starts[i + 1])),
    );
    const colours = ['red', 'green', 'blue'].map((name) => properties.get(name));
    const rgb = () => Array.from({ length: xyz.length }, (_, i) => colours[i % 3]![Math.floor(i / 3)]);
    return [
      same('faces', faces, expect.faces),
      expect.properties && same('properties', [...file.get('vertex')!.scalars.keys()], expect.properties),
      ...Object.keys(arrays).map((name) => {
        if (name === 'xyz' || name === 'rgb') {
          return tools.array(name, { shape: [xyz.length / 3, 3], data: name === 'xyz' ? xyz : rgb() });
        }
        return tools.array(name, listOf(properties.get(name)!));
      }),
    ];
  },
  bad: ({ files }, tools) => plyPoints(parsePly(tools.bytes(files[0]), files[0]), files[0]),
  reasons: {
    truncated: /the data end early/,
    count: /the element "vertex" of \d+ items needs \d+ bytes, \d+ are left/,
    negative: /negative count/,
    no_end: /header never ends/,
    type: /unknown type \w+/,
    format: /unknown format/,
    ascii_short: /rows are missing/,
    ascii_word: /".*" in the row of vertex \d+ is not a number/,
    no_xyz: /the vertices have no x; they have /,
    list_length: /the list of \d+ values of face \d+ needs \d+ bytes/,
  },
};

// --- tables ---------------------------------------------------------------------------------------------------------

export const csv: FormatCheck = {
  good({ files, expect }, tools) {
    const { delimiter, columns, rows } = parseCsv(tools.bytes(files[0]), files[0]);
    const value = columns!.indexOf('value');
    return [
      expect.delimiter && same('delimiter', delimiter, expect.delimiter),
      same('rows', [columns, ...rows], expect.rows),
      expect.value_as_number &&
        same(
          'value_as_number',
          rows.map((row) => {
            const number = csvNumber(row[value]);
            return Number.isNaN(number) ? 'NaN' : (number ?? null);
          }),
          expect.value_as_number,
        ),
    ];
  },
  bad: ({ files }, tools) => parseCsv(tools.bytes(files[0]), files[0]),
  reasons: {
    open_quote: /quote opened in line 2 never closes/,
    ragged: /line 3 has 2 fields instead of 3/,
    duplicate_header: /the column "a" twice/,
    nul: /NUL byte in line 2/,
    latin1: /not UTF-8 in line \d+ \(byte \d+\)/,
    long_field: /quote opened in line \d+ never closes/,
    after_quote: /line \d+ has text after a closing quote/,
  },
};

export const videoList: FormatCheck = {
  good({ files, expect }, tools) {
    const entries = parseVideoList(tools.bytes(files[0]), files[0]);
    const width = expect.entries[0].length;
    return [
      same(
        'entries',
        entries.map(({ path, label, isImage }) => [path, label, isImage].slice(0, width)),
        expect.entries,
      ),
    ];
  },
  bad: ({ files }, tools) => parseVideoList(tools.bytes(files[0]), files[0]),
  reasons: { label: /line 2: the label ".*" is not an integer/, empty: /no entries/ },
};

export const jsonl: FormatCheck = {
  good({ files, expect }, tools) {
    const { records, incompleteLastLine } = readJsonl(tools.path(files[0]));
    return [
      same('records', records, expect.records),
      same('incomplete_last_line', incompleteLastLine, expect.incomplete_last_line ?? false),
    ];
  },
  bad: ({ files }, tools) => readJsonl(tools.path(files[0])),
  reasons: {
    middle: /line 2: /,
    trailing: /line 1: there is something after the value/,
    deep: /line 1: nesting too deep/,
    utf8: /line 1: the text is not UTF-8/,
  },
};

const parquetSource = ({ files }: FormatCase, tools: Tools) => bytesSource(tools.bytes(files[0]), files[0]);

export const parquet: FormatCheck = {
  async good(each, tools) {
    const source = parquetSource(each, tools);
    const rows = await readParquet(source);
    const { rowGroups } = await describeParquet(source);
    // 64-bit integers arrive as bigints, and only they do.
    const plain = rows.map((row) =>
      Object.fromEntries(Object.entries(row).map(([key, v]) => [key, typeof v === 'bigint' ? Number(v) : v])),
    );
    return [same('rows', plain, each.expect.rows), same('row_groups', rowGroups, each.expect.row_groups)];
  },
  bad: (each, tools) => readParquet(parquetSource(each, tools)),
  reasons: {
    truncated: /footer != PAR1/,
    footer_length: /metadata length \d+ exceeds/,
    magic: /PAR1/,
  },
};

// --- TensorBoard ----------------------------------------------------------------------------------------------------

/** A value in the words of the cases. */
function inTheirWords(value: EventValue): object {
  const { tag } = value;
  switch (value.kind) {
    case 'scalar':
      return { tag, kind: 'simple_value', value: Number.isNaN(value.value) ? 'nan' : value.value };
    case 'histogram': {
      const { min, max, num, sum, sumSquares, counts } = value;
      return { tag, kind: 'histo', value: { min, max, num, sum, sum_squares: sumSquares, buckets: counts.length } };
    }
    case 'image': {
      const { height, width, colorspace, encoded } = value;
      return { tag, kind: 'image', value: { height, width, colorspace, sha256: sha256(encoded) } };
    }
    case 'tensor':
      return { tag, kind: 'tensor', value: { dtype: value.dtype, plugin: value.plugin, strings: value.strings } };
  }
}

export const tensorboard: FormatCheck = {
  good({ files, expect }, tools) {
    if (expect.vectors) {
      return (expect.vectors as { hex: string; crc32c: number; masked: number }[]).flatMap((vector) => {
        const bytes = Buffer.from(vector.hex, 'hex');
        return [
          same(`crc32c of ${vector.hex}`, crc32c(bytes), vector.crc32c),
          same(`masked crc32c of ${vector.hex}`, maskedCrc32c(bytes), vector.masked),
        ];
      });
    }
    const bytes = tools.bytes(files[0]);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const { records, cutAt } = parseEvents(bytes, files[0]);
    if (expect.whole_records !== undefined) {
      const last = records[records.length - 1];
      return [
        same('whole_records', records.length, expect.whole_records),
        same('cut at', cutAt, last.offset + last.length + 16),
      ];
    }
    const got = records.map(({ offset, length, wallTime, step, fileVersion, values }) => ({
      length,
      length_crc: view.getUint32(offset + 8, true),
      data_crc: view.getUint32(offset + 12 + length, true),
      wall_time: wallTime,
      step,
      ...(fileVersion ? { file_version: fileVersion } : { values: values.map(inTheirWords) }),
    }));
    return [
      same('cut at', cutAt, undefined),
      same('number of records', got.length, expect.records.length),
      ...expect.records.map((record: unknown, i: number) => same(`record ${i}`, got[i], record)),
    ];
  },
  bad: ({ files }, tools) => parseEvents(tools.bytes(files[0]), files[0]),
  reasons: {
    data_crc: /record \d+ \(byte \d+\): the checksum of its payload/,
    length_crc: /record \d+ \(byte \d+\): the checksum of its length/,
    huge_length: /a record of \d+ bytes/,
    protobuf: /record \d+ \(byte \d+\): not a valid protobuf message/,
  },
};

// --- tokenizer ------------------------------------------------------------------------------------------------------

interface EncodingFacts {
  readonly text: string;
  readonly ids: number[];
  readonly tokens: string[];
  readonly offsets: [number, number][];
  readonly decoded: string;
  readonly decoded_skip_special: string;
}

export const tokenizer: FormatCheck = {
  good({ files, expect }, tools) {
    if (expect.encodings) {
      const found = parseTokenizer(tools.bytes(files[0]), files[0]);
      return [
        same('vocab_size', found.size, expect.vocab_size),
        ...(expect.encodings as EncodingFacts[]).flatMap(({ text, ...facts }) => {
          const ids = found.encode(text);
          const got = {
            ids,
            tokens: ids.map((id) => found.token(id)),
            offsets: found.offsets(text, ids),
            decoded: found.decode(ids),
            decoded_skip_special: found.decode(ids, { skipSpecial: true }),
          };
          return [same(JSON.stringify(text), got, facts)];
        }),
      ];
    }
    const text = new TextDecoder().decode(tools.bytes(files[0]));
    const trained = trainBpe(text.split('\n'), {
      vocabSize: expect.vocab_size,
      special: expect.special_tokens,
      minFrequency: expect.min_frequency,
    });
    // Ties are broken as the reference does, so that the first merges are the same ones, ties or not.
    return [
      same('vocab_size', trained.size, expect.vocab_size),
      same('merges_total', trained.merges.length, expect.merges_total),
      same('merges', trained.merges.slice(0, expect.merges.length), expect.merges),
      same('round trip', trained.decode(trained.encode(text)), text),
    ];
  },
  bad: ({ files }, tools) => parseTokenizer(tools.bytes(files[0]), files[0]),
  reasons: {
    truncated: /ends early|not closed/,
    no_model: /it has no model/,
    model_type: /its model is ".*", not BPE/,
    merge_unknown: /merge \d+ of .* is of tokens outside the vocabulary/,
    duplicate_id: /the id \d+ is used twice/,
    negative_id: /the id -\d+ of .* is negative/,
    huge_id: /the id \d+ of .* far more than there are tokens/,
  },
};
