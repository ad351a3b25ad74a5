// Copyright: The Apiary developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

/** How long since, in the largest unit; so coarse that a page of a thousand does not flicker. */
export function age(milliseconds) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 10) return "now";
  if (seconds < 60) return `${Math.floor(seconds / 10) * 10} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
export const clock = (milliseconds) => clockFormat.format(milliseconds);

export function bytes(number) {
  if (number >= 2 ** 30) return `${round(number / 2 ** 30)} GiB`;
  return `${Math.round(number / 2 ** 20)} MiB`;
}

export const cpus = (nano) => round(nano / 1e9);
const round = (number) => String(number >= 10 ? Math.round(number) : Math.round(number * 100) / 100);

/** The tag of an image, which tells its versions apart. */
export function tag(image) {
  const name = image.slice(image.lastIndexOf("/") + 1);
  return name.includes(":") ? name.slice(name.indexOf(":") + 1) : "latest";
}

/** A service's name without its stack's. */
export const shortName = (service) => (service.stack ? service.name.slice(service.stack.length + 1) : service.name);

export const taskName = (task, service) => `${service ? shortName(service) : "?"}${task.slot ? `.${task.slot}` : ""}`;

export const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** Make an element: element("p", "class", child or text…). */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Change a text only if it is another one: each change costs a layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** One stop for Tab among *items*; arrows, Home and End go from one to another. */
export function rove(container, selector) {
  container.addEventListener("keydown", (event) => {
    const items = [...container.querySelectorAll(selector)].filter((item) => !item.hidden);
    const index = items.indexOf(event.target);
    if (index < 0) return;
    const to = {
      ArrowRight: index + 1, ArrowDown: index + 1, ArrowLeft: index - 1, ArrowUp: index - 1, Home: 0, End: items.length - 1,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    items[(to + items.length) % items.length].focus();
  });
  container.addEventListener("focusin", (event) => {
    if (!event.target.matches(selector)) return;
    const old = container.querySelector(`${selector}[tabindex="0"]`);
    if (old && old !== event.target) old.tabIndex = -1;
    event.target.tabIndex = 0;
    container.dataset.visited = "";
  });
}

/** Make sure that Tab finds one of the items: the one last visited, or else the first. */
export function ensureStop(container, selector) {
  const stop = container.querySelector(`${selector}[tabindex="0"]`);
  if (stop && !stop.hidden && "visited" in container.dataset) return;
  const first = container.querySelector(`${selector}:not([hidden])`);
  if (stop === first) return;
  if (stop) stop.tabIndex = -1;
  if (first) first.tabIndex = 0;
}
