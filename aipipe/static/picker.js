// A dialog with a list to choose from, by keyboard or pointer, narrowed down by a search.

/**
 * `dialog` holds an input (a combobox), its listbox, and a `.none` for a search that finds nothing. `chose` is called
 * with the data of the option that was chosen: its `group`, its `item`, and its `name`, which is both.
 */
function picker(dialog, chose) {
  const search = dialog.querySelector("[role=combobox]");
  const list = dialog.querySelector("[role=listbox]");
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  let chosen, pointed;

  const make = (role, className, ...inside) => {
    const element = Object.assign(document.createElement("div"), { className });
    if (role) element.setAttribute("role", role);
    element.append(...inside);
    return element;
  };

  function makeGroup(name, items) {
    const group = make("group", "", make("", "group", name));
    group.setAttribute("aria-label", name);
    for (const [item, price] of items) {
      const option = make("option", "", item, " ", make("", "number quiet", price));
      option.id = `option-${name}-${group.childElementCount}`;
      option.setAttribute("aria-selected", "false");
      Object.assign(option.dataset, { group: name, item, name: `${name} / ${item}` });
      group.append(option);
    }
    return group;
  }

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
    chose(chosen.dataset);
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
    /** Fills the list with groups of items and their prices, and chooses the first of `names` that is in there, or else
     * the first item. False where there is none. */
    fill(groups, ...names) {
      list.replaceChildren(...Object.entries(groups).filter(([, items]) => items.length).map(([name, items]) => makeGroup(name, items)));
      const options = found();
      const option = names.map((name) => options.find(({ dataset }) => dataset.name === name)).find(Boolean) ?? options[0];
      if (option) choose(option);
      return Boolean(option);
    },
  };
}
