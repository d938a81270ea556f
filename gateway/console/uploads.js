/** The upload calls of Tencent's COS SDKs, through the gateway: their names, parameters, callbacks and task list. */

import { newApi } from "./api.js";
import { persist } from "./retry.js";
import { dataOf, failure, optionsOf, progress } from "./seed.js";
import { HALTED, callsAbout, newSender, uniqueName } from "./sender.js";
import { newSlots } from "./slots.js";
import { newStop } from "./stop.js";

const MIB = 1 << 20;
const NEWS_MILLISECONDS = 100;
const FROM = { pause: /ing$/, restart: HALTED, cancel: /ing|paused|error/ };
const CANCELED = { code: "task_canceled", title: "Canceled" };

/** The methods of `UploadGateway`, as upload.d.ts tells of them. */
export function newUploads({ gateway = "", token, getToken = () => token, transport, ...limits }) {
  const { FileParallelLimit = 3, ChunkParallelLimit } = limits;
  const api = newApi(gateway, transport, getToken);
  const slots = newSlots(FileParallelLimit);
  const items = new Map(); // task id -> {entry, params, ended, sender}, in the order they came
  const listeners = {};
  let newsDue;

  const getTaskList = () => [...items.values()].map(({ entry }) => ({ ...entry }));

  async function begin(params, done) {
    const id = uniqueName();
    const info = { TaskId: id };
    for (const name in params) if (!/object|function/.test(typeof params[name])) info[name] = params[name];
    const ended = (error, data) => {
      params.onFileFinish?.(error, data, info);
      done(error, data, info);
    };
    try {
      add(id, params, await transport.file(params), ended);
    } catch (error) {
      ended(failure(error)); // what cannot be read is never queued
    }
  }

  function add(id, params, file, ended) {
    const { Bucket, Region, Key, FilePath, AsyncLimit: parallel = ChunkParallelLimit } = params;
    const { SliceSize = 0, ChunkSize = transport.partSize } = { ...limits, ...params };
    const { size } = file;
    const mode = SliceSize < 0 || size > Math.max(SliceSize, MIB) ? "parts" : "content";
    const options = { content_type: file.type || undefined, ...optionsOf(params) };
    if (mode === "content") options.slice_size = Math.max(size, MIB); // one PUT, up to what the gateway buffers
    else if (ChunkSize) options.part_size = Math.max(ChunkSize, MIB);
    const { lastModified } = file; // without it the file cannot be told from another
    const named = ["gateway", Bucket, Key, size, FilePath ?? file.name, lastModified];
    const name = mode === "parts" && lastModified && named.join();
    const keep = (how, text) => {
      try {
        return name && JSON.parse(transport.storage[how](name, text) ?? null);
      } catch {
        // forbidden or full: nothing outlives a reload, and uploads go on all the same
      }
    };
    const entry = { id, Bucket, Region, Key, FilePath, ...progress(0, size), size, hashPercent: 0 };
    const item = { entry, params, ended };
    item.sender = newSender(api, slots, { id, file, options, mode, parallel }, {
      changed: () => changed(item),
      prepare: (patiently) => findEarlier(item, keep("getItem"), patiently),
      created: (task, ticket) => keep("setItem", JSON.stringify({ id: task.id, ticket })),
      ended: () => keep("removeItem"),
    });
    items.set(id, item);
    tell(params.onTaskReady, id);
    item.sender.start();
  }

  /** `known`: the task that this file had before a reload. */
  async function findEarlier({ sender, params, entry }, known, patiently) {
    const tasks = [...items.values()].map((item) => item.sender.now.task?.id);
    if (!known || tasks.includes(known.id) || sender.now.task) return;
    try {
      const task = await patiently(() => callsAbout(api, known, known.ticket)("GET", ""));
      const again = HALTED.test(task.state);
      if (!again && !/ing$/.test(task.state)) return;
      sender.take({ task, ticket: known.ticket, again });
      entry.hashPercent = 1;
      tell(params.onHashProgress, progress(entry.size, entry.size));
    } catch {
      // lost, or not ours any more: a new task takes the file
    }
  }

  /** One move of a task waits for the one before; none does anything to a task in another state, and none rejects. */
  const mover = (move) => (id) => {
    const item = items.get(id) ?? { entry: {} };
    const { entry, sender } = item;
    const act = () =>
      sender[move]().catch((error) => {
        if (move === "cancel" && error.retryable) sender.halt("canceled"); // the gateway hears of it when it can
        throw error;
      });
    const patiently = () => FROM[move].test(entry.state) && persist(api, newStop(), act, Boolean);
    return (item.moves = Promise.resolve(item.moves).then(patiently).catch(() => {}));
  };

  /** Tell what is new. What was told of progress is never taken back. */
  function changed(item) {
    const { entry, params, ended, sender } = item;
    const { state: actual, shown, speed, sending, problem, task } = sender.now;
    const state = actual.replace("completing", "uploading");
    const { size, state: before } = entry;
    const done = state === "success";
    const now = progress(done ? size : Math.min(Math.max(entry.loaded, shown), size), size, sending ? speed : 0, done);
    const error = state === "error" ? failure(problem ?? task.error) : null;
    Object.assign(entry, now, { state, error });
    const turned = state !== before;
    if ((done && turned) || (state === "uploading" && !(Date.now() - item.toldAt < NEWS_MILLISECONDS))) {
      item.toldAt = Date.now();
      tell(params.onProgress, now);
    }
    if (turned && done) tell(ended, null, dataOf(task));
    if (turned && /error|canceled/.test(state)) tell(ended, error ?? failure(CANCELED));
    newsDue ??= setTimeout(() => {
      newsDue = null;
      listeners["list-update"]?.forEach((listener) => tell(listener, { list: getTaskList() }));
    }, NEWS_MILLISECONDS);
  }

  async function beginAll({ files, SliceSize, onProgress, onFileFinish }, done) {
    const results = [];
    const opened = await Promise.all(files.map((params) => transport.file(params).catch(() => ({ size: 0 }))));
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
      begin({ SliceSize, ...params, Index, onProgress: tellBoth }, (error, data, options) => {
        results[Index] = { options, error, data };
        onFileFinish?.(error, data, options);
        if (--left <= 0) done(null, { files: results });
      });
    });
  }

  return {
    uploadFile: settled(begin),
    sliceUploadFile: settled((params, done) => begin({ ChunkSize: params.SliceSize, ...params, SliceSize: -1 }, done)),
    putObject: settled((params, done) => begin({ ...params, SliceSize: Infinity }, done)),
    uploadFiles: settled(beginAll),
    getTaskList,
    pauseTask: mover("pause"),
    restartTask: mover("restart"),
    cancelTask: mover("cancel"),
    on: (name, listener) => void (listeners[name] ??= new Set()).add(listener),
    off: (name, listener) => void listeners[name]?.delete(listener),
  };
}

/** What the caller throws is none of the upload's concern. */
function tell(listener, ...news) {
  if (listener) setTimeout(() => listener(...news));
}

/** `run(params, done)` with a callback as the SDKs have it, else with a promise of the data. */
const settled = (run) => (params, callback) => {
  if (callback) return void run(params, callback);
  return new Promise((resolve, reject) => run(params, (error, data) => (error ? reject(error) : resolve(data))));
};
