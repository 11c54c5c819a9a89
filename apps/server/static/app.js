// The search page: what a person does becomes a state (query, filters, weights), the state an answer, the answer hits.

import * as api from "./api.js";
import * as filters from "./filters.js";
import { blendOf, ordered, same } from "./ranking.js";
import { el, facts, introduction, legend, row, slider } from "./view.js";

const PAGE = 10; // hits that are shown at once; one more is asked for, to know whether there are more
const DEPTH = 100; // hits that are fetched when sliders or "More" need them: ten times the work, so not before
const PATIENCE = 300; // ms without a move of a slider, before the server is asked or the address follows

const $ = (id) => document.getElementById(id);
const state = { query: "", filters: [], weights: null }; // weights: null is what the index takes by itself
const now = { info: null, answer: null, blend: null, rows: new Map(), order: [], shown: PAGE, took: 0, wish: null, deeper: null, running: null, waiting: 0 };

const strands = () => Object.keys(now.info?.strands ?? {});
const given = () => now.answer?.weights ?? now.info?.weights ?? {};
const weights = () => state.weights ?? given();

// The address

function read() {
  const asked = new URLSearchParams(location.search);
  state.query = asked.get("q") ?? "";
  state.filters = asked.getAll("filter").filter(Boolean);
  state.weights = readWeights(asked.get("w"));
}

function readWeights(text) {
  const pairs = (text ?? "").split(",").map((pair) => pair.split(":"));
  const known = pairs.filter(([name, value]) => strands().includes(name) && value !== "" && Number(value) >= 0 && Number.isFinite(Number(value)));
  return known.some(([, value]) => Number(value) > 0) ? Object.fromEntries(known.map(([name, value]) => [name, Number(value)])) : null;
}

function written() {
  const asked = new URLSearchParams();
  if (state.query) asked.set("q", state.query);
  for (const one of state.filters) asked.append("filter", one);
  if (state.weights) asked.set("w", Object.entries(state.weights).map(([name, value]) => `${name}:${Number(value.toFixed(4))}`).join(","));
  return asked.size ? `?${asked}` : location.pathname;
}

// Searching

async function search({ remember = true, since = performance.now() } = {}) {
  now.running?.abort();
  clearTimeout(now.waiting);
  if (remember && written() !== (location.search || location.pathname)) history.pushState(null, "", written());
  document.title = state.query ? `${state.query} – plait` : "plait";
  showFilters();
  if (!state.query.trim()) return empty();
  const running = (now.running = new AbortController());
  $("hits").setAttribute("aria-busy", "true");
  now.wish = wish();
  try {
    const answer = await api.search(now.wish, running.signal);
    if (running === now.running) arrived(answer, since);
  } catch (error) {
    if (running === now.running && error.name !== "AbortError") trouble(error, () => search({ remember: false }));
  }
}

function wish() {
  const asked = { query: state.query, k: PAGE + 1, explain: true, filter: filters.together(state.filters) };
  if (strands().length) asked.strands = strands(); // also those that weigh nothing now: their sliders may be moved
  return state.weights ? { ...asked, weights: state.weights } : asked;
}

function arrived(answer, since) {
  Object.assign(now, { answer, blend: blendOf(answer), rows: new Map(), shown: PAGE, running: null });
  now.deeper = answer.hits.length <= PAGE ? Promise.resolve(true) : null;
  if (state.weights) state.weights = { ...answer.weights };
  $("hits").removeAttribute("aria-busy");
  for (const id of ["trouble", "intro"]) $(id).hidden = true;
  reorder();
  showSliders();
  now.took = performance.now() - since;
  said();
  for (const id of ["answer", "legend"]) $(id).hidden = false;
  $("answer-facts").replaceChildren(...facts(answer, now.took));
  // What a person waited for ends with the frame that shows the hits.
  requestAnimationFrame(() => setTimeout(() => performance.measure("plait:search", { start: since, end: performance.now() })));
}

