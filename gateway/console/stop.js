/**
 * Asks work to end, from outside: an AbortController for places that have none, as mini-programs.
 *
 * It stops when `outer` does, or by `stop(reason)`. `reason()` is there once it is time to stop, and `check()` throws
 * it. `on(listener)` calls `listener(reason)` then, at once if it is time, and returns how to take that back.
 * `race(promise)` is what the promise comes to, or the reason if that comes first.
 */
export function newStop(outer) {
  const listeners = new Set();
  let reason = null;

  const on = (listener) => {
    if (reason) listener(reason);
    listeners.add(listener);
    return () => listeners.delete(listener);
  };

  const stop = (why = Error("stop")) => {
    if (reason) return;
    reason = why;
    listeners.forEach((listener) => listener(why));
  };
  outer?.on(stop);

  return {
    on,
    stop,
    reason: () => reason,

    check() {
      if (reason) throw reason;
    },

    race: (promise) =>
      new Promise((resolve, reject) => {
        const off = on(reject);
        promise.then(resolve, reject).then(off);
      }),
  };
}
