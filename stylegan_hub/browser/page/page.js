/** The page without a server: a face and its edits, all computed on this device. */

import { newestOnly, openEngine } from './library/client.js';
import { BrowserError } from './library/safetensors.js';
import { gif } from './gif.js';
import { readLink, writeLink } from './link.js';

const FACES = 8;
const TILE = 64; // pixels of a face to choose from
const MOVING = 128; // pixels while a slider moves, if a full-size picture is slow
const SLOW = 60; // milliseconds for a full-size picture
const MAX_SEED = 99_999;
const PSI = 0.7;
const FRAMES = 16;
const FRAME_MILLISECONDS = 80;
const STEP = 0.05;
const REST = 250; // milliseconds without a move before a full-size picture is rendered

const find = id => document.getElementById(id);
const say = text => { find('status').textContent = text; };
const here = name => new URL(`./${name}/`, location.href).href;
const someSeed = () => String(Math.floor(Math.random() * (MAX_SEED + 1)));

let engine;
let state = { face: { seed: '0', psi: PSI }, edits: [] }; // replaced, never modified
let [past, future] = [[], []];
const known = new Map(); // facts about edits, by name
let seeds = Array.from({ length: FACES }, (_, seed) => String(seed));

// Pictures

const put = (canvas, { data, width, height }) => {
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext('2d').putImageData(new ImageData(data, width, height), 0, 0);
};

const draw = newestOnly(async resolution => {
  const isBefore = find('compare').getAttribute('aria-pressed') === 'true';
  try {
    put(find('picture'), await engine.picture(state.face, isBefore ? [] : applied(), resolution));
  } catch (error) {
    tell(error);
  }
});

const applied = () => state.edits.map(({ edit, strength }) => ({ edit, strength }));

let resting;
function drawMoving() {
  draw(engine.about.milliseconds > SLOW ? MOVING : undefined);
  clearTimeout(resting);
  resting = setTimeout(() => draw(), REST);
}

async function drawFaces() {
  const tiles = seeds.map(seed => {
    const button = document.createElement('button');
    button.ariaLabel = `Face ${seed}`;
    button.append(document.createElement('canvas'));
    button.onclick = () => change({ face: { ...state.face, seed, latents: undefined } });
    return button;
  });
  find('faces').replaceChildren(...tiles);
  for (const [i, seed] of seeds.entries()) {
    const face = { ...seeded(seed) };
    put(tiles[i].firstChild, await engine.picture(face, [], TILE));
  }
}

const seeded = seed => ({ seed, psi: state.face.psi ?? PSI,
  ...(engine.about.labels ? { label: state.face.label ?? 0 } : {}) });

// The state, and how it is shown

/** Changes the state; undo restores the previous one. */
function change(changes) {
  past.push(state);
  future = [];
  show({ ...state, ...changes });
}

function show(next) {
  state = next;
  if ('latents' in state.face && state.face.latents === undefined) {
    const { seed } = state.face;
    state = { ...state, face: seeded(seed) };
  }
  find('undo').disabled = !past.length;
  find('redo').disabled = !future.length;
  find('gif').disabled = !state.edits.length;
  if ('seed' in state.face) find('seed').value = state.face.seed;
  showStack();
  history.replaceState(null, '', location.pathname + writeLink(state.face, linked()));
  return draw();
}

const linked = () => state.edits.map(({ edit, strength }) =>
  ({ edit, strength, isText: known.get(edit).isText }));

function showStack() {
  const stack = find('stack');
  const names = state.edits.map(({ edit }) => edit);
  const shown = [...stack.children].map(item => item.dataset.edit);
  if (names.join('\n') !== shown.join('\n')) stack.replaceChildren(...names.map(slot));
  state.edits.forEach(({ strength }, i) => {
    stack.children[i].querySelector('input').value = strength;
    stack.children[i].querySelector('output').textContent = strength.toFixed(2);
  });
}

