// Fused scores, worked out in the page: what sliders need to order hits at once.

const part = (view, weight) => weight * view.normalised;

function sum(hit, weights) {
  return Object.entries(hit.strands).reduce((total, [name, view]) => total + part(view, weights[name] ?? 0), 0);
}

function mean(hit, weights) {
  const all = Object.keys(hit.strands).reduce((total, name) => total + (weights[name] ?? 0), 0);
  return sum(hit, weights) / (all || 1);
}

const BLENDS = [mean, sum];
const NEAR = 1e-6;

/** Returns the formula that made the answer's scores, or null: ranks or a later step made them, and only the server can. */
export function blendOf(answer) {
  const made = (blend) => answer.hits.every((hit) => Math.abs(blend(hit, answer.weights) - hit.score) <= NEAR * Math.max(1, Math.abs(hit.score)));
  return BLENDS.find(made) ?? null;
}

/** Returns the hits by other weights, best first; ties as everywhere in plait: by score, then by id, both descending. */
export function ordered(hits, weights, blend) {
  const scored = hits.map((hit) => ({ hit, score: blend(hit, weights) }));
  return scored.sort((a, b) => b.score - a.score || later(b.hit.id, a.hit.id));
}

/** Returns whether an id comes behind another (above 0) by code points, as Python sorts; `<` would go by UTF-16. */
function later(one, other) {
  const [mine, theirs] = [[...one], [...other]];
  const at = mine.findIndex((character, i) => character !== theirs[i]);
  if (at < 0) return mine.length - theirs.length;
  return at < theirs.length ? mine[at].codePointAt(0) - theirs[at].codePointAt(0) : 1;
}

/** Returns each strand's share of a hit's score, from 0 to 1; what counts against a hit has none. */
export function shares(hit, weights) {
  const parts = Object.entries(hit.strands).map(([name, view]) => [name, Math.max(0, part(view, weights[name] ?? 0))]);
  const total = parts.reduce((all, [, value]) => all + value, 0);
  return Object.fromEntries(parts.map(([name, value]) => [name, total ? value / total : 0]));
}

export const same = (one, other, names) => names.every((name) => Math.abs((one[name] ?? 0) - (other[name] ?? 0)) < 1e-9);
