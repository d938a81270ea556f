/** Files out of a drop or a picker, folders included, each with its path below what was dropped. */

import { difference } from "./memory.js";

/** [{path, file}] of a drop. Call it within the event: the browser empties the transfer afterwards. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return picked(transfer.files);
  return (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
}

/** [{path, file}] of a picker. */
export function picked(files) {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

async function walk(entry, folder) {
  const path = folder + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const found = [];
  for await (const child of children(entry.createReader())) found.push(...(await walk(child, `${path}/`)));
  return found;
}

async function* children(reader) {
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 a time
    if (some.length === 0) return;
    yield* some;
  }
}

/**
 * `found` with paths of their own: phones call every photo image.jpg, and Macs spell é in two letters. `fileAt(path)` is
 * the file that has the path already, if one has; the very same one may have it again.
 */
export function toldApart(found, fileAt) {
  const isAnothers = (path, file) => difference(fileAt(path) ?? file, file);
  const taken = new Set();
  return found.map(({ path, file }) => {
    const given = path.normalize("NFC");
    let own = given;
    for (let number = 2; taken.has(own) || isAnothers(own, file); number++) own = numbered(given, number);
    taken.add(own);
    return { path: own, file };
  });
}

function numbered(path, number) {
  const dot = path.lastIndexOf(".");
  const end = dot > path.lastIndexOf("/") + 1 ? dot : path.length;
  return `${path.slice(0, end)} (${number})${path.slice(end)}`;
}

/** The whole page takes drops: a file dropped beside `zone` would otherwise replace the page. */
export function listenToDrops(zone, take) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) zone.classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zone.classList.remove("over");
    take(await dropped(event.dataTransfer));
  });
}
