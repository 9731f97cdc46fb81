// What was used, by entity, resource and window.

import {get} from "./api.js";
import {empty, h, table, text} from "./dom.js";
import {exact, number, windowStart} from "./format.js";
import {bars} from "./charts.js";

const LENGTH = {hourly: [24, 3600], daily: [31, 86_400], monthly: [12, 2_678_400]};

// starts returns the starts of the latest windows, the oldest first.
function starts(window) {
  const now = new Date();
  const [n] = LENGTH[window];
  return Array.from({length: n}, (_, i) => {
    const back = n - 1 - i;
    if (window === "monthly") return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1));
    const size = LENGTH[window][1] * 1000;
    return new Date(Math.floor(now.getTime() / size) * size - back * size);
  });
}

// usagePanel shows the usage of an entity, a resource, or an entity on a resource.
export function usagePanel({entity = "", resource = "", window = "hourly", fail, rows = false}) {
  const choose = h("select", {id: "usage-limit", "aria-label": "Limit"});
  const windows = h("select", {id: "usage-window", "aria-label": "Window"}, Object.keys(LENGTH).map((w) => h("option", {value: w, selected: w === window}, w)));
  const chart = bars({title: "Usage"});
  const box = h("div");
  const none = h("div");
  const totals = h("p", {class: "quiet"});
  const head = h("div", {class: "bar"}, windows, choose);
  const body = h("div", null, chart.element, totals, box);
  let all = null;
  body.hidden = true;

  function paint() {
    const at = starts(windows.value);
    const sums = new Map();
    for (const r of all.records) {
      const key = new Date(r.start).getTime();
      sums.set(key, (sums.get(key) ?? 0) + (choose.value === "" ? r.events : r.amounts[choose.value] ?? 0));
    }
    chart.rename(choose.value === "" ? "Acquires" : `${choose.value}, in tokens`);
    chart.draw({
      labels: at.map((d) => windowStart(d, windows.value)), whole: "in all",
      ticks: windows.value === "hourly" ? at.map((d) => `${String(d.getUTCHours()).padStart(2, "0")}:00`) : undefined,
      series: [{name: choose.value || "acquires", class: "level-fill", values: at.map((d) => sums.get(d.getTime()) ?? 0)}],
    });
    const over = (counts) => Object.entries(counts ?? {}).map(([name, n]) => `${exact(n)} of ${name}`).join(", ");
    const amounts = Object.entries(all.amounts).map(([name, n]) => `${exact(n)} ${name}`).join(", ");
    text(totals, `${exact(all.events)} acquires: ${amounts}.${all.overdrawn ? ` Acquires that left a soft limit overdrawn: ${over(all.overdrawn)}.` : ""} Windows are in UTC.${all.next ? " The chart has the newest 1000 records." : ""}`);
    if (!rows) return;
    const columns = [{name: "From, UTC"}, {name: "Entity"}, {name: "Resource"}, {name: "Acquires", class: "number"}, {name: "Tokens", class: "number"}];
    if (all.overdrawn) columns.push({name: "Overdrawn", class: "number"});
    box.replaceChildren(table("Records of usage", columns, h("tbody", null, all.records.slice(0, 200).map((r) => h("tr", null,
      h("td", {class: "quiet"}, windowStart(r.start, windows.value)),
      h("td", {class: "names"}, h("a", {class: "name", href: `#/entity/${encodeURIComponent(r.entity_id)}`}, r.entity_id)), h("td", {class: "names"}, r.resource),
      h("td", {class: "number"}, number(r.events)),
      h("td", {class: "number"}, Object.entries(r.amounts).map(([name, n]) => `${number(n)} ${name}`).join(", ")),
      all.overdrawn ? h("td", {class: "number"}, over(r.overdrawn)) : null)))));
  }
  async function read() {
    try {
      all = await get("/usage", {entity, resource, window: windows.value, from: starts(windows.value)[0].toISOString(), limit: 1000});
      const names = Object.keys(all.amounts).sort();
      const before = choose.value;
      choose.replaceChildren(h("option", {value: ""}, "acquires"), ...names.map((n) => h("option", {value: n}, n)));
      choose.value = names.includes(before) ? before : "";
      body.hidden = all.records.length === 0;
      choose.hidden = body.hidden;
      none.replaceChildren(body.hidden ? empty("Nothing was used in this time", "Usage is counted when something is taken.") : "");
      if (!body.hidden) paint();
    } catch (error) {
      body.hidden = true;
      const unsupported = error.code === "unsupported";
      none.replaceChildren(empty(unsupported ? "This store does not count usage" : "Usage cannot be read", unsupported ? "SQLite counts by itself, a table in DynamoDB with an aggregator, memory with memory:?usage=true." : error.message));
      if (!unsupported) fail(error);
    }
  }
  windows.addEventListener("change", read);
  choose.addEventListener("change", paint);
  read();
  return {element: h("div", null, head, none, body), close: chart.close};
}

export function usage({me, parameters, fail}) {
  const entity = h("input", {id: "usage-entity", type: "search", value: parameters.get("entity") ?? "", placeholder: me.prefix ? `${me.prefix}…` : "all", autocomplete: "off", spellcheck: "false"});
  const known = h("datalist", {id: "known-resources"});
  const resource = h("input", {id: "usage-resource", type: "search", list: "known-resources", value: parameters.get("resource") ?? "", placeholder: "all", autocomplete: "off", spellcheck: "false"});
  const form = h("form", {class: "bar"}, h("label", {for: "usage-entity"}, "Entity"), entity, h("label", {for: "usage-resource"}, "Resource"), resource, known, h("button", {type: "submit"}, "Show"));
  const place = h("div");
  let panel = null;
  function show() {
    panel?.close();
    panel = null;
    const of = {entity: entity.value.trim(), resource: resource.value.trim()};
    if (!of.entity && (me.prefix || !of.resource)) {
      place.replaceChildren(empty(me.prefix ? "Name an entity" : "Name an entity or a resource", "Usage is kept by the hour, day and month, for each entity on each resource."));
      return;
    }
    panel = usagePanel({...of, fail, rows: true});
    place.replaceChildren(panel.element);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    if (entity.value.trim()) query.set("entity", entity.value.trim());
    if (resource.value.trim()) query.set("resource", resource.value.trim());
    history.replaceState(null, "", `#/usage?${query}`);
    show();
  });
  show();
  if (!me.prefix) {
    get("/resources", {limit: 1000}).then(({resources}) => {
      known.replaceChildren(...resources.map((name) => h("option", {value: name})));
      if (!entity.value && !resource.value && resources.length === 1) {
        resource.value = resources[0];
        show();
      }
    }).catch(() => {});
  }
  return {element: h("div", null, h("h1", null, "Usage"), form, place), live: {limit: 1}, close: () => panel?.close()};
}
