# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the engine says of nodes, services and tasks → what the page shows of them.

This is a list of what may be seen, field by field: what is not named here is dropped as soon as it is read. Of texts
that people or programs wrote, errors and labels, what looks like a secret is hidden.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from visualizer.redact import redacted, redacted_labels

Item = dict[str, Any]
Items = dict[str, Item]
#: collection (nodes, services, tasks, timeline, status) → ID → what the page shows
Snapshot = Mapping[str, Items]

#: for so long a task that failed is shown beside the one that replaced it, and the timeline reaches back
MEMORY_MS = 15 * 60 * 1000
FAILED = frozenset({"failed", "rejected"})
#: states of a task whose container there is or will be
ACTIVE = frozenset({"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"})
_LONGEST_ERROR = 500


def milliseconds(timestamp: object) -> int:
    """Return an RFC 3339 time of the engine as milliseconds since 1970; 0 for none."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", str(timestamp))
    if not match or match[1].startswith("0001-"):
        return 0
    whole = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp()
    return int(whole) * 1000 + int((match[2] or "0").ljust(3, "0")[:3])


def node(raw: Item) -> Item:
    """Return what is shown of a node."""
    spec, description = raw.get("Spec") or {}, raw.get("Description") or {}
    status, manager = raw.get("Status") or {}, raw.get("ManagerStatus") or {}
    platform, resources = description.get("Platform") or {}, description.get("Resources") or {}
    address = status.get("Addr") or ""
    if address in ("", "0.0.0.0", "127.0.0.1"):  # noqa: S104 - what some managers say of themselves
        address = str(manager.get("Addr") or address).rpartition(":")[0] or address
    return {
        "id": raw["ID"],
        "name": description.get("Hostname") or raw["ID"][:12],
        "role": spec.get("Role") or "worker",
        "leader": bool(manager.get("Leader")),
        "reachability": manager.get("Reachability") or "",
        "state": status.get("State") or "unknown",
        "message": redacted(status.get("Message") or "")[:_LONGEST_ERROR],
        "availability": spec.get("Availability") or "active",
        "address": address,
        "engine": (description.get("Engine") or {}).get("EngineVersion") or "",
        "platform": "/".join(filter(None, (platform.get("OS"), platform.get("Architecture")))),
        "cpus": resources.get("NanoCPUs") or 0,
        "memory": resources.get("MemoryBytes") or 0,
        "labels": redacted_labels(spec.get("Labels") or {}),
    }


def service(raw: Item) -> Item:
    """Return what is shown of a service."""
    spec = raw.get("Spec") or {}
    template, mode = spec.get("TaskTemplate") or {}, spec.get("Mode") or {}
    name, stack = spec.get("Name") or raw["ID"][:12], (spec.get("Labels") or {}).get("com.docker.stack.namespace") or ""
    update = raw.get("UpdateStatus") or {}
    ports = (raw.get("Endpoint") or {}).get("Ports") or []
    kind = next(iter(mode), "Replicated")
    replicas = (mode.get("Replicated") or {}).get("Replicas")
    if kind == "ReplicatedJob":
        replicas = (mode["ReplicatedJob"] or {}).get("TotalCompletions")
    return {
        "id": raw["ID"],
        "name": name,
        "stack": stack if name.startswith(f"{stack}_") else "",
        "image": image((template.get("ContainerSpec") or {}).get("Image") or ""),
        # to tell an update from other changes; it stays here
        "spec": hash(json.dumps(spec)),
        "mode": kind,
        "replicas": replicas,
        "ports": sorted({port["PublishedPort"] for port in ports if port.get("PublishedPort")}),
        "update": update.get("State") or "",
        "message": redacted(update.get("Message") or "", _environment(template))[:_LONGEST_ERROR],
        "created": milliseconds(raw.get("CreatedAt")),
        "updated": milliseconds(raw.get("UpdatedAt")),
    }


def task(raw: Item) -> Item:
    """Return what is shown of a task."""
    spec, status = raw.get("Spec") or {}, raw.get("Status") or {}
    container = status.get("ContainerStatus") or {}
    reserved = (spec.get("Resources") or {}).get("Reservations") or {}
    state = status.get("State") or "new"
    # Why a task is not placed yet is an error too; what a running one says is not.
    error = status.get("Err") or ("" if state in ("running", "complete") else status.get("Message")) or ""
    return {
        "id": raw["ID"],
        "service": raw.get("ServiceID") or "",
        "node": raw.get("NodeID") or "",
        "slot": raw.get("Slot") or 0,
        "state": state,
        "desired": raw.get("DesiredState") or "",
        "since": milliseconds(status.get("Timestamp")),
        "created": milliseconds(raw.get("CreatedAt")),
        "image": image((spec.get("ContainerSpec") or {}).get("Image") or ""),
        "forced": spec.get("ForceUpdate") or 0,
        "container": (container.get("ContainerID") or "")[:12],
        "exit": container.get("ExitCode") or 0,
        "failed": bool(status.get("Err")) or state in FAILED,
        "error": redacted(error, _environment(spec))[:_LONGEST_ERROR] if error else "",
        "cpus": reserved.get("NanoCPUs") or 0,
        "memory": reserved.get("MemoryBytes") or 0,
    }


def image(reference: str) -> str:
    """Return the image as a person names it: without digest, and without a login that somebody put there."""
    return redacted(reference.partition("@sha256:")[0])


def _environment(template: Item) -> list[str]:
    """Return the values of a container's environment: an error may repeat them."""
    return [entry.partition("=")[2] for entry in (template.get("ContainerSpec") or {}).get("Env") or []]


