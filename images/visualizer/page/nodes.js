// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

import { age, bytes, byName, cpus, element, ensureStop, rove, setText, tag, taskName } from "./format.js";
import { hue, isShown, kindOf, now, state } from "./store.js";

const board = document.getElementById("nodes");
const cards = new Map(); // node → its card; the one of tasks without a node has the key ""
const tiles = new Map(); // task → its tile
const waiting = new Set(); // tasks that have to be drawn
const BUDGET_MS = 6; // of a frame's 16

// Work for later frames: a thousand tasks at once would hold the page up.
let scheduled = false;

export function drawTasks(ids) {
  for (const id of ids) waiting.add(id);
  schedule();
}

function schedule() {
  if (!scheduled && waiting.size) {
    scheduled = true;
    requestAnimationFrame(work);
  }
}

function work() {
  scheduled = false;
  const end = performance.now() + BUDGET_MS;
  const touched = new Set();
  // Arriving is shown only where a person could follow it.
  board.classList.toggle("lively", settled && waiting.size < 60);
  for (const id of waiting) {
    waiting.delete(id);
    drawTask(id, touched);
    if (performance.now() > end) break;
  }
  for (const card of touched) ensureStop(card.tasks, ".task");
  if (!waiting.size) settled = true;
  schedule();
}
let settled = false;

// Nodes

export function drawNodes(ids) {
  for (const skeleton of board.querySelectorAll(".skeleton")) skeleton.remove();
  for (const id of ids) {
    const node = state.nodes.get(id);
    if (!node) {
      for (const key of cards.get(id)?.order ?? []) waiting.add(key.id);
      cards.get(id)?.root.remove();
      cards.delete(id);
    } else {
      const known = cards.get(id);
      const card = known ?? makeCard(id);
      const wasDown = card.down;
      fillCard(card, node);
      // Where a node is lost, so are its tasks.
      if (!known || wasDown !== card.down) {
        for (const task of state.tasks.values()) if (task.node === id) waiting.add(task.id);
      }
    }
  }
  schedule();
}

function makeCard(id) {
  const tasks = element("div", "tasks");
  tasks.setAttribute("role", "group");
  const card = {
    rank: "",
    down: false,
    heading: element("h2"),
    facts: element("p", "facts"),
    meters: element("div", "meters"),
    cpu: meter("CPU"),
    memory: meter("Memory"),
    tasks,
    order: [], // the tiles in their order, each {id, rank, root}
  };
  card.meters.append(card.cpu.root, card.memory.root);
  card.root = element("article", "node", card.heading, card.facts, card.meters, tasks, element("p", "empty", "No tasks"));
  card.root.dataset.node = id;
  card.heading.id = `node-${id || "none"}`;
  card.root.setAttribute("aria-labelledby", card.heading.id);
  rove(tasks, ".task");
  cards.set(id, card);
  return card;
}

function meter(name) {
  const text = element("span");
  const bar = element("i");
  bar.setAttribute("aria-hidden", "true");
  return { root: element("div", "meter", text, bar), text, bar, name };
}

function fillMeter(meter, reserved, capacity, format) {
  const content = `${format(reserved)} of ${format(capacity)}`;
  if (meter.content === content) return;
  meter.content = content;
  const amount = element("span", "", element("b", "", format(reserved)), ` of ${format(capacity)}`);
  meter.text.replaceChildren(`${meter.name} reserved `, amount);
  meter.bar.style.setProperty("--part", Math.min(1, capacity ? reserved / capacity : 0).toFixed(3));
}

function badge(kind, text) {
  const made = element("span", `badge ${kind}`, text);
  return made;
}

function fillCard(card, node) {
  card.down = node.state === "down";
  card.root.classList.toggle("down", card.down);
  const heading = [node.name];
  if (node.role === "manager") heading.push(node.leader ? badge("leader", "★ Leader") : badge("manager", "Manager"));
  else heading.push(badge("", "Worker"));
  heading.push(badge(node.state === "ready" ? "ready" : "bad", node.state));
  if (node.availability !== "active") heading.push(badge("warn", node.availability));
  if (node.reachability === "unreachable") heading.push(badge("bad", "manager unreachable"));
  card.root.dataset.state = node.state;
  card.root.dataset.availability = node.availability;

  const labels = Object.entries(node.labels).map(([name, value]) => (value ? `${name}=${value}` : name)).sort();
  const facts = [element("span", "mono", node.address), element("span", "", `Docker ${node.engine}`), element("span", "", node.platform)];
  if (labels.length) facts.push(element("span", "labels mono", labels.join(" ")));
  if (node.message && node.state !== "ready") facts.push(element("span", "", node.message));
  // What a node has reserved changes often, and this seldom.
  const { reserved, ...rest } = node;
  const words = JSON.stringify(rest);
  if (card.words !== words) {
    card.words = words;
    card.heading.replaceChildren(...heading.flatMap((part) => [part, " "]));
    card.facts.replaceChildren(...facts.flatMap((part) => [part, " "]));
  }
  fillMeter(card.cpu, reserved.cpus, node.cpus, cpus);
  fillMeter(card.memory, reserved.memory, node.memory, bytes);
  card.tasks.setAttribute("aria-label", `Tasks on ${node.name}`);
  place(card, `${node.role === "manager" ? 0 : 1} ${node.name}`);
}

