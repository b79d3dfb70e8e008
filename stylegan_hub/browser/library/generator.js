/**
 * The StyleGAN2 generator (Karras et al. 2020, "Analyzing and Improving the Image Quality of
 * StyleGAN"): the same function as `stylegan_hub/models/stylegan2.py`, for the skip architecture.
 *
 * Latents are plain arrays: w `[w_dim]`, ws `[num_ws * w_dim]` and s `[num_styles]`, row by row.
 * Only the synthesis network runs on tf.js. Features are `[1, height, width, channels]`.
 */

import { equalized, leaky, pixelNorm } from './linear.js';
import { BrowserError, tensorOf } from './safetensors.js';

const DEMODULATION_EPS = 1e-8;

/** Maps z and labels to w, and w to style codes. */
export class Mapping {
  /**
   * @param {object} config like `GeneratorConfig` in Python, with `style_layout`
   * @param {import('./safetensors.js').Tensors} tensors
   */
  constructor(config, tensors) {
    this.config = config;
    const take = name => tensorOf(tensors, `mapping.${name}`);
    this.average = take('w_avg').data;
    this.layers = Array.from({ length: config.num_mapping_layers }, (_, index) => [
      take(`fc${index}.weight`), take(`fc${index}.bias`)]);
    this.embedding = config.c_dim ? [take('embed.weight'), take('embed.bias')] : null;
    this.affine = config.style_layout.map(({ name, start, stop }) => [
      tensorOf(tensors, `synthesis.${name}.affine.weight`, [stop - start, config.w_dim]),
      tensorOf(tensors, `synthesis.${name}.affine.bias`, [stop - start])]);
  }

  /**
   * @param {Float32Array} z `[z_dim]`
   * @param {Float32Array | null} label `[c_dim]`
   * @param {number} psi truncation: 1 keeps the full variety, 0 is the average face
   * @returns {Float32Array} w
   */
  w(z, label = null, psi = 1) {
    const multiplier = this.config.mapping_lr_multiplier;
    const inputs = this.config.z_dim ? [...pixelNorm(z)] : [];
    if (this.embedding) inputs.push(...pixelNorm(equalized(label, ...this.embedding)));
    let x = Float32Array.from(inputs);
    for (const layer of this.layers) x = leaky(equalized(x, ...layer, multiplier));
    return x.map((number, i) => this.average[i] + psi * (number - this.average[i]));
  }

  /** The same w for all layers. */
  repeated(w) {
    const ws = new Float32Array(this.config.num_ws * w.length);
    for (let i = 0; i < this.config.num_ws; i++) ws.set(w, i * w.length);
    return ws;
  }

  /**
   * The style codes of ws.
   *
   * @param {Float32Array} ws
   * @param {boolean} isStep whether ws is a displacement; then biases are left out
   * @returns {Float32Array} s
   */
  styles(ws, isStep = false) {
    const { style_layout: layout, w_dim: width, num_styles: size } = this.config;
    const s = new Float32Array(size);
    layout.forEach(({ start, ws_index: at }, index) => {
      const [weight, bias] = this.affine[index];
      const w = ws.subarray(at * width, (at + 1) * width);
      const none = isStep && { data: new Float32Array(bias.data.length) };
      s.set(equalized(w, weight, none || bias), start);
    });
    return s;
  }
}

/** Renders style codes; keeps the features between layers, to speed up the next picture. */
export class Synthesis {
  #tf;
  #layers;
  #states = []; // features and image after each layer
  #known = null; // the codes that they belong to

  /** How many layers were computed for the last picture. */
  layersRendered = 0;

