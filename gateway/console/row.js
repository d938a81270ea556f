/** One row of the list: an entry in, the right words and buttons out. */

import { factsOf, percent, stateOf, t, translate, troubleOf, visible } from "./words.js";

export class Row {
  #key;

  /** `act(move, id)` is called with `"pause"`, `"restart"`, `"choose"` or `"cancel"`. */
  constructor(id, template, act) {
    this.element = template.content.firstElementChild.cloneNode(true);
    translate(this.element);
    const part = (name) => this.element.querySelector(`.${name}`);
    for (const name of ["name", "state", "bar", "facts", "trouble"]) this[name] = part(name);
    this.name.id = `name-${id}`;
    this.bar.setAttribute("aria-labelledby", this.name.id);
    this.buttons = {};
    for (const move of ["pause", "restart", "choose", "cancel"]) {
      const button = (this.buttons[move] = part(move));
      button.setAttribute("aria-describedby", this.name.id);
      button.addEventListener("click", () => act(move, id));
    }
  }

  /** `refusal`: why the last press of a button came to nothing, if it did. */
  show(entry, refusal) {
    const error = refusal ?? (entry.state === "error" ? entry.error : null);
    if (entry.Key !== this.#key) this.#nameIt(entry.Key);
    this.element.dataset.state = entry.waiting || entry.needsFile ? "stalled" : entry.state;
    put(this.state, stateOf(entry));
    put(this.facts, factsOf(entry));
    put(this.trouble, error ? troubleOf(error) : "");
    put(this.buttons.restart, t(entry.state === "error" ? "retry" : "restart"));
    this.trouble.hidden = !error;
    this.bar.value = entry.percent;
    this.bar.setAttribute("aria-valuetext", `${percent(entry.percent)}, ${stateOf(entry)}`);
    this.#offer(entry);
  }

  #nameIt(key) {
    const cut = key.lastIndexOf("/", key.length - 2) + 1;
    const folder = document.createElement("span");
    folder.className = "folder";
    folder.textContent = visible(key.slice(0, cut));
    this.name.replaceChildren(folder, visible(key.slice(cut)));
    this.#key = key;
  }

  #offer({ canPause, canRestart, needsFile, canCancel }) {
    offer(this.buttons, { pause: canPause, restart: canRestart, choose: needsFile, cancel: canCancel }, this.name);
  }
}

/** Screen readers may tell of a text that is put again, even the same. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show those of `buttons` that are `offered`. One that goes away hands its focus on, at last to `name`. */
export function offer(buttons, offered, name) {
  const all = Object.values(buttons);
  const focused = all.find((button) => button === document.activeElement);
  for (const move in buttons) buttons[move].hidden = !offered[move];
  if (focused?.hidden) (all.find((button) => !button.hidden) ?? name).focus();
}
