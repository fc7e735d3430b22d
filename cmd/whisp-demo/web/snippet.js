// The panel "The three lines". What it shows is fetched from integration.js as
// the server sends it, so it cannot differ from what runs.

import { byId, el } from "./dom.js";

const SOURCE = "/integration.js";
const MARK = /\s*\/\/ [123]$/; // the three lines carry their number as a comment

export function showThreeLines() {
  const panel = byId("code");
  const toggle = byId("code-toggle");
  const open = (shown) => {
    panel.hidden = !shown;
    toggle.setAttribute("aria-expanded", String(shown));
    (shown ? byId("code-close") : toggle).focus({ preventScroll: true });
  };
  toggle.addEventListener("click", () => open(panel.hidden));
  byId("code-close").addEventListener("click", () => open(false));
  panel.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
  fill();
}

async function fill() {
  const source = await fetch(SOURCE).then((answer) => (answer.ok ? answer.text() : ""));
  const lines = source.trimEnd().split("\n");
  byId("code-lines").replaceChildren(
    ...lines.map((line) => (MARK.test(line) ? el("mark", {}, line.replace(MARK, "") + "\n") : `${line}\n`)),
  );
}
