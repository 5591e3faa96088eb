/**
 * A PDF, drawn here by Mozilla's pdf.js: browsers inside apps have no viewer, and some show the first page alone.
 *
 * A document comes from a participant and may be hostile. It is read in a worker whose own policy lets it reach nothing
 * (deploy/envoy/library.py); nothing in it is run, and its links lead nowhere. What cannot be drawn faithfully is an
 * error and is not left out: nobody confirms a page of which something is missing without being told.
 */

import { el, say, spokenBy, told } from "./screen.js";

const LIBRARY = new URL("./pdfjs/", import.meta.url);
const MOST_BYTES = 16 * 1024 * 1024;
const MOST_PAGES = 400;
// A page scanned at 600 dpi has 35 million pixels.
const MOST_IMAGE_PX = 64_000_000;
const MOST_CANVAS_PX = 8_000_000;
const PATIENCE_MS = 20_000;
const ZOOMS = [1, 1.5, 2, 3];
// Pages this far outside the window are drawn already; farther ones are forgotten again.
const AHEAD = "600px";

/** @typedef {typeof import("pdfjs-dist")} Pdfjs */
/** @typedef {import("pdfjs-dist").PDFDocumentProxy} Pdf */
/** @typedef {"pdfOther" | "pdfLong"} Notice what the viewer cannot show, and says */

/** Trusted Types let a page name the scripts that it starts: this one and no other. */
const policy = /** @type {any} */ (globalThis).trustedTypes?.createPolicy("finid-pdf", {
  createScriptURL: () => new URL("pdf.worker.min.mjs", LIBRARY).href,
});

// StreamKind.ERROR of pdf.js: the rest of what is being read does not come.
const STREAM_ERROR = 5;

/** The worker, and how often it said that it could not read something whole. */
class Reader {
  broken = 0;
  port = new Worker(policy ? policy.createScriptURL("") : new URL("pdf.worker.min.mjs", LIBRARY), { type: "module" });

  constructor() {
    // pdf.js draws what came until then, and says nothing of it once a page's first part is there.
    this.port.addEventListener("message", ({ data }) => { if (data?.stream === STREAM_ERROR) this.broken += 1; });
  }
}

/** The two fonts that no system has; for the others that a document may leave out, the system's own are used. */
class Fonts {
  /** @param {{kind: string, filename: string}} wanted */
  async fetch({ kind, filename }) {
    if (kind !== "standardFontDataUrl") throw new RangeError(`there is no ${kind} here`);
    const answer = await fetch(new URL(filename, LIBRARY));
    if (!answer.ok) throw new RangeError(`there is no ${filename} here`);
    return new Uint8Array(await answer.arrayBuffer());
  }
}

/**
 * @template T
 * @param {Promise<T>} work @returns {Promise<T>} the work, or an error when it takes longer than anybody waits
 */
const within = (work) =>
  Promise.race([work, new Promise((_, reject) => setTimeout(() => reject(new Error("took too long")), PATIENCE_MS))]);

/**
 * Show a PDF. Fails when its first page cannot be drawn.
 * @param {ArrayBuffer} bytes @param {string} title @param {AbortSignal} left when nobody looks at it any more
 * @returns {Promise<{viewer: HTMLElement, notices: Notice[]}>}
 */
export async function view(bytes, title, left) {
  if (bytes.byteLength > MOST_BYTES) throw new RangeError("too large to be drawn");
  const pdfjs = /** @type {Pdfjs} */ (await import(new URL("pdf.min.mjs", LIBRARY).href));
  const reader = new Reader();
  left.addEventListener("abort", () => reader.port.terminate());
  try {
    return await within(shown(pdfjs, reader, bytes, title));
  } catch (error) {
    // Whatever it is still doing there, it does not any more.
    reader.port.terminate();
    throw error;
  }
}

