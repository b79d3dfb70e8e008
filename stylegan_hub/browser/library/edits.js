/**
 * Edits displace a latent: `codes + strength * delta(codes)`, see `stylegan_hub/edits/`.
 *
 * Each edit gets the face without any other edit, displacements add, and the affine layers map a
 * displacement in w_plus to the same displacement in s for every face. So the picture of a stack is
 * that of `s + sum(strength * displacement)`, and moving a slider takes only a few additions.
 *
 * @typedef {object} Edit
 * @property {string} name
 * @property {object} config as in `config.json`
 * @property {import('./safetensors.js').Tensors} tensors
 */

import { dot, equalized, leaky, pixelNorm } from './linear.js';
import { BrowserError, tensorOf } from './safetensors.js';

export const LEAST = 0.25;
const MOST = 1.5; // bounds of the amount of an instant edit
const MAPPER_LAYERS = 4;
const MAPPER_MULTIPLIER = 0.01;
const SPACES = ['w_plus', 's'];
const LIMITABLE = { direction, instant, latent_mapper: latentMapper };
const DELTAS = { ...LIMITABLE, limited };

/** The supported kinds. */
export const KINDS = Object.keys(DELTAS);

/**
 * The displacement of a face at strength 1, in s.
 *
 * @param {Edit} edit
 * @param {Float32Array} ws the face without any edit
 * @param {import('./generator.js').Mapping} mapping
 * @returns {Float32Array}
 */
export function displacement({ config, tensors }, ws, mapping) {
  const isLate = config.space === 's';
  const codes = isLate ? mapping.styles(ws) : ws;
  const delta = DELTAS[config.kind](config, tensors, codes, mapping.config);
  return isLate ? delta : mapping.styles(delta, true);
}

/**
 * Checks an edit that was read from files.
 *
 * @param {string} name
 * @param {object} config as in `config.json`
 * @param {import('./safetensors.js').Tensors} tensors
 * @param {{fingerprint: string, id: string | null}} base the generator of this page
 * @returns {Edit}
 * @throws {BrowserError} the generator is another one, the kind is unknown, or values are invalid
 */
export function checkedEdit(name, config, tensors, base) {
  const fingerprint = config?.base_model?.fingerprint;
  if (typeof fingerprint !== 'string') {
    throw new BrowserError(`${name} is not an edit: its config.json names no generator. Choose the ` +
      'config.json and the model.safetensors of one edit.');
  }
  if (fingerprint !== base.fingerprint) {
    throw new BrowserError(`The edit ${name} was made for another generator (fingerprint ` +
      `${fingerprint}); this page has ${base.id ?? 'one'} with ${base.fingerprint}. Use an edit ` +
      'for this one, or open the other generator with the full app.');
  }
  if (!(config.kind in DELTAS) || !SPACES.includes(config.space)) {
    throw new BrowserError(`The edit ${name} is of the kind ${config.kind} in ${config.space}, ` +
      `which needs the full app; this page knows ${KINDS.join(', ')}.`);
  }
  if (config.kind === 'limited' && !(config.edit?.kind in LIMITABLE)) {
    throw new BrowserError(`The edit ${name} limits an edit of the kind ${config.edit?.kind}, ` +
      'which this page cannot do. Use another copy, or the full app.');
  }
  const finite = [...tensors.values()].every(({ data }) => data.every(Number.isFinite));
  if (!finite) {
    throw new BrowserError(`The edit ${name} has numbers that are not finite. Use another copy.`);
  }
  const numbers = [config.strength?.min ?? -2, config.strength?.default ?? 1,
    config.strength?.max ?? 2];
  if (!numbers.every(Number.isFinite) || numbers[0] > numbers[1] || numbers[1] > numbers[2]) {
    throw new BrowserError(`The edit ${name} has the strengths ${numbers}; expected min, default ` +
      'and max in this order. Use another copy.');
  }
  const [min, standard, max] = numbers;
  return { name, config: { ...config, strength: { min, default: standard, max } }, tensors };
}

function direction(config, tensors, codes, { num_ws: layers, w_dim: width }) {
  const shape = config.space === 's' ? [codes.length] : [layers, width];
  return tensorOf(tensors, 'vector', shape).data;
}

function instant(config, tensors, ws, { num_ws: layers, w_dim: width }) {
  const reading = tensorOf(tensors, 'reading', [width]).data;
  let standing = 0;
  for (let i = 0; i < layers; i++) standing += dot(reading, ws.subarray(i * width, (i + 1) * width));
  const amount = Math.min(Math.max(config.goal - standing / layers, LEAST), MOST);
  return tensorOf(tensors, 'vector', [layers, width]).data.map(number => amount * number);
}

/** Another edit within the ranges of samples along the principal axes of w. */
function limited({ edit }, tensors, ws, mapping) {
  const width = mapping.w_dim;
  const inner = new Map([...tensors].filter(([name]) => name.startsWith('edit.'))
    .map(([name, tensor]) => [name.slice('edit.'.length), tensor]));
  const step = LIMITABLE[edit.kind](edit, inner, ws, mapping);
  const lowest = tensorOf(tensors, 'lowest').data;
  const count = lowest.length;
  const highest = tensorOf(tensors, 'highest', [count]).data;
  const axes = tensorOf(tensors, 'axes', [count, width]).data;
  const mean = tensorOf(tensors, 'mean', [width]).data;
  const result = new Float32Array(ws.length);
  for (let at = 0; at < ws.length; at += width) {
    const code = ws.slice(at, at + width).map((number, i) => number - mean[i]);
    const move = step.subarray(at, at + width);
    for (let i = 0; i < count; i++) {
      const axis = axes.subarray(i * width, (i + 1) * width);
      const start = dot(axis, code);
      const end = Math.max(Math.min(start + dot(axis, move), Math.max(start, highest[i])),
        Math.min(start, lowest[i]));
      for (let j = 0; j < width; j++) result[at + j] += (end - start) * axis[j];
    }
  }
  return result;
}

/** StyleCLIP (Patashnik et al. 2021), section 5. */
function latentMapper(config, tensors, codes, { w_dim: width }) {
  const step = new Float32Array(codes.length);
  const size = config.space === 's' ? 1 : width; // numbers per entry of a group
  for (const [name, [start, stop]] of Object.entries(config.groups)) {
    let part = codes.slice(start * size, stop * size);
    const row = config.space === 's' ? part.length : width;
    if (config.normalization === 'layers') part = normOverLayers(part, width);
    for (let at = 0; at < part.length; at += row) {
      let x = part.subarray(at, at + row);
      if (config.normalization !== 'layers') x = pixelNorm(x);
      for (let i = 0; i < MAPPER_LAYERS; i++) {
        x = leaky(equalized(x, tensorOf(tensors, `${name}.${i}.weight`, [row, row]),
          tensorOf(tensors, `${name}.${i}.bias`, [row]), MAPPER_MULTIPLIER));
      }
      step.set(x.map(number => config.scale * number), start * size + at);
    }
  }
  return step;
}

function normOverLayers(part, width) {
  const layers = part.length / width;
  const result = new Float32Array(part.length);
  for (let column = 0; column < width; column++) {
    let sum = 0;
    for (let i = 0; i < layers; i++) sum += part[i * width + column] ** 2;
    const factor = 1 / Math.sqrt(sum / layers + 1e-8);
    for (let i = column; i < part.length; i += width) result[i] = part[i] * factor;
  }
  return result;
}
