/** Bytes per second over the last few seconds. */
const WINDOW_SECONDS = 4;

export class Speedometer {
  #marks = [];

  /** `bytes`: how many there are by now, never fewer than before. */
  mark(bytes, now = performance.now() / 1000) {
    const last = this.#marks.at(-1);
    if (last && now - last.at < 0.1) return;
    this.#marks.push({ at: now, bytes });
    while (this.#marks.length > 2 && this.#marks[1].at < now - WINDOW_SECONDS) this.#marks.shift();
  }

  /** 0 while nothing is known, and when nothing has moved for a whole window. */
  speed(now = performance.now() / 1000) {
    const [first, last] = [this.#marks[0], this.#marks.at(-1)];
    if (!first || first === last || last.at < now - WINDOW_SECONDS) return 0;
    return (last.bytes - first.bytes) / Math.max(now - first.at, 0.1);
  }

  reset() {
    this.#marks = [];
  }
}

/** Seconds until `left` bytes have gone, null when nobody can tell. */
export function secondsLeft(left, speed) {
  return speed > 0 ? left / speed : null;
}