def is_live(item: Item) -> bool:
    """Say whether the swarm wants this task to run."""
    return item["desired"] in ("ready", "running") and (item["state"] in ACTIVE or item["state"] == "complete")


def compose(nodes: Items, services: Items, tasks: Items, now_ms: int) -> dict[str, Items]:
    """Return nodes, services and tasks as the page shows them: with sums, and without history of no interest."""
    shown = {item["id"]: item for item in _worth_showing(tasks.values(), now_ms)}
    by_node: defaultdict[str, list[Item]] = defaultdict(list)
    by_service: defaultdict[str, list[Item]] = defaultdict(list)
    for item in shown.values():
        by_node[item["node"]].append(item)
        by_service[item["service"]].append(item)
    return {
        "nodes": {
            key: {
                **item,
                "reserved": {what: sum(t[what] for t in by_node[key] if is_live(t)) for what in ("cpus", "memory")},
            }
            for key, item in nodes.items()
        },
        "services": {
            key: {**{name: item[name] for name in item if name != "spec"}, **_counts(item, by_service[key])}
            for key, item in services.items()
        },
        "tasks": {key: item for key, item in shown.items() if item["service"] in services},
    }


def _counts(item: Item, tasks: Iterable[Item]) -> Item:
    live = [task for task in tasks if is_live(task)]
    return {
        "running": sum(task["state"] == "running" for task in live),
        # of a global service the swarm makes as many tasks as there are nodes for it
        "wanted": len(live) if item["replicas"] is None else item["replicas"],
    }


def _worth_showing(tasks: Iterable[Item], now_ms: int) -> Iterable[Item]:
    slots: defaultdict[tuple[str, object], list[Item]] = defaultdict(list)
    for item in tasks:
        slots[slot(item)].append(item)
    for siblings in slots.values():
        replaced = any(item["state"] == "running" and is_live(item) for item in siblings)
        newest = max(siblings, key=lambda item: item["created"])
        last_failed = max(
            (item for item in siblings if item["state"] in FAILED), key=lambda item: item["since"], default=None
        )
        for item in siblings:
            ended = item["state"] not in ACTIVE
            if (
                is_live(item)
                or not ended  # being stopped
                or (
                    item is last_failed
                    and item["desired"] != "remove"
                    and (item["since"] > now_ms - MEMORY_MS or not replaced)
                )
                or (item["state"] == "complete" and item is newest and item["since"] > now_ms - MEMORY_MS)
            ):
                yield item


def slot(item: Item) -> tuple[str, object]:
    """Return what a task and the one that replaces it have in common."""
    return (item["service"], item["slot"] or item["node"])


def share(old: Items, new: Items) -> Items:
    """Return *new*, made of the objects of *old* where they say the same, so that to keep both costs little."""
    return {key: old[key] if old.get(key) == item else item for key, item in new.items()}


def diff(old: Snapshot, new: Snapshot) -> dict[str, dict[str, Item | None]]:
    """Return collection → ID → what it is now, of what differs; None for what is gone."""
    changes: dict[str, dict[str, Item | None]] = {}
    for collection, items in new.items():
        before = old.get(collection, {})
        changed: dict[str, Item | None] = {key: item for key, item in items.items() if before.get(key) != item}
        changed |= dict.fromkeys(before.keys() - items.keys())
        if changed:
            changes[collection] = changed
    return changes
