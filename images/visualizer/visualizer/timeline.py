# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What happened, worked out of two states: deploys, failures, moves, and what became of nodes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from visualizer.view import FAILED, MEMORY_MS, Item, Items, is_live, slot

MOST = 200
#: what repeats within this time is one entry that counts
_REPEATED_MS = 120_000

_UPDATES = {
    "completed": "update finished",
    "paused": "update paused",
    "rollback_started": "update failed, rolling back",
    "rollback_paused": "rollback paused",
    "rollback_completed": "rolled back",
}


def entry(
    at: int, kind: str, text: str, detail: str = "", *, service: str = "", node: str = "", bad: bool = False
) -> Item:
    """Return something that happened: kind is deploy, failure, move, node or engine."""
    return {
        "at": at,
        "kind": kind,
        "text": text,
        "detail": detail,
        "service": service,
        "node": node,
        "bad": bad,
        "count": 1,
    }


class Timeline:
    """The last minutes."""

    def __init__(self) -> None:
        self.entries: Items = {}
        self._numbers = itertools.count(1)

    def add(self, new: Item) -> None:
        """Take note of something, or count it if it repeats."""
        for key, old in reversed(self.entries.items()):
            if old["at"] < new["at"] - _REPEATED_MS:
                break
            same = all(old[field] == new[field] for field in ("kind", "text", "detail", "node"))
            if same and new["kind"] == "failure":
                del self.entries[key]
                new = {**new, "count": old["count"] + 1}
                break
        number = str(next(self._numbers))
        self.entries = {**self.entries, number: {"id": number, **new}}

    def forget(self, now_ms: int) -> None:
        """Drop what is too old, or too much."""
        kept = [item for item in self.entries.values() if item["at"] > now_ms - MEMORY_MS][-MOST:]
        self.entries = {item["id"]: item for item in kept}


def earlier(nodes: Items, services: Items, tasks: Items, now_ms: int) -> list[Item]:
    """Return what the first state that is seen tells of the minutes before it."""
    start = now_ms - MEMORY_MS
    found = []
    for item in services.values():
        if item["created"] > start:
            found.append(_deployed(item, item["created"]))
        elif item["updated"] > start:
            text = f"{item['name']}: {_UPDATES.get(item['update'], 'updated')}"
            found.append(entry(item["updated"], "deploy", text, item["image"], service=item["id"]))
    for task in tasks.values():
        if task["state"] in FAILED and task["since"] > start and task["service"] in services:
            found.append(_failed(task, nodes, services))
    return sorted(found, key=lambda item: item["at"])


def happenings(before: dict[str, Items], nodes: Items, services: Items, tasks: Items, now_ms: int) -> Iterator[Item]:
    """Yield what happened between the state *before* and this one."""
    yield from _of_nodes(before["nodes"], nodes, now_ms)
    yield from _of_services(before["services"], services, now_ms)
    yield from _of_tasks(before["tasks"], nodes, services, tasks, now_ms)


def _of_nodes(before: Items, nodes: Items, now: int) -> Iterator[Item]:
    for key, new in nodes.items():
        old = before.get(key)
        if old is None:
            yield entry(now, "node", f"{new['name']} joined", new["role"], node=key)
            continue
        if new["state"] != old["state"]:
            yield entry(
                now, "node", f"{new['name']} is {new['state']}", new["message"], node=key, bad=new["state"] != "ready"
            )
        if new["availability"] != old["availability"]:
            yield entry(now, "node", f"{new['name']}: availability {new['availability']}", node=key)
        if new["role"] != old["role"]:
            changed = "promoted to manager" if new["role"] == "manager" else "demoted to worker"
            yield entry(now, "node", f"{new['name']} {changed}", node=key)
        if new["leader"] and not old["leader"]:
            yield entry(now, "node", f"{new['name']} is the leader now", node=key)
        if new["reachability"] == "unreachable" != old["reachability"]:
            yield entry(now, "node", f"{new['name']}: manager unreachable", node=key, bad=True)
    for key in before.keys() - nodes.keys():
        yield entry(now, "node", f"{before[key]['name']} left", node=key)


def _of_services(before: Items, services: Items, now: int) -> Iterator[Item]:
    for key, new in services.items():
        old = before.get(key)
        if old is None:
            yield _deployed(new, now)
            continue
        changes = []
        if new["image"] != old["image"]:
            changes.append(f"{old['image']} → {new['image']}")
        if new["replicas"] != old["replicas"] and None not in (new["replicas"], old["replicas"]):
            changes.append(f"{old['replicas']} → {new['replicas']} replicas")
        if new["ports"] != old["ports"]:
            changes.append("ports")
        rolled_back = new["update"].startswith("rollback") and new["update"] != old["update"]
        if new["update"] != old["update"] and new["update"] in _UPDATES:
            bad = new["update"] not in ("completed", "rollback_completed")
            text = f"{new['name']}: {_UPDATES[new['update']]}"
            yield entry(now, "deploy", text, new["message"] if bad else "", service=key, bad=bad)
        if new["spec"] != old["spec"] and not rolled_back:
            yield entry(now, "deploy", f"{new['name']} updated", ", ".join(changes) or "settings", service=key)
    for key in before.keys() - services.keys():
        yield entry(now, "deploy", f"{before[key]['name']} removed", service=key)


def _of_tasks(before: Items, nodes: Items, services: Items, tasks: Items, now: int) -> Iterator[Item]:
    started = []
    for key, new in tasks.items():
        old = before.get(key)
        state = old["state"] if old else ""
        if new["service"] not in services or new["state"] == state:
            continue
        if new["state"] in FAILED:
            yield _failed(new, nodes, services, now)
        elif new["state"] == "running" and is_live(new) and new["slot"]:
            started.append(new)
    if not started:
        return
    slots: defaultdict[Any, list[Item]] = defaultdict(list)
    for item in {**before, **tasks}.values():
        slots[slot(item)].append(item)
    for new in started:
        previous = max(
            (item for item in slots[slot(new)] if item["created"] < new["created"] and item["node"]),
            key=lambda item: item["created"],
            default=None,
        )
        # In an update tasks are replaced, wherever that is; what moves stays what it was.
        if (
            previous
            and previous["node"] != new["node"]
            and (previous["image"], previous["forced"]) == (new["image"], new["forced"])
            and services[new["service"]]["update"] not in ("updating", "rollback_started")
        ):
            path = f"{_name(nodes, previous['node'])} → {_name(nodes, new['node'])}"
            yield entry(now, "move", f"{_task(new, services)} moved", path, service=new["service"], node=new["node"])


def _deployed(service: Item, at: int) -> Item:
    return entry(at, "deploy", f"{service['name']} deployed", service["image"], service=service["id"])


def _failed(task: Item, nodes: Items, services: Items, now: int = 0) -> Item:
    where = f" on {_name(nodes, task['node'])}" if task["node"] else ""
    text = f"{_task(task, services)} {task['state']}{where}"
    return entry(
        now or task["since"], "failure", text, task["error"], service=task["service"], node=task["node"], bad=True
    )


def _task(task: Item, services: Items) -> str:
    name = services[task["service"]]["name"]
    return f"{name}.{task['slot']}" if task["slot"] else str(name)


def _name(nodes: Items, key: str) -> str:
    return str(nodes[key]["name"]) if key in nodes else key[:12]
