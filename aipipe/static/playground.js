// The playground. The conversation lives here, in the page; the server asks the model, renders and keeps the books.

const $ = (id) => document.getElementById(id);
const [log, prompt] = ["log", "prompt"].map($);
const CHOICE = "playground.model";
const WAITS = [200, 400, 800, 1600, 3200]; // milliseconds, until what a stopped answer cost is booked

const turns = []; // { role, content, element, said }, and of answers: { model, id }
let model; // { group: the provider, item: the model, name: both }
let running; // the AbortController of the answer that is being written
let editing; // the turn whose text is in the composer

// Talking with the server

/** An error whose message is a sentence for people. */
const refusal = (message, status) => Object.assign(new Error(message), { name: "Refusal", status });

/** Throws a refusal, or an AbortError. */
async function ask(path, body, signal) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, { ...sent, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : refusal("AI Pipe can't be reached. Are you online?");
  }
  if (response.ok) return response;
  const { message } = await response.json().catch(() => ({}));
  throw refusal(message ?? `AI Pipe failed (${response.status}).`, response.status);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const found = (text + value).split("\n\n");
    text = found.pop();
    for (const event of found) {
      const [, name, data] = event.match(/^(?:event: (\w+)\n)?data: (.*)$/);
      yield { name, ...JSON.parse(data) };
    }
  }
}

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
  turn.said.append(text);
  turn.content += text;
  turn.id = id || turn.id;
}

/** Shows a finished answer: HTML that the server made safe, what it cost, and what is left. */
function finish({ element, said, model }, end, note) {
  const facts = [model, note];
  if (end.cost) facts.push(`${end.input_tokens.toLocaleString("en")} in, ${end.output_tokens.toLocaleString("en")} out`);
  change(() => {
    said.removeAttribute("aria-busy");
    said.removeAttribute("aria-live"); // from here on it is announced, as a whole
    said.innerHTML = end.html;
    element.querySelector(".facts").textContent = facts.filter(Boolean).join(" · ");
    if (end.cost) money(element.querySelector(".cost"), end.cost);
    element.querySelector(".about").hidden = false;
  });
  if (end.remaining) money($("left"), end.remaining);
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
    const end = await (await ask("/playground/stopped", { id: turn.id, text: turn.content })).json();
    finish(turn, end, end.cost ? how : `${how}; what it cost will be on your usage page`);
    if (end.cost) return;
  }
}

/** Takes a turn's text into the composer, to be sent anew; with none, empties the composer. */
function edit(turn) {
  editing = turn;
  prompt.value = turn?.content ?? "";
  $("editing").hidden = !turn;
  turns.forEach(({ element }, index) => element.classList.toggle("goes", Boolean(turn) && index >= turns.indexOf(turn)));
  prompt.focus();
}

function startAnew() {
  if (turns.length && !confirm("This conversation is kept nowhere else. Begin a new one?")) return;
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

$("chat").hidden = false;
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
    complain(error);
  });
