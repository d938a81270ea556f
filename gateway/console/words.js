/** Everything the page says in words and numbers, in the language that is spoken. */

import { adviceFor } from "./advice.js";
import chinese from "./chinese.js";
import english from "./english.js";

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];
let texts = english;

/** Speak `"en"` or `"zh"` from now on. */
export function speak(language) {
  texts = language === "zh" ? chinese : english;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

/** The text called `name`, with its gaps filled. */
export function t(name, ...gaps) {
  const text = texts[name] ?? name;
  const chosen = Array.isArray(text) ? text[gaps[0] === 1 ? 0 : 1] : text;
  return chosen.replace(/\{(\d)\}/g, (_, gap) => visible(String(gaps[gap])));
}

/** `name` with what turns the direction of writing spelled out: `evil\u202Egpj.exe` must not read as `evilexe.jpg`. */
export function visible(name) {
  return name.replace(
    /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (sign) => `\u27e8U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`,
  );
}

/** Fill in the texts below `root`: `data-t` names an element's own, `data-t-<attribute>` that of an attribute. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const name of ["aria-label", "placeholder"]) {
    for (const element of root.querySelectorAll(`[data-t-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-t-${name}`)));
    }
  }
}

/** A time in Unix seconds as a short date and time; nothing sensible for one that no calendar has. */
export function moment(seconds) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return "?";
  return date.toLocaleString(document.documentElement.lang, { dateStyle: "short", timeStyle: "short" });
}

export function bytes(count) {
  if (count === null) return t("unknownSize");
  if (count < 1000) return t("bytes", count);
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return `${value.toFixed(value < 9.95 && power > 1 ? 1 : 0)} ${UNITS[power]}`;
}

export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return t("seconds", whole);
  if (whole < 3600) return t("minutes", Math.floor(whole / 60), whole % 60);
  return t("hours", Math.floor(whole / 3600), Math.round((whole % 3600) / 60));
}

/** Seconds until `left` bytes have gone, null when nobody can tell. */
export function secondsLeft(left, speed) {
  return speed > 0 ? left / speed : null;
}

/** 99.9 % is not 100 %. */
export function percent(part) {
  return `${Math.floor(part * 100)} %`;
}

/** One word or a few for how an entry of the list stands. */
export function stateOf({ state, waiting, needsFile }) {
  if (waiting && state !== "paused") return t(`wait.${waiting}`);
  if (needsFile && state !== "paused" && state !== "error") return t("interrupted");
  return t(`state.${state}`);
}

/** The numbers of an entry: how much, how fast, how long. */
export function factsOf({ state, size, loaded, percent: part, speed, secondsLeft }) {
  if (state === "success" || state === "canceled" || loaded === 0) return bytes(size);
  const facts = [t("ofBytes", bytes(loaded), bytes(size))];
  if (size) facts.push(percent(part));
  if (speed > 0) facts.push(`${bytes(Math.round(speed))}/s`);
  if (secondsLeft !== null) facts.push(t("left", duration(secondsLeft)));
  return facts.join(" · ");
}

/** An error as sentences: what happened, what to do, and the code for whoever is asked. */
export function troubleOf({ code, title, detail, differs, retryable, cos }) {
  const spoken = texts.errors[code];
  const happened = differs ? t(...differs) : spoken ? "" : detail; // the gateway's own details are English
  const advice = texts.advice[adviceFor({ code, retryable })];
  const ended = (text) => text.replace(/[^.?!。]$/, `$&${t("stop")}`);
  const sentences = [spoken ?? title, happened, advice].filter(Boolean).map(ended);
  return `${sentences.join(t("gap"))} (${[code, cos?.code].filter(Boolean).join(", ")})`;
}
