/**
 * An exported pipeline in a browser: faces, edits, words and pictures. It runs in `worker.js`, so
 * that the page stays responsive; inputs and outputs are plain data.
 *
 * @typedef {{seed: number | string, psi?: number, label?: number} | {latents: number}} Face
 *   a seed, or the number of latents that `invert` found
 * @typedef {{edit: string, strength: number}} Applied
 * @typedef {{data: Uint8ClampedArray, width: number, height: number}} Pixels RGBA
 */

import { BACKENDS, chooseBackend, TOLERANCE } from './backend.js';
import { TextTower, VisionTower } from './clip.js';
import { checkedEdit, displacement } from './edits.js';
import { Encoder } from './encoder.js';
import { Mapping } from './generator.js';
import { InstantModel } from './instant.js';
import { BrowserError, readSafetensors, tensorOf } from './safetensors.js';
import { Tokenizer } from './tokenizer.js';
import { randn } from './torch_random.js';
import { Wording } from './wording.js';

export const FORMAT = 'stylegan-hub-web';
export const FORMAT_VERSION = 3;

const MAX_SEED = 2n ** 63n - 1n;
const CLOSE = 2e-3; // tolerance for each number of embeddings of length 1
const PART_MESSAGE = 'This page was exported without';

export class Engine {
  #parts = new Map(); // parts, loaded at their first use
  #edits = new Map();
  #found = []; // latents from encoders
  #moves = { face: null, start: null, by: new Map() };
  #excluded = [];
  #fetched = new Set();

