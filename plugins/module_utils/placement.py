# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where tasks are, where they could be, and what hangs on the node that they are on. Decisions only, no requests.

Facts of Docker Swarm that this rests on (engines 19.03 to 28):
  - Swarm moves no task that runs. It starts a new one on the node that has the fewest of its service, and when a
    service is scaled down, it ends tasks on the nodes that have the most.
  - A drained node gets no tasks and loses those it has, all at once; a paused one gets none and keeps those it has.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.convergence import (
    completed_tasks,
    eligible_nodes,
    is_ready,
    wanted_tasks,
)
from ansible_collections.apiary.swarm.plugins.module_utils.stack import update_state
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import hostname

Object = Mapping[str, Any]

#: on a service some tasks of which are being moved: the number of replicas that it had before, and is to have again
REPLICAS_LABEL = "apiary.rebalance.replicas"

_SHARED_FILESYSTEMS = ("nfs", "cifs", "smb", "ceph", "gluster")
#: what containers bind from a node to talk to it or to look at it, not to keep anything there
_NO_DATA = re.compile(r"^/(proc|sys|dev|run|var/run)(/|$)|\.sock$")
_ANONYMOUS_VOLUME = re.compile(r"[0-9a-f]{64}")


def name_of(service: Object) -> str:
    return str(service["Spec"]["Name"])


def tasks_of(service: Object, tasks: Iterable[Object]) -> list[Object]:
    return [task for task in tasks if task["ServiceID"] == service["ID"]]


def is_alive(task: Object) -> bool:
    """Say whether a task runs and shall run."""
    return bool(task["DesiredState"] == task["Status"]["State"] == "running")


def runs_on(task: Object, node_id: str) -> bool:
    """Say whether a container of the task runs on the node, also one that is on its way to its end."""
    return task.get("NodeID") == node_id and task["Status"]["State"] == "running"


def replicas(service: Object) -> int | None:
    """Return how many replicas are asked for; None for a service of another kind."""
    mode = service["Spec"]["Mode"]
    return int((mode["Replicated"] or {}).get("Replicas", 1)) if "Replicated" in mode else None


def takes_tasks(node: Object) -> bool:
    return is_ready(node) and node["Spec"].get("Availability") == "active"


# Whether all runs that should


@dataclass(frozen=True)
class Lack:
    """What a service is short of: tasks in all, those of them on their way, and why swarm does not start the others."""

    missing: int = 0
    coming: int = 0
    reason: str = ""

    @property
    def is_stuck(self) -> bool:
        """Whether nothing is on its way, and swarm has said why."""
        return bool(self.missing and not self.coming and self.reason)


def lack(service: Object, tasks: Iterable[Object], nodes: Sequence[Object]) -> Lack:
    """Return what *service* is short of, whatever the version of the tasks that it has. Jobs lack nothing."""
    if any(kind.endswith("Job") for kind in service["Spec"]["Mode"]):
        return Lack()
    own = tasks_of(service, tasks)
    ready = {node["ID"] for node in nodes if is_ready(node)}
    running = sum(1 for task in own if is_alive(task) and task.get("NodeID") in ready)
    done = completed_tasks(service, own, is_job=False)
    pending = [task for task in own if task["DesiredState"] == "running" and task["Status"]["State"] == "pending"]
    refused = [str(task["Status"]["Err"]) for task in pending if task["Status"].get("Err")]
    coming = sum(
        1
        for task in own
        if task["DesiredState"] in ("running", "ready")
        and task["Status"]["State"] in ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting")
    )
    missing = max(0, wanted_tasks(service, own, nodes) - running - done)
    return Lack(missing, max(0, coming - len(refused)), refused[0] if refused else "")


# An even spread


def spread(service: Object, tasks: Iterable[Object], nodes: Sequence[Object]) -> dict[str, int]:
    """Return the number of the service's running tasks on each node that may get some, by the node's ID."""
    eligible = set(eligible_nodes(service, nodes))
    counts = {node["ID"]: 0 for node in nodes if takes_tasks(node) and node["ID"] in eligible}
    alive = Counter(task.get("NodeID") for task in tasks_of(service, tasks) if is_alive(task))
    return {node: alive[node] for node in counts}


def moves(service: Object, tasks: Sequence[Object], nodes: Sequence[Object]) -> int:
    """Return how many tasks of a replicated *service* would have to be elsewhere for an even spread."""
    counts = spread(service, tasks, nodes)
    room = {node["ID"]: _room(service, node, tasks) for node in nodes}
    most = (service["Spec"]["TaskTemplate"].get("Placement") or {}).get("MaxReplicas") or sum(counts.values()) + 1
    moved = 0
    while counts:
        open_nodes = [node for node, count in counts.items() if room[node] > 0 and count < most]
        fewest = min(open_nodes, key=lambda node: counts[node], default=None)
        fullest = max(counts, key=lambda node: counts[node])
        if fewest is None or counts[fullest] - counts[fewest] <= 1:
            break
        counts[fullest] -= 1
        counts[fewest] += 1
        room[fewest] -= 1
        moved += 1
    return moved


