import { JepaError } from '../base/errors.js';
import { float32, type HostTensor, int32 } from '../base/tensor.js';
import type { PermutationDraws, UniformDraws } from './draws.js';

/**
 * Masks over the tokens of a skeleton: token `segment * joints + joint` is one joint during `segment` frames. Joints that
 * move are worth predicting, so motion decides what is hidden (MAMP, Mao et al. 2023; S-JEPA, Abdelfattah and Alahi 2024).
 */
export type SkeletonMasks = SkeletonHiding & {
  /** Frames of one token. */
  readonly segment: number;
};

/** What is hidden. */
export type SkeletonHiding = {
  /** Share of the tokens (joints, segments) that is hidden. */
  readonly ratio: number;
} & (
  | {
      /** Gumbel noise on a softmax of the motion (MAMP); a lower temperature (.75 to .8) hides moving joints more surely. */
      readonly kind: 'motion';
      readonly temperature: number;
    }
  /** Drawn in proportion to the motion. */
  | { readonly kind: 'proportional' }
  /** Any tokens. */
  | { readonly kind: 'random' }
  /** Some joints, throughout. */
  | { readonly kind: 'joints' }
  /** All joints, at the end of the clip. */
  | { readonly kind: 'future' }
);

/** One context and one block of targets a sample: [batch, 1, visible] and [batch, 1, hidden]. */
export interface SkeletonMasked {
  readonly context: HostTensor<'int32'>;
  readonly targets: HostTensor<'int32'>;
}

/** Frames, joints and coordinates of skeletons [batch, frames, joints, coordinates] cut into segments; throws where they do not fit. */
function cut({ shape }: HostTensor, segment: number): readonly [number, number, number, number] {
  const [batch, frames, joints, coordinates] = shape;
  if (shape.length !== 4 || !(segment >= 1) || frames % segment !== 0) {
    throw new JepaError(
      `masks: skeletons [${shape.join(', ')}] do not divide into segments of ${segment} frames; resample them to a multiple`,
    );
  }
  return [batch, frames / segment, joints, coordinates];
}

/**
 * Motion of each token, [batch, segments * joints]: the mean change of its numbers since the segment before; the first
 * segment has that of the second (MAMP). Zero where there is one segment only.
 */
export function motionOfTokens(skeletons: HostTensor<'float32'>, segment: number): HostTensor<'float32'> {
  const [batch, segments, joints, coordinates] = cut(skeletons, segment);
  const { data } = skeletons;
  const row = joints * coordinates;
  const motion = new Float32Array(batch * segments * joints);
  for (let sample = 0; sample < batch; sample++) {
    for (let s = 1; s < segments; s++) {
      for (let joint = 0; joint < joints; joint++) {
        let sum = 0;
        for (let frame = 0; frame < segment; frame++) {
          const at = ((sample * segments + s) * segment + frame) * row + joint * coordinates;
          for (let c = 0; c < coordinates; c++) sum += Math.abs(data[at + c] - data[at + c - segment * row]);
        }
        motion[(sample * segments + s) * joints + joint] = sum / (segment * coordinates);
      }
    }
    if (segments > 1) {
      const first = sample * segments * joints;
      motion.copyWithin(first, first + joints, first + 2 * joints);
    }
  }
  return float32([batch, segments * joints], motion);
}

/** softmax of motion / (temperature * largest motion of the sample): [batch, tokens]. */
export function motionProbabilities(motion: HostTensor<'float32'>, temperature: number): HostTensor<'float32'> {
  return eachRow(motion, (row, out) => {
    const scale = largest(row) * temperature + 1e-10;
    // Divided by the largest, no exponent is above 1 / temperature.
    let total = 0;
    for (let i = 0; i < row.length; i++) total += Math.exp(row[i] / scale);
    for (let i = 0; i < row.length; i++) out[i] = Math.exp(row[i] / scale) / total;
  });
}

/** Sort keys log p + Gumbel noise from uniforms; the smallest stay visible. Both [batch, tokens]. */
export function gumbelKeys(
  probabilities: HostTensor<'float32'>,
  uniforms: HostTensor<'float32'>,
): HostTensor<'float32'> {
  const keys = probabilities.data.map((p, i) => Math.log(p) - Math.log(-Math.log(uniforms.data[i] + 1e-10) + 1e-10));
  return float32(probabilities.shape, keys);
}

/**
 * Probabilities in proportion to the path that joints cover, [batch, segments * joints]: the sum of |dx| + |dy| + |dz| over the
 * frames of the segment, the step into it included, plus 1e-6. The first frame has no step.
 */
