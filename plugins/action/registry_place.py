# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say on which node the registry runs; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.registry_service import SERVICE, Place, place
from ansible_collections.apiary.swarm.plugins.modules.registry_place import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Ask a manager for the service and for the nodes."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        name = f"{params['name']}_{SERVICE}"
        try:
            with connect(params["docker"]) as api:
                services = [entry for entry in api.services(filters={"name": name}) if entry["Spec"]["Name"] == name]
                found = place(next(iter(services), None), api.nodes(), api.info()["Swarm"]["NodeID"])
        except ApiaryError:
            if not self._task.check_mode:
                raise
            found = Place("", "")  # the machine or the swarm is not made yet
        if found.lost:
            Display().warning(
                f"the node with the registry's data ({found.lost}) is no longer in the swarm: the registry begins anew "
                f"on {found.node}, and what this inventory builds is published to it again"
            )
        return {"changed": False, "node_id": found.node_id, "node": found.node}
