// What our pages share: buttons that copy, secrets that show themselves when asked, questions before it is too late.

const saying = new WeakMap(); // of buttons that say what they did: their own text, and the timer that brings it back

const say = (button, text) => {
  const { own = button.textContent, timer } = saying.get(button) ?? {};
  clearTimeout(timer);
  button.textContent = text;
  saying.set(button, { own, timer: setTimeout(() => (button.textContent = own), 1500) });
};

/** The text of what is to be copied, with the reader's token where `your-token` is shown for it, first of all. */
async function textOf(source) {
  const text = source.value ?? source.textContent;
  if (!("token" in source.dataset)) return text;
  const token = document.querySelector("#token")?.value ?? (await askForToken());
  return token ? text.replace("your-token", token) : text;
}

/** No page holds a token that its reader didn't ask for. Undefined where there is none, as after signing out. */
const askForToken = () =>
  fetch("/login/token", { method: "POST" })
    .then((answer) => answer.json())
    .then(({ token }) => token)
    .catch(() => undefined);

/** Whether `text`, a promise, is in the clipboard now. */
async function copied(text) {
  try {
    const blob = text.then((told) => new Blob([told], { type: "text/plain" }));
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]); // at once: browsers forget the click
    return true;
  } catch {
    return copiedAsSelection(await text); // a page without https has no clipboard but for what is selected
  }
}

function copiedAsSelection(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text, readOnly: true });
  const focused = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.focus({ preventScroll: true });
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

const select = (source) => (source.select ? source.select() : getSelection().selectAllChildren(source));

for (const pre of document.querySelectorAll("pre.copyable")) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "Copy" });
  button.setAttribute("aria-live", "polite");
  pre.append(button);
  pre.querySelector("code").tabIndex = 0; // it scrolls, by keyboard too
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const source = button.matches("pre.copyable > button") ? button.parentElement.querySelector("code") : button.dataset.copy && document.querySelector(button.dataset.copy);
  if (source) {
    if (await copied(textOf(source))) return say(button, "Copied");
    select(source);
    say(button, "Selected");
  }
  if (button.dataset.show) {
    const field = document.querySelector(button.dataset.show);
    const shown = field.type === "text";
    field.type = shown ? "password" : "text";
    button.textContent = shown ? "Show" : "Hide";
    button.setAttribute("aria-pressed", String(!shown));
  }
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
  if (event.target.matches("[action='/logout']")) sessionStorage.clear(); // what this tab kept, as a conversation
});

// An app that wrote its own address into our link unencoded left its #hash on ours: it goes into the link, and on to the app.
const asking = document.querySelector("[data-hash-to]");
if (asking && location.hash) location.replace(asking.dataset.hashTo + encodeURIComponent(location.hash));
