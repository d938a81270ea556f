/** All files taken together: what there is to do, how far it is, and what to say aloud about it. */

import { bytes, duration, percent, secondsLeft, t } from "./words.js";

const MOVING = new Set(["waiting", "checking", "uploading", "completing"]);

/** A run of work: it begins when something is to be done while nothing was, and holds all that joined since. */
export class Summary {
  #members = new Set();
  #states = new Map();

  /** {part, text, active, spoken}: 0–1, a line, whether anything is left to do, and news for a screen reader. */
  of(list) {
    const open = list.filter((entry) => !entry.finished);
    if (open.length > 0 && !open.some((entry) => this.#members.has(entry.id))) this.#members.clear();
    open.forEach((entry) => this.#members.add(entry.id));
    const members = list.filter((entry) => this.#members.has(entry.id) && entry.state !== "canceled");
    return { ...totals(members), active: open.length > 0, spoken: this.#news(list) };
  }

  /** Ends and failures since the last call; a first sight of old tasks is no news. */
  #news(list) {
    const changed = { success: [], error: [], paused: [] };
    for (const entry of list) {
      const before = this.#states.get(entry.id);
      this.#states.set(entry.id, entry.state);
      if (before && before !== entry.state) changed[entry.state]?.push(entry.Key);
    }
    return Object.keys(changed).flatMap((state) => said(changed[state], `said.${state}`)).join(" ");
  }
}

/** {part, text} of entries: 0–1 and a line. */
export function totals(members) {
  const total = sum(members, "size");
  const loaded = sum(members, "loaded");
  const done = members.filter((entry) => entry.state === "success").length;
  const files = t("fileCount", members.length);
  if (members.length === 0) return { part: 0, text: t("nothing") };
  if (done === members.length) return { part: 1, text: t("allDone", files, bytes(total)) };
  const moving = members.filter((entry) => MOVING.has(entry.state) && !entry.needsFile);
  const speed = sum(moving, "speed");
  const left = secondsLeft(sum(moving, "size") - sum(moving, "loaded"), speed);
  const part = Math.min(0.999, total ? loaded / total : done / members.length);
  const words = [t("ofBytes", done, files), t("ofBytes", bytes(loaded), bytes(total)), percent(part)];
  if (speed > 0) words.push(`${bytes(Math.round(speed))}/s`, t("left", duration(left)));
  return { part, text: words.join(" · ") };
}

function said(keys, text) {
  return keys.length > 2 ? [t(text, t("fileCount", keys.length))] : keys.map((key) => t(text, key));
}

function sum(entries, member) {
  return entries.reduce((total, entry) => total + (entry[member] ?? 0), 0);
}
