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
    for (const name of ['addition', 'made', 'colored', 'less', 'negated', 'sharing', 'shared']) {
      this[name] = pattern(rules[name]);
    }
    this.between = new RegExp(rules.between, 'iu');
    this.lead = pattern(rules.lead);
    this.owner = pattern(rules.owner);
    this.compared = new Map(Object.entries(rules.compared));
    this.verbs = new Set(rules.verbs);
    this.uncounted = new Set(rules.uncounted);
    this.adjectives = rules.adjectives;
    this.plain = new Set(rules.plain_adjectives);
  }

  /**
   * Turns a text into a change that CLIP can compare.
   *
   * @param {string} said
   * @returns {Request}
   */
  read(said) {
    const typed = said.trim();
    const text = typed.replace(/[.! ]+$/, '');
    const { neutral } = this;
    const request = (wanted, now = neutral, removal = false) =>
      ({ text: wanted, neutral: now, removal, said: typed });
    const bare = text.replace(this.lead, '').toLowerCase();
    if (this.compared.has(bare)) {
      return request(...this.compared.get(bare).map(how => this.#described(how)));
    }
    const less = this.less.exec(text)?.groups.how.toLowerCase();
    if (less && (this.adjectives.some(end => less.endsWith(end)) || this.plain.has(less))) {
      return request(neutral, this.#described(less), true);
    }
    for (const pattern of this.removals) {
      const found = pattern.exec(text);
      if (!found) continue;
      const subject = (found.groups.subject ?? '').replace(/^[ ,]+|[ ,]+$/g, '') || neutral;
      return request(subject, `${subject} with ${this.#thing(found.groups.thing)}`, true);
    }
    const added = this.addition.exec(text);
    if (added) {
      const thing = this.#thing(added.groups.thing.replace(this.owner, ''));
      return request(`${neutral} with ${thing}`);
    }
    const colored = this.colored.exec(text);
    if (colored) {
      const { how, part } = colored.groups;
      return request(`${neutral} with ${this.#thing(`${how} ${part.toLowerCase()}`)}`);
    }
    const made = this.made.exec(text)?.groups.how.toLowerCase();
    return request(made && !this.verbs.has(made) ? this.#described(made) : typed);
  }

  /**
   * The single changes in a text: "older, smiling, with glasses" has three.
   *
   * @param {string} text
   * @returns {string[]}
   */
  parts(text) {
    const pieces = text.trim().replace(/\s+/g, ' ').replace(/[.!;, ]+$/, '').split(this.between);
    const found = [];
    for (let i = 0; i < pieces.length; i += 2) {
      let piece = pieces[i].trim();
      const between = (pieces[i - 1] ?? '').trim().toLowerCase();
      if (!piece) continue;
      const last = found.at(-1);
      const negated = last && this.negated.exec(last);
      const shared = last && this.sharing.test(last) && this.shared.exec(piece);
      if (between === 'or' && negated) piece = `${negated[0]} ${piece}`;
      else if (shared) found[found.length - 1] = `${last} ${shared[0]}`;
      found.push(piece);
    }
    return found;
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

function article(word) {
  return 'aeiou'.includes(word[0].toLowerCase()) ? 'an' : 'a';
}
