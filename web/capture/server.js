/**
 * The calls of finid.capture.v1.CaptureService. The session is a cookie that no script can read.
 *
 * @typedef {{id: string, version: string, text: string}} Consent
 * @typedef {{title: string, contentSha256: string}} Doc base64 of the digest
 * @typedef {{purpose: string, state: string, consents: Consent[], documents: Doc[], applicationTitle: string,
 *   language?: string, crossDevice?: boolean}} Authentication `crossDevice`: the number is still to be entered
 * @typedef {{colours: string[], everyMs: number, round: number}} Flash
 * @typedef {{state: string, prompt: string, promptIndex: number, promptCount: number, hint: string, attemptsLeft: number,
 *   times: number, timesDone: number, holdMs: number, reachPercent: number, flash: Flash | null}} Step
 * @typedef {{maskedPhone: string, resendInMs: number}} Sent
 * @typedef {{jpeg: string, capturedAtMs: string}} Frame
 * @typedef {{name: string, purpose: string, applicationTitle: string, text: string, giveTime: string}} Given
 * @typedef {{consents: Given[], nextPageToken: string}} GivenPage
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

/** No whole answer came: the connection was lost, or it took too long. */
export class Lost extends Error {}

/** Wait, but not on when the connection is back. @param {number} ms */
const sleepOffline = (ms) => new Promise((resolve) => {
  const timer = setTimeout(done, ms);
  function done() {
    clearTimeout(timer);
    removeEventListener("online", done);
    resolve(undefined);
  }
  addEventListener("online", done);
});

/** Told whether the connection is lost. @type {(isLost: boolean) => void} */
let onConnection = () => {};
/** @param {(isLost: boolean) => void} told */
export function watchConnection(told) { onConnection = told; }

/**
 * Call once; an answer that never came whole is Lost, a refusal is Refused.
 * @template T
 * @param {string} method @param {string} path @param {object | undefined} body
 * @param {(answer: Response) => Promise<T>} read
 */
async function once(method, path, body, read) {
  try {
    const answer = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
      ...(body ? { headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {}),
    });
    if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => null));
    return await read(answer);
  } catch (error) {
    throw error instanceof Refused ? error : new Lost("no answer", { cause: error });
  }
}

/**
 * Call, with patience for a server that is busy and, where a repeat does no harm, for a connection that is lost.
 * @template T
 * @param {string} method @param {string} path @param {object | undefined} body
 * @param {(answer: Response) => Promise<T>} read @param {boolean} [repeatable]
 * @param {() => void} [sending] told each time
 */
async function call(method, path, body, read, repeatable = true, sending = () => {}) {
  for (let lost = 0, busy = 0; ; ) {
    try {
      sending();
      const answer = await once(method, path, body, read);
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
        await sleepOffline(Math.min(500 * 2 ** lost, 8000));
      }
    }
  }
}

/** @param {Response} answer @returns {Promise<any>} */
const json = (answer) => answer.json();

/** @param {string} name @param {object} body @param {boolean} [repeatable] @returns {Promise<any>} */
const post = (name, body, repeatable) => call("POST", `/v1/capture:${name}`, body, json, repeatable);

/** The token works once, so a call whose answer was lost is not repeated. @param {string} token @returns {Promise<Authentication>} */
export const open = (token) => post("open", { token }, false);
/** @returns {Promise<Authentication>} */
export const look = () => call("GET", "/v1/capture", undefined, json);
/** @param {number} index @returns {Promise<ArrayBuffer>} */
export const documentAt = (index) =>
  call("GET", `/v1/capture/documents/${index}`, undefined, (answer) => answer.arrayBuffer());
/** @param {Consent[]} consents @returns {Promise<Authentication>} */
export const giveConsents = (consents) =>
  post("giveConsents", { consents: consents.map(({ id, version }) => ({ id, version })) });
/** The same number may be sent again; a wrong one ends it. @param {string} number two digits @returns {Promise<Authentication>} */
export const confirmMatch = (number) => post("confirmMatch", { number });
/** @param {object} device @returns {Promise<Step>} */
export const startLiveness = (device) => post("startLiveness", { device }, false);
/**
 * `uploadMs` is what the frames took on their way: Envoy says how long the services took, once all had arrived.
 * @param {Frame[]} frames @param {number} startedAtMs
 * @returns {Promise<{step: Step, uploadMs: number}>}
 */
export async function submitFrames(frames, startedAtMs) {
  const body = { frames, flashStartedAtMs: String(startedAtMs) };
  let sentMs = 0;
  return call("POST", "/v1/capture:submitFrames", body, async (answer) => {
    const tookMs = performance.now() - sentMs;
    const serviceMs = Number(answer.headers.get("x-envoy-upstream-service-time") ?? 0);
    return { step: /** @type {Step} */ (await answer.json()), uploadMs: Math.max(1, tookMs - serviceMs) };
  }, true, () => { sentMs = performance.now(); });
}
/** By the server's clock: the device's may be wrong. @returns {Promise<Sent>} */
export async function sendCode() {
  return call("POST", "/v1/capture:sendCode", {}, async (answer) => {
    const { maskedPhone, resendTime } = await answer.json();
    const nowMs = Date.parse(answer.headers.get("date") ?? "") || Date.now();
    return { maskedPhone, resendInMs: Math.max(0, Date.parse(resendTime) - nowMs) };
  }, false);
}
/** A repeat would count as another try. @param {string} code @returns {Promise<Authentication>} */
export const verifyCode = (code) => post("verifyCode", { code }, false);
/** @returns {Promise<{redirectUri: string}>} */
export const finish = () => post("finish", {});
/** The person's live consents, to every application, once both factors are passed. @param {string} pageToken @returns {Promise<GivenPage>} */
export const consents = (pageToken) =>
  call("GET", `/v1/capture/consents${pageToken ? `?pageToken=${encodeURIComponent(pageToken)}` : ""}`, undefined, json);
/** A repeat changes nothing. @param {string} name @returns {Promise<Given>} */
export const withdrawConsent = (name) => post("withdrawConsent", { name });
