// What is going on: requests by the minute, who is near a limit, and which limits refuse.

import {command, empty, h, list, table, text} from "./dom.js";
import {bars, spark} from "./charts.js";
import {clock, number, percent, wholeSpan} from "./format.js";
import {level, usedShare} from "./limitrow.js";
import {signedIn} from "./api.js";

const sum = (values) => values.reduce((a, b) => a + b, 0);

// minuteLabels returns what the minutes of a snapshot are called.
export function minuteLabels(snapshot) {
  const last = Math.floor(new Date(snapshot.now).getTime() / 60_000);
  const n = snapshot.total?.admitted.length ?? 60;
  return Array.from({length: n}, (_, i) => clock(new Date((last - n + 1 + i) * 60_000)));
}

// tryIt is a request to try.
export function tryIt(entity = "key-1", resource = "gpt-4") {
  const token = signedIn() ? " -H \"Authorization: Bearer $ZAEL_TOKEN\"" : "";
  const body = JSON.stringify({entity, resource, limits: ["rpm=3/min"]}).replaceAll("'", "'\\''");
  return command(`curl -s ${location.origin}/v1/acquire${token} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`);
}

function tile(label, kind) {
  const value = h("span", {class: "value"});
  const note = h("span", {class: "note"});
  return {
    element: h("div", {class: `tile ${kind}`}, h("span", {class: "label"}, label), value, note),
    update(v, n) {
      text(value, v);
      text(note, n);
    },
  };
}

function nearRow() {
  const who = h("a", {class: "name"});
  const resource = h("td");
  const limit = h("code");
  const bar = level();
  const refused = h("td", {class: "number refusals"});
  const seen = h("td", {class: "number quiet seen"});
  return {
    element: h("tr", null, h("td", {class: "names"}, who), resource, h("td", {class: "of"}, limit), h("td", {class: "wide"}, bar.element), refused, seen),
    update(s) {
      text(who, s.entity_id);
      who.title = s.entity_id;
      who.href = `#/entity/${encodeURIComponent(s.entity_id)}`;
      text(resource, s.resource);
      text(limit, s.limit);
      bar.update(s);
      text(refused, s.refused > 0 ? number(s.refused) : "");
      refused.classList.toggle("bad", s.refused > 0);
      text(seen, s.seen_seconds_ago < 1 ? "now" : `${wholeSpan(s.seen_seconds_ago)} ago`);
    },
  };
}

// nearTable makes the table of who is near a limit.
export function nearTable() {
  const body = h("tbody");
  const columns = [{name: "Entity"}, {name: "Resource"}, {name: "Limit"}, {name: "Level"}, {name: "Refused, 2 min", class: "number"}, {name: "Seen", class: "number"}];
  const box = table("Near or at a limit", columns, body, "near-table");
  const none = empty("Nobody is near a limit", "Who has 20 % left or less, or was refused a moment ago, is listed here.");
  const more = h("p", {class: "quiet more"});
  return {
    element: h("div", null, box, none, more),
    update(near, others) {
      list(body, near, (s) => `${s.entity_id}\n${s.resource}\n${s.limit_name}`, nearRow);
      box.hidden = near.length === 0;
      none.hidden = near.length > 0;
      text(more, others > 0 ? `and ${number(others)} more` : "");
    },
  };
}

function limitRow() {
  const resource = h("a", {class: "name"});
  const limit = h("code");
  const refused = spark("Refused", "refused");
  const cells = {
    refused: h("td", {class: "number refusals"}), share: h("td", {class: "number share"}), admitted: h("td", {class: "number admissions"}), tokens: h("td", {class: "number tokens"}),
  };
  return {
    element: h("tr", null, h("td", {class: "names"}, resource), h("td", {class: "of"}, limit), h("td", {class: "sparks"}, refused.element), cells.refused, cells.share, cells.admitted, cells.tokens),
    update(l) {
      text(resource, l.resource);
      resource.href = `#/resource/${encodeURIComponent(l.resource)}`;
      text(limit, l.limit_name);
      refused.draw(l.refused);
      text(cells.refused, number(l.sum_refused));
      cells.refused.classList.toggle("bad", l.sum_refused > 0);
      const asked = l.sum_refused + l.sum_admitted;
      text(cells.share, asked > 0 ? percent(l.sum_refused / asked) : "");
      text(cells.admitted, number(l.sum_admitted));
      text(cells.tokens, l.kind === "slots" ? "" : number(l.sum_tokens));
    },
  };
}

