# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a node as a container with its own engine; see the module of the same name for its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import endpoint, prepared, renew
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.pki import ensure_certificate, is_good
from ansible_collections.apiary.swarm.plugins.modules.container_machine import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Bring one node to run and to answer its Docker API."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        directory = Path(params["cluster_directory"])
        node = _node(params, directory)
        reached = endpoint(directory, node.entrypoint)
        with containers.outer_engine(params["engine"]) as api:
            if params["state"] == "started":
                result = self._started(api, node, params, reached)
            elif params["state"] == "forwarded":
                result = self._forwarded(api, node, params, reached)
            elif params["state"] == "revoked":
                result = self._revoked(api, node, reached, params["timeout_seconds"])
            else:
                result = self._ended(api, node, params["state"])
        return {**result, "endpoint": reached}

    def _started(
        self, api: Any, node: containers.Node, params: dict[str, Any], reached: dict[str, Any]
    ) -> dict[str, Any]:
        directory = Path(params["cluster_directory"])
        if not params["create"] and not containers.exists(node, containers.find(api, node.cluster, node.name)):
            raise ApiaryError(
                f"there is no node {node.name} of the cluster {node.cluster} to start: playbooks/site.yml makes it"
            )
        if self._task.check_mode and not (node.tls_directory / "cert.pem").exists():
            return self._result(node, ["make the node", "start the node"])
        certificate, key = node.tls_directory / "cert.pem", node.tls_directory / "key.pem"
        addresses = [node.entrypoint, node.address]
        if self._task.check_mode:
            renewed = renew(directory, params["cluster"], check_mode=True)
            certified = is_good(directory / "pki", certificate, key, addresses)
        else:
            with prepared(directory, params["cluster"]) as renewed:
                containers.ensure_network(api, node.network, params["network"])
                private_directory(node.tls_directory)
                ensure_certificate(directory / "pki", certificate, key, node.name, addresses)
                certified = True
        found = containers.find(api, node.cluster, node.name)
        planned = containers.planned(node, found, certified=certified)
        actions = [*renewed, *planned]
        if self._task.check_mode and actions:
            return self._result(node, actions)
        if planned:
            containers.bring_up(api, node, found)
            containers.forward(api, node, containers.find(api, node.cluster, node.name))
        info = containers.wait_until_answering(api, node, reached, params["timeout_seconds"])
        lacks = containers.kernel_lacks(info)
        for consequence in containers.consequences(lacks):
            Display().warning(consequence)
        return {**self._result(node, actions), "kernel_lacks": lacks}

    def _forwarded(
        self, api: Any, node: containers.Node, params: dict[str, Any], reached: dict[str, Any]
    ) -> dict[str, Any]:
        renewed = renew(Path(params["cluster_directory"]), params["cluster"], check_mode=self._task.check_mode)
        found = containers.find(api, node.cluster, node.name)
        if not containers.runs(node, found):
            return self._result(node, renewed)  # what needs the node says so
        missing = containers.missing_ports(node, found)
        if missing and not self._task.check_mode:
            containers.forward(api, node, found)
        result = self._result(node, [*renewed, *(f"forward {port}" for port in missing)])
        try:
            with connect(reached) as inner:
                return {**result, "kernel_lacks": containers.kernel_lacks(inner.info())}
        except ApiaryError:
            return result  # as above

    def _revoked(self, api: Any, node: containers.Node, reached: dict[str, Any], seconds: int) -> dict[str, Any]:
        found = containers.find(api, node.cluster, node.name)
        # one that does not run gets the list when it starts
        if not containers.runs(node, found) or containers.knows_revocations(api, node):
            return self._result(node, [])
        if not self._task.check_mode:
            containers.tell_revocations(api, node)
            containers.wait_until_answering(api, node, reached, seconds)
        return self._result(node, ["bring the list of revoked certificates up to date"])

    def _ended(self, api: Any, node: containers.Node, state: str) -> dict[str, Any]:
        if state == "stopped":
            found = containers.find(api, node.cluster, node.name)
            actions = ["stop the node"] if containers.runs(node, found) else []
            if actions and not self._task.check_mode:
                containers.stop(api, node, found)
        else:
            actions = containers.parts(api, node)
            if actions and not self._task.check_mode:
                containers.remove_node(api, node)
        return self._result(node, actions)

    def _result(self, node: containers.Node, actions: list[str]) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": bool(actions), "actions": actions, "kernel_lacks": []}
        if self._task.diff and actions:
            result["diff"] = {"before": "", "after": "".join(f"{node.name}: {action}\n" for action in actions)}
        return result


def _node(params: dict[str, Any], directory: Path) -> containers.Node:
    return containers.Node(
        cluster=params["cluster"],
        name=params["name"],
        image=params["image"],
        network=params["cluster"],
        address=params["address"],
        entrypoint=params["entrypoint"],
        ports=frozenset(containers.Port(port["protocol"], port["published"]) for port in params["published_ports"]),
        privileges=params["privileges"],
        authority=directory / "pki" / "ca.pem",
        revocations=directory / "pki" / "crl.pem",
        tls_directory=directory / "machines" / params["name"],
    )
