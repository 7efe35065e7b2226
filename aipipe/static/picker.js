// A dialog with a list to choose from, by keyboard or pointer, narrowed down by a search.

/**
 * `dialog` holds an input (a combobox), its listbox with groups of options, and a `.none` for a search that finds
 * nothing. Options are found by their `data-name`. `chose` is called with the option that was chosen.
 */
function picker(dialog, chose) {
  const search = dialog.querySelector("[role=combobox]");
  const list = dialog.querySelector("[role=listbox]");
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  let chosen, pointed;

  const found = () => [...list.querySelectorAll("[role=option]:not([hidden])")];

  function narrow() {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const group of list.children) {
      for (const option of group.querySelectorAll("[role=option]"))
        option.hidden = !words.every((word) => option.dataset.name.toLowerCase().includes(word));
      group.hidden = !group.querySelector("[role=option]:not([hidden])");
    }
    dialog.querySelector(".none").hidden = found().length > 0;
    point(found().includes(chosen) ? chosen : found()[0]);
  }

  function point(option) {
    pointed?.classList.remove("pointed");
    pointed = option;
    pointed?.classList.add("pointed");
    pointed?.scrollIntoView({ block: "nearest" });
    search.setAttribute("aria-activedescendant", pointed?.id ?? "");
  }

  function choose(option) {
    chosen?.setAttribute("aria-selected", "false");
    chosen = option;
    chosen.setAttribute("aria-selected", "true");
    dialog.close();
    chose(chosen);
  }

  search.addEventListener("input", narrow);
  search.addEventListener("keydown", (event) => {
    const options = found();
    const to = options.indexOf(pointed) + moves[event.key];
    if (event.key in moves) point(options[Math.min(Math.max(0, to), options.length - 1)]);
    else if (event.key === "Enter" && pointed) choose(pointed);
    else return;
    event.preventDefault();
  });
  list.addEventListener("click", ({ target }) => {
    const option = target.closest("[role=option]");
    if (option) choose(option);
  });

  return {
    open() {
      dialog.showModal();
      search.value = "";
      search.focus();
      narrow();
    },
    /** Fills the list, and chooses the first option that one of `wishes` is true of. False where there is none. */
    fill(html, ...wishes) {
      list.innerHTML = html;
      const option = wishes.map((wish) => found().find(wish)).find(Boolean);
      if (option) choose(option);
      return Boolean(option);
    },
  };
}
