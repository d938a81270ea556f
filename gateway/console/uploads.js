/** The upload calls of Tencent's COS SDKs, through the gateway: their names, parameters, callbacks and task list. */

import { newApi } from "./api.js";
import { persist } from "./retry.js";
import { dataOf, failure, optionsOf, progress } from "./seed.js";
import { HALTED, UNREADABLE, newSender, uniqueName } from "./sender.js";
import { newSlots } from "./slots.js";
import { speedometer } from "./speed.js";
import { newStop } from "./stop.js";

const MIB = 1 << 20;
const NEWS_MILLISECONDS = 100;
const FROM = { pause: /ing$/, restart: HALTED, cancel: /ing|paused|error/ };
const SAME_KEY = { code: "invalid_key", title: "Another file of this call has the same key" };
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

  async function begin(params, done, gate = slots, hasOwnKey = true) {
    const id = uniqueName();
    const info = { TaskId: id };
    for (const name in params) if (!/object|function/.test(typeof params[name])) info[name] = params[name];
    const ended = (error, data) => {
      params.onFileFinish?.(error, data, info);
      done(error, data, info);
    };
    try {
      if (!hasOwnKey) throw SAME_KEY;
      const item = newItem(id, params, await transport.file(params), gate, ended);
      items.set(id, item);
      tell(params.onTaskReady, id);
      item.sender.start();
    } catch (error) {
      ended(failure(error === SAME_KEY ? error : { ...UNREADABLE, detail: error.errMsg })); // it is never queued
    }
  }

  function newItem(id, params, file, gate, ended) {
    const { Bucket, Region, Key, FilePath, ContentMD5: digest, AsyncLimit: parallel = ChunkParallelLimit } = params;
    const { SliceSize = limits.SliceSize ?? 0, ChunkSize = limits.ChunkSize ?? transport.partSize } = params;
    const { size } = file;
    const mode = SliceSize < 0 || size > Math.max(SliceSize, MIB) ? "parts" : "content";
    const options = { content_type: file.type || undefined, ...optionsOf(params) };
    if (mode === "content") options.slice_size = Math.max(size, MIB); // one PUT, up to what the gateway buffers
    else if (ChunkSize) options.part_size = Math.max(ChunkSize, MIB);
    const entry = { id, Bucket, Region, Key, FilePath, ...progress(0, size), size, hashPercent: 0 };
    const given = { id, file, options, mode, digest, parallel };
    const item = { ...given, entry, params, ended };
    item.sender = newSender(api, gate, given, () => changed(item), prepare.bind(null, item));
    return item;
  }

  /** Before a task is created: take over an earlier one of the same content, see to the MD5 that is to be written. */
  async function prepare({ sender, params, entry, file, options, mode }, patiently, stop) {
    if (sender.now.task) return;
    const { size } = entry;
    const meter = speedometer();
    let read = 0;
    const moved = (bytes) => {
      stop.check();
      const now = progress(Math.min((read += bytes), size), size, meter(read));
      entry.hashPercent = now.percent;
      tell(params.onHashProgress, now);
      news();
    };
    const hash = async (start, end) => (await transport.content()).md5(file, start, end, moved);
    try {
      const ids = mode === "parts" ? await openTasks(params, patiently) : [];
      const task = ids[0] && (await (await transport.content()).findSame(api, ids, size, hash, patiently));
      if (task) {
        sender.take({ task, again: HALTED.test(task.state) });
        return moved(size);
      }
    } catch {
      stop.check(); // else they may not be listed, or cannot be read: a new task takes the file
    }
    if (params.UploadAddMetaMd5) Object.assign(options, { upload_add_meta_md5: true, md5: await hash(0, size) });
  }

  /** The ids of the caller's tasks with an open upload of this key, but for those whose file is here. */
  async function openTasks({ Bucket: bucket, Region: region, Key }, patiently) {
    const query = { bucket, region, prefix: Key };
    let path = "/v1/uploads?";
    for (const name in query) if (query[name]) path += `${name}=${encodeURIComponent(query[name])}&`;
    const { uploads } = await patiently(() => api.send("GET", path));
    const taken = [...items.values()].map(({ sender }) => sender.now.task?.id);
    return uploads.flatMap(({ key, task_id: id }) => (key === Key && !taken.includes(id) ? id : []));
  }

  /** One move of a task waits for the one before; none does anything to a task in another state, and none rejects. */
  const mover = (move) => (id) => {
    const item = items.get(id) ?? { entry: {} };
    const { entry, sender } = item;
    const patiently = () => FROM[move].test(entry.state) && persist(api, newStop(), () => sender[move](), Boolean);
    return (item.moves = Promise.resolve(item.moves).then(patiently).catch(() => {}));
  };

  /** Tell what is new. What was told of progress is never taken back. */
  function changed(item) {
    const { entry, params, ended, sender } = item;
    const { state: actual, shown, speed, problem, task } = sender.now;
    const state = actual.replace("completing", "uploading");
    const { size, state: before } = entry;
    const done = state === "success";
    const now = progress(done ? size : Math.min(Math.max(entry.loaded, shown), size), size, speed, done);
    const error = state === "error" ? failure(problem ?? task.error) : null;
    Object.assign(entry, now, { state, error });
    const turned = state !== before;
    if ((done && turned) || (state === "uploading" && !(Date.now() - item.toldAt < NEWS_MILLISECONDS))) {
      item.toldAt = Date.now();
      tell(params.onProgress, now);
    }
    if (turned && done) tell(ended, null, dataOf(task));
    if (turned && /error|canceled/.test(state)) tell(ended, error ?? failure(CANCELED));
    news();
  }

  function news() {
    newsDue ??= setTimeout(() => {
      newsDue = null;
      listeners["list-update"]?.forEach((listener) => tell(listener, { list: getTaskList() }));
    }, NEWS_MILLISECONDS);
  }

  async function beginAll({ files, SliceSize, FileParallelLimit = Infinity, onProgress, onFileFinish }, done) {
    const results = [];
    const gate = newSlots(FileParallelLimit, slots);
    const opened = await Promise.allSettled(files.map(transport.file));
    const each = opened.map(({ value }) => progress(0, value ? value.size : 0));
    const sum = (name) => each.reduce((total, one) => total + one[name], 0);
    let left = files.length;
    if (!left) done(null, { files: results });
    const places = files.map(({ Bucket, Key }) => `${Bucket}/${Key}`);
    files.forEach((params, Index) => {
      const tellBoth = (now) => {
        each[Index] = now;
        params.onProgress?.(now);
        const all = each.every(({ percent }) => percent === 1);
        onProgress?.(progress(sum("loaded"), sum("total"), sum("speed"), all));
      };
      begin({ SliceSize, ...params, Index, onProgress: tellBoth }, (error, data, options) => {
        results[Index] = { options, error, data };
        onFileFinish?.(error, data, options);
        if (--left <= 0) done(null, { files: results });
      }, gate, places.indexOf(places[Index]) === Index);
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
  if (listener) setTimeout(listener, 0, ...news);
}

/** `run(params, done)` with a callback as the SDKs have it, else with a promise of the data. */
const settled = (run) => (params, callback) => {
  if (callback) return void run(params, callback);
  return new Promise((resolve, reject) => run(params, (error, data) => (error ? reject(error) : resolve(data))));
};
