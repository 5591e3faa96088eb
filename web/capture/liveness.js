/** One liveness attempt: prompts as they come, pictures while they are shown (see LivenessStep in the proto). */

import { base64 } from "./camera.js";
import { Pace } from "./pace.js";
import * as server from "./server.js";

// The first batch is small: what it takes on its way says how large the next pictures are.
const FIRST_BATCH = 2;
const BATCH = 6;
const MOST = 12;
// 1 MiB less some room for what is not pictures.
const MOST_BYTES = 1_000_000;
// The round is judged with a picture at least 100 ms after the last colour: screens and cameras are late.
const AFTER_MS = 120;
// WCAG 2.3.1: at most three flashes, six changes, within any second. A faster sequence is not shown.
const LEAST_COLOUR_MS = 200;
const MOST_DROPPED = 5;

/** @typedef {import("./camera.js").Picture} Picture */
/** @typedef {{prompt: (step: server.Step) => void, colour: (colour: string | null) => void}} Shown */

/** The attempt was cut off here and goes on nowhere: it counts, and another one is begun. */
export class Interrupted extends Error {
  /** @param {"wasHidden" | "cameraLost"} why @param {number} attemptsLeft */
  constructor(why, attemptsLeft) {
    super(why);
    this.why = why;
    this.attemptsLeft = attemptsLeft;
  }
}

// What is known of the connection holds for the next attempt, too.
const pace = new Pace();

/**
 * Fails with Interrupted when the page was hidden or the camera was lost meanwhile: pictures that stand still would be
 * taken for a recording.
 * @param {import("./camera.js").Camera} camera @param {Shown} shown
 * @returns {Promise<server.Step>} the step that ended the attempt
 */
export async function attempt(camera, shown) {
  let step = await server.startLiveness(camera.device());
  /** @type {Picture[]} */
  let waiting = [];
  let firstAtMs = 0;
  let dropped = 0;
  let isFilming = true;
  let periodMs = pace.periodMs;
  let isFlashing = false;
  /** Pictures taken before this are of an earlier prompt. */
  let sinceMs = performance.now();
  /** One picture of this time or later is wanted, and none beside it. */
  let lastMs = Infinity;
  const isWhole = () => (waiting.at(-1)?.atMs ?? 0) >= lastMs;
  /** @type {unknown} */
  let broken = null;
  const interrupt = (/** @type {"wasHidden" | "cameraLost"} */ why) => { broken ??= new Interrupted(why, step.attemptsLeft); };
  const hidden = () => { if (document.hidden) interrupt("wasHidden"); };
  document.addEventListener("visibilitychange", hidden);
  camera.watch(() => { if (isFilming) interrupt("cameraLost"); });

  const film = async () => {
    while (isFilming) {
      const tookMs = performance.now();
      const picture = await camera.take(pace.size);
      if (picture.atMs >= sinceMs && !isWhole()) {
        waiting.push(picture);
        // Back pressure: what the connection does not carry is never sent. Colours are kept whole.
        if (!isFlashing && waiting.length > MOST) waiting.shift();
      }
      // In short steps: the period may become shorter meanwhile, when colours begin.
      while (isFilming && performance.now() < tookMs + periodMs) await server.sleep(5);
    }
  };
  const filming = film().catch((error) => { broken = error; });

  /** @param {number} startedAtMs of performance.now(), 0 without colours */
  const send = async (startedAtMs) => {
    /** @type {Picture[]} */
    const batch = [];
    for (let bytes = 0; batch.length < MOST && waiting[0]; ) {
      bytes += waiting[0].jpeg.size;
      if (batch.length && bytes > MOST_BYTES) break;
      batch.push(/** @type {Picture} */ (waiting.shift()));
    }
    firstAtMs ||= batch[0]?.atMs ?? 0;
    const frames = await Promise.all(batch.map(async ({ jpeg, atMs }) => ({
      jpeg: await base64(jpeg), capturedAtMs: String(Math.round(atMs - firstAtMs)),
    })));
    try {
      const answer = await server.submitFrames(frames, startedAtMs && Math.round(startedAtMs - firstAtMs));
      step = answer.step;
      dropped = 0;
      pace.learn(batch.map(({ jpeg }) => jpeg.size), answer.uploadMs);
    } catch (error) {
      // A batch whose answer was lost may have been taken, or is too old by now: go on with what the camera sees now.
      if (!(error instanceof server.Refused) || error.reason !== "FRAME_TIMES_IMPLAUSIBLE") throw error;
      if (++dropped > MOST_DROPPED) throw error;
    }
    if (!isFlashing) periodMs = pace.periodMs;
  };

  try {
    let asked = "";
    while (step.state === "LIVENESS_STATE_RUNNING") {
      const now = `${step.promptIndex}.${step.flash?.round ?? 0}`;
      if (now !== asked) {
        asked = now;
        waiting = [];
        sinceMs = performance.now();
      }
      shown.prompt(step);
      if (step.prompt === "PROMPT_WATCH_COLOURS" && step.flash) {
        isFlashing = true;
        periodMs = pace.flashPeriodMs;
        waiting = [];
        sinceMs = performance.now();
        let startedAtMs = 0;
        const { round, colours, everyMs } = step.flash;
        const showing = flash(step.flash, shown.colour, (atMs) => {
          startedAtMs = atMs;
          lastMs = atMs + everyMs * colours.length + AFTER_MS;
        }).catch((error) => { broken ??= error; });
        // Sent while the next ones are filmed: what waits until all was shown may be too old by the time it arrives. The
        // colours are shown once: should the last picture not have been taken in, a later one is sent.
        const isOfRound = () => step.state === "LIVENESS_STATE_RUNNING" && step.flash?.round === round;
        try {
          while (isOfRound() && !broken) {
            if (isWhole() || (startedAtMs && waiting.length >= MOST)) await send(startedAtMs);
            else await server.sleep(20);
          }
        } finally {
          await showing;
          isFlashing = false;
          lastMs = Infinity;
        }
      } else {
        while (waiting.length < (pace.isKnown ? BATCH : FIRST_BATCH) && !broken) await server.sleep(20);
        if (!broken) await send(0);
      }
      if (broken) throw broken;
    }
    return step;
  } finally {
    isFilming = false;
    document.removeEventListener("visibilitychange", hidden);
    shown.colour(null);
    await filming;
  }
}

const nextPaint = () => new Promise((resolve) => requestAnimationFrame(resolve));

/**
 * Show the colours, and say when the first was to be seen, by performance.now().
 * @param {server.Flash} flash @param {(colour: string | null) => void} show @param {(atMs: number) => void} started
 */
async function flash({ colours, everyMs }, show, started) {
  if (everyMs < LEAST_COLOUR_MS) throw new RangeError("colours change too fast to be shown safely");
  show(colours[0] ?? null);
  // The second callback comes after the first colour was painted.
  await nextPaint();
  await nextPaint();
  const startedAtMs = performance.now();
  started(startedAtMs);
  for (let at = 0, index = 0; at < everyMs * colours.length; at = performance.now() - startedAtMs) {
    const due = Math.floor(at / everyMs);
    if (due !== index) show(colours[(index = due)] ?? null);
    await nextPaint();
  }
  show(null);
}
