# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what would keep hosts from being nodes; see the module of the same name for its documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.apiary.swarm.plugins.module_utils import existing, preflight
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.existing_machine_preflight import ARGUMENT_SPEC


class ActionModule(ApiaryAction):
    """Compare all hosts; fail with all that is wrong, before anything is changed."""

    argument_spec = ARGUMENT_SPEC
    variable_prefixes: ClassVar = {"machines": "existing_machine_"}

    def outcome(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        machines = params["machines"]
        reached = [machine for machine in machines if machine["seen"] and not machine["problem"]]
        addresses, problems = existing.choose_addresses(reached)
        problems += [machine["problem"] for machine in machines if machine["problem"]]
        problems += existing.problems_of(
            reached,
            addresses,
            cluster=params["cluster"],
            adopt=params["adopt_swarm"],
            clock_seconds=params["clock_seconds"],
            others=params["others"],
        )
        if problems and params["strict"]:
            raise ApiaryError(preflight.report(problems))
        return {
            "changed": False,
            "problems": problems,
            "addresses": {
                machine["name"]: addresses.get(machine["name"], machine["address"] or machine["host"])
                for machine in machines
            },
            "untested": [machine["name"] for machine in reached if _is_new(machine)] if len(reached) > 1 else [],
        }


def _is_new(machine: dict[str, Any]) -> bool:
    swarm = machine["seen"].get("swarm") or {}
    return not machine["local"] and swarm.get("state", "inactive") == "inactive"
