// Dialogs that change something. Each says what the server answers, and closes when it is done.

import {get, post, put, remove, scopePath, segment} from "./api.js";
import {h, text} from "./dom.js";
import {exact, scopeName} from "./format.js";

// open shows a dialog. submit is called with the form's elements, and may throw; what it returns
// is shown when it is done, if that is a list of elements.
function open({title, body, action, danger, submit, done, failed}) {
  const error = h("p", {class: "error", role: "alert"});
  const confirm = h("button", {type: "submit", class: danger ? "primary danger" : "primary"}, action);
  const cancel = h("button", {type: "button", onclick: () => dialog.close()}, "Cancel");
  const form = h("form", null, h("h2", null, title), body, error, h("div", {class: "buttons"}, cancel, confirm));
  const dialog = h("dialog", {"aria-label": title}, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    text(error, "");
    try {
      const notice = await submit(form.elements);
      done();
      if (Array.isArray(notice)) form.replaceChildren(h("h2", null, "Done"), ...notice, h("div", {class: "buttons"}, h("button", {type: "button", class: "primary", autofocus: true, onclick: () => dialog.close()}, "Close")));
      else dialog.close();
    } catch (problem) {
      text(error, problem.message);
      failed?.(problem);
    } finally {
      confirm.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function field(label, control, hint) {
  return h("div", {class: "field"}, h("label", {for: control.id}, label), control, hint && h("p", {class: "quiet"}, hint));
}

const examples = "rpm=100/min · tpm=40000/min burst 80000 · usd=50000000 each month · q=10 per 5h from first use · parallel=20 at once";

// setLimits edits the limits of a scope; with choose the scope is named in the dialog too.
export function setLimits({scope, limits, choose, done}) {
  const entity = h("input", {id: "edit-entity", name: "entity", value: scope.entity_id ?? "", autocomplete: "off", spellcheck: "false"});
  const resource = h("input", {id: "edit-resource", name: "resource", value: scope.resource ?? "", autocomplete: "off", spellcheck: "false", autofocus: choose && scope.entity_id});
  const area = h("textarea", {id: "edit-limits", name: "limits", rows: Math.max(4, limits.length + 1), spellcheck: "false", required: true, autofocus: !choose});
  area.value = limits.map((l) => l.limit).join("\n");
  const replace = h("input", {id: "edit-replace", type: "checkbox"});
  const replacing = h("label", {class: "choice", hidden: true}, replace, h("span", null, "Yes, nothing else shall hold there"));
  open({
    title: choose ? "Set limits" : `Limits of ${scopeName(scope)}`,
    action: "Set limits",
    body: [
      choose && field("Entity", entity, "Empty: for everybody."),
      choose && field("Resource", resource, "Empty: for all resources for which nothing else is stored."),
      field("Limits, one a line", area, examples),
      replacing,
    ],
    failed: (problem) => { replacing.hidden = !problem.message.includes("replace=true"); },
    submit: async () => {
      const to = choose ? {entity_id: entity.value.trim(), resource: resource.value.trim()} : scope;
      const [path, query] = scopePath(to);
      const lines = area.value.split("\n").map((l) => l.trim()).filter(Boolean);
      const {overrides} = await put(`${path}/limits`, {limits: lines}, {...query, replace: replace.checked && !replacing.hidden ? "true" : ""});
      return overrides?.length > 0 && [
        h("p", null, "Levels stand alone. These limits do not bind any more where the new ones hold:"),
        h("ul", null, overrides.map((o) => h("li", null, h("code", null, o.limit.limit), ` of ${scopeName(o.scope)}`))),
      ];
    },
    done,
  });
}

// deleteLimits removes the limits of a scope.
export function deleteLimits({scope, done}) {
  open({
    title: `Delete the limits of ${scopeName(scope)}?`,
    action: "Delete",
    danger: true,
    body: h("p", null, "Then the next scope decides: everybody on the resource, or the system. If nothing is stored at all, requests for stored limits are refused."),
    submit: () => {
      const [path, query] = scopePath(scope);
      return remove(`${path}/limits`, query);
    },
    done,
  });
}

// reset fills a bucket.
export function reset({entity, bucket, done}) {
  open({
    title: `Reset ${bucket.resource}?`,
    action: "Reset",
    body: h("p", null, `All limits of ${entity} on ${bucket.resource} are as if nothing had been taken. It counts as no usage.`),
    submit: () => post(`/entities/${segment(entity)}/reset`, {resource: bucket.resource}),
    done,
  });
}

// topUp gives tokens.
export function topUp({entity, bucket, done}) {
  const limits = bucket.limits.filter((l) => ["rate", "quota", "window"].includes(l.kind));
  const name = h("select", {id: "edit-limit", name: "limit"}, limits.map((l) => h("option", {value: l.limit_name}, `${l.limit_name}, ${exact(l.available)} left`)));
  const amount = h("input", {id: "edit-amount", name: "amount", type: "number", min: 1, step: 1, required: true, inputmode: "numeric"});
  open({
    title: `Top up ${bucket.resource}`,
    action: "Top up",
    body: [field("Limit", name), field("Tokens", amount, "A quota has them beside its amount until its period ends; a rate up to its burst.")],
    submit: () => post(`/entities/${segment(entity)}/top-up`, {resource: bucket.resource, amounts: {[name.value]: Number(amount.value)}}),
    done,
  });
}

const switches = {
  enabled: ["Enable", "Requests are held to their limits."],
  disabled: ["Disable", "All requests are refused, whatever is left."],
  bypass: ["Bypass limits", "All requests are admitted and counted, and charged to no limit."],
  inherit: ["Inherit", "Nothing is stored here: the next scope decides."],
};

// setSwitch chooses the switch of a scope.
export async function setSwitch({scope, done}) {
  const [path, query] = scopePath(scope);
  const {switch: current} = await get(`${path}/settings`, query);
  open({
    title: `Switch of ${scopeName(scope)}`,
    action: "Set the switch",
    body: h("fieldset", null, h("legend", {class: "unseen"}, "Switch"), Object.entries(switches).map(([value, [name, hint]]) => h("label", {class: "choice"},
      h("input", {type: "radio", name: "switch", value, checked: value === current}), h("span", null, h("b", null, name), h("span", {class: "quiet"}, hint))))),
    submit: (elements) => put(`${path}/switch`, {switch: elements.switch.value}, query),
    done,
  });
}

// createEntity creates one.
export function createEntity({id, done}) {
  const name = h("input", {id: "edit-id", name: "id", value: id, required: true, autocomplete: "off", spellcheck: "false"});
  const parent = h("input", {id: "edit-parent", name: "parent", autocomplete: "off", spellcheck: "false"});
  const cascade = h("input", {id: "edit-cascade", name: "cascade", type: "checkbox"});
  open({
    title: "Create an entity",
    action: "Create",
    body: [
      field("ID", name, "Entities need not be created to be limited: a record is for a parent, a name and metadata."),
      field("Parent", parent, "Empty for none."),
      h("label", {class: "choice"}, cascade, h("span", null, "Requests with stored limits take from the parent too")),
    ],
    submit: () => post("/entities", {id: name.value.trim(), ...(parent.value.trim() ? {parent_id: parent.value.trim(), cascade: cascade.checked} : {})}),
    done: () => done(name.value.trim()),
  });
}
