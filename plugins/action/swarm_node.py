# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make a machine a manager or a worker of the swarm: documented in plugins/modules/swarm_node.py."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import Wanted, advice, contradiction
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_node import SwarmNode
from ansible_collections.apiary.swarm.plugins.modules.swarm_node import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        name = params.pop("name") or task_vars["inventory_hostname"]
        wanted = Wanted(name=name, **params)
        if problem := contradiction(wanted):
            raise ApiaryError(problem)
        node = SwarmNode(
            wanted,
            connect,
            check_mode=self._task.check_mode,
            say=lambda text: Display().display(f"  {text}"),
        )
        result = node.ensure()
        before, after = result.pop("before"), result.pop("after")
        if self._task.diff:
            result["diff"] = {"before": before, "after": after}
        result["warnings"] += advice(wanted)
        return result
