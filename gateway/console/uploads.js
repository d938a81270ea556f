/** The upload calls of Tencent's COS SDKs, through the gateway: their names, parameters, callbacks and task list. */

import { Api } from "./api.js";
import { persist } from "./retry.js";
import { dataOf, failure, optionsOf, progress } from "./seed.js";
import { HALTED, callsAbout, newSender, uniqueName } from "./sender.js";
import { Slots } from "./slots.js";
import { Stop } from "./stop.js";

const MIB = 1 << 20;
const NEWS_MILLISECONDS = 100;
const FROM = { pause: /ing$/, restart: HALTED, cancel: /ing$|paused|error/ };

export class Uploads {
  #items = new Map(); // task id -> item, in the order they came
  #listeners = {};
  #newsDue;
  #limits;
  #platform;
  #api;
  #slots;

  /**
   * `gateway`: its address, without a slash at the end. `token`, or `getToken()` that gives one or a promise of one, and
   * is asked again when the gateway refuses it. `transport`: what the platform gives.
   */
  constructor({ gateway = "", token, getToken = () => token, transport, ...limits }) {
    this.#api = new Api(gateway, transport, getToken);
    this.#platform = transport;
    this.#limits = limits;
    this.#slots = new Slots(limits.FileParallelLimit ?? 3);
  }

