// All limits that are stored, by scope.

import {get} from "./api.js";
import {empty, h, table} from "./dom.js";
import {deleteLimits, setLimits} from "./edit.js";

export function limits({me, parameters, fail}) {
  const change = me.role === "admin";
  const prefix = h("input", {id: "limits-prefix", type: "search", value: parameters.get("prefix") ?? "", placeholder: me.prefix || "all", autocomplete: "off", spellcheck: "false"});
  const set = change && h("button", {type: "button", class: "primary", onclick: () => setLimits({scope: {entity_id: me.prefix}, limits: [], choose: true, done: read})}, "Set limits …");
  const form = h("form", {class: "bar", role: "search"}, h("label", {for: "limits-prefix"}, "Entity begins with"), prefix, h("button", {type: "submit"}, "Show"), set);
  const body = h("tbody");
  const box = table("Stored limits", [{name: "Entity"}, {name: "Resource"}, {name: "Limits"}, change && {name: "", class: "number"}].filter(Boolean), body);
  const none = h("div");
  const more = h("button", {type: "button"}, "More");
  let next = null;

  function row(scope) {
    return h("tr", null,
      h("td", {class: "names"}, scope.entity_id ? h("a", {class: "name", href: `#/entity/${encodeURIComponent(scope.entity_id)}`}, scope.entity_id) : h("span", {class: "quiet"}, "everybody")),
      h("td", {class: "names"}, scope.resource ? (me.prefix ? scope.resource : h("a", {href: `#/resource/${encodeURIComponent(scope.resource)}`}, scope.resource)) : h("span", {class: "quiet"}, "all resources")),
      h("td", null, h("div", {class: "codes"}, scope.limits.map((l) => h("code", null, l.limit)))),
      change && h("td", {class: "number"}, h("div", {class: "buttons"},
        h("button", {type: "button", onclick: () => setLimits({scope, limits: scope.limits, done: read})}, "Edit …"),
        h("button", {type: "button", onclick: () => deleteLimits({scope, done: read})}, "Delete …"))));
  }
  async function read(cursor) {
    try {
      const page = await get("/scopes", {prefix: prefix.value.trim(), cursor, limit: 100});
      if (!cursor) body.replaceChildren();
      body.append(...page.scopes.map(row));
      next = page.next;
      more.hidden = next === null;
      box.hidden = body.childElementCount === 0;
      none.replaceChildren(box.hidden ? empty("No limits are stored", "Requests may bring their own. Stored limits hold for requests that name none: for an entity on a resource, an entity, a resource, or the system; the first of these that has any decides.") : "");
    } catch (error) {
      box.hidden = more.hidden = true;
      none.replaceChildren(empty("Limits cannot be read", error.message));
      fail(error);
    }
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    read();
  });
  more.addEventListener("click", () => read(next));
  box.hidden = more.hidden = true;
  read();
  return {element: h("div", null, h("h1", null, "Limits"), form, box, none, h("p", null, more)), live: {limit: 1}};
}
