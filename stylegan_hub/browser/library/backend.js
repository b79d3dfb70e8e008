/**
 * Chooses the backend of tf.js (WebGPU, WebGL or wasm): the fastest whose picture matches Python's.
 */

import { Synthesis } from './generator.js';
import { BrowserError } from './safetensors.js';

/** All backends, in the order in which they are tried. */
export const BACKENDS = ['webgpu', 'webgl', 'wasm'];

/** Largest accepted difference of a picture from Python's, in levels of 255. */
export const TOLERANCE = 2;

const FAST = 40; // no other backend is tried if a picture takes fewer milliseconds than this
const MAX_THREADS = 8; // the size of tf.js's pool
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;

/**
 * @typedef {object} Chosen
 * @property {string} name of the backend
 * @property {object} tf
 * @property {number} threads of the processor that compute; wasm uses several on an isolated page
 * @property {Synthesis} synthesis
 * @property {Guard} guard through which everything is computed
 * @property {number} milliseconds for a full-size picture
 * @property {number} difference from Python's picture, in levels of 255
 */

/**
 * The fastest backend that passes the self-test.
 *
 * @param {object} parts
 * @param {(file: string) => Promise<object>} parts.load loads a script of tf.js and returns `tf`
 * @param {string} parts.wasm address of the folder with the wasm files
 * @param {object} parts.config of the generator
 * @param {import('./safetensors.js').Tensors} parts.tensors its weights
 * @param {import('./safetensors.js').Tensors} parts.expected of the self-test
 * @param {string[]} [parts.names] backends that may be used
 * @param {boolean} [parts.hasSoftware] whether a GPU that the processor emulates may be used too
 * @returns {Promise<Chosen>}
 * @throws {BrowserError} no backend passes; the message gives a reason for each
 */
export async function chooseBackend({
  load, wasm, config, tensors, expected, names = BACKENDS, hasSoftware = false,
}) {
  let best = null;
  const reasons = [];
  for (const name of BACKENDS.filter(one => names.includes(one))) {
    let tried = null;
    try {
      if (!hasSoftware) await checkHardware(name);
      const tf = await opened(name, load, wasm);
      const threads = name === 'wasm' ? tf.wasm.getThreadsCount() : 1;
      const guard = new Guard(tf.backend());
      tried = { name, tf, threads, guard, synthesis: new Synthesis(tf, config, tensors) };
      Object.assign(tried, await guard.result(trial(tried.synthesis, expected)));
      if (!(tried.difference <= TOLERANCE)) {
        throw new Error(`its picture differs from Python's by ${tried.difference} of 255`);
      }
      if (best && best.milliseconds <= tried.milliseconds) {
        reasons.push(`${name}: slower`);
        tried.synthesis.dispose();
        continue;
      }
      best?.synthesis.dispose();
      best = tried;
      if (best.milliseconds < FAST) break;
    } catch (error) {
      if (error instanceof BrowserError) throw error; // the weights are wrong, on any backend
      reasons.push(`${name}: ${error.message}`);
      tried?.synthesis?.dispose();
    }
  }
  if (!best) {
    throw new BrowserError(`This browser cannot compute pictures (${reasons.join('; ')}). Load the ` +
      'page again; if that does not help, allow WebAssembly or WebGL, use a newer browser, or use ' +
      'the full app.');
  }
  await best.tf.setBackend(best.name);
  return best;
}

/** Notices a lost graphics card: tf.js returns a black picture then, or waits forever. */
class Guard {
  #gl;
  #isLost = false;
  #fail = () => {};

  /** @param {{device?: GPUDevice, gpgpu?: object}} backend of tf.js */
  constructor({ device, gpgpu }) {
    this.#gl = gpgpu?.gl;
    const lose = () => {
      this.#isLost = true;
      this.#fail();
    };
    this.#gl?.canvas.addEventListener('webglcontextlost', lose);
    device?.lost.then(lose);
  }

