# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what would keep container nodes from running; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import containers, preflight
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import API_PORT
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.container_preflight import ARGUMENT_SPEC

_LOOPBACK_VARIABLE = "container_machine_loopback_network"
_NETWORK_VARIABLE = "container_machine_network"
#: the node image, and what a node writes before the first stack runs on it
_IMAGE_BYTES = 1 << 30
_NODE_BYTES = 256 << 20


class ActionModule(ApiaryAction):
    """Fail with all that is wrong, before anything is changed."""

    argument_spec = ARGUMENT_SPEC
    variable_prefixes: ClassVar = {"nodes": "container_machine_"}

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        preflight.require_linux("container_machine")
        nodes: list[dict[str, Any]] = params["nodes"]
        networks = {
            "entrypoint": (_LOOPBACK_VARIABLE, params["loopback_network"]),
            "address": (_NETWORK_VARIABLE, params["network"]),
        }
        problems = preflight.address_problems(nodes, networks, "container_machine_number")
        if containers.is_elsewhere(params["engine"]):
            problems.append(
                f"container_machine_engine is {params['engine']}: nodes are reached through loopback addresses of the "
                "computer that their engine runs on, so it must be this one"
            )
        if problems:
            raise ApiaryError(preflight.report(problems))
        cluster = params["cluster"]
        with containers.outer_engine(params["engine"]) as api:
            everything = api.containers(all=True)
            network_problems = _network_problems(api.networks(), cluster, params["network"])
            root = Path(api.info()["DockerRootDir"]) if params["engine"].startswith("unix:") else None
        owners = {name: item for item in everything for name in item["Names"]}
        missing, problems = [], network_problems
        for node in nodes:
            container = owners.get(f"/{cluster}-{node['name']}")
            if container is not None and container["Labels"].get(containers.CLUSTER_LABEL) != cluster:
                problems.append(
                    f"the engine has a container {cluster}-{node['name']} that is not Apiary's ({container['Image']}, "
                    f"{container['Status']}): rename it (docker rename), or choose another cluster_name"
                )
                continue
            if container is None:
                missing.append(node["name"])
            if container is None or container["State"] != "running":
                ports = preflight.host_ports(node["published_ports"]) | {("tcp", API_PORT)}
                problems += preflight.port_problems(
                    node["name"], node["entrypoint"], ports, _LOOPBACK_VARIABLE, as_root=True
                )
        if missing and root is not None:
            needed = _IMAGE_BYTES + len(missing) * _NODE_BYTES
            problems += preflight.space_problems("the engine's data-root", root, needed)
        if problems:
            raise ApiaryError(preflight.report(problems))
        if shortage := containers.neighbour_shortage(len(nodes)):
            Display().warning(shortage)
        return {"changed": False, "problems": [], "missing": missing}


def _network_problems(networks: list[dict[str, Any]], cluster: str, subnet: str) -> list[str]:
    own = next((network for network in networks if network["Name"] == cluster), None)
    if own is not None and (own.get("Labels") or {}).get(containers.CLUSTER_LABEL) != cluster:
        return [
            f"the engine has a network {cluster} that is not Apiary's: remove it (docker network rm {cluster}), "
            "or choose another cluster_name"
        ]
    if own is not None:
        subnets = [config.get("Subnet") for config in own["IPAM"]["Config"]]
        if subnet not in subnets:
            return [
                f"{_NETWORK_VARIABLE} is {subnet}, and the cluster's network was made with {subnets[0]}: "
                "set it back, or remove the cluster first (playbooks/destroy.yml)"
            ]
        return []
    routes = Path("/proc/net/route")
    found = containers.overlaps(subnet, networks, routes.read_text() if routes.exists() else "", cluster)
    return [
        f"{_NETWORK_VARIABLE} is {subnet}, which overlaps with {other}: choose a range that is free" for other in found
    ]
