import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import type { HostTensor } from '../../src/base/tensor.js';
import { parseTransforms } from '../../src/data/transforms.js';
import { loadEncoder, readTorchCheckpoint } from '../../src/hub/encoder-files.js';
import { withFile } from '../../src/hub/files.js';
import { readHuggingFaceFolder, writeHuggingFaceFolder } from '../../src/hub/hf-ijepa.js';
import {
  encoderShapes,
  huggingFaceNames,
  officialName,
  predictorShapes,
  stripPrefixes,
} from '../../src/hub/ijepa-names.js';
import { imageProcessorConfig, parseImageProcessor } from '../../src/hub/image-processor.js';
import { PRODUCER } from '../../src/hub/own.js';
import { loadFloat32 } from '../../src/hub/raw.js';
import { openSafetensors } from '../../src/hub/safetensors.js';
import { openWeights, readJsonFile, writeSafetensors } from '../../src/hub/weights.js';
import { predictorSpec } from '../../src/nn/predictor.js';
import { vitConfig, vitSpec } from '../../src/nn/vit.js';
import { assertRefused, golden } from './cases.js';

const area = join(golden, 'hf-ijepa');
const folder = mkdtempSync(join(tmpdir(), 'jepa-hf-'));
after(() => rmSync(folder, { recursive: true }));

const table = readJsonFile(join(area, 'cases.json')).name_mapping as unknown as {
  official_to_hugging_face: [string, string[]][];
};

test('the name table of the reference holds both ways', () => {
  assert.ok(table.official_to_hugging_face.length > 20);
  for (const [official, names] of table.official_to_hugging_face) {
    assert.deepEqual(huggingFaceNames(official), names);
    names.forEach((name, part) => {
      assert.deepEqual(officialName(name), { name: official, part, of: names.length });
      assert.deepEqual(officialName(`ijepa.${name}`), { name: official, part, of: names.length });
    });
  }
  for (const stranger of [
    '',
    'cls_token',
    'blocks.0.attn.qkv',
    'blocks.x.norm1.weight',
    'blocks.01.norm1.weight',
    'fc_norm.weight',
    'blocks.0.norm3.bias',
  ]) {
    assert.equal(huggingFaceNames(stranger), undefined, stranger);
  }
  for (const stranger of [
    'pooler.dense.weight',
    'classifier.bias',
    'encoder.layer.0.attention.q_proj.weight',
    'encoder.layer.-1.output.dense.bias',
  ]) {
    assert.equal(officialName(stranger), undefined, stranger);
  }
});

test('names of any encoder map to Hugging Face and back', () => {
  const config = fc.record({ depth: fc.integer({ min: 1, max: 40 }), qkvBias: fc.boolean() }).map((some) => ({
    imageSize: [28, 42] as const,
    patchSize: 7,
    channels: 1,
    width: 8,
    heads: 2,
    mlpWidth: 20,
    eps: 1e-6,
    ...some,
  }));
  fc.assert(
    fc.property(config, (each) => {
      const all = new Set<string>();
      for (const name of encoderShapes(each).keys()) {
        huggingFaceNames(name)!.forEach((theirs, part) => {
          assert.equal(officialName(theirs)!.name, name);
          assert.equal(officialName(theirs)!.part, part);
          assert.ok(!all.has(theirs));
          all.add(theirs);
        });
      }
      assert.equal(all.size, 5 + each.depth * (each.qkvBias ? 16 : 13));
    }),
    { numRuns: 20 },
  );
});

const officialWeights = (entry: string) =>
  withFile(join(area, 'pth/official-expected.safetensors'), (source) => {
    const weights = new Map<string, HostTensor>();
    for (const [name, tensor] of openSafetensors(source).tensors) {
      const prefix = `${entry}/module.`;
      if (name.startsWith(prefix)) weights.set(name.slice(prefix.length), loadFloat32(tensor, name));
    }
    return weights;
  });

