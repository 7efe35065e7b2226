// AI Pipe in a page of any origin: import { signIn, chat } from "https://<this AI Pipe>/aipipe.js"

const KEY = "aipipe"; // in localStorage, as JSON: {"token": …, "email": …}
const VERIFIER = "aipipe_verifier"; // in sessionStorage, from leaving for the sign-in page to coming back
const ARRIVING = /^aipipe_(token|email)(=|$)/;

let signingIn = null; // one at a time, however often it is asked for
let unstored = null; // what a storage that takes nothing, as in some private windows, should hold

/**
 * The user's token and email; null for what is unknown: then send them to /login?redirect=<this page>.
 *
 * They come back with both in the page's address, from where this function moves them into storage. A token that
 * was made for another origin is ignored and one that has expired is forgotten, since AI Pipe would refuse them.
 *
 * @returns {{token: string | null, email: string | null}}
 */
export function getProfile() {
  const arrived = takeFromAddress();
  if (arrived) keep(arrived);
  return arrived ?? recall() ?? { token: null, email: null };
}

/**
 * The user's token and email, at once where they are known; else the page is left for AI Pipe's sign-in page, from where
 * the user comes back here, and this function, called again as the page loads, has them. The token is in no address:
 * what comes back is a code that is good once, and for this page alone (PKCE).
 *
 * @returns {Promise<{token: string, email: string | null}>}
 * @throws {Error} AI Pipe refused the sign-in, can't be reached, or the browser keeps nothing for this page.
 */
export function signIn() {
  signingIn ??= begin().finally(() => (signingIn = null));
  return signingIn;
}

/** Forgets the user, in this browser. To void the token as well they revoke the app at AI Pipe's /apps. */
export function signOut() {
  forget();
  stored(VERIFIER, null);
}

/**
 * The pieces of a model's answer, as they come: `for await (const text of chat("Hello")) …`. Whoever stops reading stops
 * the answer, and pays no more. Where the token that `signIn()` got is no good any more, as after its owner took it back,
 * it is forgotten, and the page left for a new one.
 *
 * @param {string | object[]} messages What the user says, or a conversation in OpenAI's form.
 * @param {object} options `provider`, `model`, `token`, `signal` (of an AbortController), `onCost` (called at the end with
 *   `{cost, remaining}` in dollars), and whatever OpenAI's chat completions take beside, such as `temperature`.
 * @throws {Error} A refusal, with the `status`, `type` and `code` of https://<this AI Pipe>/docs/api#errors
 */
export async function* chat(messages, options = {}) {
  const { provider = "openai", token = getProfile().token, signal, onCost, ...body } = options;
  const told = typeof messages === "string" ? [{ role: "user", content: messages }] : messages;
  const answer = await fetch(aipipe(`${provider}/v1/chat/completions`), {
    method: "POST",
    signal,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ model: "gpt-4.1-nano", messages: told, ...body, stream: true }),
  });
  if (!answer.ok) {
    const refused = refusal(await answer.text(), answer.status);
    if (answer.status === 401 && token && token === getProfile().token) {
      forget();
      await signIn().catch(() => null); // leaves for a new one; where that can't be, the app is told
    }
    throw refused;
  }
  for await (const line of lines(answer.body)) {
    const cost = /^: aipipe cost=(\S+) remaining=(\S+)/.exec(line);
    if (cost) onCost?.({ cost: Number(cost[1]), remaining: Number(cost[2]) });
    if (!line.startsWith("data:")) continue;
    const chunk = parsed(line.slice(5));
    if (chunk.error) throw refusal(line.slice(5), answer.status);
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) yield text;
  }
}

/** Where this AI Pipe has `path`. */
function aipipe(path) {
  return new URL(path, import.meta.url).href;
}

