#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An even spread of tasks: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import MANAGERS_SPEC

DOCUMENTATION = r"""
module: swarm_rebalance
short_description: Spread the tasks of services evenly over the nodes
version_added: 0.1.0
description:
  - Swarm moves no task that runs, so a new node gets none until something is deployed. This moves as many tasks as an
    even spread needs, of one service after another, and touches no other.
  - As many tasks as are to move are started, where the fewest are, and once they run as many are ended, where the most
    are. So a service never has fewer than it should, whatever the order of its updates.
  - Counted are the nodes that take tasks, satisfy the service's constraints, and have room for what it reserves.
  - Left alone are services whose template spreads them over labels (preferences), whose tasks are told apart by their
    numbers (C(.Task.Slot)), or whose update is under way or paused.
  - While tasks are moved, the number of replicas that the service is to have again is remembered in its label
    C(apiary.rebalance.replicas). The next run finishes what was interrupted, and so does the next deploy.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Says which services would be spread, and how.
  diff_mode:
    support: none
  idempotent:
    support: full
    description: An even spread is no change.
options:
  services:
    description: Names of the services in the swarm; all replicated ones if empty.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - apiary.swarm.managers
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Have a new node take its share
  apiary.swarm.swarm_rebalance:
    managers: "{{ swarm_maintenance_managers }}"
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, one line a service.
  returned: success
  type: list
  elements: str
  sample: ["move 2 of 5 tasks of getstartedlab_web (3 on myvm1, 2 on myvm2, 0 on myvm3, 0 on myvm4)"]
left_alone:
  description: Services whose spread is uneven and that were left alone, and why.
  returned: success
  type: dict
  sample: {shop_worker: "its tasks are told apart by their numbers"}
manager:
  description: Name of the manager that was asked.
  returned: success
  type: str
  sample: myvm1
"""

ARGUMENT_SPEC: dict[str, Any] = {
    **MANAGERS_SPEC,
    "services": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.swarm_rebalance from a playbook"
    )


if __name__ == "__main__":
    main()
