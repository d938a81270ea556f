/** One row of the list: an entry in, the right words and buttons out. */

import { factsOf, percent, stateOf, troubleOf } from "./words.js";

export class Row {
  #key;

  /** `act(move, id)` is called with `"pause"`, `"restart"`, `"choose"` or `"cancel"`. */
  constructor(id, template, act) {
    this.element = template.content.firstElementChild.cloneNode(true);
    const part = (name) => this.element.querySelector(`.${name}`);
    [this.name, this.state, this.bar, this.facts, this.trouble] = ["name", "state", "bar", "facts", "trouble"].map(part);
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
    put(this.buttons.restart, entry.state === "error" ? "Retry" : "Restart");
    this.trouble.hidden = !error;
    this.bar.value = entry.percent;
    this.bar.setAttribute("aria-valuetext", `${percent(entry.percent)}, ${stateOf(entry)}`);
    this.#offer(entry);
  }

  #nameIt(key) {
    const cut = key.lastIndexOf("/", key.length - 2) + 1;
    const folder = document.createElement("span");
    folder.className = "folder";
    folder.textContent = key.slice(0, cut);
    this.name.replaceChildren(folder, key.slice(cut));
    this.#key = key;
  }

  /** A button that goes away must not take the focus with it. */
  #offer({ canPause, canRestart, needsFile, canCancel }) {
    const offered = { pause: canPause, restart: canRestart, choose: needsFile, cancel: canCancel };
    const buttons = Object.values(this.buttons);
    const focused = buttons.find((button) => button === document.activeElement);
    for (const [move, button] of Object.entries(this.buttons)) button.hidden = !offered[move];
    if (focused?.hidden) (buttons.find((button) => !button.hidden) ?? this.name).focus();
  }
}

/** Screen readers may tell of a text that is put again, even the same. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
