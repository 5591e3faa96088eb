/** The hosted page: one screen after the other, as the authentication's state says. */

import { Camera } from "./camera.js";
import { attempt } from "./liveness.js";
import * as server from "./server.js";
import en from "./texts/en.js";
import kk from "./texts/kk.js";
import ru from "./texts/ru.js";

const TEXTS = { kk, ru, en };
const NAMES = { kk: "Қаз", ru: "Рус", en: "Eng" };
const LANGUAGES = /** @type {Language[]} */ (Object.keys(TEXTS));
const COMPLETING_POLL_MS = 1000;
// Text that is shown on the page itself; longer documents are saved.
const SHOWN_TEXT_BYTES = 200_000;

// A device that was too slow for its pictures or its colours, or a picture that was spoilt.
const ANOTHER_ATTEMPT_HELPS = new Set(["FRAME_TIMES_IMPLAUSIBLE", "FLASH_START_IMPLAUSIBLE", "FRAME_UNREADABLE"]);

/** @typedef {keyof typeof TEXTS} Language */
/** @typedef {keyof typeof en} TextKey */

/** @type {Language} */
let language = LANGUAGES.find((code) => navigator.languages.some((wanted) => wanted.toLowerCase().startsWith(code))) ?? "kk";

/** @param {TextKey} key @param {Record<string, string | number>} [values] */
const say = (key, values = {}) =>
  TEXTS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));

/** The text of a name that came from the server, "" when it is not known here. @param {string} key */
const known = (key) => (key in en ? say(/** @type {TextKey} */ (key)) : "");

const main = /** @type {HTMLElement} */ (document.getElementById("screen"));
const languages = /** @type {HTMLElement} */ (document.getElementById("languages"));

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string>} attributes @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Texts that follow the language. @type {(() => void)[]} */
let spoken = [];

/**
 * An element whose text follows the language.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {() => string} text @param {Record<string, string>} [attributes]
 */
function told(tag, text, attributes = {}) {
  const made = el(tag, attributes);
  const tell = () => { made.textContent = text(); };
  spoken.push(tell);
  tell();
  return made;
}

/** @param {TextKey} key @param {string} [kind] */
function button(key, kind = "main") {
  return told("button", () => say(key), { type: "button", class: kind });
}

/** @param {HTMLElement} target @returns {Promise<void>} */
const clicked = (target) => new Promise((resolve) => target.addEventListener("click", () => resolve(), { once: true }));

function entitle() {
  document.title = `${main.querySelector("h1")?.textContent ?? ""} · FinID`;
}

/** Show a screen in place of the one before; its heading is read out. @param {() => (Node | string)[]} make */
function show(make) {
  spoken = [];
  const heading = make();
  main.replaceChildren(...heading);
  entitle();
  const first = main.querySelector("h1");
  first?.setAttribute("tabindex", "-1");
  first?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** @param {...Node} children */
const push = (...children) => el("div", { class: "push" }, ...children);

function waiting() {
  show(() => [told("h1", () => say("wait"), { role: "status" })]);
}

/** @param {TextKey} title @param {TextKey} help */
function end(title, help) {
  show(() => [told("h1", () => say(title)), told("p", () => say(help))]);
}

/** @param {ArrayBuffer} bytes */
const sha256 = async (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))));

/** @param {string} text base64 */
const hex = (text) => [...atob(text)].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");

/** What of a document can be shown here: its text, undefined when it is no text. @param {ArrayBuffer} bytes */
function textOf(bytes) {
  if (bytes.byteLength > SHOWN_TEXT_BYTES) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) || text.startsWith("%PDF-") ? undefined : text;
  } catch {
    return undefined;
  }
}

/**
 * A card with a document: fetched when asked for, and shown only when it is the one that is signed.
 * @param {server.Doc} doc @param {number} index @param {() => void} seen @param {() => void} differs
 */
