# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The registry service in the swarm: on which node it has its data, and whom it need not answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.convergence import is_ready

#: the service's name in its stack, and that of its volume
SERVICE = "registry"
VOLUME = "data"

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """The node that the registry is to run on; ``lost`` is the one with its data, where the swarm has that no more."""

    node_id: str
    node: str
    lost: str = ""


def pinned_to(service: Object | None) -> str:
    """Return the ID of the node that a live service may run on; empty where there is no service, or no such node."""
    placement = ((service or {}).get("Spec", {}).get("TaskTemplate", {}).get("Placement")) or {}
    for constraint in placement.get("Constraints") or []:
        if match := re.fullmatch(r"\s*node\.id\s*==\s*(\S+)\s*", constraint):
            return match[1]
    return ""


def place(service: Object | None, nodes: Sequence[Object], own_id: str) -> Place:
    """Return where the registry runs: where it has its data, else on the manager that is asked or on another node.

    A node that is drained, paused or down is no place for a new one.
    """
    by_id = {node["ID"]: node for node in nodes}
    before = pinned_to(service)
    if before in by_id:
        return Place(before, _name(by_id[before]))
    chosen = min(nodes, key=lambda node: (not _takes_tasks(node), node["ID"] != own_id, _is_worker(node), _name(node)))
    return Place(chosen["ID"], _name(chosen), before)


def without_proxy(nodes: Iterable[Object]) -> set[str]:
    """Return the IDs of nodes that run no task, and so publish nothing where a proxy does that."""
    return {node["ID"] for node in nodes if node["Spec"].get("Availability") == "drain"}


def _takes_tasks(node: Object) -> bool:
    return is_ready(node) and node["Spec"].get("Availability") == "active"


def _is_worker(node: Object) -> bool:
    return bool(node["Spec"].get("Role") == "worker")


def _name(node: Object) -> str:
    return str(node.get("Description", {}).get("Hostname") or node["ID"])
