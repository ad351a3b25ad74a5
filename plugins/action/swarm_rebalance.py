# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Spread the tasks of services evenly over the nodes; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.maintenance import settings
from ansible_collections.apiary.swarm.plugins.module_utils.rebalance import Rebalance
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import swarm_of
from ansible_collections.apiary.swarm.plugins.modules.swarm_rebalance import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Move as many tasks of each service as its spread is uneven."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        how = settings(params, check_mode=self._task.check_mode)
        with swarm_of(params["managers"], how) as swarm:
            balance = Rebalance(swarm)
            balance.run(params["services"] or None)
            if not balance.actions and not balance.left_alone:
                how.say("the tasks of every service are spread evenly")
            return {
                "changed": bool(balance.actions),
                "actions": balance.actions,
                "left_alone": balance.left_alone,
                "manager": swarm.engine.name,
            }