function slot(name, index) {
  const item = document.createElement('li');
  item.dataset.edit = name;
  const { min, max } = known.get(name).strength;
  const [label, slider, output, remove] = ['label', 'input', 'output', 'button']
    .map(tag => document.createElement(tag));
  slider.id = `strength-${index}`;
  Object.assign(label, { htmlFor: slider.id, textContent: name });
  Object.assign(slider, { type: 'range', min, max, step: STEP });
  Object.assign(remove, { textContent: 'Remove', ariaLabel: `Remove ${name}` });
  let before = null; // the state before the visitor moved the slider
  slider.oninput = () => {
    before ??= state;
    const edits = state.edits.map((one, i) =>
      i === index ? { ...one, strength: Number(slider.value) } : one);
    state = { ...state, edits };
    output.textContent = Number(slider.value).toFixed(2);
    drawMoving();
  };
  slider.onchange = () => {
    if (!before) return;
    const moved = state;
    state = before;
    before = null;
    change(moved);
  };
  remove.onclick = () => change({ edits: state.edits.filter((_, i) => i !== index) });
  item.append(label, slider, output, remove);
  return item;
}

function putOn(about, strength = about.strength.default) {
  const others = state.edits.filter(({ edit }) => edit !== about.name);
  change({ edits: [...others, { edit: about.name, strength }] });
}

// Actions of a visitor

async function work(text, what) {
  say(text);
  for (const button of document.querySelectorAll('#say button, #zoo button')) button.disabled = true;
  try {
    say((await what()) ?? '');
  } catch (error) {
    tell(error);
  } finally {
    for (const button of document.querySelectorAll('#say button, #zoo button')) button.disabled = false;
    keepLoaded();
  }
}

async function changeByWords(text, strength) {
  const said = [];
  for (const one of await engine.changes(text)) {
    const found = await engine.find(one, state.face, applied());
    known.set(one, { ...found, isText: true });
    putOn(found, strength ?? found.strength.default);
    const fit = `fit ${found.fit.toFixed(2)} of 1`;
    said.push(found.advice || `“${one}” was added and is ${found.verdict} visible (${fit}).`);
  }
  return said.join(' ');
}

async function takeEdit(name, strength) {
  const about = await engine.loadEdit(name);
  known.set(name, { ...about, isText: false });
  putOn(about, strength ?? about.strength.default);
  return `“${name}” was added. Move its slider to change its strength.`;
}

async function openFiles(files) {
  const [config, weights] = ['.json', '.safetensors'].map(end =>
    [...files].find(file => file.name.endsWith(end)));
  if (!config || !weights) {
    throw new BrowserError('Choose both files of one edit: config.json and model.safetensors.');
  }
  const text = await config.text();
  let prompt;
  try {
    ({ prompt } = JSON.parse(text));
  } catch { /* the engine reports what is wrong */ }
  const name = typeof prompt === 'string' && prompt ? prompt.slice(0, 60) : 'an edit from files';
  const about = await engine.openEdit(name, text, await weights.arrayBuffer());
  known.set(name, { ...about, isText: false });
  putOn(about);
  return `“${name}” was added. Links cannot include it.`;
}

async function bringPortrait(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new BrowserError(`This browser cannot read ${file.name}. Choose a PNG or JPEG picture.`);
  });
  const [height, width] = engine.about.size;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const { data } = context.getImageData(0, 0, width, height);
  change({ face: await engine.invert({ data, width, height }) });
  return 'This is the nearest face that the model can render. It stays on this device, so links ' +
    'cannot include it.';
}

