/**
 * The page's client: files on their way, every other task of the caller, and what outlives a reload.
 *
 * Each file has an `id` in the list from the moment it is handed over; the gateway's own id comes as `taskId`.
 */

import { Problem, newApi, traced } from "./api.js";
import { browser } from "./browser.js";
import { crc64 } from "./crc64.js";
import { describe, isLost, needsFile, now } from "./item.js";
import { difference, fingerprint, forget, recall, remember, tidy } from "./memory.js";
import { FINAL, HALTED, callsAbout, newSender, sliceOf, storedParts, uniqueName } from "./sender.js";
import { newSlots } from "./slots.js";
import { Watch } from "./watch.js";

const NEWS_MILLISECONDS = 100;

export class UploadClient {
  #api;
  #slots = newSlots(3);
  #watch;
  #items = new Map(); // list id -> item, oldest first
  #listeners = new Map();
  #batches = new Map(); // id -> what batch() tells
  #asking = new Set();
  #newsDue = null;
  #newsAt = 0;
  #signIn = null;
  #hearing = () => {};
  #heard = new Promise((resolve) => (this.#hearing = resolve)); // what there is already is known

  /** `base`: the gateway's address, empty for its own pages. */
  constructor({ base = "", token }) {
    const getToken = (refused) => (refused ? new Promise((resolve) => (this.#signIn = resolve)) : token);
    this.#api = newApi(base, browser, getToken);
    this.connection = "connecting";
    this.#watch = new Watch(this.#api, {
      onSnapshot: (tasks) => this.#seeAll(tasks),
      onTask: (task) => this.#see(task),
      onBatch: (totals) => {
        this.#seeBatch(totals);
        this.#lookAtBatch(totals.id);
      },
      onConnection: (how) => this.#connected(how),
    });
    tidy();
  }

  /** Begin to follow the caller's tasks. */
  start() {
    this.#watch.start();
  }

  /** Go on with another token; it also wakes everything that waited for one. */
  setToken(token) {
    this.#api.use(token);
    this.#signIn?.(token);
  }

  /** `"list-update"` gives {list}, at most ten times a second; `"connection"` gives {connection}. */
  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }

  /** Send several: [{Key, Body}], each Body a File. One that was being sent before a reload goes on where it stood. */
  uploadFiles({ files }) {
    for (const { Key, Body } of files) this.#add(uniqueName(), Key, { file: Body }).sender.start();
  }

