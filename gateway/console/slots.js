/** So many at once; the others wait in the order they came. */
export class Slots {
  #free;
  #queue = [];

  constructor(limit) {
    this.#free = limit;
  }

  /** Resolves when a slot is taken, which `give` gives back. Throws `stop`'s reason when that comes first. */
  take(stop) {
    return new Promise((resolve, reject) => {
      this.#queue.push([resolve, stop]);
      stop.on(reject);
      this.#next();
    });
  }

  give() {
    this.#free += 1;
    this.#next();
  }

  #next() {
    while (this.#free > 0 && this.#queue.length) {
      const [resolve, stop] = this.#queue.shift();
      if (stop.reason) continue;
      this.#free -= 1;
      resolve();
    }
  }
}
