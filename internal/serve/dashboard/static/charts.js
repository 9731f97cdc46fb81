// Charts drawn as SVG, at the width that there is, and again when it changes.

import {h, s, text} from "./dom.js";
import {compact} from "./format.js";

// steps returns round numbers from 0 up to at least most.
function steps(most) {
  const rough = Math.max(most, 1) / 4;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * magnitude).find((n) => n >= rough));
  const all = [];
  for (let n = 0; all.length < 2 || all.at(-1) < most; n += step) all.push(n);
  return all;
}

const LEFT = 44;
const BOTTOM = 20;
const TOP = 8;

// bars makes a chart of stacked bars with a heading that tells what is under the pointer, or
// chosen by the arrow keys. draw({labels, series: [{name, class, values}]}) shows other data.
export function bars({title, height = 180, describe}) {
  const svg = s("svg", {class: "plot", role: "img", tabindex: "0", height});
  const legend = h("div", {class: "legend"});
  const figure = h("figure", null, h("figcaption", null, h("span", {class: "name"}, title), legend), svg);
  let data = {labels: [], series: []};
  let chosen = -1;

  function showLegend() {
    const at = chosen >= 0 && chosen < data.labels.length ? chosen : -1;
    const items = data.series.map((one) => {
      const value = at >= 0 ? one.values[at] : one.values.reduce((a, b) => a + b, 0);
      return h("span", {class: "key"}, h("span", {class: `swatch ${one.class}`}), `${one.name} `, h("b", null, compact(value)));
    });
    legend.replaceChildren(...items, h("span", {class: "when"}, at >= 0 ? data.labels[at] : data.whole ?? ""));
  }

  function paint() {
    if (data.labels.length === 0) return; // nothing was drawn yet
    const width = Math.max(svg.clientWidth, 200);
    const n = data.labels.length;
    const sums = data.labels.map((_, i) => data.series.reduce((sum, one) => sum + Math.max(0, one.values[i]), 0));
    const marks = steps(Math.max(...sums, 0));
    const top = marks.at(-1);
    const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - value / top);
    const step = (width - LEFT - 4) / Math.max(n, 1);
    const thick = Math.max(1, Math.min(28, step - Math.max(1, step * 0.2)));
    const parts = marks.flatMap((value) => [
      s("line", {class: "grid", x1: LEFT, x2: width, y1: y(value), y2: y(value)}),
      s("text", {class: "tick", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end"}, compact(value)),
    ]);
    if (chosen >= 0 && chosen < n) {
      parts.push(s("rect", {class: "chosen", x: LEFT + chosen * step, y: TOP, width: step, height: height - TOP - BOTTOM}));
    }
    data.labels.forEach((_, i) => {
      let base = 0;
      for (const one of data.series) {
        const value = Math.max(0, one.values[i]);
        if (value === 0) continue;
        const x = LEFT + i * step + (step - thick) / 2;
        const rise = Math.max(1, y(base) - y(base + value));
        parts.push(s("rect", {class: one.class, x, y: y(base) - rise, width: thick, height: rise}));
        base += value;
      }
    });
    const every = Math.max(1, Math.ceil(n / Math.max(1, Math.floor((width - LEFT) / 74))));
    for (let i = n - 1; i >= 0; i -= every) {
      const x = LEFT + i * step + step / 2;
      const end = x > width - 30;
      parts.push(s("text", {class: "tick", x: end ? width - 2 : x, y: height - 4, "text-anchor": end ? "end" : "middle"}, data.ticks?.[i] ?? data.labels[i]));
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", describe ? describe(data) : title);
    svg.replaceChildren(...parts);
    showLegend();
  }

  function choose(i) {
    const next = Math.max(-1, Math.min(data.labels.length - 1, i));
    if (next === chosen) return;
    chosen = next;
    paint();
  }
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    choose(Math.floor((event.clientX - box.left - LEFT) / ((box.width - LEFT - 4) / Math.max(data.labels.length, 1))));
  });
  svg.addEventListener("pointerleave", () => choose(-1));
  svg.addEventListener("blur", () => choose(-1));
  svg.addEventListener("keydown", (event) => {
    const moves = {ArrowLeft: (chosen < 0 ? data.labels.length : chosen) - 1, ArrowRight: chosen + 1, Home: 0, End: data.labels.length - 1, Escape: -1};
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });
  const observer = new ResizeObserver(paint);
  observer.observe(svg);
  return {
    element: figure,
    draw(next) {
      data = next;
      if (svg.isConnected) paint();
    },
    rename: (name) => text(figure.querySelector(".name"), name),
    close: () => observer.disconnect(),
  };
}

// spark makes a small chart of one row of numbers.
export function spark(label, kind) {
  const width = 180;
  const height = 28;
  const svg = s("svg", {class: "spark", role: "img", viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: "none"});
  return {
    element: svg,
    draw(values) {
      const most = Math.max(...values, 1);
      const step = width / values.length;
      svg.setAttribute("aria-label", `${label}: ${values.reduce((a, b) => a + b, 0)} in the last hour, at most ${Math.max(...values)} a minute`);
      svg.replaceChildren(
        s("line", {class: "base", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5}),
        ...values.map((value, i) => {
          const rise = value > 0 ? Math.max(2, (height - 2) * (value / most)) : 0;
          return rise && s("rect", {class: kind, x: i * step, y: height - rise, width: Math.max(1, step - 0.6), height: rise});
        }).filter(Boolean),
      );
    },
  };
}

// meter makes a bar that fills as a limit is used up.
export function meter() {
  const fill = h("span");
  const bar = h("div", {class: "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100}, fill);
  return {
    element: bar,
    draw(used, label, soft) {
      const share = Math.max(0, Math.min(1, used));
      fill.style.width = `${share * 100}%`;
      bar.className = `meter ${used >= 1 && !soft ? "full" : used >= 0.8 ? "near" : ""}`;
      bar.setAttribute("aria-valuenow", String(Math.round(share * 100)));
      bar.setAttribute("aria-label", label);
    },
  };
}
