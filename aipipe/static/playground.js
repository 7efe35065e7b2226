// The playground. The conversation lives here, in this tab; the server asks the model, renders and keeps the books.

const $ = (id) => document.getElementById(id);
const [log, prompt] = ["log", "prompt"].map($);
const CHOICE = "playground.model";
const TALK = "playground.talk"; // in this tab's storage: the conversation, and whose it is
const FIELDS = ["system", "temperature", "max-tokens"];
const WAITS = [200, 400, 800, 1600, 3200]; // milliseconds, until what a stopped answer cost is booked

const { person } = $("chat").dataset;
const turns = []; // { role, content, element, said }, and of answers: { model, id, end: what it cost, note }
let model; // { group: the provider, item: the model, name: both }
let running; // the AbortController of the answer that is being written
let editing; // the turn whose text is in the composer

// What is asked for

const number = (id) => ($(id).value ? $(id).valueAsNumber : null);
const request = (messages) => ({
  provider: model?.group,
  model: model?.item,
  messages: messages.filter(({ content }) => content.trim()).map(({ role, content }) => ({ role, content })),
  system: $("system").value,
  temperature: number("temperature"),
  max_tokens: number("max-tokens"),
});

// What the log shows

/** Changes the log, and stays at its end if that was in sight. */
function change(work) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
  work();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

const copyOf = (template) => $(template).content.firstElementChild.cloneNode(true);

function addTurn(role, content = "") {
  const element = copyOf(`${role}-turn`);
  const turn = { role, content, element, said: element.querySelector(".said") };
  turn.said.append(content);
  turns.push(turn);
  $("empty").hidden = true;
  log.append(element);
  log.scrollTop = log.scrollHeight;
  return turn;
}

/** Takes a turn, and all that follows it, out of the conversation. */
function removeFrom(turn) {
  const from = turns.indexOf(turn);
  if (from < 0) return;
  for (const { element } of turns.splice(from)) element.remove();
  keep();
  forgetProblems();
  $("empty").hidden = turns.length > 0;
}

function complain({ message, status }) {
  const element = copyOf("problem");
  element.querySelector("span").textContent = message;
  element.querySelector("a").hidden = status !== 401;
  element.querySelector("button").hidden = !turns.length;
  change(() => log.append(element));
}

const forgetProblems = () => log.querySelectorAll(".problem").forEach((element) => element.remove());

function write(turn, { text, id }) {
  turn.said.removeAttribute("aria-busy");
  turn.content += text;
  turn.id = id || turn.id;
  draft(turn.said, turn.content);
}

/** Shows a finished answer: HTML that the server made safe, what it cost, and what is left. */
function finish(turn, { html, remaining, ...end }, note) {
  const { element, said, model } = Object.assign(turn, { end: end.cost && end, note });
  const facts = [model, note];
  if (end.cost) facts.push(`${end.input_tokens.toLocaleString("en")} in, ${end.output_tokens.toLocaleString("en")} out`);
  change(() => {
    said.removeAttribute("aria-busy");
    said.removeAttribute("aria-live"); // from here on it is announced, as a whole
    said.innerHTML = html;
    element.querySelector(".facts").textContent = facts.filter(Boolean).join(" · ");
    if (end.cost) money(element.querySelector(".cost"), end.cost);
    element.querySelector(".about").hidden = false;
  });
  if (remaining) money($("left"), remaining);
  keep();
}

function money(element, { shown, exact }) {
  element.textContent = shown;
  element.title = exact;
}

function busy(now) {
  if (!now) running = undefined;
  if (document.activeElement === $("stop")) prompt.focus(); // before it goes
  $("send").hidden = now;
  $("stop").hidden = !now;
}

// Asking, stopping, asking again

function send() {
  const text = prompt.value.trim();
  if (!text || running || !model) return;
  if (editing) removeFrom(editing);
  edit();
  addTurn("user", text);
  keep();
  answer();
}

/** Asks for the next answer, or for the last one again. */
async function answer() {
  forgetProblems();
  if (turns.at(-1).role === "assistant") removeFrom(turns.at(-1));
  const body = request(turns);
  const turn = Object.assign(addTurn("assistant"), { model: body.model, id: "" });
  running = new AbortController();
  busy(true);
  try {
    let end;
    for await (const event of events(await ask("/playground/chat", body, running.signal))) {
      if (event.name) end = event;
      else change(() => write(turn, event));
    }
    finish(turn, end, end.cut && "cut off at its limit of tokens");
    if (end.error) complain(refusal(end.error));
  } catch (error) {
    const left = error.name === "AbortError";
    if (left || turn.content) stopped(turn, left ? "stopped" : "broken off").catch(complain);
    else removeFrom(turn);
    if (!left) complain(error.name === "Refusal" ? error : refusal("The connection to AI Pipe broke off."));
  } finally {
    busy(false);
  }
}

