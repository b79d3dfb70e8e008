// Renders pictures in the browser while a slider moves, if that is faster than the server.
(() => {
  const SLOW = 60; // milliseconds for a full picture; above that, a smaller one is rendered while a slider moves
  const ENOUGH = 128; // pixels of that smaller one
  const root = () => window.gradio_config?.root ?? location.origin;
  const address = name => new URL(`${root()}/in_browser/${name}`, location.href).href;
  let version = null; // of the server's files
  const fileAt = name => address(`${version}/${name}`);
  const tell = text => {
    const line = document.querySelector('#renderer');
    if (line) line.textContent = text;
  };
  let opening = null;
  let engine = null;
  let rows = null; // s of the face, then the displacement of each edit
  let renewals = 0;

  const open = async channel => {
    const offer = await (await fetch(address('offer'))).json();
    version = offer.version;
    if (offer.refusal) return tell('While a slider moves, pictures are rendered by the server.');
    const { openEngine } = await import(fileAt('library/client.js'));
    const mine = await openEngine({ pipeline: fileAt('pipeline/'), library: fileAt('tfjs/') }, tell);
    const { backend, milliseconds } = mine.about;
    const server = await serverTime(channel).catch(error => {
      mine.close(); // its worker holds the network
      throw error;
    });
    const both = `${backend}, ${Math.round(milliseconds)} ms; the server takes ${Math.round(server)} ms`;
    if (milliseconds < server) {
      engine = mine;
      return tell(`While a slider moves, pictures are rendered by this browser (${both}).`);
    }
    mine.close();
    tell(`While a slider moves, pictures are rendered by the server (this browser: ${both}).`);
  };

  const serverTime = async channel => {
    let least = Infinity;
    for (let i = 0; i < 2; i++) { // the first one may wait for other requests
      const begin = performance.now();
      const answer = await fetch(`${root()}/picture?${new URLSearchParams({ channel })}`);
      if (!answer.ok) throw new Error(await answer.text());
      await answer.blob();
      least = Math.min(least, performance.now() - begin);
    }
    return least;
  };

  const codes = async channel => {
    const answer = await fetch(`${address('codes')}?${new URLSearchParams({ channel })}`);
    if (answer.status !== 200) return null; // an edit with a region, which only the server can render
    const { readSafetensors, tensorOf } = await import(fileAt('library/safetensors.js'));
    const { data, shape: [count, width] } = tensorOf(
      readSafetensors(await answer.arrayBuffer(), 'the codes'), 'rows');
    return Array.from({ length: count }, (_, i) => data.subarray(i * width, (i + 1) * width));
  };

  window.inBrowser = {
    // Call it after the face or its edits have changed.
    renew: async channel => {
      if (!channel) return;
      opening ??= open(channel).catch(error => {
        console.info(error);
        tell('While a slider moves, pictures are rendered by the server: this browser cannot.');
      });
      const renewal = ++renewals;
      rows = null;
      await opening;
      const found = engine && renewal === renewals ? await codes(channel).catch(() => null) : null;
      if (renewal === renewals) rows = found;
    },

    // A picture at these strengths, or null if the server has to render it.
    draw: async (strengths, largest) => {
      if (!engine || !rows) return null;
      const s = rows[0].slice();
      rows.slice(1).forEach((row, i) => {
        for (let at = 0; at < s.length; at++) s[at] += strengths[i] * row[at];
      });
      const { resolutions, milliseconds } = engine.about;
      const wanted = milliseconds > SLOW ? Math.min(largest, ENOUGH) : largest;
      try {
        const { data, width, height } =
          await engine.pictureOf(s, resolutions.find(size => size >= wanted));
        const canvas = new OffscreenCanvas(width, height);
        canvas.getContext('2d').putImageData(new ImageData(data, width, height), 0, 0);
        return await canvas.convertToBlob();
      } catch (error) {
        engine.close();
        engine = null;
        tell(`From now on, pictures are rendered by the server (${error.message}).`);
        return null;
      }
    },
  };
})();
