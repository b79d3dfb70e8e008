/**
 * A face and its edits as a link, `?seed=7&psi=.7&edit=afro-hair:1.2&text=a face with a hat`, in the
 * form that the full app reads and writes. A link never holds data of a visitor's own picture.
 *
 * @typedef {{what: string, isText: boolean, strength: number | null}} Change
 */

const MAX_STRENGTH = 10;
const MAX_CHANGES = 50;

/**
 * @param {string} query
 * @returns {{face: object | null, changes: Change[], problems: string[]}}
 */
export function readLink(query) {
  const face = {};
  const changes = [];
  const problems = [];
  for (const [name, value] of new URLSearchParams(query)) {
    if (name === 'seed' && /^\d{1,19}$/.test(value) && BigInt(value) < 2n ** 63n) face.seed = value;
    else if (name === 'psi' && Number(value) >= 0 && Number(value) <= 1) face.psi = Number(value);
    else if (name === 'label' && /^\d{1,9}$/.test(value)) face.label = Number(value);
    else if (name === 'edit' || name === 'text') {
      const change = readChange(value, name === 'text');
      if (change && changes.length < MAX_CHANGES) changes.push(change);
      else problems.push(`“${value.slice(0, 60)}” is not a change that this page can make.`);
    } else if (['seed', 'psi', 'label'].includes(name)) {
      problems.push(`The link's ${name} “${value.slice(0, 60)}” cannot be read.`);
    }
  }
  return { face: Object.keys(face).length ? face : null, changes, problems };
}

/**
 * @param {object} face
 * @param {{edit: string, isText: boolean, strength: number}[]} edits
 * @returns {string} the query; empty for a face that has no seed
 */
export function writeLink(face, edits) {
  if (!('seed' in face)) return '';
  const query = new URLSearchParams({ seed: face.seed, psi: face.psi });
  if (face.label !== undefined) query.set('label', face.label);
  for (const { edit, isText, strength } of edits) {
    query.append(isText ? 'text' : 'edit', `${edit}:${strength}`);
  }
  return `?${query}`;
}

function readChange(value, isText) {
  const [, what, written, region] = /^(.*?)(?::(-?[\d.]+)(?::([^:]*))?)?$/s.exec(value);
  const strength = written === undefined ? null : Number(written);
  const isSound = what.trim() && !region &&
    (strength === null || Math.abs(strength) <= MAX_STRENGTH);
  return isSound ? { what: what.trim(), isText, strength } : null;
}
