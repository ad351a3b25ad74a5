// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

import { age, bytes, clock, cpus, element, taskName } from "./format.js";
import { stateWord } from "./nodes.js";
import { now, state } from "./store.js";

const dialog = document.getElementById("details");
const title = document.getElementById("details-title");
const list = dialog.querySelector("dl");
let shown;

export function start() {
  document.getElementById("nodes").addEventListener("click", (event) => {
    const tile = event.target.closest(".task");
    if (!tile) return;
    shown = tile.dataset.task;
    draw();
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  dialog.addEventListener("close", () => {
    // The browser gives the focus back itself, unless the tile has moved meanwhile.
    if (document.activeElement === document.body) document.querySelector(`[data-task="${shown}"]`)?.focus();
    shown = undefined;
  });
}

/** Draw what is open, as it is now. */
export function draw() {
  const task = state.tasks.get(shown);
  if (!shown || (!task && !dialog.open)) return;
  if (!task) {
    list.prepend(element("dt", "", "State"), element("dd", "error", "gone"));
    shown = undefined;
    return;
  }
  const service = state.services.get(task.service);
  const node = state.nodes.get(task.node);
  title.textContent = taskName(task, service);
  const rows = [
    ["State", `${stateWord(task)}, since ${clock(task.since)} (${age(now() - task.since)})`],
    ["Wanted", task.desired],
    ["Error", task.failed ? task.error : "", "error"],
    ["Exit code", task.exit ? String(task.exit) : ""],
    ["Service", service ? `${service.name} (${service.mode.toLowerCase()}, ${service.running} of ${service.wanted} running)` : ""],
    ["Node", node ? `${node.name}, ${node.address}` : ""],
    ["Image", task.image, "mono"],
    ["Container", task.container, "mono"],
    ["Task", task.id, "mono"],
    ["Reserved", [task.cpus && `${cpus(task.cpus)} CPU`, task.memory && bytes(task.memory)].filter(Boolean).join(", ")],
    ["Made", task.created ? clock(task.created) : ""],
  ];
  list.replaceChildren(
    ...rows.filter(([, value]) => value).flatMap(([name, value, kind]) => [element("dt", "", name), element("dd", kind, value)]),
  );
}
