/**
 * The instant method: an edit for any words without a search, and how well it fits them, as
 * described in `stylegan_hub/methods/instant.py`, `level.py` and `fit.py`.
 */

import { LEAST } from './edits.js';
import { dot, unit } from './linear.js';
import { BrowserError, tensorOf } from './safetensors.js';

const MIDDLE = 0.5;
const REMOVED = -0.2; // level down to which a removal brings a face
const SOFTNESS = 0.08; // of the transition in level at which a sample begins to count
const CHANCE = 2; // standard errors that are subtracted
const MOST = 3; // maximum multiple of the displacement
const MIN_SPAN = 1e-4;
const SAME = 1e-4;
const CLEAR = 0.75;
const NEAR_WORDS = 3;
const SAME_TRAIT = 0.7; // correlation with an entry of the word bank that is what was asked for
const SHOWN = 0.3; // level from which a face has an alternative

export class InstantModel {
  #embedded = new Map();
  #bank = null;

  /**
   * @param {object} config of the export: settings, templates, fit, words
   * @param {import('./safetensors.js').Tensors} tensors `w` and `seen` of the samples
   * @param {import('./clip.js').TextTower} text
   * @param {import('./wording.js').Wording} wording
   */
  constructor(config, tensors, text, wording) {
    this.config = config;
    this.text = text;
    this.wording = wording;
    this.w = rowsOf(tensorOf(tensors, 'w'));
    this.seen = rowsOf(tensorOf(tensors, 'seen'));
    const count = this.w.length;
    const width = this.w[0].length;
    this.mean = new Float64Array(width);
    for (const w of this.w) for (let i = 0; i < width; i++) this.mean[i] += w[i] / count;
    const variance = new Float64Array(width);
    for (const w of this.w) {
      for (let i = 0; i < width; i++) variance[i] += (w[i] - this.mean[i]) ** 2 / (count - 1);
    }
    this.deviation = variance.map(number => Math.max(Math.sqrt(number), 1e-6));
  }

  /**
   * The displacement with which a face shows what the words ask for, and how well it fits them.
   *
   * @param {string} said
   * @param {{see: (step: Float32Array, amount: number) => Promise<Float32Array>}} face gives CLIP's
   *   embedding of the face displaced by an amount of a step in w
   * @returns {Promise<{step: Float32Array, fit: number, verdict: 'clearly' | 'partly' | 'hardly',
   *   advice: string, request: import('./wording.js').Request}>} the step in w at strength 1
   * @throws {BrowserError} CLIP cannot read the words
   */
  async find(said, face) {
    this.#check(said);
    const request = this.wording.read(said);
    const [wanted, neutral] = await Promise.all(
      [request.text, request.neutral].map(text => this.#embed(text)));
    const difference = request.removal ? minus(neutral, wanted) : minus(wanted, neutral);
    if (Math.sqrt(dot(difference, difference)) < SAME) {
      throw new BrowserError(`“${request.said}” describes the present picture, “${request.neutral}”. ` +
        'Say what should be different.');
    }
    const change = unit(difference);
    const scale = scaleOf(this.seen, change, this.config.top_share);
    const levels = this.seen.map(seen => scale(dot(seen, change)));
    let vector = this.#displacement(levels);
    if (request.removal) {
      vector = vector.map(number => -number);
    } else {
      const there = await this.#alternative(change, levels, await face.see(vector, 0));
      if (there) vector = minus(vector, there);
    }

    const { level: goal, looks } = this.config.settings;
    const look = async by => scale(dot(await face.see(vector, by), change));
    let amount = 0;
    for (let i = 0; i < looks; i++) {
      const level = await look(amount);
      const missing = (request.removal ? level - REMOVED : goal - level) / goal;
      amount = clamp(amount + clamp(missing, -0.5, 1), 0, MOST);
    }
    amount = Math.max(amount, LEAST);
    const level = clamp(await look(amount), 0, 1);
    const fit = this.#fit(request, wanted, neutral, request.removal ? 1 - level : level);
    const verdict = fit < this.config.fit.limit ? 'hardly' : fit >= CLEAR ? 'clearly' : 'partly';
    const advice = verdict === 'hardly' ? await this.#advice(request, fit) : '';
    return { step: vector.map(number => amount * number), fit, verdict, advice, request };
  }

  #check(said) {
    if (!said.trim()) throw new BrowserError("Got no words. Write some, such as 'a smiling face'.");
    const limit = this.text.tokenizer.maxLength - 2;
    const count = this.text.tokenizer.idsOf(said).length;
    if (count > limit) {
      throw new BrowserError(`Got ${count} tokens; this CLIP reads ${limit}. Use fewer words.`);
    }
  }

  /** The mean embedding, of length 1, of a text in all template sentences that are short enough. */
  async #embed(text) {
    if (!this.#embedded.has(text)) {
      const { tokenizer } = this.text;
      const sentences = this.config.templates.map(sentence => sentence.replace('{}', () => text))
        .filter(sentence => tokenizer.idsOf(sentence).length + 2 <= tokenizer.maxLength);
      const rows = await this.text.encode(sentences.length ? sentences : [text]);
      const sum = new Float32Array(rows[0].length);
      for (const row of rows) row.forEach((number, i) => { sum[i] += number / rows.length; });
      this.#embedded.set(text, unit(sum));
    }
    return this.#embedded.get(text);
  }

