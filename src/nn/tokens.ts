import { mulDims } from '../graph/dims.js';
import { broadcastTo, expandDims, reshape } from '../graph/ops/move.js';
import { operatorError, type Tensor } from '../graph/tensor.js';
import type { DropPath, Select } from './transformer.js';
import { type VitConfig, vit } from './vit.js';
import type { Weights } from './weights.js';

/** An input cut into tokens, and an encoder of them: all that methods over masked tokens know of a modality. */
export interface Tokens {
  /** Number of tokens of a sample. */
  readonly count: number;
  /** Representations [batch, tokens, width] after the final norm; of `visible` tokens [batch * sets, kept, width]. */
  encode(w: Weights, options?: EncodeOptions): Tensor;
}

export interface EncodeOptions {
  /** Sets of tokens that see each other and nothing else [batch, sets, kept], int32; all tokens by default. */
  readonly visible?: Tensor;
  /** [batch, tokens, 1], 1 where what a token holds is replaced by the parameter `mask_token` [1, 1, width]; else 0. */
  readonly replaced?: Tensor;
  /** Tokens to return. */
  readonly select?: Select;
  readonly drop?: DropPath;
  /** Sees the embeddings (0) and the output of each block (1, 2, ...), before the final norm. */
  readonly onState?: (state: Tensor, index: number) => void;
}

/** The patches of images [batch, channels, height, width] (or clips, with the frames before the height) for a ViT. */
export function vitTokens(images: Tensor, config: VitConfig): Tokens {
  const sizes = images.shape.slice(2) as number[];
  const patches = sizes.length === 3 ? [config.tubeletSize ?? 1] : [];
  const count = [...patches, config.patchSize, config.patchSize].reduce((n, size, i) => (n * sizes[i]) / size, 1);
  return {
    count,
    encode(w, { visible, replaced, ...options } = {}) {
      if (replaced) throw operatorError('vit', 'drops hidden patches; it cannot replace them by a vector', replaced);
      if (!visible) return vit(images, w, config, options);
      const [batch, sets, kept] = visible.shape;
      if (sets === 1) return vit(images, w, config, { visible: reshape(visible, [batch, kept]), ...options });
      const rows = mulDims(batch, sets);
      const one = images.shape.slice(1);
      const repeated = reshape(broadcastTo(expandDims(images, 1), [batch, sets, ...one]), [rows, ...one]);
      return vit(repeated, w, config, { visible: reshape(visible, [rows, kept]), ...options });
    },
  };
}
