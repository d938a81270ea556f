/**
 * Uploads through the gateway, without any page: what to send, how it stands, pause, restart, cancel.
 *
 * Each has an `id` in the list from the moment its file is handed over; the gateway's own id comes as `taskId`. Names are
 * those of Tencent's COS SDKs where those have one.
 */

import { Api, NETWORK, Problem } from "./api.js";
import { describe, needsFile, newItem, now } from "./item.js";
import { difference, fingerprint, forget, recall, remember, tidy } from "./memory.js";
import { persist } from "./retry.js";
import { Slots } from "./slots.js";
import { FINAL, HALTED, Transfer } from "./transfer.js";
import { Watch } from "./watch.js";

const GONE = new Set(["task_not_found", "task_expired"]); // a retry begins a new task
const TOLD_BY_TASK = new Set(["task_paused", "task_error", "task_canceled"]); // the task itself says it better
const NEWS_MILLISECONDS = 100;

export class UploadClient {
  #api;
  #slots;
  #watch;
  #items = new Map(); // list id -> item, oldest first
  #listeners = new Map();
  #newsDue = null;
  #newsAt = 0;
  #hearing = () => {};
  #heard = new Promise((resolve) => (this.#hearing = resolve)); // what there is already is known

  /** `base`: the gateway's address, empty for its own pages. `asyncLimit`: parts of one file in flight. */
  constructor({ base = "", token, fileParallelLimit = 3, asyncLimit = 3 }) {
    this.#api = new Api({ base, token });
    this.#slots = new Slots(fileParallelLimit);
    this.asyncLimit = asyncLimit;
    this.connection = "connecting";
    this.#watch = new Watch(this.#api, {
      onSnapshot: (tasks) => this.#seeAll(tasks),
      onTask: (task) => this.#see(task),
      onConnection: (how) => this.#connected(how),
    });
    tidy();
  }

  /** Begin to follow the caller's tasks. */
  start() {
    this.#watch.start();
  }

  /** Let go of everything; the tasks stay as they are at the gateway. */
  stop() {
    this.#watch.stop();
    for (const item of this.#items.values()) item.stop?.abort();
  }

  /** Go on with another token. */
  setToken(token) {
    this.#api.token = token;
  }

  /** `"list-update"` gives {list}, at most ten times a second; `"connection"` gives {connection}. */
  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }

  /**
   * Send `Body` (a File) to `Key`. Returns its id in the list.
   *
   * A file that was being sent before the page was reloaded goes on where it stood.
   */
  uploadFile({ Key, Body }) {
    const item = this.#add(newItem({ id: uniqueName(), Key, file: Body }));
    this.#run(item);
    return item.id;
  }

  /** Send several: [{Key, Body}]. Returns their ids. */
  uploadFiles({ files }) {
    return files.map((file) => this.uploadFile(file));
  }

  /** Every task, newest first: {id, taskId, Key, size, loaded, percent, speed, state, error, …}. */
  getTaskList() {
    return [...this.#items.values()].map(describe).sort((a, b) => b.createdAt - a.createdAt);
  }

  /** Stop sending; the parts stay. Without a network only this page knows of it, and nothing moves all the same. */
  async pauseTask(id) {
    const item = this.#items.get(id);
    try {
      if (item.task) return await this.#control(item, "pause");
    } catch (error) {
      if (error.code !== NETWORK || !item.file) throw error;
    }
    this.#halt(item, "paused");
  }

  /** Go on, also after an error; whoever has the file open sends the rest. */
  async restartTask(id) {
    const item = this.#items.get(id);
    if (!item.file) return this.#control(item, "restart");
    if (GONE.has(item.problem?.code)) this.#beginAnew(item);
    item.mustRestart = Boolean(item.task) && item.task.state !== "completing";
    this.#run(item);
  }

  /** End the task; its parts are dropped. */
  async cancelTask(id) {
    const item = this.#items.get(id);
    if (item.task && !GONE.has(item.problem?.code)) await this.#control(item, "cancel");
    this.#halt(item, "canceled");
    item.file = null;
  }

  /**
   * Give a task its file back after a reload, and go on. Throws Problem `file_differs` when it is another file.
   */
  async continueTask(id, file) {
    const item = this.#items.get(id);
    await this.#requireSame(item, file);
    item.file = file;
    await this.restartTask(id);
  }

  /** Drop finished tasks from this list; the gateway keeps them. */
  hideFinished() {
    for (const item of this.#items.values()) item.hidden ||= describe(item).finished;
    this.#changed();
  }

  #add(item) {
    this.#items.set(item.id, item);
    this.#changed();
    return item;
  }

  /** One attempt to bring the file over, from its place in the queue to the end or a halt. */
  async #run(item) {
    if (item.stop) return;
    const stop = new AbortController();
    Object.assign(item, { stop, problem: null, local: "waiting" });
    item.meter.reset();
    try {
      const release = await this.#slots.take(stop.signal);
      try {
        await this.#send(item, stop.signal);
      } finally {
        release();
      }
    } catch (error) {
      if (!stop.signal.aborted) this.#failed(item, error);
    } finally {
      if (item.stop === stop) Object.assign(item, { stop: null, transfer: null, waiting: null });
      this.#changed();
    }
  }

  async #send(item, signal) {
    const onWait = (reason) => this.#note(item, { waiting: reason });
    const patiently = (action) => persist(action, { api: this.#api, signal, onWait });
    this.#note(item, { local: "checking" });
    item.print ??= await fingerprint(item.file);
    await this.#heard;
    signal.throwIfAborted();
    if (!item.task && !this.#adoptEarlier(item)) await patiently(() => this.#create(item, signal));
    this.#remember(item);
    if (item.mustRestart) await patiently(() => this.#control(item, "restart", signal));
    Object.assign(item, { local: null, mustRestart: false });
    item.transfer = new Transfer({
      api: this.#api,
      file: item.file,
      task: item.task,
      ticket: item.ticket,
      parallel: this.asyncLimit,
      signal,
      hooks: { onWait, onTask: (task) => this.#see(task), onProgress: () => this.#moved(item) },
    });
    this.#see(await item.transfer.run());
  }

  /** Take over an unfinished task of the same key and file whose sender is gone. Its row gives way to the new one. */
  #adoptEarlier(item) {
    for (const other of this.#items.values()) {
      if (other === item || !needsFile(other) || other.Key !== item.Key) continue;
      const known = recall(other.task.id);
      if (!known || difference(known.file, item.print)) continue;
      this.#items.delete(other.id);
      const { task, shown } = other;
      Object.assign(item, { task, shown, ref: known.ref, ticket: known.ticket, mustRestart: HALTED.has(task.state) });
      return true;
    }
    return false;
  }

  async #create(item, signal) {
    const { file, ref } = item;
    const type = file.type || "application/octet-stream";
    const json = { key: item.Key, size: file.size, content_type: type, client_ref: ref };
    const task = await this.#api.call("POST", "/v1/tasks", { json, headers: { "Idempotency-Key": ref }, signal });
    item.ticket = task.ticket;
    this.#see(task);
  }

  #remember({ task, Key, ref, ticket, print }) {
    remember(task.id, { key: Key, ref, ticket, expiresAt: task.expires_at, file: print });
  }

  async #control(item, move, signal) {
    const path = `/v1/tasks/${encodeURIComponent(item.task.id)}/${move}`;
    item.ticket ??= recall(item.task.id)?.ticket;
    const headers = item.ticket ? { "Upload-Ticket": item.ticket } : {};
    const before = item.task;
    const task = await this.#api.call("POST", path, { headers, signal });
    if (move === "restart" && task.loaded < before.loaded) item.shown = 0; // a new upload
    this.#see(task);
  }

  async #requireSame(item, file) {
    const known = recall(item.task.id);
    item.ticket ??= known?.ticket;
    const print = await fingerprint(file);
    const differs = known ? difference(known.file, print) : await this.#differsFromStored(item, file);
    if (!differs) return;
    const detail = `The task goes on only with its own file: ${differs}.`;
    throw new Problem({ code: "file_differs", title: "This is another file", detail });
  }

  /** For a task begun in another browser: the file's size and stored parts tell. */
  async #differsFromStored(item, file) {
    if (item.task.size !== null && item.task.size !== file.size) {
      return `it had ${item.task.size} bytes, this one has ${file.size}`;
    }
    const hooks = { onWait() {}, onTask() {}, onProgress() {} };
    const { signal } = new AbortController();
    const transfer = new Transfer({ api: this.#api, file, task: item.task, ticket: item.ticket, signal, hooks });
    return (await transfer.agrees()) ? null : "the parts already stored have other content";
  }

  async #failed(item, error) {
    item.local = null;
    if (TOLD_BY_TASK.has(error.code)) {
      const task = await this.#api.call("GET", `/v1/tasks/${encodeURIComponent(item.task.id)}`).catch(() => null);
      if (task) return this.#see(task);
    }
    if (!(error instanceof Problem)) console.error(error);
    const known = error instanceof Problem ? error : new Problem({ title: "Something went wrong in this page" });
    const { code, title, detail } = known;
    this.#note(item, { local: "error", problem: { code, title, detail } });
    if (GONE.has(code)) forget(item.task?.id);
  }

  #halt(item, local) {
    item.local = local;
    item.stop?.abort();
    item.stop = null;
    this.#changed();
  }

  /** What the gateway lost is begun again under a new reference: the old one would only find the old task. */
  #beginAnew(item) {
    forget(item.task?.id);
    Object.assign(item, { task: null, ticket: null, ref: uniqueName(), shown: 0 });
  }

  #seeAll(tasks) {
    const told = new Set(tasks.map((task) => task.id));
    for (const item of this.#items.values()) {
      if (item.task && !item.file && !told.has(item.task.id)) this.#items.delete(item.id);
    }
    tasks.forEach((task) => this.#see(task));
  }

  /** Take in a task document, from wherever it came; an older one than is known changes nothing. */
  #see(task) {
    const item = this.#itemOf(task);
    const before = item.task;
    if (before && task.version < before.version) return;
    if (!before || task.version > before.version) item.movedAt = before ? now() : task.updated_at;
    item.task = { ...before, ...task };
    item.transfer?.see(task);
    const [halted, wasHalted] = [HALTED.has(task.state), HALTED.has(before?.state)];
    if (FINAL.has(task.state)) this.#finished(item);
    else if (item.local === "canceled") this.cancelTask(item.id).catch(() => {}); // canceled while it was being created
    else if (halted && !wasHalted) this.#halt(item, null);
    else if (wasHalted && !halted && item.file) this.#run(item); // restarted from elsewhere
    this.#moved(item);
  }

  #itemOf(task) {
    for (const item of this.#items.values()) {
      if (item.task ? item.task.id === task.id : item.ref === task.client_ref) return item;
    }
    return this.#add(newItem({ id: task.id, Key: task.key, task }));
  }

  #finished(item) {
    forget(item.task.id);
    if (item.task.state === "canceled") item.stop?.abort();
    Object.assign(item, { local: null, file: null });
  }

  /** The shown progress only grows: a part that breaks off is sent again, which is nobody's concern. */
  #moved(item) {
    const loaded = item.transfer?.loaded ?? item.task?.loaded ?? 0;
    item.shown = Math.max(item.shown, loaded);
    item.meter.mark(item.shown);
    this.#changed();
  }

  #note(item, what) {
    Object.assign(item, what);
    this.#changed();
  }

  #connected(how) {
    this.#hearing();
    if (how === this.connection) return;
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

function uniqueName() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16).padStart(8, "0")).join("");
}
