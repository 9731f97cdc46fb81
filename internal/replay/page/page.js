"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const section = document.getElementById("charts");
  const color = name => () => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const faint = name => () => color(name)() + "30";
  const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
  const fine = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
  const full = {format: v => (v < 100 ? fine : whole).format(v)};
  const short = new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3});
  const digits = data.step < 1 ? 23 : data.step < 60 ? 19 : 16;
  const time = s => new Date(Math.round(s * 1000)).toISOString().replace("T", " ").slice(0, digits);

  // One point at the start of each step, and one where the last step ends.
  const n = data.requests.length;
  const x = Array.from({length: n + 1}, (_, i) => data.from + i * data.step);
  const ended = values => [...values, values[values.length - 1]];
  const stepped = uPlot.paths.stepped({align: 1});
  const charts = [];
  const cursor = {
    sync: {key: "zael", scales: ["x", null]},
    drag: {x: true, y: false},
    points: {show: false},
  };

  const area = (label, name, values, fill = true) => ({
    data: () => ended(values),
    options: {
      label, stroke: color(name), fill: fill ? faint(name) : undefined, width: 1.5, paths: stepped,
      points: {show: false}, value: (_, v) => v == null ? "–" : full.format(v),
    },
  });
  const rule = (label, value) => ({
    data: xs => xs.map(() => value),
    options: {
      label, stroke: color("text"), width: 1, dash: [5, 4],
      points: {show: false}, value: () => full.format(value),
    },
  });

  // Labels of the time axis, by the distance of its marks. The part after the
  // newline is shown where a year, day or minute begins.
  const none = null, day = "\n{D} {MMM}", year = day + " {YYYY}", minute = "\n{HH}:{mm}";
  const labels = [
    [31536000, "{YYYY}", none, none, none, none, none, none, 1],
    [2419200, "{MMM}", "\n{YYYY}", none, none, none, none, none, 1],
    [86400, "{D} {MMM}", "\n{YYYY}", none, none, none, none, none, 1],
    [60, "{HH}:{mm}", year, none, day, none, none, none, 1],
    [1, ":{ss}", year + " {HH}:{mm}", none, day + " {HH}:{mm}", none, minute, none, 1],
    [0.001, ":{ss}.{fff}", year + " {HH}:{mm}", none, day + " {HH}:{mm}", none, minute, none, 1],
  ];

  function chart(title, note, series, xs = x) {
    const figure = document.createElement("figure");
    const caption = figure.appendChild(document.createElement("figcaption"));
    caption.textContent = title + " ";
    caption.appendChild(document.createElement("span")).textContent = note;
    section.appendChild(figure);
    const style = getComputedStyle(figure);
    const width = () => figure.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const axis = {stroke: color("quiet"), grid: {stroke: color("grid"), width: 1}, ticks: {stroke: color("rule"), width: 1}};
    const plot = new uPlot({
      width: width(), height: 220, cursor,
      tzDate: s => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"),
      scales: {y: {range: (_, min, max) => [0, (max || 1) * 1.05]}},
      axes: [{...axis, values: labels}, {...axis, size: 56, values: (_, marks) => marks.map(v => short.format(v))}],
      series: [{label: "from", value: (_, s) => s == null ? "–" : time(s)}, ...series.map(s => s.options)],
    }, [xs, ...series.map(s => s.data(xs))], figure);
    new ResizeObserver(() => plot.setSize({width: width(), height: 220})).observe(figure);
    charts.push(plot);
  }

  const requests = [area("asked", "demand", data.requests), area("admitted", "admitted", data.admitted)];
  if (data.waited) requests.push(area("admitted after a wait", "waited", data.waited, false));
  chart("Requests", "in each step", requests);
  const all = data.many ? ", of all entities together" : "", fullest = data.many ? ", of the fullest entity" : "";
  const level = (l, what, most) => [area(what, "level", l.level), rule(most, l.burst)];
  const kinds = {
    rate(l) {
      const demand = [area("asked", "demand", l.demand), area("admitted", "admitted", l.admitted)];
      if (l.rate) demand.push(rule("refill", l.rate));
      chart(l.name + ": demand", "tokens a " + l.period + all, demand);
      chart(l.name + ": level", "tokens taken and not yet refilled, the highest in each step" + fullest, level(l, "level", "burst"));
    },
    quota(l) {
      if (l.periods) {
        const p = l.periods;
        chart(l.name + ": use per period", p.note,
          [area("asked", "demand", p.asked), area("used", "admitted", p.used), rule("amount", l.burst)], [...p.from, p.to]);
      }
      chart(l.name + ": used so far", "tokens in the period that is on, the highest in each step" + fullest, level(l, "used", "amount"));
    },
    slots(l) {
      chart(l.name + ": in flight", "slots held, the highest in each step" + fullest,
        [area("if none were refused", "demand", l.lenient), ...level(l, "in flight", "slots")]);
    },
    uncounted(l) {
      chart(l.name + ": demand", "tokens in each step" + all, [area("asked", "demand", l.demand), area("admitted", "admitted", l.admitted)]);
    },
  };
  kinds.window = kinds.quota;
  for (const l of data.limits) (kinds[l.kind] || kinds.uncounted)(l);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(c => c.redraw()));
})();
