# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove that nodes reach the registry service; see the module of the same name for its documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.action.stack_probe import start_anew
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import CertificateRefused, Node, connect, on_all
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import Registry, look_up
from ansible_collections.apiary.swarm.plugins.module_utils.registry_service import SERVICE, without_proxy
from ansible_collections.apiary.swarm.plugins.modules.registry_answers import ARGUMENT_SPEC

#: an image that nobody has: that it is unknown is the answer of a registry
_NOBODYS = "apiary/nobodys:none"
_POLL_SECONDS = 1.0
_ENGINE_SECONDS = 30


class ActionModule(ApiaryAction):
    """Ask through all engines at once, until each has had an answer."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "nothing is asked in check mode"}
        registry = Registry(params["registry"])
        unserved = _drained(params["docker"], params["nodes"]) if params["proxied"] else []
        nodes = [node for node in params["nodes"] if node["name"] not in unserved]
        silent = _silent(nodes, registry, params["timeout_seconds"])
        repaired = bool(silent and params["repair"])
        if repaired:
            Display().display(
                f"  {', '.join(silent)}: the registry does not answer there: starting its task anew, as docker service "
                "update --force does"
            )
            with connect(params["docker"]) as api:
                start_anew(api, params["name"], [SERVICE])
            silent = _silent([node for node in nodes if node["name"] in silent], registry, params["timeout_seconds"])
        if silent:
            lines = [f"the registry runs, but does not answer on every node as {registry.address}:"]
            lines += [f"- {name}: {said}" for name, said in silent.items()]
            lines.append(f"'docker service ps {params['name']}_{SERVICE}' and its logs may say why")
            raise ApiaryError("\n".join(lines))
        return {"changed": repaired, "unserved": unserved}


def _silent(nodes: Sequence[Node], registry: Registry, timeout_seconds: float) -> dict[str, str]:
    """Ask until every node's engine has had an answer or the time is up; return what the others said."""
    deadline = time.monotonic() + timeout_seconds

    def ask(node: Node) -> str:
        while True:
            try:
                with connect(node["docker"], timeout_seconds=_ENGINE_SECONDS) as api:
                    _digest, said = look_up(api, registry, f"{registry.address}/{_NOBODYS}")
            except CertificateRefused:
                raise
            except ApiaryError as error:
                said = str(error)
            if not said or time.monotonic() >= deadline:
                return said
            time.sleep(_POLL_SECONDS)

    return {name: said for name, said in on_all(nodes, ask).items() if said}


def _drained(endpoint: Mapping[str, Any], nodes: Sequence[Node]) -> list[str]:
    """Return which of *nodes* are drained, whoever has drained them: they have no proxy."""
    with connect(endpoint) as api:
        drained = without_proxy(api.nodes())
    if not drained:
        return []

    def node_id(node: Node) -> str:
        with connect(node["docker"]) as api:
            return str(api.info()["Swarm"]["NodeID"])

    return [name for name, known_as in on_all(nodes, node_id).items() if known_as in drained]