  #displacement(levels) {
    const weights = levels.map(level => 1 / (1 + Math.exp(-(level - MIDDLE) / SOFTNESS)));
    const count = Math.max(sum(weights), 1e-6);
    const worth = count ** 2 / sum(weights.map(weight => weight ** 2));
    const shift = new Float64Array(this.mean.length);
    this.w.forEach((w, row) => {
      for (let i = 0; i < w.length; i++) {
        shift[i] += weights[row] * (w[i] - this.mean[i]) / this.deviation[i] / count;
      }
    });
    return Float32Array.from(shift, (number, i) => Math.sign(number) * this.deviation[i] *
      Math.max(Math.abs(number) - CHANCE / Math.sqrt(worth), 0));
  }

  /**
   * The displacement towards what a face has in place of what is asked for.
   *
   * @param {Float32Array} change
   * @param {number[]} levels of the samples along the change
   * @param {Float32Array} face CLIP's embedding of its picture
   * @returns {Promise<Float32Array | null>} null if there are fewer than two alternatives, or the
   *   face has none of them
   */
  async #alternative(change, levels, face) {
    const { words } = this.config;
    if (!words.length) return null;
    const bank = await this.#changesOfWords();
    const likeness = bank.map(other => dot(other, change));
    const nearest = likeness.indexOf(Math.max(...likeness));
    const levelsOf = other => {
      const scale = scaleOf(this.seen, other, this.config.top_share);
      return this.seen.map(seen => scale(dot(seen, other)));
    };
    const others = bank.filter(
      (_, i) => words[i].group === words[nearest].group && i !== nearest);
    if (others.length < 2 || correlation(levels, levelsOf(bank[nearest])) <= SAME_TRAIT) {
      return null;
    }
    const has = others.map(
      other => scaleOf(this.seen, other, this.config.top_share)(dot(face, other)));
    const most = has.indexOf(Math.max(...has));
    return has[most] < SHOWN ? null : this.#displacement(levelsOf(others[most]));
  }

  #fit(request, wanted, neutral, reached) {
    const units = this.config.fit;
    if (this.#namesOnlyUnknown(request.said ?? request.text)) return 0;
    const difference = minus(wanted, neutral);
    const bimodal = bimodality(this.seen.map(seen => dot(seen, difference)));
    const spoken = [[request.text, wanted], [request.neutral, neutral]]
      .filter(([text]) => text !== this.wording.neutral).map(([, embedding]) => embedding);
    const close = Math.min(...(spoken.length ? spoken : [wanted, neutral]).map(embedding => {
      const places = this.seen.map(seen => dot(seen, embedding));
      return top(places, this.config.top_share);
    }));
    const values = [bimodal - units.bimodal, (close - units.close) / units.varied, reached];
    const logit = units.bias + sum(values.map((value, i) => value * units.weights[i]));
    return Math.round(1000 / (1 + Math.exp(-clamp(logit, -30, 30)))) / 1000;
  }

  /** Whether CLIP was trained on none of the words with which a text names something. */
  #namesOnlyUnknown(text) {
    const { fit: { words }, nameless } = this.config;
    const naming = (text.toLowerCase().match(/\p{L}+/gu) ?? [])
      .filter(word => !nameless.includes(word));
    return words.length > 0 && naming.length > 0 && !naming.some(word => words.includes(word));
  }

  async #advice(request, fit) {
    const [text, neutral] = request.removal ? [request.neutral, request.text]
      : [request.text, request.neutral];
    const [asked] = await this.#plainChanges([text], neutral);
    const { words } = this.config;
    const offered = await this.#changesOfWords();
    const near = words.map(({ shown }, i) => ({ shown, likeness: dot(offered[i], asked) }))
      .sort((a, b) => b.likeness - a.likeness).slice(0, NEAR_WORDS)
      .map(({ shown }) => `“${shown}”`).join(', ');
    const measured = this.config.fit.calibrated ? '' : ', not calibrated';
    return `“${request.said}” is hardly visible in the edited picture (fit ${fit.toFixed(2)} of ` +
      `1${measured}): this model has no such pictures, or its CLIP does not know the words.` +
      `${near ? ` Similar words that it knows: ${near}.` : ''}`;
  }

  /** The changes of the word bank's entries, in the order of `config.words`. */
  async #changesOfWords() {
    this.#bank ??= await this.#plainChanges(
      this.config.words.map(({ sentence }) => sentence), this.wording.neutral);
    return this.#bank;
  }

  async #plainChanges(texts, neutral) {
    const rows = await this.text.encode([...texts, neutral]);
    return rows.slice(0, -1).map(row => unit(minus(row, rows.at(-1))));
  }
}

