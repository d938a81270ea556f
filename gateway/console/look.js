/** Dark or light, Chinese or English: as the browser has it, until somebody says otherwise. */

import { keep, kept } from "./storage.js";
import { speak, translate } from "./words.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");
const THEME = ["localStorage", "gateway.theme"];
const LANGUAGE = ["localStorage", "gateway.language"];

/** Choose a look and listen to its two buttons; `changed()` is called when all texts are to be said again. */
export function startLook(theme, language, changed) {
  const isDark = () => (kept(...THEME) ?? (DARK.matches ? "dark" : "light")) === "dark";
  const showTheme = () => {
    if (kept(...THEME)) document.documentElement.dataset.theme = kept(...THEME);
    theme.setAttribute("aria-pressed", isDark());
  };
  theme.addEventListener("click", () => {
    keep(...THEME, isDark() ? "light" : "dark");
    showTheme();
  });
  DARK.addEventListener("change", showTheme);
  showTheme();

  const spoken = () => kept(...LANGUAGE) ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  const say = () => {
    speak(spoken());
    translate(document);
    language.lang = spoken() === "zh" ? "en" : "zh-CN";
  };
  language.addEventListener("click", () => {
    keep(...LANGUAGE, spoken() === "zh" ? "en" : "zh");
    say();
    changed();
  });
  say();
}
