import type { NamesOf } from './hf-folder.js';

/**
 * Names of V-JEPA 2: those of the official code and those of Hugging Face (specs/vjepa2.md 6.2; checked against
 * transformers 5.23, `models/vjepa2`). What `writeRenamed` and `readRenamed` need.
 */

/** A layer's official name, without `.weight` or `.bias`, and Hugging Face's. */
type Layers = readonly (readonly [string, readonly string[]])[];

interface Section {
  /** What both names start with, `#` standing for the number of a block. */
  readonly official: string;
  readonly huggingFace: string;
  readonly layers: Layers;
}

const mlp: Layers = [
  ['mlp.fc1', ['mlp.fc1']],
  ['mlp.fc2', ['mlp.fc2']],
];
const block: Layers = [
  ['norm1', ['norm1']],
  ['attn.qkv', ['attention.query', 'attention.key', 'attention.value']],
  ['attn.proj', ['attention.proj']],
  ['norm2', ['norm2']],
  ...mlp,
];

const ENCODER: readonly Section[] = [
  {
    official: '',
    huggingFace: 'encoder.',
    layers: [
      ['patch_embed.proj', ['embeddings.patch_embeddings.proj']],
      ['norm', ['layernorm']],
    ],
  },
  { official: 'blocks.#.', huggingFace: 'encoder.layer.#.', layers: block },
];

const PREDICTOR: readonly Section[] = [
  {
    official: '',
    huggingFace: 'predictor.',
    layers: [
      ['predictor_embed', ['embeddings.predictor_embeddings']],
      ['predictor_norm', ['layernorm']],
      ['predictor_proj', ['proj']],
    ],
  },
  { official: 'predictor_blocks.#.', huggingFace: 'predictor.layer.#.', layers: block },
];

const CLASSIFIER: readonly Section[] = [
  { official: '', huggingFace: '', layers: [['linear', ['classifier']]] },
  {
    official: 'pooler.blocks.#.',
    huggingFace: 'pooler.self_attention_layers.#.',
    layers: [
      ['norm1', ['layer_norm1']],
      ['attn.qkv', ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj']],
      ['attn.proj', ['self_attn.out_proj']],
      ['norm2', ['layer_norm2']],
      ...mlp,
    ],
  },
  {
    official: 'pooler.cross_attention_block.',
    huggingFace: 'pooler.cross_attention_layer.',
    layers: [
      ['norm1', ['layer_norm1']],
      ['xattn.q', ['cross_attn.q_proj']],
      ['xattn.kv', ['cross_attn.k_proj', 'cross_attn.v_proj']],
      ['norm2', ['layer_norm2']],
      ...mlp,
    ],
  },
];

function lookUp(sections: readonly Section[], name: string): string[] | undefined {
  const [, stem, kind] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  if (stem === undefined) return undefined;
  for (const { official, huggingFace, layers } of sections) {
    const pattern = new RegExp(`^${official.replaceAll('.', '\\.').replace('#', '(0|[1-9]\\d*)')}(.+)$`);
    const found = pattern.exec(stem);
    const layer = found && layers.find(([own]) => own === found[found.length - 1]);
    if (layer) return layer[1].map((own) => `${huggingFace.replace('#', found[1])}${own}.${kind}`);
  }
  return undefined;
}

/** All mask tokens of the predictor are one tensor [tokens, 1, 1, width] there. */
export const MASK_TOKENS = 'predictor.embeddings.mask_tokens';
export const isMaskToken = (official: string): boolean => official.startsWith('mask_tokens.');

export const encoderNames: NamesOf = (official) => lookUp(ENCODER, official);
/** Names of the predictor's parameters, mask tokens apart. */
export const predictorNames: NamesOf = (official) => lookUp(PREDICTOR, official);
export const classifierNames: NamesOf = (official) =>
  official === 'pooler.query_tokens' ? [official] : lookUp(CLASSIFIER, official);
