/** Asks work to end, from outside: an AbortController for places that have none, as mini-programs. */
export class Stop {
  #listeners = new Set();
  reason = null;

  /** `listener(reason)` is called when it is time to stop, at once if it is. Returns how to take that back. */
  on(listener) {
    if (this.reason) listener(this.reason);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stop(reason = new Error("stopped")) {
    this.reason ??= reason;
    this.#listeners.forEach((listener) => listener(this.reason));
  }

  /** Throws the reason once there is one. */
  check() {
    if (this.reason) throw this.reason;
  }

  /** What `promise` comes to, or the reason if that comes first. */
  race(promise) {
    return new Promise((resolve, reject) => {
      const off = this.on(reject);
      promise.then(resolve, reject).then(off);
    });
  }
}
