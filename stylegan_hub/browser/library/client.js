/** Communicates with the engine in its worker. */

import { BrowserError } from './safetensors.js';

/**
 * Opens an engine in its own worker; its methods are those of `Engine`: `await engine.picture(...)`.
 *
 * @param {object} options as for `Engine.open`, without functions
 * @param {(text: string) => void} [notice] called with texts that the user should see
 * @returns {Promise<object>} with the engine's methods, and `about`, the result of `Engine.info`
 */
export async function openEngine(options, notice = () => {}) {
  if (typeof Worker !== 'function') {
    throw new BrowserError('This browser has no workers. Use a newer browser, or the full app.');
  }
  const worker = new Worker(new URL('./worker.js', import.meta.url));
  const waiting = new Map();
  let count = 0;
  worker.onmessage = ({ data: { id, result, error, notice: text } }) => {
    if (text) return notice(text);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (!error) return resolve(result);
    const Kind = error.name === 'BrowserError' ? BrowserError : Error;
    reject(new Kind(error.message));
  };
  worker.onerror = event => {
    const error = new BrowserError(`The page's worker stopped (${event.message}). Load the page again.`);
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  const call = (method, ...args) => new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    worker.postMessage({ id: count, method, args });
  });
  const about = await call('open', options).catch(error => {
    worker.terminate();
    throw error;
  });
  const own = { about, close: () => worker.terminate() };
  return new Proxy(own, {
    get: (_, name) => own[name] ?? (name === 'then' ? undefined : (...args) => call(name, ...args)),
  });
}

/**
 * Makes a function that calls `work` one call at a time, and only with the newest arguments.
 *
 * @param {(...args: any[]) => Promise<void>} work
 * @returns {(...args: any[]) => Promise<void>} resolves when no call is waiting
 */
export function newestOnly(work) {
  let wanted = null;
  let running = null;
  const run = async () => {
    while (wanted) {
      const args = wanted;
      wanted = null;
      await work(...args);
    }
    running = null;
  };
  return (...args) => {
    wanted = args;
    running ??= run();
    return running;
  };
}