export function pathProbabilities(skeletons: HostTensor<'float32'>, segment: number): HostTensor<'float32'> {
  const [batch, segments, joints, coordinates] = cut(skeletons, segment);
  const { data } = skeletons;
  const row = joints * coordinates;
  const path = new Float32Array(batch * segments * joints);
  for (let sample = 0; sample < batch; sample++) {
    for (let frame = 1; frame < segments * segment; frame++) {
      const token = (sample * segments + Math.floor(frame / segment)) * joints;
      const at = (sample * segments * segment + frame) * row;
      for (let i = 0; i < row; i++) {
        path[token + Math.floor(i / coordinates)] += Math.abs(data[at + i] - data[at + i - row]);
      }
    }
  }
  return eachRow(float32([batch, segments * joints], path), (from, out) => {
    let total = 0;
    for (const value of from) total += value + 1e-6;
    for (let i = 0; i < from.length; i++) out[i] = (from[i] + 1e-6) / total;
  });
}

/** Tokens in the order of rising keys [batch, tokens]; equal ones by index. */
export function orderOfKeys({ shape: [batch, tokens], data }: HostTensor<'float32'>): HostTensor<'int32'> {
  const order = new Int32Array(batch * tokens);
  for (let sample = 0; sample < batch; sample++) {
    const keys = data.subarray(sample * tokens, (sample + 1) * tokens);
    const row = Int32Array.from(keys, (_, i) => i).sort((a, b) => keys[a] - keys[b] || a - b);
    order.set(row, sample * tokens);
  }
  return int32([batch, tokens], order);
}

/** Splits an order [batch, tokens]: its first `keep` tokens are context, the rest targets, both ascending. */
export function splitOrder({ shape: [batch, tokens], data }: HostTensor<'int32'>, keep: number): SkeletonMasked {
  if (keep < 1 || keep >= tokens) {
    throw new JepaError(`masks: ${keep} of ${tokens} tokens stay visible; context and target need at least one each`);
  }
  const context = new Int32Array(batch * keep);
  const targets = new Int32Array(batch * (tokens - keep));
  for (let sample = 0; sample < batch; sample++) {
    const row = data.subarray(sample * tokens, (sample + 1) * tokens);
    context.set(row.slice(0, keep).sort(), sample * keep);
    targets.set(row.slice(keep).sort(), sample * (tokens - keep));
  }
  return { context: int32([batch, 1, keep], context), targets: int32([batch, 1, tokens - keep], targets) };
}

/**
 * Masks for skeletons [batch, frames, joints, 3]. As many tokens are visible in every sample: floor(n (1 - ratio)) of the
 * tokens, or of the joints or segments where these are hidden as a whole. Throws where nothing would be visible or hidden.
 */
export function sampleSkeletonMasks(
  masks: SkeletonMasks,
  skeletons: HostTensor<'float32'>,
  draws: UniformDraws & PermutationDraws,
): SkeletonMasked {
  const [batch, segments, joints] = cut(skeletons, masks.segment);
  const tokens = segments * joints;
  const kept = (count: number): number => Math.trunc(count * (1 - masks.ratio));
  const uniforms = (): HostTensor<'float32'> =>
    float32(
      [batch, tokens],
      Float32Array.from({ length: batch * tokens }, () => draws.uniform()),
    );
  switch (masks.kind) {
    case 'motion': {
      const probabilities = motionProbabilities(motionOfTokens(skeletons, masks.segment), masks.temperature);
      return splitOrder(orderOfKeys(gumbelKeys(probabilities, uniforms())), kept(tokens));
    }
    case 'proportional':
      // Rising log p + Gumbel noise, read from its end, is a draw without replacement in proportion to p.
      return splitOrder(orderOfKeys(gumbelKeys(pathProbabilities(skeletons, masks.segment), uniforms())), kept(tokens));
    case 'random':
      return splitOrder(orderOfKeys(uniforms()), kept(tokens));
    case 'joints': {
      const order = new Int32Array(batch * tokens);
      for (let sample = 0; sample < batch; sample++) {
        // All tokens of one joint after another.
        draws.permutation(joints).forEach((joint, place) => {
          for (let s = 0; s < segments; s++) order[sample * tokens + place * segments + s] = s * joints + joint;
        });
      }
      return splitOrder(int32([batch, tokens], order), kept(joints) * segments);
    }
    case 'future': {
      const order = Int32Array.from({ length: batch * tokens }, (_, i) => i % tokens);
      return splitOrder(int32([batch, tokens], order), kept(segments) * joints);
    }
  }
}

function eachRow(
  { shape, data }: HostTensor<'float32'>,
  fill: (row: Float32Array, out: Float32Array) => void,
): HostTensor<'float32'> {
  const width = shape[1];
  const out = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += width) fill(data.subarray(at, at + width), out.subarray(at, at + width));
  return float32(shape, out);
}

function largest(values: Float32Array): number {
  let max = 0;
  for (const value of values) if (value > max) max = value;
  return max;
}
