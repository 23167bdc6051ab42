// Words in the user's language. Knows where texts are, not what they say.
import { effect } from "./html.js";
import { keptHere } from "./stored.js";
import en from "./texts/en.js";
import zh from "./texts/zh.js";

const LANGUAGES = { en, zh };
const first = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";

export const language = keptHere("language", first);

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});

/** The text of that name, which may be a function of values; English where there is no other. */
export function t(name, values = {}) {
  const text = LANGUAGES[language.value]?.[name] ?? en[name];
  return typeof text === "function" ? text(values) : text;
}

/** Seconds as people say them. */
export function seconds(value) {
  if (value == null) return "";
  return value < 90 ? t("seconds", { n: Math.ceil(value) }) : t("minutes", { n: Math.round(value / 60) });
}

/** A time as this language writes it. */
export const moment = (text) =>
  new Date(text).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