  /** The files that were sent from here and stand at COS or are on their way: a Map from keys to the last of each. */
  sentFiles() {
    const sent = [...this.#items.values()].filter((item) => item.sent && !/canceled|error/.test(item.sender.now.state));
    return new Map(sent.map((item) => [item.Key, item.sent]));
  }

  /** Every task, newest first: {id, taskId, Key, size, loaded, percent, speed, state, error, …}. */
  getTaskList() {
    return [...this.#items.values()].map(describe).sort((a, b) => b.createdAt - a.createdAt);
  }

  pauseTask(id) {
    return this.#items.get(id).sender.pause();
  }

  restartTask(id) {
    return this.#items.get(id).sender.restart();
  }

  cancelTask(id) {
    return this.#items.get(id).sender.cancel();
  }

  /**
   * Give a task its file back after a reload, and go on. Throws Problem `file_differs` when it is another file.
   */
  async continueTask(id, file) {
    const { sender } = this.#items.get(id);
    await this.#requireSame(sender.now, file);
    sender.take({ file });
    await sender.restart();
  }

  /** What is known of a batch: {id, size, loaded, percent, speed, count, refused}; `refused`: [{index, error}]. */
  batch(id) {
    return this.#batches.get(id);
  }

  /** `move` is `"pause"`, `"restart"` or `"cancel"`, of every file of a batch that it concerns. */
  async moveBatch(id, move) {
    this.#seeBatch(await this.#api.send("POST", `/v1/batches/${id}/${move}`));
  }

  /** Drop finished tasks from this list; the gateway keeps them. */
  hideFinished() {
    for (const item of this.#items.values()) item.hidden ||= describe(item).finished;
    this.#changed();
  }

  #add(id, Key, { file, task }) {
    const item = { id, Key, sent: file, createdAt: task?.created_at ?? now(), movedAt: 0, hidden: false, leftHere: false };
    const options = { key: Key, content_type: file?.type || "application/octet-stream" };
    const known = task && recall(task.id);
    item.leftHere = Boolean(known?.here);
    const changed = () => {
      this.#keep(item);
      this.#changed();
    };
    const given = { id, file, options };
    item.sender = newSender(traced(this.#api), this.#slots, given, changed, () => this.#findEarlier(item));
    this.#items.set(id, item);
    this.#changed();
    return item;
  }

  /** Remember the task that has the item's file for as long as it goes on. */
  #keep(item) {
    const { task, file, ref } = item.sender.now;
    const kept = file && item.print && task?.id;
    if (kept === item.kept) return;
    if (item.kept) forget(item.kept);
    if (kept) remember(kept, { ref, expiresAt: task.expires_at, file: item.print });
    item.kept = kept;
  }

  /** Take over an unfinished task of the same key and file whose sender is gone. Its row gives way to the new one. */
  async #findEarlier(item) {
    item.print ??= await fingerprint(item.sender.now.file);
    await this.#heard;
    if (item.sender.now.task || item.sender.now.state === "canceled") return;
    for (const other of this.#items.values()) {
      if (other === item || !needsFile(other) || other.Key !== item.Key) continue;
      const { task, shown } = other.sender.now;
      const known = recall(task.id);
      if (isLost(task) || !known || difference(known.file, item.print)) continue;
      this.#items.delete(other.id);
      return item.sender.take({ task, shown, ref: known.ref, again: HALTED.test(task.state) });
    }
  }

  async #requireSame({ task }, file) {
    const known = recall(task.id);
    const print = await fingerprint(file);
    const differs = known ? difference(known.file, print) : await this.#differsFromStored(task, file);
    if (differs) throw new Problem({ code: "file_differs", title: "This is another file", differs });
  }

  /** For a task begun in another browser: the file's size and three of its stored parts tell. */
  async #differsFromStored(task, file) {
    if (task.size !== null && task.size !== file.size) return ["differs.size", task.size, file.size];
    const stored = await storedParts(callsAbout(this.#api, task));
    const known = stored.filter((part) => part.crc64 !== null);
    for (const part of new Set([known[0], known[known.length >> 1], known[known.length - 1]])) {
      if (!part || (await crc64(sliceOf(file, task.part_size, part.number))) === part.crc64) continue;
      return ["differs.parts"];
    }
    return null;
  }

  #seeAll(tasks) {
    const told = new Set(tasks.map((task) => task.id));
    for (const [id, { sender }] of this.#items) {
      const { task, file } = sender.now;
      if (task && !task.batch_id && !file && !told.has(task.id)) this.#items.delete(id);
    }
    tasks.forEach((task) => this.#see(task));
  }

  /** Take in a task document from the websocket. */
  #see(task) {
    const item = this.#itemOf(task);
    const { task: before, file } = item.sender.now;
    if (task.batch_id) this.#lookAtBatch(task.batch_id);
    if (!before || task.version > before.version) item.movedAt = before ? now() : task.updated_at;
    item.sender.see(task);
    const goesOn = HALTED.test(before?.state) && !HALTED.test(task.state) && !FINAL.test(task.state);
    if (goesOn && file && task.version >= before.version) item.sender.start(); // restarted from elsewhere
  }

  /** Take in what a batch adds up to and, from REST, some of its files. */
  #seeBatch({ files, next_cursor, ...totals }) {
    this.#batches.set(totals.id, { ...this.#batches.get(totals.id), ...totals });
    files?.forEach(({ task }) => task && this.#see(task));
    this.#changed();
  }

  /** Ask for the files of a batch, once: those that were refused are no tasks, and nobody else tells of them. */
  async #lookAtBatch(id) {
    if (this.#asking.has(id) || this.#batches.get(id)?.refused) return;
    this.#asking.add(id);
    try {
      const refused = [];
      for (let query = ""; query !== null; ) {
        const page = await this.#api.send("GET", `/v1/batches/${id}${query}`);
        refused.push(...page.files.filter(({ task }) => !task));
        query = page.next_cursor && `?cursor=${page.next_cursor}`;
        this.#seeBatch(query ? page : { ...page, refused });
      }
    } catch {
      // its first task may be heard of before the batch itself: the next news asks again
    } finally {
      this.#asking.delete(id);
    }
  }

  #itemOf(task) {
    for (const item of this.#items.values()) {
      const known = item.sender.now;
      if (known.task ? known.task.id === task.id : known.ref === task.client_ref) return item;
    }
    return this.#add(task.id, task.key, { task });
  }

  #connected(how) {
    this.#hearing();
    if (how === this.connection && how !== "signed_out") return; // each refused token is news
    this.connection = how;
    this.#emit("connection", { connection: how });
  }

  /** The first news goes out at once, so that nothing passes unseen; those after it together. */
  #changed() {
    this.#newsDue ??= setTimeout(() => {
      this.#newsDue = null;
      this.#newsAt = performance.now();
      this.#emit("list-update", { list: this.getTaskList() });
    }, this.#newsAt + NEWS_MILLISECONDS - performance.now());
  }

  #emit(name, event) {
    for (const listener of this.#listeners.get(name) ?? []) listener(event);
  }
}
