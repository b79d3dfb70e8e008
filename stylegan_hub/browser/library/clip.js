/**
 * CLIP's two towers (Radford et al. 2021), like `CLIPModel` of transformers, with its tensor names.
 */

import { unit } from './linear.js';
import { tensorOf } from './safetensors.js';

/** The common part of both towers: transformer layers with the norm first. */
class Tower {
  constructor(tf, config, tensors, prefix) {
    this.tf = tf;
    this.config = config;
    this.tensors = tensors;
    this.prefix = prefix;
    this.kept = new Map();
  }

  /** A weight on the backend, copied there at its first use. */
  weight(name, shape) {
    const full = name.startsWith('~') ? name.slice(1) : `${this.prefix}.${name}`;
    if (!this.kept.has(full)) {
      const { data, shape: own } = tensorOf(this.tensors, full);
      this.kept.set(full, this.tf.keep(this.tf.tensor(data, shape ?? own)));
    }
    return this.kept.get(full);
  }

  norm(x, name) {
    const { tf } = this;
    const centered = tf.sub(x, tf.mean(x, -1, true));
    const variance = tf.mean(tf.square(centered), -1, true);
    const scaled = tf.mul(centered, tf.rsqrt(tf.add(variance, this.config.layer_norm_eps)));
    return tf.add(tf.mul(scaled, this.weight(`${name}.weight`)), this.weight(`${name}.bias`));
  }

  /** A linear layer on `[n, length, width]`. */
  linear(x, name) {
    const { tf } = this;
    const [n, length, width] = x.shape;
    const flat = tf.reshape(x, [n * length, width]);
    const y = tf.add(tf.matMul(flat, this.weight(`${name}.weight`), false, true),
      this.weight(`${name}.bias`));
    return tf.reshape(y, [n, length, y.shape[1]]);
  }

  attention(x, name, mask) {
    const { tf, config } = this;
    const [n, length, width] = x.shape;
    const heads = config.num_attention_heads;
    const [query, key, value] = ['q', 'k', 'v'].map(part => tf.transpose(
      tf.reshape(this.linear(x, `${name}.${part}_proj`), [n, length, heads, width / heads]),
      [0, 2, 1, 3]));
    let scores = tf.mul(tf.matMul(query, key, false, true), (width / heads) ** -0.5);
    if (mask) scores = tf.add(scores, mask);
    const seen = tf.transpose(tf.matMul(tf.softmax(scores), value), [0, 2, 1, 3]);
    return this.linear(tf.reshape(seen, [n, length, width]), `${name}.out_proj`);
  }

  activation(x) {
    const { tf } = this;
    if (this.config.hidden_act === 'quick_gelu') return tf.mul(x, tf.sigmoid(tf.mul(x, 1.702)));
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
  }

  layers(x, mask) {
    const { tf } = this;
    for (let i = 0; i < this.config.num_hidden_layers; i++) {
      const name = `encoder.layers.${i}`;
      x = tf.add(x, this.attention(this.norm(x, `${name}.layer_norm1`), `${name}.self_attn`, mask));
      const inner = this.linear(this.norm(x, `${name}.layer_norm2`), `${name}.mlp.fc1`);
      x = tf.add(x, this.linear(this.activation(inner), `${name}.mlp.fc2`));
    }
    return x;
  }

  /** Rows of length 1, as plain arrays. */
  async rows(embeddings) {
    const data = await embeddings.data();
    const width = embeddings.shape[1];
    embeddings.dispose();
    return Array.from({ length: data.length / width },
      (_, row) => unit(data.slice(row * width, (row + 1) * width)));
  }

  dispose() {
    for (const weight of this.kept.values()) weight.dispose();
    this.kept.clear();
  }
}

export class TextTower extends Tower {
  constructor(tf, config, tensors, tokenizer) {
    super(tf, config, tensors, 'text_model');
    this.tokenizer = tokenizer;
  }

  /**
   * Embeddings of length 1.
   *
   * @param {string[]} texts
   * @returns {Promise<Float32Array[]>}
   */
  async encode(texts) {
    const { tf } = this;
    const { ids, length } = this.tokenizer.batch(texts);
    const n = texts.length;
    return this.rows(tf.tidy(() => {
      const words = tf.gather(this.weight('embeddings.token_embedding.weight'),
        tf.tensor(ids, [n * length], 'int32'));
      const places = tf.slice(this.weight('embeddings.position_embedding.weight'), 0, length);
      let x = tf.add(tf.reshape(words, [n, length, words.shape[1]]), places);
      const later = new Float32Array(length * length);
      for (let i = 0; i < length; i++) later.fill(-1e9, i * length + i + 1, (i + 1) * length);
      x = this.norm(this.layers(x, tf.tensor(later, [length, length])), 'final_layer_norm');
      const ends = Int32Array.from({ length: n }, (_, row) =>
        row * length + ids.subarray(row * length, (row + 1) * length).indexOf(this.tokenizer.end));
      const pooled = tf.gather(tf.reshape(x, [n * length, x.shape[2]]), tf.tensor(ends, [n], 'int32'));
      return tf.matMul(pooled, this.weight('~text_projection.weight'), false, true);
    }));
  }
}

export class VisionTower extends Tower {
  constructor(tf, config, tensors) {
    super(tf, config, tensors, 'vision_model');
  }

  /**
   * The embedding of length 1 of a picture in [-1, 1].
   *
   * @param {object} image a tensor `[1, side, side, 3]`, with the side of the generator's pictures
   *   or `config.sketch`; not disposed
   * @returns {Promise<Float32Array>}
   */
  async encode(image) {
    const { tf, config } = this;
    const [row] = await this.rows(tf.tidy(() => {
      const size = this.weight(image.shape[1] === config.sketch ? '~resize_sketch' : '~resize');
      const colors = resized(tf, image, size, size);
      const pixels = tf.div(tf.sub(tf.div(tf.add(colors, 1), 2), tf.tensor(config.mean)),
        tf.tensor(config.std));
      const kernel = tf.transpose(this.weight('embeddings.patch_embedding.weight'), [2, 3, 1, 0]);
      const patches = tf.conv2d(pixels, kernel, config.patch_size, 'valid');
      const width = patches.shape[3];
      const first = tf.reshape(this.weight('embeddings.class_embedding'), [1, 1, width]);
      const all = tf.concat([first, tf.reshape(patches, [1, -1, width])], 1);
      const x = this.norm(tf.add(all, this.weight('embeddings.position_embedding.weight')),
        'pre_layrnorm');
      const pooled = this.norm(tf.slice(this.layers(x), [0, 0, 0], [1, 1, width]),
        'post_layernorm');
      return tf.matMul(tf.reshape(pooled, [1, width]), this.weight('~visual_projection.weight'),
        false, true);
    }));
    return row;
  }
}

/**
 * Resizes a picture with a matrix for its rows and one for its columns.
 *
 * @param {object} tf
 * @param {object} image `[1, h, w, 3]`
 * @param {object} rows `[height, h]`
 * @param {object} columns `[width, w]`
 * @returns {object} `[1, height, width, 3]`
 */
export function resized(tf, image, rows, columns) {
  const [, h, w] = image.shape;
  const colors = tf.transpose(tf.reshape(image, [h, w, 3]), [2, 0, 1]);
  const repeat = matrix => tf.tile(tf.expandDims(matrix, 0), [3, 1, 1]);
  const high = tf.matMul(repeat(rows), colors);
  const both = tf.matMul(high, repeat(columns), false, true);
  return tf.expandDims(tf.transpose(both, [1, 2, 0]), 0);
}
