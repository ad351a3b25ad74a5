// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

import { byName, element, ensureStop, rove, shortName } from "./format.js";
import { chosen, hue, isTrouble, state } from "./store.js";

const list = document.querySelector("#legend ul");
const troubles = document.getElementById("troubles");
const everything = document.getElementById("everything");
const chips = new Map(); // service → its chip
let changed = () => {};

const updates = {
  updating: "updating",
  paused: "update paused",
  rollback_started: "rolling back",
  rollback_paused: "rollback paused",
};

/** Start: onChange is called when another filter is chosen. It is kept in the address, so it survives a reload. */
export function start(onChange) {
  changed = onChange;
  const given = new URLSearchParams(location.search);
  for (const name of given.getAll("only")) chosen.services.add(name);
  chosen.troubles = given.has("troubles");
  rove(list, "button");
  troubles.addEventListener("click", () => {
    chosen.troubles = !chosen.troubles;
    filter();
  });
  everything.addEventListener("click", showAll);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) showAll();
  });
}

function showAll() {
  if (document.activeElement === everything) list.querySelector("button")?.focus();
  chosen.services.clear();
  chosen.troubles = false;
  filter();
}

function filter() {
  const query = new URLSearchParams();
  for (const name of chosen.services) query.append("only", name);
  if (chosen.troubles) query.set("troubles", "");
  history.replaceState(null, "", `?${query}`);
  draw();
  changed();
}

function makeChip(id) {
  const chip = {
    swatch: element("span", "swatch"),
    name: element("span", "name"),
    count: element("span", "count"),
    note: element("span", "note"),
    button: element("button"),
  };
  chip.swatch.setAttribute("aria-hidden", "true");
  chip.button.type = "button";
  chip.button.tabIndex = -1;
  chip.button.append(chip.swatch, chip.name, " ", chip.count, " ", chip.note);
  chip.button.addEventListener("click", () => {
    const name = state.services.get(id)?.name;
    if (!chosen.services.delete(name)) chosen.services.add(name);
    filter();
  });
  chip.root = element("li", "", chip.button);
  return chip;
}

export function draw() {
  for (const [id, chip] of chips) {
    if (state.services.has(id)) continue;
    chip.root.remove();
    chips.delete(id);
  }
  const services = [...state.services.values()].sort((a, b) => byName(a.name, b.name));
  hue(services[0]); // all, in their order
  services.forEach((service, index) => {
    if (!chips.has(service.id)) chips.set(service.id, makeChip(service.id));
    const chip = chips.get(service.id);
    chip.swatch.style.setProperty("--hue", hue(service).toFixed(0));
    const stack = service.stack ? [element("span", "stack", `${service.stack}_`)] : [];
    if (chip.drawn !== service) chip.name.replaceChildren(...stack, shortName(service));
    chip.drawn = service;
    chip.count.textContent = `${service.running}/${service.wanted}`;
    chip.note.textContent = updates[service.update] ?? (service.ports.length ? service.ports.map((port) => `:${port}`).join(" ") : "");
    chip.button.classList.toggle("updating", service.update in updates);
    chip.button.classList.toggle("short", service.running < service.wanted);
    chip.button.dataset.service = service.name;
    chip.button.setAttribute("aria-pressed", String(chosen.services.has(service.name)));
    if (list.children[index] !== chip.root) list.insertBefore(chip.root, list.children[index] ?? null);
  });
  ensureStop(list, "button");
  let count = 0;
  for (const task of state.tasks.values()) if (isTrouble(task)) count += 1;
  troubles.hidden = !count && !chosen.troubles;
  troubles.textContent = `⚠ In trouble: ${count}`;
  troubles.setAttribute("aria-pressed", String(chosen.troubles));
  everything.hidden = !chosen.services.size && !chosen.troubles;
  return count;
}
