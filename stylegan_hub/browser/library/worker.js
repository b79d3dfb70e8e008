// Runs an `Engine` beside the page, in a classic worker because tf.js consists of classic scripts.

const opening = import('./engine.js').catch(error => {
  const message = `The engine cannot be loaded (${error.message}). Check your connection and load ` +
    'the page again; if that does not help, use a newer browser.';
  throw Object.assign(new Error(message), { name: 'BrowserError' });
});
opening.catch(() => {}); // the answer to each call reports it
let engine = null;
let last = Promise.resolve(); // calls are answered one after the other

async function answer(method, args) {
  const { Engine } = await opening;
  if (method === 'open') {
    const notice = text => self.postMessage({ notice: text });
    engine = await Engine.open({ ...args[0], run: address => importScripts(address), notice });
    return engine.info();
  }
  return engine[method](...args);
}

self.onmessage = ({ data: { id, method, args } }) => {
  last = last.then(() => answer(method, args)).then(
    result => {
      const buffers = result?.data?.buffer ? [result.data.buffer] : [];
      self.postMessage({ id, result }, buffers);
    },
    error => self.postMessage({ id, error: { name: error.name, message: error.message } }));
};
