// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

/** What the server has told: collection → ID → item. */
export const state = {
  nodes: new Map(),
  services: new Map(),
  tasks: new Map(),
  timeline: new Map(),
  status: new Map(),
};

/** Apply a change, and return what it touches: collection → IDs. */
export function change(data) {
  const touched = {};
  for (const [name, items] of Object.entries(state)) {
    touched[name] = Object.keys(data[name] ?? {});
    for (const key of touched[name]) {
      if (data[name][key] === null) items.delete(key);
      else items.set(key, data[name][key]);
    }
  }
  return touched;
}

/** Apply a whole state: what is the same stays untouched, so that coming back after a pause redraws little. */
export function replace(data) {
  const changes = {};
  for (const [name, items] of Object.entries(state)) {
    const given = data[name] ?? {};
    changes[name] = {};
    for (const key of items.keys()) if (!(key in given)) changes[name][key] = null;
    for (const [key, item] of Object.entries(given)) {
      if (JSON.stringify(items.get(key)) !== JSON.stringify(item)) changes[name][key] = item;
    }
  }
  return change(changes);
}

let offset = 0;

/** The server's time: ages do not depend on this computer's clock. */
export const now = () => Date.now() + offset;
export const setNow = (time) => { offset = time - Date.now(); };

// Colours: services in the order of their making are as far from each other as that allows, and keep theirs.
const hues = new Map();

export function hue(service) {
  if (!hues.size) {
    const all = [...state.services.values()].sort((a, b) => a.created - b.created || a.name.localeCompare(b.name));
    for (const item of all) hues.set(item.name, (55 + hues.size * 137.508) % 360);
  }
  if (!service) return 0;
  if (!hues.has(service.name)) hues.set(service.name, (55 + hues.size * 137.508) % 360);
  return hues.get(service.name);
}

// The filter: nothing chosen shows everything.
export const chosen = { services: new Set(), troubles: false };

/** Say which of the kinds that the page draws a task is. */
export function kindOf(task) {
  if (task.state === "failed" || task.state === "rejected") return "failed";
  if (task.state === "complete") return "complete";
  const node = state.nodes.get(task.node);
  if (node && node.state === "down") return "lost";
  if (task.desired !== "running" && task.desired !== "ready") return "stopping";
  if (task.state === "running") return "running";
  return node ? "starting" : "pending";
}

export const isTrouble = (task) => ["failed", "lost", "pending"].includes(kindOf(task)) || task.failed;

export function isShown(task) {
  const service = state.services.get(task.service);
  return (!chosen.services.size || chosen.services.has(service?.name)) && (!chosen.troubles || isTrouble(task));
}
