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

export class Wording {
  /** @param {object} rules from `wording.rules()` in Python */
  constructor(rules, neutral) {
    const pattern = source => new RegExp(source, 'iu');
    this.neutral = neutral;
    this.removals = rules.removals.map(pattern);
    this.rewrites = rules.rewrites.map(([source, plain]) => [new RegExp(source, 'giu'), plain]);
    this.comparedParts = rules.compared_parts.map(pattern);
    for (const name of ['addition', 'made', 'colored', 'shaped', 'less', 'doing', 'between',
      'negated', 'named', 'sharing', 'shared', 'kept', 'bare', 'letter', 'dangling', 'ending',
      'owner']) {
      this[name] = pattern(rules[name]);
    }
    this.goesOn = pattern(rules.goes_on);
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
   */
  read(said) {
    const typed = said.trim();
    const [text] = this.#withoutKept(this.#tidy(typed));
    let changes = this.#separated(text).map(one => this.#single(one));
    if (changes.length > 1 && !changes.some(({ removal }) => removal)) changes = [change(text)];
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
    const found = this.#separated(plain);
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
      let piece = pieces[i].trim();
      if (!piece) continue;
      const last = found.at(-1);
      const negated = last && this.negated.exec(last);
      const shared = last && this.sharing.test(last) && this.shared.exec(piece);
      const later = pieces.slice(i - 1).filter((_, index) => index % 2 === 0);
      if (negated && this.#isNegatedToo(negated[0], piece, later)) piece = `${negated[0]} ${piece}`;
      else if (shared) found[found.length - 1] = `${last} ${shared[0]}`;
      found.push(piece);
    }
    return found;
  }

  #isNegatedToo(negation, piece, betweens) {
    if (this.negated.test(piece) || !this.named.test(piece) || this.#saysHow(piece)) return false;
    const alternative = /\bn?or\b/i;
    if (alternative.test(betweens[0])) return true;
    const listed = betweens[0].trim() === ',' && betweens.some(one => alternative.test(one));
    return (listed || this.goesOn.test(negation)) && !/but/i.test(betweens[0]);
  }

  #saysHow(word) {
    const how = word.toLowerCase();
    return this.compared.has(how) || this.verbs.has(how) || this.#isAdjective(how);
  }

  #isAdjective(word) {
    if (this.nouns.has(word)) return false;
    return this.plain.has(word) || this.adjectives.some(end => word.endsWith(end));
  }

  #single(text) {
    const { neutral } = this;
    const bare = text.replace(this.bare, '');
    const pair = this.compared.get(bare.toLowerCase());
    if (pair) return change(...pair.map(how => this.#described(how)));
    for (const pattern of this.comparedParts) {
      const groups = pattern.exec(text)?.groups;
      if (!groups) continue;
      return change(...this.compared.get(groups.how.toLowerCase())
        .map(how => `${neutral} with ${this.#thing(`${how} ${groups.part}`)}`));
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
      const subject = (groups.subject ?? '').replace(/^[ ,]+|[ ,]+$/g, '') || neutral;
      return change(subject, `${subject} with ${this.#thing(groups.thing)}`, true);
    }
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
    const { neutral } = this;
    const once = texts => [...new Set(texts)];
    const wanted = once(changes.map(one => one.text).filter(text => text !== neutral));
    let gone = changes.map(one => one.neutral).filter(Boolean);
    if (wanted.length) return change(wanted.join(', '), once(gone).join(', '));
    const start = `${neutral} with `;
    if (gone.every(one => one.startsWith(start))) {
      gone = gone.map((one, index) => (index ? one.slice(start.length) : one));
    }
    return change(neutral, once(gone).join(' and '), true);
  }

  #described(how) {
    return `${article(how)} ${how} ${this.neutral.replace(/^(?:an?|the)\s+/i, '')}`;
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