/** Fetches more hits of the search that was answered, once, whoever asks; resolves to whether they are there. */
function deepen() {
  const before = now.answer;
  now.deeper ??= api.search({ ...now.wish, k: DEPTH }).then((answer) => {
    if (now.answer !== before) return false;
    if (answer.commit !== before.commit) now.rows = new Map();
    Object.assign(now, { answer, blend: blendOf(answer) });
    reorder();
    return true;
  }).catch((error) => {
    if (now.answer !== before) return false;
    now.deeper = null; // those that are there stay; the next move asks again
    clearTimeout(now.waiting);
    $("status").textContent = error.message;
    return false;
  });
  return now.deeper;
}

function reorder() {
  const moved = now.blend && !same(weights(), given(), strands());
  now.order = moved ? ordered(now.answer.hits, weights(), now.blend) : now.answer.hits.map((hit) => ({ hit, score: hit.score }));
  showHits();
}

function empty() {
  Object.assign(now, { answer: null, order: [], running: null });
  $("hits").replaceChildren();
  $("hits").removeAttribute("aria-busy");
  for (const id of ["more", "trouble", "answer", "legend"]) $(id).hidden = true;
  $("intro").hidden = now.info === null;
  $("status").textContent = "";
  showSliders();
}

function trouble(error, again) {
  empty();
  $("intro").hidden = true;
  $("trouble").hidden = false;
  $("trouble").querySelector("p").textContent = error.message;
  $("trouble").querySelector("button").onclick = again;
}

function said(extra = "") {
  const { length } = now.order;
  const all = length === 1 ? "1 hit" : `${length} hits`;
  const count = length > now.shown || length === DEPTH ? `The best ${Math.min(now.shown, length)}` : length ? all : "Nothing found";
  const hint = !length && state.filters.length ? ". The filters may leave nothing." : "";
  $("status").textContent = `${count}${hint} · ${Math.round(now.took)} ms${extra}`;
}

// Hits

function showHits() {
  const most = now.order[0]?.score ?? 1;
  const nodes = now.order.slice(0, now.shown).map(({ hit, score }, i) => {
    if (!now.rows.has(hit.id)) now.rows.set(hit.id, row(hit, strands(), now.rows.size));
    const shown = now.rows.get(hit.id);
    shown.update(i + 1, score, weights(), most);
    return shown.node;
  });
  $("hits").replaceChildren(...nodes);
  $("more").hidden = now.shown >= now.order.length;
}

async function more() {
  const first = now.shown;
  $("more").disabled = true;
  const there = await deepen();
  $("more").disabled = false;
  if (!there || first >= now.order.length) return;
  now.shown += PAGE;
  showHits();
  said();
  now.rows.get(now.order[first].hit.id).article.focus();
}

// Weights

function showSliders() {
  const most = Math.max(1, ...Object.values(weights()));
  $("sliders").replaceChildren(...strands().map((name) => slider(strands(), name, weights()[name] ?? 0, most, weighed)));
  showMoved();
}

function showMoved() {
  $("again").disabled = !now.answer || same(weights(), given(), strands());
  $("reset").disabled = state.weights === null;
}

function weighed(name, value) {
  state.weights = { ...weights(), [name]: value };
  showMoved();
  clearTimeout(now.waiting);
  if (strands().every((one) => !(state.weights[one] > 0))) {
    $("status").textContent = "At least one strand needs a weight above 0.";
    return;
  }
  if (now.answer && now.blend) {
    reorder();
    deepen();
    now.waiting = setTimeout(() => {
      history.replaceState(null, "", written());
      said(" · ordered anew in the page");
    }, PATIENCE);
  } else now.waiting = setTimeout(search, PATIENCE);
}

// Filters

