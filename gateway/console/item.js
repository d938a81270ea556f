/** One file in the list of the page: {id, Key, createdAt, hidden, leftHere, movedAt, sender}. */

import { FINAL, HALTED } from "./sender.js";
import { secondsLeft } from "./words.js";

const UNDER_WAY = new Set(["waiting", "checking", "uploading"]);
const QUIET_SECONDS = 20; // a task that stood still for so long has nobody who sends it

/** COS dropped the task's upload, perhaps because somebody canceled it: only a person lets it go on. */
export const isLost = (task) => task.error?.code === "upload_lost";

/** One entry of the list, as the seed SDKs spell it, and what a page needs beyond. */
export function describe(item) {
  const { state, task, file, shown, problem, waiting, speed: ours } = item.sender.now;
  const size = task?.size ?? file?.size ?? null;
  const speed = ours || (task?.speed ?? 0);
  const loaded = state === "success" ? size : shown;
  const abandoned = needsFile(item);
  const moves = state === "uploading" && !waiting && !abandoned;
  return {
    id: item.id,
    taskId: task?.id ?? null,
    Key: item.Key,
    state,
    size,
    loaded,
    percent: state === "success" ? 1 : size ? Math.min(loaded / size, 0.999) : 0, // sent is not stored
    speed: moves ? speed : 0,
    error: problem ?? task?.error ?? null,
    secondsLeft: moves ? secondsLeft(size - loaded, speed) : null,
    waiting: waiting ?? null,
    needsFile: abandoned,
    canPause: UNDER_WAY.has(state) && !abandoned,
    canRestart: HALTED.test(state) && (Boolean(file) || !item.leftHere),
    canCancel: UNDER_WAY.has(state) || HALTED.test(state),
    finished: FINAL.test(state),
    hidden: item.hidden,
    createdAt: item.createdAt,
    batchId: task?.batch_id ?? null,
  };
}

/**
 * Whether the task waits for its file in vain: nobody here has it, and nobody elsewhere seems to send it. `leftHere`:
 * this very tab sent it before a reload; `movedAt`: when it last changed.
 */
export function needsFile({ sender, leftHere, movedAt }) {
  const { task, file } = sender.now;
  if (!task || file || FINAL.test(task.state) || task.state === "completing") return false;
  return leftHere || HALTED.test(task.state) || now() - movedAt > QUIET_SECONDS;
}

export function now() {
  return Date.now() / 1000;
}
