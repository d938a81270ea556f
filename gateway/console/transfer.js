/** One file's bytes on their way into one task: finds out what is stored, sends what is missing, has it completed. */

import { Problem } from "./api.js";
import { crc64 } from "./crc64.js";
import { delay, persist } from "./retry.js";

export const FINAL = new Set(["success", "canceled"]);
export const HALTED = new Set(["paused", "error"]); // until somebody restarts the task
const POLL_SECONDS = 3; // the websocket is faster; this is for when it is down
const MOST_COMPLETES = 4;

export class Transfer {
  #stored = null; // part number -> bytes COS has acknowledged; null while unknown, and for a single body
  #offset = 0; // where a single body began
  #sending = new Map(); // part number -> bytes under way
  #seen = () => {};

  /**
   * `task`: its document. `hooks`: `onProgress()` when `loaded` moved, `onTask(document)` for each newer one,
   * `onWait(reason)` as `persist` tells it.
   */
  constructor({ api, file, task, ticket, parallel, signal, hooks }) {
    Object.assign(this, { api, file, task, ticket, parallel, signal, hooks });
    this.path = `/v1/tasks/${encodeURIComponent(task.id)}`;
  }

  /** Bytes stored, and bytes under way: it may fall when a part breaks off. */
  get loaded() {
    const stored = this.#stored ? sum(this.#stored.values()) : this.#offset;
    return stored + sum(this.#sending.values());
  }

  /** Somebody else (the websocket) heard of the task. */
  see(task) {
    this.task = { ...this.task, ...task };
    this.#seen();
  }

  /** Send what is missing. Returns the task in its final state; throws Problem, or the signal's reason. */
  async run() {
    if (FINAL.has(this.task.state)) return this.task;
    if (this.task.state === "completing") return this.#settled();
    if (this.task.upload_id === null) return this.#sendContent(); // small: one PUT is the whole file
    try {
      return await this.#sendAndComplete();
    } catch (error) {
      if (error.code !== "task_mode") throw error; // begun as one body by another client: it goes on as one
      return this.#sendContent();
    }
  }

  /** Every stored part: [{number, size, etag, crc64}]. */
  async parts() {
    const found = [];
    let cursor = "";
    do {
      const query = cursor && `&cursor=${encodeURIComponent(cursor)}`;
      const page = await this.#call("GET", `/parts?limit=1000${query}`);
      found.push(...page.parts);
      cursor = page.next_cursor;
    } while (cursor);
    return found;
  }

  /** Whether the file has, at three of the stored parts, the bytes that COS has. */
  async agrees() {
    const known = (await this.parts()).filter((part) => part.crc64 !== null);
    const some = new Set([known[0], known[known.length >> 1], known.at(-1)]);
    for (const part of some) {
      if (part && (await crc64(this.#slice(part.number))) !== String(part.crc64)) return false;
    }
    return true;
  }

  async #sendAndComplete() {
    for (let attempt = 1; ; attempt += 1) {
      await this.#sendParts();
      try {
        return await this.#complete();
      } catch (error) {
        if (error.code !== "parts_missing" || attempt === MOST_COMPLETES) throw error;
      }
    }
  }

  async #sendParts() {
    this.#stored = new Map((await this.parts()).map((part) => [part.number, part.size]));
    this.hooks.onProgress();
    const group = new AbortController();
    const signal = AbortSignal.any([this.signal, group.signal]);
    const missing = this.#missing();
    const worker = async () => {
      for (const number of missing) await this.#sendPart(number, signal);
    };
    try {
      await Promise.all(Array.from({ length: this.parallel }, worker));
    } catch (error) {
      group.abort(error); // one part is lost: the others need not go on
      throw error;
    }
  }

  *#missing() {
    const count = Math.max(1, Math.ceil(this.file.size / this.task.part_size));
    for (let number = 1; number <= count; number += 1) {
      if (!this.#stored.has(number)) yield number;
    }
  }

  #slice(number) {
    const start = (number - 1) * this.task.part_size;
    return this.file.slice(start, start + this.task.part_size);
  }

  async #sendPart(number, signal) {
    const body = this.#slice(number);
    await this.#persist(() => this.#put(number, `/parts/${number}`, body, signal), signal);
    this.#stored.set(number, body.size);
    this.hooks.onProgress();
  }

  /** Send the file as one body, from where the gateway stands. */
  async #sendContent() {
    const { size } = this.file;
    const put = async () => {
      const offset = (this.#offset = this.task.next_offset);
      if (offset > 0 && offset === size) return this.#call("POST", "/complete");
      const headers = offset > 0 ? { "Content-Range": `bytes ${offset}-${size - 1}/${size}` } : {};
      try {
        return await this.#put(0, "/content", this.file.slice(offset), this.signal, headers);
      } catch (error) {
        this.task.next_offset = error.facts?.next_offset ?? offset;
        throw error;
      }
    };
    return this.#settled(await this.#persist(put));
  }

  async #complete() {
    try {
      return await this.#settled(await this.#call("POST", "/complete"));
    } catch (error) {
      if (error.code !== "task_completing" && error.code !== "task_succeeded") throw error;
      return this.#settled(await this.#read()); // an earlier request did it, its answer was lost
    }
  }

  /** Wait for COS's verdict on the whole. */
  async #settled(answer = this.task) {
    this.#adopt(answer);
    while (this.task.state === "completing") {
      const heard = new Promise((resolve) => (this.#seen = resolve));
      await Promise.race([heard, delay(POLL_SECONDS, this.signal)]);
      if (this.task.state === "completing") await this.#read();
    }
    if (this.task.state === "success") return this.task;
    if (this.task.state === "uploading") throw new Problem({ code: "parts_missing", title: "Parts were lost in COS" });
    throw new Problem(this.task.error ?? { code: `task_${this.task.state}`, title: "The task did not succeed" });
  }

  async #put(number, suffix, body, signal, headers = {}) {
    const onSent = (bytes) => {
      this.#sending.set(number, bytes);
      this.hooks.onProgress();
    };
    try {
      return await this.api.put(this.path + suffix, body, { ...this.#options(signal, headers), onSent });
    } finally {
      this.#sending.delete(number);
    }
  }

  #call(method, suffix) {
    return this.#persist(() => this.api.call(method, this.path + suffix, this.#options(this.signal)));
  }

  #persist(action, signal = this.signal) {
    return persist(action, { api: this.api, signal, probe: () => this.#probe(), onWait: this.hooks.onWait });
  }

  /** After a lost connection: is the file still readable, and does the gateway answer? */
  async #probe() {
    await requireReadable(this.file);
    this.#adopt(await this.api.call("GET", this.path, this.#options(this.signal)));
  }

  async #read() {
    const task = await this.#call("GET", "");
    this.#adopt(task);
    return task;
  }

  #adopt(task) {
    if (!task?.state) return;
    this.task = { ...this.task, ...task };
    this.hooks.onTask(task);
  }

  #options(signal, headers = {}) {
    return { signal, headers: this.ticket ? { "Upload-Ticket": this.ticket, ...headers } : headers };
  }
}

/** A file changed or deleted since it was chosen cannot be read, and XMLHttpRequest calls that a lost network. */
async function requireReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Problem({
      code: "file_unreadable",
      title: "The file cannot be read any more",
      detail: "It was changed, moved or deleted since it was chosen.",
    });
  }
}

function sum(numbers) {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