/** Maps an inner product with a change to its level: 0 is the median sample, 1 the top samples. */
function scaleOf(seen, change, share) {
  const places = Float64Array.from(seen, row => dot(row, change)).sort();
  const zero = places[Math.floor((places.length - 1) / 2)];
  const span = Math.max(top([...places], share) - zero, MIN_SPAN);
  return place => (place - zero) / span;
}

function correlation(one, other) {
  const [a, b] = [one, other].map(numbers => {
    const mean = sum(numbers) / numbers.length;
    return Float64Array.from(numbers, number => number - mean);
  });
  return dot(a, b) / Math.max(Math.sqrt(dot(a, a) * dot(b, b)), 1e-12);
}

/** The mean of the given share of largest numbers. */
function top(numbers, share) {
  const count = Math.max(1, Math.round(share * numbers.length));
  return sum(Float64Array.from(numbers).sort().slice(-count)) / count;
}

function rowsOf({ data, shape: [count, width] }) {
  return Array.from({ length: count }, (_, row) => data.subarray(row * width, (row + 1) * width));
}

/** Sarle's bimodality coefficient: 1 for two single points, 0.33 for a Gaussian. */
function bimodality(numbers) {
  const mean = sum(numbers) / numbers.length;
  const moment = power => sum(numbers.map(number => (number - mean) ** power)) / numbers.length;
  const variance = Math.max(moment(2), 1e-18);
  return ((moment(3) / variance ** 1.5) ** 2 + 1) / Math.max(moment(4) / variance ** 2, 1e-9);
}

const sum = numbers => numbers.reduce((total, number) => total + number, 0);
const minus = (a, b) => a.map((number, i) => number - b[i]);
const clamp = (number, least, most) => Math.min(Math.max(number, least), most);