function card(doc, index, seen, differs) {
  const opener = button("open", "other");
  const box = el("div", { class: "card" }, el("strong", {}, doc.title), opener,
    told("p", () => say("fingerprint", { digest: hex(doc.contentSha256) }), { class: "quiet" }));
  opener.addEventListener("click", async () => {
    opener.disabled = true;
    try {
      const bytes = await server.documentAt(index);
      if ((await sha256(bytes)) !== doc.contentSha256) {
        opener.replaceWith(told("p", () => say("changed"), { class: "bad", role: "alert" }));
        return differs();
      }
      const text = textOf(bytes);
      if (text !== undefined) {
        opener.replaceWith(el("pre", { tabindex: "0", role: "region", "aria-label": doc.title }, text));
        return seen();
      }
      // Never as a kind that could run a script here: a PDF goes to the browser's viewer, all else is saved.
      const isPdf = new TextDecoder().decode(bytes.slice(0, 5)) === "%PDF-";
      const url = URL.createObjectURL(new Blob([bytes], { type: isPdf ? "application/pdf" : "application/octet-stream" }));
      const link = told("a", () => say(isPdf ? "open" : "save"), { href: url, rel: "noopener" });
      if (isPdf && navigator.pdfViewerEnabled) link.target = "_blank";
      else link.download = isPdf ? "document.pdf" : "document";
      opener.replaceWith(link);
      link.addEventListener("click", seen);
      link.click();
    } catch {
      opener.disabled = false;
    }
  });
  return box;
}

/** @param {server.Authentication} current @returns {Promise<server.Authentication>} */
async function consent(current) {
  const next = button("next");
  next.disabled = true;
  const unseen = new Set(current.documents.keys());
  let isRefused = false;
  /** @type {HTMLInputElement[]} */
  const boxes = [];
  const check = () => { next.disabled = isRefused || unseen.size > 0 || !boxes.every((box) => box.checked); };
  show(() => {
    const agreed = current.consents.map((item) => {
      const box = el("input", { type: "checkbox" });
      box.addEventListener("change", check);
      boxes.push(box);
      return el("label", { class: "agree" }, box, el("span", {}, item.text));
    });
    const documents = current.documents.map((item, index) =>
      card(item, index, () => { unseen.delete(index); check(); }, () => { isRefused = true; check(); }));
    spoken.push(() => { next.textContent = say("next"); });
    return [
      told("h1", () => say("title")),
      told("p", () => `${say("asks", { application: current.applicationTitle })} ${known(current.purpose)}`),
      ...(documents.length ? [told("h2", () => say("documents")), ...documents] : []),
      told("h2", () => say("consents")),
      ...agreed,
      push(next),
    ];
  });
  check();
  await clicked(next);
  next.disabled = true;
  return server.giveConsents(current.consents);
}

async function instruct() {
  let start = null;
  show(() => {
    start = button("start");
    return [
      told("h1", () => say("before")),
      el("ul", { class: "steps" }, ...(/** @type {const} */ (["light", "whole", "alone"])).map((key) => told("li", () => say(key)))),
      told("p", () => say("colours"), { class: "quiet" }),
      push(start),
    ];
  });
  if (start) await clicked(start);
}

/** What a prompt asks, in words. @param {server.Step} step */
function promptText(step) {
  const parts = [known(step.prompt)];
  if (step.reachPercent > 100) parts.push(say("further"));
  if (step.holdMs > 0) parts.push(say("hold"));
  return parts.join(", ");
}

