/**
 * Finds out what words ask for, like `stylegan_hub/methods/wording.py`. The patterns and lists are
 * part of the export, so that they are defined in one place.
 *
 * @typedef {object} Request
 * @property {string} text what pictures should show
 * @property {string} neutral what they show now
 * @property {boolean} removal whether `neutral` names what should be removed
 * @property {string} said the text as typed
 */

import { BrowserError } from './safetensors.js';

export class Wording {
  /** @param {object} rules from `wording.rules()` in Python */
  constructor(rules, neutral) {
    const pattern = source => new RegExp(source, 'iu');
    this.neutral = neutral;
    this.removals = rules.removals.map(pattern);
    this.rewrites = rules.rewrites.map(([source, plain]) => [new RegExp(source, 'giu'), plain]);
    this.comparedParts = rules.compared_parts.map(pattern);
    this.notes = rules.notes.map(([source, plain]) => [pattern(source), plain]);
    for (const name of ['addition', 'made', 'colored', 'shaped', 'less', 'doing', 'between',
      'negated', 'named', 'sharing', 'shared', 'kept', 'bare', 'letter', 'dangling', 'ending',
      'owner', 'alternative', 'unnamed', 'vague', 'whole', 'pronoun', 'article']) {
      this[name] = pattern(rules[name]);
    }
    this.goesOn = pattern(rules.goes_on);
    this.bareNoun = pattern(rules.bare_noun);
    this.byCommand = pattern(rules.by_command);
    this.forAll = pattern(rules.for_all);
    this.unnamedError = rules.unnamed_error;
    this.emoji = new RegExp(rules.emoji, 'gu');
    this.quotes = rules.quotes;
    this.compared = new Map(Object.entries(rules.compared));
    this.verbs = new Map(Object.entries(rules.verbs));
    this.uncounted = new Set(rules.uncounted);
    this.adjectives = rules.adjectives;
    this.plain = new Set(rules.plain_adjectives);
    this.nouns = new Set([...rules.uncounted, ...rules.nouns]);
  }

  /**
   * Turns a text into a change that CLIP can compare.
   *
   * What should be kept is left out, since edits found in a browser cannot keep it.
   *
   * @param {string} said
   * @returns {Request}
   * @throws {BrowserError} the text names nothing that could change, "remove everything"
   */
  read(said) {
    const typed = said.trim();
    const [text] = this.#withoutKept(this.#tidy(typed));
    const pieces = this.#separated(text);
    let changes = pieces.map(one => this.#single(one));
    const isCaption = pieces.every(one => this.#plain(one) === one);
    if (changes.length > 1 && isCaption && !changes.some(({ removal }) => removal)) {
      changes = [change(text)];
    }
    const first = changes.length === 1 ? changes[0] : this.#together(changes);
    const wanted = text === typed.replace(/[.! ]+$/, '') && first.text === text ? typed : first.text;
    return { text: wanted, neutral: first.neutral ?? this.neutral, removal: first.removal,
      said: typed };
  }

  /**
   * The single changes in a text: "older, smiling, with glasses" has three.
   *
   * @param {string} text
   * @returns {string[]}
   */
  parts(text) {
    // Single spaces: on a long run of them, the expressions would take quadratic time.
    const said = text.replace(/\s+/g, ' ').replace(/^[ .!;,]+|[ .!;,]+$/g, '');
    const [plain, kept] = said ? this.#withoutKept(this.#tidy(said)) : ['', []];
    const found = this.#separated(plain).map(one => this.#plain(one));
    if (found.length < 2) return found.length ? [said] : [];
    return kept.length ? found.map(one => `${one}, keeping ${kept.join(' and ')}`) : found;
  }

  #tidy(text) {
    let plain = [...text].filter(letter => !this.quotes.includes(letter)).join('')
      .replace(/[’‘]/g, "'").replace(/\s+/g, ' ').trim();
    const spoken = plain.replace(this.emoji, ' ').replace(/\s+/g, ' ').trim();
    if (this.letter.test(spoken) && !this.dangling.test(spoken)) plain = spoken;
    plain = plain.replace(/^'(.+)'(?=[^\p{L}\p{N}_]*$)/u, '$1').replace(this.ending, '');
    for (const [pattern, said] of this.rewrites) plain = plain.replace(pattern, said);
    return plain || text.trim();
  }

  #withoutKept(text) {
    const groups = this.kept.exec(text)?.groups;
    return groups ? [groups.rest, this.#things(groups.kept)] : [text, []];
  }

  #things(text) {
    return text.split(/\s*(?:,|;|&|\+|\band\b)\s*/i).map(one => one.replace(this.owner, ''));
  }

