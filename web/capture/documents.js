/** Documents that are to be signed: fetched when they are opened, and shown only when they are the ones that are signed. */

import { button, el, say, told } from "./screen.js";
import * as server from "./server.js";

// Text that is shown on the page itself; longer documents are saved.
const SHOWN_TEXT_BYTES = 200_000;
// No text: control characters, and those that turn the direction of reading round, so that what is read is not what is
// written (Unicode Technical Report 36, section 2.5).
const NOT_PLAIN = /[\u0000-\u0008\u000e-\u001f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/** @param {ArrayBuffer} bytes */
const sha256 = async (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))));

/** @param {string} text base64 */
const hex = (text) => [...atob(text)].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");

/** @param {ArrayBuffer} bytes */
const isPdf = (bytes) => new TextDecoder("latin1").decode(bytes.slice(0, 1024)).includes("%PDF-");

/** What of a document can be shown as it is: its text, undefined when it is no plain text. @param {ArrayBuffer} bytes */
function textOf(bytes) {
  if (bytes.byteLength > SHOWN_TEXT_BYTES) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return NOT_PLAIN.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/**
 * A link that saves the document: never as a kind that could run a script here.
 * @param {ArrayBuffer} bytes @param {string} name
 */
function saver(bytes, name) {
  const url = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  return told("a", () => say("save"), { href: url, download: name, rel: "noopener" });
}

/**
 * The card of a document. `seen` is called once it was shown, or saved where it cannot be shown; `differs` when it is
 * not the one to be signed.
 * @param {server.Doc} doc @param {number} index @param {() => void} seen @param {() => void} differs
 * @param {AbortSignal} left when the screen is left
 */
export function card(doc, index, seen, differs, left) {
  const opener = button("open", "other");
  const problem = el("p", { role: "alert", class: "bad" });
  const box = el("div", { class: "card" }, el("strong", {}, doc.title), opener, problem,
    told("p", () => say("fingerprint", { digest: hex(doc.contentSha256) }), { class: "quiet" }));
  opener.addEventListener("click", async () => {
    opener.disabled = true;
    problem.textContent = "";
    /** @type {ArrayBuffer} */
    let bytes;
    try {
      bytes = await server.documentAt(index);
    } catch (error) {
      if (error instanceof server.Refused && error.reason === "DOCUMENT_CHANGED") return refuse();
      problem.textContent = say(error instanceof server.Refused ? "broken" : "offlineHelp");
      opener.disabled = false;
      return;
    }
    if ((await sha256(bytes)) !== doc.contentSha256) return refuse();
    problem.remove();
    const text = textOf(bytes);
    if (text !== undefined && !isPdf(bytes)) {
      opener.replaceWith(el("pre", { tabindex: "0", role: "region", "aria-label": doc.title }, text));
      return seen();
    }
    const link = saver(bytes, isPdf(bytes) ? "document.pdf" : "document");
    link.addEventListener("click", seen);
    if (!isPdf(bytes)) return opener.replaceWith(told("p", () => say("notShown"), { class: "notice" }), link);
    opener.replaceWith(told("p", () => say("wait"), { role: "status" }));
    const place = /** @type {HTMLElement} */ (box.children[1]);
    try {
      const { view } = await import("./pdf.js");
      const { viewer, notices } = await view(bytes, doc.title, left);
      place.replaceWith(viewer, ...notices.map((key) => told("p", () => say(key), { class: "notice" })), link);
      seen();
    } catch (error) {
      // What is wrong with it is for developers; the person reads it in a program of their own.
      console.warn("a PDF is not shown", error);
      place.replaceWith(told("p", () => say("notShown"), { class: "notice" }), link);
    }
  });
  const refuse = () => {
    problem.remove();
    opener.replaceWith(told("p", () => say("changed"), { class: "bad", role: "alert" }));
    differs();
  };
  return box;
}
