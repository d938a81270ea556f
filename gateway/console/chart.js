/** Bytes per second over the last minutes: a small picture and the same in words. */

import { bytes, t } from "./words.js";

const SECONDS = 300;
const HEIGHT = 48;

export class Chart {
  #speeds = new Array(SECONDS).fill(0); // bytes of each second, the latest last
  #known = new Map(); // entry id -> bytes it had
  #since = Date.now() / 1000;

  /** `root` holds an `svg` with a `path`, and `.facts`. */
  constructor(root) {
    this.root = root;
    this.path = root.querySelector("path");
    this.picture = root.querySelector("svg");
    this.picture.setAttribute("viewBox", `0 0 ${SECONDS - 1} ${HEIGHT}`);
    this.facts = root.querySelector(".facts");
  }

  /** Another second has passed, and the entries stand like this. What was there before the page is not counted. */
  tick(entries) {
    let moved = 0;
    for (const { id, loaded, createdAt } of entries) {
      moved += Math.max(0, loaded - (this.#known.get(id) ?? (createdAt < this.#since ? loaded : 0)));
      this.#known.set(id, loaded);
    }
    this.#speeds.push(moved);
    this.#speeds.shift();
    this.show();
  }

  show() {
    const top = Math.max(...this.#speeds);
    const sum = this.#speeds.reduce((total, speed) => total + speed, 0);
    this.root.hidden = top === 0;
    if (!top) return;
    const now = this.#speeds[SECONDS - 1];
    const text = t("chartFacts", ...[now, top, sum].map((count) => bytes(Math.round(count))));
    this.facts.textContent = text;
    this.picture.setAttribute("aria-label", `${t("chart")}: ${text}`);
    const height = (speed) => (HEIGHT - (speed / top) * (HEIGHT - 2)).toFixed(1);
    const points = this.#speeds.map((speed, second) => `${second} ${height(speed)}`);
    this.path.setAttribute("d", `M0 ${HEIGHT}L${points.join("L")}V${HEIGHT}Z`);
  }
}
