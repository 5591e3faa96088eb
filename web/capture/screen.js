/** What is on the screen: texts that follow the language, and one screen after the other. */

import en from "./texts/en.js";
import kk from "./texts/kk.js";
import ru from "./texts/ru.js";

const TEXTS = { kk, ru, en };
const NAMES = { kk: "Қаз", ru: "Рус", en: "Eng" };
const LANGUAGES = /** @type {Language[]} */ (Object.keys(TEXTS));
const CHOSEN = "finid-language";

/** @typedef {keyof typeof TEXTS} Language */
/** @typedef {keyof typeof en} TextKey */

/** What the person chose on this page before, also before a reload. @returns {Language | undefined} */
function chosen() {
  try {
    return LANGUAGES.find((code) => code === sessionStorage.getItem(CHOSEN));
  } catch {
    return undefined; // storage is switched off
  }
}

/** @type {Language} */
let language = chosen()
  ?? LANGUAGES.find((code) => navigator.languages.some((wanted) => wanted.toLowerCase().startsWith(code))) ?? "kk";

/** @param {TextKey} key @param {Record<string, string | number>} [values] */
export const say = (key, values = {}) =>
  TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));

/** The text of a name that came from the server, "" when it is not known here. @param {string} key */
export const known = (key) => (key in en ? say(/** @type {TextKey} */ (key)) : "");

const main = /** @type {HTMLElement} */ (document.getElementById("screen"));
const languages = /** @type {HTMLElement} */ (document.getElementById("languages"));

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string>} attributes @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** What is told again in another language, until the next screen. @type {(() => void)[]} */
let spoken = [];

/** Do it now, and again whenever the language changes while this screen is shown. @param {() => void} tell */
export function spokenBy(tell) {
  spoken.push(tell);
  tell();
}

/**
 * An element whose text follows the language.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {() => string} text @param {Record<string, string>} [attributes]
 */
export function told(tag, text, attributes = {}) {
  const made = el(tag, attributes);
  spokenBy(() => { made.textContent = text(); });
  return made;
}

/** @param {TextKey} key @param {string} [kind] */
export const button = (key, kind = "main") => told("button", () => say(key), { type: "button", class: kind });

/** @param {HTMLElement} target @returns {Promise<void>} */
export const clicked = (target) =>
  new Promise((resolve) => target.addEventListener("click", () => resolve(), { once: true }));

function entitle() {
  document.title = `${main.querySelector("h1")?.textContent ?? ""} · FinID`;
}

/** Show a screen in place of the one before; its heading is read out. @param {() => (Node | string)[]} make */
export function show(make) {
  spoken = [];
  main.replaceChildren(...make());
  entitle();
  const first = main.querySelector("h1");
  first?.setAttribute("tabindex", "-1");
  first?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Something that covers the screen. @template {Node} T @param {T} node @returns {T} */
export const cover = (node) => main.appendChild(node);

/** @param {...Node} children */
export const push = (...children) => el("div", { class: "push" }, ...children);

export function waiting() {
  show(() => [told("h1", () => say("wait"), { role: "status" })]);
}

/** @param {TextKey} title @param {TextKey} help */
export function end(title, help) {
  show(() => [told("h1", () => say(title)), told("p", () => say(help))]);
}

/** Says what went wrong, and waits until the person wants to try again. @param {TextKey} title @param {() => string} help */
export async function retry(title, help) {
  /** @type {HTMLElement} */
  let again = main;
  show(() => {
    again = button("again");
    return [told("h1", () => say(title)), told("p", help, { role: "alert" }), push(again)];
  });
  await clicked(again);
}

/** @param {Language} wanted */
function speak(wanted) {
  language = wanted;
  document.documentElement.lang = wanted;
  for (const choice of languages.querySelectorAll("button")) choice.setAttribute("aria-pressed", String(choice.lang === wanted));
  for (const tell of spoken) tell();
  entitle();
}

/** The language that the participant named, unless the person chose another. @param {string} [named] as the API names it */
export function speakAs(named) {
  const wanted = LANGUAGES.find((code) => named === `LANGUAGE_${code.toUpperCase()}`);
  if (wanted && !chosen()) speak(wanted);
}

/** Offer the languages, and begin in the one that is the person's. */
export function begin() {
  for (const code of LANGUAGES) {
    const choice = el("button", { type: "button", lang: code }, NAMES[code]);
    choice.addEventListener("click", () => {
      try { sessionStorage.setItem(CHOSEN, code); } catch { /* storage is switched off: it holds until a reload */ }
      speak(code);
    });
    languages.append(choice);
  }
  languages.setAttribute("aria-label", "Тіл · Язык · Language");
  waiting();
  speak(language);
}
