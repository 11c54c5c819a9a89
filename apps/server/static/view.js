// What is shown. Every text is a text node: documents, terms and names may hold anything.

import { shares } from "./ranking.js";
import { apart, piece, places, snippet, split, telling } from "./text.js";

const SHOWN_METADATA = 5;
const SHOWN_TERMS = 8;

/** Returns an element; strings among the children become text nodes. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) made.style.setProperty(key, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const number = (value, digits = 3) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
export const percent = (value) => `${Math.round(100 * value)} %`;
export const colour = (strands, name) => `var(--strand-${1 + (Math.max(0, strands.indexOf(name)) % 5)})`;

/** Returns a text as nodes, with what matched in <mark>, from one place to another. */
function marked(text, found, { from, to }, strands) {
  const nodes = [from > 0 ? "… " : ""];
  let at = from;
  for (const place of found.filter((one) => one.from >= from && one.to <= to)) {
    const names = strands.filter((name) => place.found.some((match) => match.strand === name));
    nodes.push(text.slice(at, place.from), mark(text.slice(place.from, place.to), names, strands));
    at = place.to;
  }
  return [...nodes, text.slice(at, to), to < text.length ? " …" : ""].filter(Boolean);
}

function mark(word, names, strands) {
  const colours = { "--one": colour(strands, names[0]), "--two": colour(strands, names.at(-1)) };
  return el("mark", { ...colours, "data-strands": names.join(" "), title: names.join(", ") }, word);
}

/** Returns a hit's row: {node, update(rank, score, weights, most)}; the explanation is made when it is first opened. */
export function row(hit, strands, number_) {
  const ids = { title: `title-${number_}`, panel: `panel-${number_}` };
  const bar = el("div", { class: "bar", role: "img" });
  const score = el("span", { class: "score" });
  const rank = el("span", { class: "rank" });
  const panel = el("div", { id: ids.panel, class: "panel", role: "region", "aria-labelledby": ids.title, hidden: true });
  const button = el("button", { type: "button", class: "explain", "aria-expanded": "false", "aria-controls": ids.panel }, "Explain");
  const article = el("article", { tabindex: "-1", "aria-labelledby": ids.title },
    el("header", {}, rank, el("h2", { id: ids.title }, heading(hit, strands)), score),
    where(hit), bar, el("p", { class: "snippet" }, ...shownText(hit, strands)), expansion(hit, strands), button, panel);
  let weights = {};
  const fill = () => panel.replaceChildren(...explanation(hit, strands, weights));
  const toggle = (open = panel.hidden) => {
    if (open) fill();
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => toggle());
  const node = el("li", { "data-id": hit.id }, article);
  const update = (place, value, by, most) => {
    weights = by;
    rank.textContent = String(place);
    score.textContent = number(value);
    fillBar(bar, hit, strands, by, most > 0 ? Math.max(0, value) / most : 1);
    if (!panel.hidden) fill();
  };
  return { node, update, toggle, article, panel };
}

function heading(hit, strands) {
  const title = hit.title?.trim() ? hit.title : hit.id;
  const shown = el("span", {}, ...marked(title, places(title, telling(hit.matches)), { from: 0, to: title.length }, strands));
  const link = address(hit.metadata?.url);
  return link ? el("a", { href: link, rel: "noopener noreferrer nofollow" }, shown) : shown;
}

/** Returns an address that is safe to follow: of the web, and no script in disguise. */
function address(value) {
  if (typeof value !== "string" || !URL.canParse(value)) return null;
  const url = new URL(value);
  return ["http:", "https:"].includes(url.protocol) ? url.href : null;
}

function where(hit) {
  const facts = [];
  if (hit.title?.trim()) facts.push(el("span", { class: "id" }, hit.id));
  if (hit.parent) facts.push(el("span", {}, `in ${hit.parent}, at ${hit.start}`));
  if (Number.isFinite(hit.probability)) facts.push(el("span", {}, `relevant with probability ${number(hit.probability, 2)}`));
  for (const [key, value] of Object.entries(hit.metadata ?? {}).slice(0, SHOWN_METADATA)) {
    facts.push(el("span", {}, el("span", { class: "key" }, key), " ", cut(told(value), 60)));
  }
  return facts.length ? el("p", { class: "where" }, ...facts) : null;
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, apart(text, most))}…` : text);

function shownText(hit, strands) {
  const found = places(hit.text, telling(hit.matches));
  return marked(hit.text, found, snippet(hit.text, found), strands);
}

function expansion(hit, strands) {
  if (!hit.matches.some(piece)) return null;
  const terms = split(hit).expansion.slice(0, SHOWN_TERMS);
  if (!terms.length) return null;
  const chips = terms.map((match) => el("span", { class: "term", "--one": colour(strands, match.strand) }, match.term));
  return el("p", { class: "terms" }, el("span", { class: "key" }, "also stands for"), ...chips);
}

function fillBar(bar, hit, strands, weights, length) {
  const parts = shares(hit, weights);
  const names = strands.filter((name) => name in parts);
  bar.setAttribute("aria-label", `Share of the score: ${names.map((name) => `${name} ${percent(parts[name])}`).join(", ")}`);
  bar.replaceChildren(...names.map((name) => el("span", { title: `${name} ${percent(parts[name])}`, "data-strand": name, "--one": colour(strands, name), "--share": String(parts[name] * length) })));
}

function explanation(hit, strands, weights) {
  const parts = shares(hit, weights);
  const rows = strands.filter((name) => name in hit.strands).map((name) => {
    const view = hit.strands[name];
    const cells = [number(view.score), number(view.normalised), view.rank ? `#${view.rank}` : "–", number(weights[name] ?? 0), percent(parts[name])];
    return el("tr", {}, el("th", { scope: "row" }, swatch(strands, name), name), ...cells.map((cell) => el("td", {}, cell)));
  });
  const head = ["Strand", "Score", "Normalised", "Rank", "Weight", "Share"].map((name) => el("th", { scope: "col" }, name));
  const { literal, expansion: learned } = split(hit);
  return [
    el("div", { class: "wide" }, el("table", {}, el("caption", { class: "unseen" }, "What each strand says of this hit"), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))),
    terms("Terms that stand in the document", literal, strands),
    terms("Terms that were learned (expansion)", learned, strands),
    metadata(hit),
    el("h3", {}, "Text"),
    el("p", { class: "whole", tabindex: "0" }, ...marked(hit.text, places(hit.text, telling(hit.matches)), { from: 0, to: hit.text.length }, strands)),
  ].filter(Boolean);
}

