/** The person's own consents, to every organisation: seen and withdrawn once both factors have shown who she is. */

import { button, clicked, el, known, push, say, show, spokenBy, told } from "./screen.js";
import * as server from "./server.js";

const WISHED = "finid-see-consents";

/** A box on the first screen: whoever ticks it sees the list before going back. It holds over a reload. */
export function wish() {
  const box = el("input", { type: "checkbox", id: "wish" });
  try { box.checked = sessionStorage.getItem(WISHED) === "1"; } catch { /* storage is switched off */ }
  box.addEventListener("change", () => {
    try { sessionStorage.setItem(WISHED, box.checked ? "1" : ""); } catch { /* the list is then not offered */ }
  });
  return el("label", { class: "wish" }, box, told("span", () => say("seeConsents")));
}

/** @param {server.Given} consent */
function card(consent) {
  const withdraw = button("withdraw", "other");
  const sure = el("div", { class: "push", hidden: "" });
  const yes = button("withdrawYes");
  const no = button("withdrawNo", "other");
  const answer = el("p", { role: "status" });
  /** @param {boolean} isAsked */
  const ask = (isAsked) => { sure.hidden = !isAsked; withdraw.hidden = isAsked; };
  sure.append(told("p", () => say("withdrawHelp"), { class: "notice" }), yes, no);
  withdraw.addEventListener("click", () => { ask(true); yes.focus(); });
  no.addEventListener("click", () => { ask(false); withdraw.focus(); });
  yes.addEventListener("click", async () => {
    yes.disabled = no.disabled = true;
    try {
      await server.withdrawConsent(consent.name);
      sure.remove();
      spokenBy(() => { answer.textContent = say("withdrawn"); });
    } catch (error) {
      yes.disabled = no.disabled = false;
      spokenBy(() => { answer.textContent = say(error instanceof server.Lost ? "offlineHelp" : "broken"); });
    }
  });
  const when = el("p", { class: "quiet" });
  spokenBy(() => {
    const day = new Date(consent.giveTime).toLocaleDateString(document.documentElement.lang, { dateStyle: "long" });
    when.textContent = `${known(consent.purpose)} · ${day}`;
  });
  return el("section", { class: "card" },
    el("h2", {}, consent.applicationTitle), when, el("p", {}, consent.text), answer, withdraw, sure);
}

/** If it was wished for: the list, until the person goes on. A session that may not see it goes on at once. */
export async function given() {
  try { if (sessionStorage.getItem(WISHED) !== "1") return; } catch { return; }
  /** @type {server.GivenPage} */
  let page;
  try {
    page = await server.consents("");
  } catch (error) {
    if (error instanceof server.Refused) return;
    throw error;
  }
  /** @type {HTMLButtonElement} */ let next = el("button");
  const list = el("div", { class: "list" });
  const more = el("div");
  /** @param {server.GivenPage} shown */
  const add = (shown) => {
    list.append(...shown.consents.map(card));
    more.replaceChildren();
    if (!shown.nextPageToken) return;
    const further = button("moreConsents", "other");
    more.append(further);
    further.addEventListener("click", async () => {
      further.disabled = true;
      try { add(await server.consents(shown.nextPageToken)); } catch { further.disabled = false; }
    });
  };
  show(() => [told("h1", () => say("yourConsents")), told("p", () => say("yourConsentsHelp")), list, more, push(next = button("next"))]);
  add(page);
  await clicked(next);
  try { sessionStorage.removeItem(WISHED); } catch { /* it was read a moment ago */ }
}