const sorted = <T>(map: ReadonlyMap<string, T>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

test('names and shapes are those of the modules', () => {
  const config = vitConfig({ imageSize: [28, 42], patchSize: 7, channels: 1, width: 8, heads: 2, depth: 2 });
  const shapesOf = (spec: ReadonlyMap<string, { shape: readonly number[] }>) =>
    Array.from(spec, ([name, { shape }]) => [name, shape]);
  assert.deepEqual([...encoderShapes(config)], shapesOf(vitSpec(config)));
  const predictor = { ...config, encoderWidth: 8, grid: [4, 6] as const, width: 4 };
  assert.deepEqual([...predictorShapes(predictor)], shapesOf(predictorSpec(predictor)));
});

test('a Hugging Face folder gives the official weights that it was made from', () => {
  const { weights, config, pooler, classifier, transforms } = readHuggingFaceFolder(join(area, 'model'));
  assert.deepEqual(sorted(weights), sorted(officialWeights('encoder')));
  assert.deepEqual(config, {
    imageSize: [28, 28],
    patchSize: 7,
    channels: 3,
    width: 32,
    depth: 2,
    heads: 4,
    mlpWidth: 64,
    qkvBias: true,
    eps: 1e-6,
  });
  assert.equal(pooler, undefined);
  assert.equal(classifier, undefined);
  assert.deepEqual(
    transforms?.map(({ kind }) => kind),
    ['resize', 'normalize'],
  );
});

test('prefixed, sharded, bfloat16 and pooler folders are read', () => {
  const classifier = readHuggingFaceFolder(join(area, 'classifier'));
  assert.equal(classifier.config.eps, 1e-3);
  assert.deepEqual(classifier.labels, ['zero', 'one', 'two', 'drei', 'quattro']);
  assert.deepEqual(classifier.classifier?.weight.shape, [5, 32]);
  const sharded = readHuggingFaceFolder(join(area, 'sharded'));
  assert.deepEqual(sorted(sharded.weights), sorted(classifier.weights));
  assert.deepEqual(sharded.classifier, classifier.classifier);
  assert.deepEqual(readHuggingFaceFolder(join(area, 'pooler')).pooler?.weight.shape, [32, 32]);
  const narrow = readHuggingFaceFolder(join(area, 'bfloat16')).weights;
  for (const [name, { data }] of readHuggingFaceFolder(join(area, 'model')).weights) {
    const got = narrow.get(name)!.data;
    data.forEach((value, i) => {
      assert.ok(Math.abs(got[i] - value) <= Math.abs(value) / 256, `${name}[${i}]`);
    });
  }
});

/** Of a safetensors file: the header's text without its padding, and all that follows. */
function partsOf(path: string): { readonly header: string; readonly data: Buffer } {
  const bytes = readFileSync(path);
  const end = 8 + Number(bytes.readBigUInt64LE());
  return { header: bytes.toString('utf8', 8, end).trimEnd(), data: bytes.subarray(end) };
}

test('written folders equal those of the reference, but for who wrote the weights', () => {
  for (const name of ['model', 'classifier', 'pooler', 'bfloat16']) {
    const target = join(folder, `written-${name}`);
    const encoder = readHuggingFaceFolder(join(area, name));
    const reference = readJsonFile(join(area, name, 'config.json'));
    writeHuggingFaceFolder(target, encoder, {
      dtype: name === 'bfloat16' ? 'BF16' : 'F32',
      extra: { transformers_version: reference.transformers_version },
    });
    const written = partsOf(join(target, 'model.safetensors'));
    const official = partsOf(join(area, name, 'model.safetensors'));
    assert.equal(written.header.replace(`,"producer":"${PRODUCER}"`, ''), official.header, name);
    assert.deepEqual(written.data, official.data, name);
    assert.deepEqual(readJsonFile(join(target, 'config.json')), reference, name);
    if (encoder.transforms) {
      const written = readJsonFile(join(target, 'preprocessor_config.json'));
      for (const [key, value] of Object.entries(readJsonFile(join(area, name, 'preprocessor_config.json'))))
        assert.deepEqual(written[key], value, `${name} ${key}`);
    }
    assert.deepEqual(readHuggingFaceFolder(target), encoder);
  }
});

test('weights above the limit are sharded', () => {
  const encoder = readHuggingFaceFolder(join(area, 'model'));
  writeHuggingFaceFolder(join(folder, 'shards'), encoder, { maxShardBytes: 30_000 });
  const file = openWeights(join(folder, 'shards'));
  assert.ok(file.files.length > 2);
  file.close();
  assert.deepEqual(readHuggingFaceFolder(join(folder, 'shards')).weights, encoder.weights);
});

test('official checkpoints give encoders and predictor under bare names', () => {
  for (const name of ['official-zip.pth.tar', 'official-legacy.pth.tar']) {
    const path = join(area, 'pth', name);
    const target = readTorchCheckpoint(path, { heads: 4 });
    assert.deepEqual(sorted(target.weights), sorted(officialWeights('target_encoder')));
    assert.deepEqual(sorted(target.predictor!.weights), sorted(officialWeights('predictor')));
    assert.equal(target.facts?.epoch, 3);
    const context = loadEncoder(path, { heads: 4, entry: 'encoder' });
    assert.deepEqual(sorted(context.weights), sorted(officialWeights('encoder')));
    assert.deepEqual(context.config, readHuggingFaceFolder(join(area, 'model')).config);
    assertRefused(
      name,
      () => loadEncoder(path),
      /target_encoder: weights of width 32 do not tell the number of attention heads/,
    );
  }
  assertRefused(
    'no encoder',
    () => loadEncoder(join(area, 'pth/mixed-zip.pth')),
    /no patch_embed\.proj\.weight|is not a tensor/,
  );
});

test('timm and official names in safetensors are read; other functions are refused', () => {
  const weights = officialWeights('encoder');
  const path = join(folder, 'timm.safetensors');
  const refused = (change: (copy: Map<string, HostTensor>) => void, reason: RegExp) => {
    const copy = new Map(weights);
    change(copy);
    writeSafetensors(path, copy);
    assertRefused(String(reason), () => loadEncoder(path, { heads: 4 }), reason);
  };
  const some = { dtype: 'float32' as const, shape: [2, 32], data: new Float32Array(64) };
  writeSafetensors(path, new Map([...weights].map(([name, tensor]) => [`module.backbone.${name}`, tensor])));
  assert.deepEqual(sorted(loadEncoder(path, { heads: 4 }).weights), sorted(weights));
  refused((copy) => copy.set('fc_norm.weight', some), /global_pool='avg'/);
  refused((copy) => copy.set('cls_token', some), /class token/);
  refused((copy) => copy.delete('blocks.1.norm2.bias'), /1 missing: "blocks.1.norm2.bias"/);
  refused((copy) => copy.set('reg_token', some), /1 unexpected: "reg_token" \[2,32\]/);
  refused((copy) => copy.set('norm.weight', some), /1 of another shape: "norm.weight" is \[2,32\] instead of \[32\]/);
  refused(
    (copy) => copy.set('norm.weight', { dtype: 'int32', shape: [32], data: new Int32Array(32) }),
    /"norm.weight": type I32 where floating-point/,
  );
  assert.throws(
    () =>
      stripPrefixes(
        new Map([
          ['a', 1],
          ['module.a', 2],
        ]),
        'x',
      ),
    /differ only in their prefix/,
  );
});

test('folders that do not fit their configuration say what is wrong', () => {
  const broken = join(folder, 'broken');
  const refused = (file: string, change: (json: Record<string, unknown>) => unknown, reason: RegExp) => {
    rmSync(broken, { recursive: true, force: true });
    cpSync(join(area, 'classifier'), broken, { recursive: true });
    const json = readJsonFile(join(broken, file));
    writeFileSync(join(broken, file), JSON.stringify(change(json) ?? json));
    assertRefused(String(reason), () => readHuggingFaceFolder(broken), reason);
  };
  refused(
    'config.json',
    (json) => {
      json.num_hidden_layers = 3;
    },
    /16 missing: "encoder.layer.2.layernorm_before.weight", .*, \.\.\./,
  );
  refused(
    'config.json',
    (json) => {
      json.num_hidden_layers = 100_000;
    },
    /"num_hidden_layers" is missing or not an integer from 1 to 1000/,
  );
  refused(
    'config.json',
    (json) => {
      json.num_hidden_layers = 1;
    },
    /16 unexpected: "encoder.layer.1/,
  );
  refused(
    'config.json',
    (json) => {
      json.image_size = 35;
    },
    /"embeddings.position_embeddings" is \[1,16,32\] instead of \[1,25,32\]/,
  );
  refused(
    'config.json',
    (json) => {
      json.qkv_bias = false;
    },
    /6 unexpected/,
  );
  refused(
    'config.json',
    (json) => {
      json.model_type = 'vit';
    },
    /"model_type" is "vit"/,
  );
  refused(
    'config.json',
    (json) => {
      json.num_attention_heads = 5;
    },
    /does not divide into 5 heads/,
  );
  refused(
    'config.json',
    (json) => {
      json.num_hidden_layers = 1e9;
    },
    /integer from 1 to/,
  );
  refused(
    'config.json',
    (json) => {
      json.hidden_act = 'relu';
    },
    /"hidden_act" "relu"/,
  );
  refused(
    'config.json',
    (json) => {
      json.patch_size = 'x';
    },
    /"patch_size"/,
  );
  refused(
    'config.json',
    (json) => {
      json.image_size = [28];
    },
    /"image_size" \[28\]/,
  );
  refused('config.json', () => [], /an object was expected/);
  refused(
    'preprocessor_config.json',
    (json) => {
      json.resample = 1;
    },
    /"resample" 1 is not supported/,
  );
  refused(
    'preprocessor_config.json',
    (json) => {
      json.size = {};
    },
    /neither height and width nor shortest_edge/,
  );
  refused(
    'preprocessor_config.json',
    (json) => {
      json.image_std = undefined;
    },
    /"image_std" is missing/,
  );
  mkdirSync(join(folder, 'none'));
  assertRefused(
    'empty',
    () => readHuggingFaceFolder(join(folder, 'none')),
    /cannot open .*config.json: it does not exist/,
  );
});

test('image processors are written and read back', () => {
  const steps = parseTransforms([
    { kind: 'resize', size: 256, fit: 'shortEdge', filter: 'bilinear' },
    { kind: 'centerCrop', size: [224, 200] },
    { kind: 'normalize', mean: [0.1, 0.2, 0.3], std: [1, 2, 3] },
  ]);
  const config = imageProcessorConfig(steps, 3);
  assert.deepEqual(config.size, { shortest_edge: 256 });
  assert.deepEqual(config.crop_size, { height: 224, width: 200 });
  assert.deepEqual(parseImageProcessor(config, 'x'), steps);
  const grey = imageProcessorConfig(parseTransforms([{ kind: 'normalize', mean: [0.5], std: [0.25] }]), 1);
  assert.deepEqual([grey.do_convert_rgb, grey.do_resize, grey.image_mean], [false, false, [0.5]]);
  assert.throws(() => imageProcessorConfig(parseTransforms([{ kind: 'grayscale' }]), 3), /cannot say grayscale/);
  // A bare number: a square for ViT, the shorter edge for processors that crop.
  const [square] = parseImageProcessor({ image_processor_type: 'ViTImageProcessor', size: 16 }, 'x');
  assert.deepEqual(square, { kind: 'resize', size: 16, fit: 'stretch', filter: 'bilinear' });
  const [edge] = parseImageProcessor({ feature_extractor_type: 'CLIPFeatureExtractor', size: 16, resample: 3 }, 'x');
  assert.deepEqual(edge, { kind: 'resize', size: 16, fit: 'shortEdge', filter: 'bicubic' });
  // Another rescale factor: 1/127.5 makes 0..2; minus 1 gives -1..1, as mean 0.5 and std 0.5 do with 1/255.
  const [normalize] = parseImageProcessor(
    { rescale_factor: 1 / 127.5, do_normalize: true, image_mean: [1], image_std: [1] },
    'x',
  );
  assert.deepEqual(normalize, { kind: 'normalize', mean: [0.5], std: [0.5] });
});
