// Entities by the beginning of their ID.

import {get} from "./api.js";
import {empty, h, list, table, text} from "./dom.js";
import {moment} from "./format.js";
import {createEntity} from "./edit.js";
import {tryIt} from "./now.js";

function row() {
  const id = h("a", {class: "name"});
  const name = h("td");
  const parent = h("a");
  const created = h("td", {class: "number quiet"});
  return {
    element: h("tr", null, h("td", {class: "names"}, id), name, h("td", null, parent), created),
    update(e) {
      text(id, e.id);
      id.href = `#/entity/${encodeURIComponent(e.id)}`;
      text(name, e.name === e.id ? "" : e.name);
      text(parent, e.parent_id ?? "");
      if (e.parent_id) parent.href = `#/entity/${encodeURIComponent(e.parent_id)}`;
      else parent.removeAttribute("href");
      text(created, moment(new Date(e.created_at)));
    },
  };
}

export function entities({me, parameters, fail}) {
  const prefix = h("input", {id: "prefix", type: "search", value: parameters.get("prefix") ?? "", placeholder: me.prefix || "key-1", autocomplete: "off", spellcheck: "false"});
  const open = h("button", {type: "submit"}, "Open");
  const create = me.role === "admin" && h("button", {
    type: "button",
    onclick: () => createEntity({id: prefix.value.trim() || me.prefix, done: (id) => { location.hash = `#/entity/${encodeURIComponent(id)}`; }}),
  }, "Create …");
  const form = h("form", {class: "bar", role: "search"}, h("label", {for: "prefix"}, "ID, or its beginning"), prefix, open, create);
  const body = h("tbody");
  const box = table("Entities", [{name: "Entity"}, {name: "Name"}, {name: "Parent"}, {name: "Created", class: "number"}], body);
  const none = h("div");
  const more = h("button", {type: "button"}, "More");
  const note = h("p", {class: "quiet"}, "Listed are entities that were created. Any other can be opened by its ID.");
  let shown = [];
  let next = null;
  let asked = 0;

  async function read(cursor) {
    const mine = ++asked;
    const begin = prefix.value.trim();
    try {
      const page = await get("/entities", {prefix: begin, cursor, limit: 100});
      if (mine !== asked) return;
      shown = cursor ? shown.concat(page.entities) : page.entities;
      next = page.next;
      list(body, shown, (e) => e.id, row);
      more.hidden = next === null;
      box.hidden = shown.length === 0;
      none.replaceChildren();
      if (shown.length === 0) {
        none.append(begin
          ? empty(`No entity was created whose ID begins with ${begin}`, "It may be limited all the same: Open shows its buckets, if it has any.")
          : empty("No entity was created", "They need not be: whoever asks is limited. Ask for something, and open it by its ID:", tryIt()));
      }
    } catch (error) {
      fail(error);
      none.replaceChildren(empty("The list cannot be read", error.message));
    }
  }
  let typing = 0;
  prefix.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      history.replaceState(null, "", prefix.value.trim() ? `#/entities?prefix=${encodeURIComponent(prefix.value.trim())}` : "#/entities");
      read();
    }, 200);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (prefix.value.trim()) location.hash = `#/entity/${encodeURIComponent(prefix.value.trim())}`;
  });
  more.addEventListener("click", () => read(next));
  box.hidden = more.hidden = true;
  read();
  return {
    element: h("div", null, h("h1", null, "Entities"), form, note, box, none, h("p", null, more)),
    live: {limit: 1},
    close: () => clearTimeout(typing),
  };
}
