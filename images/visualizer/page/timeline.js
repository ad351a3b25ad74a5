// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

import { clock, element } from "./format.js";
import { chosen, now, state } from "./store.js";

const SPAN_MS = 15 * 60_000;
const strip = document.getElementById("strip");
const log = document.getElementById("log");
const entries = new Map(); // entry → its mark on the strip and its line in the log
const shapes = { deploy: "deploy", failure: "failure", move: "move", node: "place", engine: "engine" };
const kinds = { deploy: "Deploy", failure: "Failure", move: "Move", node: "Node", engine: "Manager" };

function make(item) {
  const classes = `mark ${shapes[item.kind]}${item.bad ? " bad" : ""}`;
  const mark = element("span", classes);
  mark.title = item.text;
  const icon = element("span", classes);
  icon.setAttribute("role", "img");
  icon.setAttribute("aria-label", kinds[item.kind]);
  const time = element("time", "", clock(item.at));
  time.dateTime = new Date(item.at).toISOString();
  const line = element("li", "", icon, element("span", "text", item.text + (item.count > 1 ? ` ×${item.count}` : "")), time);
  if (item.detail) line.append(element("span", "detail", item.detail));
  line.dataset.kind = item.kind;
  return { at: item.at, service: item.service, mark, line };
}

export function draw(ids) {
  const fresh = [];
  for (const id of ids) {
    entries.get(id)?.mark.remove();
    entries.get(id)?.line.remove();
    entries.delete(id);
    if (state.timeline.has(id)) fresh.push(state.timeline.get(id));
  }
  fresh.sort((a, b) => a.at - b.at);
  for (const item of fresh) {
    const entry = make(item);
    entries.set(item.id, entry);
    strip.append(entry.mark);
    log.prepend(entry.line);
  }
  filterEntries();
  tick();
}

/** The strip moves on. */
export function tick() {
  const time = now();
  for (const { at, mark } of entries.values()) {
    mark.style.setProperty("--at", Math.min(1, Math.max(0, 1 - (time - at) / SPAN_MS)).toFixed(4));
  }
}

export function filterEntries() {
  for (const { service, mark, line } of entries.values()) {
    const name = state.services.get(service)?.name;
    const hidden = chosen.services.size > 0 && service !== "" && !chosen.services.has(name);
    mark.hidden = hidden;
    line.hidden = hidden;
  }
}