function place(card, rank) {
  if (card.rank === rank && card.root.isConnected) return;
  card.rank = rank;
  const next = [...cards.values()]
    .filter((other) => other !== card && other.root.isConnected && byName(other.rank, rank) > 0)
    .sort((a, b) => byName(a.rank, b.rank))[0];
  board.insertBefore(card.root, next ? next.root : null);
}

function cardFor(task) {
  if (state.nodes.has(task.node)) return cards.get(task.node) ?? makeCard(task.node);
  const known = cards.get("");
  if (known) return known;
  const card = makeCard("");
  card.root.classList.add("waiting");
  card.heading.append("Waiting for a node");
  card.tasks.setAttribute("aria-label", "Tasks that wait for a node");
  card.facts.remove();
  card.meters.remove();
  place(card, " "); // before all others
  return card;
}

// Tasks

function drawTask(id, touched) {
  const task = state.tasks.get(id);
  let tile = tiles.get(id);
  const card = task && cardFor(task);
  if (tile && tile.card !== card) {
    take(tile);
    touched.add(tile.card);
  }
  if (!task) {
    tiles.delete(id);
    return;
  }
  if (!tile) {
    tile = makeTile(id);
    tiles.set(id, tile);
  }
  fillTile(tile, task);
  if (tile.card !== card) put(tile, card);
  touched.add(card);
}

function makeTile(id) {
  const tile = {
    id,
    card: undefined,
    root: element("button", "task"),
    name: element("span", "name"),
    age: element("span", "age"),
    tag: element("span", "tag"),
    container: element("span", "container"),
    state: element("span", "state"),
    error: element("span", "error"),
  };
  tile.root.type = "button";
  tile.root.tabIndex = -1;
  tile.root.dataset.task = id;
  tile.top = element("span", "top", element("span", "dot"), tile.name, tile.age);
  tile.root.append(tile.top, tile.tag, tile.container);
  return tile;
}

const words = { stopping: "stopping", lost: "not heard of", pending: "waiting" };

/** What to call a task's state. */
export const stateWord = (task) => words[kindOf(task)] ?? task.state;

function fillTile(tile, task) {
  const service = state.services.get(task.service);
  const kind = kindOf(task);
  const name = taskName(task, service);
  const word = stateWord(task);
  tile.rank = `${service?.name ?? ""} ${String(task.slot).padStart(6, "0")} ${task.created}`;
  const kindClass = `task ${kind}${settled ? " new" : ""}`;
  if (tile.kind !== kind) tile.root.className = kindClass;
  tile.kind = kind;
  tile.root.dataset.state = task.state;
  tile.root.dataset.kind = kind;
  tile.root.style.setProperty("--hue", hue(service).toFixed(0));
  setText(tile.name, name);
  setText(tile.age, age(now() - task.since));
  setText(tile.tag, tag(task.image));
  setText(tile.container, task.container);
  extra(tile, "state", kind === "running" ? "" : word + (kind === "failed" && task.exit ? `, exit ${task.exit}` : ""));
  extra(tile, "error", task.failed || kind === "pending" ? task.error : "");
  const label = [name, word, `image ${tag(task.image)}`, task.container && `container ${task.container}`, task.failed && task.error];
  tile.root.setAttribute("aria-label", label.filter(Boolean).join(", "));
  tile.root.hidden = !isShown(task);
}

/** Most tasks need no second word: they do not carry an element for it. */
function extra(tile, part, text) {
  setText(tile[part], text);
  if (!text) tile[part].remove();
  else if (!tile[part].isConnected) part === "state" ? tile.top.after(tile.state) : tile.root.append(tile.error);
}

function take(tile) {
  const index = tile.card.order.indexOf(tile);
  if (index >= 0) tile.card.order.splice(index, 1);
  tile.root.remove();
  if (!tile.card.order.length && tile.card === cards.get("")) {
    tile.card.root.remove();
    cards.delete("");
  }
}

function put(tile, card) {
  tile.card = card;
  let low = 0;
  let high = card.order.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (card.order[middle].rank < tile.rank) low = middle + 1;
    else high = middle;
  }
  card.tasks.insertBefore(tile.root, card.order[low]?.root ?? null);
  card.order.splice(low, 0, tile);
}

/** After the filter has changed. */
export function filterTasks() {
  for (const [id, tile] of tiles) {
    const task = state.tasks.get(id);
    if (task) tile.root.hidden = !isShown(task);
  }
  for (const card of cards.values()) ensureStop(card.tasks, ".task");
}

export function tickAges() {
  const time = now();
  for (const [id, tile] of tiles) {
    const task = state.tasks.get(id);
    if (task && !tile.root.hidden) setText(tile.age, age(time - task.since));
  }
}

board.addEventListener("animationend", (event) => event.target.classList.remove("new"));
