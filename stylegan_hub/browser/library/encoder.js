/**
 * The encoders e4e and pSp (Tov et al. 2021, Richardson et al. 2021), like
 * `stylegan_hub/models/encoder.py`: a picture to ws that approximately render it.
 */

import { resized } from './clip.js';
import { equalized } from './linear.js';
import { tensorOf } from './safetensors.js';

const BATCH_NORM_EPS = 1e-5;

export class Encoder {
  /**
   * @param {object} tf
   * @param {object} config as `EncoderConfig` in Python
   * @param {import('./safetensors.js').Tensors} tensors
   */
  constructor(tf, config, tensors) {
    this.tf = tf;
    this.config = config;
    this.tensors = tensors;
  }

  /**
   * @param {Float32Array} pixels `[h, w, 3]` in [-1, 1], of the generator's size
   * @param {[number, number]} size its height and width
   * @returns {Promise<Float32Array>} ws
   */
  async ws(pixels, size) {
    const { tf, config } = this;
    const heads = tf.tidy(() => {
      const image = resized(tf, tf.tensor(pixels, [1, ...size, 3]),
        this.#tensor('resize_rows'), this.#tensor('resize_columns'));
      const levels = this.#pyramid(image);
      return Array.from({ length: config.num_ws }, (_, index) => {
        const level = config.levels.filter(first => index >= first).length;
        return this.#head(levels[level], `styles.${index}`);
      });
    });
    const average = tensorOf(this.tensors, 'latent_avg').data;
    const ws = average.slice();
    const width = ws.length / config.num_ws;
    let first = null;
    for (const [index, head] of heads.entries()) {
      const features = await head.data();
      head.dispose();
      const w = equalized(features, tensorOf(this.tensors, `styles.${index}.linear.weight`),
        tensorOf(this.tensors, `styles.${index}.linear.bias`));
      first ??= w;
      for (let i = 0; i < width; i++) {
        ws[index * width + i] += w[i] + (config.deltas && index > 0 ? first[i] : 0);
      }
    }
    return ws;
  }

  #tensor(name) {
    const { data, shape } = tensorOf(this.tensors, name);
    return this.tf.tensor(data, shape);
  }

  #conv(x, name, stride, pad) {
    const { tf } = this;
    const kernel = tf.transpose(this.#tensor(`${name}.weight`), [2, 3, 1, 0]);
    const y = tf.conv2d(x, kernel, stride, pad, 'NHWC', 1, 'floor');
    return this.tensors.has(`${name}.bias`) ? tf.add(y, this.#tensor(`${name}.bias`)) : y;
  }

  #batchNorm(x, name) {
    const { tf } = this;
    const part = key => tensorOf(this.tensors, `${name}.${key}`).data;
    const [weight, bias, mean] = ['weight', 'bias', 'running_mean'].map(part);
    const scale = part('running_var').map((number, i) => weight[i] / Math.sqrt(number + BATCH_NORM_EPS));
    return tf.add(tf.mul(x, tf.tensor(scale)),
      tf.tensor(bias.map((number, i) => number - mean[i] * scale[i])));
  }

  #unit(x, name, stride) {
    const { tf } = this;
    const around = this.tensors.has(`${name}.shortcut_layer.0.weight`)
      ? this.#batchNorm(this.#conv(x, `${name}.shortcut_layer.0`, stride, 0), `${name}.shortcut_layer.1`)
      : tf.maxPool(x, 1, stride, 'valid');
    const inner = `${name}.res_layer`;
    let y = this.#conv(this.#batchNorm(x, `${inner}.0`), `${inner}.1`, 1, 1);
    y = tf.prelu(y, this.#tensor(`${inner}.2.weight`));
    y = this.#batchNorm(this.#conv(y, `${inner}.3`, stride, 1), `${inner}.4`);
    const squeezed = tf.mean(y, [1, 2], true);
    const narrow = tf.relu(this.#conv(squeezed, `${inner}.5.fc1`, 1, 0));
    return tf.add(around, tf.mul(y, tf.sigmoid(this.#conv(narrow, `${inner}.5.fc2`, 1, 0))));
  }

  /** Features from coarse to fine, each with the coarser features added. */
  #pyramid(image) {
    const { tf, config } = this;
    let x = this.#batchNorm(this.#conv(image, 'input_layer.0', config.input_stride, 1), 'input_layer.1');
    x = tf.prelu(x, this.#tensor('input_layer.2.weight'));
    const stages = [];
    let index = 0;
    for (const count of config.units) {
      for (let i = 0; i < count; i++) x = this.#unit(x, `body.${index++}`, i ? 1 : 2);
      stages.push(x);
    }
    const [, fine, medium, coarse] = stages;
    const joined = (small, large) =>
      tf.add(tf.image.resizeBilinear(small, large.shape.slice(1, 3), true), large);
    const middle = joined(coarse, this.#conv(medium, 'latlayer1', 1, 0));
    return [coarse, middle, joined(middle, this.#conv(fine, 'latlayer2', 1, 0))];
  }

  #head(x, name) {
    const { tf } = this;
    for (let i = 0; this.tensors.has(`${name}.convs.${i}.weight`); i += 2) {
      x = tf.leakyRelu(this.#conv(x, `${name}.convs.${i}`, 2, 1), 0.01);
    }
    return tf.reshape(x, [x.size]);
  }
}
