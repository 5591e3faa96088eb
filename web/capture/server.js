/**
 * The calls of finid.capture.v1.CaptureService. The session is a cookie that no script can read.
 *
 * @typedef {{id: string, version: string, text: string}} Consent
 * @typedef {{title: string, contentSha256: string}} Doc base64 of the digest
 * @typedef {{purpose: string, state: string, consents: Consent[], documents: Doc[], applicationTitle: string}} Authentication
 * @typedef {{colours: string[], everyMs: number, round: number}} Flash
 * @typedef {{state: string, prompt: string, promptIndex: number, promptCount: number, hint: string, attemptsLeft: number,
 *   times: number, timesDone: number, holdMs: number, reachPercent: number, flash: Flash | null}} Step
 * @typedef {{maskedPhone: string, resendTime: string}} Sent
 * @typedef {{jpeg: string, capturedAtMs: string}} Frame
 */

// A step may take as long as the edge lets it: 30 s.
const PATIENCE_MS = 35_000;
const LOST_RETRIES = 6;
const BUSY_RETRIES = 8;

/** The server refused a call. */
export class Refused extends Error {
  /** @param {number} status @param {any} body google.rpc.Status as JSON */
  constructor(status, body) {
    super(String(body?.message ?? status));
    /** @type {any[]} */
    const details = Array.isArray(body?.details) ? body.details : [];
    const info = details.find((item) => typeof item.reason === "string");
    const retry = details.find((item) => typeof item.retryDelay === "string");
    this.status = status;
    this.reason = info ? String(info.reason) : "";
    /** @type {Record<string, string>} */
    this.metadata = info?.metadata ?? {};
    /** Undefined when the server does not say that trying again helps. */
    this.retryMs = retry ? Math.ceil(parseFloat(retry.retryDelay) * 1000) : undefined;
  }
}

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Told whether the connection is lost. @type {(isLost: boolean) => void} */
let onConnection = () => {};
/** @param {(isLost: boolean) => void} told */
export function watchConnection(told) { onConnection = told; }

/**
 * Call once; an answer that never came is a TypeError or a DOMException, a refusal is Refused.
 * @param {string} method @param {string} path @param {object} [body]
 */
async function once(method, path, body) {
  const answer = await fetch(path, {
    method,
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(PATIENCE_MS),
    ...(body ? { headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {}),
  });
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => null));
  return answer;
}

/**
 * Call, with patience for a server that is busy and, where a repeat does no harm, for a connection that is lost.
 * @param {string} method @param {string} path @param {object} [body] @param {boolean} [repeatable]
 */
async function call(method, path, body, repeatable = true) {
  for (let lost = 0, busy = 0; ; ) {
    try {
      const answer = await once(method, path, body);
      onConnection(false);
      return answer;
    } catch (error) {
      if (error instanceof Refused) {
        onConnection(false);
        const isBusy = ["WORKERS_BUSY", "RATE_LIMITED", "LIVENESS_SESSION_BUSY"].includes(error.reason);
        if (!isBusy || ++busy > BUSY_RETRIES) throw error;
        await sleep((error.retryMs ?? 300) + Math.random() * 200);
      } else {
        if (!repeatable || ++lost > LOST_RETRIES) throw error;
        onConnection(true);
        await sleep(Math.min(500 * 2 ** lost, 8000));
      }
    }
  }
}

/** @param {string} name @param {object} body @param {boolean} [repeatable] @returns {Promise<any>} */
const post = async (name, body, repeatable) => (await call("POST", `/v1/capture:${name}`, body, repeatable)).json();

/** The token works once, so a call whose answer was lost is not repeated. @param {string} token @returns {Promise<Authentication>} */
export const open = (token) => post("open", { token }, false);
/** @returns {Promise<Authentication>} */
export const look = async () => (await call("GET", "/v1/capture")).json();
/** @param {number} index @returns {Promise<ArrayBuffer>} */
export const documentAt = async (index) => (await call("GET", `/v1/capture/documents/${index}`)).arrayBuffer();
/** @param {Consent[]} consents @returns {Promise<Authentication>} */
export const giveConsents = (consents) =>
  post("giveConsents", { consents: consents.map(({ id, version }) => ({ id, version })) });
/** @param {object} device @returns {Promise<Step>} */
export const startLiveness = (device) => post("startLiveness", { device }, false);
/** @param {Frame[]} frames @param {number} startedAtMs @returns {Promise<Step>} */
export const submitFrames = (frames, startedAtMs) =>
  post("submitFrames", { frames, flashStartedAtMs: String(startedAtMs) });
/** @returns {Promise<Sent>} */
export const sendCode = () => post("sendCode", {}, false);
/** A repeat would count as another try. @param {string} code @returns {Promise<Authentication>} */
export const verifyCode = (code) => post("verifyCode", { code }, false);
/** @returns {Promise<{redirectUri: string}>} */
export const finish = () => post("finish", {});
