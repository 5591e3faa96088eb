/** The hosted page: one screen after the other, as the authentication's state says. */

import { Camera } from "./camera.js";
import { code } from "./code.js";
import { given, wish } from "./consents.js";
import { card } from "./documents.js";
import { Interrupted, attempt } from "./liveness.js";
import { number } from "./number.js";
import * as screen from "./screen.js";
import { button, clicked, cover, el, end, known, push, retry, say, show, spokenBy, told, waiting } from "./screen.js";
import * as server from "./server.js";

const COMPLETING_POLL_MS = 1000;

// A device that was too slow for its pictures or its colours, or a picture that was spoilt.
const ANOTHER_ATTEMPT_HELPS = new Set(["FRAME_TIMES_IMPLAUSIBLE", "FLASH_START_IMPLAUSIBLE", "FRAME_UNREADABLE"]);

/** @param {server.Authentication} current @returns {Promise<server.Authentication>} */
async function consent(current) {
  /** @type {HTMLButtonElement} */ let next = el("button");
  const unseen = new Set(current.documents.keys());
  const left = new AbortController();
  let isRefused = false;
  /** @type {HTMLInputElement[]} */
  const boxes = [];
  const check = () => { next.disabled = isRefused || unseen.size > 0 || !boxes.every((box) => box.checked); };
  show(() => {
    next = button("next");
    const agreed = current.consents.map((item) => {
      const box = el("input", { type: "checkbox" });
      box.addEventListener("change", check);
      boxes.push(box);
      return el("label", { class: "agree" }, box, el("span", {}, item.text));
    });
    const documents = current.documents.map((item, index) =>
      card(item, index, () => { unseen.delete(index); check(); }, () => { isRefused = true; check(); }, left.signal));
    return [
      told("h1", () => say("title")),
      told("p", () => `${say("asks", { application: current.applicationTitle })} ${known(current.purpose)}`),
      ...(documents.length ? [told("h2", () => say("documents")), ...documents] : []),
      told("h2", () => say("consents")),
      ...agreed,
      push(next, wish()),
    ];
  });
  check();
  await clicked(next);
  next.disabled = true;
  left.abort();
  return server.giveConsents(current.consents);
}

async function instruct() {
  /** @type {HTMLButtonElement} */ let start = el("button");
  show(() => {
    start = button("start");
    return [
      told("h1", () => say("before")),
      el("ul", { class: "steps" }, ...(/** @type {const} */ (["light", "whole", "alone", "stay"])).map((key) => told("li", () => say(key)))),
      told("p", () => say("colours"), { class: "quiet warning" }),
      push(start),
    ];
  });
  await clicked(start);
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
  const frame = el("div", { class: "camera" }, video, el("div", { class: "oval" }));
  const bar = el("progress", { value: "0", max: "1" });
  const prompt = el("p", { class: "prompt", role: "status", "aria-live": "assertive" });
  const hinted = el("p", { class: "hint", "aria-live": "polite" });
  const progress = el("p", { class: "quiet hint" });
  /** @type {server.Step | null} */
  let asked = null;
  let isLost = false;
  /** Only a text that differs is set, so that it is read out once. @param {HTMLElement} target @param {string} value */
  const set = (target, value) => { if (target.textContent !== value) target.textContent = value; };
  const hintOf = (/** @type {server.Step} */ step) =>
    [known(step.hint), step.times > 1 ? say("times", { done: step.timesDone, times: step.times }) : ""].filter(Boolean).join(" · ");
  const tell = () => {
    bar.setAttribute("aria-label", say("camera"));
    set(prompt, asked ? promptText(asked) : say("starting"));
    set(hinted, isLost ? say("offline") : asked ? hintOf(asked) : "");
    set(progress, asked ? say("progress", { step: asked.promptIndex + 1, steps: asked.promptCount }) : "");
  };
  show(() => {
    spokenBy(tell);
    return [told("h1", () => say("camera")), prompt, frame, hinted, bar, progress];
  });
  /** @type {HTMLElement | null} */
  let colours = null;
  const camera = await Camera.open(video);
  // All that is sent is shown: nobody stands beside the picture without being seen. A phone may be turned meanwhile.
  const shape = () => frame.classList.toggle("wide", video.videoWidth > video.videoHeight);
  video.addEventListener("resize", shape);
  shape();
  server.watchConnection((lost) => { isLost = lost; tell(); });
  // The screen lights the face: it is bright here, whatever the person prefers elsewhere.
  document.documentElement.classList.add("bright");
  try {
    return await attempt(camera, {
      prompt(step) {
        if (!known(step.prompt)) throw new RangeError("a prompt that this page does not know");
        asked = step;
        bar.max = step.promptCount;
        bar.value = step.promptIndex;
        tell();
      },
      colour(colour) {
        colours ??= cover(el("div", { "aria-hidden": "true" }));
        colours.className = colour ? `flash ${colour}` : "";
      },
    });
  } finally {
    document.documentElement.classList.remove("bright");
    server.watchConnection(() => {});
    camera.close();
  }
}

