// AI Pipe in a page of any origin: import { getProfile } from "https://<this AI Pipe>/aipipe.js"

const KEY = "aipipe"; // in localStorage, as JSON: {"token": …, "email": …}
const ARRIVING = /^aipipe_(token|email)(=|$)/;

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

/** The profile in the page's address, which it leaves without; null when there is none that works here. */
function takeFromAddress() {
  const parameters = new URLSearchParams(location.search);
  const token = parameters.get("aipipe_token");
  const email = parameters.get("aipipe_email");
  if (token === null && email === null) return null;
  const address = new URL(location.href);
  // Text by text, so that the other parameters stay as they were written.
  address.search = address.search.slice(1).split("&").filter((text) => !ARRIVING.test(text)).join("&");
  try {
    history.replaceState(history.state, "", address);
  } catch {
    // The page may not change its address, as in a sandbox.
  }
  return profile(token, email);
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
