// How one limit stands: what all views that show levels have in common.

import {h, text} from "./dom.js";
import {exact, number, moment, percent, span} from "./format.js";
import {meter} from "./charts.js";

// usedShare returns which share of a limit is used; above 1 is debt.
export function usedShare(s) {
  if (s.kind === "unlimited") return 0;
  if (s.kind === "block") return 1;
  return s.burst > 0 ? (s.burst - s.available) / s.burst : 1;
}

// left tells what is left of a limit.
export function left(s) {
  switch (s.kind) {
    case "block": return "blocked";
    case "unlimited": return "unlimited";
    case "slots": return `${number(s.burst - s.available)} of ${number(s.burst)} held`;
    default:
      if (s.available < 0) return `${number(-s.available)} in debt`;
      return `${number(s.available)} of ${number(s.burst)} left`;
  }
}

// back tells when a limit is whole again.
export function back(s) {
  if (s.kind === "block" || s.kind === "unlimited") return "";
  if (s.resets_at) return `resets in ${span((new Date(s.resets_at) - Date.now()) / 1000)}`;
  if (s.kind === "slots") return s.available < s.burst ? "free when released" : "all free";
  if (s.available >= s.burst) return "full";
  return s.full_in_seconds === null ? "never full" : `full in ${span(s.full_in_seconds)}`;
}

// level makes the bar of a limit with its numbers.
export function level() {
  const bar = meter();
  const numbers = h("span", {class: "left"});
  const when = h("span", {class: "back"});
  return {
    element: h("div", {class: "level"}, bar.element, h("div", {class: "numbers"}, numbers, when)),
    update(s) {
      bar.draw(usedShare(s), `${s.limit_name}: ${percent(Math.max(0, usedShare(s)))} used`, s.soft);
      text(numbers, left(s));
      text(when, back(s));
      numbers.title = s.available === null ? "" : `${exact(s.available)} of ${exact(s.burst)} left`;
      when.title = s.resets_at ? `at ${moment(new Date(s.resets_at))}` : "";
    },
  };
}
