/** The list: each file a row, the files of a batch below it, and only those in the state that is asked for. */

import { Batch } from "./batch.js";
import { Row } from "./row.js";

const GROUPS = { paused: "paused", error: "error", success: "success", canceled: "canceled" };

/** The filter that an entry passes, besides `"all"`. */
export function groupOf({ state, needsFile }) {
  return GROUPS[state] ?? (needsFile ? "paused" : "active");
}

export class List {
  #rows = new Map();
  #batches = new Map();

  /** `act` and `actOnBatch` are called as by a row and by a batch. */
  constructor(element, templates, act, actOnBatch) {
    this.element = element;
    this.templates = templates;
    this.act = act;
    this.actOnBatch = actOnBatch;
  }

  /** `entries`, newest first; `refusalOf(id)`: why the last press of a button there came to nothing, if it did. */
  show(entries, filter, batchOf, refusalOf) {
    const top = [];
    const members = new Map(); // batch id -> its entries, whichever are shown
    for (const entry of entries) {
      const { batchId } = entry;
      if (batchId && !members.has(batchId)) members.set(batchId, []);
      members.get(batchId)?.push(entry);
      if (filter !== "all" && groupOf(entry) !== filter) continue;
      const row = this.#kept(this.#rows, entry.id, Row, this.templates.row, this.act);
      row.show(entry, refusalOf(entry.id));
      if (!batchId) top.push(row.element);
      else this.#shown(batchId, top).push(row.element);
    }
    for (const [id, batch] of this.#batches) {
      if (members.has(id)) batch.show(members.get(id), batchOf(id), refusalOf(id));
      place(batch.list, batch.rows ?? []);
      batch.rows = null;
    }
    place(this.element, top);
    forgetGone(this.#rows);
    forgetGone(this.#batches);
    return top.length;
  }

  /** Make everything anew, in another language. */
  clear() {
    this.element.replaceChildren();
    this.#rows.clear();
    this.#batches.clear();
  }

  /** The rows of a batch that has its place among `top`. */
  #shown(id, top) {
    const batch = this.#kept(this.#batches, id, Batch, this.templates.batch, this.actOnBatch);
    if (!batch.rows) top.push(batch.element);
    return (batch.rows ??= []);
  }

  #kept(all, id, Kind, template, act) {
    if (!all.has(id)) all.set(id, new Kind(id, template, act));
    return all.get(id);
  }
}

/** Let `parent` hold just `wanted`, in order, and move as little as can be: what is moved loses the focus. */
function place(parent, wanted) {
  const staying = new Set(wanted);
  for (const child of [...parent.children]) if (!staying.has(child)) child.remove();
  wanted.forEach((element, at) => {
    if (parent.children[at] !== element) parent.insertBefore(element, parent.children[at] ?? null);
  });
}

function forgetGone(all) {
  for (const [id, { element }] of all) if (!element.isConnected) all.delete(id);
}