function showFilters() {
  const chips = state.filters.map((text, i) => el("li", {}, el("code", {}, text), el("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: () => unfilter(i) }, "×")));
  $("filters").replaceChildren(...chips);
}

function unfilter(at) {
  state.filters = state.filters.filter((_, i) => i !== at);
  search();
  ($("filters").querySelectorAll("button")[at] ?? $("query")).focus();
}

function filtered(expression) {
  if (!state.filters.includes(expression)) state.filters = [...state.filters, expression];
  search();
}

const types = () => ({ ...now.info?.fields, ...filters.OWN });

function showBuilder() {
  $("field").replaceChildren(...Object.entries(types()).map(([name, type]) => el("option", { value: name }, `${name} (${type})`)));
  showOperators();
}

function showOperators() {
  $("operator").replaceChildren(...filters.operators(types()[$("field").value] ?? "text").map((name) => el("option", {}, name)));
  showValues();
}

function showValues() {
  const wanted = filters.inputs(types()[$("field").value] ?? "text", $("operator").value);
  const labels = wanted.length === 2 ? ["From", "To"] : ["Value"];
  $("values").replaceChildren(...wanted.map((attributes, i) => el("label", {}, `${labels[i]} `, el("input", { ...attributes, required: true, autocomplete: "off" }))));
}

function built(event) {
  event.preventDefault();
  const values = [...$("values").querySelectorAll("input")].map((input) => input.value.trim());
  filtered(filters.condition($("field").value, types()[$("field").value], $("operator").value, values));
}

function wrote(event) {
  event.preventDefault();
  const expression = $("expression").value.trim();
  if (!expression) return;
  $("expression").value = "";
  filtered(expression);
}

// Keys

const typing = (node) => node.matches("input:not([type=range]), textarea, select, [contenteditable]");
const articles = () => [...$("hits").querySelectorAll("article")];
const current = () => document.activeElement?.closest("#hits article");

const KEYS = {
  "/": () => ($("query").focus(), $("query").select()),
  o: () => current() && now.rows.get(current().parentNode.dataset.id).toggle(),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  Escape: () => escaped(),
};

function step(by) {
  const all = articles();
  const at = all.indexOf(current());
  const free = current() || document.activeElement === document.body || document.activeElement === $("query") || document.activeElement === $("hits");
  if (!free || !all.length) return false;
  if (at + by < 0) return $("query").focus();
  const next = all[Math.min(at + by, all.length - 1)];
  next.focus({ preventScroll: true });
  return next.scrollIntoView({ block: "nearest" });
}

function escaped() {
  const open = current() && now.rows.get(current().parentNode.dataset.id);
  if (open && !open.panel.hidden) {
    open.toggle(false);
    open.article.focus();
  } else {
    $("query").value = "";
    $("query").focus();
  }
}

function pressed(event) {
  const action = KEYS[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("token-dialog").open) return;
  const box = event.target === $("query");
  if (typing(event.target) && !(box && ["ArrowDown", "Escape"].includes(event.key))) return;
  if (["o", "ArrowDown", "ArrowUp"].includes(event.key) && event.target.matches("[type=range]")) return;
  if (action() !== false) event.preventDefault();
}

// Light and dark

const THEMES = ["auto", "light", "dark"];

function themed(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${theme}`;
  try {
    localStorage.setItem("plait-theme", theme);
  } catch {
    // it lasts as long as the page then
  }
}

function storedTheme() {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem("plait-theme")) ?? "auto";
  } catch {
    return "auto";
  }
}

// Beginning

function listen() {
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    state.query = $("query").value;
    if (matchMedia("(pointer: coarse)").matches) $("query").blur(); // a keyboard on the screen would hide the hits
    search();
  });
  $("again").addEventListener("click", () => search());
  $("reset").addEventListener("click", () => {
    state.weights = null;
    now.answer ? search() : showSliders();
  });
  $("more").addEventListener("click", more);
  $("field").addEventListener("change", showOperators);
  $("operator").addEventListener("change", showValues);
  $("builder").addEventListener("submit", built);
  $("written").addEventListener("submit", wrote);
  $("theme").addEventListener("click", () => themed(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
  document.addEventListener("keydown", pressed);
  window.addEventListener("popstate", moved);
}

function moved() {
  read();
  $("query").value = state.query;
  search({ remember: false });
}

async function begin() {
  try {
    now.info = await api.info();
  } catch (error) {
    trouble(error, begin);
    return;
  }
  $("name").textContent = now.info.name || "plait";
  $("about").textContent = `${now.info.documents.toLocaleString("en")} ${now.info.documents === 1 ? "document" : "documents"}`;
  $("legend").replaceChildren(...legend(strands()));
  $("intro-strands").replaceChildren(...introduction(strands()));
  showBuilder();
  moved();
}

themed(storedTheme());
if (matchMedia("(min-width: 900px)").matches) for (const id of ["weighing", "filtering", "answer", "keys"]) $(id).open = true;
listen();
begin();
