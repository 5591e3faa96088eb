/** The code from the SMS: sent, sent again, and entered. */

import { el, known, say, show, told, waiting } from "./screen.js";
import * as server from "./server.js";

const CODE_DIGITS = 6;
// None of these goes away by asking for the same again: a code that was sent before may still be entered.
const NO_MORE = new Set(["SEND_LIMIT", "CHECK_LIMIT", "CODE_ALREADY_VERIFIED", "WRONG_STATE"]);

/**
 * What is known of the last code: when another may be sent, by performance.now(); Infinity when none may.
 * @typedef {{maskedPhone: string, resendAtMs: number, problem: string}} Sending
 */

/** Send a code, or learn why not. @param {string} maskedPhone as it is known already @returns {Promise<Sending>} */
async function send(maskedPhone) {
  try {
    const sent = await server.sendCode();
    return { maskedPhone: sent.maskedPhone, resendAtMs: performance.now() + sent.resendInMs, problem: "" };
  } catch (error) {
    // Its answer was lost: the code may be on its way, and the server says when another may be sent.
    if (!(error instanceof server.Refused)) return { maskedPhone, resendAtMs: performance.now(), problem: "offlineHelp" };
    if (error.reason === "RESEND_TOO_EARLY") {
      return { maskedPhone, resendAtMs: performance.now() + (error.retryMs ?? 0), problem: "" };
    }
    if (!known(error.reason)) throw error;
    return { maskedPhone, resendAtMs: NO_MORE.has(error.reason) ? Infinity : performance.now() + (error.retryMs ?? 0), problem: error.reason };
  }
}

/** Until the right code was entered, or none can be. @returns {Promise<server.Authentication>} */
export async function code() {
  waiting();
  let sending = await send("");
  const input = el("input", { class: "code", id: "code", type: "text", inputmode: "numeric", autocomplete: "one-time-code", pattern: "[0-9]*", maxlength: "10", "aria-describedby": "problem" });
  const form = el("form", { class: "push", novalidate: "", id: "code-form" });
  // Enter in a field outside the form submits it, too.
  input.setAttribute("form", form.id);
  let problem = () => known(sending.problem);
  /** @type {HTMLElement} */ let trouble = form;
  /** @type {HTMLElement} */ let phone = form;
  /** @type {HTMLButtonElement} */ let confirm = el("button");
  /** @type {HTMLButtonElement} */ let resend = el("button");
  const secondsLeft = () => Math.max(0, Math.ceil((sending.resendAtMs - performance.now()) / 1000));
  show(() => {
    phone = told("p", () => (sending.maskedPhone ? say("sentTo", { phone: sending.maskedPhone }) : say("sentBefore")));
    trouble = told("p", () => problem(), { class: "bad", role: "alert", id: "problem" });
    confirm = told("button", () => say("confirm"), { type: "submit", class: "main" });
    resend = told("button", () => (secondsLeft() > 0 ? say("resendIn", { seconds: secondsLeft() }) : say("resend")), { type: "button", class: "other" });
    form.append(confirm, resend);
    return [told("h1", () => say("code")), phone, told("label", () => say("codeLabel"), { for: "code" }), input, trouble, form];
  });
  input.focus();
  const tell = () => {
    phone.textContent = sending.maskedPhone ? say("sentTo", { phone: sending.maskedPhone }) : say("sentBefore");
    trouble.textContent = problem();
  };
  const tick = () => {
    const seconds = secondsLeft();
    resend.hidden = seconds === Infinity;
    resend.disabled = seconds > 0;
    resend.textContent = seconds > 0 ? say("resendIn", { seconds }) : say("resend");
  };
  tick();
  const ticking = setInterval(tick, 500);
  const listening = new AbortController();
  // WebOTP, where there is one.
  if ("OTPCredential" in window) {
    navigator.credentials.get(/** @type {any} */ ({ otp: { transport: ["sms"] }, signal: listening.signal }))
      .then((/** @type {any} */ found) => { input.value = found.code; form.requestSubmit(confirm); })
      .catch(() => {});
  }
  try {
    return await new Promise((resolve, reject) => {
      resend.addEventListener("click", () => {
        resend.disabled = true;
        problem = () => "";
        tell();
        send(sending.maskedPhone).then((again) => {
          sending = again;
          problem = () => known(sending.problem);
          input.value = "";
          input.focus();
          tell();
          tick();
        }, reject);
      });
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const typed = input.value.replace(/\D/g, "");
        if (typed.length < CODE_DIGITS || confirm.disabled) return input.focus();
        confirm.disabled = true;
        enter(typed).then((wrong) => {
          if (typeof wrong !== "function") return resolve(wrong);
          problem = wrong;
          tell();
          input.value = "";
          confirm.disabled = false;
          input.focus();
        }, reject);
      });
    });
  } finally {
    clearInterval(ticking);
    listening.abort();
  }
}

/** Check a code. @param {string} typed @returns {Promise<server.Authentication | (() => string)>} or what was wrong */
async function enter(typed) {
  try {
    return await server.verifyCode(typed);
  } catch (error) {
    // Its answer was lost, or there is no more to try: where the authentication stands says which.
    if (!(error instanceof server.Refused)) {
      const now = await server.look();
      return now.state === "AUTHENTICATION_STATE_AWAITING_CODE" ? () => say("offlineHelp") : now;
    }
    const { reason, metadata } = error;
    if (reason === "CODE_WRONG" && metadata["checks_left"] !== "0") return () => say("wrongCode", { left: metadata["checks_left"] ?? "" });
    if (reason === "CODE_EXPIRED" || reason === "CHALLENGE_UNKNOWN") return () => say("expiredCode");
    const now = await server.look();
    return now.state === "AUTHENTICATION_STATE_AWAITING_CODE" ? () => known(reason) || say("broken") : now;
  }
}