// limitTable makes the table of limits with what they refused in the last hour.
export function limitTable() {
  const body = h("tbody");
  const columns = [
    {name: "Resource"}, {name: "Limit"}, {name: "Refused, by the minute"}, {name: "Refused", class: "number"}, {name: "Share", class: "number"},
    {name: "Admitted", class: "number"}, {name: "Tokens taken", class: "number"},
  ];
  const box = table("Refused by limit in the last hour", columns, body, "limit-table");
  const more = h("p", {class: "quiet more"});
  return {
    element: h("div", null, box, more),
    update(limits, others) {
      list(body, limits, (l) => `${l.resource}\n${l.limit_name}`, limitRow);
      text(more, others > 0 ? `and ${number(others)} more` : "");
    },
  };
}

export function now({me}) {
  const tiles = {
    rate: tile("Requests a minute", ""), admitted: tile("Admitted, last hour", "admitted"),
    refused: tile("Refused, last hour", "refused"), near: tile("Near or at a limit", "near"),
  };
  const chart = bars({
    title: "Requests by the minute",
    describe: (d) => `Requests by the minute in the last hour: ${sum(d.series[0].values)} admitted, ${sum(d.series[1].values)} refused`,
  });
  const near = nearTable();
  const limits = limitTable();
  const sums = h("div", null, h("section", {class: "tiles", "aria-label": "In short"}, Object.values(tiles).map((t) => t.element)), h("section", null, chart.element));
  const refusals = h("section", null, h("h2", null, "Refused by limit, last hour"), limits.element);
  const traffic = h("div", null, sums, h("section", null, h("h2", null, "Near or at a limit"), near.element), refusals);
  const quiet = empty("Nothing was asked of this replica yet", "Ask for something, a few times within a minute:", tryIt());
  const first = h("p", {class: "quiet", role: "status"}, "Reading …");
  traffic.hidden = quiet.hidden = true;
  return {
    element: h("div", null, h("h1", {class: "unseen"}, "Now"), first, quiet, traffic),
    update(snapshot) {
      const total = snapshot.total;
      const counts = total && [total.admitted, total.refused, total.degraded, total.failed];
      const asked = total ? sum(counts.map(sum)) : 1; // what is not known is shown as traffic
      first.hidden = true;
      quiet.hidden = asked > 0;
      traffic.hidden = asked === 0;
      sums.hidden = refusals.hidden = !total;
      near.update(snapshot.near, snapshot.more_near);
      if (!total || asked === 0) return;
      const before = counts.map((c) => c.at(-2));
      const current = counts.map((c) => c.at(-1));
      const [admitted, refused, degraded, broken] = counts.map(sum);
      tiles.rate.update(number(sum(before)), `${number(sum(current))} so far in this one`);
      tiles.admitted.update(number(admitted), degraded > 0 ? `and ${number(degraded)} without a charge` : `of ${number(asked)}`);
      tiles.refused.update(number(refused), broken > 0 ? `and ${number(broken)} failed` : percent(refused / asked));
      const at = snapshot.near.filter((s) => usedShare(s) >= 1).length;
      tiles.near.update(number(snapshot.near.length + snapshot.more_near), at > 0 ? `${number(at)} with nothing left` : "20 % left, or refused just now");
      const series = [{name: "admitted", class: "admitted", values: total.admitted}, {name: "refused", class: "refused", values: total.refused}];
      if (degraded > 0) series.push({name: "without a charge", class: "waited", values: total.degraded});
      if (broken > 0) series.push({name: "failed", class: "failed", values: total.failed});
      chart.draw({labels: minuteLabels(snapshot), series, whole: "last hour"});
      limits.update(snapshot.limits.filter((l) => l.sum_refused > 0 || l.sum_admitted > 0), snapshot.more_limits);
    },
    failed: (error) => text(first, error.message),
    close: chart.close,
    me,
  };
}
