// One entity: how its buckets stand, where their limits come from, what it used, who changed it.

import {get, segment} from "./api.js";
import {empty, h, list, text} from "./dom.js";
import {full, moment, scopeName} from "./format.js";
import {deleteLimits, reset, setLimits, setSwitch, topUp} from "./edit.js";
import {level} from "./limitrow.js";
import {tryIt} from "./now.js";
import {usagePanel} from "./usage.js";
import {events} from "./audit.js";

const READ = 5000; // milliseconds: the server reads the store no more often

const states = {disabled: "Disabled: all requests are refused", bypass: "Limits are bypassed", enabled: "Enabled"};

// scopeText names the scope whose limits hold for a bucket.
const scopeText = (stored) => (stored.entity_id ? `this entity${stored.resource ? "" : ", all resources"}` : scopeName(stored));

// origin tells where a limit of a bucket comes from.
function origin(limit, stored) {
  const same = stored?.limits.find((l) => l.limit_name === limit.limit_name);
  if (!same) return "sent with the request";
  return `stored for ${scopeText(stored)}${same.limit === limit.limit ? "" : ": " + same.limit + " from the next request on"}`;
}

function limitLine() {
  const name = h("code");
  const from = h("span", {class: "quiet"});
  const bar = level();
  return {
    element: h("div", {class: "limit"}, h("div", {class: "what"}, name, from), bar.element),
    update({limit, stored}) {
      text(name, limit.limit);
      text(from, origin(limit, stored));
      bar.update(limit);
    },
  };
}

function bucketCard({entity, change, refresh}) {
  let bucket = null;
  const title = h("a", {class: "name"});
  const lines = h("div", {class: "limits"});
  const unused = h("p", {class: "quiet"});
  const fill = change && h("button", {type: "button", onclick: () => reset({entity, bucket, done: refresh})}, "Reset …");
  const give = change && h("button", {type: "button", onclick: () => topUp({entity, bucket, done: refresh})}, "Top up …");
  return {
    element: h("article", {class: "card"}, h("header", null, h("h3", null, title), h("div", {class: "buttons"}, give, fill)), lines, unused),
    update(b) {
      bucket = b;
      text(title, b.resource);
      title.href = `#/resource/${encodeURIComponent(b.resource)}`;
      list(lines, b.limits.map((limit) => ({limit, stored: b.stored})), (l) => l.limit.limit_name, limitLine);
      const names = new Set(b.limits.map((l) => l.limit_name));
      const others = (b.stored?.limits ?? []).filter((l) => !names.has(l.limit_name)).map((l) => l.limit);
      text(unused, others.length > 0 ? `Stored for ${scopeText(b.stored)}, and full: ${others.join(", ")}` : "");
      unused.hidden = others.length === 0;
      if (give) give.hidden = !b.limits.some((l) => ["rate", "quota", "window"].includes(l.kind));
    },
  };
}

function scopeRow({change, refresh}) {
  let scope = null;
  const where = h("span", {class: "name"});
  const limits = h("div", {class: "codes"});
  return {
    element: h("div", {class: "scope"}, where, limits, change && h("div", {class: "buttons"},
      h("button", {type: "button", onclick: () => setLimits({scope, limits: scope.limits, done: refresh})}, "Edit …"),
      h("button", {type: "button", onclick: () => deleteLimits({scope, done: refresh})}, "Delete …"))),
    update(s) {
      scope = s;
      text(where, s.resource ? `on ${s.resource}` : "on all resources");
      limits.replaceChildren(...s.limits.map((l) => h("code", null, l.limit)));
    },
  };
}

function facts(o) {
  const e = o.entity;
  if (!e) return [h("span", {class: "quiet"}, "Was not created, which it need not be.")];
  return [
    e.name !== e.id && h("span", null, e.name),
    e.parent_id && h("span", null, "Parent ", h("a", {href: `#/entity/${encodeURIComponent(e.parent_id)}`}, e.parent_id), e.cascade ? ", which is charged too" : ""),
    h("span", {class: "quiet", title: full(new Date(e.created_at))}, `Created ${moment(new Date(e.created_at))}`),
    Object.entries(e.metadata ?? {}).map(([k, v]) => h("span", {class: "chip"}, `${k}: ${v}`)),
  ];
}

export function entity({me, argument: id, refresh, fail}) {
  const change = me.role === "admin";
  let read = 0;
  const again = () => {
    read = 0;
    refresh();
    audit.read();
  };
  const about = h("p", {class: "facts"});
  const state = h("span", {class: "state"});
  const buckets = h("div", {class: "cards"});
  const noBuckets = empty("No bucket is in use", "A bucket that is full again is forgotten. Ask for something:", tryIt(id));
  const scopes = h("div", {class: "scopes"});
  const noScopes = h("p", {class: "quiet"}, "None: those of the resource hold, or those of the system.");
  const children = h("div", {class: "chips"});
  const problem = h("p", {class: "error", role: "alert"});
  const family = h("section", null, h("h2", null, "Children"), children);
  const notes = h("p", {class: "quiet"});
  const usage = usagePanel({entity: id, fail});
  const audit = events({entity: id, limit: 10, fail});
  const actions = change && h("div", {class: "buttons"},
    h("button", {type: "button", onclick: () => setLimits({scope: {entity_id: id}, limits: [], choose: true, done: again})}, "Set limits …"),
    h("button", {type: "button", onclick: () => setSwitch({scope: {entity_id: id}, done: again}).catch(fail)}, "Disable or enable …"));
  const element = h("div", null,
    h("div", {class: "heading"}, h("div", null, h("h1", null, id, " ", state), about), actions), problem,
    h("section", null, h("h2", null, "Buckets"), buckets, noBuckets, notes),
    h("section", null, h("h2", null, "Limits stored for this entity"), scopes, noScopes),
    family,
    h("section", null, h("h2", null, "Usage"), usage.element),
    h("section", null, h("h2", null, "Changes"), audit.element));
  noBuckets.hidden = family.hidden = true;
  return {
    title: id,
    element,
    live: {limit: 1},
    async update(_, signal) {
      if (Date.now() - read < READ) return;
      const o = await get(`/entities/${segment(id)}/overview`, {}, {signal});
      read = Date.now();
      text(problem, "");
      about.replaceChildren(...facts(o).flat().filter(Boolean));
      text(state, states[o.switch] ?? "");
      state.className = `state ${o.switch}`;
      list(buckets, o.buckets, (b) => b.resource, () => bucketCard({entity: id, change, refresh: again}));
      noBuckets.hidden = o.buckets.length > 0;
      list(scopes, o.scopes, (s) => s.resource ?? "", () => scopeRow({change, refresh: again}));
      noScopes.hidden = o.scopes.length > 0;
      family.hidden = o.children.length === 0;
      children.replaceChildren(...o.children.map((c) => h("a", {class: "chip", href: `#/entity/${encodeURIComponent(c.id)}`}, c.id)), o.more_children ? "…" : "");
      text(notes, o.more_buckets ? "These are the first 100." : "");
    },
    failed: (error) => text(problem, error.message),
    close: usage.close,
  };
}
