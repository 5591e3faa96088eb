/** The number that the other screen shows, when the person began on another device: one try, and none to choose from. */

import { button, clicked, el, end, push, say, show, told } from "./screen.js";
import * as server from "./server.js";

/**
 * Until a number was entered. A wrong one ends the authentication; that is said here, and the state says the rest.
 * @param {string} application who asks
 * @returns {Promise<server.Authentication | null>} null when the person has no number: nothing goes on
 */
export async function number(application) {
  const input = el("input", { class: "code", id: "number", type: "text", inputmode: "numeric", autocomplete: "off", pattern: "[0-9]*", maxlength: "2", form: "number-form", "aria-describedby": "number-help" });
  const form = el("form", { class: "push", novalidate: "", id: "number-form" });
  const entered = new Promise((resolve) => show(() => {
    const confirm = told("button", () => say("confirm"), { type: "submit", class: "main" });
    const none = button("noNumber", "other");
    form.append(confirm, none);
    none.addEventListener("click", () => resolve(null));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!/^[0-9]{2}$/.test(input.value) || confirm.disabled) return input.focus();
      confirm.disabled = true;
      resolve(input.value);
    });
    return [
      told("h1", () => say("number")),
      told("p", () => say("numberWhere", { application })),
      told("label", () => say("numberLabel"), { for: "number" }),
      input,
      told("p", () => say("numberStop"), { class: "notice", id: "number-help" }),
      form,
    ];
  }));
  input.focus();
  const typed = await entered;
  if (typed === null) {
    end("noNumberTitle", "noNumberHelp");
    return null;
  }
  try {
    return await server.confirmMatch(typed);
  } catch (error) {
    if (!(error instanceof server.Refused)) throw error;
    if (error.reason === "NUMBER_WRONG") {
      /** @type {HTMLElement} */
      let next = form;
      show(() => [told("h1", () => say("numberWrong")), told("p", () => say("numberWrongHelp"), { role: "alert" }), push(next = button("next"))]);
      await clicked(next);
    }
    return server.look();
  }
}