/** @param {Pdfjs} pdfjs @param {Reader} reader @param {ArrayBuffer} bytes @param {string} title */
async function shown(pdfjs, reader, bytes, title) {
  const pdf = await pdfjs.getDocument({
    // The worker is given a copy: the bytes that were compared with the transaction stay as they are.
    data: new Uint8Array(bytes.slice(0)),
    worker: pdfjs.PDFWorker.create({ port: /** @type {any} */ (reader.port) }),
    stopAtErrors: true,
    maxImageSize: MOST_IMAGE_PX,
    enableXfa: false,
    useWasm: false,
    useWorkerFetch: false,
    wasmUrl: LIBRARY.href,
    BinaryDataFactory: Fonts,
    disableWorkerRendering: true,
    verbosity: 0,
  }).promise;
  /** @type {Set<Notice>} */
  const notices = new Set();
  if (await hasOther(pdf)) notices.add("pdfOther");
  if (pdf.numPages > MOST_PAGES) notices.add("pdfLong");
  const pages = Array.from({ length: Math.min(pdf.numPages, MOST_PAGES) }, (_, index) => new Page(pdf, reader, index + 1));
  const first = await pdf.getPage(1);
  const { width, height } = first.getViewport({ scale: 1 });
  for (const page of pages) page.shape(width, height);

  const sheets = el("div", { class: "sheets", tabindex: "0", role: "region", "aria-label": title }, ...pages.map((page) => page.box));
  const count = told("span", () => say("pages", { page: 1, pages: pdf.numPages }), { class: "quiet", role: "status" });
  let at = 1;
  let zoom = 0;
  const tell = () => { count.textContent = say("pages", { page: at, pages: pdf.numPages }); };
  spokenBy(tell);
  const [smaller, larger] = /** @type {[HTMLButtonElement, HTMLButtonElement]} */ (/** @type {const} */ (["smaller", "larger"]).map((key) => {
    const control = el("button", { type: "button" }, key === "larger" ? "+" : "−");
    spokenBy(() => control.setAttribute("aria-label", say(key)));
    return control;
  }));
  const viewer = el("div", { class: "pdf" }, el("div", { class: "bar" }, count, smaller, larger), sheets);

  const watcher = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      const page = pages.find(({ box }) => box === target);
      if (isIntersecting) page?.draw(ZOOMS[zoom] ?? 1).catch(() => {});
      else page?.forget();
    }
  }, { root: sheets, rootMargin: AHEAD });
  const setZoom = (/** @type {number} */ wanted) => {
    zoom = Math.max(0, Math.min(ZOOMS.length - 1, wanted));
    smaller.disabled = zoom === 0;
    larger.disabled = zoom === ZOOMS.length - 1;
    sheets.dataset["zoom"] = String(zoom);
    watcher.disconnect();
    for (const page of pages) { page.forget(); watcher.observe(page.box); }
  };
  smaller.addEventListener("click", () => setZoom(zoom - 1));
  larger.addEventListener("click", () => setZoom(zoom + 1));
  sheets.addEventListener("scroll", () => {
    const middle = sheets.getBoundingClientRect().top + sheets.clientHeight / 2;
    const now = Math.max(1, pages.filter(({ box }) => box.getBoundingClientRect().top <= middle).length);
    if (now !== at) { at = now; tell(); }
  }, { passive: true });
  // Drawn once before it is shown: whoever has seen nothing has not seen the document.
  await pages[0]?.draw(1);
  setZoom(0);
  return { viewer, notices: [...notices] };
}

/** Whether there is more in it than pages: scripts, forms of another kind, files. @param {Pdf} pdf */
async function hasOther(pdf) {
  const [scripts, files, about] = await Promise.all([pdf.getJSActions(), pdf.getAttachments(), pdf.getMetadata()]);
  return Boolean(scripts || files || /** @type {any} */ (about.info)["IsXFAPresent"]);
}

/**
 * Whether something that belongs on a page that was drawn is not there: pdf.js leaves out what it cannot decode, and
 * draws the rest without an error.
 * @param {import("pdfjs-dist").PDFPageProxy} page
 */
const lacks = ({ objs, commonObjs }) =>
  [.../** @type {any} */ (objs), .../** @type {any} */ (commonObjs)].some(([, data]) => data === null || typeof data === "string");

/** One page: drawn when it comes near the window, and forgotten when it is far. */
class Page {
  /** @param {Pdf} pdf @param {Reader} reader @param {number} number */
  constructor(pdf, reader, number) {
    this.pdf = pdf;
    this.reader = reader;
    this.number = number;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    // What a screen reader reads; the picture says nothing to it.
    this.text = el("div", { class: "unseen" });
    this.box = el("section", { class: "sheet" }, this.canvas, this.text);
    spokenBy(() => this.box.setAttribute("aria-label", say("pages", { page: number, pages: pdf.numPages })));
    this.zoom = 0;
    /** @type {import("pdfjs-dist").RenderTask | null} */
    this.task = null;
  }

  /** As large as the first page until it is drawn. @param {number} width @param {number} height */
  shape(width, height) {
    this.canvas.width = 1;
    this.canvas.height = 1;
    this.box.style.aspectRatio = `${width} / ${height}`;
  }

  /** @param {number} zoom */
  async draw(zoom) {
    if (this.zoom === zoom) return;
    this.zoom = zoom;
    try {
      await within(this.#draw(zoom));
    } catch (error) {
      if (this.zoom !== zoom) return; // forgotten meanwhile
      this.forget();
      this.box.replaceChildren(told("p", () => say("pageNotShown", { page: this.number }), { class: "notice" }));
      throw error;
    }
  }

  /** @param {number} zoom */
  async #draw(zoom) {
    const page = await this.pdf.getPage(this.number);
    const { width, height } = page.getViewport({ scale: 1 });
    this.shape(width, height);
    const wanted = ((this.box.clientWidth || 360) / width) * Math.min(devicePixelRatio, 2) * (this.box.clientWidth ? 1 : zoom);
    const scale = Math.min(wanted, Math.sqrt(MOST_CANVAS_PX / (width * height)));
    const viewport = page.getViewport({ scale });
    const canvas = el("canvas", { "aria-hidden": "true" });
    canvas.width = Math.ceil(viewport.width);
    canvas.height = Math.ceil(viewport.height);
    const { broken } = this.reader;
    this.task = page.render({ canvas, viewport });
    await this.task.promise;
    this.task = null;
    if (lacks(page) || this.reader.broken !== broken) throw new Error("not all of the page can be read");
    this.canvas.replaceWith(canvas);
    this.canvas = canvas;
    if (!this.text.textContent) {
      const { items } = await page.getTextContent();
      this.text.textContent = items.map((item) => ("str" in item ? item.str + (item.hasEOL ? "\n" : "") : "")).join("");
    }
    page.cleanup();
  }

  forget() {
    this.task?.cancel();
    this.task = null;
    this.zoom = 0;
    // What was drawn stays until it is drawn anew, but for pages far away: a phone has not the memory for many.
    this.canvas.width = 1;
    this.canvas.height = 1;
  }
}
