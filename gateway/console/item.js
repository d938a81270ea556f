/** What the list knows of one file: the gateway's task, the file if it is here, and what this page is doing about it. */

import { recall } from "./memory.js";
import { Speedometer, secondsLeft } from "./speed.js";
import { FINAL, HALTED } from "./transfer.js";

const QUIET_SECONDS = 20; // a task that stood still for so long has nobody who sends it

/**
 * `local` is the state while the gateway knows no better (queued, checking, paused without a network, given up); `shown`
 * the bytes shown so far; `movedAt` when the task last changed; `leftHere` whether this very tab sent it before a reload.
 */
export function newItem({ id, Key, file = null, task = null }) {
  return {
    id,
    Key,
    file,
    createdAt: task?.created_at ?? now(),
    leftHere: task ? Boolean(recall(task.id)?.here) : false,
    task: null,
    ref: id,
    shown: 0,
    movedAt: 0,
    meter: new Speedometer(),
  };
}

/** One entry of the list, as the seed SDKs spell it, and what a page needs beyond. */
export function describe(item) {
  const { task, file } = item;
  const state = FINAL.has(task?.state) ? task.state : (item.local ?? task?.state ?? "waiting");
  const size = task?.size ?? file?.size ?? null;
  const speed = item.transfer ? item.meter.speed() : (task?.speed ?? 0);
  const loaded = state === "success" ? size : item.shown;
  return {
    id: item.id,
    taskId: task?.id ?? null,
    Bucket: task?.bucket ?? null,
    Region: task?.region ?? null,
    Key: item.Key,
    state,
    size,
    loaded,
    percent: state === "success" ? 1 : size ? loaded / size : 0,
    hashPercent: task?.hash_percent ?? 0,
    speed: state === "uploading" ? speed : 0,
    error: item.problem ?? task?.error ?? null,
    result: task?.result ?? null,
    secondsLeft: state === "uploading" ? secondsLeft(size - loaded, speed) : null,
    waiting: item.waiting ?? null,
    needsFile: needsFile(item),
    canRestart: HALTED.has(state) && (Boolean(file) || !item.leftHere),
    hidden: Boolean(item.hidden),
    createdAt: item.createdAt,
  };
}

/** Whether the task waits for its file in vain: nobody here has it, and nobody elsewhere seems to send it. */
export function needsFile({ task, file, leftHere, movedAt }) {
  if (!task || file || FINAL.has(task.state) || task.state === "completing") return false;
  return leftHere || HALTED.has(task.state) || now() - movedAt > QUIET_SECONDS;
}

export function now() {
  return Date.now() / 1000;
}
