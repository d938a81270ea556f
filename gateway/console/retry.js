/** Try again what may be tried again: refusals a bounded number of times, a lost network for as long as it takes. */

import { NETWORK } from "./api.js";

const FIRST_DELAY_SECONDS = 0.5;
const LONGEST_DELAY_SECONDS = 20;
const MOST_REFUSALS = 8;
/** Retryable by the gateway's book, but only after somebody restarts the task. */
const NEEDS_RESTART = new Set(["task_paused", "task_error"]);

/**
 * Run `action` until it succeeds, and return what it returns.
 *
 * `probe` is asked after a lost connection. If it answers, the network is there and the loss counts as a refusal:
 * otherwise a server that always hangs up would be tried for ever. `onWait(reason)` gets `"offline"`, `"busy"` or
 * `"signed_out"` when a wait begins and null when it is over.
 */
export async function persist(action, { api, signal, probe, onWait = () => {} }) {
  let [losses, refusals] = [0, 0];
  try {
    for (;;) {
      try {
        return await action();
      } catch (error) {
        signal?.throwIfAborted();
        if (error.status === 401) {
          onWait("signed_out");
          await api.signedIn(signal);
        } else if (error.code === NETWORK) {
          onWait("offline");
          await delay(backoff(losses++), signal, "online");
          if (await answers(probe, signal)) refusals += 1;
        } else if (error.retryable && !NEEDS_RESTART.has(error.code)) {
          onWait("busy");
          await delay(Math.max(error.retryAfterSeconds, backoff(refusals++)), signal);
        } else throw error;
        if (refusals >= MOST_REFUSALS) throw error;
      }
    }
  } finally {
    onWait(null);
  }
}

async function answers(probe, signal) {
  if (!probe) return false;
  try {
    await probe();
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    if (error.code === NETWORK || error.retryable || error.status === 401) return false;
    throw error;
  }
}

function backoff(attempt) {
  return Math.min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** attempt) * (0.5 + Math.random() / 2);
}

/** Wait so many seconds, or until the window tells of `wakeEvent`; throws `signal`'s reason. */
export function delay(seconds, signal, wakeEvent) {
  return new Promise((resolve, reject) => {
    const end = (settle, value) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      if (wakeEvent) globalThis.removeEventListener?.(wakeEvent, wake);
      settle(value);
    };
    const wake = () => end(resolve);
    const stop = () => end(reject, signal.reason);
    const timer = setTimeout(wake, seconds * 1000);
    if (signal?.aborted) return stop();
    signal?.addEventListener("abort", stop);
    if (wakeEvent) globalThis.addEventListener?.(wakeEvent, wake);
  });
}
