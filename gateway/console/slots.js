/** So many at once; the others wait in the order they came. */
export class Slots {
  #free;
  #queue = [];

  constructor(limit) {
    this.#free = limit;
  }

  /** Resolves to the function that gives the slot back. Throws `signal`'s reason when that comes first. */
  async take(signal) {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    return () => this.#pass();
  }

  #turn(signal) {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#queue = this.#queue.filter((entry) => entry !== enter);
        reject(signal.reason);
      };
      const enter = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#queue.push(enter);
    });
  }

  #pass() {
    const next = this.#queue.shift();
    if (next) next();
    else this.#free += 1;
  }
}
