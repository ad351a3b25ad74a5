# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Choose how a stack's published ports are reached; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import ingress
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import deployable
from ansible_collections.apiary.swarm.plugins.modules.stack_ingress import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Return the compose file to deploy."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        mode = ingress.choose(params["mode"], params["kernel_lacks"])
        if mode == "mesh":
            return {"changed": False, "mode": mode, "compose": params["compose"]}
        document = deployable(params["compose"], params["name"])
        transformed = ingress.transform(document, params["name"], params["image"])
        if params["mode"] == "auto":
            Display().display("  the kernel lacks ip_vs: a proxy on every node publishes ports, not the routing mesh")
        return {"changed": False, "mode": mode, "compose": ingress.to_text(transformed)}
