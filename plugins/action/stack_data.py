# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have directories for the data of a stack's services; see the module of the same name for its documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

import docker.errors
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import node_programs, stack, stack_data
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import deployable
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack_data import Directory
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_hosts import host_of, hostname, node_of
from ansible_collections.apiary.swarm.plugins.modules.stack_data import ARGUMENT_SPEC

_TIMEOUT_SECONDS = 300


class ActionModule(ApiaryAction):
    """Label the node that has the data, and make the directories that are missing there."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        name = params["name"]
        wanted = stack_data.directories(deployable(params["compose"], name), params["data_dir"])
        if not wanted:
            return {"changed": False, "actions": [], "node": ""}
        if not params["endpoints"]:
            raise ApiaryError(
                f"{wanted[0].service} keeps data in {wanted[0].path} of a node, and stack_endpoints, which says how "
                "nodes are reached, is empty: give it a machine_docker dict for each host, managers first"
            )
        try:
            with connect(params["docker"]) as api:
                filters = {"label": [f"{stack.NAMESPACE_LABEL}={name}"]}
                services = stack.services_of(api.services(filters=filters), name)
                nodes = api.nodes()
        except ApiaryError:
            if not self._task.check_mode:
                raise
            services, nodes = {}, []  # the machine or the swarm is not made yet
        missing = stack_data.unbound(wanted, services)
        running = sorted({directory.service for directory in wanted if directory.service in services})
        node = stack_data.keeper(nodes, _asked(params, nodes), running)
        if node and not missing:
            return {"changed": False, "actions": [], "node": hostname(node)}
        if self._task.check_mode:
            return _foretold(params, node, missing)
        host = host_of(params["endpoints"], node, "the data of stacks") if node else _chosen(params)
        own = params["data_dirs"].get(host)
        if own != params["data_dir"] and params["data_dir"] in params["data_dirs"].values():
            raise ApiaryError(
                f"the data is on {host}, where it belongs below {own}, and stack_data_dir is {params['data_dir']}, "
                f"which is another machine's: set it to {own}"
            )
        actions = [f"make {path} on {host}" for path in _make(params, host, missing)]
        if node is None:
            _label(params, host, nodes)
            actions.append(_labelling(host))
        for action in actions:
            Display().display(f"  {action}")
        return {"changed": bool(actions), "actions": actions, "node": host}


def _chosen(params: Mapping[str, Any]) -> str:
    """Return the host that is to keep data from now on: the one that was asked for, or the first."""
    hosts = list(params["endpoints"])
    if params["node"] not in ("", *hosts):
        raise ApiaryError(
            f"stack_data_node is {params['node']}, and there is no such host in the inventory: {', '.join(hosts)}"
        )
    return str(params["node"] or hosts[0])


def _asked(params: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    if not params["node"] or not nodes:
        return None
    host = _chosen(params)
    if node := node_of(params["endpoints"], host, nodes):
        return node
    raise ApiaryError(f"stack_data_node is {host}, which is not in the swarm: run playbooks/swarm.yml")


def _labelling(host: str) -> str:
    return f"have {host} keep the data of stacks: label {stack_data.LABEL}=true"


def _foretold(
    params: Mapping[str, Any], node: Mapping[str, Any] | None, missing: Iterable[Directory]
) -> dict[str, Any]:
    host = hostname(node) if node else _chosen(params)
    actions = [f"make {directory.path} on {host}, unless it is there" for directory in missing]
    return {"changed": True, "actions": actions + ([] if node else [_labelling(host)]), "node": host}


def _make(params: Mapping[str, Any], host: str, missing: Sequence[Directory]) -> list[str]:
    """Make the directories, and return those that were not there."""
    data_dir = params["data_dir"]
    names = {str(PurePosixPath(directory.path).relative_to(data_dir)): directory for directory in missing}
    # On a busy machine with an emulated CPU the first container takes a minute or two.
    with connect(params["endpoints"][host], _TIMEOUT_SECONDS) as api:
        words = [word for name, directory in names.items() for word in (name, _owner(api, directory))]
        command = ["sh", "-c", stack_data.MAKE, "sh", *words]
        try:
            status, output = node_programs.run(
                api,
                f"apiary-data-{params['name']}",
                command,
                binds={data_dir: "/data"},
                timeout_seconds=_TIMEOUT_SECONDS,
            )
        except docker.errors.APIError as error:
            status, output = -1, str(error.explanation or error)
    if status == stack_data.HALF_RESTORED:
        raise ApiaryError(
            f"nothing was deployed: a restore of the data in {data_dir} on {host} was interrupted ({output.strip()}). "
            "Run playbooks/restore.yml again"
        )
    if status != 0:
        raise ApiaryError(
            f"nothing was deployed: {', '.join(directory.path for directory in missing)} cannot be made on {host}: "
            f"{output.strip()}. Set stack_data_dir to a directory there that can be written to and outlives a restart"
        )
    made = [line.removeprefix("made ") for line in output.splitlines() if line.startswith("made ")]
    return [f"{data_dir}/{name}" for name in made]


def _owner(api: Any, directory: Directory) -> str:
    """Return whose the directory is to be: the user's that the service runs as."""
    user = directory.user
    if not user:
        # An image that is pulled when the service starts is not there yet; such ones most often begin as root.
        with suppress(docker.errors.NotFound):
            user = (api.inspect_image(directory.image)["Config"] or {}).get("User") or ""
    return stack_data.owner(user)


def _label(params: Mapping[str, Any], host: str, nodes: Sequence[Mapping[str, Any]]) -> None:
    node = node_of(params["endpoints"], host, nodes)
    if node is None:
        raise ApiaryError(f"{host}, which is to keep the data of stacks, is not in the swarm: run playbooks/swarm.yml")
    spec = {**node["Spec"], "Labels": {**(node["Spec"].get("Labels") or {}), stack_data.LABEL: "true"}}
    with connect(params["docker"]) as api:
        api.update_node(node["ID"], node["Version"]["Index"], spec)
