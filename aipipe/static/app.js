// What our pages share: buttons that copy, secrets that show themselves when asked, questions before it is too late.

const say = (button, text) => {
  const before = button.textContent;
  button.textContent = text;
  setTimeout(() => (button.textContent = before), 1500);
};

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
    const secret = document.querySelector(source.dataset.with); // what is shown as `your-token` is copied as it is
    const text = source.value ?? source.textContent;
    await navigator.clipboard.writeText(secret ? text.replaceAll("your-token", secret.value) : text);
    say(button, "Copied");
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
});

// An app that wrote its own address into our link unencoded left its #hash on ours: it goes into the link, and on to the app.
const asking = document.querySelector("[data-hash-to]");
if (asking && location.hash) location.replace(asking.dataset.hashTo + encodeURIComponent(location.hash));
