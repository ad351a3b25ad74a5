# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look which hosts of the inventory are nodes of the swarm; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import settings, survey
from ansible_collections.apiary.swarm.plugins.modules.swarm_survey import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Ask one manager, and change nothing."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        hosts = {name: str(address or "") for name, address in params["hosts"].items()}
        seen = survey(hosts, params["managers"], settings(params, check_mode=self._task.check_mode))
        return {"changed": False, **vars(seen)}
