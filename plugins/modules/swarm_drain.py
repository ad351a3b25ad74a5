#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node out of work for a while: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import MANAGERS_SPEC

DOCUMENTATION = r"""
module: swarm_drain
short_description: Take a node out of its swarm's work for a while, and give it back
version_added: 0.1.0
description:
  - V(drained) of O(state) moves a node's tasks elsewhere and waits until they run there. The availability that the node
    had is remembered in the swarm, as the node's label C(apiary.maintenance.availability).
  - V(restored) waits until the node works again, gives it the availability that is remembered, and waits until every
    service has its tasks. M(apiary.swarm.swarm_node) gives it back as well, so that no run leaves a node drained.
  - A service with two or more tasks, all of them on this node, gets one elsewhere first, so that it is never silent.
  - Tasks that can run on no other node are not waited for, and named in a warning.
  - When tasks find no place elsewhere, the node takes tasks again as before, and the task fails.
  - A manager is refused while the others would be no majority, where there are more than two.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: none
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  name:
    description: The node's name in the inventory, or its host name or ID in the swarm.
    type: str
    required: true
  docker:
    description: The endpoint of the node's engine, as in C(machine_docker). Empty where it is not known.
    type: dict
    default: {}
  address:
    description: The address at which the swarm knows the node, by which it is found when its engine is silent.
    type: str
    default: ""
  state:
    description: Whether the node is taken out of work, or given back.
    type: str
    choices: [drained, restored]
    required: true
extends_documentation_fragment:
  - apiary.swarm.managers
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Move the node's tasks elsewhere
  apiary.swarm.swarm_drain:
    name: "{{ inventory_hostname }}"
    docker: "{{ machine_docker }}"
    managers: "{{ swarm_maintenance_managers }}"
    state: drained
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in order.
  returned: success
  type: list
  elements: str
  sample: ["move 1 of 2 tasks of getstartedlab_web (2 on myvm1, 0 on myvm2)", "drain myvm1"]
node_id:
  description: ID of the node in the swarm; null where it is no node of it.
  returned: success
  type: str
  sample: n59qa2aqrd2r2lpgoshwpvv65
manager:
  description: Name of the manager that was asked.
  returned: success
  type: str
  sample: myvm1
"""

ARGUMENT_SPEC: dict[str, Any] = {
    **MANAGERS_SPEC,
    "name": {"type": "str", "required": True},
    "docker": {"type": "dict", "default": {}},
    "address": {"type": "str", "default": ""},
    "state": {"type": "str", "choices": ["drained", "restored"], "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.swarm_drain from a playbook"
    )


if __name__ == "__main__":
    main()
