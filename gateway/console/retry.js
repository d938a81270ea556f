/** Try again what may be tried again: refusals a bounded number of times, a lost network for as long as it takes. */

import { NETWORK } from "./api.js";

const FIRST_DELAY_SECONDS = 0.5;
const LONGEST_DELAY_SECONDS = 20;
const MOST_REFUSALS = 8;

/** The task is in another state: retryable by the gateway's book, but not before a restart. */
export const HALTS = /^task_(paused|error|canceled)$/;

/**
 * Run `action` until it succeeds, and return what it returns.
 *
 * `probe` is asked after a lost connection. If it answers, the network is there and the loss counts as a refusal:
 * otherwise a server that always hangs up would be tried for ever. `onWait(reason)` gets `"offline"`, `"busy"` or
 * `"signed_out"` when a wait begins and null when it is over.
 */
export async function persist(api, stop, action, onWait, probe) {
  let [losses, refusals] = [0, 0];
  try {
    for (;;) {
      try {
        return await action();
      } catch (error) {
        stop.check();
        if (error.status === 401) {
          onWait("signed_out");
          await stop.race(api.renew(error));
          refusals += 1;
        } else if (error.code === NETWORK) {
          onWait("offline");
          await delay(backoff(losses++), stop, api);
          try {
            if (probe) refusals += (await probe(), 1);
          } catch (another) {
            stop.check();
            if (!another.retryable && another.status !== 401) throw another;
          }
        } else if (error.retryable && !HALTS.test(error.code)) {
          onWait("busy");
          await delay(Math.max(error.retryAfter, backoff(refusals++)), stop);
        } else throw error;
        if (refusals >= MOST_REFUSALS) throw error;
      }
    }
  } finally {
    onWait(null);
  }
}

function backoff(attempt) {
  return Math.min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** attempt) * (0.5 + Math.random() / 2);
}

/** Wait so many seconds, or until the network or the app is back (if `api` is given); throws `stop`'s reason. */
export function delay(seconds, stop, api) {
  let off;
  const waited = new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000);
    off = api?.transport.onBack(resolve);
  });
  return stop.race(waited).finally(() => off?.());
}