  /**
   * Opens an exported pipeline with the fastest backend.
   *
   * @param {object} options
   * @param {string} options.pipeline address of the folder with `layout.json`
   * @param {string} options.library address of the folder with tf.js
   * @param {(address: string) => void} options.run runs a classic script
   * @param {string[]} [options.backends] that may be used, also in software; by default all that
   *   a graphics card runs, and wasm
   * @param {(text: string) => void} [options.notice] called with texts that the user should see
   * @returns {Promise<Engine>}
   * @throws {BrowserError}
   */
  static async open({ pipeline, library, run, backends, notice = () => {} }) {
    const engine = new Engine();
    engine.address = pipeline;
    engine.notice = notice;
    engine.layout = await engine.#read('layout.json', checkedLayout);
    const scripts = new Set();
    engine.load = file => {
      if (!scripts.has(file)) run(new URL(file, library).href);
      scripts.add(file);
      return globalThis.tf;
    };
    engine.library = library;
    engine.backends = backends;
    const [tensors, expected] = await Promise.all(
      ['generator', 'self_test'].map(name => engine.#tensors(name)));
    engine.tensors = tensors;
    engine.expected = expected;
    await engine.#choose();
    return engine;
  }

  /** Facts about the engine for a page. */
  info() {
    const { layout, chosen } = this;
    return {
      backend: chosen.name,
      threads: chosen.threads,
      milliseconds: chosen.milliseconds,
      difference: chosen.difference,
      neutral: layout.neutral,
      labels: layout.generator.config.c_dim,
      size: layout.generator.config.img_size,
      resolutions: chosen.synthesis.resolutions,
      edits: layout.edits.map(({ name, config }) => ({ name, ...shown(config) })),
      has: Object.keys(layout.parts).filter(name => layout.parts[name]),
    };
  }

  /**
   * The picture of a face after edits.
   *
   * @param {Face} face
   * @param {Applied[]} applied
   * @param {number} [resolution] that is sufficient
   * @returns {Promise<Pixels & {milliseconds: number, layers: number}>}
   */
  async picture(face, applied, resolution) {
    return this.pictureOf(await this.#styles(face, applied), resolution);
  }

  /**
   * The picture of style codes.
   *
   * @param {Float32Array} s
   * @param {number} [resolution]
   */
  async pictureOf(s, resolution) {
    const begin = performance.now();
    const pixels = await this.#computed(() => this.chosen.synthesis.pixels(s, resolution));
    return { ...pixels, milliseconds: performance.now() - begin,
      layers: this.chosen.synthesis.layersRendered };
  }

  /**
   * Loads an edit of the export for use with `picture`.
   *
   * @param {string} name
   * @returns {Promise<object>} what a page shows about it
   */
  async loadEdit(name) {
    if (!this.#edits.has(name)) {
      const entry = this.layout.edits.find(edit => edit.name === name);
      if (!entry) {
        throw new BrowserError(`There is no edit ${name} here. Choose one of these: ` +
          `${this.layout.edits.map(edit => edit.name).join(', ') || 'none'}.`);
      }
      this.#keep(name, entry.config, await this.#file(entry));
    }
    return { name, ...shown(this.#edits.get(name).config) };
  }

  /**
   * Opens an edit from files that a visitor chose.
   *
   * @param {string} name
   * @param {string} config text of its `config.json`
   * @param {ArrayBuffer} weights its `model.safetensors`
   */
  openEdit(name, config, weights) {
    let parsed;
    try {
      parsed = JSON.parse(config);
    } catch (error) {
      throw new BrowserError(`${name} has no valid config.json (${error.message}). Choose another.`);
    }
    this.#keep(name, parsed, readSafetensors(weights, name));
    return { name, ...shown(this.#edits.get(name).config) };
  }

  /**
   * Finds an edit for a face from words. From then on its name is the words.
   *
   * @param {string} said
   * @param {Face} face
   * @param {Applied[]} applied the edits that the face has
   * @returns {Promise<object>} what a page shows about it, with `fit`, `verdict` and `advice`
   */
  find(said, face, applied) {
    return this.#computed(() => this.#find(said, face, applied));
  }

  async #find(said, face, applied) {
    const [instant, vision] = await Promise.all([this.#part('instant'), this.#part('vision')]);
    const start = await this.#styles(face, applied);
    const see = async (step, amount) => {
      const by = this.mapping.styles(this.mapping.repeated(step), true);
      const s = start.map((number, i) => number + amount * by[i]);
      const { tf, synthesis } = this.chosen;
      const { sketch } = vision.config;
      const picture = synthesis.render(s, sketch ?? undefined);
      const image = sketch ? tf.clone(picture)
        : framed(tf, picture, this.layout.generator.config);
      return vision.encode(image).finally(() => image.dispose());
    };
    const { step, fit, verdict, advice, request } = await instant.find(said, { see });
    const { num_ws: layers, w_dim: width } = this.layout.generator.config;
    const vector = { shape: [layers, width], data: this.mapping.repeated(step) };
    const config = {
      kind: 'direction', space: 'w_plus', base_model: this.layout.base_model,
      prompt: request.said, strength: this.layout.parts.instant.config.strength, fit,
    };
    this.#keep(said, config, new Map([['vector', vector]]));
    return { name: said, ...shown(config), fit, verdict, advice };
  }

  /** The single changes that a text asks for. */
  async changes(text) {
    const { wording } = await this.#part('instant');
    const found = wording.parts(text);
    return found.length ? found : [text];
  }

  /**
   * The face that approximates a drawn portrait; the picture does not leave this device.
   *
   * @param {Pixels} pixels of the generator's size
   * @returns {Promise<Face>}
   */
  async invert({ data, width, height }) {
    const size = this.layout.generator.config.img_size;
    if (size[0] !== height || size[1] !== width) {
      throw new BrowserError(`Got a picture of ${width} x ${height} px; expected ${size[1]} x ` +
        `${size[0]}. Resize it first.`);
    }
    const colors = new Float32Array(3 * width * height);
    for (let i = 0; i < colors.length; i++) {
      colors[i] = data[4 * Math.floor(i / 3) + i % 3] / 127.5 - 1;
    }
    const ws = await this.#computed(async () => (await this.#part('encoder')).ws(colors, size));
    this.#found.push(ws);
    return { latents: this.#found.length - 1 };
  }

  /** How many tensors tf.js holds, and their bytes. */
  memory() {
    const { numTensors, numBytes } = this.chosen.tf.memory();
    return { tensors: numTensors, bytes: numBytes };
  }

  /**
   * Compares everything in the export with Python's results; loads all parts.
   *
   * @returns {Promise<{name: string, difference: number, limit: number}[]>}
   */
  async selfTest() {
    const { expected, layout, mapping } = this;
    const want = name => expected.get(name)?.data;
    const results = [{ name: 'picture', difference: this.chosen.difference, limit: TOLERANCE }];
    const compare = (name, got, limit) =>
      results.push({ name, difference: largest(got, want(name)), limit });
    const { z_dim: zDim } = layout.generator.config;
    const { seed, psi, words } = layout.self_test;
    if (zDim) compare('z', randn(seed, zDim), 1e-5);
    const ws = this.#ws({ seed, psi });
    compare('w', ws.subarray(0, want('w').length), CLOSE);
    compare('s', mapping.styles(ws), CLOSE);
    for (const { name } of layout.edits) {
      await this.loadEdit(name);
      const by = displacement(this.#edits.get(name), ws, mapping);
      const wanted = want(`edit.${name}`);
      const size = Math.max(1, largest(wanted, new Float32Array(wanted.length)));
      results.push({ name: `edit ${name}`, difference: largest(by, wanted) / size, limit: CLOSE });
    }
    if (layout.parts.text) {
      const text = await this.#part('text');
      const [embedding] = await text.encode([words]);
      compare('text', embedding, CLOSE);
    }
    if (layout.parts.vision) {
      const vision = await this.#part('vision');
      const image = framed(this.chosen.tf, this.chosen.synthesis.render(want('s')),
        layout.generator.config);
      compare('vision', await vision.encode(image), CLOSE);
      image.dispose();
    }
    if (layout.parts.instant) {
      const { name } = await this.find(words, { seed, psi }, []);
      const picture = await this.picture({ seed, psi }, [{ edit: name, strength: 1 }]);
      results.push({ name: 'found', limit: TOLERANCE,
        difference: largest(colorsOf(picture), want('found')) });
    }
    if (layout.parts.encoder) {
      const [height, width] = layout.generator.config.img_size;
      const picture = { data: alphaAdded(want('picture')), width, height };
      const { latents } = await this.invert(picture);
      compare('inverted', this.#found[latents], 10 * CLOSE);
    }
    return results;
  }

  get mapping() {
    this.mappingOnce ??= new Mapping(this.layout.generator.config, this.tensors);
    return this.mappingOnce;
  }

  #keep(name, config, tensors) {
    const edit = checkedEdit(name, config, tensors, this.layout.base_model);
    displacement(edit, this.#ws({ seed: 0 }), this.mapping); // reports errors in it now
    this.#edits.set(name, edit);
    this.#moves.by.delete(name);
  }

  #ws(face) {
    if ('latents' in face) {
      const ws = this.#found[face.latents];
      if (!ws) throw new BrowserError('This face no longer exists; choose another one.');
      return ws;
    }
    const { config } = this.layout.generator;
    const { psi = 0.7, label = this.layout.label ?? 0 } = face;
    const seed = BigInt(face.seed);
    if (seed < 0n || seed > MAX_SEED) {
      throw new BrowserError(`Got the seed ${seed}; expected a whole number from 0 to ${MAX_SEED}.`);
    }
    const classes = config.c_dim ? new Float32Array(config.c_dim) : null;
    if (classes) {
      if (!(label in classes)) {
        throw new BrowserError(`Got the class ${label}; expected 0 to ${config.c_dim - 1}.`);
      }
      classes[label] = 1;
    }
    return this.mapping.repeated(this.mapping.w(randn(seed, config.z_dim), classes, psi));
  }

  async #styles(face, applied) {
    const key = JSON.stringify(face);
    if (this.#moves.face !== key) {
      const ws = this.#ws(face);
      this.#moves = { face: key, ws, start: this.mapping.styles(ws), by: new Map() };
    }
    const { ws, start, by } = this.#moves;
    const s = start.slice();
    for (const { edit, strength } of applied) {
      if (!this.#edits.has(edit)) await this.loadEdit(edit);
      if (!by.has(edit)) by.set(edit, displacement(this.#edits.get(edit), ws, this.mapping));
      by.get(edit).forEach((number, i) => { s[i] += strength * number; });
    }
    return s;
  }

  /** What `work` computes; if the backend fails, it is computed again with another one. */
  async #computed(work) {
    for (;;) {
      try {
        return await this.chosen.guard.result(work());
      } catch (error) {
        if (error instanceof BrowserError) throw error;
        console.warn(error);
        await this.#replaceBackend(error);
      }
    }
  }

  async #replaceBackend({ message }) {
    const { name, synthesis } = this.chosen;
    this.#excluded.push(name);
    if (!this.#wanted().length) {
      throw new BrowserError(`${name} stopped working (${message}), and nothing else can compute ` +
        'pictures here. Load the page again, or use the full app.');
    }
    synthesis.dispose();
    this.#parts.clear(); // they hold tensors of this backend
    await this.#choose();
    this.notice(`${name} stopped working; ${this.chosen.name} computes the pictures now.`);
  }

  #wanted() {
    return (this.backends ?? BACKENDS).filter(name => !this.#excluded.includes(name));
  }

  async #choose() {
    this.chosen = await chooseBackend({
      load: this.load,
      wasm: this.library,
      config: this.layout.generator.config,
      tensors: this.tensors,
      expected: this.expected,
      names: this.#wanted(),
      hasSoftware: Boolean(this.backends),
    });
  }

  /** A part of the pipeline, loaded when it is first used. */
  #part(name) {
    if (!this.#parts.has(name)) {
      const loading = this.#load(name);
      loading.catch(() => this.#parts.delete(name)); // so that the next call tries again
      this.#parts.set(name, loading);
    }
    return this.#parts.get(name);
  }

  async #load(name) {
    const entry = this.layout.parts[name];
    if (!entry) {
      throw new BrowserError(`${PART_MESSAGE} ${name}. Use the full app for this.`);
    }
    const { tf } = this.chosen;
    const tensors = await this.#file(entry);
    if (name === 'text') return new TextTower(tf, entry.config, tensors, new Tokenizer(entry.tokenizer));
    if (name === 'vision') return new VisionTower(tf, entry.config, tensors);
    if (name === 'encoder') return new Encoder(tf, entry.config, tensors);
    const wording = new Wording(entry.wording, this.layout.neutral);
    return new InstantModel(entry.config, tensors, await this.#part('text'), wording);
  }

  /** Loads the part for words, so that it is ready when a visitor first types some. */
  async prepare() {
    if (this.layout.parts.instant) await this.#part('instant');
  }

  #tensors(name) {
    return this.#file(this.layout[name]);
  }

  #file({ file, bytes }) {
    return this.#read(file, buffer => {
      if (buffer.byteLength !== bytes) {
        throw new BrowserError(`${file} has ${buffer.byteLength} bytes, expected ${bytes}: it is cut ` +
          'short or from another export. Load the page again; if that does not help, copy all files ' +
          'of one export again.');
      }
      return readSafetensors(buffer, file);
    });
  }

  /** What `read` makes of a file; if it refuses a copy from a cache, of the server's file. */
  async #read(name, read) {
    const bytes = await this.#bytes(name, 'default');
    try {
      return read(bytes);
    } catch {
      return read(await this.#bytes(name, 'reload'));
    }
  }

  async #bytes(name, cache) {
    const notLoaded = (why, remedy) => {
      throw new BrowserError(`${name} cannot be loaded (${why}). ${remedy}`);
    };
    try {
      const answer = await fetch(new URL(name, this.address), { cache });
      if (!answer.ok) {
        notLoaded(`${answer.status} ${answer.statusText}`.trim(),
          'Load the page again, or export the pipeline again.');
      }
      const bytes = await answer.arrayBuffer();
      this.#fetched.add(answer.url);
      return bytes;
    } catch (error) {
      if (error instanceof BrowserError) throw error;
      return notLoaded(error.message, 'Check your connection and load the page again.');
    }
  }

  /** The addresses of all loaded files. */
  loaded() {
    return [...this.#fetched];
  }
}

/**
 * @param {ArrayBuffer} bytes of `layout.json`
 * @returns {object}
 * @throws {BrowserError} it is not JSON, or the format is another one or of another version
 */
export function checkedLayout(bytes) {
  let layout;
  try {
    layout = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new BrowserError(`layout.json is not JSON (${error.message}). Export the pipeline again.`);
  }
  if (layout?.format !== FORMAT) {
    throw new BrowserError(`layout.json is of the format ${layout?.format}; expected ${FORMAT}. ` +
      'Make it with stylegan-hub export --format web.');
  }
  if (layout.format_version !== FORMAT_VERSION) {
    throw new BrowserError(`layout.json has format_version ${layout.format_version}; this page ` +
      `reads ${FORMAT_VERSION}. Export the pipeline and the page with the same version.`);
  }
  for (const name of ['generator', 'self_test', 'parts', 'edits']) {
    if (typeof layout[name] !== 'object') {
      throw new BrowserError(`layout.json has no ${name}. Export the pipeline again.`);
    }
  }
  return layout;
}

/** A picture as CLIP sees it, with black in the cropped areas. */
function framed(tf, image, { img_size: size, img_resolution: side }) {
  if (size[0] === size[1]) return tf.clone(image);
  return tf.tidy(() => {
    const [top, left] = size.map(pixels => (side - pixels) / 2);
    const middle = tf.slice(image, [0, top, left, 0], [1, ...size, 3]);
    return tf.pad(middle, [[0, 0], [top, side - size[0] - top], [left, side - size[1] - left],
      [0, 0]], -1);
  });
}

function shown(config) {
  const { prompt = null, strength, fit = null, kind } = config;
  return { prompt, strength, fit, kind };
}

function largest(a, b) {
  if (!b || a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
  return Number.isNaN(most) ? Infinity : most;
}

const colorsOf = ({ data }) => data.filter((_, i) => i % 4 < 3);

function alphaAdded(colors) {
  const data = new Uint8ClampedArray(colors.length / 3 * 4).fill(255);
  colors.forEach((level, i) => { data[4 * Math.floor(i / 3) + i % 3] = level; });
  return data;
}
