// Building page elements. Text only ever becomes a text node: nothing a person
// or a server said is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/**
 * el("li.chat.active", {title: "x", onclick: f}, child, "text", …)
 * Names that start with "on" are listeners, the rest attributes; false and null are left out.
 */
export function el(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const node = document.createElement(tag);
  if (classes.length > 0) node.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A picture from icons.svg. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Fills an avatar: initials on one of eight colours, the same for a name everywhere. */
export function avatar(node, name) {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  node.textContent = (words.length > 1 ? words[0][0] + words.at(-1)[0] : name.slice(0, 2)).toUpperCase();
  let hash = 0;
  for (const c of name) hash = (hash * 7 + c.codePointAt(0)) % 9973;
  node.dataset.hue = hash % 8;
  return node;
}

/** Today "14:05", this year "3 May", else "3 May 2024". */
export function shortTime(iso) {
  const then = new Date(iso);
  if (Number.isNaN(then.getTime())) return "";
  const now = new Date();
  if (then.toDateString() === now.toDateString()) {
    return then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
  const year = then.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return then.toLocaleDateString([], { day: "numeric", month: "short", year });
}
