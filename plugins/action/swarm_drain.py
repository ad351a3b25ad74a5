# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a node out of its swarm's work, or give it back; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import Care, Subject, settings
from ansible_collections.apiary.swarm.plugins.modules.swarm_drain import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Drain the node, or wait for it and give it back what it had."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        subject = Subject(params["name"], params["docker"], params["address"])
        care = Care(subject, params["managers"], settings(params, check_mode=self._task.check_mode))
        return care.drained() if params["state"] == "drained" else care.restored()
