// The server: what it answers, or an error that says what to do. A token is asked for once and kept for this tab.

const TOKEN = "plait-token";
const SENDABLE = /^[\x20-\x7e]+$/; // a header holds nothing else: fetch would fail as if there were no server
let asking = null; // one question for all requests that wait for it

class Trouble extends Error {}

const ADVICE = {
  401: "The server wants a token.",
  404: "The server has no such address; is it an older plait?",
  413: "The query is too long for the server.",
  429: "The server is busy. Try again in a moment.",
  503: "The server is stopping or not ready yet.",
  504: "The search took too long and was given up.",
};

export const info = () => call("api/info");

export const search = (wish, signal) =>
  call("api/search", { method: "POST", body: JSON.stringify(wish), signal, headers: { "Content-Type": "application/json" } });

async function call(path, options = {}, before = "") {
  const answer = await sent(path, options);
  if (answer.status === 401) {
    await newToken(before);
    return call(path, options, "That token was not accepted.");
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok && said !== null) return said;
  const error = said?.error ?? {};
  const message = [answer.status === 429 ? ADVICE[429] : error.message, ADVICE[answer.status]].find(Boolean);
  throw new Trouble(message ?? `The server answered with status ${answer.status}.`);
}

async function sent(path, options) {
  const token = kept();
  const headers = { Accept: "application/json", ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  try {
    return await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer. Is it still running?");
  }
}

function newToken(said) {
  asking ??= asked(said).finally(() => (asking = null));
  return asking;
}

function asked(said) {
  const [dialog, form, input, cancel] = ["token-dialog", "token-form", "token", "token-cancel"].map((id) => document.getElementById(id));
  document.getElementById("token-said").textContent = said;
  input.value = "";
  return new Promise((resolve, reject) => {
    let given = false;
    form.onsubmit = (event) => {
      event.preventDefault();
      const token = input.value.trim();
      if (!SENDABLE.test(token)) {
        document.getElementById("token-said").textContent = "A token has letters, digits and signs of ASCII alone.";
        return;
      }
      given = true;
      keep(token);
      dialog.close();
    };
    cancel.onclick = () => dialog.close();
    dialog.onclose = () => (given ? resolve() : reject(new Trouble(ADVICE[401])));
    dialog.showModal();
  });
}

let unkept = ""; // where a browser forbids storage

function kept() {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return unkept;
  }
}

function keep(token) {
  unkept = token;
  try {
    sessionStorage.setItem(TOKEN, token);
  } catch {
    // `unkept` has it
  }
}
