/** What the list knows of one file: the gateway's task, the file if it is here, and what is being done about it. */

import { recall } from "./memory.js";
import { Speedometer, secondsLeft } from "./speed.js";
import { FINAL, HALTED } from "./transfer.js";

const UNDER_WAY = new Set(["waiting", "checking", "uploading"]);
const QUIET_SECONDS = 20; // a task that stood still for so long has nobody who sends it

/**
 * `local`: the state while the gateway knows no better (queued, checking, paused without a network, given up). `shown`:
 * bytes shown so far. `movedAt`: when the task last changed. `leftHere`: whether this very tab sent it before a reload.
 */
export function newItem({ id, Key, file = null, task = null }) {
  return {
    id,
    Key,
    file,
    createdAt: task?.created_at ?? now(),
    hidden: false,
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
  const state = stateOf(item);
  const size = task?.size ?? file?.size ?? null;
  const speed = item.transfer ? item.meter.speed() : (task?.speed ?? 0);
  const loaded = state === "success" ? size : item.shown;
  const abandoned = needsFile(item);
  const moves = state === "uploading" && !item.waiting && !abandoned;
  return {
    id: item.id,
    taskId: task?.id ?? null,
    Key: item.Key,
    state,
    size,
    loaded,
    percent: state === "success" ? 1 : size ? Math.min(loaded / size, 0.999) : 0, // sent is not stored
    speed: moves ? speed : 0,
    error: item.problem ?? task?.error ?? null,
    secondsLeft: moves ? secondsLeft(size - loaded, speed) : null,
    waiting: item.waiting ?? null,
    needsFile: abandoned,
    canPause: UNDER_WAY.has(state) && !abandoned,
    canRestart: HALTED.has(state) && (Boolean(file) || !item.leftHere),
    canCancel: UNDER_WAY.has(state) || HALTED.has(state),
    finished: FINAL.has(state),
    hidden: item.hidden,
    createdAt: item.createdAt,
  };
}

function stateOf({ task, local, transfer }) {
  if (FINAL.has(task?.state)) return task.state;
  if (local || !task) return local ?? "waiting";
  return transfer && task.state === "waiting" ? "uploading" : task.state; // the gateway says so after the first part
}

/** Whether the task waits for its file in vain: nobody here has it, and nobody elsewhere seems to send it. */
export function needsFile({ task, file, leftHere, movedAt }) {
  if (!task || file || FINAL.has(task.state) || task.state === "completing") return false;
  return leftHere || HALTED.has(task.state) || now() - movedAt > QUIET_SECONDS;
}

export function now() {
  return Date.now() / 1000;
}
