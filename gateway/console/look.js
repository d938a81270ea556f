/** Dark or light, Chinese or English: as the browser has it, until somebody says otherwise. */

import { speak, translate } from "./words.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const THEME = "gateway.theme";
const LANGUAGE = "gateway.language";

/** Choose a look and listen to its two buttons; `changed()` is called when all texts are to be said again. */
export function startLook(theme, language, changed) {
  const isDark = () => (kept(THEME) ?? (DARK.matches ? "dark" : "light")) === "dark";
  const showTheme = () => {
    if (kept(THEME)) document.documentElement.dataset.theme = kept(THEME);
    theme.setAttribute("aria-pressed", isDark());
  };
  theme.addEventListener("click", () => {
    keep(THEME, isDark() ? "light" : "dark");
    showTheme();
  });
  DARK.addEventListener("change", showTheme);
  showTheme();

  const spoken = () => kept(LANGUAGE) ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  const say = () => {
    speak(spoken());
    translate(document);
    language.lang = spoken() === "zh" ? "en" : "zh-CN";
  };
  language.addEventListener("click", () => {
    keep(LANGUAGE, spoken() === "zh" ? "en" : "zh");
    say();
    changed();
  });
  say();
}

const choices = {}; // what a browser that forbids storage keeps until a reload

function kept(name) {
  try {
    return localStorage.getItem(name) ?? choices[name];
  } catch {
    return choices[name];
  }
}

function keep(name, choice) {
  choices[name] = choice;
  try {
    localStorage.setItem(name, choice);
  } catch {
    // it holds until a reload
  }
}
