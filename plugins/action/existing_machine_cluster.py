# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take hosts out of a cluster's swarm; see the module of the same name for its documentation."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils import existing
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack import NAMESPACE_LABEL, RECORD_LABEL
from ansible_collections.apiary.swarm.plugins.modules.existing_machine_cluster import ARGUMENT_SPEC

_THREADS = 16
_GATEWAY = "docker_gwbridge"

Machine = Mapping[str, Any]


class ActionModule(ApiaryAction):
    """Remove what runs, leave the swarm, and prove that no host is in it any more."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machines: list[Machine] = params["machines"]
        # Only what is asked for can be told: a host that is away may still be a node.
        unreached = [
            machine["name"] for machine in machines if "swarm" not in machine["seen"] and _may_be_node(machine)
        ]
        members = [
            machine for machine in machines if machine["seen"].get("swarm", {}).get("state") not in (None, "inactive")
        ]
        ours = _ours(members, params)
        adopted = [machine for machine in members if machine not in ours and params["adopt_swarm"] and _leads(machine)][
            :1
        ]
        foreign = [machine["name"] for machine in members if machine not in ours and machine not in adopted]
        stacks = [stack for machine in adopted for stack in _stacks(machine)]
        removed = [*(machine["name"] for machine in ours), *(f"stack {stack}" for stack in stacks)]
        result = {
            "changed": bool(removed),
            "removed": removed,
            "foreign": foreign,
            "adopted": [machine["name"] for machine in adopted],
            "volumes": _volumes(machines),
        }
        if self._task.diff and removed:
            result["diff"] = {"before": "".join(f"{name}\n" for name in removed), "after": ""}
        if not self._task.check_mode:
            for machine in adopted:
                _remove_stacks(machine, stacks, params["timeout_seconds"])
            _dissolve(ours, params["timeout_seconds"])
        if unreached:
            raise ApiaryError(
                f"{', '.join(unreached)}: could not be asked, see above, and may still be in the swarm. "
                f"{', '.join(removed) or 'Nothing'} was removed: bring the others back, and run again"
            )
        return result


def _may_be_node(machine: Machine) -> bool:
    return bool(machine["problem"] or existing.has_engine(machine["seen"]))


def _leads(machine: Machine) -> bool:
    swarm = machine["seen"]["swarm"]
    return bool(swarm["control"] and not swarm["leaderless"])


def _ours(members: Sequence[Machine], params: Mapping[str, Any]) -> list[Machine]:
    addresses = {machine["address"] for machine in params["machines"]}
    networks = existing.networks_of(params["others"])

    def near(address: str) -> bool:
        return address in addresses or any(ipaddress.ip_address(address) in network for network in networks)

    swarms = [machine["seen"]["swarm"] for machine in members]
    nodes = {node for swarm in swarms if swarm["cluster"] == params["cluster"] for node in swarm["nodes"]}
    return [machine for machine in members if existing.is_ours(machine["seen"], params["cluster"], nodes, near)]


def _volumes(machines: Sequence[Machine]) -> list[str]:
    """Return the volumes of stacks on the machines: what is in them is the user's."""

    def ask(machine: Machine) -> list[str]:
        with suppress(ApiaryError), connect(machine["docker"]) as api:
            found = api.volumes(filters={"label": NAMESPACE_LABEL})["Volumes"] or []
            return [f"{volume['Name']} on {machine['name']}" for volume in found]
        return []

    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            volume for volumes in pool.map(ask, [m for m in machines if m["seen"].get("engine")]) for volume in volumes
        ]


def _stacks(machine: Machine) -> list[str]:
    """Return the stacks that Apiary has deployed in a swarm of somebody else."""
    with connect(machine["docker"]) as api:
        return sorted(
            {config["Spec"]["Labels"][RECORD_LABEL] for config in api.configs(filters={"label": RECORD_LABEL})}
        )


def _remove_stacks(machine: Machine, stacks: Sequence[str], seconds: float) -> None:
    with connect(machine["docker"]) as api:
        for stack in stacks:
            own = {"label": f"{NAMESPACE_LABEL}={stack}"}
            _remove_services(api, own, seconds)
            for secret in api.secrets(filters=own):
                api.remove_secret(secret["ID"])
            for config in api.configs(filters=own):
                api.remove_config(config["ID"])
            for network in api.networks(filters=own):
                api.remove_network(network["Id"])


def _remove_services(api: Any, filters: Mapping[str, str], seconds: float) -> None:
    """Remove services, and give their tasks the time to end as they should."""
    services = {service["ID"] for service in api.services(filters=filters)}
    for service in services:
        with suppress(docker.errors.NotFound):
            api.remove_service(service)
    deadline = time.monotonic() + seconds
    while services & {task["ServiceID"] for task in api.tasks()} and time.monotonic() < deadline:
        time.sleep(0.5)


def _dissolve(machines: Sequence[Machine], seconds: float) -> None:
    leading = next((machine for machine in machines if _leads(machine)), None)
    if leading:
        with connect(leading["docker"]) as api:
            _remove_services(api, {}, seconds)
    # Workers first: once the last manager is gone, nobody tells them.
    for control in (False, True):
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_leave, [machine for machine in machines if machine["seen"]["swarm"]["control"] == control]))


def _leave(machine: Machine) -> None:
    with connect(machine["docker"]) as api:
        api.leave_swarm(force=True)
        state = api.info()["Swarm"]["LocalNodeState"]
        if state != "inactive":
            raise ApiaryError(f"{machine['name']}: was to leave the swarm, and its engine says {state}. Run again")
        with suppress(docker.errors.APIError):  # others use it, or it was never made
            if not api.inspect_network(_GATEWAY)["Containers"]:
                api.remove_network(_GATEWAY)
