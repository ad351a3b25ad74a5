# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what would keep a swarm's networks from working; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import preflight
from ansible_collections.apiary.swarm.plugins.module_utils.address_pools import problems_of
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.swarm_preflight import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Fail with all that is wrong, before anything is changed."""

    argument_spec = ARGUMENT_SPEC

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if problems := problems_of(params["address_pools"], params["address_pool_prefix"], params["networks"]):
            raise ApiaryError(preflight.report(problems))
        return {"changed": False, "problems": []}