async function begin() {
  const known = getProfile();
  if (known.token) return known;
  const code = new URLSearchParams(location.search).getAll("code").at(-1); // an app may have had one of its own
  const verifier = stored(VERIFIER);
  if (!code || !verifier) return leave();
  stored(VERIFIER, null);
  clean((text) => text !== `code=${code}`);
  const fields = new URLSearchParams({ code, code_verifier: verifier });
  const answer = await fetch(aipipe("token"), { method: "POST", body: fields });
  const text = await answer.text();
  const found = answer.ok && profile(parsed(text).token, parsed(text).email);
  if (!found) throw refusal(text, answer.status);
  keep(found);
  return found;
}

/** Leaves for the sign-in page. Ends only if the user comes back by the browser's own button, to the page as it was. */
async function leave() {
  if (!crypto.subtle) throw new Error("Nobody can sign in to a page without https.");
  const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)));
  if (!stored(VERIFIER, verifier)) {
    throw new Error("This browser keeps nothing for this page, so nobody can sign in here: allow it to store data.");
  }
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const asked = { code_challenge: base64url(new Uint8Array(hash)), code_challenge_method: "S256", redirect: location.href };
  const back = new Promise((resolve) => addEventListener("pageshow", ({ persisted }) => persisted && resolve()));
  location.assign(aipipe(`login?${new URLSearchParams(asked)}`));
  await back;
  throw new Error("You came back without having signed in.");
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** AI Pipe's refusal, as it stands in an answer or in the middle of a stream. */
function refusal(text, status) {
  const { message, error = {} } = parsed(text);
  const { type, code } = Object(error);
  return Object.assign(new Error(message ?? error.message ?? `AI Pipe answered ${status}.`), { status, type, code });
}

/** The lines of a text that streams in. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const found = (rest + value).split(/\r\n|\n|\r/);
      rest = found.pop();
      yield* found;
    }
    yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The profile in the page's address, which it leaves without; null when there is none that works here. */
function takeFromAddress() {
  const parameters = new URLSearchParams(location.search);
  const token = parameters.get("aipipe_token");
  const email = parameters.get("aipipe_email");
  if (token === null && email === null) return null;
  clean((text) => !ARRIVING.test(text));
  return profile(token, email);
}

/** Leaves of the address's parameters those that `stays` approves of. Text by text: they stay as they were written. */
function clean(stays) {
  const address = new URL(location.href);
  address.search = address.search.slice(1).split("&").filter(stays).join("&");
  try {
    history.replaceState(history.state, "", address);
  } catch {
    // The page may not change its address, as in a sandbox.
  }
}

/** The profile that an earlier visit has kept, or null. One that no longer works is forgotten. */
function recall() {
  let text = unstored;
  try {
    text = localStorage.getItem(KEY) ?? unstored;
  } catch {
    // The page may not store anything.
  }
  if (text === null) return null;
  const kept = parsed(text);
  const found = profile(kept.token, kept.email);
  if (!found) forget();
  return found;
}

/** What this tab keeps under `key`, after it was set to `value` (null takes it away); null where it keeps nothing. */
function stored(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(key);
    else if (value !== undefined) sessionStorage.setItem(key, value);
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(found) {
  unstored = null;
  try {
    localStorage.setItem(KEY, JSON.stringify(found));
  } catch {
    unstored = JSON.stringify(found);
  }
}

function forget() {
  unstored = null;
  try {
    localStorage.removeItem(KEY);
  } catch {
    // There was nothing to remove.
  }
}

/** The profile with a token that is good here and now, or null. */
function profile(token, email) {
  if (typeof token !== "string" || !token) return null;
  const { app, exp, email: owner } = claims(token);
  if (app && app !== location.origin) return null;
  if (typeof exp === "number" && exp * 1000 <= Date.now()) return null;
  const known = [email, owner].find((one) => typeof one === "string" && one);
  return { token, email: known ?? null };
}

/** What a token says about itself; nothing when it isn't a JWT. */
function claims(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return parsed(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** The object that a JSON text holds; an empty one for anything else. */
function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