/** Shows what there is of an unfinished answer, and what it cost as soon as that is booked. */
async function stopped(turn, how) {
  for (const wait of turn.id ? WAITS : [0]) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    const end = await rendered(turn);
    finish(turn, end, end.cost ? how : `${how}; what it cost will be on your usage page`);
    if (end.cost) return;
  }
}

const rendered = async ({ id, content }) => (await ask("/playground/stopped", { id, text: content })).json();

/** Takes a turn's text into the composer, to be sent anew; with none, empties the composer. */
function edit(turn) {
  editing = turn;
  prompt.value = turn?.content ?? "";
  $("editing").hidden = !turn;
  turns.forEach(({ element }, index) => element.classList.toggle("goes", Boolean(turn) && index >= turns.indexOf(turn)));
  prompt.focus();
}

function startAnew() {
  if (turns.length && !confirm("This conversation is kept in this tab alone. Begin a new one?")) return;
  running?.abort();
  removeFrom(turns[0]);
  edit();
}

async function showCode() {
  const draft = { role: "user", content: prompt.value || (turns.length ? "" : "Hello") };
  const asked = turns.slice(0, turns.findLastIndex(({ role }) => role === "user") + 1);
  try {
    const found = await (await ask("/playground/code", request(draft.content ? [...turns, draft] : asked))).json();
    for (const code of document.querySelectorAll("[data-code]")) code.textContent = found[code.dataset.code];
    $("snippets").showModal();
  } catch (error) {
    complain(error);
  }
}

// Coming back

/** Keeps the conversation while this tab is open, as text alone. */
function keep() {
  const kept = turns.map(({ element, said, ...turn }) => turn).filter(({ content }) => content);
  const fields = Object.fromEntries(FIELDS.map((id) => [id, $(id).value]));
  try {
    if (kept.length) sessionStorage.setItem(TALK, JSON.stringify({ person, fields, turns: kept }));
    else sessionStorage.removeItem(TALK);
  } catch {
    // The browser keeps nothing for this page, or no more.
  }
}

/** What this tab kept for whoever is signed in; what it kept for somebody else goes. */
function recall() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(TALK));
    if (kept?.person === person) return kept;
    sessionStorage.removeItem(TALK);
  } catch {
    // There is nothing that can be read.
  }
}

/** Shows what this tab kept. Answers are text until the server has made HTML of them anew: none is taken from storage. */
async function restore() {
  const kept = recall();
  if (!kept) return;
  log.ariaLive = "off"; // who reads on wants none of it announced again
  for (const [id, value] of Object.entries(kept.fields)) $(id).value = value;
  for (const { role, content, ...known } of kept.turns) {
    if (role === "user") addTurn(role, content);
    else write(Object.assign(addTurn(role), known), { text: content });
  }
  if (turns.at(-1).role === "user") complain(refusal("You left this page before the answer came."));
  for (const turn of turns.filter(({ role }) => role === "assistant").reverse()) {
    if (turn.end) finish(turn, { ...(await rendered({ ...turn, id: "" })), ...turn.end }, turn.note);
    else await stopped(turn, "broken off");
  }
  log.ariaLive = "polite";
}

// What people do

const models = picker($("models"), (chosen) => {
  model = chosen;
  $("model-name").textContent = model.name;
  localStorage.setItem(CHOICE, model.name);
});

const clicks = {
  "#model": models.open,
  "#stop": () => running?.abort(),
  "#keep": () => edit(),
  "#new": startAnew,
  "#code": showCode,
  "[data-edit]": (button) => running || edit(turns.find(({ element }) => element.contains(button))),
  "[data-again]": () => running || answer(),
  "[data-try]": (button) => ((prompt.value = button.textContent), prompt.focus(), send()),
  "[data-close]": (button) => button.closest("dialog").close(),
};
document.addEventListener("click", ({ target }) => {
  for (const [selector, work] of Object.entries(clicks)) if (target.closest(selector)) work(target.closest(selector));
});
$("composer").addEventListener("submit", (event) => (event.preventDefault(), send()));
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && editing) edit();
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});

addEventListener("pagehide", keep);

$("chat").hidden = false;
restore().catch(complain);
if (matchMedia("(pointer: fine)").matches) prompt.focus();
ask("/playground/models")
  .then((response) => response.json())
  .then((offered) => {
    const asked = new URLSearchParams(location.search).get("model")?.replace("/", " / ");
    if (models.fill(offered, asked, localStorage.getItem(CHOICE), $("chat").dataset.usual)) return;
    throw refusal("No provider here has models to talk with: its operator should set a provider's key.");
  })
  .catch((error) => {
    $("model-name").textContent = "No models";
    for (const button of document.querySelectorAll("#model, #code, #send, [data-try]")) button.disabled = true;
    complain(error);
  });
