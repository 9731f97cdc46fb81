// Who changed what.

import {get} from "./api.js";
import {empty, h, table} from "./dom.js";
import {action, full, moment} from "./format.js";

function row(event, ofAll) {
  const at = new Date(event.time);
  const details = Object.entries(event.details ?? {}).filter(([k]) => k !== "clock").map(([k, v]) => (k === "limits" ? v : `${k} ${v}`)).join(", ");
  const where = event.entity_id ? h("a", {class: "name", href: `#/entity/${encodeURIComponent(event.entity_id)}`}, event.entity_id) : event.resource ? "" : "the system";
  return h("tr", null,
    h("td", {class: "quiet", title: full(at)}, moment(at)),
    h("td", null, event.principal),
    h("td", null, action(event.action)),
    ofAll && h("td", {class: "names"}, where),
    h("td", {class: "names"}, event.resource ?? ""),
    h("td", {class: "wrap"}, h("code", null, details)));
}

// events lists changes, of an entity or of all, the newest first.
export function events({entity = "", limit = 50, fail}) {
  const body = h("tbody");
  const columns = [{name: "When"}, {name: "Who"}, {name: "What"}, !entity && {name: "Entity"}, {name: "Resource"}, {name: "Details"}].filter(Boolean);
  const box = table("Changes", columns, body);
  const none = h("div");
  const more = h("button", {type: "button"}, "More");
  let next = null;
  async function read(cursor) {
    try {
      const page = await get("/audit", {entity, limit, cursor});
      if (!cursor) body.replaceChildren();
      body.append(...page.events.map((e) => row(e, !entity)));
      next = page.next;
      more.hidden = next === null;
      box.hidden = body.childElementCount === 0;
      none.replaceChildren(box.hidden ? empty("Nothing was changed", "Limits, switches, entities and top-ups are listed here, with who changed them.") : "");
    } catch (error) {
      box.hidden = more.hidden = true;
      none.replaceChildren(empty("Changes cannot be read", error.message));
      fail(error);
    }
  }
  more.addEventListener("click", () => read(next));
  box.hidden = more.hidden = true;
  read();
  return {element: h("div", null, box, none, h("p", null, more)), read: () => read()};
}

export function audit({me, parameters, fail}) {
  const entity = parameters.get("entity") ?? "";
  const input = h("input", {id: "audit-entity", type: "search", value: entity, placeholder: me.prefix ? `${me.prefix}…` : "all", autocomplete: "off", spellcheck: "false"});
  const form = h("form", {class: "bar"}, h("label", {for: "audit-entity"}, "Entity"), input, h("button", {type: "submit"}, "Show"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const id = input.value.trim();
    location.hash = id ? `#/audit?entity=${encodeURIComponent(id)}` : "#/audit";
  });
  const shown = entity || !me.prefix ? events({entity, fail}).element : empty("Name an entity", `Your token sees those that begin with ${me.prefix}`);
  return {element: h("div", null, h("h1", null, "Audit log"), form, shown), live: {limit: 1}};
}
