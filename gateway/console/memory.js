/** What outlives a reload: for each unfinished task how to know its file again. No token, no content. */

import { crc64 } from "./crc64.js";
import { guarded, keep, kept } from "./storage.js";

const PREFIX = "gateway.task.";
const SAMPLE_BYTES = 1 << 20;
const TAB = tabName();

/** How to know `file` again: its name, size and date, and the CRC-64 of its first, middle and last MiB. */
export async function fingerprint(file) {
  const { name, size, lastModified } = file;
  return { name, size, lastModified, crc64: await crc64(...samples(file)) };
}

function samples(file) {
  if (file.size <= 3 * SAMPLE_BYTES) return [file];
  const starts = [0, Math.floor((file.size - SAMPLE_BYTES) / 2), file.size - SAMPLE_BYTES];
  return starts.map((start) => file.slice(start, start + SAMPLE_BYTES));
}

/**
 * How `actual` is not the file `expected`: a text of words.js and what fills it; null when it is the same. Of two files
 * that were not read only name, size and date tell.
 */
export function difference(expected, actual) {
  if (actual.name !== expected.name) return ["differs.name", expected.name, actual.name];
  if (actual.size !== expected.size) return ["differs.size", expected.size, actual.size];
  if (actual.crc64 !== expected.crc64) return ["differs.content"];
  if (actual.lastModified !== expected.lastModified) return ["differs.date"];
  return null;
}

/** `details`: {ref, expiresAt, file: fingerprint}. */
export function remember(taskId, details) {
  guarded("localStorage", (storage) => storage.setItem(PREFIX + taskId, JSON.stringify({ ...details, tab: TAB })));
}

/** What was remembered, with `here` telling whether it was in this very tab; null when nothing was. */
export function recall(taskId) {
  const details = guarded("localStorage", (storage) => JSON.parse(storage.getItem(PREFIX + taskId)));
  return details ? { ...details, here: details.tab === TAB } : null;
}

export function forget(taskId) {
  guarded("localStorage", (storage) => storage.removeItem(PREFIX + taskId));
}

/** Forget what is past its time: nobody will tell us of those tasks again. */
export function tidy() {
  const names = guarded("localStorage", (storage) => Object.keys(storage).filter((name) => name.startsWith(PREFIX)));
  for (const name of names ?? []) {
    const id = name.slice(PREFIX.length);
    if (!(recall(id)?.expiresAt > Date.now() / 1000)) forget(id);
  }
}

/** The name of this tab, which a reload keeps and another tab does not have. */
function tabName() {
  const place = ["sessionStorage", `${PREFIX}tab`];
  if (!kept(...place)) keep(...place, crypto.getRandomValues(new Uint32Array(2)).join("-"));
  return kept(...place);
}