function terms(title, matches, strands) {
  if (!matches.length) return null;
  const most = Object.fromEntries(strands.map((name) => [name, Math.max(...matches.filter((m) => m.strand === name).map((m) => m.contribution), 0)]));
  const items = matches.map((match) => el("li", { "--one": colour(strands, match.strand) },
    el("span", { class: "word" }, match.term), el("span", { class: "by" }, match.strand),
    el("span", { class: "weight", "--share": String(most[match.strand] > 0 ? Math.max(0, match.contribution) / most[match.strand] : 0) }),
    el("span", { class: "figure" }, number(match.contribution, 2))));
  return el("section", { class: "found" }, el("h3", {}, title), el("ul", {}, ...items));
}

function metadata(hit) {
  const pairs = Object.entries(hit.metadata ?? {});
  if (!pairs.length) return null;
  return el("dl", { class: "facts" }, ...pairs.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, told(value))]));
}

/** Returns any JSON value as a person reads it; its numbers as they are, or as `figure` writes them. */
export function told(value, figure = String) {
  if (Array.isArray(value)) return value.map((one) => told(one, figure)).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([key, inner]) => `${key}: ${told(inner, figure)}`).join("; ");
  if (typeof value === "number") return figure(value);
  return value === null || value === undefined ? "–" : String(value);
}

const short = (value) => String(Number.isInteger(value) ? value : Number(value.toPrecision(3)));

const swatch = (strands, name) => el("span", { class: "swatch", "aria-hidden": "true", "--one": colour(strands, name) });

export const legend = (strands) => strands.map((name) => el("li", {}, swatch(strands, name), name));

const ABOUT = {
  lexical: "finds the words themselves, however they are inflected",
  learned: "also finds words that a model expects to go with a document",
  dense: "compares meanings",
  lucene: "finds words in a Lucene index",
  "lucene-impact": "finds weighted terms in a Lucene index",
};

export const introduction = (strands) => strands.map((name) => el("li", {}, swatch(strands, name), el("strong", {}, name), ABOUT[name] ? ` ${ABOUT[name]}` : ""));

/** Returns a slider for a strand's weight. */
export function slider(strands, name, weight, most, oninput) {
  const shown = el("output", { for: `weight-${name}` }, number(weight));
  const input = el("input", { id: `weight-${name}`, type: "range", min: "0", max: String(most), step: "0.005", "data-strand": name, "--one": colour(strands, name) });
  input.value = String(weight);
  input.addEventListener("input", () => {
    shown.textContent = number(Number(input.value));
    oninput(name, Number(input.value));
  });
  return el("div", { class: "slider" }, el("label", { for: `weight-${name}` }, swatch(strands, name), name), input, shown);
}

/** Returns what the answer tells of itself: fusion, weights, steps, and where the time went. */
export function facts(answer, pageTook) {
  const about = [["fusion", answer.fusion], ["weights", answer.weights], ["steps", answer.pipeline], ...Object.entries(answer.steps ?? {}), ["commit", answer.commit]];
  const stages = Object.entries(answer.milliseconds ?? {});
  const most = Math.max(...stages.map(([, ms]) => ms), 0.001);
  return [
    el("dl", { class: "facts" }, ...about.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, told(value, short))])),
    el("h2", { class: "small" }, "Milliseconds"),
    el("ul", { class: "stages" }, ...stages.map(([name, ms]) => el("li", {}, el("span", { class: "word" }, name), el("span", { class: "weight", "--share": String(ms / most) }), el("span", { class: "figure" }, number(ms, 1))))),
    el("p", { class: "hint" }, `${number(answer.took, 1)} in the server, ${number(pageTook, 0)} from the key to the hits.`),
  ];
}