  /** Send a file: whole up to `SliceSize` bytes, else in parts. */
  uploadFile(params, callback) {
    return settled(callback, (done) => this.#begin(params, done));
  }

  /** Send a file in parts; the same file and key that was broken off before goes on. */
  sliceUploadFile(params, callback) {
    return settled(callback, (done) => this.#begin({ ChunkSize: params.SliceSize, ...params, SliceSize: -1 }, done));
  }

  /** Send a text, bytes or a file in one piece. */
  putObject(params, callback) {
    return settled(callback, (done) => this.#begin({ ...params, SliceSize: Infinity }, done));
  }

  /** Send several; each ends with its own error or data, in `files` of the data. */
  uploadFiles({ files, SliceSize, onProgress, onFileFinish }, callback) {
    return settled(callback, async (done) => {
      const results = [];
      const opened = await Promise.all(files.map((params) => this.#open(params).catch(() => ({ size: 0 }))));
      const each = opened.map(({ size }) => progress(0, size));
      const sum = (name) => each.reduce((total, one) => total + one[name], 0);
      let left = files.length;
      if (!left) done(null, { files: results });
      files.forEach((params, Index) => {
        const tellBoth = (now) => {
          each[Index] = now;
          params.onProgress?.(now);
          onProgress?.(progress(sum("loaded"), sum("total"), sum("speed")));
        };
        const ended = (error, data, options) => {
          results[Index] = { options, error, data };
          onFileFinish?.(error, data, options);
          if (--left <= 0) done(null, { files: results });
        };
        this.#begin({ SliceSize, ...params, Index, onProgress: tellBoth }, ended);
      });
    });
  }

  /** Every task of this client, in the order they came. */
  getTaskList() {
    return [...this.#items.values()].map(({ entry }) => ({ ...entry }));
  }

  /** These three do nothing to a task that is unknown or in another state, and never reject. */
  pauseTask(id) {
    return this.#move(id, "pause");
  }

  restartTask(id) {
    return this.#move(id, "restart");
  }

  cancelTask(id) {
    return this.#move(id, "cancel");
  }

  /** `"list-update"` gives {list}, at most ten times a second. */
  on(name, listener) {
    (this.#listeners[name] ??= new Set()).add(listener);
  }

  off(name, listener) {
    this.#listeners[name]?.delete(listener);
  }

  async #open(params) {
    return this.#platform.file(params);
  }

  async #begin(params, done) {
    const id = uniqueName();
    const info = { TaskId: id };
    for (const name in params) if (!/object|function/.test(typeof params[name])) info[name] = params[name];
    const ended = (error, data) => {
      params.onFileFinish?.(error, data, info);
      done(error, data, info);
    };
    let file;
    try {
      file = await this.#open(params);
    } catch (error) {
      return ended(failure(error)); // what cannot be read is never queued
    }
    const { Bucket, Region, Key, FilePath, AsyncLimit: parallel = this.#limits.ChunkParallelLimit } = params;
    const { SliceSize = 0, ChunkSize = this.#platform.partSize } = { ...this.#limits, ...params };
    const mode = SliceSize < 0 || file.size > Math.max(SliceSize, MIB) ? "parts" : "content";
    const options = { content_type: file.type || undefined, ...optionsOf(params) };
    if (ChunkSize) options.part_size = Math.max(ChunkSize, MIB);
    const entry = { id, Bucket, Region, Key, FilePath, ...progress(0, file.size), size: file.size, hashPercent: 0 };
    const item = { entry, params, ended };
    const name = mode === "parts" && ["gateway", Bucket, Key, file.size, FilePath ?? file.name, file.lastModified].join();
    const keep = (how, text) => {
      try {
        return name && JSON.parse(this.#platform.storage[how](name, text) ?? null);
      } catch {
        // forbidden or full: nothing outlives a reload, and uploads go on all the same
      }
    };
    item.sender = newSender(this.#api, this.#slots, { id, file, options, mode, parallel }, {
      changed: () => this.#changed(item),
      prepare: (patiently) => this.#findEarlier(item, keep("getItem"), patiently),
      created: (task, ticket) => keep("setItem", JSON.stringify({ id: task.id, ticket })),
      ended: () => keep("removeItem"),
    });
    this.#items.set(id, item);
    params.onTaskReady?.(id);
    item.sender.start();
  }

  /** `known`: the task that this file had before a reload. */
  async #findEarlier({ sender, params, entry }, known, patiently) {
    const tasks = [...this.#items.values()].map((item) => item.sender.now.task?.id);
    if (!known || tasks.includes(known.id) || sender.now.task) return;
    try {
      const task = await patiently(() => callsAbout(this.#api, known, known.ticket)("GET", ""));
      const again = HALTED.test(task.state);
      if (!again && !/ing$/.test(task.state)) return;
      sender.take({ task, ticket: known.ticket, again });
      entry.hashPercent = 1;
      tell(params.onHashProgress, progress(entry.size, entry.size));
    } catch {
      // lost, or not ours any more: a new task takes the file
    }
  }

  #move(id, move) {
    const item = this.#items.get(id) ?? { entry: {} };
    const { entry, sender } = item;
    const act = () =>
      sender[move]().catch((error) => {
        if (move === "cancel" && error.retryable) sender.halt("canceled"); // the gateway hears of it when it can
        throw error;
      });
    const patiently = () => FROM[move].test(entry.state) && persist(this.#api, new Stop(), act, Boolean);
    return (item.moves = Promise.resolve(item.moves).then(patiently).then(() => {}, () => {}));
  }

  /** Tell what is new. What was told of progress is never taken back. */
  #changed(item) {
    const { entry, params, ended, sender } = item;
    const { state: actual, shown, speed, sending, problem, task } = sender.now;
    const state = actual.replace("completing", "uploading");
    const [turned, done] = [state !== entry.state, state === "success"];
    const failed = state === "error" ? (problem ?? task.error) : { code: "task_canceled", title: "The task was canceled" };
    const loaded = done ? entry.size : Math.min(Math.max(entry.loaded, shown), entry.size);
    const now = progress(loaded, entry.size, sending ? speed : 0, done);
    Object.assign(entry, now, { state, error: state === "error" ? failure(failed) : null });
    if ((done && turned) || (state === "uploading" && !(Date.now() - item.toldAt < NEWS_MILLISECONDS))) {
      item.toldAt = Date.now();
      tell(params.onProgress, now);
    }
    if (turned && done) tell(ended, null, dataOf(task));
    if (turned && /error|canceled/.test(state)) tell(ended, failure(failed));
    this.#newsDue ??= setTimeout(() => {
      this.#newsDue = null;
      this.#listeners["list-update"]?.forEach((listener) => tell(listener, { list: this.getTaskList() }));
    }, NEWS_MILLISECONDS);
  }
}

/** What the caller throws is none of the upload's concern. */
function tell(listener, ...news) {
  if (listener) setTimeout(() => listener(...news));
}

/** With a callback as the SDKs have it, else a promise of the data. */
function settled(callback, begin) {
  if (callback) return void begin(callback);
  return new Promise((resolve, reject) => begin((error, data) => (error ? reject(error) : resolve(data))));
}
