// Panels that htmx swaps (_links.html): what was open stays open, a page further on begins at its top, and an answer
// without a panel blanks nothing. https://four.htmx.org/reference/events

document.addEventListener("htmx:before:swap", (event) => {
  const { ctx, tasks } = event.detail;
  if (!tasks.some(({ fragment }) => fragment.childElementCount)) {
    event.preventDefault();
    if (ctx.response.status < 500) location.assign(ctx.request.action); // to sign in, or to be told what is wrong
    else tell(ctx, "That could not be shown: something broke. What you see is as it was. Try again in a moment.");
    return;
  }
  document.querySelector("#trouble")?.remove();
  for (const { fragment, target } of tasks)
    for (const fold of target.querySelectorAll("details[id][open]"))
      fragment.getElementById(fold.id)?.setAttribute("open", "");
});

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (ctx.request.anchor) document.getElementById(ctx.request.anchor)?.focus({ preventScroll: true }); // htmx scrolls
});

document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
  if (ctx) tell(ctx, "That could not be shown: AI Pipe can't be reached. What you see is as it was. Try again in a moment.");
});

const tell = (ctx, text) => {
  document.querySelector("#trouble")?.remove();
  const trouble = Object.assign(document.createElement("p"), { id: "trouble", className: "notice bad", textContent: text });
  trouble.setAttribute("role", "alert");
  ctx.target.before(trouble);
};
