/** CLIP's byte-level BPE tokenizer, like `CLIPTokenizer` in Python. */

import { BrowserError } from './safetensors.js';

const WORD_END = '</w>';
const WORDS = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;

export class Tokenizer {
  /** @param {{tokens: string[], merges: [string, string][], max_length: number, start: number,
   *   end: number}} config */
  constructor(config) {
    this.maxLength = config.max_length;
    this.start = config.start;
    this.end = config.end;
    this.ids = new Map(config.tokens.map((token, id) => [token, id]));
    this.ranks = new Map(config.merges.map((pair, rank) => [pair.join(' '), rank]));
    this.letters = byteLetters();
  }

  /**
   * The ids of a text, without start and end.
   *
   * @param {string} text
   * @returns {number[]}
   */
  idsOf(text) {
    const plain = text.normalize('NFC').replace(/\s+/gu, ' ').toLowerCase();
    return [...plain.matchAll(WORDS)].flatMap(([word]) => this.#pieces(word));
  }

  /**
   * The ids of texts, each with start and end, padded with the end token to the longest text.
   *
   * @param {string[]} texts
   * @returns {{ids: Int32Array, length: number}} row by row
   * @throws {BrowserError} a text is empty
   */
  batch(texts) {
    const rows = texts.map(text => {
      if (!text.trim()) throw new BrowserError("Got no words. Write some, such as 'a smiling face'.");
      return this.idsOf(text).slice(0, this.maxLength - 2);
    });
    const length = 2 + Math.max(...rows.map(row => row.length));
    const ids = new Int32Array(rows.length * length).fill(this.end);
    rows.forEach((row, i) => ids.set([this.start, ...row], i * length));
    return { ids, length };
  }

  #pieces(word) {
    const letters = [...new TextEncoder().encode(word)].map(byte => this.letters[byte]);
    letters[letters.length - 1] += WORD_END;
    while (letters.length > 1) {
      let best = Infinity;
      for (let i = 0; i + 1 < letters.length; i++) {
        best = Math.min(best, this.ranks.get(`${letters[i]} ${letters[i + 1]}`) ?? Infinity);
      }
      if (best === Infinity) break;
      for (let i = 0; i + 1 < letters.length; i++) {
        if (this.ranks.get(`${letters[i]} ${letters[i + 1]}`) === best) {
          letters.splice(i, 2, letters[i] + letters[i + 1]);
        }
      }
    }
    return letters.map(piece => this.ids.get(piece) ?? this.end);
  }
}

/** The letter that stands for each byte: itself if it is visible, else one from 256 on. */
function byteLetters() {
  const visible = byte => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(visible(byte) ? byte : next++));
}