def _room(service: Object, node: Object, tasks: Iterable[Object]) -> int:
    """Return how many more tasks of *service* fit on *node*, by what is reserved there; many if it reserves nothing."""
    wanted = _reservations(service["Spec"]["TaskTemplate"])
    has = node.get("Description", {}).get("Resources") or {}
    taken: Counter[str] = Counter()
    for task in tasks:
        if task.get("NodeID") == node["ID"] and task["DesiredState"] == "running":
            taken.update(_reservations(task["Spec"]))
    return min([(has.get(key, 0) - taken[key]) // value for key, value in wanted.items() if value], default=1 << 16)


def _reservations(template: Object) -> dict[str, int]:
    reserved = (template.get("Resources") or {}).get("Reservations") or {}
    return {key: int(reserved.get(key) or 0) for key in ("NanoCPUs", "MemoryBytes")}


def why_left_alone(service: Object) -> str:
    """Return why the tasks of a replicated *service* are not moved whatever their spread; empty if they may be."""
    template = service["Spec"]["TaskTemplate"]
    if (template.get("Placement") or {}).get("Preferences"):
        return "its template spreads them over labels"
    if ".Task.Slot" in json.dumps(template.get("ContainerSpec") or {}):
        return "its tasks are told apart by their numbers"
    state = update_state(service)
    if state in ("updating", "paused", "rollback_started", "rollback_paused"):
        return f"its update is {state.replace('_', ' ')}"
    return ""


def is_crowded(service: Object, tasks: Iterable[Object], nodes: Sequence[Object], node_id: str) -> bool:
    """Say whether all tasks of a service with two or more are on one node, and it would be silent without that."""
    where = {task.get("NodeID") for task in tasks_of(service, tasks) if is_alive(task)}
    others = set(eligible_nodes(service, [node for node in nodes if takes_tasks(node)])) - {node_id}
    return (replicas(service) or 0) > 1 and where == {node_id} and bool(others)


# What hangs on one node


def is_pinned(service: Object, nodes: Sequence[Object], node_id: str) -> bool:
    """Say whether the tasks of a replicated *service* can run on this node and on no other that takes tasks."""
    if not replicas(service):
        return False
    own = [node for node in nodes if node["ID"] == node_id]
    others = [node for node in nodes if node["ID"] != node_id and takes_tasks(node)]
    back = [{**node, "Spec": {**node["Spec"], "Availability": "active"}, "Status": {"State": "ready"}} for node in own]
    return bool(eligible_nodes(service, back)) and not eligible_nodes(service, others)


def constraints(service: Object) -> list[str]:
    return list((service["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints") or [])


@dataclass(frozen=True, order=True)
class Data:
    """Something that is kept on one node alone: by which service, or none, and what."""

    service: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} of the service {self.service}" if self.service else self.what


def data_on(
    node_id: str, services: Iterable[Object], tasks: Sequence[Object], volumes: Iterable[Object] | None
) -> list[Data]:
    """Return what is kept on the node that no other node has.

    *volumes* are those that its engine lists, or None where it does not answer; then those count that services with
    tasks there use, now or until lately: swarm remembers some tasks that have ended.
    """
    found = set()
    users: dict[str, str] = {}
    for service in services:
        was_here = any(task.get("NodeID") == node_id for task in tasks_of(service, tasks))
        for mount in service["Spec"]["TaskTemplate"].get("ContainerSpec", {}).get("Mounts") or []:
            source = str(mount.get("Source") or "")
            if mount.get("Type") == "volume" and source and _is_local(mount.get("VolumeOptions") or {}):
                users[source] = name_of(service)
                if was_here and volumes is None:
                    found.add(Data(name_of(service), f"the volume {source}"))
            is_bound = mount.get("Type") == "bind" and not mount.get("ReadOnly") and not _NO_DATA.search(source)
            if is_bound and was_here:
                found.add(Data(name_of(service), f"the directory {source}"))
    for volume in volumes or ():
        is_local = _is_local({"DriverConfig": {"Name": volume.get("Driver"), "Options": volume.get("Options")}})
        if is_local and not _ANONYMOUS_VOLUME.fullmatch(volume["Name"]):
            found.add(Data(users.get(volume["Name"], ""), f"the volume {volume['Name']}"))
    return sorted(found)


def _is_local(options: Object) -> bool:
    """Say whether a volume of these options is kept on the node that uses it, not on a server."""
    driver = options.get("DriverConfig") or {}
    settings = {key: str(value) for key, value in (driver.get("Options") or {}).items()}
    is_shared = settings.get("type", "").startswith(_SHARED_FILESYSTEMS) or "addr=" in settings.get("o", "")
    return driver.get("Name") in (None, "", "local") and not is_shared


# Managers


def quorum_risk(nodes: Sequence[Object], node_id: str) -> str:
    """Return why the swarm would not live on if this manager were lost at once; empty if it would, or is no manager.

    Whoever takes a manager away must reckon with losing it half-way.
    """
    managers = [node for node in nodes if node["Spec"].get("Role") == "manager"]
    if node_id not in [node["ID"] for node in managers]:
        return ""
    staying = [node for node in managers if node["ID"] != node_id]
    reachable = [node for node in staying if (node.get("ManagerStatus") or {}).get("Reachability") == "reachable"]
    majority = len(managers) // 2 + 1
    if not staying:
        return "it is the only manager"
    if len(reachable) >= majority:
        return ""
    missing = [hostname(node) for node in staying if node not in reachable]
    told = f" ({', '.join(missing)} cannot be)" if missing else ""
    return f"of {len(managers)} managers {majority} are a majority, and {len(reachable)} in reach would stay{told}"


def caring_order(nodes: Iterable[Object]) -> list[str]:
    """Return the IDs in the order in which nodes are restarted: what is down, workers, managers, the leader last."""

    def rank(node: Object) -> tuple[int, str]:
        manager = node.get("ManagerStatus") or {}
        if manager.get("Leader"):
            return 3, hostname(node)
        if not is_ready(node):
            return 0, hostname(node)
        return (2 if node["Spec"].get("Role") == "manager" else 1), hostname(node)

    return [node["ID"] for node in sorted(nodes, key=rank)]
