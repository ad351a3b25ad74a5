# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Report on a cluster; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.address_pools import prospects, troubles
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import settings
from ansible_collections.apiary.swarm.plugins.module_utils.report import cluster_report
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_node import Manager
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import swarm_of
from ansible_collections.apiary.swarm.plugins.modules.cluster_report import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Read nodes, services and tasks, and put them into words."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            with swarm_of(params["managers"], settings(params, check_mode=self._task.check_mode)) as swarm:
                api = swarm.engine.api
                nodes, services = api.nodes(), api.services()
                tasks = api.tasks(filters={"desired-state": "running"})
                networks, pools = api.networks(filters={"scope": "swarm"}), Manager.of(swarm.engine).pools
                asked = swarm.engine.name
        except ApiaryError:
            if not self._task.check_mode:
                raise
            return {"changed": False, "msg": "there is no cluster to report on yet"}
        endpoint = next(manager["docker"] for manager in params["managers"] if manager["name"] == asked)
        notes = [*troubles(networks, params["networks"]), *prospects(pools, params["networks"])]
        text = cluster_report(
            params["name"], params["entrypoints"], endpoint, nodes, services, tasks, params["addresses"], notes
        )
        if params["docker_note"]:
            text += f"\n  # {params['docker_note']}"
        return {"changed": False, "cluster_report": text}
