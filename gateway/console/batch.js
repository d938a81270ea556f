/** A batch in the list: what it adds up to, its moves, and its files below. */

import { offer, put } from "./row.js";
import { totals } from "./summary.js";
import { bytes, percent, t, translate, troubleOf } from "./words.js";

const MOVES = { pause: "canPause", restart: "canRestart", cancel: "canCancel" };

export class Batch {
  #open = true;

  /** `act(move, id)` is called with `"pause"`, `"restart"` or `"cancel"`. */
  constructor(id, template, act) {
    this.element = template.content.firstElementChild.cloneNode(true);
    translate(this.element);
    const part = (name) => this.element.querySelector(`.${name}`);
    [this.name, this.bar, this.facts, this.trouble] = ["name", "bar", "facts", "trouble"].map(part);
    [this.list, this.toggle] = ["files", "toggle"].map(part);
    this.name.id = `batch-${id}`;
    this.list.id = `files-${id}`;
    for (const labelled of [this.bar, this.list]) labelled.setAttribute("aria-labelledby", this.name.id);
    this.toggle.setAttribute("aria-controls", this.list.id);
    this.toggle.addEventListener("click", () => this.#fold(!this.#open));
    this.buttons = {};
    for (const move in MOVES) {
      const button = (this.buttons[move] = part(move));
      button.setAttribute("aria-describedby", this.name.id);
      button.addEventListener("click", () => act(move, id));
    }
    this.#fold(true);
  }

  /** `entries`: its files as far as they are known; `batch`: what the gateway tells of it; `refusal`: as a row's. */
  show(entries, batch, refusal) {
    const { part, text } = told(entries, batch);
    put(this.name, t("batch", batch?.count ?? entries.length));
    put(this.facts, text);
    this.bar.value = part;
    this.bar.setAttribute("aria-valuetext", percent(part));
    const refused = batch?.refused ?? [];
    const troubles = refused.map(({ index, error }) => t("refused", index + 1) + t("gap") + troubleOf(error));
    if (refusal) troubles.push(troubleOf(refusal));
    put(this.trouble, troubles.join("\n"));
    this.trouble.hidden = !troubles.length;
    const offered = {};
    for (const move in MOVES) offered[move] = entries.some((entry) => entry[MOVES[move]]);
    offer(this.buttons, offered, this.name);
    this.#fold(this.#open);
  }

  #fold(open) {
    this.#open = open;
    this.list.hidden = !open;
    this.toggle.setAttribute("aria-expanded", open);
    put(this.toggle, t(open ? "hideFiles" : "showFiles"));
  }
}

/** Its files tell best; where some are not known here the gateway's sum stands for all. */
function told(entries, batch) {
  const isWhole = !batch?.refused || entries.length + batch.refused.length >= batch.count;
  if (isWhole) return totals(entries);
  const { loaded, size, percent: part } = batch;
  return { part: part ?? 0, text: [t("ofBytes", bytes(loaded), bytes(size)), percent(part ?? 0)].join(" · ") };
}
