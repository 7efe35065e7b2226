// An answer while it is being written: what stands in fences looks like code already. Text alone, never HTML.

/** The stretches of a text as `{ code, text }`, in turn no code and code; the fences themselves are left out. */
function stretches(text) {
  const found = [{ code: false, text: "" }];
  let fence;
  for (const line of text.split(/(?<=\n)/)) {
    const mark = line.match(/^\s*(`{3,}(?!.*`)|~{3,})/)?.[1];
    const ends = fence && mark?.startsWith(fence) && line.trim() === mark;
    if (ends || (mark && !fence)) {
      fence = ends ? undefined : mark;
      found.push({ code: !ends, text: "" });
    } else found.at(-1).text += line;
  }
  return found;
}

/** Shows in `element` the text so far, which goes on what it showed before: only what is new is written. */
function draft(element, text) {
  const found = stretches(text);
  while (element.children.length > found.length) element.lastChild.remove(); // what looked like a fence was none
  found.forEach(({ code, text }, index) => {
    const place = element.children[index] ?? element.appendChild(code ? codeBlock() : document.createElement("div"));
    const [inner, shown] = code ? [place.firstChild, text] : [place, text.replace(/^\n+|\n+$/g, "")];
    const before = inner.textContent;
    if (!shown.startsWith(before)) inner.textContent = shown;
    else if (shown !== before) inner.append(shown.slice(before.length));
  });
}

/** As the server makes them: so nothing jumps in the end. */
function codeBlock() {
  const block = Object.assign(document.createElement("pre"), { className: "copyable" });
  const code = Object.assign(document.createElement("code"), { tabIndex: 0 });
  block.append(code, Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "Copy" }));
  return block;
}