/** One attempt in front of the camera. @returns {Promise<server.Step>} */
async function film() {
  const video = el("video", { playsinline: "", muted: "", autoplay: "", "aria-hidden": "true" });
  video.muted = true;
  let text = () => say("starting");
  let hint = () => "";
  /** @type {HTMLElement | null} */
  let colours = null;
  const bar = el("progress", { value: "0", max: "1" });
  const prompt = told("p", () => text(), { class: "prompt", role: "status", "aria-live": "assertive" });
  const hinted = told("p", () => hint(), { class: "hint", "aria-live": "polite" });
  const progress = told("p", () => bar.getAttribute("aria-label") ?? "", { class: "quiet hint" });
  const mine = spoken.slice(-3);
  show(() => {
    spoken.push(...mine);
    return [told("h1", () => say("camera")), prompt, el("div", { class: "camera" }, video, el("div", { class: "oval" })), hinted, bar, progress];
  });
  /** Only a text that differs is set, so that it is read out once. @param {HTMLElement} target @param {string} value */
  const set = (target, value) => { if (target.textContent !== value) target.textContent = value; };
  bar.setAttribute("aria-label", say("camera"));
  progress.textContent = "";
  const camera = await Camera.open(video);
  // All that is sent is shown: nobody stands beside the picture without being seen.
  if (video.videoWidth > video.videoHeight) video.parentElement?.classList.add("wide");
  server.watchConnection((isLost) => set(hinted, isLost ? say("offline") : hint()));
  try {
    return await attempt(camera, {
      prompt(step) {
        text = () => promptText(step);
        hint = () => [known(step.hint), step.times > 1 ? say("times", { done: step.timesDone, times: step.times }) : ""].filter(Boolean).join(" · ");
        if (!known(step.prompt)) throw new RangeError("a prompt that this page does not know");
        set(prompt, text());
        set(hinted, hint());
        bar.max = step.promptCount;
        bar.value = step.promptIndex;
        set(progress, say("progress", { step: step.promptIndex + 1, steps: step.promptCount }));
      },
      colour(colour) {
        colours ??= main.appendChild(el("div", { "aria-hidden": "true" }));
        colours.className = colour ? `flash ${colour}` : "";
      },
    });
  } finally {
    server.watchConnection(() => {});
    camera.close();
  }
}

/** @param {unknown} error */
async function cameraRefused(error) {
  const isDenied = error instanceof DOMException && ["NotAllowedError", "SecurityError"].includes(error.name);
  await retryScreen(isDenied ? "denied" : "missing", () => say(isDenied ? "deniedHelp" : "missingHelp"));
}

/** @param {TextKey} title @param {() => string} help */
async function retryScreen(title, help) {
  let again = null;
  show(() => {
    again = button("again");
    return [told("h1", () => say(title)), told("p", help, { role: "alert" }), push(again)];
  });
  if (again) await clicked(again);
}

/** Until an attempt passes or none is left. */
async function liveness() {
  await instruct();
  for (;;) {
    /** @type {server.Step} */
    let step;
    try {
      step = await film();
    } catch (error) {
      const isCamera = error instanceof DOMException && error.name.match(/^(NotAllowed|Security|NotFound|NotReadable|Overconstrained|Abort)Error$/);
      if (isCamera) { await cameraRefused(error); continue; }
      // Out of attempts, or over: the state says which.
      if (error instanceof server.Refused && !ANOTHER_ATTEMPT_HELPS.has(error.reason)) return;
      await retryScreen("failed", () => say("broken"));
      continue;
    }
    if (step.state === "LIVENESS_STATE_PASSED" || step.attemptsLeft === 0) return;
    await retryScreen("failed", () => `${known(step.hint) || say("failedHelp")}. ${say("left", { left: step.attemptsLeft })}`);
  }
}

