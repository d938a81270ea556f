/** The console page: hands files to the upload client and shows what it tells. */

import { Chart } from "./chart.js";
import { UploadClient } from "./client.js";
import { listenToDrops, picked, toldApart } from "./drop.js";
import { List, groupOf } from "./list.js";
import { startLook } from "./look.js";
import { Summary } from "./summary.js";
import { areOfOne, claimsOf, givenToken, keepToken, keptToken } from "./token.js";
import { moment, t, troubleOf } from "./words.js";

/** Whether "restart all" is meant for an entry, too: one that somebody may have canceled is asked about by itself. */
const goesOn = ({ canRestart, error }) => canRestart && error?.code !== "upload_lost";
const FILTERS = ["all", "active", "paused", "error", "success", "canceled"];

const $ = (id) => document.getElementById(id);
const refusals = new Map(); // entry or batch id -> why its last button press came to nothing, and its state then
const summary = new Summary();
const chart = new Chart($("chart"));
const rows = new List($("list"), { row: $("row"), batch: $("batch") }, act, actOnBatch);
let client = null;
let list = [];
let filter = "all";
let why = null; // the text that tells why a token is asked for
let offered = null; // another person's token, from a link

function signIn(token) {
  const stays = !client || areOfOne(keptToken(), token);
  keepToken(token);
  if (!stays) return location.reload(); // nothing of one person's may go on as another's
  $("sign-in").hidden = true;
  $("console").hidden = false;
  if ($("folder").value === "") $("folder").value = claimsOf(token).prefix;
  showWhose();
  if (client) return client.setToken(token);
  client = new UploadClient({ token });
  client.on("list-update", (event) => show(event.list));
  client.on("connection", showConnection);
  client.start();
  showConnection();
}

function askForToken(text) {
  why = text;
  $("sign-in-why").textContent = t(why);
  $("sign-in").hidden = false;
  $("console").hidden = !client;
  $("token").focus();
}

/** Sign in by the token of a link, at once only where that changes nobody's files into somebody else's. */
function follow(token) {
  const kept = keptToken();
  if (!kept || areOfOne(kept, token)) return signIn(token);
  if (!client) signIn(kept);
  offered = token;
  showOffer();
  $("stay").focus();
}

function decide(switches) {
  const token = offered;
  offered = null;
  showOffer();
  if (!switches) return;
  keepToken(token);
  location.reload();
}

function showOffer() {
  $("switch").hidden = !offered;
  if (offered) $("switch-who").textContent = t("switchWho", ...[keptToken(), offered].map(nameOf));
}

function showWhose() {
  const { prefix, end } = claimsOf(keptToken());
  const facts = [t("whose", nameOf(keptToken()))];
  if (prefix) facts.push(t("whoseFolder", prefix));
  if (end) facts.push(t("whoseUntil", moment(end)));
  $("whose").hidden = false;
  $("whose").textContent = facts.join(" · ");
}

function nameOf(token) {
  return claimsOf(token).subject || t("unknownPerson");
}

function send(found) {
  if (!client) return;
  const folder = $("folder").value.trim().replace(/^\/+/, "").normalize("NFC");
  const prefix = folder && !folder.endsWith("/") ? `${folder}/` : folder;
  const sent = client.sentFiles();
  const apart = toldApart(found, (path) => sent.get(prefix + path));
  client.uploadFiles({ files: apart.map(({ path, file }) => ({ Key: prefix + path, Body: file })) });
}

function act(move, id) {
  if (move === "choose") return choose(id);
  return attempt(id, () => client[`${move}Task`](id));
}

function actOnBatch(move, id) {
  return attempt(id, () => client.moveBatch(id, move));
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
  for (const { id, state } of list) if (refusals.get(id)?.state !== state) refusals.delete(id);
  const shown = rows.show(list, filter, (id) => client.batch(id), (id) => refusals.get(id)?.problem);
  $("empty").hidden = shown > 0;
  $("empty").textContent = t(list.length ? "noMatch" : "empty");
  $("hide").hidden = !list.some((entry) => entry.finished);
  showFilters();
  showSummary();
}

function showFilters() {
  const counts = Object.fromEntries(FILTERS.map((name) => [name, 0]));
  for (const entry of list) counts[groupOf(entry)] += 1;
  counts.all = list.length;
  for (const name of FILTERS) $(`count-${name}`).textContent = counts[name];
}

function showSummary() {
  const { part, text, active, spoken } = summary.of(list);
  $("all").hidden = list.length === 0;
  $("all-bar").value = part;
  $("all-bar").setAttribute("aria-valuetext", text);
  $("all-facts").textContent = text;
  $("pause-all").hidden = !list.some((entry) => entry.canPause);
  $("restart-all").hidden = !list.some(goesOn);
  document.title = active && part > 0 ? `${Math.floor(part * 100)} % – ${t("title")}` : t("title");
  if (spoken) say(spoken);
}

function say(text) {
  $("news").textContent = text;
}

function showConnection() {
  const how = client.connection;
  $("connection").textContent = t(how);
  $("connection").dataset.how = how;
  if (how === "signed_out") askForToken("badToken");
  else $("sign-in").hidden = true;
}

/** Say everything again, in another language. */
function sayAnew() {
  rows.clear();
  chart.show();
  if (client) {
    $("connection").textContent = t(client.connection);
    show(client.getTaskList());
    showWhose();
  }
  showOffer();
  $("sign-in-why").textContent = t(why ?? "needToken");
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
  $("restart-all").addEventListener("click", () => forAll("restart", goesOn));
  $("hide").addEventListener("click", () => client.hideFinished());
  $("filter").addEventListener("change", (event) => {
    filter = event.target.value;
    show(client.getTaskList());
  });
  addEventListener("hashchange", () => {
    const token = givenToken();
    if (token) follow(token);
  });
  $("stay").addEventListener("click", () => decide(false));
  $("switch-over").addEventListener("click", () => decide(true));
  listenToDrops($("drop"), send);
  setInterval(() => chart.tick(list), 1000);
}

startLook($("theme"), $("language"), sayAnew);
listen();
const [given, kept] = [givenToken(), keptToken()];
if (given) follow(given);
else if (kept) signIn(kept);
else askForToken("needToken");
performance.mark("interactive");
