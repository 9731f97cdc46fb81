// Elements are made here, and nowhere by parsing HTML: names of entities and resources may
// have any characters, and only ever become text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// h makes an element: h("a", {href: "#/", onclick: f}, "text", other).
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

// s makes an element of SVG.
export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

// text sets the text of an element if it is another one.
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

// list makes the children of a parent those of items, in their order: what stays is kept, and
// with it the focus. make returns {element, update(item)}.
export function list(parent, items, key, make) {
  const kept = parent.kept ?? new Map();
  const next = new Map();
  const focused = document.activeElement;
  let place = parent.firstElementChild;
  for (const item of items) {
    const k = key(item);
    const entry = kept.get(k) ?? make(item);
    next.set(k, entry);
    entry.update(item);
    if (entry.element === place) place = place.nextElementSibling;
    else parent.insertBefore(entry.element, place);
  }
  for (const [k, entry] of kept) if (!next.has(k)) entry.element.remove();
  parent.kept = next;
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({preventScroll: true}); // it was moved
}

// table makes a table that scrolls by itself on small screens. Columns are {name, class}.
export function table(label, columns, body, kind) {
  const head = h("tr", null, columns.map((c) => h("th", {scope: "col", class: c.class}, c.name)));
  return h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label}, h("table", {class: kind}, h("thead", null, head), body));
}

// command shows a command to try, with a button that copies it.
export function command(textOf) {
  const code = h("code", null, textOf);
  const box = h("div", {class: "command"}, h("pre", null, code));
  if (navigator.clipboard && window.isSecureContext) {
    const button = h("button", {
      class: "plain",
      type: "button",
      onclick: async () => {
        await navigator.clipboard.writeText(textOf);
        text(button, "Copied");
      },
    }, "Copy");
    box.append(button);
  }
  return box;
}

// empty shows that there is nothing, and what to do about it.
export function empty(title, explanation, ...more) {
  return h("div", {class: "empty"}, h("p", {class: "title"}, title), explanation && h("p", null, explanation), ...more);
}
