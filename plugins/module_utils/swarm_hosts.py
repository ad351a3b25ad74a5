# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which host of the inventory is which node of the swarm: their engines know, names need not agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

_THREADS = 32
_TIMEOUT_SECONDS = 30

#: machine_docker dicts by the name of the host
Endpoints = Mapping[str, Mapping[str, Any]]


def node_ids(endpoints: Endpoints) -> dict[str, str]:
    """Return the ID of the node that each host is, by its name; empty where its engine does not answer."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(endpoints, pool.map(_node_id, endpoints.values()), strict=True))


def _node_id(endpoint: Mapping[str, Any]) -> str:
    if not endpoint.get("docker_host"):
        return ""
    try:
        with connect(endpoint, _TIMEOUT_SECONDS) as api:
            return str(api.info()["Swarm"].get("NodeID") or "")
    except ApiaryError:
        return ""


def hostname(node: Mapping[str, Any]) -> str:
    return str(node.get("Description", {}).get("Hostname") or node["ID"])


def host_of(endpoints: Endpoints, node: Mapping[str, Any], what: str) -> str:
    """Return the name of the host that is *node*; where none is, ApiaryError says so of *what* is on it."""
    # Most often the names agree, and one engine is asked.
    likely = {name: endpoint for name, endpoint in endpoints.items() if name == hostname(node)}
    for group in (likely, {name: endpoint for name, endpoint in endpoints.items() if name not in likely}):
        for name, node_id in node_ids(group).items():
            if node_id == node["ID"]:
                return name
    raise ApiaryError(
        f"{what} is on the node {hostname(node)}, and no engine of the inventory says that it is that node: start the "
        "machine (playbooks/machines.yml), or put its host back into the inventory"
    )


def node_of(endpoints: Endpoints, name: str, nodes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the one of the swarm's *nodes* that the host *name* is, None where none is."""
    node_id = node_ids({name: endpoints[name]})[name]
    return next((node for node in nodes if node["ID"] == node_id), None)