async function code() {
  waiting();
  let sent = await server.sendCode();
  const input = el("input", { class: "code", id: "code", type: "text", inputmode: "numeric", autocomplete: "one-time-code", pattern: "[0-9]*", maxlength: "10", "aria-describedby": "problem" });
  const form = el("form", { class: "push", novalidate: "" });
  let problem = () => "";
  let seconds = 0;
  /** @type {HTMLElement} */ let trouble = form;
  /** @type {HTMLElement} */ let phone = form;
  /** @type {HTMLButtonElement} */ let confirm = el("button");
  /** @type {HTMLButtonElement} */ let resend = el("button");
  show(() => {
    phone = told("p", () => say("sentTo", { phone: sent.maskedPhone }));
    trouble = told("p", () => problem(), { class: "bad", role: "alert", id: "problem" });
    confirm = told("button", () => say("confirm"), { type: "submit", class: "main" });
    resend = told("button", () => (seconds > 0 ? say("resendIn", { seconds }) : say("resend")), { type: "button", class: "other" });
    form.append(confirm, resend);
    return [told("h1", () => say("code")), phone, told("label", () => say("codeLabel"), { for: "code" }), input, trouble, form];
  });
  input.focus();
  const tick = () => {
    seconds = Math.max(0, Math.ceil((Date.parse(sent.resendTime) - Date.now()) / 1000));
    resend.disabled = seconds > 0;
    resend.textContent = seconds > 0 ? say("resendIn", { seconds }) : say("resend");
  };
  tick();
  const ticking = setInterval(tick, 1000);
  const listening = new AbortController();
  resend.addEventListener("click", async () => {
    resend.disabled = true;
    try { sent = await server.sendCode(); problem = () => ""; } catch { problem = () => say("broken"); }
    trouble.textContent = problem();
    tick();
  });
  // WebOTP, where there is one.
  if ("OTPCredential" in window) {
    navigator.credentials.get(/** @type {any} */ ({ otp: { transport: ["sms"] }, signal: listening.signal }))
      .then((/** @type {any} */ found) => { input.value = found.code; form.requestSubmit(confirm); })
      .catch(() => {});
  }
  try {
    return await new Promise((resolve, reject) => {
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        const typed = input.value.replace(/\D/g, "");
        if (typed.length < 6 || confirm.disabled) return input.focus();
        confirm.disabled = true;
        try {
          resolve(await server.verifyCode(typed));
        } catch (error) {
          if (!(error instanceof server.Refused)) return resolve(await server.look().catch(reject));
          const { reason, metadata } = error;
          if (reason === "CODE_WRONG") problem = () => say("wrongCode", { left: metadata["checks_left"] ?? "" });
          else if (reason === "CODE_EXPIRED") problem = () => say("expiredCode");
          else return resolve(await server.look().catch(reject));
          trouble.textContent = problem();
          input.value = "";
          confirm.disabled = false;
          input.focus();
        }
      });
      // In a browser, Enter in a field outside the form submits nothing.
      input.setAttribute("form", (form.id = "code-form"));
    });
  } finally {
    clearInterval(ticking);
    listening.abort();
  }
}

/** @param {server.Authentication} current */
async function leave(current) {
  const { redirectUri } = await server.finish();
  show(() => [told("h1", () => say("done")), told("p", () => say("returning", { application: current.applicationTitle }), { role: "status" })]);
  location.replace(redirectUri);
}

/** The token leaves the address bar and the history before it is used. @returns {Promise<server.Authentication>} */
async function enter() {
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  return token ? server.open(token) : server.look();
}

/** @param {server.Authentication} current */
async function walk(current) {
  for (;;) {
    switch (current.state) {
      case "AUTHENTICATION_STATE_AWAITING_CONSENTS":
        current = await consent(current);
        break;
      case "AUTHENTICATION_STATE_AWAITING_LIVENESS":
        await liveness();
        current = await server.look();
        break;
      case "AUTHENTICATION_STATE_AWAITING_CODE":
        current = await code();
        break;
      case "AUTHENTICATION_STATE_COMPLETING":
        waiting();
        await server.sleep(COMPLETING_POLL_MS);
        current = await server.look();
        break;
      case "AUTHENTICATION_STATE_FINISHED":
        return leave(current);
      default:
        return end("over", "overHelp");
    }
  }
}

/** @param {Language} chosen */
function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  for (const choice of languages.querySelectorAll("button")) choice.setAttribute("aria-pressed", String(choice.lang === chosen));
  for (const tell of spoken) tell();
  entitle();
}

for (const code of LANGUAGES) {
  const choice = el("button", { type: "button", lang: code }, NAMES[code]);
  choice.addEventListener("click", () => speak(code));
  languages.append(choice);
}
languages.setAttribute("aria-label", "Тіл · Язык · Language");
waiting();
speak(language);
enter().then(walk).catch((error) => {
  const isOver = error instanceof server.Refused && [400, 401, 403, 404].includes(error.status);
  end(isOver ? "over" : "broken", "overHelp");
});
