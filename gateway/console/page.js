/** The console page: hands files to the upload client and shows what it tells. */

import { UploadClient } from "./client.js";
import { dropped, picked } from "./drop.js";
import { Row } from "./row.js";
import { Summary } from "./summary.js";
import { troubleOf } from "./words.js";

const TOKEN = "gateway.token";
const CONNECTIONS = {
  connecting: "Connecting",
  live: "Live",
  polling: "Connected, updating every few seconds",
  offline: "Offline, waiting for the network",
  signed_out: "Signed out",
};

const $ = (id) => document.getElementById(id);
const rows = new Map();
const refusals = new Map(); // entry id -> why its last button press came to nothing, and its state then
const summary = new Summary();
let client = null;
let list = [];

/** The token of the address, which is then taken out of it, else the one this tab had before a reload. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    sessionStorage.setItem(TOKEN, given);
  }
  return given ?? sessionStorage.getItem(TOKEN);
}

function signIn(token) {
  sessionStorage.setItem(TOKEN, token);
  $("sign-in").hidden = true;
  $("console").hidden = false;
  if ($("folder").value === "") $("folder").value = prefixOf(token);
  if (client) return client.setToken(token);
  client = new UploadClient({ token });
  client.on("list-update", (event) => show(event.list));
  client.on("connection", (event) => showConnection(event.connection));
  client.start();
}

function askForToken(why) {
  $("sign-in-why").textContent = why;
  $("sign-in").hidden = false;
  $("console").hidden = !client;
  $("token").focus();
}

/** The key prefix a token is limited to, if it says so: keys must begin with it. */
function prefixOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { prefix } = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(claims), (c) => c.charCodeAt(0))));
    return typeof prefix === "string" ? prefix : "";
  } catch {
    return ""; // not ours to judge: the gateway will
  }
}

function send(found) {
  const folder = $("folder").value.trim().replace(/^\/+/, "");
  const prefix = folder && !folder.endsWith("/") ? `${folder}/` : folder;
  client.uploadFiles({ files: found.map(({ path, file }) => ({ Key: prefix + path, Body: file })) });
}

async function act(move, id) {
  if (move === "choose") return choose(id);
  await attempt(id, () => client[`${move}Task`](id));
}

function choose(id) {
  const picker = $("one-file");
  picker.value = "";
  picker.onchange = () => attempt(id, () => client.continueTask(id, picker.files[0]));
  picker.click();
}

async function attempt(id, action) {
  refusals.delete(id);
  try {
    await action();
  } catch (problem) {
    if (!problem.code) throw problem;
    refusals.set(id, { problem, state: list.find((entry) => entry.id === id)?.state });
    say(troubleOf(problem));
  }
  show(client.getTaskList());
}

function forAll(move, applies) {
  for (const entry of list.filter(applies)) act(move, entry.id);
}

function show(entries) {
  list = entries.filter((entry) => !entry.hidden);
  const known = new Set(list.map((entry) => entry.id));
  for (const [id, row] of rows) {
    if (known.has(id)) continue;
    row.element.remove();
    rows.delete(id);
  }
  list.forEach((entry, place) => {
    if (refusals.get(entry.id)?.state !== entry.state) refusals.delete(entry.id);
    const row = rows.get(entry.id) ?? newRow(entry.id);
    row.show(entry, refusals.get(entry.id)?.problem);
    const stands = $("list").children[place];
    if (stands !== row.element) $("list").insertBefore(row.element, stands ?? null);
  });
  $("empty").hidden = list.length > 0;
  $("hide").hidden = !list.some((entry) => entry.finished);
  showSummary();
}

function newRow(id) {
  const row = new Row(id, $("row"), act);
  rows.set(id, row);
  return row;
}

function showSummary() {
  const { part, text, active, spoken } = summary.of(list);
  $("all").hidden = list.length === 0;
  $("all-bar").value = part;
  $("all-bar").setAttribute("aria-valuetext", text);
  $("all-facts").textContent = text;
  $("pause-all").hidden = !list.some((entry) => entry.canPause);
  $("restart-all").hidden = !list.some((entry) => entry.canRestart);
  document.title = active && part > 0 ? `${Math.floor(part * 100)} % – Upload gateway` : "Upload gateway";
  if (spoken) say(spoken);
}

function say(text) {
  $("news").textContent = text;
}

function showConnection(how) {
  $("connection").textContent = CONNECTIONS[how];
  $("connection").dataset.how = how;
  if (how === "signed_out") askForToken("The token has expired or is not valid. Sign in, and everything goes on.");
  else $("sign-in").hidden = true;
}

function listen() {
  $("sign-in").addEventListener("submit", (event) => {
    event.preventDefault();
    const token = $("token").value.trim();
    $("token").value = "";
    if (token) signIn(token);
  });
  $("choose-files").addEventListener("click", () => $("files").click());
  $("choose-folder").addEventListener("click", () => $("folder-files").click());
  for (const picker of [$("files"), $("folder-files")]) {
    picker.addEventListener("change", () => {
      send(picked(picker.files));
      picker.value = "";
    });
  }
  $("pause-all").addEventListener("click", () => forAll("pause", (entry) => entry.canPause));
  $("restart-all").addEventListener("click", () => forAll("restart", (entry) => entry.canRestart));
  $("hide").addEventListener("click", () => client.hideFinished());
  addEventListener("hashchange", () => {
    const token = takeToken();
    if (token) signIn(token);
  });
  listenToDrops();
}

/** The whole page takes drops: a file dropped beside the zone would otherwise replace the page. */
function listenToDrops() {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) $("drop").classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    $("drop").classList.remove("over");
    if (client) send(await dropped(event.dataTransfer));
  });
}

listen();
const token = takeToken();
if (token) signIn(token);
else askForToken("Paste the token you were given.");