function save(blob, ending) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `face${'seed' in state.face ? `-${state.face.seed}` : ''}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function savePng() {
  await draw();
  const canvas = new OffscreenCanvas(1, 1);
  put(canvas, await engine.picture(state.face, applied()));
  save(await canvas.convertToBlob(), 'png');
  return 'Saved the picture.';
}

async function saveGif() {
  const frames = [];
  for (let i = 0; i <= FRAMES; i++) {
    say(`Picture ${i + 1} of ${FRAMES + 1} …`);
    const moved = applied().map(one => ({ ...one, strength: one.strength * i / FRAMES }));
    frames.push(await engine.picture(state.face, moved));
  }
  save(gif([...frames, ...frames.slice(1, -1).reverse()], FRAME_MILLISECONDS), 'gif');
  return 'Saved the animation.';
}

async function copyLink() {
  const query = writeLink(state.face, linked());
  if (!query) return 'A link cannot include your own portrait. Save a PNG instead.';
  const link = location.origin + location.pathname + query;
  await navigator.clipboard.writeText(link).catch(() => prompt('Copy this link:', link));
  return 'Copied a link to this face.';
}

/** Lets the service worker cache the loaded files for offline use. */
async function keepLoaded() {
  navigator.serviceWorker?.controller?.postMessage({ loaded: await engine.loaded() });
}

// Opening

function tell(error) {
  say(error instanceof BrowserError ? error.message : 'This is a bug in the page: ' + error.message);
  if (!(error instanceof BrowserError)) console.error(error);
}

async function openLink() {
  const { face, changes, problems } = readLink(location.search);
  await show({ face: { ...seeded('0'), ...face }, edits: [] });
  for (const { what, isText, strength } of changes) {
    try {
      if (isText) await changeByWords(what, strength);
      else await takeEdit(what, strength);
    } catch (error) {
      problems.push(error.message);
    }
  }
  [past, future] = [[], []];
  find('undo').disabled = true;
  return problems;
}

function wire() {
  find('undo').onclick = () => {
    future.push(state);
    show(past.pop());
  };
  find('redo').onclick = () => {
    past.push(state);
    show(future.pop());
  };
  find('reset').onclick = () => change({ face: seeded('0'), edits: [] });
  find('compare').onclick = ({ target }) => {
    target.setAttribute('aria-pressed', target.getAttribute('aria-pressed') !== 'true');
    draw();
  };
  find('png').onclick = () => work('Saving …', savePng);
  find('gif').onclick = () => work('Saving …', saveGif);
  find('copy').onclick = () => work('', copyLink);
  find('roll').onclick = () => change({ face: seeded(someSeed()) });
  find('others').onclick = () => {
    seeds = seeds.map(someSeed);
    drawFaces().catch(tell);
  };
  find('who').onsubmit = event => event.preventDefault();
  find('seed').onchange = ({ target }) => {
    if (target.value && target.checkValidity()) change({ face: seeded(target.value) });
    else say(`Got the seed “${target.value}”; expected a whole number of 0 or more.`);
  };
  find('class').onchange = ({ target }) => {
    change({ face: { ...seeded(state.face.seed ?? '0'), label: Number(target.value) } });
    drawFaces().catch(tell);
  };
  find('say').onsubmit = event => {
    event.preventDefault();
    work('Looking …', () => changeByWords(find('words').value));
  };
  find('portrait').onchange = ({ target }) =>
    target.files[0] && work('Looking at it …', () => bringPortrait(target.files[0]));
  find('files').onchange = ({ target }) => work('Opening …', () => openFiles(target.files));
  document.addEventListener('keydown', event => {
    const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z';
    if (!isUndo || event.target.matches('input:not([type=range])')) return;
    event.preventDefault();
    find(event.shiftKey ? 'redo' : 'undo').click();
  });
}

function introduce({ backend, threads, milliseconds, neutral, labels, edits, has }) {
  document.title = find('title').textContent = `Change ${neutral} with words`;
  find('engine').textContent = `Rendered by this browser: ${backend}` +
    `${threads > 1 ? ` with ${threads} threads` : ''}, ` +
    `${Math.round(milliseconds)} ms for a full-size picture.`;
  find('class-label').hidden = !labels;
  find('class').max = labels - 1;
  find('words-part').hidden = !has.includes('instant');
  find('portrait-part').hidden = !has.includes('encoder');
  find('zoo-part').hidden = !edits.length;
  find('zoo').replaceChildren(...edits.map(({ name, prompt }) => {
    const button = document.createElement('button');
    Object.assign(button, { textContent: name, title: prompt ?? name });
    button.onclick = () => work('Loading …', () => takeEdit(name));
    return button;
  }));
}

async function open() {
  try {
    const wanted = new URLSearchParams(location.search).get('backend');
    engine = await openEngine({ pipeline: here('pipeline'), library: here('tfjs'),
      ...(wanted ? { backends: [wanted] } : {}) }, say);
  } catch (error) {
    return tell(error);
  }
  introduce(engine.about);
  wire();
  const problems = await openLink();
  say(problems.join(' ') || 'Pick a face and describe the change, or choose an edit.');
  document.body.dataset.ready = 'yes';
  await drawFaces();
  navigator.serviceWorker?.addEventListener('controllerchange', keepLoaded);
  // It caches everything, so it waits until the faces are there. It fails without https.
  navigator.serviceWorker?.register('./service_worker.js').catch(() => {});
  await engine.prepare();
  await keepLoaded();
}

open().catch(tell);
