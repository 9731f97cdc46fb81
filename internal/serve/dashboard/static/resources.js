// Resources, and one of them: its limits, what they refused, and who uses how much of them.

import {get, segment} from "./api.js";
import {empty, h, list, table, text} from "./dom.js";
import {exact, number, percent} from "./format.js";
import {bars, meter} from "./charts.js";
import {setLimits, deleteLimits, setSwitch} from "./edit.js";
import {limitTable, minuteLabels, nearTable, tryIt} from "./now.js";

export function resources({fail}) {
  const body = h("tbody");
  const box = table("Resources", [{name: "Resource"}, {name: "Admitted, last hour", class: "number"}, {name: "Refused, last hour", class: "number"}], body);
  const none = empty("No resource is in use", "A resource is whatever is limited, such as a model or an endpoint:", tryIt());
  const more = h("button", {type: "button"}, "More");
  let names = [];
  let next = null;
  let counts = new Map();
  function row() {
    const name = h("a", {class: "name"});
    const admitted = h("td", {class: "number"});
    const refused = h("td", {class: "number"});
    return {
      element: h("tr", null, h("td", {class: "names"}, name), admitted, refused),
      update(resource) {
        const c = counts.get(resource);
        text(name, resource);
        name.href = `#/resource/${encodeURIComponent(resource)}`;
        text(admitted, c ? number(c.admitted) : "");
        text(refused, c ? number(c.refused) : "");
        refused.className = `number ${c?.refused > 0 ? "bad" : ""}`;
      },
    };
  }
  function paint() {
    list(body, names, (n) => n, row);
    box.hidden = names.length === 0;
    none.hidden = names.length > 0;
    more.hidden = next === null;
  }
  async function read(cursor) {
    const page = await get("/resources", {limit: 200, cursor});
    names = cursor ? names.concat(page.resources) : page.resources;
    next = page.next;
    paint();
  }
  more.addEventListener("click", () => read(next).catch(fail));
  box.hidden = none.hidden = more.hidden = true;
  read().catch(fail);
  return {
    element: h("div", null, h("h1", null, "Resources"), box, none, h("p", null, more)),
    live: {limit: 300},
    update(snapshot) {
      counts = new Map();
      for (const l of snapshot.limits) { // a request is admitted by all limits, and refused by one or more
        const c = counts.get(l.resource) ?? {admitted: 0, refused: 0};
        counts.set(l.resource, {admitted: Math.max(c.admitted, l.sum_admitted), refused: Math.max(c.refused, l.sum_refused)});
      }
      const listed = new Set(names);
      if (next === null && [...counts.keys()].some((n) => !listed.has(n))) return read();
      return paint();
    },
  };
}

function capacityPanel(resource, fail) {
  const known = h("datalist", {id: "capacity-limits"});
  const choose = h("input", {id: "capacity-limit", type: "search", list: "capacity-limits", required: true, autocomplete: "off", spellcheck: "false"});
  const load = h("button", {type: "submit"}, "Read");
  const form = h("form", {class: "bar"}, h("label", {for: "capacity-limit"}, "Limit"), choose, known, load);
  const sums = h("p", {class: "quiet"}, "Reads all buckets of the resource from the store, so it is not read by itself.");
  const body = h("tbody");
  const box = table("Entities by use", [{name: "Entity"}, {name: "Used"}, {name: "Available", class: "number"}, {name: "Capacity", class: "number"}], body);
  box.hidden = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    load.disabled = true;
    try {
      const all = await get(`/resources/${segment(resource)}/capacity`, {limit_name: choose.value.trim(), limit: 1000});
      text(sums, `${exact(all.total_available)} of ${exact(all.total_capacity)} are available to ${exact(all.entities.length)}${all.next ? " and more" : ""} entities in use: ${percent(all.utilization_pct / 100)} used.`);
      const sorted = all.entities.sort((a, b) => b.utilization_pct - a.utilization_pct);
      body.replaceChildren(...sorted.map((e) => {
        const bar = meter();
        bar.draw(e.utilization_pct / 100, `${percent(e.utilization_pct / 100)} used`);
        return h("tr", null, h("td", {class: "names"}, h("a", {class: "name", href: `#/entity/${encodeURIComponent(e.entity_id)}`}, e.entity_id)),
          h("td", {class: "wide"}, h("div", {class: "level"}, bar.element, h("div", {class: "numbers"}, h("span", null, percent(e.utilization_pct / 100))))),
          h("td", {class: "number"}, number(e.available)), h("td", {class: "number"}, number(e.capacity)));
      }));
      box.hidden = sorted.length === 0;
    } catch (error) {
      text(sums, error.message);
      fail(error);
    } finally {
      load.disabled = false;
    }
  });
  return {
    element: h("div", null, form, sums, box),
    names(names) {
      if (names.length === known.options.length) return;
      known.replaceChildren(...names.map((n) => h("option", {value: n})));
      if (choose.value === "" && document.activeElement !== choose) choose.value = names[0];
    },
  };
}