  /**
   * The result of what is being computed, one at a time.
   *
   * @template T
   * @param {Promise<T>} computing
   * @returns {Promise<T>} rejected if the graphics card is lost
   */
  result(computing) {
    return new Promise((resolve, reject) => {
      this.#fail = () => reject(new Error('the graphics card was lost'));
      computing.then(
        result => this.#isLost || this.#gl?.isContextLost() ? this.#fail() : resolve(result), reject);
      if (this.#isLost) this.#fail();
    });
  }
}

async function trial(synthesis, expected) {
  const s = expected.get('s').data;
  const { data } = await synthesis.pixels(s); // the first picture also compiles the kernels
  const wanted = expected.get('picture').data;
  let difference = data.length === wanted.length / 3 * 4 ? 0 : Infinity;
  wanted.forEach((level, i) => {
    const got = data[4 * Math.floor(i / 3) + i % 3];
    difference = Math.max(difference, Math.abs(got - level));
  });
  const begin = performance.now();
  const other = s.slice();
  other[0] += 0.01; // so that every layer is computed again
  await synthesis.pixels(other);
  return { difference, milliseconds: performance.now() - begin };
}

async function opened(name, load, wasm) {
  if (name === 'wasm' && typeof WebAssembly !== 'object') throw new Error('no WebAssembly');
  const tf = await load('tf-core.es2017.min.js');
  await load(`tf-backend-${name}.es2017.min.js`);
  if (name === 'wasm') {
    tf.wasm.setWasmPaths(wasm);
    await setThreads(tf);
  }
  if (!(await tf.setBackend(name))) throw new Error('tf.js cannot start it');
  await tf.ready();
  return tf;
}

/**
 * Chooses how many threads wasm uses: one, or on a cross-origin isolated page half of the logical
 * processors, of which many are two of one core, but at least two.
 */
async function setThreads(tf) {
  const { hardwareConcurrency: processors = 1 } = navigator;
  const isThreaded = globalThis.crossOriginIsolated && processors > 1 && await workersStart();
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', isThreaded);
  if (!isThreaded) return;
  const threads = Math.min(Math.max(Math.floor(processors / 2), 2), MAX_THREADS);
  tf.wasm.setThreadsCount(threads);
  // tf.js 4.22.0 allows half of the logical processors at most, so one of two. It is told of more.
  Object.defineProperty(navigator, 'hardwareConcurrency', { value: 2 * threads, configurable: true });
}

/** Whether workers can be started here as tf.js does, which would wait for its own ones forever. */
function workersStart() {
  const address = URL.createObjectURL(new Blob(['postMessage(0); close()']));
  return new Promise(resolve => {
    const worker = new Worker(address);
    worker.onmessage = () => resolve(true);
    worker.onerror = () => resolve(false);
  }).catch(() => false).finally(() => URL.revokeObjectURL(address)); // some browsers throw
}

/** Refuses a GPU that the processor emulates, before any script is loaded for it. */
async function checkHardware(name) {
  if (name === 'wasm') return;
  const described = name === 'webgpu' ? await describedWebGpu() : describedWebGl();
  if (described === null) throw new Error('not available');
  if (SOFTWARE.test(described)) throw new Error('it runs on the processor, without a graphics card');
}

async function describedWebGpu() {
  const adapter = await globalThis.navigator?.gpu?.requestAdapter();
  if (!adapter) return null;
  const { vendor, architecture, description, isFallbackAdapter } = adapter.info ?? {};
  return [vendor, architecture, description, isFallbackAdapter && 'software'].join(' ');
}

function describedWebGl() {
  const gl = typeof OffscreenCanvas === 'function' && new OffscreenCanvas(1, 1).getContext('webgl2');
  if (!gl) return null;
  const info = gl.getExtension('WEBGL_debug_renderer_info');
  const renderer = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : '';
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return renderer;
}