  /**
   * @param {object} tf tf.js, its backend chosen
   * @param {object} config as for `Mapping`
   * @param {import('./safetensors.js').Tensors} tensors
   * @throws {BrowserError} weights that do not fit the config
   */
  constructor(tf, config, tensors) {
    this.#tf = tf;
    this.config = config;
    this.resolutions = [...new Set(config.style_layout.map(layer => layer.resolution))];
    this.#layers = config.style_layout.map((layer, index) => {
      const build = layer.is_to_rgb ? buildToRgb : buildConvolution;
      return build(tf, config, tensors, layer, index === 0);
    });
  }

  /**
   * The picture of style codes, `[1, height, width, 3]`, nominally in [-1, 1], not clamped. It
   * belongs to this object and is disposed when another picture is rendered.
   *
   * @param {Float32Array} s
   * @param {number} [resolution] stop there; a full-size picture if no layer has this resolution
   */
  render(s, resolution) {
    const { style_layout: layout, num_styles: size } = this.config;
    if (s.length !== size) {
      throw new BrowserError(`Got ${s.length} style codes; this generator takes ${size}. They ` +
        'belong to another generator. Load the page of that generator.');
    }
    const wanted = this.resolutions.includes(resolution) ? resolution : this.resolutions.at(-1);
    const stop = layout.findLastIndex(layer => layer.resolution === wanted) + 1;
    const first = Math.min(this.#firstChange(s), stop);
    this.#forget(first);
    this.#known = s.slice();
    for (let index = first; index < stop; index++) {
      const { start, stop: end } = layout[index];
      const { x, image } = this.#states[index - 1] ?? {};
      this.#states.push(this.#tf.tidy(() =>
        this.#layers[index].render(x, image, s.subarray(start, end))));
    }
    this.layersRendered = stop - first;
    return this.#states[stop - 1].image;
  }

  /**
   * The picture as bytes, for a canvas.
   *
   * @param {Float32Array} s
   * @param {number} [resolution]
   * @returns {Promise<{data: Uint8ClampedArray, width: number, height: number}>} RGBA
   */
  async pixels(s, resolution) {
    const image = this.render(s, resolution);
    const values = await image.data();
    const [, side] = image.shape;
    const scale = side / this.resolutions.at(-1);
    const [height, width] = this.config.img_size
      .map(pixels => Math.max(1, Math.round(pixels * scale)));
    const top = (side - height) >> 1;
    const left = (side - width) >> 1;
    const data = new Uint8ClampedArray(4 * width * height).fill(255);
    for (let y = 0, to = 0; y < height; y++) {
      let from = 3 * ((top + y) * side + left);
      for (let x = 0; x < width; x++, to++) {
        for (let color = 0; color < 3; color++) data[to++] = (values[from++] + 1) * 127.5;
      }
    }
    return { data, width, height };
  }

  /** Frees the memory on the graphics card or in the wasm module. */
  dispose() {
    this.#forget(0);
    for (const layer of this.#layers) this.#tf.dispose(layer.constants);
  }

  #firstChange(s) {
    if (!this.#known) return 0;
    const changed = s.findIndex((number, i) => number !== this.#known[i]);
    const layer = this.config.style_layout.findIndex(({ stop }) => changed < stop);
    return Math.min(changed < 0 ? Infinity : layer, this.#states.length);
  }

  #forget(first) {
    const kept = new Set(this.#states.slice(0, first).flatMap(state => [state.x, state.image]));
    for (const state of this.#states.slice(first)) {
      for (const tensor of [state.x, state.image]) {
        if (tensor && !kept.has(tensor) && !tensor.isDisposed) tensor.dispose();
      }
    }
    this.#states.length = Math.min(first, this.#states.length);
    this.#known = null; // stays null if rendering fails
  }
}

function buildConvolution(tf, config, tensors, layer, isFirst) {
  const take = (name, shape) => tensorOf(tensors, `synthesis.${layer.name}.${name}`, shape);
  const weight = take('weight');
  const [outs, ins, size] = weight.shape;
  const side = layer.resolution;
  const isUp = layer.name.endsWith('conv0');
  const energy = energies(weight);
  const bias = take('bias', [outs]).data;
  const noise = config.use_noise ? take('noise_const', [side, side]).data
    : new Float32Array(side * side);
  const strength = config.use_noise ? take('noise_strength').data[0] : 0;
  const added = new Float32Array(side * side * outs);
  let at = 0;
  for (const one of noise) {
    for (let o = 0; o < outs; o++) added[at++] = (one * strength + bias[o]) * Math.SQRT2;
  }
  const constants = {
    added: tf.tensor(added, [1, side, side, outs]),
    slope: tf.fill([outs], 0.2), // for each channel, because wasm is 15 times slower with a scalar
  };
  if (isUp) {
    const { even, odd } = rowKernels(weight);
    constants.kernels = [
      tf.tensor(even, [2, 2, ins, 2 * outs]), tf.tensor(odd, [1, 2, ins, 2 * outs])];
    constants.filters = depthwiseFilters(take('resample_filter'), outs)
      .map(({ data, shape }) => tf.tensor(data, shape));
  } else {
    constants.kernels = [tf.tensor(channelsLast(weight), [size, size, ins, outs])];
  }
  if (isFirst) {
    const constant = tensorOf(tensors, `synthesis.b${side}.const`, [ins, side, side]);
    constants.start = tf.tidy(() =>
      tf.transpose(tf.tensor(constant.data, [1, ins, side, side]), [0, 2, 3, 1]));
  }
  const clamp = config.conv_clamp;

  // Styles and demodulation are multiplied into the kernels, as in the paper, or into the features,
  // whichever has fewer numbers. wasm prepares a kernel that does not change only once.
  const isOfFeatures = (isUp ? side / 2 : side) ** 2 < size * size * outs;
  const columns = isUp ? 2 : 1; // even and odd columns are side by side in a kernel's channels

  // The activation's gain is included, since it commutes with a leaky ReLU.
  const demodulation = styles => Float32Array.from({ length: outs }, (_, o) => {
    let sum = DEMODULATION_EPS;
    for (let i = 0; i < ins; i++) sum += styles[i] * styles[i] * energy[o * ins + i];
    return Math.SQRT2 / Math.sqrt(sum);
  });
  const convolved = (x, kernels) => isUp ? doubled(tf, x, kernels, constants.filters)
    : tf.conv2d(x, kernels[0], 1, 'same');
  const render = (before, image, styles) => {
    const x = constants.start ?? before;
    const gains = demodulation(styles);
    let y;
    if (isOfFeatures) {
      y = tf.mul(convolved(tf.mul(x, tf.tensor(styles)), constants.kernels), tf.tensor(gains));
    } else {
      const scales = tf.tensor(products(styles, gains, columns), [ins, columns * outs]);
      y = convolved(x, constants.kernels.map(kernel => tf.mul(kernel, scales)));
    }
    y = tf.prelu(tf.add(y, constants.added), constants.slope);
    return { x: clamp ? tf.clipByValue(y, -clamp, clamp) : y, image };
  };
  return { constants, render };
}

/**
 * A transposed convolution of stride 2 and the filter after it. The convolution is computed as two
 * ordinary ones, for the even and the odd rows, whose channels hold even and odd columns side by
 * side, because transposed convolutions and depthToSpace are many times slower in wasm.
 */
function doubled(tf, x, [even, odd], filters) {
  const side = x.shape[1];
  const outs = even.shape[3] / 2;
  const rows = (kernel, top) => tf.conv2d(x, kernel, 1, [[0, 0], [top, 1], [1, 1], [0, 0]]);
  let y = interleaved(tf, rows(even, 1), rows(odd, 0));
  for (const filter of filters) {
    const [before, after] = [0, 1].map(axis => {
      const taps = filter.shape[axis];
      return taps === 1 ? [0, 0] : [Math.floor((taps + 1) / 2) - 1, Math.max(Math.floor(taps / 2) - 2, 0)];
    });
    y = tf.depthwiseConv2d(y, filter, 1, [[0, 0], before, after, [0, 0]]);
  }
  return y.shape[1] === 2 * side ? y : tf.slice(y, 0, [1, 2 * side, 2 * side, outs]);
}

/** Joins two `[1, h, w, 2 * c]`, the even and the odd rows, to one `[1, 2 * h, 2 * w, c]`. */
function interleaved(tf, even, odd) {
  const [, height, width, channels] = even.shape;
  const rows = [even, odd].map(part => tf.reshape(part, [height, width * channels]));
  return tf.reshape(tf.concat(rows, 1), [1, 2 * height, 2 * width, channels / 2]);
}

function buildToRgb(tf, config, tensors, layer) {
  const take = name => tensorOf(tensors, `synthesis.${layer.name}.${name}`);
  const weight = take('weight');
  const [outs, ins] = weight.shape;
  const filter = tensorOf(tensors, `synthesis.b${layer.resolution}.resample_filter`);
  const { rows, shape } = enlarging(filter, outs);
  const constants = {
    kernel: tf.tensor(channelsLast(weight), [1, 1, ins, outs]),
    bias: tf.tensor(take('bias').data),
    even: tf.tensor(rows[0], shape),
    odd: tf.tensor(rows[1], shape),
  };
  const clamp = config.conv_clamp;

  const render = (x, image, styles) => {
    const scales = styles.map(style => style / Math.sqrt(ins));
    const modulated = tf.mul(constants.kernel, tf.tensor(scales, [ins, 1]));
    let rgb = tf.add(tf.conv2d(x, modulated, 1, 'same'), constants.bias);
    if (clamp) rgb = tf.clipByValue(rgb, -clamp, clamp);
    if (image) {
      const [even, odd] = ['even', 'odd'].map(name => tf.conv2d(image, constants[name], 1, 'same'));
      rgb = tf.add(interleaved(tf, even, odd), rgb);
    }
    return { x, image: rgb };
  };
  return { constants, render };
}

/**
 * Kernels `[rows, 2, in, 2 * out]` that give the even and the odd rows of a transposed convolution
 * of stride 2: row 2p sees x[p - 1] and x[p] through the kernel's last and first row, row 2p + 1
 * sees x[p] through its middle one; columns likewise.
 *
 * @param {import('./safetensors.js').Tensor} weight `[out, in, 3, 3]`
 */
function rowKernels({ data, shape: [outs, ins] }) {
  const places = [[2, 0], [null, 1]]; // by phase: the kernel rows for x[p - 1] and x[p]
  const kernel = rows => {
    const result = new Float32Array(rows.length * 2 * ins * 2 * outs);
    rows.forEach((row, y) => [0, 1].forEach(x => [0, 1].forEach(phase => {
      const column = places[phase][x];
      if (column === null) return;
      for (let i = 0; i < ins; i++) {
        const to = ((y * 2 + x) * ins + i) * 2 * outs + phase * outs;
        for (let o = 0; o < outs; o++) result[to + o] = data[((o * ins + i) * 3 + row) * 3 + column];
      }
    })));
    return result;
  };
  return { even: kernel([2, 0]), odd: kernel([1]) };
}

/**
 * The filter after upsampling, with its gain of 4: a vertical and a horizontal one if it is
 * separable, which is many times faster.
 */
function depthwiseFilters({ data, shape }, channels) {
  const repeat = (taps, height, width) => {
    const turned = [...taps].reverse(); // because backends compute a correlation
    return { data: Float32Array.from(turned.flatMap(tap => Array(channels).fill(tap))),
      shape: [height, width, channels, 1] };
  };
  const factors = shape.length === 1 ? [data, data] : factorsOf(data, shape);
  if (!factors) return [repeat(data.map(tap => 4 * tap), ...shape)];
  const [vertical, horizontal] = factors.map(taps => taps.map(tap => 2 * tap));
  return [repeat(vertical, vertical.length, 1), repeat(horizontal, 1, horizontal.length)];
}

/** Two rows of taps whose outer product is the filter; null if there are none. */
function factorsOf(data, [height, width]) {
  const sums = (count, places) => Float32Array.from({ length: count }, (_, i) =>
    data.reduce((sum, tap, at) => places(at) === i ? sum + tap : sum, 0));
  const vertical = sums(height, at => Math.floor(at / width));
  const total = vertical.reduce((sum, tap) => sum + tap);
  const horizontal = sums(width, at => at % width).map(tap => tap / total);
  const isProduct = data.every((tap, at) =>
    Math.abs(tap - vertical[Math.floor(at / width)] * horizontal[at % width]) < 1e-6);
  return isProduct ? [vertical, horizontal] : null;
}

/** `[out, in, h, w]` to `[h, w, in, out]`. */
function channelsLast({ data, shape: [outs, ins, height, width] }) {
  const result = new Float32Array(data.length);
  const area = height * width;
  for (let o = 0, at = 0; o < outs; o++) {
    for (let i = 0; i < ins; i++) {
      for (let place = 0; place < area; place++) result[(place * ins + i) * outs + o] = data[at++];
    }
  }
  return result;
}

/** The products of all pairs, `[a, times, b]`, repeated along the middle axis. */
function products(a, b, times) {
  const result = new Float32Array(a.length * times * b.length);
  let at = 0;
  for (const one of a) {
    for (let i = 0; i < times; i++) for (const other of b) result[at++] = one * other;
  }
  return result;
}

/** Squared length of each kernel, `[out * in]`. */
function energies({ data, shape: [outs, ins] }) {
  const result = new Float32Array(outs * ins);
  const area = data.length / result.length;
  for (let pair = 0, at = 0; pair < result.length; pair++) {
    for (let place = 0; place < area; place++) result[pair] += data[at++] ** 2;
  }
  return result;
}

/**
 * Kernels that double a picture's size with a filter, for the even and the odd rows; their channels
 * hold the colors of even and of odd columns.
 *
 * @param {import('./safetensors.js').Tensor} filter taps in a row, or rows of taps, with sum 1
 * @param {number} colors
 */
function enlarging({ data, shape: taps }, colors) {
  const [height, width] = [taps[0], taps.at(-1)];
  const tap = (y, x) => 4 * (taps.length === 1 ? data[y] * data[x] : data[y * width + x]);
  // Output pixel 2p + phase uses a tap at the input pixel p + offset.
  const places = (phase, count) => Array.from({ length: count }, (_, j) =>
    ({ tap: count - 1 - j, offset: (phase + j - Math.floor((count + 1) / 2)) / 2 }))
    .filter(({ offset }) => Number.isInteger(offset));
  const all = [0, 1].flatMap(phase => [...places(phase, height), ...places(phase, width)]);
  const reach = Math.max(...all.map(({ offset }) => Math.abs(offset)));
  const side = 2 * reach + 1;
  const shape = [side, side, colors, 2 * colors];
  const rows = [0, 1].map(dy => {
    const kernel = new Float32Array(side * side * colors * 2 * colors);
    for (const row of places(dy, height)) {
      for (const dx of [0, 1]) {
        for (const column of places(dx, width)) {
          const place = (row.offset + reach) * side + column.offset + reach;
          for (let color = 0; color < colors; color++) {
            kernel[(place * colors + color) * 2 * colors + dx * colors + color] =
              tap(row.tap, column.tap);
          }
        }
      }
    }
    return kernel;
  });
  return { rows, shape };
}
