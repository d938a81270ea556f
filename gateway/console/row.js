/** One row of the list: an entry in, the right words and buttons out. */

import { factsOf, percent, stateOf, troubleOf } from "./words.js";

export class Row {
  #shown = {};

  /** `act(move, id)` is called with `"pause"`, `"restart"`, `"choose"` or `"cancel"`. */
  constructor(id, template, act) {
    this.element = template.content.firstElementChild.cloneNode(true);
    const part = (name) => this.element.querySelector(`.${name}`);
    this.name = part("name");
    this.state = part("state");
    this.bar = part("bar");
    this.facts = part("facts");
    this.trouble = part("trouble");
    this.name.id = `name-${id}`;
    this.bar.setAttribute("aria-labelledby", this.name.id);
    this.buttons = {};
    for (const move of ["pause", "restart", "choose", "cancel"]) {
      this.buttons[move] = part(move);
      this.buttons[move].addEventListener("click", () => act(move, id));
    }
  }

  /** `refusal`: why the last press of a button came to nothing, if it did. */
  show(entry, refusal) {
    const error = refusal ?? (entry.state === "error" ? entry.error : null);
    const state = stateOf(entry);
    const facts = factsOf(entry);
    this.#set("key", entry.Key, (key) => this.#nameIt(key));
    const look = entry.waiting || entry.needsFile ? "stalled" : entry.state;
    this.#set("look", look, () => (this.element.dataset.state = look));
    this.#set("state", state, (text) => (this.state.textContent = text));
    this.#set("facts", facts, (text) => (this.facts.textContent = text));
    this.#set("value", entry.percent, (value) => (this.bar.value = value));
    this.#set("spoken", `${percent(entry.percent)}, ${state}`, (text) => this.bar.setAttribute("aria-valuetext", text));
    this.#set("trouble", error ? troubleOf(error) : "", (text) => {
      this.trouble.textContent = text;
      this.trouble.hidden = !text;
    });
    this.#offer(entry);
  }

  #nameIt(key) {
    const cut = key.lastIndexOf("/", key.length - 2) + 1;
    const folder = document.createElement("span");
    folder.className = "folder";
    folder.textContent = key.slice(0, cut);
    this.name.replaceChildren(folder, key.slice(cut));
    for (const button of Object.values(this.buttons)) button.setAttribute("aria-describedby", this.name.id);
  }

  /** A button that goes away must not take the focus with it. */
  #offer(entry) {
    const { canPause, canRestart, needsFile, canCancel, state } = entry;
    const offered = { pause: canPause, restart: canRestart, choose: needsFile, cancel: canCancel };
    const buttons = Object.values(this.buttons);
    const focused = buttons.find((button) => button === document.activeElement);
    this.#set("restart", state === "error" ? "Retry" : "Restart", (text) => (this.buttons.restart.textContent = text));
    for (const [move, button] of Object.entries(this.buttons)) button.hidden = !offered[move];
    if (!focused?.hidden) return;
    (buttons.find((button) => !button.hidden) ?? this.name).focus();
  }

  #set(what, value, put) {
    if (this.#shown[what] === value) return;
    this.#shown[what] = value;
    put(value);
  }
}
