/** So many at once; the others wait in the order they came. */
export class Slots {
  #free;
  #queue = [];

  constructor(limit) {
    this.#free = limit;
  }

  /** Resolves to the function that gives the slot back. Throws `signal`'s reason when that comes first. */
  async take(signal) {
    if (this.#free > 0) this.#free -= 1;
    else {
      await new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        this.#queue.push({ resolve, signal });
      });
    }
    return () => this.#pass();
  }

  #pass() {
    while (this.#queue[0]?.signal.aborted) this.#queue.shift();
    if (this.#queue.length > 0) this.#queue.shift().resolve();
    else this.#free += 1;
  }
}
