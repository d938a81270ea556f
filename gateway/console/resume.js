/** Resume by content, as the SDKs do it. Loaded only where an upload of the same key is open, or an MD5 is wanted. */

import { callsAbout, storedParts } from "./sender.js";

export { md5 } from "./md5.js";

/**
 * The unfinished task among those of `ids` that has `size` bytes and whose stored parts all are the file's, if there is
 * one. `hash(start, end)` is the MD5 of those bytes of the file.
 */
export async function findSame(api, ids, size, hash, patiently) {
  for (const id of ids) {
    const ask = (method, suffix) => patiently(() => callsAbout(api, { id })(method, suffix));
    const task = await ask("GET", "");
    // What COS has dropped somebody may have canceled: only a person lets it go on.
    const goesOn = /ing$|paused|error/.test(task.state) && task.error?.code !== "upload_lost";
    if (task.size === size && goesOn && (await holds(task, ask, hash))) return task;
  }
}

async function holds(task, ask, hash) {
  for (const { number, size, etag } of await storedParts(ask)) {
    const start = (number - 1) * task.part_size;
    const end = Math.min(start + task.part_size, task.size);
    if (size !== end - start || etag !== `"${await hash(start, end)}"`) return false;
  }
  return true;
}
