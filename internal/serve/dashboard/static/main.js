// The page: who is signed in, which view is shown, and when it is told of news.

import * as api from "./api.js";
import {h, text} from "./dom.js";
import {clock, full} from "./format.js";
import {now} from "./now.js";
import {entities} from "./entities.js";
import {entity} from "./entity.js";
import {resources, resource} from "./resources.js";
import {usage} from "./usage.js";
import {limits} from "./limits.js";
import {audit} from "./audit.js";
import {login} from "./login.js";

const POLL = 2000; // milliseconds, while the page is visible

// all: what concerns more than one entity, which a token with a prefix may not see.
const views = [
  {name: "now", title: "Now", make: now},
  {name: "entities", title: "Entities", make: entities},
  {name: "entity", under: "entities", make: entity},
  {name: "resources", title: "Resources", make: resources, all: true},
  {name: "resource", under: "resources", make: resource, all: true},
  {name: "limits", title: "Limits", make: limits},
  {name: "usage", title: "Usage", make: usage},
  {name: "audit", title: "Audit", make: audit},
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const status = document.getElementById("status");

let me = null; // who is signed in
let view = null; // what is shown
let asking = null; // the AbortController of what is under way
let timer = 0;
let failures = 0;

// readHash returns the view that the address names: #/name/argument?parameters.
function readHash() {
  const [path, parameters] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, argument] = path.split("/");
  let decoded = "";
  try {
    decoded = decodeURIComponent(argument ?? "");
  } catch { /* it is not of ours */ }
  return {name: name || "now", argument: decoded, parameters: new URLSearchParams(parameters ?? "")};
}

function showNav(current) {
  const shown = views.filter((v) => v.title && (!v.all || !me.prefix));
  nav.replaceChildren(...shown.map((v) => h("a", {href: `#/${v.name}`, "aria-current": v.name === current ? "page" : null}, v.title)));
}

function showStatus(snapshot) {
  if (!me) {
    status.replaceChildren();
    return;
  }
  const fresh = failures === 0;
  if (!status.firstElementChild) {
    status.append(
      h("span", {class: "dot"}), h("span", {class: "since"}), h("span", {class: "who"}),
      h("button", {type: "button", class: "plain", onclick: signOut, hidden: !api.signedIn()}, "Sign out"),
    );
  }
  status.firstElementChild.className = `dot ${fresh ? "live" : "stale"}`;
  const since = status.querySelector(".since");
  if (!fresh) {
    text(since, "No answer, trying again");
  } else if (snapshot) {
    text(since, `This replica since ${clock(new Date(snapshot.since))}`);
    since.title = `Replica ${snapshot.replica} has counted since ${full(new Date(snapshot.since))}. Others have numbers of their own; those of all are in /metrics.`;
  }
  text(status.querySelector(".who"), me.prefix ? `${me.name}, ${me.prefix}…` : me.name);
}

function signOut() {
  api.setToken("");
  me = null;
  start();
}

// show makes the view of the address.
function show() {
  if (!me) return;
  view?.close?.();
  asking?.abort();
  const {name, argument, parameters} = readHash();
  const known = views.find((v) => v.name === name && (!v.all || !me.prefix)) ?? views[0];
  const context = {me, argument, parameters, refresh: () => tell(), signal: () => asking?.signal, fail: failed};
  view = known.make(context);
  document.title = `${view.title ?? known.title} · zael`;
  showNav(known.under ?? known.name);
  main.replaceChildren(view.element);
  main.scrollTop = 0;
  tell();
}

// tell has the view read what is new, and does so again while the page is visible.
async function tell() {
  clearTimeout(timer);
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  const shown = view;
  try {
    const snapshot = await api.get("/live", {limit: 100, ...shown.live}, {signal: mine.signal});
    if (mine.signal.aborted) return;
    failures = 0;
    showStatus(snapshot);
    await shown.update?.(snapshot, mine.signal);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    failed(error);
  }
  if (!mine.signal.aborted && document.visibilityState === "visible" && me) {
    timer = setTimeout(tell, Math.min(POLL * (1 + failures), 30_000));
  }
}

// failed shows that a call did.
function failed(error) {
  if (!(error instanceof api.Problem)) {
    console.error(error);
    return;
  }
  if (error.status === 401) {
    api.setToken("");
    me = null;
    showLogin("The token is not valid any more.");
    return;
  }
  if (error.status === 0 || error.status >= 500) failures++;
  showStatus();
  view?.failed?.(error);
}

function showLogin(message) {
  view?.close?.();
  view = null;
  clearTimeout(timer);
  asking?.abort();
  nav.replaceChildren();
  status.replaceChildren();
  document.title = "Sign in · zael";
  main.replaceChildren(login(message, async (token) => {
    const who = await api.get("/whoami", {}, {as: token});
    if (who.role !== "read" && who.role !== "admin") {
      throw new Error(`The token ${who.name} has the role ${who.role}. The dashboard needs read or admin.`);
    }
    api.setToken(token);
    enter(who);
  }));
  main.querySelector("input")?.focus();
}

function enter(who) {
  me = who;
  status.replaceChildren();
  show();
}

async function start() {
  try {
    const who = await api.get("/whoami");
    if (who.role !== "read" && who.role !== "admin") throw new api.Problem(401, {});
    enter(who);
  } catch (error) {
    if (error instanceof api.Problem && error.status === 401) {
      const stale = api.signedIn();
      api.setToken("");
      showLogin(stale ? "The token is not valid any more." : "");
      return;
    }
    main.replaceChildren(h("div", {class: "empty"},
      h("p", {class: "title"}, "The server does not let this page in"), h("p", null, error.message),
      h("button", {type: "button", onclick: start}, "Try again")));
  }
}

addEventListener("hashchange", () => {
  show();
  main.focus({preventScroll: true});
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && me && view) tell();
  else clearTimeout(timer);
});
start();
