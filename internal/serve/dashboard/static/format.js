// Numbers, times and spans as people read them.

const plain = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", {notation: "compact", maximumSignificantDigits: 3});
const clockFormat = new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", hourCycle: "h23"});
const dayFormat = new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short"});
const fullFormat = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium", hourCycle: "h23"});

export const number = (n) => (n === null || n === undefined ? "∞" : Math.abs(n) < 1e6 ? plain.format(n) : short.format(n));
export const exact = (n) => (n === null || n === undefined ? "unlimited" : plain.format(n));

// compact fits on an axis.
export const compact = (n) => (Math.abs(n) < 10_000 ? plain.format(n) : short.format(n));

export function percent(share) {
  const p = share * 100;
  if (p === 0 || p >= 10) return `${Math.round(p)} %`;
  return p < 0.1 ? "< 0.1 %" : `${p.toFixed(1)} %`;
}

// span writes seconds in the two units that matter.
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  if (seconds < 0.05) return "now";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  const units = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => total >= size);
  const [size, name] = units[first];
  const rest = units[first + 1];
  const more = rest ? Math.floor((total % size) / rest[0]) : 0;
  return `${Math.floor(total / size)} ${name}${more > 0 ? ` ${more} ${rest[1]}` : ""}`;
}

// wholeSpan is span without tenths.
export const wholeSpan = (seconds) => (seconds < 10 ? `${Math.round(seconds)} s` : span(seconds));

export const clock = (date) => clockFormat.format(date);
export const full = (date) => fullFormat.format(date);

// moment writes a time by the clock if it is today, and by the day otherwise.
export function moment(date, now = new Date()) {
  return date.toDateString() === now.toDateString() ? clock(date) : `${dayFormat.format(date)}, ${clock(date)}`;
}

// window writes the start of a window of usage, which is in UTC.
export function windowStart(text, window) {
  const date = new Date(text);
  const options = {timeZone: "UTC", month: "short"};
  if (window === "monthly") return new Intl.DateTimeFormat(undefined, {...options, year: "numeric"}).format(date);
  if (window === "daily") return new Intl.DateTimeFormat(undefined, {...options, day: "numeric"}).format(date);
  return new Intl.DateTimeFormat(undefined, {...options, day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23"}).format(date);
}

// scopeName names where limits are stored.
export function scopeName(scope) {
  const {entity_id: entity, resource} = scope;
  if (entity && resource) return `${entity} on ${resource}`;
  if (entity) return `${entity}, all resources`;
  if (resource) return `everybody on ${resource}`;
  return "the system";
}

// actions are what the audit log calls changes.
const actions = {
  entity_created: "created the entity",
  entity_deleted: "deleted the entity",
  limits_set: "set limits",
  limits_deleted: "deleted limits",
  switch_enabled: "enabled",
  switch_disabled: "disabled",
  switch_bypass: "let limits be bypassed",
  switch_removed: "removed the switch",
  failure_mode_set: "set the failure mode",
  failure_mode_removed: "removed the failure mode",
  parent_set: "set the parent",
  bucket_reset: "reset a bucket",
  bucket_topped_up: "topped up a bucket",
};
export const action = (name) => actions[name] ?? name.replaceAll("_", " ");
