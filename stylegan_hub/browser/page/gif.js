/**
 * Pictures as an endless animation: GIF 89a with one palette for all frames, found by median cut
 * (Heckbert 1982), and LZW compression as the format requires.
 */

const COLORS = 256;
const MIN_CODE_BITS = 8;
const MAX_CODES = 4096;
const BITS = 5; // for each of red, green and blue; colors with the same bits are treated as equal

/**
 * @param {{data: Uint8ClampedArray, width: number, height: number}[]} frames RGBA, all of one size
 * @param {number} milliseconds per frame
 * @returns {Blob}
 */
export function gif(frames, milliseconds) {
  const { width, height } = frames[0];
  const { palette, places } = colorsOf(frames);
  const word = number => [number & 255, number >> 8];
  const parts = [
    new TextEncoder().encode('GIF89a'),
    Uint8Array.from([...word(width), ...word(height), 0xf7, 0, 0]),
    palette,
    Uint8Array.from([0x21, 0xff, 11, ...new TextEncoder().encode('NETSCAPE2.0'), 3, 1, 0, 0, 0]),
  ];
  for (const { data } of frames) {
    const indices = new Uint8Array(width * height);
    for (let i = 0; i < indices.length; i++) indices[i] = places[key(data, 4 * i)];
    const hundredths = word(Math.round(milliseconds / 10));
    parts.push(Uint8Array.from([0x21, 0xf9, 4, 0, ...hundredths, 0, 0,
      0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0, MIN_CODE_BITS]), packed(indices));
  }
  parts.push(Uint8Array.of(0x3b));
  return new Blob(parts, { type: 'image/gif' });
}

const key = (data, at) => ((data[at] >> 3) << 10) | ((data[at + 1] >> 3) << 5) | (data[at + 2] >> 3);

/** The palette, and the place in it of each 15-bit color. */
function colorsOf(frames) {
  const counts = new Uint32Array(1 << (3 * BITS));
  for (const { data } of frames) {
    for (let at = 0; at < data.length; at += 4) counts[key(data, at)]++;
  }
  const used = [...counts.keys()].filter(color => counts[color]);
  const channel = (color, axis) => (color >> (BITS * (2 - axis))) & 31;
  const widest = box => {
    const spans = [0, 1, 2].map(axis => {
      const values = box.map(color => channel(color, axis));
      return Math.max(...values) - Math.min(...values);
    });
    const span = Math.max(...spans);
    return { span, axis: spans.indexOf(span) };
  };
  const boxes = [{ colors: used, ...widest(used) }];
  while (boxes.length < COLORS) {
    boxes.sort((a, b) => a.span * a.colors.length - b.span * b.colors.length);
    const { colors, span, axis } = boxes.at(-1);
    if (!span) break;
    boxes.pop();
    colors.sort((a, b) => channel(a, axis) - channel(b, axis));
    const half = colors.length >> 1;
    for (const part of [colors.slice(0, half), colors.slice(half)]) {
      boxes.push({ colors: part, ...widest(part) });
    }
  }
  const palette = new Uint8Array(3 * COLORS);
  const places = new Uint8Array(counts.length);
  boxes.forEach(({ colors }, place) => {
    const total = colors.reduce((sum, color) => sum + counts[color], 0);
    for (let axis = 0; axis < 3; axis++) {
      const sum = colors.reduce((all, color) => all + channel(color, axis) * counts[color], 0);
      palette[3 * place + axis] = Math.round(sum / total * 255 / 31);
    }
    for (const color of colors) places[color] = place;
  });
  return { palette, places };
}

/** LZW codes in blocks of at most 255 bytes. */
function packed(indices) {
  const clear = 1 << MIN_CODE_BITS;
  const bytes = [];
  let [kept, keptBits] = [0, 0];
  let [bits, next] = [MIN_CODE_BITS + 1, clear + 2];
  let known = new Map();
  const write = code => {
    kept |= code << keptBits;
    for (keptBits += bits; keptBits >= 8; keptBits -= 8) {
      bytes.push(kept & 255);
      kept >>>= 8;
    }
  };
  write(clear);
  let prefix = indices[0];
  for (let i = 1; i < indices.length; i++) {
    const string = prefix * 256 + indices[i];
    const code = known.get(string);
    if (code !== undefined) {
      prefix = code;
      continue;
    }
    write(prefix);
    if (next === MAX_CODES) {
      write(clear);
      [bits, next, known] = [MIN_CODE_BITS + 1, clear + 2, new Map()];
    } else {
      if (next === 1 << bits) bits++;
      known.set(string, next++);
    }
    prefix = indices[i];
  }
  write(prefix);
  write(clear + 1);
  if (keptBits) bytes.push(kept & 255);
  const blocks = [];
  for (let at = 0; at < bytes.length; at += 255) {
    const block = bytes.slice(at, at + 255);
    blocks.push(block.length, ...block);
  }
  return Uint8Array.from([...blocks, 0]);
}
