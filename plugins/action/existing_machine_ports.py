# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Try the nodes' ports between hosts; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import port_test, preflight
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.ssh_action import SshAction
from ansible_collections.apiary.swarm.plugins.modules.existing_machine_ports import ARGUMENT_SPEC

_SECONDS = 120


class ActionModule(SshAction):
    """Listen, ask, or judge what came of it."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return {"changed": False, **getattr(self, f"_{params['state']}")(params)}

    def _listening(self, params: dict[str, Any]) -> dict[str, Any]:
        tool = port_test.helper(params["seen"])
        if not tool:
            Display().warning(
                f"{params['name']}: has neither perl nor Python, so whether its ports are open for the other nodes is "
                "not tried"
            )
            return {"process": None, "ports": [], "taken": []}
        script = port_test.listen_script(tool, params["address"])
        return port_test.listening(self.host(params).sh("listen at the nodes' ports", script))

    def _asking(self, params: dict[str, Any]) -> dict[str, Any]:
        targets = [target for target in params["targets"] if target["ports"]]
        if not targets:
            return {"silent": {}}
        return {
            "silent": port_test.silent(self.host(params).sh("ask the others", port_test.ask_script(targets), _SECONDS))
        }

    def _ended(self, params: dict[str, Any]) -> dict[str, Any]:
        if params["process"]:
            self.host(params).sh("end listening", f"kill {params['process']} 2>/dev/null || true\n")
        return {}

    def _judged(self, params: dict[str, Any]) -> dict[str, Any]:
        if problems := port_test.findings(params["results"]):
            if params["is_preflight"]:
                raise ApiaryError(preflight.report(problems))
            raise ApiaryError(
                "\n".join(["The hosts cannot be nodes of one swarm yet:", *(f"  - {p}" for p in problems)])
            )
        return {"problems": []}
