# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Report on a cluster; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.report import cluster_report
from ansible_collections.apiary.swarm.plugins.modules.cluster_report import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Read nodes, services and tasks, and put them into words."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            with connect(params["docker"]) as api:
                nodes, services = api.nodes(), api.services()
                tasks = api.tasks(filters={"desired-state": "running"})
        except ApiaryError:
            if not self._task.check_mode:
                raise
            return {"changed": False, "msg": "there is no cluster to report on yet"}
        text = cluster_report(params["name"], params["entrypoints"], params["docker"], nodes, services, tasks)
        if params["docker_note"]:
            text += f"\n  # {params['docker_note']}"
        return {"changed": False, "cluster_report": text}
