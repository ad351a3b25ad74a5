// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

import * as details from "./details.js";
import { follow } from "./feed.js";
import { clock, setText } from "./format.js";
import * as legend from "./legend.js";
import { drawNodes, drawTasks, filterTasks, tickAges } from "./nodes.js";
import { change, replace, setNow, state } from "./store.js";
import * as timeline from "./timeline.js";

const connection = document.getElementById("connection");
const problem = document.getElementById("problem");
const summary = document.getElementById("summary");

/** since when the server does not answer; 0 while it does */
let serverAway = 0;
let heard = false;

function onData(kind, data) {
  setNow(data.now);
  serverAway = 0;
  heard = true;
  if (kind !== "beat") draw(kind === "state" ? replace(data) : change(data));
  drawConnection();
}

function draw(touched) {
  if (touched.nodes.length) drawNodes(touched.nodes);
  const troubles = legend.draw();
  drawTasks(touched.tasks);
  if (touched.timeline.length) timeline.draw(touched.timeline);
  details.draw();
  drawSummary(troubles);
}

const count = (number, one) => `${number} ${one}${number === 1 ? "" : "s"}`;

function drawSummary(troubles) {
  if (!state.nodes.size) return;
  let managers = 0;
  let running = 0;
  let wanted = 0;
  for (const node of state.nodes.values()) managers += node.role === "manager";
  for (const service of state.services.values()) {
    running += service.running;
    wanted += service.wanted;
  }
  const parts = [
    `${count(state.nodes.size, "node")}, ${count(managers, "manager")}`,
    count(state.services.size, "service"),
    `${running} of ${count(wanted, "task")} running`,
  ];
  if (troubles) parts.push(`${troubles} in trouble`);
  setText(summary, parts.join(" · "));
  document.title = `${running}/${wanted} · Swarm`;
}

function drawConnection() {
  const engine = state.status.get("engine");
  let [kind, word, text, help] = ["connecting", "Connecting", "", ""];
  const asOf = (since) => (state.nodes.size ? ` What is shown is from ${clock(since)}.` : "");
  if (serverAway) {
    [kind, word] = ["away", "Server away"];
    text = heard ? `The visualizer has not answered since ${clock(serverAway)}` : "The visualizer does not answer";
    help = `This page goes on trying, and recovers by itself.${asOf(serverAway)}`;
  } else if (engine?.ok === false) {
    [kind, word] = ["away", "Manager away"];
    [text, help] = [engine.problem, `${engine.remedy}${asOf(engine.since)}`];
  } else if (engine?.ok) {
    [kind, word] = ["live", "Live"];
  }
  connection.dataset.state = kind;
  setText(connection.lastElementChild, word);
  setText(problem.children[0], text);
  setText(problem.children[1], help);
  problem.hidden = !text;
  document.body.classList.toggle("stale", kind === "away");
}

legend.start(() => {
  filterTasks();
  timeline.filterEntries();
});
details.start();
setInterval(tickAges, 1_000);
setInterval(timeline.tick, 5_000);
follow(onData, (since) => {
  serverAway ||= since;
  drawConnection();
});