  #separated(text) {
    const pieces = text.split(this.between);
    const found = [];
    for (let i = 0; i < pieces.length; i += 2) {
      let piece = (pieces[i].replace(this.ending, '') || pieces[i]).trim();
      if (!piece) continue;
      const last = found.at(-1);
      const negated = last && this.negated.exec(last);
      const shared = last && this.sharing.test(last) && this.shared.exec(piece);
      const forAll = last && pieces[i - 1].trim() !== ',' && this.forAll.exec(piece);
      if (negated && this.#isNegatedToo(negated[0], piece, pieces.slice(i - 1))) {
        piece = `${negated[0]} ${piece}`;
      } else if (shared) found[found.length - 1] = `${last} ${shared[0]}`;
      else if (forAll) this.#shareBackwards(found, forAll[0]);
      found.push(piece);
    }
    return found;
  }

  #shareBackwards(found, ending) {
    for (let i = found.length - 1; i >= 0; i--) {
      if (!this.named.test(found[i]) || this.#saysHow(found[i])) return;
      found[i] += ending;
    }
  }

  #plain(piece) {
    return this.notes.reduce((text, [pattern, said]) => text.replace(pattern, said), piece);
  }

  #isNegatedToo(negation, piece, rest) {
    if (this.negated.test(piece) || this.forAll.test(piece) || !this.named.test(piece)) return false;
    const at = rest.findIndex((between, index) => index % 2 === 0 && between.trim() !== ',');
    if (at >= 0 && this.alternative.test(rest[at])) {
      return !(this.byCommand.test(negation) && this.#saysHow(piece));
    }
    if (this.#saysHow(piece) || /but/i.test(rest[0])) return false;
    if (this.goesOn.test(negation)) return true;
    return at >= 0 && rest.slice(1, at + 2).filter((_, index) => index % 2 === 0)
      .every(noun => this.bareNoun.test(noun.trim()) && !this.#saysHow(noun.trim()));
  }

  #saysHow(word) {
    const how = word.toLowerCase();
    return this.compared.has(how) || this.verbs.has(how) || this.#isAdjective(how);
  }

  #isAdjective(word) {
    if (this.nouns.has(word)) return false;
    return this.plain.has(word) || this.adjectives.some(end => word.endsWith(end));
  }

  #single(said) {
    const { neutral } = this;
    const text = this.#plain(said);
    if (this.unnamed.test(text)) throw this.#unnamed(said);
    const bare = text.replace(this.bare, '');
    const pair = this.compared.get(bare.toLowerCase());
    if (pair) return change(...pair.map(how => this.#described(how)));
    for (const pattern of this.comparedParts) {
      const groups = pattern.exec(text)?.groups;
      if (!groups) continue;
      return change(...this.compared.get(groups.how.toLowerCase())
        .map(how => this.#having(how, groups.part)));
    }
    const doing = this.doing.exec(text)?.groups;
    if (doing) {
      const done = this.#described(this.verbs.get(doing.how.toLowerCase()));
      return doing.less ? change(neutral, done, true) : change(done);
    }
    const less = this.less.exec(text)?.groups;
    const found = less && this.#moreOrLess(less);
    if (found) return found;
    for (const pattern of this.removals) {
      const groups = pattern.exec(bare)?.groups;
      if (!groups) continue;
      let subject = (groups.subject ?? '').replace(/^[ ,]+|[ ,]+$/g, '');
      if (!subject || this.pronoun.test(subject)) subject = neutral;
      const { thing } = groups;
      if (this.vague.test(thing) || this.#isWhole(thing)) throw this.#unnamed(said);
      const how = thing.toLowerCase();
      if (this.plain.has(how) || [...this.verbs.values()].includes(how) || how.endsWith('ed')) {
        return change(subject, this.#described(thing, subject), true);
      }
      return change(subject, `${subject} with ${this.#thing(groups.thing)}`, true);
    }
    const added = this.addition.exec(text)?.groups.thing.replace(this.owner, '');
    if (added && this.vague.test(added)) throw this.#unnamed(said);
    return this.#wish(text);
  }

  #moreOrLess({ how: said, more, less, no }) {
    const how = said.toLowerCase();
    const known = this.plain.has(how) || [...this.verbs.values()].includes(how);
    let shown;
    if (known || (!no && (this.verbs.has(how) || this.#isAdjective(how)))) {
      shown = this.#described(this.verbs.get(how) ?? how);
    } else if (more || less) {
      shown = `${this.neutral} with ${this.#thing(how)}`;
    } else return null;
    return more ? change(shown) : change(this.neutral, shown, true);
  }

  #wish(text) {
    const { neutral } = this;
    const added = this.addition.exec(text);
    if (added) {
      return change(`${neutral} with ${this.#thing(added.groups.thing.replace(this.owner, ''))}`);
    }
    const shaped = this.shaped.exec(text);
    if (shaped) return change(`${neutral} with ${shaped.groups.thing}`);
    const colored = this.colored.exec(text);
    if (colored) {
      const { how, part } = colored.groups;
      return change(`${neutral} with ${this.#thing(`${how} ${part.toLowerCase()}`)}`);
    }
    const made = this.made.exec(text)?.groups.how.toLowerCase();
    return change(made ? this.#described(this.verbs.get(made) ?? made) : text);
  }

  #together(changes) {
    let { neutral } = this;
    const once = texts => [...new Set(texts)];
    let wanted = once(changes.map(one => one.text).filter(text => text !== neutral));
    let gone = changes.map(one => one.neutral).filter(Boolean);
    if (wanted.length === 1 && changes.every(({ removal }) => removal)) [[neutral], wanted] = [wanted, []];
    if (wanted.length) return change(wanted.join(', '), once(gone).join(', ') || undefined);
    const start = `${neutral} with `;
    if (gone.every(one => one.startsWith(start))) {
      gone = gone.map((one, index) => (index ? one.slice(start.length) : one));
    }
    return change(neutral, once(gone).join(' and '), true);
  }

  #unnamed(text) {
    return new BrowserError(this.unnamedError.replace('{text}', () => text));
  }

  #isWhole(thing) {
    const shown = this.neutral.replace(this.article, '');
    const isEqual = thing.toLowerCase() === shown.toLowerCase();
    return isEqual || (this.whole.test(shown) && this.whole.test(thing));
  }

  #having(how, part) {
    if (this.#isWhole(part)) return this.#described(how);
    return `${this.neutral} with ${this.#thing(`${how} ${part}`)}`;
  }

  #described(how, subject = this.neutral) {
    return `${article(how)} ${how} ${subject.replace(this.article, '')}`;
  }

  #thing(name) {
    const thing = name.trim();
    const last = thing.split(/\s+/).at(-1).toLowerCase();
    const isMany = last.endsWith('s') && !last.endsWith('ss');
    return this.uncounted.has(last) || isMany ? thing : `${article(thing)} ${thing}`;
  }
}

/** One change: what is there afterwards, what is there now, and whether that goes away. */
function change(text, neutral = undefined, removal = false) {
  return { text, neutral, removal };
}

function article(word) {
  return 'aeiou'.includes(word[0].toLowerCase()) ? 'an' : 'a';
}