/** @param {DOMException} error */
async function cameraRefused(error) {
  const isDenied = ["NotAllowedError", "SecurityError"].includes(error.name);
  await retry(isDenied ? "denied" : "missing", () => say(isDenied ? "deniedHelp" : "missingHelp"));
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
      if (error instanceof Interrupted) {
        await retry("interrupted", () => `${say(error.why)} ${say("left", { left: error.attemptsLeft })}`);
        if (error.attemptsLeft === 0) return;
        continue;
      }
      const isCamera = error instanceof DOMException && error.name.match(/^(NotAllowed|Security|NotFound|NotReadable|Overconstrained|Abort)Error$/);
      if (isCamera) { await cameraRefused(error); continue; }
      // Out of attempts, or over: the state says which.
      if (error instanceof server.Refused && !ANOTHER_ATTEMPT_HELPS.has(error.reason)) return;
      await retry("failed", () => say(error instanceof server.Refused ? "broken" : "offlineHelp"));
      continue;
    }
    if (step.state === "LIVENESS_STATE_PASSED" || step.attemptsLeft === 0) return;
    await retry("failed", () => `${known(step.hint) || say("failedHelp")}. ${say("left", { left: step.attemptsLeft })}`);
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
  if (!token) return server.look();
  try {
    return await server.open(token);
  } catch (error) {
    // A lost answer may have brought the cookie; if the call never arrived, the token is as good as new.
    if (error instanceof server.Refused) throw error;
    await retry("noConnection", () => say("offlineHelp"));
    return server.open(token).catch(() => server.look());
  }
}

/** One screen, as the state says; null when there is no further one. @param {server.Authentication} current */
async function step(current) {
  switch (current.state) {
    case "AUTHENTICATION_STATE_AWAITING_CONSENTS":
      return current.crossDevice ? number(current.applicationTitle) : consent(current);
    case "AUTHENTICATION_STATE_AWAITING_LIVENESS":
      await liveness();
      return server.look();
    case "AUTHENTICATION_STATE_AWAITING_CODE":
      return code();
    case "AUTHENTICATION_STATE_COMPLETING":
      waiting();
      await server.sleep(COMPLETING_POLL_MS);
      return server.look();
    case "AUTHENTICATION_STATE_FINISHED":
      await given();
      await leave(current);
      return null;
    default:
      end("over", "overHelp");
      return null;
  }
}

/** The session is in a cookie: whoever was cut off goes on where they were. @param {server.Authentication} opened */
async function walk(opened) {
  /** @type {server.Authentication | null} */
  let current = opened;
  while (current) {
    screen.speakAs(current.language);
    try {
      current = await step(current);
    } catch (error) {
      if (!(error instanceof server.Lost)) throw error;
      await retry("noConnection", () => say("offlineHelp"));
      current = await server.look().catch((again) => (again instanceof server.Lost ? current : Promise.reject(again)));
    }
  }
}

screen.begin();
enter().then(walk).catch((error) => {
  const isOver = error instanceof server.Refused && [400, 401, 403, 404].includes(error.status);
  end(isOver ? "over" : "broken", "overHelp");
});
