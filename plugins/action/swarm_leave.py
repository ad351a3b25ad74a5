# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a node out of its swarm for good; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import Care, Subject, settings
from ansible_collections.apiary.swarm.plugins.modules.swarm_leave import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Refuse what would be lost, and then drain, demote, leave and strike off."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        subject = Subject(
            params["name"], params["docker"], params["address"], params["docker_guessed"], params["machine_stays"]
        )
        care = Care(subject, params["managers"], settings(params, check_mode=self._task.check_mode))
        return care.left(data_loss_confirmed=params["data_loss_confirmed"])
