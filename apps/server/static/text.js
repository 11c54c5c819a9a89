// Words of a text that a query matched, and the part of the text that shows most of them.

const WORD = /[\p{L}\p{M}\p{N}]+/gu;
const UNSPACED = /^[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\p{sc=Thai}]+$/u;
const PIECES = new Set(["learned", "lucene-impact"]); // their terms are word pieces; all others' are stems
const LONGEST = 100_000; // characters that are looked at
const LONGEST_WORD = 100; // letters: a tokenizer makes no pieces of longer ones
const AROUND = 60; // characters before the first match of a snippet
const FAINT = 0.15; // of a strand's weightiest piece: one that adds less ("of", "in") is listed, and not marked

export const piece = (match) => PIECES.has(match.strand);

const plain = (word) => word.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** Returns the places where terms stand: [{from, to, found: [match, ...]}, ...], in order and apart. */
export function places(text, matches) {
  if (!matches.length) return [];
  const look = finder(matches);
  const seen = text.slice(0, LONGEST);
  const all = [...unspaced(seen, matches)];
  for (const word of seen.matchAll(WORD)) {
    const found = look(plain(word[0]));
    if (found.length) all.push({ from: word.index, to: word.index + word[0].length, found });
  }
  return merged(all.sort((a, b) => a.from - b.from || a.to - b.to));
}

/** Returns the matches that are worth a mark: stems, whose strand knows no stop words, and the weightier pieces. */
export function telling(matches) {
  const most = new Map();
  for (const { strand, contribution } of matches) most.set(strand, Math.max(most.get(strand) ?? 0, contribution));
  return matches.filter((match) => !piece(match) || match.contribution >= FAINT * most.get(match.strand));
}

function finder(matches) {
  const stems = matches.filter((m) => !piece(m) && !UNSPACED.test(m.term)).map((m) => [stemmed(plain(m.term)), m]);
  const pieces = matches.filter((m) => piece(m)).map((m) => [plain(m.term), m]);
  const known = new Map();
  return (word) => {
    if (!known.has(word)) known.set(word, [...stems.filter(([is]) => is(word)).map(([, m]) => m), ...spelled(word, pieces)]);
    return known.get(word);
  };
}

/** Returns whether a word may have a stem. The page has no stemmer: a word that goes on a little is taken for it. */
function stemmed(stem) {
  const room = stem.length < 4 ? 2 : 6;
  const bases = stem.length > 2 && stem.endsWith("i") ? [stem, `${stem.slice(0, -1)}y`] : [stem];
  return (word) => bases.some((base) => word === base || (base.length > 1 && word.startsWith(base) && word.length - base.length <= room));
}

/**
 * Returns the matches whose pieces spell a word from its first letter to its last: "json" is "j" and "##son".
 * `dead` keeps places from which no pieces lead on: "aaaaab" would otherwise be tried in every way there is.
 */
function spelled(word, pieces, at = 0, dead = new Set()) {
  if (word.length > LONGEST_WORD) return [];
  for (const [piece, match] of pieces) {
    if (piece.startsWith("##") === (at === 0)) continue;
    const letters = at ? piece.slice(2) : piece;
    const end = at + letters.length;
    if (!letters || dead.has(end) || !word.startsWith(letters, at)) continue;
    if (end === word.length) return [match];
    const rest = spelled(word, pieces, end, dead);
    if (rest.length) return [match, ...rest];
    dead.add(end);
  }
  return [];
}

function* unspaced(text, matches) {
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return; // offsets would lie
  for (const match of matches.filter((m) => UNSPACED.test(m.term.replace(/^##/, "")))) {
    const term = match.term.replace(/^##/, "").toLowerCase();
    for (let at = lower.indexOf(term); at >= 0; at = lower.indexOf(term, at + 1)) yield { from: at, to: at + term.length, found: [match] };
  }
}

function merged(all) {
  const kept = [];
  for (const place of all) {
    const last = kept.at(-1);
    if (last && place.from < last.to) {
      last.to = Math.max(last.to, place.to);
      last.found = [...new Set([...last.found, ...place.found])];
    } else kept.push({ ...place });
  }
  return kept;
}

/** Returns the part of a text, {from, to}, in which the weightiest distinct terms stand. */
export function snippet(text, found, length = 320) {
  if (text.length <= length) return { from: 0, to: text.length };
  const best = found.slice(0, 500).reduce((top, place, i) => better(top, { at: place.from, worth: worth(found, i, place.from + length - AROUND) }), { at: 0, worth: 0 });
  const from = best.at <= AROUND ? 0 : broken(text, best.at - AROUND, best.at);
  return { from, to: shortened(text, from + length) };
}

const better = (one, other) => (other.worth > one.worth + 1e-9 ? other : one);

function worth(found, first, end) {
  const terms = new Map();
  for (let i = first; i < found.length && found[i].to <= end; i += 1) {
    for (const match of found[i].found) terms.set(`${match.strand} ${match.term}`, match.contribution);
  }
  return [...terms.values()].reduce((total, value) => total + value, 0);
}

function broken(text, from, most) {
  const space = text.slice(from, most).search(/\s/u);
  return space < 0 ? apart(text, from) : from + space + 1;
}

function shortened(text, to) {
  if (to >= text.length) return text.length;
  const space = text.slice(0, to).search(/\s\S*$/u);
  return space > to - 40 ? space : apart(text, to);
}

/** Returns a place, or the one before where it would part the two halves of one character. */
export const apart = (text, at) => ((text.charCodeAt(at) & 0xfc00) === 0xdc00 ? at - 1 : at);

/** Returns a hit's terms, split: `literal` ones stand in its title or text, `expansion` was learned. */
export function split(hit) {
  const standing = new Set([...places(hit.title, hit.matches), ...places(hit.text, hit.matches)].flatMap((place) => place.found));
  const literal = (match) => !piece(match) || standing.has(match);
  return { literal: hit.matches.filter(literal), expansion: hit.matches.filter((match) => !literal(match)) };
}