export function resource({me, argument: name, fail}) {
  const change = me.role === "admin";
  const chart = bars({title: "Refused and admitted by the minute"});
  const choose = h("select", {id: "chart-limit"});
  const table_ = limitTable();
  const near = nearTable();
  const stored = h("div", {class: "scopes"});
  const capacity = capacityPanel(name, fail);
  const none = empty("Nothing was asked of it through this replica in the last hour", "Other replicas have numbers of their own.", tryIt("key-1", name));
  const traffic = h("div", null, h("section", null, h("div", {class: "bar"}, h("label", {for: "chart-limit"}, "Limit"), choose), chart.element), h("section", null, table_.element),
    h("section", null, h("h2", null, "Near or at a limit"), near.element));
  const scope = {resource: name};
  const state = h("span", {class: "state"});
  let last = null;
  function paint() {
    const l = last?.limits.find((one) => one.limit_name === choose.value) ?? last?.limits[0];
    if (!l) return;
    chart.draw({
      labels: minuteLabels(last), whole: "last hour",
      series: [{name: "admitted", class: "admitted", values: l.admitted}, {name: "refused by it", class: "refused", values: l.refused}],
    });
  }
  async function read() {
    const [{limits}, settings] = await Promise.all([get(`/resources/${segment(name)}/limits`), get(`/resources/${segment(name)}/settings`)]);
    stored.replaceChildren(h("div", {class: "scope"},
      limits.length > 0 ? h("div", {class: "codes"}, limits.map((l) => h("code", null, l.limit))) : h("span", {class: "quiet"}, "None: those of the system hold for whoever has none."),
      change && h("div", {class: "buttons"},
        h("button", {type: "button", onclick: () => setLimits({scope, limits, done: again})}, limits.length > 0 ? "Edit …" : "Set limits …"),
        limits.length > 0 && h("button", {type: "button", onclick: () => deleteLimits({scope, done: again})}, "Delete …"))));
    text(state, settings.switch === "disabled" ? "Disabled" : settings.switch === "bypass" ? "Limits are bypassed" : "");
    state.className = `state ${settings.switch}`;
  }
  const again = () => read().catch(fail);
  choose.addEventListener("change", paint);
  traffic.hidden = none.hidden = true;
  again();
  return {
    title: name,
    element: h("div", null,
      h("div", {class: "heading"}, h("h1", null, name, " ", state),
        change && h("div", {class: "buttons"}, h("button", {type: "button", onclick: () => setSwitch({scope, done: again}).catch(fail)}, "Disable or enable …"))),
      none, traffic,
      h("section", null, h("h2", null, "Limits stored for everybody on it"), stored),
      h("section", null, h("h2", null, "Entities by use"), capacity.element)),
    live: {resource: name, limit: 100},
    update(snapshot) {
      last = snapshot;
      none.hidden = snapshot.limits.length > 0;
      traffic.hidden = snapshot.limits.length === 0;
      const names = snapshot.limits.map((l) => l.limit_name);
      capacity.names(names);
      if (names.length !== choose.options.length) choose.replaceChildren(...names.map((n) => h("option", {value: n}, n)));
      table_.update(snapshot.limits, snapshot.more_limits);
      near.update(snapshot.near, snapshot.more_near);
      paint();
    },
    close: chart.close,
  };
}
