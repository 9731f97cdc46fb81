import {h, text} from "./dom.js";

// login asks for a token. enter tries it, and throws if it is none.
export function login(message, enter) {
  const input = h("input", {id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "zael_…", "aria-describedby": "login-error"});
  const error = h("p", {class: "error", id: "login-error", role: "alert"}, message);
  const button = h("button", {type: "submit", class: "primary"}, "Sign in");
  const form = h("form", {class: "login"},
    h("h1", null, "Sign in"),
    h("p", {class: "quiet"}, "With a token of the role read or admin. It is kept until this tab is closed."),
    h("label", {for: "token"}, "Token"), input, error, button,
    h("p", {class: "quiet"}, h("code", null, "zael token new"), " makes one; its hash goes into the configuration."));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    text(error, "");
    try {
      await enter(input.value.trim());
    } catch (problem) {
      text(error, problem.status === 401 ? "The server does not know this token." : problem.message);
      input.select();
    } finally {
      button.disabled = false;
    }
  });
  return form;
}
